"""The controllers' agenda: what is to be looked at, by whom, at which moment of virtual time.

In: keys that a controller wants to see again at some time. Out: the next one, in order of (time, order of adding).

A key that is asked for twice is looked at once, at the earlier time, as in Kubernetes' work queues: a controller never acts on a
change but on the state it finds. So the order of the agenda is a fact of the run, and the same in every process.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

__all__ = ("Task", "WorkQueue")


class Task(NamedTuple):
    """What a controller is asked to look at: itself, a step of its own naming, and the object's key."""

    controller: str
    step: str
    key: str


class WorkQueue:
    """Tasks by due time [ns]; each task is queued once at most."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Task]] = []
        self._due: dict[Task, tuple[int, int]] = {}
        self._added = 0

    def add(self, due: int, task: Task) -> None:
        """Ask for a task at `due`; if it is queued for that time or an earlier one already, nothing changes."""
        queued = self._due.get(task)
        if queued is not None and queued[0] <= due:
            return
        self._added += 1
        self._due[task] = (due, self._added)
        heapq.heappush(self._heap, (due, self._added, task))

    def due(self) -> int | None:
        """Return the time of the next task, or None."""
        self._drop_replaced()
        return self._heap[0][0] if self._heap else None

    def take(self) -> tuple[int, Task] | None:
        """Remove the next task and return it with its due time, or None."""
        self._drop_replaced()
        if not self._heap:
            return None
        due, _, task = heapq.heappop(self._heap)
        del self._due[task]
        return due, task

    def _drop_replaced(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
