"""Scores of a run and a threshold ➜ alarms as people meet them: events that begin, and what they begin in.

In: a run's scores by entity, what its buckets are, its faults. Out: how many events began in which kind of window, over how long, and which
faults were found, how late. An event is a stretch of buckets whose score is above the threshold; a pause of one bucket doesn't end it. A
fault is found by an event that *begins* while it is in force: an alarm that is always on finds nothing. The delay runs from the moment
when the fault was accepted to the close of the event's first bucket, when the score could first be known.

False alarms are counted in calm windows, in benign ones (after an action, without a fault), and in fault windows: there the score is made
anew of the bystanders alone, the entities on which neither the catalogue nor the call graph says that the fault should show. Pure.

Upstream: `anomaly_detectors` scores, `fault_windows` tells. Downstream: `anomalies`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.anomaly_detectors import system_score
from otel_control_gym.baselines.entity_series import EntitySeries
from otel_control_gym.baselines.fault_windows import BucketKind, Fault
from otel_control_gym.baselines.range_precision import ranges_of

__all__ = (
    "AlarmCounts",
    "Detection",
    "bystanders",
    "count_alarms",
    "event_starts",
    "point_adjusted_counts",
    "threshold_for",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_HOUR = 3600.0
_CANDIDATES = 400  #: thresholds that are tried


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a fault was found."""

    fault: Fault
    delay_s: float | None  #: None: it wasn't


class AlarmCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Alarms of one run."""

    calm_events: int
    calm_hours: float
    benign_events: int
    benign_hours: float
    bystander_events: int  #: in fault windows, of entities on which nothing should show
    fault_hours: float
    alarmed_calm_hours: float  #: how long it was on in calm windows
    detections: tuple[Detection, ...]


def event_starts(alarmed: Bool) -> list[int]:
    """Return the buckets in which events begin; `alarmed` is [T]."""
    starts: list[int] = []
    last = -2
    for start, end in ranges_of(alarmed):
        if start - last > 1:  # two quiet buckets lie between
            starts.append(start)
        last = end
    return starts


def bystanders(faults: Sequence[Fault], entities: Sequence[str]) -> Bool:
    """Return which entities no fault should show on."""
    affected = {name for fault in faults for name in (*fault.affected, *fault.ends)}
    return np.array([name not in affected for name in entities], bool)


def count_alarms(
    run: EntitySeries, scores: Float, kinds: Int, faults: Sequence[Fault], threshold: float
) -> AlarmCounts:
    """Return the alarms of a run; `scores` is [T, S + E], `kinds` [T]."""
    hours = run.bucket_seconds / _HOUR
    alarmed = system_score(scores) > threshold
    starts = np.array(event_starts(alarmed & (kinds != BucketKind.WARM_UP)), np.int64)
    begun = kinds[starts]
    counts = {
        kind: (int((begun == kind).sum()), float((kinds == kind).sum()) * hours)
        for kind in (BucketKind.CALM, BucketKind.BENIGN)
    }
    in_fault = kinds == BucketKind.FAULT
    beside = scores[:, bystanders(faults, run.entities)]
    strange = (system_score(beside) > threshold) & in_fault
    return AlarmCounts(
        calm_events=counts[BucketKind.CALM][0],
        calm_hours=counts[BucketKind.CALM][1],
        benign_events=counts[BucketKind.BENIGN][0],
        benign_hours=counts[BucketKind.BENIGN][1],
        bystander_events=len(event_starts(strange)),
        fault_hours=float(in_fault.sum()) * hours,
        alarmed_calm_hours=float((alarmed & (kinds == BucketKind.CALM)).sum()) * hours,
        detections=tuple(Detection(fault=fault, delay_s=_delay(run, starts, fault)) for fault in faults),
    )


def _delay(run: EntitySeries, starts: Int, fault: Fault) -> float | None:
    closes = (starts + 1) * float(run.bucket_seconds)
    within = (closes > fault.onset) & (starts * run.bucket_seconds < fault.end)
    return float(closes[within][0] - fault.onset) if within.any() else None


def threshold_for(scores: Sequence[Float], kinds: Sequence[Int], bucket_hours: float, events_per_hour: float) -> float:
    """Return the lowest threshold with at most so many events per hour in calm windows, there and at every higher one.

    Args:
        scores: of the application [T], of each run of the train families.
        kinds: `BucketKind` [T] of each.
        bucket_hours: length of a bucket.
        events_per_hour: what may be borne.
    """
    calm = [kind == BucketKind.CALM for kind in kinds]
    seen = [score[quiet] for score, quiet in zip(scores, calm, strict=True)]
    known = np.concatenate(seen) if seen else np.zeros(0)
    if not len(known):
        return np.inf
    hours = len(known) * bucket_hours
    places = np.unique(np.geomspace(1, len(known), _CANDIDATES).astype(np.int64) - 1)
    candidates = np.unique(-np.sort(-known)[places])[::-1].tolist()
    best = float(candidates[0])
    for threshold in candidates:
        events = sum(
            int(quiet[event_starts((score > threshold) & (kind != BucketKind.WARM_UP))].sum())
            for score, kind, quiet in zip(scores, kinds, calm, strict=True)
        )
        if events > events_per_hour * hours:
            break
        best = threshold
    return best


def point_adjusted_counts(score: Float, kinds: Int, thresholds: Float) -> Int:
    """Return true positives, alarmed buckets and anomalous buckets [3, K] after point adjustment, by threshold.

    Point adjustment (Xu et al., WWW 2018) calls every bucket of an anomalous range found as soon as one of them is. Kim et al. (AAAI 2022)
    show that random scores then look excellent: never read it without theirs beside it.
    """
    scored = kinds != BucketKind.WARM_UP
    label = (kinds == BucketKind.FAULT) & scored
    alarmed = (score[scored & ~label, np.newaxis] > thresholds).sum(axis=0)
    found = np.zeros(len(thresholds), np.int64)
    for start, end in ranges_of(label):
        found += (end - start) * (score[start:end].max() > thresholds)
    return np.stack([found, found + alarmed, np.full(len(thresholds), int(label.sum()))])
