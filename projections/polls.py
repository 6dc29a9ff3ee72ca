"""Polls of Coroot ➜ which findings stood when, as far as anybody could know.

In: the findings that were new or changed at each poll, and the polls that failed. Out: what was told when
(opened, changed, resolved), and for any moment the findings that stood by the newest poll before it.

- **When it was known** is what counts here, not when Coroot says that it began: an incident is told up to a minute after it opened, and
  an input that shows it earlier shows the future. (`coroot_findings.json` and the weak labels, which are no inputs, have Coroot's times.)
- **Unknown is not none.** Before the first poll, after one that failed, and once the newest is older than `STANDS_FOR`, nothing is known.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Finding

__all__ = ("STANDS_FOR", "Change", "FindingPolls", "Told")

STANDS_FOR = 120 * SECOND  #: what a poll told, two of Coroot's own refreshes
Change: TypeAlias = Literal["opened", "changed", "resolved"]


class Told(msgspec.Struct, frozen=True):
    """What a poll told of a finding."""

    time: int  #: of the poll [ns]
    change: Change
    finding: Finding


class FindingPolls:
    """All polls of a run."""

    def __init__(self) -> None:
        self._rows: dict[int, tuple[Finding, ...]] = {}  # by the moment of the poll
        self._failures: list[int] = []
        self._told: list[Told] | None = None  # null: to be made of the rows anew
        self._moments: list[int] = []
        self._standing: list[tuple[Finding, ...] | None] = []  # after the poll of that moment; null: it failed

    def take(self, rows: tuple[Finding, ...], moment: int) -> None:
        """Add what the poll of a moment [ns] told, in any order."""
        self._rows[moment] = self._rows.get(moment, ()) + rows
        self._told = None

    def fail(self, moment: int) -> None:
        """Add a poll that failed, in any order."""
        self._failures.append(moment)
        self._told = None

    @property
    def polled(self) -> bool:
        """Whether any poll succeeded."""
        return bool(self._rows)

    def told(self) -> Sequence[Told]:
        """Return everything that was told, by poll, then by the finding's own time and key."""
        if self._told is None:
            self._told = self._retold()
        return self._told

    def between(self, start: int, end: int) -> Sequence[Told]:
        """Return what was told in [start, end)."""
        return [row for row in self.told() if start <= row.time < end]

    def standing(self, moment: int) -> Sequence[Finding] | None:
        """Return the findings that stood by the newest poll at or before a moment; None where that isn't known."""
        self.told()
        position = bisect_right(self._moments, moment) - 1
        if position < 0 or moment - self._moments[position] > STANDS_FOR:
            return None
        return self._standing[position]

    def _retold(self) -> list[Told]:
        failed = {moment: None for moment in self._failures if moment not in self._rows}
        self._moments, self._standing = sorted([*self._rows, *failed]), []
        told: list[Told] = []
        known: dict[str, Finding] = {}
        for moment in self._moments:
            if moment in failed:
                self._standing.append(None)
                continue
            for finding in sorted(self._rows[moment], key=lambda row: (row.time, row.key)):
                new = finding.key not in known
                change: Change = "resolved" if finding.resolved is not None else "opened" if new else "changed"
                told.append(Told(moment, change, finding))
                known[finding.key] = finding
            self._standing.append(tuple(row for row in known.values() if row.resolved is None))
        return told
