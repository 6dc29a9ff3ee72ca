"""Which telemetry streams are worth their bytes: how well a fault is found with all of them, without one, and with one alone.

In: minutes of a campaign's runs, stream by stream. Out: `StreamReport`. The question that is asked of every minute and service: is a fault
on this service now? It is answered by boosted trees (scikit-learn's) that were trained on other families. The score is the average
precision within a family (its own faults among its own minutes and services), averaged over families, with an interval by bootstrap over
them; differences are paired by family. Chance is the share of faulty minutes.

A stream is *useful alone* if it beats chance, and *needed* if the rest without it is worse: what two streams both show, neither is needed
for.

Upstream: `stream_minutes`. Downstream: `report_streams`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score

from otel_control_gym.baselines.folds import CROSSED, folds_of
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.labelled_runs import open_main_runs
from otel_control_gym.baselines.stream_minutes import STREAMS, StreamMinutes, stream_minutes
from otel_control_gym.baselines.treatment_effects import family_mean

__all__ = ("StreamReport", "StreamValue", "stream_report", "stream_report_of")

Float = npt.NDArray[np.float64]

_TREES = {"max_iter": 60, "max_leaf_nodes": 15, "min_samples_leaf": 20, "l2_regularization": 1.0}
_SEED = 0
_ALL = "all"


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


def stream_report(directory: Path) -> StreamReport:
    """Return what streams are worth on a campaign.

    Raises: UsageError: there is no such campaign, or no run in it. DatasetError: a file can't be read.
    """
    return stream_report_of([stream_minutes(run) for run in open_main_runs(directory)], directory)


def stream_report_of(runs: Sequence[StreamMinutes], directory: Path) -> StreamReport:
    """Return what streams are worth, of minutes that were read."""
    families = np.array([run.family_id for run in runs for _ in run.faulty])
    faulty = np.concatenate([run.faulty for run in runs])
    values = {stream: np.concatenate([run.values[stream] for run in runs]) for stream in STREAMS}
    folds = [
        (np.isin(families, sorted(fold.train | fold.validation)), np.isin(families, sorted(fold.scored)))
        for fold in folds_of(directory, CROSSED, sorted({run.family_id for run in runs}))
    ]

    def precisions(streams: Sequence[str]) -> dict[str, float]:
        rows = np.concatenate([values[stream] for stream in streams], axis=1)
        return _by_family(families, faulty, _foretold(rows, faulty, folds))

    everything = precisions(tuple(STREAMS))
    chance = {family: float(faulty[families == family].mean()) for family in everything}
    types = _only_types(runs)
    found = []
    for stream, names in STREAMS.items():
        alone = precisions([stream])
        without = precisions([other for other in STREAMS if other != stream])
        found.append(
            StreamValue(
                stream=stream,
                columns=len(names),
                alone=_mean(alone),
                over_chance=_mean(_minus(alone, chance)),
                without=_mean(without),
                loss=_mean(_minus(everything, without)),
                by_fault=_by_fault(alone, types),
            )
        )
    return StreamReport(
        families=len(everything),
        rows=len(faulty),
        chance=_mean(chance),
        everything=_mean(everything),
        by_fault=_by_fault(everything, types),
        streams=tuple(found),
    )


def _foretold(
    rows: Float, faulty: npt.NDArray[np.bool_], folds: Sequence[tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]]
) -> Float:
    """Return how likely a fault is on each row, by the model that didn't see its family; NaN where there is none to be trained."""
    found = np.full(len(rows), np.nan)
    for learnt, scored in folds:
        if not scored.any() or faulty[learnt].all() or not faulty[learnt].any():
            continue
        trees = HistGradientBoostingClassifier(**_TREES, early_stopping=False, random_state=_SEED)
        trees.fit(rows[learnt], faulty[learnt])
        found[scored] = trees.predict_proba(rows[scored])[:, 1]
    return found


def _by_family(families: npt.NDArray[np.str_], faulty: npt.NDArray[np.bool_], scores: Float) -> dict[str, float]:
    """Return the average precision within each family that has faulty and other rows."""
    found = {}
    for family in np.unique(families):
        own = (families == family) & np.isfinite(scores)
        if faulty[own].any() and not faulty[own].all():
            found[str(family)] = float(average_precision_score(faulty[own], scores[own]))
    return found


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
