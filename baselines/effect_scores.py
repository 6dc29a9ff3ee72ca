"""Models' ideas of what actions do ➜ how right they are: sign, size, order of the alternatives, and the regret of acting on them.

In: branched decisions, and for each the effects that a model foretells. Out: scores with intervals over families. A model is anything
that says what each alternative would change in the reward (`EffectModel`); what it was trained on is its own affair, but for one rule:
it mustn't have seen the families that it is scored on.

- *sign*: share of effects foretold with the right sign, of those whose sign the branches settle: all pairs of futures agree in it, and
  the mean is at least `SETTLED_PER_STEP` a control step (one per cent of the demand) and two standard errors.
- *size*: root mean squared error, beside the noise of the truth itself (root mean squared standard error of the branches) and the error
  of foretelling no effect at all. `explained` is one minus the ratio of squared errors, noise taken off both.
- *order*: Kendall's tau-b and Spearman's rho over a decision's alternatives, by scipy; a model that calls all equal has 0.
- *regret*: mean reward of the best alternative minus that of the model's choice. The best is picked on the same futures, so every
  regret, a perfect model's apart, holds a little luck; differences between regrets don't.

Floors: always `noop`; a choice by chance; the best constant type of action on training families (where it isn't on the menu: `noop`).

Pure. Upstream: `branched_decisions`. Downstream: `effect_model`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from otel_control_gym.baselines.branched_decisions import BranchedDecision
from otel_control_gym.baselines.counterfactual_tables import HORIZONS
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.treatment_effects import family_mean

__all__ = ("EffectModel", "EffectScores", "best_constant", "constant_choice", "regret", "score_effects")

Float = npt.NDArray[np.float64]

SETTLED_PER_STEP = 0.01  #: of reward


class EffectModel(Protocol):
    """Whatever foretells what alternatives do."""

    def effects(self, decisions: Sequence[BranchedDecision]) -> list[Float]:
        """Return for each decision the foretold differences to noop in the summed reward, [A, len(HORIZONS)]."""
        ...


class EffectScores(msgspec.Struct, frozen=True, kw_only=True):
    """How right a model's effects are over one horizon; null where nothing could be scored."""

    horizon_steps: int
    decisions: int
    settled: int  #: effects whose sign the branches settle
    sign: Interval
    error: float | None  #: root mean squared
    noise: float | None
    error_of_none: float | None
    explained: float | None
    kendall: Interval
    spearman: Interval
    regret: Interval


def score_effects(
    decisions: Sequence[BranchedDecision], foretold: Sequence[Float], *, horizon_steps: int
) -> EffectScores:
    """Return the scores over one horizon; decisions whose branches didn't reach it are left out.

    Args:
        decisions: D decisions.
        foretold: [D] of [A, len(HORIZONS)], as `EffectModel.effects` gives them.
        horizon_steps: one of `HORIZONS`.
    """
    at = HORIZONS.index(horizon_steps)
    reached = [
        (decision, np.asarray(guess[:, at], np.float64))
        for decision, guess in zip(decisions, foretold, strict=True)
        if np.isfinite(decision.rewards[:, :, at]).all()
    ]
    families = [decision.family_id for decision, _ in reached]
    signs: list[tuple[str, float]] = []
    squared: list[Float] = []
    noise: list[Float] = []
    nothing: list[Float] = []
    for decision, guess in reached:
        pairs = decision.effects[1:, :, at]
        truth, error = pairs.mean(axis=1), _standard_error(pairs)
        settled = _settled(pairs, horizon_steps)
        signs += [(decision.family_id, float(right)) for right in (np.sign(guess[1:]) == np.sign(truth))[settled]]
        squared.append((guess[1:] - truth) ** 2)
        nothing.append(truth**2)
        noise.append(error**2)
    return EffectScores(
        horizon_steps=horizon_steps,
        decisions=len(reached),
        settled=len(signs),
        sign=family_mean([family for family, _ in signs], [right for _, right in signs]),
        error=_root(squared),
        noise=_root(noise),
        error_of_none=_root(nothing),
        explained=_explained(squared, nothing, noise),
        kendall=_order(reached, at, "kendall"),
        spearman=_order(reached, at, "spearman"),
        regret=family_mean(families, [regret(decision, int(np.argmax(guess)), at) for decision, guess in reached]),
    )


def regret(decision: BranchedDecision, choice: int, at: int) -> float:
    """Return how much worse a choice is than the best alternative, over the horizon at position `at`."""
    worth = decision.worth[:, at]
    return float(worth.max() - worth[choice])


def best_constant(decisions: Sequence[BranchedDecision], at: int) -> str:
    """Return the type of action whose mean effect is largest at these decisions, `noop` if none is above zero; the first of equals."""
    effects: dict[str, list[float]] = {"noop": [0.0]}
    for decision in decisions:
        means = decision.effects.mean(axis=1)[:, at]
        for item, mean in zip(decision.alternatives[1:], means[1:], strict=True):
            if np.isfinite(mean):
                effects.setdefault(item.action_type, []).append(float(mean))
    return max(sorted(effects, key=lambda name: (name != "noop", name)), key=lambda name: float(np.mean(effects[name])))


def constant_choice(decision: BranchedDecision, action_type: str) -> int:
    """Return which alternative always taking that type comes to: noop where it isn't on the menu."""
    return next((number for number, item in enumerate(decision.alternatives) if item.action_type == action_type), 0)


def _standard_error(pairs: Float) -> Float:
    if pairs.shape[1] < 2:
        return np.full(len(pairs), np.nan)
    error: Float = stats.sem(pairs, axis=1)
    return error


def _settled(pairs: Float, steps: int) -> npt.NDArray[np.bool_]:
    """Return which alternatives' signs are beyond doubt; with a single pair only the size decides."""
    mean, error = pairs.mean(axis=1), np.nan_to_num(_standard_error(pairs))
    agree = (np.sign(pairs) == np.sign(mean)[:, np.newaxis]).all(axis=1)
    settled: npt.NDArray[np.bool_] = agree & (np.abs(mean) >= SETTLED_PER_STEP * steps) & (np.abs(mean) > 2 * error)
    return settled


def _root(squares: Sequence[Float]) -> float | None:
    found = np.concatenate(squares) if squares else np.zeros(0)
    return float(np.sqrt(found.mean())) if found.size and np.isfinite(found).all() else None


def _explained(squared: Sequence[Float], nothing: Sequence[Float], noise: Sequence[Float]) -> float | None:
    """Return the share of the effects' mean square that a model explains, beyond what chance in the branches makes of it."""
    if not squared:
        return None
    chance = float(np.nan_to_num(np.concatenate(noise)).mean())
    whole = float(np.concatenate(nothing).mean()) - chance
    left = float(np.concatenate(squared).mean()) - chance
    return 1.0 - left / whole if whole > 0 else None


def _order(reached: Sequence[tuple[BranchedDecision, Float]], at: int, kind: str) -> Interval:
    families: list[str] = []
    found: list[float] = []
    for decision, guess in reached:
        truth = decision.worth[:, at]
        if np.ptp(truth) == 0:
            continue  # there is no order
        correlation = stats.kendalltau if kind == "kendall" else stats.spearmanr
        value = float(correlation(truth, guess).statistic) if np.ptp(guess) else 0.0
        families.append(decision.family_id)
        found.append(value)
    return family_mean(families, found)
