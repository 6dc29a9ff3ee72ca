"""A campaign's families ➜ who is trained on what and tested on what.

In: planned runs. Out: documents for `splits/NAME.json`. Families are never parted: a run, its sibling, its branches and retries are on one
side. `iid` parts by chance; the other four hold out the levels of one factor, so that a test asks for something that training never saw.
Pure and stable: which side a family is on depends on the family alone (or on its level), so an extended campaign moves nobody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from otel_control_gym.engine.campaigns.plans import Factors, PlannedRun
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

__all__ = ("SPLITS", "SPLIT_VERSION", "Side", "Split", "make_splits", "sides_by_family")

Side = Literal["train", "validation", "test"]

SPLIT_VERSION = 1  #: raised when families would move
_VALIDATION, _TEST = 0.15, 0.2  #: shares of the families by chance
_HELD_OUT_LEVELS = 0.25  #: share of a factor's levels that only the test has

_LEVELS: dict[str, Callable[[Factors], str | None]] = {
    "heldout_workload": lambda factors: factors.workload,
    "heldout_target": lambda factors: factors.fault_target or factors.action_target,
    "heldout_intensity": lambda factors: factors.fault_intensity or factors.action_intensity,
    "heldout_configuration": lambda factors: factors.configuration,
}
SPLITS: tuple[str, ...] = ("iid", *_LEVELS)
"""Names of the splits."""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Which families are in which part; `digest` is of version, name and parts."""

    name: str
    version: int
    held_out: tuple[str, ...]  #: levels that only the test has
    parts: dict[Side, tuple[str, ...]]  #: families, sorted
    digest: str

    @property
    def sides(self) -> dict[str, Side]:
        """The part of each family."""
        return {family: side for side, families in self.parts.items() for family in families}


def make_splits(runs: Iterable[PlannedRun]) -> tuple[Split, ...]:
    """Return all splits of a campaign's runs."""
    mains = sorted((run for run in runs if run.role == "main"), key=lambda run: run.family_id)
    by_chance = _finished("iid", (), {run.family_id: _by_chance(run.family_id) for run in mains})
    return (by_chance, *(_by_level(name, level, mains) for name, level in _LEVELS.items()))


def sides_by_family(splits: Iterable[Split]) -> dict[str, dict[str, Side]]:
    """Return, for each family, its part in each split by the split's name."""
    found: dict[str, dict[str, Side]] = {}
    for split in splits:
        for family, side in split.sides.items():
            found.setdefault(family, {})[split.name] = side
    return found


def _by_chance(family: str) -> Side:
    drawn = draw_uniform(derive_seed(int(family, 16), "split/iid"))
    return "test" if drawn < _TEST else "validation" if drawn < _TEST + _VALIDATION else "train"


def _by_level(name: str, level: Callable[[Factors], str | None], mains: Sequence[PlannedRun]) -> Split:
    """Hold out a quarter of the levels, at least one and never all; families without a level are for training."""
    levels = sorted({found for run in mains if (found := level(run.factors)) is not None})
    count = min(len(levels) - 1, max(1, round(_HELD_OUT_LEVELS * len(levels)))) if levels else 0
    ranked = sorted(levels, key=lambda found: (draw_uniform(derive_seed(0, f"split/{name}/{found}")), found))
    held_out = tuple(sorted(ranked[:count]))
    sides: dict[str, Side] = {}
    for run in mains:
        if level(run.factors) in held_out:
            sides[run.family_id] = "test"
        else:
            side = _by_chance(run.family_id)
            sides[run.family_id] = "train" if side == "test" else side
    return _finished(name, held_out, sides)


def _finished(name: str, held_out: tuple[str, ...], sides: dict[str, Side]) -> Split:
    every: tuple[Side, ...] = ("train", "validation", "test")
    parts = {side: tuple(sorted(family for family, found in sides.items() if found == side)) for side in every}
    body: list[Any] = [SPLIT_VERSION, name, held_out, parts]
    digest = hashlib.sha256(msgspec.json.encode(body, order="sorted")).hexdigest()
    return Split(name=name, version=SPLIT_VERSION, held_out=held_out, parts=parts, digest=digest)
