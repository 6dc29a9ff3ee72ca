"""Which telemetry streams are worth their bytes: how well a fault is found with all of them, without one, and with one alone.

In: minutes of a campaign's runs, stream by stream. Out: the baseline `streams`, a `StreamReport`. The question that is asked of every
minute and service: is a fault on this service now? It is answered by boosted trees (scikit-learn's) that were trained on other
families. The score is the average precision within a family (its own faults among its own minutes and services), averaged over
families, with an interval by bootstrap over them; differences are paired by family. Chance is the share of faulty minutes.

A stream is *useful alone* if it beats chance, and *needed* if the rest without it is worse: what two streams both show, neither is needed
for.

Upstream: `stream_minutes`. Downstream: `catalogue`, the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from otel_control_gym.baselines.evaluations import Evaluation, Table, Task
from otel_control_gym.baselines.folds import Fold, folds_of
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.labelled_runs import main_runs
from otel_control_gym.baselines.stream_minutes import STREAMS, StreamMinutes, stream_minutes
from otel_control_gym.baselines.treatment_effects import family_mean

__all__ = (
    "CHOICES",
    "StreamModel",
    "StreamReport",
    "StreamValue",
    "evaluate",
    "features",
    "report_on",
    "stream_tables",
    "train",
    "train_on",
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

CHOICES: tuple[tuple[str, ...], ...] = (
    tuple(STREAMS),
    *((stream,) for stream in STREAMS),
    *(tuple(other for other in STREAMS if other != stream) for stream in STREAMS),
)
"""Which streams are read: all, each alone, all but each."""
_TREES = {"max_iter": 60, "max_leaf_nodes": 15, "min_samples_leaf": 20, "l2_regularization": 1.0}
_SEED = 0


class StreamValue(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream is worth; average precisions."""

    stream: str
    columns: int
    alone: Interval
    over_chance: Interval  #: alone, minus chance
    without: Interval  #: all but this one
    loss: Interval  #: all, minus all but this one: above zero, it is needed
    by_fault: dict[str, Interval]  #: alone, on families that have faults of one type only


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """What all streams are worth."""

    families: int  #: with a fault
    rows: int
    chance: Interval
    everything: Interval
    by_fault: dict[str, Interval]  #: with everything
    streams: tuple[StreamValue, ...]


class StreamModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train streams` keeps: for every fold a classifier per choice of streams, None where no fault was to learn from."""

    folds: tuple[tuple[Fold, Mapping[tuple[str, ...], Any]], ...]


def train(task: Task) -> StreamModel:
    """Return the classifiers of a campaign's split.

    Raises: UsageError: there is no such campaign or split. DatasetError: a file can't be read.
    """
    runs = [stream_minutes(run) for run in main_runs(task.directory)]
    return train_on(runs, folds_of(task.directory, task.split, {run.family_id for run in runs}))


def evaluate(model: StreamModel, task: Task) -> Evaluation:
    """Return what streams are worth on families that weren't trained on.

    Raises: UsageError: there is no such campaign. DatasetError: a file can't be read.
    """
    report = report_on(model, [stream_minutes(run) for run in main_runs(task.directory)])
    return Evaluation(
        baseline="streams",
        campaign=task.directory.name.removeprefix("campaign="),
        split=task.split,
        families=report.families,
        tables=stream_tables(report),
        figures=msgspec.to_builtins(report),
    )


def features(model: StreamModel) -> Sequence[str]:  # noqa: ARG001
    """Return the names of what the fullest classifier reads."""
    return [
        f"{stream}: {name}{part}" for stream, names in STREAMS.items() for part in ("", ", change") for name in names
    ]


def train_on(runs: Sequence[StreamMinutes], folds: Sequence[Fold]) -> StreamModel:
    """Return the classifiers of some folds of minutes that were read."""
    rows = _Rows(runs)
    return StreamModel(
        folds=tuple(
            (fold, {streams: _fit(rows, streams, fold.train | fold.validation) for streams in CHOICES})
            for fold in folds
        )
    )


def report_on(model: StreamModel, runs: Sequence[StreamMinutes]) -> StreamReport:
    """Return what streams are worth, of minutes that were read."""
    rows, types = _Rows(runs), _only_types(runs)
    found = {streams: _by_family(rows, _foretold(model, rows, streams)) for streams in CHOICES}
    everything = found[tuple(STREAMS)]
    chance = {family: float(rows.faulty[rows.families == family].mean()) for family in everything}
    return StreamReport(
        families=len(everything),
        rows=len(rows.faulty),
        chance=_mean(chance),
        everything=_mean(everything),
        by_fault=_by_fault(everything, types),
        streams=tuple(
            StreamValue(
                stream=stream,
                columns=len(names),
                alone=_mean(found[(stream,)]),
                over_chance=_mean(_minus(found[(stream,)], chance)),
                without=_mean(found[_others(stream)]),
                loss=_mean(_minus(everything, found[_others(stream)])),
                by_fault=_by_fault(found[(stream,)], types),
            )
            for stream, names in STREAMS.items()
        ),
    )


def stream_tables(report: StreamReport) -> tuple[Table, ...]:
    """Return the report for people."""
    faults = list(report.by_fault)
    return (
        Table(
            title=f"Finding the service that a fault is on: {report.families} families",
            columns=(
                "stream",
                "columns",
                "alone",
                "alone, over chance",
                "all but it",
                "loss without it",
                "smallest loss found",
            ),
            rows=(
                *(
                    (
                        one.stream,
                        one.columns,
                        one.alone.shown,
                        one.over_chance.shown,
                        one.without.shown,
                        one.loss.shown,
                        one.loss.detectable,
                    )
                    for one in report.streams
                ),
                (
                    "all of them",
                    sum(one.columns for one in report.streams),
                    report.everything.shown,
                    None,
                    None,
                    None,
                    None,
                ),
                ("chance", None, report.chance.shown, None, None, None, None),
            ),
            note="average precision within a family, mean over families, 95 % intervals; differences are paired by family",
        ),
        Table(
            title="The same by type of fault, each stream alone",
            columns=("stream", *faults),
            rows=tuple(
                (name, *(by_fault[fault].shown for fault in faults))
                for name, by_fault in (
                    *((one.stream, one.by_fault) for one in report.streams),
                    ("all of them", report.by_fault),
                )
            ),
            note="families that have faults of one type only",
        ),
    )


class _Rows:
    """The minutes of all runs, one below the other."""

    def __init__(self, runs: Sequence[StreamMinutes]) -> None:
        self.families = np.array([run.family_id for run in runs for _ in run.faulty])
        self.faulty = np.concatenate([run.faulty for run in runs])
        self._values = {stream: np.concatenate([run.values[stream] for run in runs]) for stream in STREAMS}

    def of(self, streams: Sequence[str]) -> Float:
        """Return [R, columns] of some streams."""
        return np.concatenate([self._values[stream] for stream in streams], axis=1)

    def where(self, families: frozenset[str]) -> Bool:
        """Return [R] which rows are of these families."""
        return np.isin(self.families, sorted(families))


def _fit(rows: _Rows, streams: Sequence[str], families: frozenset[str]) -> Any:
    learnt = rows.where(families)
    if not rows.faulty[learnt].any() or rows.faulty[learnt].all():
        return None
    trees = HistGradientBoostingClassifier(**_TREES, early_stopping=False, random_state=_SEED)
    return trees.fit(rows.of(streams)[learnt], rows.faulty[learnt])


def _foretold(model: StreamModel, rows: _Rows, streams: tuple[str, ...]) -> Float:
    """Return how likely a fault is on each row, by a model that didn't see its family; NaN where there is none."""
    found = np.full(len(rows.faulty), np.nan)
    for fold, classifiers in model.folds:
        scored, classifier = rows.where(fold.scored), classifiers[streams]
        if scored.any() and classifier is not None:
            found[scored] = classifier.predict_proba(rows.of(streams)[scored])[:, 1]
    return found


def _by_family(rows: _Rows, scores: Float) -> dict[str, float]:
    """Return the average precision within each family that has faulty and other rows."""
    found = {}
    for family in np.unique(rows.families):
        own = (rows.families == family) & np.isfinite(scores)
        if rows.faulty[own].any() and not rows.faulty[own].all():
            found[str(family)] = float(average_precision_score(rows.faulty[own], scores[own]))
    return found


def _others(stream: str) -> tuple[str, ...]:
    return tuple(other for other in STREAMS if other != stream)


def _only_types(runs: Sequence[StreamMinutes]) -> dict[str, str]:
    """Return the type of fault of each family that has only one."""
    types: dict[str, dict[str, None]] = {}
    for run in runs:
        types.setdefault(run.family_id, {}).update(dict.fromkeys(run.fault_types))
    return {family: next(iter(names)) for family, names in types.items() if len(names) == 1}


def _by_fault(scores: Mapping[str, float], types: Mapping[str, str]) -> dict[str, Interval]:
    return {
        fault: _mean({family: score for family, score in scores.items() if types.get(family) == fault})
        for fault in sorted(set(types.values()))
    }


def _minus(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {family: score - other[family] for family, score in one.items() if family in other}


def _mean(scores: Mapping[str, float]) -> Interval:
    return family_mean(list(scores), list(scores.values()))
