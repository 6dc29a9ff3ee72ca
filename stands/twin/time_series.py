"""Scraped samples in columns: what the twin's Prometheus has stored.

In: at each scrape one row of values, for the series that were there. Out: windows of rows for chosen series, with NaN where a series had
no sample.

Why columns: a scrape has thousands of values, and nothing per sample may cost Python time. A scrape writes one row into the newest
block; a block keeps columns only for series that lived in it, so pods that are long gone cost no memory. Blocks older than the
retention are dropped whole, and with them the series that ended before.

Upstream: `telemetry` scrapes. Downstream: `servers.prometheus` answers queries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND

__all__ = ("RETENTION_SECONDS", "Numbers", "TimeSeries", "Values", "Window")

RETENTION_SECONDS = 3600
_BLOCK_SCRAPES = 64

Numbers = npt.NDArray[np.int64]  #: numbers of series
Values = npt.NDArray[np.float64]


class Window(msgspec.Struct, frozen=True, eq=False):
    """Rows of samples: `values[i, j]` is the sample of the j-th asked series at `times[i]`, or NaN."""

    times: npt.NDArray[np.int64]  #: [T] ns, ascending
    values: Values  #: [T, M]
    parts: Numbers = np.empty(0, np.int64)  #: [T] which part of all series a row is a scrape of
    part_of: Numbers = np.empty(0, np.int64)  #: [M] which part a series belongs to


class _Block:
    """Some consecutive scrapes."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.parts: list[int] = []
        self.values: Values = np.full((_BLOCK_SCRAPES, 256), np.nan)
        self.width = 0
        self._columns: Numbers = np.full(256, -1, np.int64)  # number of a series -> column
        self._last: tuple[Numbers, Numbers] | None = None

    def add(self, time: int, numbers: Numbers, values: Values, part: int) -> None:
        """Write one scrape."""
        columns = self._claim(numbers)  # may widen `values`
        self.values[len(self.times), columns] = values
        self.times.append(time)
        self.parts.append(part)

    def rows(self, first: int, last: int, numbers: Numbers) -> Values:
        """Return the scrapes `first` to `last - 1` for some series."""
        known = numbers < len(self._columns)
        columns = np.where(known, self._columns[np.where(known, numbers, 0)], -1)
        found = self.values[first:last, columns]
        found[:, columns < 0] = np.nan
        return found

    def _claim(self, numbers: Numbers) -> Numbers:
        """Return the columns of series, new ones where they have none."""
        if self._last is not None and self._last[0] is numbers:
            return self._last[1]
        if len(numbers) and (top := int(numbers.max())) >= len(self._columns):
            self._columns = _widened(self._columns, top + 1, -1)
        columns = self._columns[numbers]
        fresh = numbers[columns < 0]
        if len(fresh):
            needed = self.width + len(fresh)
            if needed > self.values.shape[1]:
                larger = np.full((_BLOCK_SCRAPES, max(needed, 2 * self.values.shape[1])), np.nan)
                larger[:, : self.width] = self.values[:, : self.width]
                self.values = larger
            self._columns[fresh] = np.arange(self.width, needed)
            self.width = needed
            columns = self._columns[numbers]
        self._last = (numbers, columns)
        return columns


class TimeSeries:
    """All series of a run and their samples of the last hour.

    A series is a number here; numbers are given once, ascending, never again.
    """

    def __init__(self, retention_seconds: int = RETENTION_SECONDS) -> None:
        self.labels: dict[int, dict[str, str]] = {}  #: number -> labels, `__name__` included, sorted by name
        self.removals = 0  #: grows when series are forgotten; whoever caches numbers looks at it
        self._retention = retention_seconds * SECOND
        self._next = 0
        self._blocks: deque[_Block] = deque()
        self._ended: deque[tuple[int, int]] = deque()
        self._part_of: Numbers = np.zeros(256, np.int64)
        self._newest: dict[int, tuple[Numbers, Values]] = {}  # by part

    @property
    def newest(self) -> tuple[Numbers, Values]:
        """Return the series of the newest scrape (of each part) and their values, in the order in which they were declared."""
        numbers = np.concatenate([np.empty(0, np.int64), *(numbers for numbers, _ in self._newest.values())])
        values = np.concatenate([np.empty(0), *(values for _, values in self._newest.values())])
        order = np.argsort(numbers)
        return numbers[order], values[order]

    @property
    def declared(self) -> int:
        """Return how many series there have been: the next one's number."""
        return self._next

    @property
    def latest(self) -> int | None:
        """Return the time of the newest scrape [ns], or None."""
        return self._blocks[-1].times[-1] if self._blocks else None

    def declare(self, labels: Mapping[str, str]) -> int:
        """Add a series and return its number."""
        number = self._next
        self._next += 1
        self.labels[number] = dict(sorted(labels.items()))
        return number

    def end(self, numbers: Sequence[int], time: int) -> None:
        """Say that series had their last sample at or before `time`; they are forgotten once that is beyond the retention."""
        self._ended.extend((time, number) for number in numbers)

    def append(self, time: int, numbers: Numbers, values: Values, part: int = 0) -> None:
        """Store one scrape; passing the same `numbers` object again saves looking the columns up.

        Where targets are scraped at different times, each is a `part` (from 1 on) with rows of its own.
        """
        assert self.latest is None or time >= self.latest + (part == 0), "scrapes come in order"
        if not self._blocks or len(self._blocks[-1].times) == _BLOCK_SCRAPES:
            self._blocks.append(_Block())
            self._forget(time - self._retention)
        self._blocks[-1].add(time, numbers, values, part)
        self._newest[part] = (numbers, values)
        if part:
            if len(numbers) and (top := int(numbers.max())) >= len(self._part_of):
                self._part_of = _widened(self._part_of, top + 1, 0)
            self._part_of[numbers] = part

    def window(self, numbers: Numbers, after: int, until: int) -> Window:
        """Return the scrapes with after < time <= until, for some series in the order asked."""
        times: list[int] = []
        parts: list[int] = []
        rows: list[Values] = []
        for block in self._blocks:
            first = int(np.searchsorted(block.times, after, side="right"))
            last = int(np.searchsorted(block.times, until, side="right"))
            if first < last:
                times += block.times[first:last]
                parts += block.parts[first:last]
                rows.append(block.rows(first, last, numbers))
        values = np.concatenate(rows) if rows else np.empty((0, len(numbers)))
        known = numbers < len(self._part_of)
        part_of = np.where(known, self._part_of[np.where(known, numbers, 0)], 0)
        return Window(np.array(times, np.int64), values, np.array(parts, np.int64), part_of)

    def _forget(self, before: int) -> None:
        while len(self._blocks) > 1 and self._blocks[0].times[-1] < before:
            self._blocks.popleft()
        oldest = self._blocks[0].times[0] if self._blocks[0].times else before
        while self._ended and self._ended[0][0] < oldest:
            del self.labels[self._ended.popleft()[1]]
            self.removals += 1


def _widened(array: Numbers, size: int, fill: int) -> Numbers:
    larger = np.full(max(size, 2 * len(array)), fill, np.int64)
    larger[: len(array)] = array
    return larger
