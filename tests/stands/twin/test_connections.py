"""Where calls go: connections that stick and age, versions behind a split, addresses that are wrong, pools that are too small."""

from __future__ import annotations

import msgspec
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
    Version,
    Workload,
)
from otel_control_gym.stands.twin.runtime import PodProcess
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import (
    ATTEMPTED,
    CLIENT,
    ERROR,
    IN_FLIGHT,
    LINE_TIMED_OUT,
    OK,
    REFUSED,
    TIMED_OUT,
)

LOAD, FRONT, BACK = 0, 1, 2
ENTRY, INNER = 0, 1  # edges
MS = 1_000_000


def configuration(*, work_ms: float = 10.0, **inner: object) -> ServiceConfiguration:
    """Return load -> front -> back; `inner` are settings of the edge to `back`, whose pods compute on one thread."""
    do = Operation(tail_ms=work_ms, distribution="constant")
    ask = Operation(steps=(Step(calls=(Call(target="back:do"),)),))
    return ServiceConfiguration(
        name="tiers",
        demo_version="",
        chart_version="",
        entry="front",
        services={
            "load": Service(kind="workload"),
            "front": Service(protocol="http", operations={"ask": ask}),
            "back": Service(
                operations={"do": do},
                threads=1,
                memory_base_bytes=1000,
                versions={"slow": Version(work_factor=3.0, memory_factor=2.0), "bad": Version(failure_ratio=1.0)},
            ),
        },
        edges=(
            EdgeSettings(source="load", target="front", protocol="http", connection="per_request", latency_ms=0.0),
            EdgeSettings(source="front", target="back", protocol="grpc", latency_ms=1.0, **inner),  # type: ignore[arg-type]
        ),
        flows={"only": Flow(weight=1.0, requests=("ask",))},
    )


def started(config: ServiceConfiguration, rate: float, *, fronts: int = 1, seed: int = 1) -> Simulation:
    """Return a simulation with a pod of each service, slots LOAD, FRONT, BACK, and then more pods of `front`."""
    simulation = Simulation(config, Workload(name="open", arrivals="open", rate_per_s=rate), seed, 0)
    for ordinal, name in enumerate(("load", "front", "back", *["front"] * (fronts - 1))):
        simulation.add_pod(name, ordinal=ordinal, cpu_limit_cores=None, memory_limit_bytes=None)
    for slot in [*range(1, 2 + fronts), LOAD]:
        simulation.set_ready(slot, True)
    return simulation


def replica(simulation: Simulation, process: PodProcess = PodProcess()) -> int:
    """Add a ready pod of `back` and return its slot."""
    ordinal = simulation.slots.count("back") + 10
    slot = simulation.add_pod("back", ordinal=ordinal, cpu_limit_cores=None, memory_limit_bytes=None, process=process)
    simulation.set_ready(slot, True)
    return slot


def served(simulation: Simulation, slot: int, seconds: int) -> int:
    """Return how many requests a pod answers in the next seconds."""
    before = int(simulation.pod_counters().served[slot])
    simulation.run(simulation.now + seconds * SECOND)
    return int(simulation.pod_counters().served[slot]) - before


def latency_ms(simulation: Simulation, seconds: int) -> float:
    """Return the mean latency of users' requests that end in the next seconds."""
    before = [simulation.edge_counts[ENTRY, OK], simulation.edge_seconds[ENTRY].sum(axis=0)[0]]
    simulation.run(simulation.now + seconds * SECOND)
    after = [simulation.edge_counts[ENTRY, OK], simulation.edge_seconds[ENTRY].sum(axis=0)[0]]
    return float(1000 * (after[1] - before[1]) / (after[0] - before[0]))


def test_a_scale_up_helps_callers_that_dial_per_request_at_once_and_sticky_ones_never() -> None:
    per_request = started(configuration(connection="per_request"), rate=95.0)
    sticky = started(configuration(), rate=95.0)
    crowded = [latency_ms(simulation, 60) for simulation in (per_request, sticky)]
    for simulation in (per_request, sticky):
        replica(simulation)
        simulation.run(simulation.now + 30 * SECOND)
    relieved = [latency_ms(simulation, 60) for simulation in (per_request, sticky)]
    assert min(crowded) > 60
    assert relieved[0] < 0.4 * crowded[0]
    assert relieved[1] > 0.5 * crowded[1]


def test_connections_that_age_find_new_replicas_within_their_age() -> None:
    simulation = started(configuration(max_age_seconds=10.0), rate=40.0, fronts=8)
    simulation.run(20 * SECOND)
    fresh = replica(simulation)
    assert served(simulation, fresh, 11) > 0
    shares = [served(simulation, fresh, 11) / (11 * 40) for _ in range(20)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.12)

    forever = started(configuration(), rate=40.0, fronts=8)
    forever.run(20 * SECOND)
    assert served(forever, replica(forever), 60) == 0


def test_ages_differ_by_a_tenth_so_that_pods_dont_dial_together() -> None:
    simulation = started(configuration(work_ms=0.0, max_age_seconds=10.0), rate=800.0, fronts=8)
    simulation.run(SECOND // 10)  # everybody has dialled
    fresh = replica(simulation)
    simulation.set_ready(BACK, False)
    simulation.run(9 * SECOND)
    assert simulation.pod_counters().served[fresh] == 0
    growth = [served(simulation, fresh, 1) for _ in range(3)]
    assert 0 < growth[0] < growth[1] < growth[2]
    assert growth[2] == pytest.approx(800, abs=4 * 28)
    assert simulation.edge_counts[INNER, REFUSED] == 0


@pytest.mark.parametrize("connection", ["per_request", "sticky"])
def test_a_wrong_address_is_refused_at_once(connection: str) -> None:
    simulation = Simulation(
        configuration(connection=connection), Workload(name="open", arrivals="open", rate_per_s=20.0), 1, 0
    )
    for name in ("load", "front", "back"):
        process = PodProcess(unreachable=("back",)) if name == "front" else PodProcess()
        simulation.add_pod(name, ordinal=0, cpu_limit_cores=None, memory_limit_bytes=None, process=process)
    for slot in (BACK, FRONT, LOAD):
        simulation.set_ready(slot, True)
    simulation.set_span_probability(1.0)
    simulation.run(10 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(11 * SECOND)
    counts = simulation.edge_counts[INNER]
    assert counts[REFUSED] == counts[ATTEMPTED] == simulation.edge_counts[ENTRY, ERROR] > 100
    spans = simulation.take_spans()
    mine = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER)]
    assert set((mine["end"] - mine["start"]).tolist()) == {MS}


def test_a_split_sends_its_share_of_calls_to_the_canary() -> None:
    simulation = started(configuration(connection="per_request", work_ms=1.0), rate=100.0)
    replica(simulation)
    canary = replica(simulation, PodProcess(version="slow", canary=True))
    assert served(simulation, canary, 100) == pytest.approx(10_000 / 3, rel=0.06), "without a split it is one of three"
    simulation.set_split("back", 0.1)
    assert served(simulation, canary, 100) == pytest.approx(1000, abs=4 * 30)
    simulation.set_split("back", 0.0)
    assert served(simulation, canary, 100) == 0
    simulation.set_split("back", None)
    assert served(simulation, canary, 100) == pytest.approx(10_000 / 3, rel=0.06)
    simulation.set_split("back", 1.0)
    simulation.stop(canary)
    simulation.run(simulation.now + SECOND)
    before = simulation.edge_counts[INNER].copy()
    simulation.run(simulation.now + 10 * SECOND)
    after = simulation.edge_counts[INNER] - before
    assert after[REFUSED] == after[ATTEMPTED] - after[IN_FLIGHT] > 500, "nobody is left in the chosen group"


def test_open_connections_stay_where_they_are_when_a_split_changes() -> None:
    simulation = started(configuration(), rate=20.0)
    simulation.run(SECOND)
    canary = replica(simulation, PodProcess(canary=True))
    simulation.set_split("back", 1.0)
    assert served(simulation, canary, 20) == 0
    simulation.drain(BACK)
    assert served(simulation, canary, 20) > 300


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.5 of back's connections .* between 0 and 1"):
        started(configuration(), rate=1.0).set_split("back", 1.5)


def test_a_bad_canary_fails_its_share_of_users_requests() -> None:
    simulation = started(configuration(connection="per_request", work_ms=1.0), rate=100.0)
    replica(simulation, PodProcess(version="bad", canary=True))
    simulation.set_split("back", 0.1)
    simulation.run(100 * SECOND)
    counts = simulation.edge_counts[ENTRY]
    share = counts[ERROR] / (counts[OK] + counts[ERROR])
    assert share == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 10_000) ** 0.5)


def test_a_version_works_and_weighs_as_it_says() -> None:
    plain, slow = started(configuration(), rate=5.0), started(configuration(), rate=5.0)
    for simulation, version in ((plain, ""), (slow, "slow")):
        fresh = replica(simulation, PodProcess(version=version))
        simulation.set_ready(BACK, False)
        simulation.run(100 * SECOND)
        counters = simulation.pod_counters()
        expected = 0.03 if version else 0.01
        assert counters.cpu_seconds[fresh] / counters.served[fresh] == pytest.approx(expected, rel=0.01)
        assert counters.memory_bytes[fresh] - 20_000 * counters.in_flight[fresh] == (2000 if version else 1000)


def test_a_pool_bounds_what_is_under_way_and_serves_first_come_first() -> None:
    simulation = started(configuration(work_ms=100.0, pool=2), rate=12.0)
    simulation.set_span_probability(1.0)
    for moment in range(1, 200):
        simulation.run(moment * SECOND // 10)
        assert simulation.in_flight(BACK) <= 2
    simulation.set_rate(0.0)
    simulation.run(200 * SECOND)
    assert simulation.edge_counts[INNER, OK] == simulation.edge_counts[INNER, ATTEMPTED] > 150
    spans = simulation.take_spans()
    mine = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER)]
    assert (np.diff(mine["start"][np.argsort(mine["end"], kind="stable")]) >= 0).all(), "ends in the order of the line"


def test_a_pool_that_exhausts_queues_upstream_of_an_idle_dependency() -> None:
    """The dependency answers late because it is far away, its own CPU is idle; the caller's pool bounds what gets through."""
    config = configuration(work_ms=1.0, pool=2)
    far = EdgeSettings(source="front", target="back", protocol="grpc", latency_ms=50.0, pool=2)
    bounded = started(msgspec.structs.replace(config, edges=(config.edges[0], far)), rate=30.0)
    bounded.run(60 * SECOND)
    counters = bounded.pod_counters()
    assert counters.cpu_seconds[BACK] / 60 < 0.03
    assert counters.in_flight[BACK] <= 2
    assert counters.in_flight[FRONT] > 400, "30 come a second, 2 / 101 ms get through"
    assert bounded.edge_counts[INNER, OK] == pytest.approx(60 * 2 / 0.101, rel=0.02)


def test_patience_in_the_line_ends_as_a_timed_out_call_that_never_left() -> None:
    simulation = started(configuration(work_ms=100.0, pool=1, pool_timeout_ms=250.0), rate=30.0)
    simulation.set_span_probability(1.0)
    simulation.run(60 * SECOND)
    simulation.set_rate(0.0)
    simulation.run(70 * SECOND)
    counts = simulation.edge_counts[INNER]
    assert counts[TIMED_OUT] == counts[LINE_TIMED_OUT] > 500
    assert counts[OK] + counts[TIMED_OUT] == counts[ATTEMPTED]
    assert simulation.pod_counters().served[BACK] == counts[OK]
    spans = simulation.take_spans()
    gone = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER) & (spans["outcome"] == TIMED_OUT)]
    assert set((gone["end"] - gone["start"]).tolist()) == {250 * MS}
    assert set(gone["status"]) == {4}


def test_a_callers_deadline_counts_from_before_the_line() -> None:
    simulation = started(configuration(work_ms=100.0, pool=1, pool_timeout_ms=1000.0, timeout_ms=150.0), rate=30.0)
    simulation.set_span_probability(1.0)
    simulation.run(30 * SECOND)
    counts = simulation.edge_counts[INNER]
    assert counts[TIMED_OUT] > 500, "they get their place too late, and give it back for one who does as well"
    spans = simulation.take_spans()
    late = spans[(spans["kind"] == CLIENT) & (spans["edge"] == INNER) & (spans["outcome"] == TIMED_OUT)]
    assert set((late["end"] - late["start"]).tolist()) == {150 * MS}
