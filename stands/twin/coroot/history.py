"""Quantities of named things on a time grid: the form in which the cache keeps what it has read.

In: blocks of new points for the things that were seen. Out: views of the last points, all things alike, so that checks are array
arithmetic. A thing gets a row when it is first seen; points at which nothing is known of it are NaN.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.time_series import Values

__all__ = ("History", "View")

K = TypeVar("K", bound=Hashable)


class View(msgspec.Struct, Generic[K], frozen=True, eq=False):
    """Some consecutive points of a history."""

    keys: tuple[K, ...]
    times: npt.NDArray[np.int64]  #: [T] ns
    values: Values  #: [things, quantities, T]; not to be written


class History(Generic[K]):
    """A growing table of things, quantities and points, of which the newest `keep` points are sure to be there."""

    def __init__(self, quantities: int, keep: int) -> None:
        self._keep = keep
        self._rows: dict[K, int] = {}
        self._times = np.zeros(256, np.int64)
        self._values: Values = np.full((16, quantities, 256), np.nan)
        self._end = 0

    def append(self, times: Sequence[int], keys: Sequence[K], block: Values) -> None:
        """Add points: `block` is [keys, quantities, times]."""
        if self._end + len(times) > 2 * self._keep:
            self._drop_old()
        for key in keys:
            self._rows.setdefault(key, len(self._rows))
        self._make_room(len(times))
        rows = np.array([self._rows[key] for key in keys], np.int64)
        self._values[rows, :, self._end : self._end + len(times)] = block
        self._times[self._end : self._end + len(times)] = times
        self._end += len(times)

    def view(self, start: int, end: int) -> View[K]:
        """Return the points with start < time <= end [ns]."""
        times = self._times[: self._end]
        first, last = np.searchsorted(times, (start, end), side="right").tolist()
        return View(tuple(self._rows), times[first:last], self._values[: len(self._rows), :, first:last])

    def _make_room(self, points: int) -> None:
        rows, quantities, columns = self._values.shape
        needed = (max(len(self._rows), 1), self._end + points)
        if needed[0] > rows or needed[1] > columns:
            rows = rows if needed[0] <= rows else 2 * needed[0]
            columns = columns if needed[1] <= columns else 2 * needed[1]
            values = np.full((rows, quantities, columns), np.nan)
            values[: self._values.shape[0], :, : self._end] = self._values[:, :, : self._end]
            self._values, self._times = values, np.resize(self._times, columns)

    def _drop_old(self) -> None:
        """Keep the newest points, and the things of which they tell something."""
        first = max(0, self._end - self._keep)
        kept = self._values[: len(self._rows), :, first : self._end]
        told = np.flatnonzero(~np.isnan(kept).all(axis=(1, 2)))
        kept, times = kept[told], self._times[first : self._end].copy()
        keys = tuple(self._rows)
        self._rows = {keys[old]: row for row, old in enumerate(told.tolist())}
        self._end = len(times)
        self._values[:] = np.nan
        self._values[: len(kept), :, : self._end] = kept
        self._times[: self._end] = times
