"""A real Prometheus stands between the twin and the collector, and nothing is lost or changed but the moments of the samples.

The twin is served in wall-clock time by a process of its own; Debian's Prometheus scrapes it every second. The twin's own series change
on the grid of its scrape interval, so what a scrape at s shows is what the twin's own Prometheus has at the newest moment of that grid.
"""

from __future__ import annotations

import base64
import json
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

PROMETHEUS = shutil.which("prometheus")
OCG = (sys.executable, "-c", "from otel_control_gym.engine.command_line import main; main()")
METRICS = resolve("small-core").public.metrics
CALLS = "traces_service_graph_request_total"
SCRAPE_SECONDS = 5  # the twin's grid
ADDED = ("scraped", "twin:1")  # job and instance, where a series has none of its own
SLACK_SECONDS = 5.0  # a scrape's own duration, and how far the twin may be behind the wall clock

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus isn't on the path (Debian: apt install prometheus)"),
]


@asynccontextmanager
async def process(*command: str, **options: Any) -> AsyncIterator[anyio.abc.Process]:
    """Run a program inside, and end it in order."""
    async with await anyio.open_process(command, **options) as running:
        try:
            yield running
        finally:
            if running.returncode is None:
                running.terminate()
            with anyio.CancelScope(shield=True):
                await running.wait()


async def served(twin: anyio.abc.Process) -> Any:
    """Return what the twin says of itself."""
    assert twin.stdout is not None
    said = b""
    while not said.endswith(b"\n}\n"):
        said += await twin.stdout.receive()
    return json.loads(said)


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


@asynccontextmanager
async def scraped(tmp_path: Path) -> AsyncIterator[tuple[Any, str]]:
    """Serve a twin and let a real Prometheus scrape it; the values are what the twin says of itself and Prometheus' URL."""
    assert PROMETHEUS is not None
    kubeconfig = str(tmp_path / "kubeconfig")
    async with process(*OCG, "twin", "serve", "--json", "--port", "0", "--kubeconfig", kubeconfig, stderr=None) as twin:
        told = await served(twin)
        relabelled = {"targets": [told["prometheus"].removeprefix("http://")], "labels": {"instance": ADDED[1]}}
        job = {"job_name": ADDED[0], "honor_labels": True, "static_configs": [relabelled]}
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(
            yaml.safe_dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]})
        )
        async with listening_port() as port:
            address = f"127.0.0.1:{port}"
        command = (PROMETHEUS, f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
        async with process(
            *command, f"--web.listen-address={address}", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            yield told, f"http://{address}"


@asynccontextmanager
async def listening_port() -> AsyncIterator[int]:
    """Reserve a port that is free now."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        yield listener.extra(anyio.abc.SocketAttribute.local_port)


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
