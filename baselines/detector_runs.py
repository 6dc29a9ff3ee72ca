"""Detectors fitted on the train families of every fold, with their thresholds; and what they say of the runs that are scored.

In: labelled runs, folds. Out: `FittedDetector`s, then `Scored` per detector and seed: of each scored run its scores and alarms. A detector
is fitted on `train`; its thresholds are fixed on `train` and `validation`: for alarms the lowest at which calm windows there bear at most
one event per hour, for the point-adjusted score the one at which it is best there. Labels of scored runs are used after scoring alone.

Upstream: `anomaly_detectors`, `labelled_runs`, `alarms`. Downstream: `anomalies`, `root_causes` (when was the fault noticed?).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.alarms import AlarmCounts, count_alarms, point_adjusted_counts, threshold_for
from otel_control_gym.baselines.anomaly_detectors import (
    Chance,
    Constant,
    Detector,
    Findings,
    ForecastResidual,
    Forest,
    RobustDeviation,
    ThreeSigma,
    system_score,
)
from otel_control_gym.baselines.folds import Fold
from otel_control_gym.baselines.labelled_runs import LabelledRun

__all__ = (
    "ALARMS_PER_HOUR",
    "DETECTORS",
    "FLOORS",
    "FittedDetector",
    "Scored",
    "ScoredRun",
    "fit_detector",
    "is_seeded",
    "score_runs",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

ALARMS_PER_HOUR = 1.0  #: false ones that calm windows of train may hold
_PLAIN: Mapping[str, Callable[[], Detector]] = {
    "robust-deviation": RobustDeviation,
    "forecast-residual": ForecastResidual,
    "coroot-findings": Findings,
    "three-sigma": ThreeSigma,
    "constant": Constant,
}
_SEEDED: Mapping[str, Callable[[int], Detector]] = {"isolation-forest": Forest, "random": Chance}
DETECTORS: tuple[str, ...] = (
    "robust-deviation",
    "isolation-forest",
    "forecast-residual",
    "coroot-findings",
    "three-sigma",
    "random",
    "constant",
)
"""Detectors by name; the last three are floors."""
FLOORS: tuple[str, ...] = ("three-sigma", "random", "constant")

_SECONDS_PER_HOUR = 3600.0
_CANDIDATES = 200  #: thresholds among which the best point-adjusted one is sought


class FittedDetector(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A detector that was fitted in a fold, and what was fixed there."""

    detector: Detector
    name: str
    seed: int
    fold: Fold
    threshold: float  #: of alarms
    adjusted_threshold: float  #: of the point-adjusted score


class ScoredRun(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a detector said of a run that it wasn't fitted on."""

    position: int  #: among the labelled runs
    score: Float  #: of the application [T]
    threshold: float  #: of alarms
    alarms: AlarmCounts
    point_adjusted: Int  #: true positives, alarmed, anomalous buckets [3]


class Scored(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a detector of one seed said of all tested runs."""

    detector: str
    seed: int
    runs: tuple[ScoredRun, ...]


def is_seeded(name: str) -> bool:
    """Return whether a detector's scores depend on a seed."""
    return name in _SEEDED


def fit_detector(name: str, seed: int, runs: Sequence[LabelledRun], fold: Fold) -> FittedDetector:
    """Fit a detector on the fold's train families, and fix its thresholds."""
    train = [run for run in runs if run.series.family_id in fold.train]
    detector = _SEEDED[name](seed) if name in _SEEDED else _PLAIN[name]()
    detector.fit([run.series for run in train], [run.calm for run in train])
    seen = [run for run in runs if run.series.family_id in fold.train | fold.validation]
    scores = [system_score(detector.score(run.series)) for run in seen]
    kinds = [run.kinds for run in seen]
    hours = seen[0].series.bucket_seconds / _SECONDS_PER_HOUR
    return FittedDetector(
        detector=detector,
        name=name,
        seed=seed,
        fold=fold,
        threshold=threshold_for(scores, kinds, hours, ALARMS_PER_HOUR),
        adjusted_threshold=_best_adjusted(scores, kinds),
    )


def score_runs(fitted: Sequence[FittedDetector], runs: Sequence[LabelledRun]) -> Scored:
    """Return what one detector of one seed, fitted in each fold, says of the runs that the folds score."""
    scored = [
        _scored(one, run, position)
        for one in fitted
        for position, run in enumerate(runs)
        if run.series.family_id in one.fold.scored
    ]
    return Scored(
        detector=fitted[0].name, seed=fitted[0].seed, runs=tuple(sorted(scored, key=lambda run: run.position))
    )


def _scored(fitted: FittedDetector, run: LabelledRun, position: int) -> ScoredRun:
    entity_scores = fitted.detector.score(run.series)
    score = system_score(entity_scores)
    return ScoredRun(
        position=position,
        score=score,
        threshold=fitted.threshold,
        alarms=count_alarms(run.series, entity_scores, run.kinds, run.truth.faults, fitted.threshold),
        point_adjusted=point_adjusted_counts(score, run.kinds, np.array([fitted.adjusted_threshold]))[:, 0],
    )


def _best_adjusted(scores: Sequence[Float], kinds: Sequence[Int]) -> float:
    """Return the threshold with the best point-adjusted F1 on train."""
    ranked = np.sort(np.concatenate(list(scores)))
    thresholds = np.unique(ranked[np.linspace(0, len(ranked) - 1, _CANDIDATES).astype(np.int64)])
    found, alarmed, positive = np.sum(
        [point_adjusted_counts(score, kind, thresholds) for score, kind in zip(scores, kinds, strict=True)], axis=0
    )
    f1 = 2 * found / np.maximum(1, alarmed + positive)
    return float(thresholds[int(np.argmax(f1))])
