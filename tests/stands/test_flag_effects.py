"""Each of the demo's feature flags does to the application what it does to the demo, and nothing once it is off."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.settings import Flag, FlagEffect, ServiceConfiguration, Workload
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED, ERROR, OK, PRODUCER, REFUSED, SERVER
from tests.stands.queues import BOOKS, SHOP, queues, start

MINUTE = 60 * SECOND


@functools.cache
def review_store() -> ServiceConfiguration:
    return load_services("review-store")[0]


def demo(users: int = 100, mix: dict[str, float] | None = None, seed: int = 1) -> Simulation:
    """Return the whole demo with one warm and ready pod of each service, and its users."""
    config = review_store()
    only = dict.fromkeys(config.flows, 0.0) | mix if mix else {}
    simulation = Simulation(config, Workload(name="test", users=users, mix=only), seed, 0)
    for name, service in config.services.items():
        simulation.add_pod(
            name,
            ordinal=0,
            cpu_limit_cores=service.cpu_limit_cores,
            memory_limit_bytes=service.memory_limit_bytes,
        )
    for slot in range(len(config.services)):
        simulation.set_ready(slot, True)
        simulation.warm_up(slot)
    return simulation


def slot(simulation: Simulation, service: str) -> int:
    return list(simulation.slots).index(service)


def counts(simulation: Simulation, source: str, target: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    ends = [(edge[0], edge[1]) for edge in simulation.names.edges]
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = simulation.edge_counts[ends.index((source, target))].copy()
    return found


def answered(simulation: Simulation, service: str, operation: str) -> tuple[int, int]:
    """Return how many requests of an operation were answered well, and with an error."""
    row = simulation.names.operations.index((service, operation))
    place = slot(simulation, service)
    (found,) = [
        simulation.span_buckets[number].sum(axis=-1)
        for number, own in enumerate(simulation.span_rows)
        if (own.slot, own.kind, own.operation) == (place, SERVER, row)
    ]
    return int(found[0]), int(found[1])


CHECKOUT = ("frontend", "POST /api/checkout")
BUYING = {"checkout": 1.0}


def test_every_effect_of_the_packaged_flags_is_on_something_that_the_demo_has() -> None:
    config = review_store()
    calls = {
        (f"{service}:{name}", call.target)
        for service, settings in config.services.items()
        for name, operation in settings.operations.items()
        for step in operation.steps
        for call in step.calls
    }
    operations = [f"{service}:{name}" for service, own in config.services.items() for name in own.operations]
    for name, flag in config.flags.items():
        assert flag.default == "off"
        for effect in flag.effects:
            assert not effect.operation or effect.operation in operations, name
            assert not effect.call or (effect.operation, effect.call) in calls, name
            assert not effect.flow or effect.flow in config.flows, name
            assert not effect.unready or effect.unready in config.services, name
    assert len(config.flags) == 15


def test_payment_failure_at_one_half_fails_half_of_the_orders() -> None:
    simulation = demo(mix=BUYING)
    simulation.run(3 * MINUTE)
    assert answered(simulation, *CHECKOUT)[1] == 0
    simulation.set_flags({"paymentFailure": 0.5})
    before = answered(simulation, *CHECKOUT)
    simulation.run(13 * MINUTE)
    good, bad = (new - old for new, old in zip(answered(simulation, *CHECKOUT), before, strict=True))
    assert bad / (good + bad) == pytest.approx(0.5, abs=4 * 0.5 / (good + bad) ** 0.5)
    assert answered(simulation, "payment", "Charge")[1] >= bad
    simulation.set_flags({})
    simulation.run(14 * MINUTE)
    before = answered(simulation, *CHECKOUT)
    simulation.run(16 * MINUTE)
    assert answered(simulation, *CHECKOUT)[1] == before[1]


def test_an_unreachable_payment_fails_every_order_and_payment_never_hears_of_it() -> None:
    simulation = demo(users=5, mix=BUYING)
    simulation.set_flags({"paymentUnreachable": 1.0})
    assert simulation.run(5 * MINUTE)
    dialled = counts(simulation, "checkout", "payment")[REFUSED]
    assert dialled > 100
    assert simulation.pod_counters().served[slot(simulation, "payment")] == 0
    assert answered(simulation, *CHECKOUT)[0] == 0
    base = simulation.config.services["checkout"].memory_base_bytes
    held = simulation.pod_counters().memory_bytes[slot(simulation, "checkout")]
    assert held == pytest.approx(base + dialled * 30_000, abs=100_000), "each order leaves a client behind"


def test_the_catalogue_fails_one_product_in_ten_and_recommendations_multiply_that() -> None:
    simulation = demo(users=200)
    simulation.set_flags({"productCatalogFailure": 1.0})
    simulation.run(10 * MINUTE)
    good, bad = answered(simulation, "product-catalog", "GetProduct")
    assert bad / (good + bad) == pytest.approx(0.1, abs=4 * 0.3 / (good + bad) ** 0.5)
    assert answered(simulation, "product-catalog", "ListProducts")[1] == 0
    good, bad = answered(simulation, "frontend", "GET /api/recommendations")
    assert bad / (good + bad) == pytest.approx(1 - 0.9**4, abs=0.06)


def test_busy_threads_start_and_stop_with_a_request_and_throttle_their_pod() -> None:
    simulation = demo()
    ad = slot(simulation, "ad")
    simulation.run(3 * MINUTE)
    before = simulation.pod_counters()
    simulation.set_flags({"adHighCpu": 1.0})
    simulation.run(5 * MINUTE)
    during = simulation.pod_counters()
    limit = simulation.config.services["ad"].cpu_limit_cores
    assert limit is not None
    assert (during.cpu_seconds - before.cpu_seconds)[ad] == pytest.approx(limit * 120, rel=0.1), (
        "usage sits at the limit"
    )
    assert (during.cfs_throttled_periods - before.cfs_throttled_periods)[ad] > 1000
    simulation.set_flags({})
    simulation.run(6 * MINUTE)
    calm = simulation.pod_counters()
    simulation.run(8 * MINUTE)
    assert (simulation.pod_counters().cpu_seconds - calm.cpu_seconds)[ad] < 0.1 * limit * 120


def test_without_a_request_busy_threads_neither_start_nor_stop() -> None:
    simulation = demo(mix={"index": 1.0})
    simulation.set_flags({"adHighCpu": 1.0})
    simulation.run(3 * MINUTE)
    assert simulation.pod_counters().cpu_seconds[slot(simulation, "ad")] == 0.0


def test_one_ad_in_ten_fails_and_its_page_with_it() -> None:
    simulation = demo()
    simulation.set_flags({"adFailure": 1.0})
    simulation.run(10 * MINUTE)
    good, bad = answered(simulation, "ad", "GetAds")
    assert bad / (good + bad) == pytest.approx(0.1, abs=0.03)
    assert answered(simulation, "frontend", "GET /api/data")[1] == bad


def test_collecting_garbage_by_hand_takes_seconds() -> None:
    seconds = {}
    for value in (0.0, 1.0):
        simulation = demo(users=3)
        simulation.set_flags({"adManualGc": value})
        simulation.run(20 * MINUTE)
        edge = [(edge[0], edge[1]) for edge in simulation.names.edges].index(("frontend", "ad"))
        seconds[value] = simulation.edge_seconds[edge, 0, 0] / simulation.edge_counts[edge, OK]
    assert seconds[0.0] < 0.1
    assert 4 < seconds[1.0] < 20, "half a second of CPU time at a tenth of a core"


def test_cart_failure_slows_orders_down_one_after_the_other_but_they_succeed() -> None:
    simulation = demo(users=20, mix=BUYING)
    simulation.set_flags({"cartFailure": 1.0})
    simulation.run(10 * MINUTE)
    emptied = counts(simulation, "checkout", "cart")[ERROR]
    assert emptied == pytest.approx(10 * 60 / 5, abs=2), "one at a time is let through every five seconds"
    orders, failed = answered(simulation, *CHECKOUT)
    assert failed == 0
    assert 0 < orders <= emptied


def test_recommendations_fail_half_of_the_time() -> None:
    simulation = demo(users=200)
    simulation.set_flags({"recommendationCacheFailure": 1.0})
    simulation.run(10 * MINUTE)
    calls = counts(simulation, "frontend", "recommendation")
    assert calls[ERROR] / calls[[OK, ERROR]].sum() == pytest.approx(0.5, abs=0.08)
    page = answered(simulation, "frontend", "GET /api/recommendations")
    assert page[1] == calls[ERROR]


def test_email_leaks_until_it_is_killed() -> None:
    simulation = demo(mix=BUYING)
    email = slot(simulation, "email")
    simulation.set_flags({"emailMemoryLeak": 100.0})
    assert not simulation.run(60 * MINUTE)
    assert simulation.take_exits() == [(simulation.now, email)]
    settings = simulation.config.services["email"]
    assert settings.memory_limit_bytes is not None
    mails = (settings.memory_limit_bytes - settings.memory_base_bytes) / (100 * 2500)
    assert simulation.pod_counters().served[email] == pytest.approx(mails, rel=0.02)


def test_queue_problems_flood_both_consumers_and_slow_down_one() -> None:
    simulation = demo(users=10)
    simulation.run(3 * MINUTE)
    simulation.set_flags({"kafkaQueueProblems": 100.0})
    before, orders = counts(simulation, "checkout", "kafka"), answered(simulation, *CHECKOUT)[0]
    simulation.run(13 * MINUTE)
    orders = answered(simulation, *CHECKOUT)[0] - orders
    published = (counts(simulation, "checkout", "kafka") - before)[ATTEMPTED]
    assert published == pytest.approx(101 * orders, abs=101)
    lag = {group.group: group.lag for group in simulation.groups()}
    assert lag["fraud-detection"] > 1000
    assert lag["accounting"] < 0.1 * lag["fraud-detection"]
    fraud = slot(simulation, "fraud-detection")
    served = simulation.pod_counters().served[fraud]
    simulation.run(14 * MINUTE)
    assert simulation.pod_counters().served[fraud] - served == pytest.approx(60, abs=2), "a second each"
    spans = [simulation.span_buckets[row].sum() for row, own in enumerate(simulation.span_rows) if own.kind == PRODUCER]
    assert sum(spans) < 2 * (orders + 60), "the demo's SDK doesn't see the copies"


def test_the_flood_repeats_the_home_page_and_an_idle_flood_only_waits() -> None:
    idle, flooding = demo(users=50), demo(users=50)
    flooding.set_flags({"loadGeneratorFloodHomepage": 100.0})
    for simulation in (idle, flooding):
        simulation.run(10 * MINUTE)
    flows = {name: row for row, name in enumerate(idle.config.flows)}
    tasks = idle.load_counters().tasks_finished
    assert tasks[flows["flood_home"]] == pytest.approx(5 / 32 * tasks.sum(), rel=0.2)
    quiet, loud = (sum(answered(run, "frontend", "GET /")) for run in (idle, flooding))
    assert quiet == pytest.approx(tasks[flows["index"]], abs=1)
    floods = flooding.load_counters().tasks_finished[flows["flood_home"]]
    assert loud > 95 * floods > 1000


def test_the_model_s_rate_limit_spoils_half_of_the_questions() -> None:
    simulation = demo(users=100, mix={"ask_product_ai_assistant": 1.0})
    simulation.set_flags({"llmRateLimitError": 1.0})
    simulation.run(5 * MINUTE)
    good, bad = answered(simulation, "product-reviews", "AskProductAIAssistant")
    assert bad / (good + bad) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("flag", ["imageSlowLoad", "llmInaccurateResponse", "failedReadinessProbe"])
def test_flags_that_http_users_can_t_feel_change_nothing_here(flag: str) -> None:
    plain, flagged = demo(), demo()
    flagged.set_flags({flag: 1.0})
    for simulation in (plain, flagged):
        simulation.run(2 * MINUTE)
    assert (plain.edge_buckets == flagged.edge_buckets).all()


def test_a_flag_shifts_no_draw_of_requests_that_it_doesn_t_touch() -> None:
    runs = [demo(users=20), demo(users=20)]
    runs[1].set_flags({"adFailure": 1.0})
    for simulation in runs:
        simulation.set_span_probability(1.0, 1.0)
        simulation.run(MINUTE)
    spans = [simulation.take_spans() for simulation in runs]
    ids = [
        dict(zip(found["span_id"].tolist(), (found["end"] - found["start"]).tolist(), strict=True)) for found in spans
    ]
    common = sorted(ids[0].keys() & ids[1].keys())
    assert len(common) > 0.95 * len(ids[0])


def test_flags_add_up_on_one_operation_and_unknown_ones_are_refused() -> None:
    flags = {
        "half": Flag(
            variants={"on": 1, "off": 0}, effects=(FlagEffect(operation="shop:POST /buy", failure_ratio=0.5),)
        ),
        "third": Flag(
            variants={"on": 1, "off": 0}, effects=(FlagEffect(operation="shop:POST /buy", failure_ratio=1 / 3),)
        ),
        "nothing": Flag(
            variants={"on": 1, "off": 0}, effects=(FlagEffect(operation="nobody:home", failure_ratio=1.0),)
        ),
    }
    simulation = start(queues(flags=flags), rate=50.0)
    simulation.set_flags({"half": 1.0, "third": 1.0, "nothing": 1.0})
    simulation.run(2 * MINUTE)
    shop = counts(simulation, "load", "shop")
    assert shop[ERROR] / shop[ATTEMPTED] == pytest.approx(2 / 3, abs=0.03)
    assert simulation.pod_counters().served[SHOP] == shop[[OK, ERROR]].sum()
    with pytest.raises(KeyError, match="no such flags"):
        simulation.set_flags({"quarter": 1.0})


def test_a_delay_holds_a_request_up_without_the_cpu() -> None:
    flags = {
        "slow": Flag(variants={"on": 1, "off": 0}, effects=(FlagEffect(operation="books:enter", delay_ms=1000.0),))
    }
    simulation = start(queues(flags=flags), rate=5.0)
    simulation.set_flags({"slow": 1.0})
    simulation.run(2 * MINUTE)
    pods = simulation.pod_counters()
    assert pods.served[BOOKS] == pytest.approx(120 / 1.01, abs=2)
    assert pods.cpu_seconds[BOOKS] == pytest.approx(0.01 * pods.served[BOOKS], abs=0.02)
