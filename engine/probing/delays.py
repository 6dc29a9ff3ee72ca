"""A delay of nothing and one of 50 ms on one call edge, each put there, measured and taken back.

In: a connection to a stand that is held (`tenancy`). Out: findings. The delays are the catalogue's `network_delay`, made by the actuators
that episodes use: they are prechecked, seen in force, their inverse lies in the stand before them (a janitor makes it if we die), and
the way back is verified. What is measured is what an episode's tables would show: the latency that callers see, from Prometheus.

A measurement begins `LAG_SECONDS` after its cause: what was in an SDK's batch, a collector's flush or a scrape then was answered before.
The reference is the time before anything was done; the time after shows whether it is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from otel_control_gym.actuators import NetworkDelay, open_actuators
from otel_control_gym.engine.clock import SECOND, new_run_id, wall_now
from otel_control_gym.engine.errors import StandError, UsageError, nearest
from otel_control_gym.engine.events import Event
from otel_control_gym.engine.probing.edge_latency import EdgeMeter
from otel_control_gym.engine.probing.effects import PROBE_DELAY_MS, Latency, difference, judged
from otel_control_gym.engine.probing.stand_clock import StandClock
from otel_control_gym.engine.protocols import ActionRecord, Actuators, Request
from otel_control_gym.engine.settings import RunSettings, ServiceConfiguration
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding, failed, fine, unknown

__all__ = ("LAG_SECONDS", "Tell", "check_edge", "probe_delays", "steadiest")

LAG_SECONDS = 15  #: an SDK's batch, a collector's flush and a scrape of 5 s each
_SHORTEST_SECONDS, _FEWEST_SCRAPES = 30, 6  #: of a window
_EFFECT_SECONDS = 75  #: after which a delay that isn't seen in force won't be; the catalogue's deadline is 60
_BACK_SECONDS = 75.0  #: of our time, in which it is waited until the stand is without a delay again
_FEWEST_CALLS = 30  #: in a window, for an edge to be chosen
_CHECK = "delay"

Tell = Callable[[str], None]
"""Tells somebody who waits what is being done."""


def check_edge(edge: str, services: ServiceConfiguration) -> None:
    """Refuse an edge that the application doesn't have.

    Raises: UsageError: there is none of that name.
    """
    names = [f"{one.source}->{one.target}" for one in services.edges]
    if edge not in names:
        raise UsageError(f"{services.name} has no edge {edge!r}\n  {nearest(edge, names)}")


def steadiest(found: dict[str, Latency], services: ServiceConfiguration) -> str:
    """Return the edge on which a difference is seen best: of those with enough calls the one whose mean is known best; empty: none.

    Its callers hold their connections (a call that dials is late several times), and its target keeps no state.
    """
    edges = {f"{edge.source}->{edge.target}": edge for edge in services.edges}
    fit = [
        (one.error_ms, name)
        for name, one in found.items()
        if one.calls >= _FEWEST_CALLS
        and edges[name].connection == "sticky"
        and edges[name].protocol != "kafka"
        and not services.services[edges[name].target].stateful
    ]
    return min(fit, default=(0.0, ""))[1]


async def probe_delays(
    connection: Connection, settings: RunSettings, edge: str, clock: StandClock, tell: Tell
) -> list[Finding]:
    """Return what was seen of a delay of nothing and of one of 50 ms on an edge (empty: the steadiest); none of them stays.

    Raises: StandError: Prometheus doesn't answer any more.
    """
    run_id = new_run_id()
    async with open_actuators(connection.endpoints, settings, _forget, seed=wall_now(), run_id=run_id) as actuators:
        probe = _DelayProbe(actuators, EdgeMeter(connection, settings), settings, clock, tell)
        try:
            return await probe.findings(edge)
        finally:
            await probe.take_back()


async def _forget(event: Event, *, truth: bool = False) -> int:  # noqa: ARG001 - an episode's log would keep them
    """A doctor's doings are no run, and have no log: what must survive us lies in the stand."""
    return 0


class _DelayProbe:
    def __init__(
        self, actuators: Actuators, meter: EdgeMeter, settings: RunSettings, clock: StandClock, tell: Tell
    ) -> None:
        self._actuators, self._meter, self._settings = actuators, meter, settings
        self._clock, self._tell = clock, tell
        scrape = settings.granularity.scrape_interval_seconds
        self._window = max(_SHORTEST_SECONDS, _FEWEST_SCRAPES * scrape)
        self._now = 0
        self._record: ActionRecord | None = None

    async def findings(self, edge: str) -> list[Finding]:
        """Measure before, under both delays, and after."""
        before = await self._measured("without a delay", lag=False)
        edge = edge or steadiest(before, self._settings.services)
        if edge not in before:
            return [
                unknown(
                    _CHECK,
                    f"{edge or 'no edge'} had {'no' if edge else f'{_FEWEST_CALLS}'} calls in {self._window} s: nothing can be measured",
                    "the load generator has to send something that takes this way: ocg stand reset; --edge names another",
                )
            ]
        reference = before[edge]
        found = [
            fine(
                _CHECK,
                f"{edge} without a delay: {reference.mean_ms:.2f} ms (mean of {reference.calls} calls in {self._window} s)",
            )
        ]
        for delay_ms in (0, PROBE_DELAY_MS):
            what = f"under a delay of {delay_ms} ms"
            trouble = await self._put(edge, delay_ms)
            if trouble is None:
                found.append(self._compared(edge, what, delay_ms, await self._measured(f"{edge} {what}"), reference))
            trouble = await self.take_back() or trouble
            if trouble is not None:
                return [*found, trouble]
        found.append(self._compared(edge, "after both", 0, await self._measured(f"{edge} after both"), reference))
        return found

    def _compared(
        self, edge: str, what: str, asked_ms: int, measured: dict[str, Latency], reference: Latency
    ) -> Finding:
        if edge not in measured:
            return unknown(
                _CHECK, f"{edge} {what}: had no calls in {self._window} s", "more users: ocg stand reset --workload"
            )
        return judged(edge, what, asked_ms, difference(measured[edge], reference))

    async def _put(self, edge: str, delay_ms: int) -> Finding | None:
        """Put a delay on an edge; return why it isn't there."""
        seconds = _EFFECT_SECONDS + LAG_SECONDS + self._window
        strength: dict[str, Any] = {"latency_ms": delay_ms, "jitter_ms": 0} if delay_ms else {"intensity": "zero"}
        action = NetworkDelay(target=edge, duration_seconds=seconds, **strength)
        self._tell(f"{edge}: a delay of {delay_ms} ms is put there")
        self._now = await self._clock.now()
        self._record = record = await self._actuators.perform(
            Request(action=action, actor="human", truth=True), self._now
        )
        deadline = self._now + _EFFECT_SECONDS * SECOND
        while not _is_over(record) and record.effective is None and self._now < deadline:
            await self._live()
        if not _is_over(record) and record.effective is not None:
            return None
        return failed(
            _CHECK,
            f"a delay of {delay_ms} ms on {edge} isn't seen in force: {record.reason or record.status}",
            "kubectl describe networkchaos, and the log of the chaos daemon on the target's node, say why",
        )

    async def _measured(self, what: str, *, lag: bool = True) -> dict[str, Latency]:
        """Wait for a window without what was before it, and return the latency of each edge in it."""
        begin = await self._clock.now() + (LAG_SECONDS * SECOND if lag else -self._window * SECOND)
        end = begin + self._window * SECOND
        self._tell(f"{what}: measured for {self._window} s")
        while self._now < end:
            await self._live()
        return await self._meter.measure(begin, end)

    async def _live(self) -> None:
        """Wait a moment, and do what is due in it."""
        await self._clock.pause()
        self._now = await self._clock.now()
        due = self._actuators.due()
        if due is not None and due <= self._now:
            await self._actuators.run_due(self._now)

    async def take_back(self) -> Finding | None:
        """Take back the delay that is there, wait until the stand shows it, and return what is left; also when we are cancelled."""
        record, self._record = self._record, None
        if record is None or _is_over(record):
            return None
        with anyio.CancelScope(shield=True), anyio.move_on_after(_BACK_SECONDS):
            await self._actuators.close(self._now)
            while not _is_over(record):
                try:
                    await self._live()
                except StandError:  # without Prometheus its clock stands still: what is due is looked at all the same
                    self._now += SECOND
                    await self._actuators.run_due(self._now)
        if _is_over(record) and not record.revert_failed:
            return None
        return failed(
            _CHECK,
            f"the delay on {record.action.get('target')} isn't seen to be gone: {record.reason}",
            "ocg stand clean",
        )


def _is_over(record: ActionRecord) -> bool:
    """Return whether nothing more becomes of an attempt."""
    return record.settled is not None
