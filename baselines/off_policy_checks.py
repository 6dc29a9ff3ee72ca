"""Off-policy estimators, checked: do they find on logs what branches know?

In: branched decisions, and the effects that a model foretells. Out: for each estimator its mean error over many logs. A log is drawn
from the branches: at every decision, in every future, one alternative by chance, all equally likely; what came of it is in the
branches, and so is what the policy asked about (the model's choice) would have earned. An estimator without bias errs by nothing in the
mean over logs.

Pure. Upstream: `off_policy`. Downstream: `effect_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.branched_decisions import BranchedDecision
from otel_control_gym.baselines.off_policy import (
    ESTIMATORS,
    Estimator,
    LoggedDecisions,
    effective_sample_size,
    terms,
    weights_of,
)
from otel_control_gym.engine.randomness import derive_seed, draw_bits

__all__ = ("EstimatorCheck", "check_against_branches", "others_mean")

Float = npt.NDArray[np.float64]


class EstimatorCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How far an estimator is from the truth of branches."""

    estimator: Estimator
    effective: float  #: effective sample size, mean over logs
    truth: float  #: mean reward of the policy that is asked about
    bias: float  #: mean error over logs
    bias_error: float  #: standard error of that mean
    spread: float  #: standard deviation of an estimate from one log


def check_against_branches(
    decisions: Sequence[BranchedDecision], foretold: Sequence[Float], *, at: int, logs: int
) -> list[EstimatorCheck]:
    """Return how estimators do on logs drawn from branches.

    Args:
        decisions: D decisions.
        foretold: [D] of [A] foretold effects; the policy that is asked about takes the largest.
        at: position of the horizon.
        logs: how many are drawn.
    """
    size = max(len(decision.alternatives) for decision in decisions)
    rows = [(number, future) for number, one in enumerate(decisions) for future in range(one.rewards.shape[1])]
    counts = np.array([len(decisions[number].alternatives) for number, _ in rows])
    present = np.arange(size) < counts[:, np.newaxis]
    choice = np.array([int(np.argmax(foretold[number])) for number, _ in rows])
    earned = np.array([_padded(decisions[number].rewards[:, future, at], size) for number, future in rows])
    guesses = np.array([_padded(foretold[number], size) for number, _ in rows])
    asked = (np.arange(size) == choice[:, np.newaxis]).astype(np.float64)
    families = tuple(decisions[number].family_id for number, _ in rows)
    truth = float((asked * earned).sum(axis=1).mean())
    found: dict[Estimator, list[float]] = {estimator: [] for estimator in ESTIMATORS}
    effective: list[float] = []
    for log in range(logs):
        seed = derive_seed(log, "off-policy/log")
        taken = np.array([draw_bits(seed, row) % int(count) for row, count in enumerate(counts)], np.int64)
        logged = LoggedDecisions(
            families=families,
            taken=taken,
            probabilities=present / counts[:, np.newaxis],
            rewards=earned[np.arange(len(rows)), taken],
        )
        weights = weights_of(logged, asked)
        effective.append(effective_sample_size(weights))
        model = others_mean(families, logged.rewards)[:, np.newaxis] + guesses
        for estimator in ESTIMATORS:
            tops, bottoms = terms(logged, asked, weights, estimator, model if estimator == "dr" else None)
            found[estimator].append(float(tops.sum() / bottoms.sum()) if bottoms.sum() else np.nan)
    return [_check(estimator, np.array(values), truth, effective) for estimator, values in found.items()]


def others_mean(families: Sequence[str], rewards: Float) -> Float:
    """Return for each decision the mean reward of other families' decisions, [D]; of all where there is one family alone."""
    same = np.array([[one == other for other in families] for one in families])
    counts = (~same).sum(axis=1)
    mean: Float = np.where(counts > 0, (~same @ rewards) / np.maximum(counts, 1), rewards.mean())
    return mean


def _check(estimator: Estimator, values: Float, truth: float, effective: Sequence[float]) -> EstimatorCheck:
    errors = values[np.isfinite(values)] - truth
    spread = float(errors.std(ddof=1))
    return EstimatorCheck(
        estimator=estimator,
        effective=float(np.mean(effective)),
        truth=truth,
        bias=float(errors.mean()),
        bias_error=spread / float(np.sqrt(len(errors))),
        spread=spread,
    )


def _padded(values: Float, size: int) -> list[float]:
    return [*map(float, values), *[0.0] * (size - len(values))]
