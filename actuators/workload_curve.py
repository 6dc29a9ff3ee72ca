"""A workload that changes over time: its curve ➜ calls of the load generator at due moments.

In: the points of `Workload.curve`. Out: a POST to the load generator (`/swarm` for users, `/ocg/rate` for open arrivals) at each change. A
linear curve is followed in steps of `STEP_SECONDS`; where nothing changes nothing is called.

The curve is part of the script, like the workload itself: it is declared to the truth stream at the start, and what it does is seen in the
load generator's own account, as for any load. A call that fails isn't repeated: the next change says what is wanted then.

An action that sets the load takes it from the curve. So the load generator is asked first what it was told last: while that is neither
what the curve nor what the workload began with, a change of the curve is skipped; once the action is reverted, the next one counts.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Final

import msgspec

from otel_control_gym.actuators.transport import CallError
from otel_control_gym.actuators.workload import LoadGenerator, open_load_generator
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.settings import Workload, WorkloadPoint

__all__ = ("STEP_SECONDS", "WorkloadCurve", "changes", "open_curve")

STEP_SECONDS: Final = 5  #: between two changes on a line


class _Answer(msgspec.Struct, frozen=True):
    success: bool = True


class _Told(msgspec.Struct, frozen=True):
    users_target: int
    rate_per_s: float | None = None


def changes(workload: Workload) -> tuple[tuple[int, float], ...]:
    """Return (seconds of control time, users or tasks per second) of each change, ascending in time."""
    levels = [(point.at_seconds, _level(workload, point)) for point in workload.curve]
    found: list[tuple[int, float]] = []
    for (start, before), (end, after) in pairwise(levels):
        found.append((start, before))
        if workload.interpolation == "linear":
            share = ((at, (at - start) / (end - start)) for at in range(start + STEP_SECONDS, end, STEP_SECONDS))
            found += [(at, before + (after - before) * part) for at, part in share]
    found += levels[-1:]
    if workload.arrivals == "closed":
        found = [(at, float(round(level))) for at, level in found]
    current = float(workload.users if workload.arrivals == "closed" else workload.rate_per_s)
    kept = []
    for at, level in found:
        if level != current:
            kept.append((at, level))
            current = level
    return tuple(kept)


def _level(workload: Workload, point: WorkloadPoint) -> float:
    level = point.users if workload.arrivals == "closed" else point.rate_per_s
    assert level is not None, "the configuration was checked"
    return float(level)


class WorkloadCurve:
    """Follows a workload's curve (`engine.protocols.WorkloadDriver`)."""

    def __init__(self, load_generator: LoadGenerator, workload: Workload) -> None:
        self._load_generator, self._workload = load_generator, workload
        self._changes = list(changes(workload))
        self._start: int | None = None
        self._initial = float(workload.users if workload.arrivals == "closed" else workload.rate_per_s)
        self._ours = [self._initial]  # what it may have been told last, if nobody else told it anything

    def begin(self, now: int) -> None:
        """Let the curve's time begin."""
        self._start = now

    def due(self) -> int | None:
        """Return the moment of the next change, or None."""
        if self._start is None or not self._changes:
            return None
        return self._start + self._changes[0][0] * SECOND

    async def run_due(self, now: int) -> None:
        """Ask for the load that is due by `now`."""
        level = None
        while (due := self.due()) is not None and due <= now:
            _, level = self._changes.pop(0)
        if level is None or not await self._is_ours():
            return
        if self._workload.arrivals == "closed":
            path = "swarm"
            form = {"user_count": f"{level:.0f}", "spawn_rate": f"{self._workload.spawn_rate_per_s:g}"}
        else:
            path, form = "ocg/rate", {"rate_per_s": repr(level)}
        self._ours.append(level)
        with suppress(CallError):  # the load generator's account shows what it does instead
            await self._load_generator.call("POST", path, _Answer, form=form)
            self._ours = [self._initial, level]  # a load generator that was restarted begins anew

    async def _is_ours(self) -> bool:
        """Return whether nobody but the curve has set the load; a load generator that doesn't tell is taken to be the curve's."""
        try:
            told = await self._load_generator.call("GET", "ocg/workload", _Told)
        except CallError:
            return True
        level = told.users_target if self._workload.arrivals == "closed" else told.rate_per_s
        return level is None or any(math.isclose(level, ours) for ours in self._ours)


@asynccontextmanager
async def open_curve(endpoints: Endpoints, workload: Workload) -> AsyncIterator[WorkloadCurve]:
    """Open what follows a workload's curve on a stand."""
    async with open_load_generator(endpoints) as load_generator:
        yield WorkloadCurve(load_generator, workload)
