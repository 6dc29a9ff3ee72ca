"""Rankers name the service that a textbook fault sits in, whether it shows there, beside it, or in the call to it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from otel_control_gym.baselines.entity_series import FEATURES
from otel_control_gym.baselines.root_cause_cases import Question
from otel_control_gym.baselines.root_cause_methods import METHODS, movements
from otel_control_gym.engine.events import Finding

SERVICES = ("proxy", "frontend", "cart", "redis", "ad")
EDGES = (("load", "proxy"), ("proxy", "frontend"), ("frontend", "cart"), ("cart", "redis"), ("frontend", "ad"))
LATENCY, ERRORS, CPU = (FEATURES.index(name) for name in ("latency_mean_ms", "error_ratio", "cpu_usage_cores"))
WAVE = np.sin(np.arange(42))  # what users do; all services feel it


def question(**changes: float) -> Question:
    """Return five minutes of calm and two of a fault; `service__feature` or `source_target__feature` says by how much it rises."""
    values = np.zeros((42, len(SERVICES) + len(EDGES), len(FEATURES)))
    values[:, :, FEATURES.index("request_rate")] = 20 + WAVE[:, np.newaxis]
    values[:, :, LATENCY] = 30 + WAVE[:, np.newaxis]
    values[:, : len(SERVICES), CPU] = 0.2 + 0.001 * WAVE[:, np.newaxis]
    for name, rise in changes.items():
        where, _, feature = name.partition("__")
        place = (
            len(SERVICES) + EDGES.index((where.partition("_")[0], where.partition("_")[2]))
            if "_" in where
            else SERVICES.index(where)
        )
        values[30:, place, FEATURES.index(feature)] += rise
    return Question(services=SERVICES, edges=EDGES, entry="proxy", before=values[:30], after=values[30:], findings=())


SLOW_CART = {
    "cart__latency_mean_ms": 300.0,
    "cart__cpu_usage_cores": 0.5,
    "frontend_cart__latency_mean_ms": 300.0,
    "frontend__latency_mean_ms": 150.0,
    "proxy_frontend__latency_mean_ms": 150.0,
    "proxy__latency_mean_ms": 150.0,
    "load_proxy__latency_mean_ms": 150.0,
}
FAILING_CALL = {
    "cart_redis__error_ratio": 0.9,
    "cart__error_ratio": 0.9,
    "frontend_cart__error_ratio": 0.9,
    "frontend__error_ratio": 0.4,
    "proxy_frontend__error_ratio": 0.4,
    "proxy__error_ratio": 0.4,
}


def first(method: str, asked: Question) -> str:
    return SERVICES[int(np.argmax(METHODS[method](asked).services))]


@pytest.mark.parametrize("method", ["robust-score", "edge-aware"])
def test_a_service_that_is_slow_and_busy_explains_its_callers(method: str) -> None:
    assert first(method, question(**SLOW_CART)) == "cart"


def test_a_walk_from_the_users_ends_where_the_slowness_does_not_go_on() -> None:
    """Callers move with it, too: what has no callee that does keeps the walk."""
    ranking = METHODS["random-walk"](question(**SLOW_CART))
    assert first("random-walk", question(**SLOW_CART)) in ("cart", "frontend")
    assert ranking.services[SERVICES.index("ad")] < ranking.services[SERVICES.index("cart")]


def test_a_call_that_fails_while_the_callee_sees_nothing_is_blamed_itself() -> None:
    ranking = METHODS["edge-aware"](question(**FAILING_CALL))
    assert ranking.edges is not None
    assert EDGES[int(np.argmax(ranking.edges))] == ("cart", "redis")
    assert first("edge-aware", question(**FAILING_CALL)) == "redis"
    assert first("robust-score", question(**FAILING_CALL)) != "redis"  # of which nothing moved


def test_the_path_leads_from_the_entry_to_the_suspect() -> None:
    assert METHODS["edge-aware"](question(**SLOW_CART)).path == (("proxy", "frontend"), ("frontend", "cart"))


def test_the_rules_look_at_failures_alone() -> None:
    asked = question(**FAILING_CALL)
    assert first("deepest-error", asked) == "cart"
    assert first("error-rise", asked) == "cart"
    assert not METHODS["deepest-error"](question(**SLOW_CART)).services.any()


def test_a_cause_that_coroot_suggests_comes_before_services_that_it_names() -> None:
    finding = Finding(
        time=0,
        key="k",
        source="incident",
        services=("proxy", "frontend"),
        symptom="latency",
        severity="critical",
        confidence=0.5,
        text="",
        suggested_cause="cart",
    )
    ranking = METHODS["coroot-findings"](msgspec.structs.replace(question(), findings=(finding,)))
    assert SERVICES[int(np.argmax(ranking.services))] == "cart"
    assert ranking.services[0] == ranking.services[1] > ranking.services[SERVICES.index("ad")] == 0


@pytest.mark.parametrize("method", METHODS)
def test_silence_and_gaps_are_no_reason_to_fail(method: str) -> None:
    asked = question(**SLOW_CART)
    blind = msgspec.structs.replace(asked, before=np.full_like(asked.before, np.nan))
    cut = msgspec.structs.replace(asked, after=asked.after[:0])
    for each in (question(), blind, cut):
        assert np.isfinite(METHODS[method](each).services).all()


def test_what_moved_less_than_an_effect_moved_less_than_three_units() -> None:
    moved = movements(question(cart__error_ratio=0.01))
    assert moved[SERVICES.index("cart"), ERRORS] == pytest.approx(3.0)
