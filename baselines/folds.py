"""Who is trained on what: the sides of a split, or as many models as it takes that every family is scored once.

In: a campaign's directory and the families that its runs belong to. Out: `Fold`s. A split of the campaign is one fold: trained on
`train`, tuned on `validation`, scored on `test`. `crossed` parts the families by chance into four: each part is scored by a model trained
on the other three, so that strata of a few families can be scored at all. Families are never parted. Pure but for reading the split.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from otel_control_gym.baselines.windows import read_split
from otel_control_gym.engine.randomness import derive_seed, draw_bits

__all__ = ("CROSSED", "Fold", "crossed_folds", "folds_of")

CROSSED = "crossed"  #: name of the split that scores every family
_PARTS = 4
_TUNED_ON = 6  #: one training family in this many chooses what is tuned


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """Families of one model; no family is on two sides."""

    name: str
    train: frozenset[str]
    validation: frozenset[str]  #: choose what is tuned
    scored: frozenset[str]


def folds_of(directory: Path, split: str, families: Collection[str]) -> tuple[Fold, ...]:
    """Return the folds of a split for these families.

    Raises: UsageError: there is no such split. DatasetError: its file can't be read.
    """
    if split == CROSSED:
        return crossed_folds(families)
    sides, _ = read_split(directory, split)
    known = {family: sides[family] for family in sorted(families) if family in sides}
    return (
        Fold(
            name=split,
            train=frozenset(family for family, side in known.items() if side == "train"),
            validation=frozenset(family for family, side in known.items() if side == "validation"),
            scored=frozenset(family for family, side in known.items() if side == "test"),
        ),
    )


def crossed_folds(families: Collection[str]) -> tuple[Fold, ...]:
    """Return folds in which every family is scored once, by what was trained on the others."""
    return tuple(_crossed(number, sorted(families)) for number in range(_PARTS))


def _crossed(number: int, families: list[str]) -> Fold:
    scored = frozenset(family for family in families if _draw(family) % _PARTS == number)
    others = [family for family in families if family not in scored]
    validation = frozenset(family for family in others if _draw(family) // _PARTS % _TUNED_ON == 0)
    return Fold(name=f"{CROSSED}-{number}", train=frozenset(others) - validation, validation=validation, scored=scored)


def _draw(family: str) -> int:
    return draw_bits(derive_seed(0, f"crossed/{family}"))
