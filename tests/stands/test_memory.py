"""What holds more memory than its limit is killed, and comes back cold, later each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import (
    Call,
    EdgeSettings,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Step,
    Workload,
)
from otel_control_gym.stands.twin.api import STRATEGIC_MERGE_PATCH, Api
from otel_control_gym.stands.twin.objects import DEPLOYMENT, EVENT, NETWORK_CHAOS, POD, STRESS_CHAOS, Object
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED, ERROR, IN_FLIGHT, LOST, OK

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig

LOAD, FRONT, BACK = 0, 1, 2
MI = 2**20


def tiers(rate: float, **back: object) -> Simulation:
    """Return load -> front -> back: back works 10 ms a request, holds 1 Mi for each and 10 Mi besides, and may have 14 Mi."""
    settings: dict[str, object] = {"memory_base_bytes": 10 * MI, "memory_per_request_bytes": MI} | back
    do = Operation(tail_ms=10.0, distribution="constant")
    ask = Operation(steps=(Step(calls=(Call(target="back:do"),)),))
    config = ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(operations={"ask": ask}),
            "back": Service(operations={"do": do}, **settings),  # type: ignore[arg-type]
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="http", connection="per_request"),
            EdgeSettings(source="front", target="back", protocol="grpc"),
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=rate), 1, 0)
    for service in config.services:
        limit = 14 * MI if service == "back" else None
        simulation.add_pod(service, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=limit)
    for slot in (BACK, FRONT, LOAD):
        simulation.set_ready(slot, True)
    return simulation


# The kernel.


def test_a_queue_that_outgrows_the_memory_limit_kills_its_pod_and_fails_its_callers() -> None:
    simulation = tiers(rate=150.0, workers=1, threads=1)  # serves 100 a second, so a queue builds up
    assert not simulation.run(60 * SECOND)
    ((moment, slot),) = simulation.take_exits()
    assert (moment, slot) == (simulation.now, BACK)
    assert 0 < moment < 60 * SECOND
    assert simulation.take_exits() == []
    lost = simulation.edge_counts[1, LOST]
    assert simulation.run(moment + SECOND // 100)
    assert simulation.edge_counts[1, LOST] - lost >= 5, "five requests are one too many for 4 Mi"
    assert simulation.edge_counts[0, ERROR] >= 5
    assert simulation.pod_counters().memory_bytes[BACK] == 0


def test_a_load_that_fits_kills_nobody() -> None:
    simulation = tiers(rate=20.0, workers=1, threads=1)
    assert simulation.run(60 * SECOND)
    assert simulation.take_exits() == []
    assert simulation.edge_counts[1, OK] > 1000


def test_calls_to_a_dead_container_are_reset_until_it_is_out_of_the_endpoints() -> None:
    simulation = tiers(rate=50.0)
    simulation.set_memory_stress(BACK, "stress", 5 * MI)
    assert [slot for _, slot in simulation.take_exits()] == [BACK]
    simulation.run(simulation.now + SECOND)
    counts = simulation.edge_counts[1].copy()
    assert counts[LOST] > 30
    simulation.set_ready(BACK, False)
    simulation.run(simulation.now + SECOND)
    assert simulation.edge_counts[1, LOST] == counts[LOST]


def test_a_stressor_grows_linearly_and_kills_at_the_moment_it_must() -> None:
    simulation = tiers(rate=0.0)
    simulation.set_memory_stress(BACK, "stress", 8 * MI, 80 * SECOND)
    assert simulation.run(20 * SECOND)
    assert simulation.pod_counters().memory_bytes[BACK] == 12 * MI
    assert not simulation.run(60 * SECOND)
    assert simulation.now == pytest.approx(40 * SECOND, abs=SECOND // 50)
    assert simulation.run(60 * SECOND)


def test_a_stressor_that_ends_gives_its_memory_back() -> None:
    simulation = tiers(rate=0.0)
    simulation.set_memory_stress(BACK, "stress", 3 * MI)
    simulation.set_memory_stress(BACK, "stress", 0)
    simulation.set_memory_stress(BACK, "another", 3 * MI, SECOND)
    assert simulation.run(60 * SECOND)
    assert simulation.pod_counters().memory_bytes[BACK] == 13 * MI


def test_a_process_that_is_larger_than_its_limit_dies_while_it_starts() -> None:
    simulation = tiers(rate=0.0)
    slot = simulation.add_pod("back", ordinal=1, cpu_limit_cores=None, memory_limit_bytes=5 * MI)
    assert not simulation.run(60 * SECOND)
    assert simulation.take_exits() == [(simulation.now, slot)]
    assert simulation.now == pytest.approx(SECOND / 2, abs=SECOND // 50), "half of 10 Mi, half of the start's second"


def test_a_lower_limit_in_place_kills_at_once() -> None:
    simulation = tiers(rate=0.0)
    simulation.set_limits(BACK, cpu_limit_cores=None, memory_limit_bytes=9 * MI)
    assert simulation.take_exits() == [(0, BACK)]


def test_neither_cuts_nor_copies_change_what_a_kill_leaves() -> None:
    whole, cut = (tiers(rate=150.0, workers=1, threads=1) for _ in range(2))
    for moment in range(1, 41):
        cut.run(moment * SECOND // 4)
    branch = cut.copy()
    while not whole.run(20 * SECOND):
        pass
    killed = whole.take_exits()
    assert killed
    for simulation in (cut, branch):
        while not simulation.run(20 * SECOND):
            pass
        assert np.array_equal(simulation.edge_buckets, whole.edge_buckets)
        assert np.array_equal(simulation.edge_counts, whole.edge_counts)
        assert simulation.take_exits() == killed


def test_every_call_is_accounted_for_through_kills() -> None:
    simulation = tiers(rate=300.0, workers=1, threads=1)
    slot = BACK
    for moment in range(1, 60):
        while not simulation.run(moment * SECOND // 2):
            pass
        for _ in simulation.take_exits():
            simulation.set_ready(slot, False)
            slot = simulation.add_pod("back", ordinal=slot, cpu_limit_cores=None, memory_limit_bytes=14 * MI)
            simulation.set_ready(slot, True)
    assert slot > 10
    counts = simulation.edge_counts
    assert (counts[:, ATTEMPTED] == counts[:, :ATTEMPTED].sum(axis=1)).all()
    simulation.set_rate(0.0)
    while not simulation.run(simulation.now + 20 * SECOND):
        pass
    assert (simulation.edge_counts[:, IN_FLIGHT] == 0).all()


# The whole twin.


def live(run: TwinRun, seconds: float) -> None:
    until = run.now + round(seconds * SECOND)
    while run.advance_once(until):
        pass


def pods(run: TwinRun, service: str) -> list[Object]:
    found = run.control_plane.store.objects(POD, run.control_plane.namespace)
    return [pod for pod in found if pod["metadata"]["labels"]["opentelemetry.io/name"] == service]


def container(run: TwinRun, service: str) -> Object:
    (pod,) = pods(run, service)
    status: Object = pod["status"]["containerStatuses"][0]
    return status


def limit_memory(run: TwinRun, service: str, limit: str) -> None:
    resources = {"limits": {"memory": limit}, "requests": {"memory": limit}}
    template = {"spec": {"containers": [{"name": service, "resources": resources}]}}
    api, namespace = Api(run.control_plane.context), run.control_plane.namespace
    api.patch(DEPLOYMENT, namespace, service, {"spec": {"template": template}}, STRATEGIC_MERGE_PATCH)


def fill_memory(run: TwinRun, service: str, size: str, options: list[str] | None = None) -> None:
    memory: Object = {"workers": 1, "size": size} | ({"options": options} if options else {})
    spec = {
        "mode": "all",
        "selector": {"labelSelectors": {"app.kubernetes.io/component": service}},
        "stressors": {"memory": memory},
        "duration": "300s",
    }
    api, namespace = Api(run.control_plane.context), run.control_plane.namespace
    api.create(STRESS_CHAOS, namespace, {"metadata": {"name": "fill"}, "spec": spec})


def series(run: TwinRun, **where: str) -> list[np.ndarray]:
    wanted = {"__name__": where.pop("name"), **where}
    store = run.telemetry.series
    numbers = [number for number, labels in store.labels.items() if wanted.items() <= labels.items()]
    return list(store.window(np.array(numbers, np.int64), 0, run.now).values.T)


def test_memory_stress_kills_once_and_the_container_comes_back_in_the_same_pod(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(190))
    live(run, 30)
    (before,) = pods(run, "cart")
    counts = run.simulation.edge_counts.copy()
    fill_memory(run, "cart", "120MB")
    live(run, 60)
    (after,) = pods(run, "cart")
    status = container(run, "cart")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert after["status"]["phase"] == "Running"
    assert status["restartCount"] == 1, "the record says Injected, but nothing stresses the new container"
    assert (status["lastState"]["terminated"]["exitCode"], status["lastState"]["terminated"]["reason"]) == (
        137,
        "OOMKilled",
    )
    assert status["ready"]
    cart = run.simulation.names.edges.index(("frontend", "cart", "grpc"))
    lost = run.simulation.edge_counts[cart] - counts[cart]
    assert lost[ERROR : LOST + 1].sum() > 0
    (restarts,) = series(run, name="k8s_container_restarts", k8s_deployment_name="cart")
    assert list(dict.fromkeys(restarts)) == [0.0, 1.0]
    (ready,) = series(run, name="k8s_container_ready", k8s_deployment_name="cart")
    assert list(dict.fromkeys(ready)) == [1.0, 0.0]
    (memory,) = series(run, name="k8s_pod_memory_working_set_bytes", k8s_pod_name=after["metadata"]["name"])
    assert memory[-1] < 160 * MI


def test_counters_of_a_pod_go_on_through_a_restart_under_one_name(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(190))
    live(run, 30)
    fill_memory(run, "cart", "120MB")
    live(run, 60)
    names = [(labels["__name__"], tuple(labels.items())) for labels in run.telemetry.series.labels.values()]
    assert len(names) == len(set(names)), "no series is there twice"
    (pod,) = pods(run, "cart")
    for values in series(run, name="traces_span_metrics_calls_total", k8s_pod_name=pod["metadata"]["name"]):
        seen = values[~np.isnan(values)]
        assert (np.diff(seen) >= 0).all()
        assert not np.isnan(values[-1])
    (cpu,) = series(run, name="k8s_pod_cpu_time_seconds_total", k8s_pod_name=pod["metadata"]["name"])
    assert (np.diff(cpu) >= 0).all()


def test_a_limit_below_what_a_process_needs_crash_loops_with_kubernetes_timing(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(0))
    limit_memory(run, "cart", "40Mi")  # its process needs 66
    starts: dict[int, tuple[int, int]] = {}
    fresh = None
    seen_waiting = False
    for _ in range(760):
        live(run, 1)
        loops = [
            pod for pod in pods(run, "cart") if pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == "40Mi"
        ]
        if not loops:
            continue
        fresh = loops[0]
        assert fresh["status"]["phase"] in ("Pending", "Running")
        status = (fresh["status"].get("containerStatuses") or [{"state": {}, "restartCount": 0}])[0]
        assert not status.get("ready", False)
        waiting = status["state"].get("waiting", {})
        if waiting.get("reason") == "CrashLoopBackOff":
            seen_waiting = True
            assert status["lastState"]["terminated"]["reason"] == "OOMKilled"
            assert waiting["message"].startswith("back-off ")
        starts.setdefault(status["restartCount"], (run.now // SECOND, len(starts)))
    assert fresh is not None
    assert seen_waiting
    moments = [starts[count][0] for count in sorted(starts)]
    gaps = np.diff(moments)
    # A run lasts 2 s, a start takes 1 s where nothing is waited for; moments are seen once a second.
    assert gaps[1:6] == pytest.approx([12, 22, 42, 82, 162], abs=2.1)
    assert gaps[6] == pytest.approx(302, abs=2.1)
    reasons = [
        event["reason"]
        for event in run.control_plane.store.objects(EVENT)
        if event["involvedObject"]["name"] == fresh["metadata"]["name"]
    ]
    assert "BackOff" in reasons
    old = [pod for pod in pods(run, "cart") if pod is not fresh and pod["status"]["containerStatuses"][0]["ready"]]
    assert old, "a rollout whose pods never get ready leaves the old ones alone"


def test_network_rules_survive_a_restart_of_the_container(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(60))
    spec = {
        "action": "delay",
        "mode": "all",
        "selector": {"labelSelectors": {"app.kubernetes.io/component": "cart"}},
        "delay": {"latency": "100ms"},
    }
    api, namespace = Api(run.control_plane.context), run.control_plane.namespace
    api.create(NETWORK_CHAOS, namespace, {"metadata": {"name": "slow"}, "spec": spec})
    live(run, 5)
    fill_memory(run, "cart", "120MB")
    live(run, 20)
    edge = run.simulation.names.edges.index(("frontend", "cart", "grpc"))
    before = run.simulation.edge_buckets[edge, 0, 0].copy()
    live(run, 30)
    fast = (run.simulation.edge_buckets[edge, 0, 0] - before)[:6].sum()  # below 100 ms
    assert (run.simulation.edge_buckets[edge, 0, 0] - before).sum() > 10
    assert fast == 0


def test_small_core_at_rest_kills_nobody(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(190))
    live(run, 300)
    assert all(
        pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in run.control_plane.store.objects(POD)
    )
