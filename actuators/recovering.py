"""What becomes of a dead run's changes when somebody recovers it: from its log, and from what lies on its stand.

In: the events of the log, and the stand, if it has outlived the run. Out: the events that the log lacks; on the stand nothing that was to
end, and nothing that was kept for that.

- **A janitor may have been there.** What it took back it noted (`taken-back.ID`); that isn't done again, and the log tells what was noted.
- **One acts.** The run's Lease is taken over first. Where a janitor is at work its notes aren't whole: that is an error, come again.
- **Notes go when they are in the log**, not before: whoever dies in between finds them again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from otel_control_gym.actuators.caretaker import WORK_SECONDS
from otel_control_gym.actuators.janitor import Sleep, open_janitor, put_in_order
from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.actuators.leases import (
    LEASE_SECONDS,
    Lease,
    LeaseStore,
    conflicts,
    is_missing,
    lease_name,
    taken_back,
)
from otel_control_gym.actuators.transport import CallError
from otel_control_gym.engine.clock import new_run_id, wall_now
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import ActionReverted, Event
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("DeadRun", "recovering")


class DeadRun:
    """What lies on a stand of a run that is dead: its Lease, and what janitors noted.

    Args:
        kubernetes: of the stand.
        namespace: in which gyms keep Leases and inverses.
        run_id: of the run.
    """

    def __init__(self, kubernetes: KubernetesClient, namespace: str, run_id: str) -> None:
        self._store = LeaseStore(kubernetes, namespace)
        self._run_id = run_id
        self._lease: Lease | None = None
        self._kept = False

    async def claim(self) -> dict[str, Any]:
        """Take the run's Lease over, and return what was noted, by action id; nothing, if nothing is kept.

        Raises:
            StandError: a janitor is at work.
            CallError: the stand can't be read or written.
        """
        name = lease_name(self._run_id)
        try:
            lease = await self._store.lease(name)
            if lease.spec.holder_identity not in (None, "", self._run_id):
                holder = lease.spec.holder_identity
                raise StandError(
                    f"{holder} is taking back what run {self._run_id} has changed: try again when it is done"
                )
            self._lease = await self._store.hold(lease, f"recovery-{new_run_id()}", WORK_SECONDS, wall_now())
        except CallError as error:
            if conflicts(error):
                raise StandError(f"a janitor has begun with run {self._run_id}: try again when it is done") from error
            if not is_missing(error):
                raise
        try:
            kept = await self._store.config_map(name)
        except CallError as error:
            if not is_missing(error):
                raise
            return {}
        self._kept = True
        return taken_back(kept)

    async def close(self, *, clean: bool) -> None:
        """Remove Lease and notes; if something stayed on the stand, give the Lease to whoever cleans it at once.

        Raises: CallError: the stand can't be written.
        """
        if not clean and self._lease is not None:
            await self._store.hold(self._lease, "", LEASE_SECONDS, wall_now())
        elif clean and self._lease is not None:
            await self._store.remove(self._lease, with_config_map=self._kept)
        elif clean and self._kept:
            await self._store.remove_config_map(lease_name(self._run_id))


@asynccontextmanager
async def recovering(
    endpoints: Endpoints | None, run_id: str, events: Iterable[tuple[Event, bool]], now: int, sleep: Sleep = anyio.sleep
) -> AsyncIterator[list[tuple[Event, bool]]]:
    """Take back what a dead run has left, and yield the events that its log lacks; leave when they are durable.

    Args:
        endpoints: of its stand; None: that died, too.
        run_id: of the run.
        events: of its log, of both streams, as (event, truth).
        now: the time of what is to be appended [ns].
        sleep: waits seconds of the stand's time.

    Raises: StandError: the stand can't be reached, or a janitor is at work.
    """
    if endpoints is None:
        yield await put_in_order(events, now, None)
        return
    try:
        async with open_kubernetes(endpoints) as kubernetes, open_janitor(endpoints, sleep) as janitor:
            dead = DeadRun(kubernetes, endpoints.safekeeping, run_id) if endpoints.safekeeping else None
            noted = {} if dead is None else await dead.claim()
            missing = await put_in_order(events, now, janitor, noted)
            yield missing
            if dead is not None:
                reverts = [event for event, _ in missing if isinstance(event, ActionReverted)]
                await dead.close(clean=all(event.verified for event in reverts))
    except CallError as error:
        raise StandError(f"what run {run_id} has left on its stand can't be taken back: {error}") from error
