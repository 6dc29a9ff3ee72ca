"""Rows ➜ summaries per window, each window once.

In: a timeline and the function that sums up the rows of a window. Out: the summaries of the windows that overlap a stretch of time, in the
order of time; windows are aligned to the run's start.

A window is summed up of its own rows and of nothing else: so what it says doesn't hang on other windows, on how the log was cut into
events, or on when it is asked. A row that comes late changes its own window, and no other. Rows are only ever added to a timeline, so
their number tells whether a stretch has changed since it was summed up last; live, most windows are asked for in every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from otel_control_gym.projections.timelines import Timeline

__all__ = ("Windows",)


class _Timed(Protocol):
    @property
    def time(self) -> int: ...


RowT = TypeVar("RowT", bound=_Timed)
SummaryT = TypeVar("SummaryT")
_KEPT = 64  #: stretches whose summaries are kept


class Windows(Generic[RowT, SummaryT]):
    """The windows of a timeline; `sum_up` makes a window's summaries of its start [ns] and its rows."""

    def __init__(self, timeline: Timeline[RowT], sum_up: Callable[[int, Sequence[RowT]], tuple[SummaryT, ...]]) -> None:
        self._timeline = timeline
        self._sum_up = sum_up
        self._known: dict[tuple[int, int], tuple[int, tuple[SummaryT, ...]]] = {}

    def between(self, start: int, end: int, origin: int, length: int, *, cut: bool = True) -> Iterator[SummaryT]:
        """Yield the summaries of the windows of `length` ns that overlap [start, end).

        The first window is whole. The last one, if it isn't over at `end`, holds what was before `end`, unless `cut` is False.
        """
        window = origin + (start - origin) // length * length
        while window < end:
            stop = min(window + length, end) if cut else window + length
            yield from self._window(window, stop)
            window += length

    def _window(self, start: int, stop: int) -> tuple[SummaryT, ...]:
        rows = self._timeline.between(start, stop)
        count, found = self._known.get((start, stop), (0, ()))
        if count != len(rows):
            found = self._sum_up(start, rows)
            self._known[start, stop] = len(rows), found
            if len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]
        return found
