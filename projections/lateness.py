"""Rows that come late ➜ which of them still count, and what was left out.

In: rows with their times, and how far the run is settled. A row that isn't older than that lands where it belongs in time; an older one
would change buckets that were judged long ago (in a long run they are on disk already), so it is left out and counted: it is seen as a
gap. That depends on the log alone, not on when somebody folds it.

A *state* (a pod, a rollout) can't be left out, since it holds from then on: it counts from the moment up to which all is settled.

Upstream: `projections.fold`, which says how far the run is settled. Downstream: `happenings` (events of type `late`), `metadata`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

__all__ = ("LateRows", "Lateness")


class _Timed(Protocol):
    @property
    def time(self) -> int: ...


RowT = TypeVar("RowT", bound=_Timed, covariant=True)
StateT = TypeVar("StateT", bound=msgspec.Struct)


class _Bulk(Protocol[RowT]):
    @property
    def time(self) -> int: ...
    @property
    def rows(self) -> Sequence[RowT]: ...


class LateRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of a source that one flush brought too late."""

    time: int  #: of the flush
    source: str  #: metrics, spans, logs, kubernetes, workload
    count: int
    start: int  #: time of the oldest
    end: int  #: time of the newest


class Lateness:
    """What is settled of a run, and what came too late for it."""

    def __init__(self) -> None:
        self.settled = -(1 << 62)  #: [ns] nothing older may come any more
        self._left_out: dict[tuple[int, str], LateRows] = {}

    @property
    def left_out(self) -> tuple[LateRows, ...]:
        """What came too late, in the order of the log."""
        return tuple(self._left_out.values())

    def settle(self, moment: int) -> None:
        """Take note that everything before a moment [ns] has come."""
        self.settled = max(self.settled, moment)

    def in_time(self, source: str, event: _Bulk[RowT]) -> Sequence[RowT]:
        """Return the rows of an event that still count; the others are counted as late."""
        late = [row.time for row in event.rows if row.time < self.settled]
        if not late:
            return event.rows
        self.note(source, event.time, late)
        return [row for row in event.rows if row.time >= self.settled]

    def put_off(self, rows: Sequence[StateT]) -> Sequence[StateT]:
        """Return rows of states, each from the first moment on from which it can still count."""
        return [
            msgspec.structs.replace(row, time=self.settled) if row.time < self.settled else row  # type: ignore[attr-defined]
            for row in rows
        ]

    def note(self, source: str, time: int, late: Sequence[int]) -> None:
        """Count rows of a flush at `time` that were left out, by their times; parts of one flush are counted together."""
        if not late:
            return
        before = self._left_out.get((time, source))
        start, end, count = min(late), max(late), len(late)
        if before is not None:
            start, end, count = min(start, before.start), max(end, before.end), count + before.count
        self._left_out[time, source] = LateRows(time=time, source=source, count=count, start=start, end=end)
