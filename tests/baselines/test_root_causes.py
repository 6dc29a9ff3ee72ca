"""What a ranking is scored against: the service of a fault, either end of a call, and nothing where nobody noticed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from otel_control_gym.baselines.fault_windows import Fault
from otel_control_gym.baselines.root_cause_cases import RootCauseCase
from otel_control_gym.baselines.root_cause_methods import Ranking
from otel_control_gym.baselines.root_causes import score_case

SERVICES = ("proxy", "frontend", "cart", "redis")
EDGES = (("proxy", "frontend"), ("frontend", "cart"), ("cart", "redis"))


def case(kind: str = "service") -> RootCauseCase:
    on_call = kind == "edge"
    fault = Fault(
        action_id="a",
        fault_type="network_delay" if on_call else "cpu_pressure",
        kind=kind,
        target="frontend->cart" if on_call else "cart",
        ends=("frontend", "cart") if on_call else ("cart",),
        named_service="cart",
        intensity="visible",
        onset=300.0,
        end=400.0,
        affected=("frontend->cart", "frontend", "proxy") if on_call else ("cart", "frontend", "proxy"),
    )
    return RootCauseCase(
        run_id="R",
        family_id="f",
        configuration="shop",
        fault=fault,
        question=None,
        services=SERVICES,
        edges=EDGES,
        entry="proxy",
    )


def ranking(*scores: float) -> Ranking:
    return Ranking(services=np.array(scores))


def test_either_end_of_a_call_is_right_and_the_called_end_is_told_apart() -> None:
    caller, callee = score_case(case("edge"), ranking(0, 2, 1, 0)), score_case(case("edge"), ranking(0, 1, 2, 0))
    assert (caller.accuracies[0], callee.accuracies[0]) == (1.0, 1.0)
    assert (caller.called_end, callee.called_end) == (0.0, 1.0)
    assert score_case(case(), ranking(0, 2, 1, 0)).accuracies[:2] == (0.0, 1.0)
    assert score_case(case(), ranking(0, 2, 1, 0)).called_end is None


def test_chance_is_twice_as_high_where_two_answers_are_right() -> None:
    assert score_case(case(), ranking(0, 0, 0, 0)).accuracies[0] == pytest.approx(1 / 4)
    assert score_case(case("edge"), ranking(0, 0, 0, 0)).accuracies[0] == pytest.approx(2 / 4)


def test_a_fault_that_nobody_noticed_is_a_failure() -> None:
    assert score_case(case(), None).accuracies == (0.0,) * 5


def test_the_call_itself_is_scored_where_a_method_ranks_calls() -> None:
    with_calls = msgspec.structs.replace(ranking(0, 1, 2, 0), edges=np.array([0.0, 3.0, 1.0]))
    assert score_case(case("edge"), with_calls).edge == 1.0
    assert score_case(case(), with_calls).edge is None
    assert score_case(case("edge"), ranking(0, 1, 2, 0)).edge is None


def test_hops_count_from_the_service_that_is_ranked_first() -> None:
    assert score_case(case(), ranking(3, 0, 1, 0)).hops == 2
    assert score_case(case(), ranking(0, 0, 0, 0)).hops is None  # it named none
