"""The way back lies in the stand before a change does, so that a gym that dies leaves nobody's stand broken.

In: the inverse calls of an action that is about to be made. Out: a key in the run's ConfigMap, and a Lease that is renewed as long as the
gym lives. When it isn't, a janitor on the stand's side makes the calls (`caretaker`). This is for stands that outlive the gym; an
embedded twin dies with it, has nothing to be saved, and none of these objects.

- **Who acts shows first that they live**: before an inverse is written the Lease is renewed. A gym that was cut off for so long that a
  janitor took over is told so by the conflict, and changes nothing any more.
- **What can't be kept isn't made**: a refusal is the reason for which the action is rejected.
- **A key goes when the change has gone** (or is to stay: it settled). A key that couldn't be removed costs an inverse too many, which is
  harmless (they are absolute); it goes with the next write.

Lease and ConfigMap are made with the first change. Wall time comes from `engine.clock`: none of this is logged.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec

from otel_control_gym.actuators.kubernetes_client import KubernetesClient
from otel_control_gym.actuators.leases import (
    LEASE_SECONDS,
    Inverses,
    KeptStand,
    Lease,
    LeaseStore,
    conflicts,
    is_missing,
    lease_name,
)
from otel_control_gym.actuators.transport import CallError, Refused
from otel_control_gym.engine.clock import wall_now
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import InverseCall
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("MOST_BYTES", "Safekeeper", "open_safekeeping")

MOST_BYTES = 600_000  #: of all inverses that are kept at once: a ConfigMap holds 1 MiB, and a janitor's notes need room
RENEW_SECONDS = 15.0  #: three renewals may fail before the fourth is too late
RELEASE_SECONDS = 10.0  #: wall time that giving the Lease back may take

_LOGGER = logging.getLogger(__name__)


class Safekeeper:
    """Keeps the inverses of one run, and its Lease.

    Args:
        store: of the namespace in which they are kept.
        run_id: holder of the Lease.
        stand: what a janitor must know of the stand.
        now: the wall clock [ns].
    """

    def __init__(self, store: LeaseStore, run_id: str, stand: KeptStand, now: Callable[[], int] = wall_now) -> None:
        self._store, self._run_id, self._stand, self._now = store, run_id, stand, now
        self._name = lease_name(run_id)
        self._lease: Lease | None = None
        self._lock = (
            anyio.Lock()
        )  # one write of the Lease at a time: each names the version that the one before it made
        self._count = 0
        self._kept: dict[str, str] = {}
        self._stale: set[str] = set()  # keys that are to go and may still be there
        self._lost = ""  # why the Lease is no longer ours

    async def keep(self, action_id: str, inverse: tuple[InverseCall, ...]) -> str:
        """Write the inverse of a change that is about to be made; return why it can't be, or nothing.

        Raises: CallError: nobody knows whether it was written.
        """
        if not inverse:
            return ""
        self._count += 1
        text = msgspec.json.encode(Inverses(number=self._count, calls=inverse)).decode()
        size = sum(map(len, self._kept.values())) + len(text.encode())
        if size > MOST_BYTES:
            return f"the inverses of all that is in force would have {size} bytes, more than the {MOST_BYTES} that can be kept"
        try:
            await self.renew()
            if self._lost:
                return self._lost
            self._kept[action_id] = text
            await self._write({action_id: text})
        except Refused as refusal:
            self._kept.pop(action_id, None)
            return f"its inverse can't be kept in namespace {self._store.namespace!r}: {refusal}"
        return ""

    async def forget(self, action_id: str) -> None:
        """Remove a key whose change is gone or is to stay; one that can't be removed now goes with the next write."""
        if self._kept.pop(action_id, None) is None:
            return
        self._stale.add(action_id)
        try:
            await self._write({})
        except CallError as error:
            _LOGGER.warning("the inverse of action %s is still kept: %s", action_id, error)

    async def renew(self) -> None:
        """Renew the Lease; make it, if this is the first time.

        Raises: CallError: it couldn't be, and nobody else is known to have it.
        """
        async with self._lock:
            if self._lost:
                return
            if self._lease is None:
                self._lease = await self._make()
            try:
                self._lease = await self._store.hold(self._lease, self._run_id, LEASE_SECONDS, self._now())
            except CallError as error:
                if is_missing(error):
                    self._lost = f"Lease {self._name!r} is gone: a janitor has cleaned the stand of this run"
                elif conflicts(error):
                    await self._look()
                else:
                    raise

    async def _make(self) -> Lease:
        try:
            return await self._store.make(self._run_id, self._stand, self._now())
        except Refused as refusal:
            if not is_missing(refusal):
                raise
        await self._store.make_namespace()
        return await self._store.make(self._run_id, self._stand, self._now())

    async def _look(self) -> None:
        """Find out who has written the Lease: a renewal of ours whose answer was lost, or somebody who thinks us dead."""
        lease = await self._store.lease(self._name)
        if lease.spec.holder_identity == self._run_id:
            self._lease = lease
        else:
            self._lost = f"Lease {self._name!r} was taken over by {lease.spec.holder_identity!r}, who takes this run's changes back"

    async def _write(self, data: dict[str, str]) -> None:
        stale = sorted(self._stale)
        await self._store.write_keys(self._name, {**dict.fromkeys(stale), **data})
        self._stale.difference_update(stale)

    async def renew_forever(self) -> None:
        """Renew the Lease, once there is one, until cancelled; a renewal that fails is tried again at its next turn."""
        while True:
            await anyio.sleep(RENEW_SECONDS)
            if self._lease is None:
                continue
            try:
                await self.renew()
            except CallError as error:
                _LOGGER.warning("Lease %s couldn't be renewed: %s", self._name, error)

    async def release(self) -> None:
        """Remove what is kept; if something of the run is still on the stand, give the Lease to whoever cleans it at once."""
        if self._lease is None or self._lost:
            return
        with anyio.move_on_after(RELEASE_SECONDS, shield=True):
            try:
                if self._kept:
                    await self._store.hold(self._lease, "", LEASE_SECONDS, self._now())
                else:
                    await self._store.remove(self._lease, with_config_map=True)
            except CallError as error:
                _LOGGER.warning("Lease %s wasn't given back, it runs out: %s", self._name, error)


@asynccontextmanager
async def open_safekeeping(
    kubernetes: KubernetesClient, endpoints: Endpoints, run_id: str
) -> AsyncIterator[Safekeeper | None]:
    """Open the safekeeping of a run, its Lease renewed inside; None where the stand dies with the gym.

    Raises: StandError: the namespace is the application's own.
    """
    if not endpoints.safekeeping:
        yield None
        return
    if endpoints.safekeeping == endpoints.namespace:
        raise StandError(
            f"inverses are to be kept in namespace {endpoints.safekeeping!r}, the application's, which policies may read: name another one"
        )
    stand = KeptStand(namespace=endpoints.namespace, load_generator=endpoints.load_generator, flagd=endpoints.flagd)
    keeper = Safekeeper(LeaseStore(kubernetes, endpoints.safekeeping), run_id, stand)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.renew_forever)
        try:
            yield keeper
        except Exception as error:  # noqa: BLE001 - raised below, as it came: a task group would wrap it
            failure = error
        finally:
            tasks.cancel_scope.cancel()
            await keeper.release()
    if failure is not None:
        raise failure
