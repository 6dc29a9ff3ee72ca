"""Scores over time and the ranges that are anomalous ➜ area and volume under the precision-recall curve.

VUS-PR as defined by Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection"
(PVLDB 15(11), 2022): for a buffer of l buckets each anomalous range is extended by l/2 on both sides, where the label falls off as
sqrt(1 - distance / l); then at each threshold

    TP = sum of the labels of the alarmed buckets,   precision = TP / alarmed buckets,
    recall = min(1, TP / P) * (ranges with an alarm / ranges),   P = mean of the sums of the plain and the extended labels,

the area is the sum of recall's growth times precision, and the volume its mean over l = 0 … L. AUC-PR is the area for l = 0 without the
factor for ranges: scikit-learn's average precision.

The sums are kept per series, so that a resampled set of series costs one product of matrices: `PrecisionSums.weighted`. Thresholds are the
distinct scores, at most `_THRESHOLDS` of them, evenly spread over their ranks. An alarm is a score at or above the threshold. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ("Areas", "PrecisionSums", "extended_labels", "precision_sums", "ranges_of")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_THRESHOLDS = 250  #: as many as the authors' own program tries
_ROWS = 64  #: of weights that are worked on at once: what they make fits a processor's cache


class Areas(NamedTuple):
    """What a set of series comes to; NaN where nothing in it is anomalous. One value for each row of weights."""

    auc_pr: Float
    vus_pr: Float


class PrecisionSums(msgspec.Struct, frozen=True, eq=False):
    """What each of n series adds to the curves, at K thresholds, highest first, and L + 1 buffers."""

    alarmed: Float  #: [n, K] buckets
    hits: Float  #: [n, L + 1, K] labels of the alarmed buckets
    ranges_hit: Float  #: [n, L + 1, K]
    positives: Float  #: [n, L + 1] mean of the sums of plain and extended labels
    ranges: Float  #: [n, L + 1]

    def by_group(self, groups: npt.NDArray[np.int64], count: int) -> PrecisionSums:
        """Return the sums of each of `count` groups; `groups` [n] says where each series belongs."""
        belongs = (groups == np.arange(count)[:, np.newaxis]).astype(np.float64)
        return PrecisionSums(*(np.tensordot(belongs, getattr(self, name), axes=1) for name in self.__struct_fields__))

    def weighted(self, weights: Float) -> Areas:
        """Return the areas of the set in which each series counts as often as it says, [R] for weights [R, n]."""
        parts = [self._weighted(weights[start : start + _ROWS]) for start in range(0, len(weights), _ROWS)]
        return Areas(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def _weighted(self, weights: Float) -> Areas:
        alarmed = np.maximum(weights @ self.alarmed, 1e-12)
        positives, ranges = weights @ self.positives, weights @ self.ranges
        hits = np.tensordot(weights, self.hits, axes=1)
        found = np.tensordot(weights, self.ranges_hit, axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = hits / alarmed[:, np.newaxis]
            share = hits / positives[:, :, np.newaxis]
            recall = np.minimum(share, 1.0) * (found / ranges[:, :, np.newaxis])
        areas = _area(recall, precision)
        return Areas(_area(share[:, 0], precision[:, 0]), areas.mean(axis=1))


def precision_sums(scores: Sequence[Float], labels: Sequence[Bool], longest: int) -> PrecisionSums:
    """Return what each series adds; `scores` and `labels` are [T] each, `longest` is L in buckets."""
    thresholds = _thresholds(np.concatenate(list(scores)) if scores else np.zeros(0))
    shape = (len(scores), longest + 1, len(thresholds))
    alarmed, hits, ranges_hit = np.zeros((shape[0], shape[2])), np.zeros(shape), np.zeros(shape)
    positives, ranges = np.zeros(shape[:2]), np.zeros(shape[:2])
    for number, (score, label) in enumerate(zip(scores, labels, strict=True)):
        order = np.argsort(-score, kind="stable")
        counts = np.searchsorted(-score[order], -thresholds, side="right")
        alarmed[number] = counts
        if not label.any():
            continue  # nothing to hit: only its alarms count
        for buffer in range(longest + 1):
            extended = extended_labels(label, buffer)
            reached = np.concatenate([[0.0], np.cumsum(extended[order])])
            hits[number, buffer] = reached[counts]
            positives[number, buffer] = (label.sum() + extended.sum()) / 2
            peaks = np.array([score[start:end].max() for start, end in ranges_of(extended > 0)])
            ranges[number, buffer] = len(peaks)
            ranges_hit[number, buffer] = (peaks[:, np.newaxis] >= thresholds).sum(axis=0) if len(peaks) else 0
    return PrecisionSums(alarmed, hits, ranges_hit, positives, ranges)


def extended_labels(labels: Bool, buffer: int) -> Float:
    """Return labels [T] in [0, 1] that fall off over `buffer` / 2 buckets on either side of each range."""
    extended = labels.astype(np.float64)
    if buffer:
        places = np.arange(len(labels))
        for start, end in ranges_of(labels):
            distance = np.maximum(start - places, places - (end - 1))
            near = (distance > 0) & (distance <= buffer // 2)
            extended[near] += np.sqrt(1.0 - distance[near] / buffer)
    return np.minimum(extended, 1.0)


def ranges_of(flags: Bool) -> list[tuple[int, int]]:
    """Return the stretches in which flags [T] are set, as (first, one after the last)."""
    edges = np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8))
    starts, ends = np.nonzero(edges == 1)[0], np.nonzero(edges == -1)[0]
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def _thresholds(scores: Float) -> Float:
    distinct = np.unique(scores)[::-1]
    if len(distinct) <= _THRESHOLDS:
        return distinct
    ranked = -np.sort(-scores)
    places = np.linspace(0, len(ranked) - 1, _THRESHOLDS).astype(np.int64)
    return np.unique(ranked[places])[::-1]


def _area(recall: Float, precision: Float) -> Float:
    """Return the areas under curves along the last axis: the growth of recall times the precision at its end."""
    grown = np.diff(recall, axis=-1, prepend=0.0)
    area: Float = (grown * precision).sum(axis=-1)
    return area
