"""What training and scoring a baseline takes and gives, whatever the baseline: one form for commands, reports and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

__all__ = ("Baseline", "Cell", "Evaluation", "Table", "Task")

Cell: TypeAlias = str | int | float | None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a baseline is trained and scored on."""

    directory: Path  #: `campaign=NAME`, only ever read
    split: str = "iid"  #: a file of its `splits/`, or `crossed`: every family is scored by a model that never saw it
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  #: of what is drawn
    predictions: Path | None = None  #: where to write what was foretold, for anybody to score again; None: nowhere


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table of scores, as it is printed; numbers are in `Evaluation.figures`, too, where something is to be made of them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """How a baseline did; `figures` has stable keys for programs."""

    baseline: str
    campaign: str
    split: str
    families: int  #: scored
    tables: tuple[Table, ...]
    figures: Mapping[str, Any]


class Baseline(Protocol):
    """What a module of a baseline offers."""

    def train(self, task: Task) -> Any:
        """Return a model, of plain structs, arrays and scikit-learn's estimators; it is fitted on training families alone."""
        ...

    def evaluate(self, model: Any, task: Task) -> Evaluation:
        """Return the scores of a model on families that it wasn't trained on."""
        ...

    def features(self, model: Any) -> Sequence[str]:
        """Return the names of what the model reads, for its metadata."""
        ...
