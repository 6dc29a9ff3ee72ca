"""The twin as a stand: deterministic however it is cut, and moved by the real HTTP interfaces in the direction that it should be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.protocols import Stand
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.stand import TwinStand

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig, Receiver

EVERYTHING = '{__name__=~".+"}[1h]'
MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
CHAOS = "/apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo"


async def live(stand: TwinStand, seconds: float) -> None:
    await stand.advance(stand.now + round(seconds * SECOND))


async def scraped(stand: TwinStand, query: str = EVERYTHING) -> bytes:
    form = {"query": query, "time": str(stand.now / SECOND)}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stand.endpoints.prometheus}/api/v1/query", data=form) as answer,
    ):
        assert answer.status == 200
        return await answer.read()


async def growth(stand: TwinStand, selector: str, seconds: int) -> float:
    """Return how much the counters that a selector matches grew together in the last seconds."""
    answer = json.loads(await scraped(stand, f"{selector}[{seconds + 1}s]"))
    total = 0.0
    for item in answer["data"]["result"]:
        values = [float(value) for _, value in item["values"]]
        total += values[-1] - (values[0] if item["values"][0][0] <= stand.now / SECOND - seconds else 0.0)
    return total


async def mean_ms(stand: TwinStand, source: str, target: str, seconds: int) -> float:
    """Return the mean duration of an edge's calls, as the caller saw it, in the last seconds."""
    where = f'{{client="{source}",server="{target}"}}'
    name = "traces_service_graph_request_client_seconds"
    return (
        1000 * await growth(stand, f"{name}_sum{where}", seconds) / await growth(stand, f"{name}_count{where}", seconds)
    )


async def kubernetes(stand: TwinStand, method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
    headers = headers or {"Content-Type": "application/json"}
    url = stand.endpoints.kubernetes + path
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, url, data=json.dumps(body), headers=headers) as answer,
    ):
        text = await answer.read()
        assert answer.status in (200, 201), text
        return json.loads(text)


@pytest.fixture
async def running(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> TwinStand:
    await stand.reset(make_config(190), otlp_endpoint=receiver.url)
    await live(stand, 60)
    return stand


def test_it_offers_what_a_stand_must() -> None:
    stand: Stand = TwinStand()
    assert stand.name == "twin"


async def test_it_says_what_is_missing_when_it_is_used_too_early(make_config: MakeConfig) -> None:
    stand = TwinStand()
    with pytest.raises(StandError, match=r"isn't open"):
        _ = stand.endpoints
    with pytest.raises(StandError, match=r"isn't open"):
        await stand.reset(make_config(), otlp_endpoint="")
    async with stand.open():
        with pytest.raises(StandError, match="reset"):
            await stand.advance(1)


async def test_before_a_reset_the_cluster_is_empty(stand: TwinStand) -> None:
    async with aiohttp.ClientSession() as http, http.get(stand.endpoints.kubernetes + DEPLOYMENTS) as answer:
        assert json.loads(await answer.read())["items"] == []


async def test_the_same_seed_gives_the_same_bytes(receiver: Receiver, make_config: MakeConfig) -> None:
    answers, exports = [], []
    for seed in (7, 7, 8):
        stand = TwinStand()
        receiver.traces.clear()
        async with stand.open():
            await stand.reset(make_config(50, seed=seed), otlp_endpoint=receiver.url)
            await live(stand, 60)
            await live(stand, 30)
            answers.append(await scraped(stand))
            exports.append([request.SerializeToString(deterministic=True) for request in receiver.traces])
    assert answers[0] == answers[1]
    assert exports[0] == exports[1]
    assert answers[0] != answers[2]


async def test_spans_wait_for_a_barrier_and_none_is_lost(receiver: Receiver, make_config: MakeConfig) -> None:
    spans = []
    for stops in ((), (7, 20)):
        stand = TwinStand()
        receiver.traces.clear()
        async with stand.open():
            await stand.reset(make_config(50), otlp_endpoint=receiver.url)
            begin = stand.now
            for seconds in stops:
                await stand.live(begin + seconds * SECOND)
                assert not receiver.traces
            await stand.advance(begin + 30 * SECOND)
        spans.append(
            sorted(
                span.span_id
                for request in receiver.traces
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            )
        )
    assert spans[0] == spans[1] != []


async def test_an_open_stand_can_be_reset_as_often_as_wanted(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig
) -> None:
    seen = []
    for _ in range(2):
        await stand.reset(make_config(50), otlp_endpoint=receiver.url)
        assert stand.now == make_config().twin.epoch_seconds * SECOND
        await live(stand, 30)
        await kubernetes(stand, "PATCH", f"{DEPLOYMENTS}/cart/scale", {"spec": {"replicas": 2}}, MERGE)
        await live(stand, 30)
        seen.append(await scraped(stand))
    assert seen[0] == seen[1]


def all_samples(run: TwinRun) -> list[tuple[str, list[float]]]:
    series = run.telemetry.series
    numbers = np.array(list(series.labels), np.int64)
    window = series.window(numbers, 0, run.now)
    return sorted(
        (str(series.labels[number]), window.values[:, row].tolist()) for row, number in enumerate(numbers.tolist())
    )


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=6))
def test_how_an_episode_is_cut_changes_nothing(make_config: MakeConfig, cuts: list[int]) -> None:
    config = make_config(30)
    whole, cut = TwinRun(config), TwinRun(config)
    for run, moments in ((whole, []), (cut, sorted(cuts))):
        for moment in [*moments, 40_000]:
            while run.advance_once(run.start + moment * (SECOND // 1000)):
                pass
    assert str(all_samples(whole)) == str(all_samples(cut))
    exported = [[export.body for export in run.take_exports()] for run in (whole, cut)]
    assert exported[0] == exported[1]


async def test_a_barrier_names_the_version_that_watches_get_by_bookmark(running: TwinStand) -> None:
    async with aiohttp.ClientSession() as http:
        parameters = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": "0"}
        async with http.get(running.endpoints.kubernetes + DEPLOYMENTS, params=parameters) as watch:
            await kubernetes(running, "PATCH", f"{DEPLOYMENTS}/cart/scale", {"spec": {"replicas": 2}}, MERGE)
            barrier = await running.advance(running.now + 30 * SECOND)
            assert barrier.time == running.now
            seen: list[str] = []
            while barrier.resource_version not in seen:
                seen.append(json.loads(await watch.content.readline())["object"]["metadata"]["resourceVersion"])


async def test_a_scrape_holds_what_was_served_up_to_its_moment(running: TwinStand) -> None:
    total = 'traces_service_graph_request_total{client="load-generator"}'
    answer = json.loads(await scraped(running, f"{total}[5s]"))
    ((time, value),) = answer["data"]["result"][0]["values"]
    assert time == running.now / SECOND
    assert int(value) == running.run.simulation.load_counters().served


async def test_scaling_up_is_seen_in_telemetry_when_the_pods_are_ready(running: TwinStand) -> None:
    await kubernetes(running, "PATCH", f"{DEPLOYMENTS}/frontend/scale", {"spec": {"replicas": 3}}, MERGE)
    await live(running, 5)
    desired = json.loads(await scraped(running, 'k8s_deployment_desired{k8s_deployment_name="frontend"}'))
    assert desired["data"]["result"][0]["value"][1] == "3"
    await live(running, 55)
    available = json.loads(await scraped(running, 'k8s_deployment_available{k8s_deployment_name="frontend"}'))
    assert available["data"]["result"][0]["value"][1] == "3"
    calls = json.loads(
        await scraped(
            running, 'traces_span_metrics_calls_total{service_name="frontend",span_kind="SPAN_KIND_SERVER"}[30s]'
        )
    )
    pods = {item["metric"]["k8s_pod_name"] for item in calls["data"]["result"]}
    assert len(pods) == 3


async def test_scaling_up_the_bottleneck_shortens_its_callers_wait(running: TwinStand) -> None:
    async with aiohttp.ClientSession() as http:
        form = {"user_count": "420", "spawn_rate": "50"}
        async with http.post(f"{running.endpoints.load_generator}/swarm", data=form) as answer:
            assert json.loads(await answer.read())["success"]
    await live(running, 120)
    before = await mean_ms(running, "load-generator", "frontend", 30)
    await kubernetes(running, "PATCH", f"{DEPLOYMENTS}/frontend/scale", {"spec": {"replicas": 3}}, MERGE)
    await live(running, 120)
    assert await mean_ms(running, "load-generator", "frontend", 30) < before / 3


async def test_a_smaller_cpu_limit_throttles_and_slows(running: TwinStand) -> None:
    before = await mean_ms(running, "load-generator", "frontend", 30)
    container = {"name": "frontend", "resources": {"limits": {"cpu": "300m"}, "requests": {"cpu": "300m"}}}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await kubernetes(running, "PATCH", f"{DEPLOYMENTS}/frontend", patch, STRATEGIC)
    await live(running, 120)
    limits = json.loads(await scraped(running, 'k8s_container_cpu_limit{k8s_deployment_name="frontend"}[5s]'))
    assert [item["values"][0][1] for item in limits["data"]["result"]] == ["0.3"]
    assert await growth(running, 'container_cpu_cfs_throttled_periods_total{container="frontend"}', 60) > 300
    assert await mean_ms(running, "load-generator", "frontend", 30) > 3 * before


async def test_cpu_pressure_uses_the_cpu_and_slows_the_victim(running: TwinStand) -> None:
    before = await mean_ms(running, "load-generator", "frontend", 30)
    used_before = await growth(running, 'k8s_pod_cpu_time_seconds_total{k8s_deployment_name="frontend"}', 30)
    stress = {
        "apiVersion": "chaos-mesh.org/v1alpha1",
        "kind": "StressChaos",
        "metadata": {"name": "one"},
        "spec": {
            "mode": "all",
            "selector": {"namespaces": ["otel-demo"], "labelSelectors": {"opentelemetry.io/name": "frontend"}},
            "stressors": {"cpu": {"workers": 1, "load": 100}},
            "duration": "120s",
        },
    }
    await kubernetes(running, "POST", f"{CHAOS}/stresschaos", stress)
    await live(running, 60)
    used = await growth(running, 'k8s_pod_cpu_time_seconds_total{k8s_deployment_name="frontend"}', 30)
    assert used_before < 25 < used <= 30.1
    assert await mean_ms(running, "load-generator", "frontend", 30) > 2 * before
    await live(running, 240)
    assert await mean_ms(running, "load-generator", "frontend", 30) < 1.5 * before


async def test_network_delay_in_the_callee_slows_that_edge_alone(running: TwinStand) -> None:
    edges = (("frontend", "recommendation"), ("frontend", "cart"))
    before = {edge: await mean_ms(running, *edge, 30) for edge in edges}
    delay = {
        "apiVersion": "chaos-mesh.org/v1alpha1",
        "kind": "NetworkChaos",
        "metadata": {"name": "one"},
        "spec": {
            "action": "delay",
            "mode": "all",
            "selector": {"namespaces": ["otel-demo"], "labelSelectors": {"opentelemetry.io/name": "frontend"}},
            "direction": "from",
            "target": {
                "mode": "all",
                "selector": {
                    "namespaces": ["otel-demo"],
                    "labelSelectors": {"opentelemetry.io/name": "recommendation"},
                },
            },
            "delay": {"latency": "100ms", "jitter": "0ms", "correlation": "0"},
            "duration": "300s",
        },
    }
    await kubernetes(running, "POST", f"{CHAOS}/networkchaos", delay)
    await live(running, 60)
    after = {edge: await mean_ms(running, *edge, 30) for edge in edges}
    assert after[edges[0]] - before[edges[0]] == pytest.approx(100, abs=15)
    assert after[edges[1]] == pytest.approx(before[edges[1]], rel=0.5)


async def test_the_graph_is_the_configurations(running: TwinStand) -> None:
    services = running.run.config.public.services
    nodes, edges = running.graph()
    assert [node.id for node in nodes] == list(services.services)
    assert [(edge.source, edge.target) for edge in edges] == [(edge.source, edge.target) for edge in services.edges]
    assert {node.id: node.kind for node in nodes}["load-generator"] == "workload"


async def test_the_environment_says_that_it_is_emulated(running: TwinStand) -> None:
    found = running.environment()
    assert len(found.pop("twin_model")) == 64
    assert found.pop("opentelemetry-demo").startswith("2.2.0")
    assert all("emulated" in value for value in found.values())
