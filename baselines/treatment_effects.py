"""What actions did, as branches show it: average effects by type of action and horizon, and the effect at each decision.

In: branched decisions. Out: effects on the reward, as the difference to `noop` under the same draws of chance, with 95 % intervals. No
model is asked: this is the truth that models and estimators are scored against.

- *Average effect* (ATE): each family counts once, with the mean over its decisions and alternatives of the type; the interval is a
  bootstrap over families (`intervals`). It is an average over the states in which the policy drew that type, which are random in the
  randomised stratum.
- *Effect at a decision* (per state): the mean over the pairs of futures, with Student's t over pairs: what chance in the future leaves
  open.

Pure. Upstream: `branched_decisions`. Downstream: `effect_model` prints them.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from otel_control_gym.baselines.branched_decisions import BranchedDecision
from otel_control_gym.baselines.counterfactual_tables import HORIZONS
from otel_control_gym.baselines.intervals import Interval, interval_of

__all__ = ("ANY", "AverageEffect", "StateEffect", "average_effects", "family_mean", "state_effects")

Float = npt.NDArray[np.float64]

ANY = "any action"  #: all types but noop together
_CONFIDENCE = 0.95


class AverageEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Of a type of action on the reward summed over a horizon."""

    action_type: str
    horizon_steps: int
    decisions: int
    effect: Interval
    harmed: float  #: share of the alternatives whose mean effect was below zero


class StateEffect(msgspec.Struct, frozen=True, kw_only=True):
    """Of one alternative at one decision; low and high are null with a single pair."""

    run_id: str
    family_id: str
    decision_step: int
    alternative_index: int
    action_type: str
    horizon_steps: int
    pairs: int
    effect: float
    low: float | None
    high: float | None


def average_effects(decisions: Sequence[BranchedDecision]) -> list[AverageEffect]:
    """Return the average effects by type and horizon; `ANY` comes first."""
    types = sorted({item.action_type for decision in decisions for item in decision.alternatives[1:]} - {"noop"})
    return [
        found
        for action_type in (ANY, *types)
        for position in range(len(HORIZONS))
        if (found := _average(decisions, action_type, position)) is not None
    ]


def _average(decisions: Sequence[BranchedDecision], action_type: str, position: int) -> AverageEffect | None:
    families: list[str] = []
    effects: list[float] = []
    count = 0
    for decision in decisions:
        means = decision.effects.mean(axis=1)[:, position]
        found = [
            float(mean)
            for mean, item in zip(means[1:], decision.alternatives[1:], strict=True)
            if action_type in (ANY, item.action_type) and np.isfinite(mean)
        ]
        families += [decision.family_id] * len(found)
        effects += found
        count += bool(found)
    if not effects:
        return None
    return AverageEffect(
        action_type=action_type,
        horizon_steps=HORIZONS[position],
        decisions=count,
        effect=family_mean(families, effects),
        harmed=float(np.mean(np.array(effects) < 0)),
    )


def family_mean(families: Sequence[str], values: Sequence[float]) -> Interval:
    """Return the mean over families of their mean values, with its bootstrap interval over families."""
    by_family: dict[str, list[float]] = {}
    for family, value in zip(families, values, strict=True):
        by_family.setdefault(family, []).append(value)
    means = np.array([np.mean(by_family[family]) for family in sorted(by_family)])

    def mean(weights: Float) -> Float:
        found: Float = weights @ means / weights.sum(axis=-1)
        return found

    return interval_of(mean, len(means))


def state_effects(decisions: Sequence[BranchedDecision]) -> list[StateEffect]:
    """Return the effect of every alternative but noop at every decision, over every horizon that its branches reached."""
    return [
        _state_effect(decision, index, position)
        for decision in decisions
        for index in range(1, len(decision.alternatives))
        for position in range(len(HORIZONS))
        if np.isfinite(decision.effects[index, :, position]).all()
    ]


def _state_effect(decision: BranchedDecision, index: int, position: int) -> StateEffect:
    pairs = decision.effects[index, :, position]
    mean, low, high = float(pairs.mean()), None, None
    if len(pairs) > 1:
        reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(pairs) - 1) * stats.sem(pairs))
        low, high = mean - reach, mean + reach
    return StateEffect(
        run_id=decision.run_id,
        family_id=decision.family_id,
        decision_step=decision.decision_step,
        alternative_index=index,
        action_type=decision.alternatives[index].action_type,
        horizon_steps=HORIZONS[position],
        pairs=len(pairs),
        effect=mean,
        low=low,
        high=high,
    )
