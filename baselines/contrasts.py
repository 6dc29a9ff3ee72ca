"""Contrasts ➜ what an action adds to a fault, and pairs of causes that look alike.

In: branches of four (neither, action, fault, both), cells of matched causes. Out: effects with intervals over families, the interaction
among them; and pairs of branches, one with an action and one with a fault, at the same service and moment, of like symptom.

- Effects, from means over the futures of a family: action = A - 0; fault = F - 0; action under the fault = AF - F; interaction = (AF -
  F) - (A - 0): what an action does beyond what it does anyway, because there is a fault.
- The symptom is what shows at the service: its CPU saturation (scale-down or cpu_pressure), its error ratio (bad rollout or
  bad_config), as the change from before the cause to after it. Of the strengths that were played, the pair that is nearest is taken,
  one per future; pairs further apart than `CALIPER` are dropped and counted.

Pure. Upstream: `contrast_tables`. Downstream: `cause_model`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from otel_control_gym.baselines.contrast_tables import FactorialArm, FactorialBranch, MatchedCell
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.treatment_effects import family_mean

__all__ = ("CALIPER", "Cause", "FactorialEffect", "Pairs", "factorial_effects", "matched_pairs")

CALIPER = 0.1  #: of the symptom's unit, which is a ratio
_SYMPTOMS: Mapping[str, str] = {
    "scale-down or cpu_pressure": "cpu_saturation",
    "bad rollout or bad_config": "error_ratio",
}
_CONTRASTS: Mapping[str, Mapping[FactorialArm, float]] = {
    "action without fault": {"action": 1, "neither": -1},
    "fault without action": {"fault": 1, "neither": -1},
    "action under the fault": {"both": 1, "fault": -1},
    "interaction": {"both": 1, "fault": -1, "action": -1, "neither": 1},
}


class FactorialEffect(msgspec.Struct, frozen=True, kw_only=True):
    """A contrast of the four arms, in reward from the action's moment on."""

    stratum: str
    contrast: str
    effect: Interval


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A branch with an action or a fault; values by (place, feature), each by step from the cause."""

    comparison: str
    run_id: str
    family_id: str
    number: int
    is_action: bool
    strength: str
    values: dict[tuple[str, str], dict[int, float]]

    def before(self, place: str, feature: str) -> float:
        """Return the mean of the two steps before the cause; NaN where nothing is known."""
        return self._mean(place, feature, -2, 0)

    def change(self, place: str, feature: str, first: int, end: int) -> float:
        """Return the mean of steps [first, end) minus that before; NaN where one isn't known."""
        return self._mean(place, feature, first, end) - self.before(place, feature)

    def _mean(self, place: str, feature: str, first: int, end: int) -> float:
        known = [value for step, value in self.values.get((place, feature), {}).items() if first <= step < end]
        return float(np.mean(known)) if known else float("nan")


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """Branches of one comparison that look alike."""

    comparison: str
    symptom: str
    causes: tuple[Cause, ...]  #: action and fault by turns
    dropped: int  #: pairs beyond the caliper


def factorial_effects(branches: Iterable[FactorialBranch]) -> list[FactorialEffect]:
    """Return the contrasts by stratum, and of all together."""
    rewards: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for row in branches:
        rewards[row.stratum, row.family_id, row.arm].append(row.reward)
    families = sorted({(stratum, family) for stratum, family, _ in rewards})
    found = []
    for stratum in ("all", *sorted({stratum for stratum, _ in families})):
        chosen = [item for item in families if stratum in ("all", item[0])]
        for contrast, weights in _CONTRASTS.items():
            values = [
                sum(weight * float(np.mean(rewards[key, family, arm])) for arm, weight in weights.items())
                for key, family in chosen
            ]
            effect = family_mean([family for _, family in chosen], values)
            found.append(FactorialEffect(stratum=stratum, contrast=contrast, effect=effect))
    return found


def matched_pairs(cells: Iterable[MatchedCell]) -> list[Pairs]:
    """Return the pairs of each comparison."""
    causes: dict[tuple[str, str, int, Literal["action", "fault"], str], Cause] = {}
    for cell in cells:
        key = (cell.comparison, cell.run_id, cell.number, cell.cause, cell.strength)
        if key not in causes:
            causes[key] = Cause(
                comparison=cell.comparison,
                run_id=cell.run_id,
                family_id=cell.family_id,
                number=cell.number,
                is_action=cell.cause == "action",
                strength=cell.strength,
                values={},
            )
        causes[key].values.setdefault((cell.place, cell.feature), {})[cell.step] = cell.value
    groups: defaultdict[str, defaultdict[tuple[str, int], list[Cause]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(causes):
        groups[key[0]][key[1], key[2]].append(causes[key])
    return [_pairs(comparison, list(found.values())) for comparison, found in sorted(groups.items())]


def _pairs(comparison: str, futures: Sequence[Sequence[Cause]]) -> Pairs:
    symptom = _SYMPTOMS[comparison]
    chosen: list[Cause] = []
    dropped = 0
    for causes in futures:
        options = [
            (abs(_symptom(one, symptom) - _symptom(other, symptom)), one, other)
            for one in causes
            if one.is_action
            for other in causes
            if not other.is_action
        ]
        near = [option for option in options if option[0] <= CALIPER]
        dropped += not near
        if near:
            _, one, other = min(near, key=lambda option: option[0])
            chosen += [one, other]
    return Pairs(comparison=comparison, symptom=symptom, causes=tuple(chosen), dropped=dropped)


def _symptom(cause: Cause, feature: str) -> float:
    return cause.change("target", feature, 0, 99)
