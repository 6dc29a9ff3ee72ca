"""Logged decisions ➜ what another policy would have earned: importance-weighted estimates, checked against branches.

In: decisions with the probability of every alternative, which of them was taken and what came of it (one decision, then nothing), and the
probabilities of the policy that is asked about. Out: estimates of its mean reward with intervals, or none where too little was logged:
below an *effective sample size* of `LEAST_EFFECTIVE` nothing is printed.

With weights w_i = pi(a_i | x_i) / mu(a_i | x_i) over n decisions (one family each, or the mean over a family's):

- *ips*, inverse propensity scores: mean of w_i r_i (Horvitz and Thompson, JASA 47, 1952). Unbiased, large variance.
- *snips*, self-normalised: sum of w_i r_i / sum of w_i (Swaminathan and Joachims, NIPS 2015). Biased by O(1/n), much steadier.
- *dr*, doubly robust: mean over i of sum over a of pi(a | x_i) q(x_i, a) + w_i (r_i - q(x_i, a_i)) (Dudik, Langford and Li, ICML 2011),
  where q is a model that wasn't fitted on family i. Unbiased whatever q is, steady where q is good.
- effective sample size: (sum of w_i)^2 / sum of w_i^2 (Kish, Survey Sampling, 1965).

Intervals are bootstraps over families (`intervals`). The truth beside them is that of the branches: sum over a of pi(a | x_i) times the
mean reward of alternative a's branches.

Pure. Upstream: `branched_decisions`. Downstream: `effect_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.intervals import Interval, interval_of

__all__ = (
    "ESTIMATORS",
    "LEAST_EFFECTIVE",
    "Estimate",
    "Estimator",
    "LoggedDecisions",
    "effective_sample_size",
    "estimate",
    "terms",
    "weights_of",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Estimator: TypeAlias = Literal["ips", "snips", "dr"]

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
LEAST_EFFECTIVE = 30.0


class LoggedDecisions(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """D decisions of a policy that drew by chance, of A alternatives each at most (probability 0: there are fewer)."""

    families: tuple[str, ...]  #: [D]
    taken: Int  #: [D] which alternative
    probabilities: Float  #: [D, A] with which the policy drew
    rewards: Float  #: [D] what came of it


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Of a policy's mean reward; without a value where the effective sample size is below `LEAST_EFFECTIVE`."""

    estimator: Estimator
    decisions: int
    effective: float
    value: Interval | None


def estimate(logged: LoggedDecisions, asked: Float, estimator: Estimator, *, foretold: Float | None = None) -> Estimate:
    """Return an estimate of what a policy would have earned at the logged decisions.

    Args:
        logged: decisions, each with a probability above 0 for what was taken.
        asked: [D, A] probabilities of the policy that is asked about; where they are above 0, the logged ones must be, too.
        estimator: which.
        foretold: [D, A] rewards that a model foretells, for `dr`; it mustn't have been fitted on the decision's family.

    Raises: ValueError: the policy does what the logged one never did, or `dr` has no model.
    """
    weights = weights_of(logged, asked)
    tops, bottoms = terms(logged, asked, weights, estimator, foretold)
    effective = effective_sample_size(weights)
    if effective < LEAST_EFFECTIVE:
        return Estimate(estimator=estimator, decisions=len(weights), effective=effective, value=None)
    by_family = _by_family(logged.families)
    by_family /= by_family.sum(axis=1, keepdims=True)
    top, bottom = by_family @ tops, by_family @ bottoms

    def mean(drawn: Float) -> Float:
        found: Float = (drawn @ top) / (drawn @ bottom)
        return found

    return Estimate(
        estimator=estimator, decisions=len(weights), effective=effective, value=interval_of(mean, len(by_family))
    )


def weights_of(logged: LoggedDecisions, asked: Float) -> Float:
    """Return how much more likely the policy that is asked about was to do what was done, [D].

    Raises: ValueError: it does what the logged one never did.
    """
    if (asked[logged.probabilities == 0] > 0).any():
        raise ValueError("the policy does what the logged one never did: nothing can be said of that")
    rows = np.arange(len(logged.taken))
    weights: Float = asked[rows, logged.taken] / logged.probabilities[rows, logged.taken]
    return weights


def terms(
    logged: LoggedDecisions, asked: Float, weights: Float, estimator: Estimator, foretold: Float | None
) -> tuple[Float, Float]:
    """Return numerators and denominators, [D] each, of which an estimate is sum over sum.

    Raises: ValueError: `dr` has no model, or another has one.
    """
    if (foretold is None) == (estimator == "dr"):
        raise ValueError("`dr` needs what a model foretells; the others don't")
    if foretold is None:
        return weights * logged.rewards, weights if estimator == "snips" else np.ones(len(weights))
    rows = np.arange(len(weights))
    base = (asked * np.where(asked > 0, foretold, 0.0)).sum(axis=1)
    return base + weights * (logged.rewards - foretold[rows, logged.taken]), np.ones(len(weights))


def effective_sample_size(weights: Float) -> float:
    """Return how many equally weighted decisions tell as much; 0 where no weight is above 0."""
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total > 0 else 0.0


def _by_family(families: Sequence[str]) -> Float:
    """Return which decision belongs to which family, [F, D]."""
    names = sorted(set(families))
    return np.array([[float(family == name) for family in families] for name in names])
