"""Rows of many events ➜ one row of rows in time.

In: rows as events bring them, nearly sorted. Out: the rows of [start, end), in the order of (time, key), which doesn't depend on how
they were spread over events.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

__all__ = ("Timeline",)


class _Timed(Protocol):
    @property
    def time(self) -> int: ...


RowT = TypeVar("RowT", bound=_Timed)


class Timeline(Generic[RowT]):
    """Rows that know their time, kept in the order of (time, key)."""

    def __init__(self, key: Callable[[RowT], tuple[str, ...]]) -> None:
        self._key = key
        self._rows: list[RowT] = []
        self._fresh: list[RowT] = []

    def extend(self, rows: Iterable[RowT]) -> None:
        """Add rows in any order."""
        self._fresh.extend(rows)

    def all(self) -> Sequence[RowT]:
        """Return all rows."""
        if self._fresh:
            # Mostly what is new is newer than all before; then only it is sorted, however long the run is already.
            self._fresh.sort(key=self._place)
            if self._rows and self._place(self._fresh[0]) < self._place(self._rows[-1]):
                self._rows = sorted(self._rows + self._fresh, key=self._place)
            else:
                self._rows += self._fresh
            self._fresh = []
        return self._rows

    def _place(self, row: RowT) -> tuple[int, tuple[str, ...]]:
        return row.time, self._key(row)

    def between(self, start: int, end: int) -> Sequence[RowT]:
        """Return the rows of start <= time < end."""
        rows = self.all()
        return rows[bisect_left(rows, start, key=_time) : bisect_left(rows, end, key=_time)]

    def last(self, moment: int) -> RowT | None:
        """Return the last row at or before a moment."""
        rows = self.all()
        position = bisect_right(rows, moment, key=_time)
        return rows[position - 1] if position else None


def _time(row: _Timed) -> int:
    return row.time
