"""Nothing is lost or invented: on every edge, what was attempted is answered, refused, lost or under way, whatever happens to pods."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import (
    Call,
    EdgeSettings,
    Flow,
    Operation,
    Service,
    ServiceConfiguration,
    Step,
    Version,
    Workload,
)
from otel_control_gym.stands.twin.machine import EgressRule
from otel_control_gym.stands.twin.runtime import PodProcess
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import (
    ATTEMPTED,
    CLIENT,
    ENDINGS,
    ERROR,
    IN_FLIGHT,
    LINE_TIMED_OUT,
    LOST,
    OK,
    REFUSED,
    RETRIED,
    SERVER,
    TIMED_OUT,
)

LAYERS = 4
HARMLESS = ["drain", "stress", "delay", "unready", "users"]
MOMENTS = [round(0.5 * number * SECOND) for number in range(1, 17)]


@st.composite
def applications(draw: st.DrawFn) -> ServiceConfiguration:
    """Draw a layered application: `s0` is the entry, each service calls some of the deeper ones."""
    services = {"load": Service(kind="workload")}
    edges = [EdgeSettings(source="load", target="s0", protocol="http", connection="per_request")]
    for layer in range(LAYERS):
        deeper = draw(st.lists(st.sampled_from(range(layer + 1, LAYERS)), max_size=3)) if layer < LAYERS - 1 else []
        calls = tuple(
            Call(
                target=f"s{target}:do",
                repeat=draw(st.sampled_from(["once", "per_line"])),
                on_error=draw(st.sampled_from(["fail", "ignore"])),
                error_status=draw(st.sampled_from([0, -1, 14])),
                tolerates=draw(st.sampled_from([0, 13])),
            )
            for target in deeper
        )
        step = Step(work_ms=draw(st.sampled_from([0.0, 1.0, 20.0])), calls=calls, parallel=draw(st.booleans()))
        services[f"s{layer}"] = Service(
            operations={
                "do": Operation(
                    steps=(step,),
                    tail_ms=draw(st.sampled_from([0.0, 2.0])),
                    failure_ratio=draw(st.sampled_from([0.0, 0.0, 0.1])),
                )
            },
            versions={"bad": Version(work_factor=3.0, failure_ratio=0.5, failure_status=9)},
            workers=draw(st.sampled_from([0, 1, 3])),
            holds_worker=draw(st.booleans()),
            threads=draw(st.sampled_from([0, 1])),
            cpu_limit_cores=draw(st.sampled_from([None, 0.2, 1.0])),
            instrumented=draw(st.booleans()),
        )
        for target in sorted(set(deeper)):
            connection = draw(st.sampled_from(["sticky", "per_request"]))
            edges.append(
                EdgeSettings(
                    source=f"s{layer}",
                    target=f"s{target}",
                    protocol="grpc",
                    connection=connection,  # type: ignore[arg-type]
                    latency_ms=draw(st.sampled_from([0.0, 0.2, 30.0])),
                    timeout_ms=draw(st.sampled_from([0.0, 0.0, 25.0])),
                    retries=draw(st.sampled_from([0, 0, 1])),
                    backoff_ms=draw(st.sampled_from([0.0, 10.0])),
                    jitter=draw(st.sampled_from([0.0, 0.5])),
                    pool=draw(st.sampled_from([0, 0, 1, 3])),
                    pool_timeout_ms=draw(st.sampled_from([0.0, 10.0, 40.0])),
                    max_age_seconds=draw(st.sampled_from([0.0, 0.5])),
                )
            )
    return ServiceConfiguration(
        name="random",
        demo_version="",
        chart_version="",
        entry="s0",
        services=services,
        edges=tuple(edges),
        flows={"buy": Flow(weight=1.0, requests=("do", "do"), additions=(0, 3))},
    )


workloads = st.builds(
    lambda users: Workload(name="closed", users=users, spawn_rate_per_s=50.0, think_seconds=(0.0, 1.0)),
    st.integers(1, 60),
) | st.builds(lambda rate: Workload(name="open", arrivals="open", rate_per_s=rate), st.floats(1.0, 80.0))
disturbances = st.lists(
    st.tuples(
        st.sampled_from(MOMENTS),
        st.sampled_from(
            [*HARMLESS, "stop", "replace", "canary", "misled", "lossy", "blocked", "healed", "split", "kill"]
        ),
        st.integers(0, LAYERS),
    ),
    max_size=8,
)


def disturb(simulation: Simulation, kind: str, number: int) -> None:
    """Do something to the newest pod of a service (0: the load generator)."""
    name = list(simulation.config.services)[number]
    slot = max(index for index, service in enumerate(simulation.slots) if service == name)
    if kind in ("replace", "canary", "misled"):
        process = PodProcess(
            version="bad" if kind == "canary" else "",
            canary=kind == "canary",
            unreachable=("s1", "s2") if kind == "misled" else (),
        )
        fresh = simulation.add_pod(name, ordinal=slot, cpu_limit_cores=0.5, memory_limit_bytes=None, process=process)
        simulation.set_ready(fresh, True)
        simulation.drain(slot)
        simulation.set_ready(slot, False)
    elif kind == "stop":
        simulation.stop(slot)
    elif kind == "drain":
        simulation.drain(slot)
    elif kind == "stress":
        simulation.set_stress(slot, 2.0)
    elif kind == "delay":
        simulation.set_egress_rules(slot, {None: EgressRule(latency_ns=50_000_000, jitter_ns=20_000_000)})
    elif kind == "lossy":
        simulation.set_egress_rules(slot, {None: EgressRule(loss=0.4)})
    elif kind == "blocked":
        simulation.set_egress_rules(slot, {peer: EgressRule(blocked=True) for peer in range(slot + 2)})
    elif kind == "healed":
        simulation.set_egress_rules(slot, {})
    elif kind == "split":
        simulation.set_split(name, 0.5)
    elif kind == "kill":
        simulation.kill(slot)
    elif kind == "unready":
        simulation.set_ready(slot, False)
    elif simulation.workload.arrivals == "closed":
        simulation.set_users(number * 10, 20.0)


def assert_conserved(simulation: Simulation) -> None:
    counts = simulation.edge_counts
    assert (counts >= 0).all()
    assert (counts[:, [OK, ERROR, REFUSED, LOST, TIMED_OUT, IN_FLIGHT]].sum(axis=1) == counts[:, ATTEMPTED]).all()
    assert (counts[:, RETRIED] <= counts[:, [ERROR, REFUSED, LOST, TIMED_OUT]].sum(axis=1)).all()
    assert (counts[:, LINE_TIMED_OUT] <= counts[:, TIMED_OUT]).all()
    finished = simulation.edge_buckets.sum(axis=-1)
    assert (simulation.edge_statuses.sum(axis=1) == finished[:, :, 0].sum(axis=1)).all()
    assert (finished[:, 0, 0] == counts[:, OK]).all()
    assert (finished[:, 1, 0] <= counts[:, [ERROR, REFUSED, LOST, TIMED_OUT]].sum(axis=1)).all()
    assert (finished[:, :, 1] <= finished[:, :, 0]).all()
    assert (simulation.ending_buckets.sum(axis=1) == simulation.edge_buckets.sum(axis=1)).all()
    assert simulation.ending_seconds.sum(axis=1) == pytest.approx(simulation.edge_seconds.sum(axis=1))
    by_outcome = np.zeros_like(finished[:, :, 0])
    told_apart = np.zeros(len(counts), bool)
    for ending in simulation.endings(np.zeros(simulation.ending_buckets.shape[:2], bool)):
        by_outcome[ending.edge, int(ending.failed)] += simulation.ending_buckets[ending.edge, ending.row, 0].sum()
        told_apart[ending.edge] |= ending.row == ENDINGS - 1  # the last place takes what there is no place for
    assert (by_outcome[~told_apart] == finished[~told_apart, :, 0]).all()


@settings(max_examples=60, deadline=None)
@given(applications(), workloads, disturbances, st.integers(0, 2**63))
def test_calls_are_conserved_on_every_edge(
    config: ServiceConfiguration, workload: Workload, events: list[tuple[int, str, int]], seed: int
) -> None:
    simulation = Simulation(config, workload, seed, 0)
    for name, service in config.services.items():
        slot = simulation.add_pod(name, ordinal=0, cpu_limit_cores=service.cpu_limit_cores, memory_limit_bytes=None)
        simulation.set_ready(slot, True)
    for moment, kind, number in sorted(events):
        simulation.run(moment)
        assert_conserved(simulation)
        disturb(simulation, kind, number)
        assert_conserved(simulation)

    simulation.run(9 * SECOND)
    assert_conserved(simulation)
    if workload.arrivals == "closed":
        simulation.set_users(0, 1000.0)
    else:
        simulation.set_rate(0.0)
    simulation.run(200_000 * SECOND)  # a heavy graph on a fifth of a core leaves hours of backlog

    assert_conserved(simulation)
    assert simulation.edge_counts[:, IN_FLIGHT].sum() == 0
    assert simulation.statistics().hops_in_flight == 0
    assert simulation.statistics().sessions == 0
    assert simulation.pod_counters().in_flight.sum() == simulation.pod_counters().queued.sum() == 0


@settings(max_examples=30, deadline=None)
@given(applications(), workloads, st.integers(0, 2**63))
def test_span_rows_agree_with_edges_and_pods(config: ServiceConfiguration, workload: Workload, seed: int) -> None:
    simulation = Simulation(config, workload, seed, 0)
    for name, service in config.services.items():
        slot = simulation.add_pod(name, ordinal=0, cpu_limit_cores=service.cpu_limit_cores, memory_limit_bytes=None)
        simulation.set_ready(slot, True)
    simulation.set_span_probability(1.0)

    simulation.run(8 * SECOND)

    calls = simulation.span_buckets.sum(axis=-1)
    served = simulation.pod_counters().served
    for slot, name in enumerate(simulation.slots):
        mine = {
            kind: [i for i, row in enumerate(simulation.span_rows) if (row.slot, row.kind) == (slot, kind)]
            for kind in (SERVER, CLIENT)
        }
        outgoing = [i for i, edge in enumerate(simulation.names.edges) if edge[0] == name]
        if config.services[name].instrumented:
            assert calls[mine[SERVER]].sum() == served[slot]
            expected = simulation.edge_counts[outgoing][:, [OK, ERROR, REFUSED, LOST, TIMED_OUT]].sum()
            assert calls[mine[CLIENT]].sum() == expected
    spans = simulation.take_spans()
    assert len(spans) == calls.sum() == simulation.statistics().spans_seen
    assert len(np.unique(spans["span_id"])) == len(spans)
    assert len(simulation.take_spans()) == 0
