"""Importance-weighted estimates are right on a bandit whose truth is known; where the log says too little they say nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from otel_control_gym.baselines.branched_decisions import Alternative, BranchedDecision
from otel_control_gym.baselines.off_policy import (
    ESTIMATORS,
    LEAST_EFFECTIVE,
    Estimator,
    LoggedDecisions,
    effective_sample_size,
    estimate,
)
from otel_control_gym.baselines.off_policy_checks import check_against_branches
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

Float = npt.NDArray[np.float64]

WORTH = np.array([0.2, 0.5, 0.9])  #: mean reward of each alternative
LOGGED = np.array([0.5, 0.3, 0.2])
ASKED = np.array([0.1, 0.2, 0.7])


def bandit(seed: int, decisions: int) -> LoggedDecisions:
    """Return a log of `decisions` draws; rewards are 0 or 1."""
    draws = derive_seed(seed, "bandit")
    taken = np.array(
        [int(np.searchsorted(np.cumsum(LOGGED), draw_uniform(draws, 0, number))) for number in range(decisions)]
    )
    rewards = np.array([float(draw_uniform(draws, 1, number) < WORTH[one]) for number, one in enumerate(taken)])
    return LoggedDecisions(
        families=tuple(f"{number:04}" for number in range(decisions)),
        taken=taken,
        probabilities=np.tile(LOGGED, (decisions, 1)),
        rewards=rewards,
    )


def of(logged: LoggedDecisions, estimator: Estimator) -> tuple[float, float, float]:
    decisions = len(logged.taken)
    wrong = np.tile(WORTH[::-1], (decisions, 1))  # a model that has it the wrong way round
    found = estimate(
        logged, np.tile(ASKED, (decisions, 1)), estimator, foretold=wrong if estimator == "dr" else None
    ).value
    assert found is not None
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    return found.value, found.low, found.high


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_over_many_logs_the_mean_error_is_within_chance_and_intervals_hold_the_truth(estimator: Estimator) -> None:
    truth = float(ASKED @ WORTH)
    found = np.array([of(bandit(seed, 200), estimator) for seed in range(60)])
    error = found[:, 0].std(ddof=1) / np.sqrt(len(found))
    assert abs(found[:, 0].mean() - truth) < 3 * error + 0.005  # snips is biased by O(1/n)
    covered = ((found[:, 1] <= truth) & (truth <= found[:, 2])).mean()
    assert covered >= 0.85  # of 95 %: a binomial of 60 is below that once in a thousand times


def test_a_right_model_takes_the_chance_out_of_a_doubly_robust_estimate() -> None:
    logs = [bandit(seed, 200) for seed in range(40)]
    asked = np.tile(ASKED, (200, 1))
    right = [estimate(logged, asked, "dr", foretold=np.tile(WORTH, (200, 1))).value for logged in logs]
    plain = [estimate(logged, asked, "ips").value for logged in logs]

    def spread(values: list[object]) -> float:
        return float(np.std([value.value for value in values]))  # type: ignore[attr-defined]

    assert spread(list(right)) < spread(list(plain))


def test_below_an_effective_sample_size_of_thirty_nothing_is_said() -> None:
    few = bandit(1, 40)
    found = estimate(few, np.tile([0.0, 0.0, 1.0], (40, 1)), "snips")
    assert found.effective < LEAST_EFFECTIVE
    assert found.value is None
    assert estimate(bandit(1, 400), np.tile(ASKED, (400, 1)), "snips").value is not None


@pytest.mark.parametrize(("weights", "size"), [([1.0] * 7, 7.0), ([3.0, 0.0, 0.0], 1.0), ([0.0, 0.0], 0.0)])
def test_the_effective_sample_size_counts_equal_weights_and_ignores_zeros(weights: list[float], size: float) -> None:
    assert effective_sample_size(np.array(weights)) == pytest.approx(size)


def test_what_the_logged_policy_never_did_cant_be_asked_about() -> None:
    logged = LoggedDecisions(
        families=("a",), taken=np.array([0]), probabilities=np.array([[1.0, 0.0]]), rewards=np.array([1.0])
    )
    with pytest.raises(ValueError, match="never did"):
        estimate(logged, np.array([[0.5, 0.5]]), "ips")


def branched(family: int, worth: Float) -> BranchedDecision:
    """Return a decision of three alternatives in two futures, which differ by chance."""
    chance = np.array([[0.1], [-0.1]]) * draw_uniform(3, family)
    return BranchedDecision(
        run_id=f"run-{family}",
        family_id=f"{family:04}",
        stratum="randomised",
        service_config="small-core",
        decision_step=3,
        action_id=f"action-{family}",
        time_us=0,
        alternatives=tuple(
            Alternative(action={"type": kind}, is_logged=kind == "noop", probability=1 / 3)
            for kind in ("noop", "scale", "restart")
        ),
        rewards=worth[:, np.newaxis, np.newaxis] + np.broadcast_to(chance, (3, 2, 3)),
    )


def test_logs_drawn_from_branches_are_estimated_without_bias() -> None:
    decisions = [branched(family, WORTH + 0.3 * draw_uniform(4, family)) for family in range(30)]
    guesses = [np.array([0.0, 0.1, 0.3])] * len(decisions)
    checks = check_against_branches(decisions, guesses, at=2, logs=100)
    assert [check.estimator for check in checks] == list(ESTIMATORS)
    for check in checks:
        assert check.truth == pytest.approx(np.mean([decision.worth[2, 2] for decision in decisions]))
        assert abs(check.bias) < 3 * check.bias_error
    by_name = {check.estimator: check.spread for check in checks}
    assert by_name["dr"] < by_name["ips"]
