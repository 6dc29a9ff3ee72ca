"""Noise on samples: values as the stand showed them ➜ values as a poor instrument would have.

In: a batch of samples, sorted by (series, time), and the traits of their series. Out: their noisy values. A gauge gets a factor and an
offset. A counter gets a factor on each growth, so it never falls but where the true one does; the noisy one falls there, too.

Growth is shared out within a group and moment: each member's growth beyond that of the member of lower rank gets a factor of its own, and
is then added up again. So a histogram's buckets stay cumulative, and its count stays that of its last bucket.

Everything is added sample by sample, vectorised over series: a sum that depended on how many samples come at once would depend on the
flush. Draws are keyed by (series, time).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from otel_control_gym.collectors.distortion_draws import normals

__all__ = ("CounterNoise", "grown", "noisy_gauges")

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_GRID: Final = (
    1e6  #: parts of a unit to which noisy counters of fractions are rounded: the log packs what lies on a grid
)


def noisy_gauges(values: Float, times: Int, keys: Int, factor: Float, offset: Float, key: int) -> Float:
    """Return gauges with their noise, never below 0 where the true value isn't; arrays of one length, `offset` in the values' unit."""
    scaled = values * np.exp(factor * normals(key, keys, times, 2) - factor**2 / 2)
    noisy = scaled + offset * normals(key, keys, times, 3)
    return np.asarray(np.where(values >= 0, np.maximum(noisy, 0.0), noisy))


def grown(values: Float, before: Float) -> Float:
    """Return the growth from one value of a counter to the next: where it falls it began anew, and the value itself is growth."""
    return np.asarray(np.where(values < before, values, values - before))


class CounterNoise:
    """The noise of all counters of a run; keeps what each showed last."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._true = np.zeros(0)  # by series: the last value, and
        self._noisy = np.zeros(0)  # what was made of it, before rounding

    def apply(
        self,
        series: Int,
        values: Float,
        times: Int,
        *,
        keys: Int,
        factor: Float,
        whole: Bool,
        group: Int,
        rank: Float,
    ) -> Float:
        """Return the noisy values of counters; arrays of one length, sorted by (series, time). A first value has grown from 0."""
        if series.size == 0:
            return values
        self._reach(int(series.max()) + 1)
        first = np.append(True, series[1:] != series[:-1])
        before = np.append(0.0, values[:-1])
        before[first] = self._true[series[first]]
        growth = self._noisy_growth(grown(values, before), times, keys, factor, group, rank)
        noisy = self._accumulated(series, first, growth, values < before, whole)
        last = np.append(first[1:], True)
        self._true[series[last]], self._noisy[series[last]] = values[last], noisy[last]
        return _rounded(noisy, whole)

    def _noisy_growth(self, growth: Float, times: Int, keys: Int, factor: Float, group: Int, rank: Float) -> Float:
        order = np.lexsort((rank, group, times))
        same = np.append(False, (np.diff(times[order]) == 0) & (np.diff(group[order]) == 0))
        ordered = growth[order]
        own = ordered - np.where(same, np.append(0.0, ordered[:-1]), 0.0)
        factors = np.exp(factor * normals(self._key, keys, times, 4) - factor**2 / 2)[order]
        shared = np.maximum(own, 0.0) * factors
        for place in _places(same):
            shared[place] += shared[place - 1]
        result = np.empty_like(growth)
        result[order] = shared
        return result

    def _accumulated(self, series: Int, first: Bool, growth: Float, restarted: Bool, whole: Bool) -> Float:
        noisy = growth.copy()
        start = first.nonzero()[0]
        self._continue(noisy, start, self._noisy[series[start]], restarted[start], whole[start])
        for place in _places(~first):
            self._continue(noisy, place, noisy[place - 1], restarted[place], whole[place])
        return noisy

    @staticmethod
    def _continue(noisy: Float, place: Int, before: Float, restarted: Bool, whole: Bool) -> None:
        """Add growth to what was shown before; a restart has to show as a fall."""
        below = np.maximum(_rounded(before, whole) - np.where(whole, 1.0, 1.0 / _GRID), 0.0)
        noisy[place] = np.where(restarted, np.minimum(noisy[place], below), before + noisy[place])

    def _reach(self, count: int) -> None:
        missing = count - self._true.size
        if missing > 0:
            self._true = np.append(self._true, np.zeros(max(missing, self._true.size)))
            self._noisy = np.append(self._noisy, np.zeros(self._true.size - self._noisy.size))


def _places(continues: Bool) -> list[Int]:
    """Return the second positions of all runs, then the third ones, and so on; a run goes on where `continues`."""
    position = np.arange(continues.size)
    depth = position - np.maximum.accumulate(np.where(continues, 0, position))
    order = np.argsort(depth, kind="stable")
    counts = np.bincount(depth) if depth.size else np.zeros(1, np.int64)
    return np.split(order, np.cumsum(counts)[:-1])[1:]


def _rounded(values: Float, whole: Bool) -> Float:
    return np.asarray(np.where(whole, np.rint(values), np.rint(values * _GRID) / _GRID))
