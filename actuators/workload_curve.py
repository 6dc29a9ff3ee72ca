"""A workload that changes over time: its curve and its mixes ➜ calls of the load generator at due moments.

In: the points of `Workload.curve`, and `Workload.mix_changes`. Out: a POST to the load generator at each change: `/swarm` for users,
`/ocg/rate` for open arrivals, `/ocg/mix` for the mix. A linear curve is followed in steps of `STEP_SECONDS`, a mix changes at once; where
nothing changes nothing is called.

The curve is part of the script, like the workload itself: it is declared to the truth stream at the start, and what it does is seen in the
load generator's own account, as for any load. A call that fails isn't repeated: the next change says what is wanted then.

An action that sets the load takes it from the curve. So the load generator is asked first what it was told last: while that is neither
what the curve nor what the workload began with, a change of the curve is skipped; once the action is reverted, the next one counts. The
same goes for the mix, by itself: an action that sets the users leaves the mix to the workload.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Final, TypeVar

import msgspec

from otel_control_gym.actuators.transport import CallError
from otel_control_gym.actuators.workload import LoadGenerator, open_load_generator
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import InverseCall
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.settings import ServiceConfiguration, Workload, WorkloadPoint

__all__ = ("STEP_SECONDS", "WorkloadCurve", "changes", "first_mix", "mixes", "open_curve")

T = TypeVar("T")

STEP_SECONDS: Final = 5  #: between two changes on a line


class _Answer(msgspec.Struct, frozen=True):
    success: bool = True


class _Told(msgspec.Struct, frozen=True):
    users_target: int
    rate_per_s: float | None = None
    mix: dict[str, float] = {}


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


def mixes(workload: Workload, services: ServiceConfiguration) -> tuple[tuple[int, dict[str, float]], ...]:
    """Return (seconds of control time, weights of all flows) of each change of the mix, ascending in time."""
    current = first_mix(workload, services)
    begins, kept = current, []
    for change in workload.mix_changes:
        whole = begins | change.mix
        if whole != current:
            kept.append((change.at_seconds, whole))
            current = whole
    return tuple(kept)


def first_mix(workload: Workload, services: ServiceConfiguration) -> dict[str, float]:
    """Return the weights of all flows with which a workload begins."""
    return {name: workload.mix.get(name, flow.weight) for name, flow in services.flows.items()}


def _level(workload: Workload, point: WorkloadPoint) -> float:
    level = point.users if workload.arrivals == "closed" else point.rate_per_s
    assert level is not None, "the configuration was checked"
    return float(level)


class WorkloadCurve:
    """Follows a workload's curve (`engine.protocols.WorkloadDriver`)."""

    def __init__(self, load_generator: LoadGenerator, workload: Workload, services: ServiceConfiguration) -> None:
        self._load_generator, self._workload = load_generator, workload
        self._changes = list(changes(workload))
        self._mixes = list(mixes(workload, services))
        self._first_mix = first_mix(workload, services)
        self._our_mixes = [self._first_mix]
        self._start: int | None = None
        self._initial = float(workload.users if workload.arrivals == "closed" else workload.rate_per_s)
        self._ours = [self._initial]  # what it may have been told last, if nobody else told it anything

    def begin(self, now: int) -> None:
        """Let the curve's time begin."""
        self._start = now

    def due(self) -> int | None:
        """Return the moment of the next change, or None."""
        if self._start is None or not (self._changes or self._mixes):
            return None
        first = min(changes[0][0] for changes in (self._changes, self._mixes) if changes)
        return self._start + first * SECOND

    async def run_due(self, now: int) -> None:
        """Ask for the load and the mix that are due by `now`."""
        level, mix = self._due_by(self._changes, now), self._due_by(self._mixes, now)
        if level is None and mix is None:
            return
        told = await self._told()
        if level is not None and self._is_ours(told):
            await self._set_level(level)
        if mix is not None and self._is_our_mix(told):
            await self._set_mix(mix)

    def _due_by(self, changes: list[tuple[int, T]], now: int) -> T | None:
        """Take what is due by `now` off a list; return the last of it."""
        found = None
        while self._start is not None and changes and self._start + changes[0][0] * SECOND <= now:
            _, found = changes.pop(0)
        return found

    async def _set_level(self, level: float) -> None:
        if self._workload.arrivals == "closed":
            path = "swarm"
            form = {"user_count": f"{level:.0f}", "spawn_rate": f"{self._workload.spawn_rate_per_s:g}"}
        else:
            path, form = "ocg/rate", {"rate_per_s": repr(level)}
        self._ours.append(level)
        with suppress(CallError):  # the load generator's account shows what it does instead
            await self._load_generator.call("POST", path, _Answer, form=form)
            self._ours = [self._initial, level]  # a load generator that was restarted begins anew

    async def _set_mix(self, mix: dict[str, float]) -> None:
        self._our_mixes.append(mix)
        with suppress(CallError):
            await self._load_generator.write(
                InverseCall(api="load_generator", method="POST", path="ocg/mix", body=dict(mix))
            )
            self._our_mixes = [self._first_mix, mix]

    async def _told(self) -> _Told | None:
        try:
            return await self._load_generator.call("GET", "ocg/workload", _Told)
        except CallError:
            return None

    def _is_our_mix(self, told: _Told | None) -> bool:
        """Return whether nobody but the workload has set the mix; one that isn't told is taken to be the workload's."""
        return not (told and told.mix) or any(_same_shares(told.mix, ours) for ours in self._our_mixes)

    def _is_ours(self, told: _Told | None) -> bool:
        """Return whether nobody but the curve has set the load; a load generator that doesn't tell is taken to be the curve's."""
        if told is None:
            return True
        level = told.users_target if self._workload.arrivals == "closed" else told.rate_per_s
        return level is None or any(math.isclose(level, ours) for ours in self._ours)


def _same_shares(shares: Mapping[str, float], weights: Mapping[str, float]) -> bool:
    total = sum(weights.values())
    return all(
        math.isclose(shares.get(flow, 0.0), weight / total, rel_tol=1e-6, abs_tol=1e-9)
        for flow, weight in weights.items()
    )


@asynccontextmanager
async def open_curve(
    endpoints: Endpoints, workload: Workload, services: ServiceConfiguration
) -> AsyncIterator[WorkloadCurve]:
    """Open what follows a workload's curve and mixes on a stand; `services` has the flows and their weights."""
    async with open_load_generator(endpoints) as load_generator:
        yield WorkloadCurve(load_generator, workload, services)
