"""Detectors and folds ➜ the scores of every run that is tested, and thresholds that the train families fixed.

In: labelled runs, folds, detectors. Out: `Scored` per detector and seed: of each tested run its scores and alarms. The threshold of the
alarms is the lowest at which calm windows of the train families bear at most one event per hour; that of the point-adjusted score the one
at which it is best there. Labels of tested runs are used after scoring alone.

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
from otel_control_gym.baselines.labelled_runs import Fold, LabelledRun

__all__ = ("ALARMS_PER_HOUR", "DETECTORS", "FLOORS", "SEEDS", "Scored", "ScoredRun", "score_runs")

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

ALARMS_PER_HOUR = 1.0  #: false ones that calm windows of train may hold
SEEDS: tuple[int, ...] = (1, 2, 3, 4, 5)
DETECTORS: Mapping[str, Callable[[int], Detector]] = {
    "robust-deviation": lambda seed: RobustDeviation(),
    "isolation-forest": Forest,
    "forecast-residual": lambda seed: ForecastResidual(),
    "coroot-findings": lambda seed: Findings(),
    "three-sigma": lambda seed: ThreeSigma(),
    "random": Chance,
    "constant": lambda seed: Constant(),
}
"""Detectors by name, made from a seed; the last three are floors."""
FLOORS: tuple[str, ...] = ("three-sigma", "random", "constant")

_SECONDS_PER_HOUR = 3600.0
_CANDIDATES = 200  #: thresholds among which the best point-adjusted one is sought


class ScoredRun(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a detector said of a run that it wasn't fitted on."""

    position: int  #: among the labelled runs
    score: Float  #: of the application [T]
    entity_scores: Float  #: [T, S + E]
    threshold: float
    alarms: AlarmCounts
    point_adjusted: Int  #: true positives, alarmed, anomalous buckets [3]


class Scored(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a detector of one seed said of all tested runs."""

    detector: str
    seed: int
    runs: tuple[ScoredRun, ...]


def score_runs(name: str, seed: int, runs: Sequence[LabelledRun], folds: Sequence[Fold]) -> Scored:
    """Fit a detector in each fold, fix its thresholds there, and return what it says of the fold's tested runs."""
    scored = []
    for fold in folds:
        train = [runs[position] for position in fold.train]
        detector = DETECTORS[name](seed)
        detector.fit([run.series for run in train], [run.calm for run in train])
        known = [system_score(detector.score(run.series)) for run in train]
        kinds = [run.kinds for run in train]
        hours = train[0].series.bucket_seconds / _SECONDS_PER_HOUR
        threshold = threshold_for(known, kinds, hours, ALARMS_PER_HOUR)
        adjusted = _best_adjusted(known, kinds)
        scored += [_scored(detector, runs[position], position, threshold, adjusted) for position in fold.test]
    return Scored(detector=name, seed=seed, runs=tuple(sorted(scored, key=lambda run: run.position)))


def _scored(detector: Detector, run: LabelledRun, position: int, threshold: float, adjusted: float) -> ScoredRun:
    entity_scores = detector.score(run.series)
    score = system_score(entity_scores)
    return ScoredRun(
        position=position,
        score=score,
        entity_scores=entity_scores,
        threshold=threshold,
        alarms=count_alarms(run.series, entity_scores, run.kinds, run.truth.faults, threshold),
        point_adjusted=point_adjusted_counts(score, run.kinds, np.array([adjusted]))[:, 0],
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
