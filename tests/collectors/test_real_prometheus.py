"""A real Prometheus stands between the twin and the collector, and nothing is lost or changed but the moments of the samples.

The twin is served in wall-clock time by a process of its own; Debian's Prometheus scrapes it every second. The twin's own series change
on the grid of its scrape interval, so what a scrape at s shows is what the twin's own Prometheus has at the newest moment of that grid.
"""

from __future__ import annotations

import base64
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import yaml

from otel_control_gym.collectors.prometheus import PrometheusCollector
from otel_control_gym.engine.clock import SECOND, wall_now
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.events import CollectorGap, SamplesCollected, SeriesDeclared
from otel_control_gym.engine.metric_selectors import selectors
from otel_control_gym.engine.protocols import Barrier, Endpoints
from tests.scraped_twin import ADDED, NO_PROMETHEUS, PROMETHEUS, scraped

METRICS = resolve("small-core").public.metrics
CALLS = "traces_service_graph_request_total"
SCRAPE_SECONDS = 5  # the twin's grid
SLACK_SECONDS = 5.0  # a scrape's own duration, and how far the twin may be behind the wall clock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason=NO_PROMETHEUS),
]


async def ask(http: aiohttp.ClientSession, url: str, path: str, **parameters: str) -> Any:
    async with http.get(f"{url}/api/v1/{path}", params=parameters) as answer:
        document = await answer.json()
        assert document["status"] == "success", document
        return document["data"]


async def samples(http: aiohttp.ClientSession, url: str, selector: str, at: int) -> dict[str, list[list[Any]]]:
    """Return the raw samples of ten minutes by their series' labels, encoded; without those that a scrape adds."""
    data = await ask(http, url, "query", query=f"{selector}[10m]", time=f"{at / SECOND:.3f}")
    found = {}
    for item in data["result"]:
        labels = {name: value for name, value in item["metric"].items() if value not in ADDED}
        found[json.dumps(labels, sort_keys=True)] = item["values"]
    return found


async def delete_pod(http: aiohttp.ClientSession, told: Any, service: str) -> str:
    """Delete the pod of a service by the twin's Kubernetes API, and return its name."""
    document = yaml.safe_load(await anyio.Path(told["kubeconfig"]).read_text())
    authority = base64.b64decode(document["clusters"][0]["cluster"]["certificate-authority-data"]).decode()
    access: Any = {
        "headers": {"Authorization": f"Bearer {document['users'][0]['user']['token']}"},
        "ssl": ssl.create_default_context(cadata=authority),
    }
    pods = f"{told['kubernetes']}/api/v1/namespaces/{told['namespace']}/pods"
    async with http.get(pods, params={"labelSelector": f"opentelemetry.io/name={service}"}, **access) as answer:
        name = str((await answer.json())["items"][0]["metadata"]["name"])
    async with http.delete(f"{pods}/{name}", **access) as answer:
        assert answer.status == 200
    return name


async def wait_until_stale(http: aiohttp.ClientSession, url: str, selector: str) -> None:
    """Wait until an instant query shows nothing: in seconds where the series was marked stale, else after five minutes."""
    with anyio.fail_after(90):
        while True:
            if not (await ask(http, url, "query", query=selector))["result"]:
                return
            await anyio.sleep(0.2)


async def wait_for_scrapes(http: aiohttp.ClientSession, url: str, fewest: int) -> None:
    with anyio.fail_after(90):
        while True:
            try:
                data = await ask(http, url, "query", query=f"count_over_time({CALLS}[5m])")
            except aiohttp.ClientError:  # it doesn't listen yet
                data = {"result": []}
            if max((float(item["value"][1]) for item in data["result"]), default=0) >= fewest:
                return
            await anyio.sleep(0.2)


@pytest.mark.timeout(300)  # two programs start, and the kernel may have to be compiled first
async def test_a_real_prometheus_scrapes_the_twin_and_the_collector_reads_from_it(tmp_path: Path) -> None:
    start = wall_now()
    async with scraped(tmp_path) as (told, url), aiohttp.ClientSession() as http:
        await wait_for_scrapes(http, url, fewest=6)
        pod = await delete_pod(http, told, "quote")
        await wait_until_stale(http, url, f'k8s_container_ready{{k8s_pod_name="{pod}"}}')
        now = wall_now() // 1_000_000 * 1_000_000
        endpoints = Endpoints(kubernetes="", namespace="", prometheus=url, coroot="", load_generator="", flagd="")
        collector = PrometheusCollector(endpoints, METRICS, scrape_interval_seconds=SCRAPE_SECONDS, now=start)
        async with collector.open():
            await collector.drain(Barrier(time=now, resource_version="", exact=False))
        events = [event for event, _ in collector.flush(now)]
        real = {
            key: value for text in selectors(METRICS) for key, value in (await samples(http, url, text, now)).items()
        }
        own = {
            key: value
            for text in selectors(METRICS)
            for key, value in (await samples(http, told["prometheus"], text, wall_now())).items()
        }
        types = {name: item[0]["type"] for name, item in (await ask(http, url, "metadata")).items()}
        (target,) = (await ask(http, url, "targets"))["activeTargets"]

    assert (target["health"], target["lastError"]) == ("up", "")
    assert types["traces_span_metrics_duration_milliseconds"] == "histogram"
    assert {types["k8s_container_restarts"], types["k8s_deployment_available"]} == {"gauge"}
    assert {types[name] for name in types if name.startswith("traces_span_metrics_calls")} == {"counter"}

    assert any(pod in key for key in real)  # its samples are there, they are just no longer the present

    # Names and labels are the twin's, `job` and `instance` of its pods included.
    assert len(real) > 500
    assert real.keys() <= own.keys()
    # Values are the twin's own at the newest moment of its grid, as far as the scrape's moment is known.
    for key, values in real.items():
        shown = [float(value) for _, value in values]
        for (at, _), value in zip(values, shown, strict=True):
            candidates = [
                float(text)
                for time, text in own[key]
                if at - SCRAPE_SECONDS - SLACK_SECONDS < time < at + SLACK_SECONDS
            ]
            assert value in candidates, (key, at, value, own[key])
        if json.loads(key)["__name__"].endswith(("_total", "_bucket", "_count", "_sum")):
            assert shown == sorted(shown)

    # The collector has read every sample, at the moment that Prometheus gave it.
    assert not [event for event in events if isinstance(event, CollectorGap)]
    (declared,) = (event for event in events if isinstance(event, SeriesDeclared))
    (collected,) = (event for event in events if isinstance(event, SamplesCollected))
    assert len(declared.rows) == len(real)
    assert len(collected.values) == sum(len(values) for values in real.values())
    read: dict[str, list[tuple[int, float]]] = {}
    for row in declared.rows:
        labels = {name: value for name, value in row.labels.items() if value not in ADDED}
        chosen = collected.series == row.series
        moments, numbers = collected.times[chosen].tolist(), collected.values[chosen].tolist()
        read[json.dumps(labels, sort_keys=True)] = list(zip(moments, numbers, strict=True))
    assert read == {
        key: [(round(time * 1000) * 1_000_000, float(value)) for time, value in values] for key, values in real.items()
    }
