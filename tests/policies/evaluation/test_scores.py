"""Scores are paired, as sure as the families allow, and refuse a share of a gap that may be noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from otel_control_gym.policies.evaluation.judgement import EpisodeResult, Judgement
from otel_control_gym.policies.evaluation.scores import Scores, holm, restricted_mean, scores_of

SCENARIOS, SEEDS = ("calm", "fault", "surge"), range(1, 7)


def result(policy: str, scenario: str, seed: int, value: float, **judgement: Any) -> EpisodeResult:
    found: dict[str, Any] = {
        "total_return": value,
        "raw_return": value,
        "breached": scenario != "calm",
        "recovered": True,
        "time_to_recovery_s": 60.0,
        "violation_minutes": 1.0,
        "cost": 0.1,
        "stability": 0.0,
        "unsafe_actions": 0,
        "actions": 0,
        "emergency_s": None,
    }
    return EpisodeResult(
        evaluation="tiny",
        policy=policy,
        policy_version="1",
        policy_information="public",
        scenario=scenario,
        family_id=f"{scenario}-{seed}",
        service_config="small-core",
        seed=seed,
        steps=16,
        done_reason="horizon",
        judgement=Judgement(**(found | judgement)),
        deeds=(),
    )


def wobble(scenario: str, seed: int) -> float:
    """What chance gives a family: the same for every policy."""
    return 3.0 * SCENARIOS.index(scenario) + float(np.sin(7.0 * seed + SCENARIOS.index(scenario)))


def scored(**gain: Callable[[str, int], float]) -> Scores:
    """Scores of policies that earn so much more than chance gives, in each family."""
    return scores_of(
        [
            result(policy, scenario, seed, wobble(scenario, seed) + more(scenario, seed))
            for scenario in SCENARIOS
            for seed in SEEDS
            for policy, more in gain.items()
        ]
    )


def nothing(scenario: str, seed: int) -> float:
    return 0.0


def test_what_every_family_shares_cancels_in_a_paired_difference() -> None:
    scores = scored(noop=nothing, better=lambda *_: 0.5)
    better = scores.policies[1]
    assert better.over_noop is not None
    assert better.over_noop.low == pytest.approx(0.5)
    assert better.over_noop.high == pytest.approx(0.5)
    assert better.mean_return.high - better.mean_return.low > 2
    assert scores.pairs[0].p_value < 0.001


def test_a_difference_by_chance_is_found_to_be_one() -> None:
    scores = scored(noop=nothing, other=lambda scenario, seed: np.cos(9.1 * seed + SCENARIOS.index(scenario)))
    assert scores.pairs[0].p_value > 0.05
    assert scores.pairs[0].detectable > abs(scores.pairs[0].difference.value)


def test_the_score_is_the_share_of_the_oracles_lead_where_it_leads() -> None:
    def lead(scenario: str, seed: int) -> float:
        if scenario == "calm":
            return 0.1 if seed % 2 == 0 else -0.1  # a gap that is noise
        return 4.0

    scores = scored(noop=nothing, half=lambda scenario, _: 0.0 if scenario == "calm" else 2.0, oracle=lead)
    by_scenario = {(row.scenario, row.policy): row.score for row in scores.scenarios}
    assert by_scenario["calm", "half"] is None
    half = by_scenario["fault", "half"]
    assert half is not None
    assert half.value == pytest.approx(0.5)
    overall = scores.policies[1].score
    assert overall is not None
    assert overall.value == pytest.approx(0.5)
    assert overall.n == 2


def test_without_an_oracle_there_is_no_score() -> None:
    assert all(row.score is None for row in scored(noop=nothing, other=nothing).scenarios)


def test_times_are_restricted_means_of_the_kaplan_meier_estimate() -> None:
    # Kaplan and Meier by hand: at 10 one of four goes, at 20 one is censored, at 30 one of two goes, the last is seen until 40.
    times, observed = np.array([10.0, 20.0, 30.0, 40.0]), np.array([True, False, True, False])
    by_hand = 10 * 1.0 + 20 * 0.75 + 10 * 0.375
    assert restricted_mean(times, observed, 40.0) == pytest.approx(by_hand)
    assert restricted_mean(times, np.array([True] * 4), 40.0) == pytest.approx(times.mean())


def test_a_policy_that_never_recovers_is_not_better_than_one_that_does_late() -> None:
    results = [
        result(policy, "fault", seed, 0.0, recovered=recovered, time_to_recovery_s=seconds)
        for seed in SEEDS
        for policy, recovered, seconds in (("late", True, 300.0), ("never", False, 420.0))
    ]
    late, never = scores_of(results).policies
    assert late.recovery is not None
    assert never.recovery is not None
    assert (late.recovery.value, never.recovery.value) == (300, 420)
    assert (late.recovered, never.recovered) == (6, 0)


def test_families_without_any_breach_say_nothing_of_recovery() -> None:
    results = [result("noop", "calm", seed, 0.0) for seed in SEEDS]
    assert scores_of(results).policies[0].recovery is None


def test_holm_corrects_in_steps() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_the_same_results_give_the_same_scores() -> None:
    policies: dict[str, Any] = {"noop": nothing, "other": lambda _, seed: 0.1 * seed}
    assert scored(**policies) == scored(**policies)
