"""Cleans a stand of runs whose gym has died: the janitor's rounds.

In: the Leases of a namespace, look by look. Out: for each that nobody renews the inverses that its run kept are made, newest first; what
was done is noted beside them, and the Lease goes. What can't be taken back stays kept, is said, and is tried again.

- **No clocks are compared.** A Lease has run out when the janitor itself has seen it unchanged for as long as it lasts (as leader election
  in client-go has it), so that a gym's clock may be wrong. One without a holder was given back: it has run out at once.
- **One acts.** A takeover names the version that was seen; of two janitors, or of a janitor and a gym that lives after all, one is told of
  a conflict. A janitor that dies at work is followed by another after `WORK_SECONDS`; every call can be repeated.
- **Others' faults stay.** Of chaos objects those alone are removed that bear the id of an action that is taken back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import anyio
import msgspec

from otel_control_gym.actuators.janitor import Cleaned, Janitor, open_janitor
from otel_control_gym.actuators.kubernetes_client import open_kubernetes
from otel_control_gym.actuators.leases import (
    LEASE_SECONDS,
    RUN_LABEL,
    TAKEN_BACK,
    Inverses,
    KeptStand,
    Lease,
    LeaseStore,
    conflicts,
    is_missing,
)
from otel_control_gym.actuators.transport import CallError
from otel_control_gym.engine.clock import rfc3339, wall_now, wall_timer
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Caretaker", "TakenBack", "make_round")

WORK_SECONDS = 900  #: how long a janitor may be at work before it, too, is taken for dead
_PROBLEMS = "problems."

OpenJanitor = Callable[[KeptStand], AbstractAsyncContextManager[Janitor]]


class TakenBack(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about one action of a dead run."""

    run_id: str
    action_id: str
    janitor: str
    time: str  #: of the wall clock
    cleaned: Cleaned


class Caretaker:
    """Makes rounds; remembers between them which Lease it has seen, and since when.

    Args:
        identity: under which it takes Leases over.
        timer: a monotonic time in seconds.
        now: the wall clock [ns].
    """

    def __init__(
        self, identity: str, timer: Callable[[], float] = wall_timer, now: Callable[[], int] = wall_now
    ) -> None:
        self._identity, self._timer, self._now = identity, timer, now
        self._seen: dict[str, tuple[str, float]] = {}  # by UID of the Lease: its version, and when it was first seen
        self.next_seconds: float | None = (
            None  #: from the last round until the first Lease runs out if it stays as it is
        )

    async def make_round(self, store: LeaseStore, open_janitor: OpenJanitor) -> list[TakenBack]:
        """Look at every Lease; clean up after those that have run out, and return what was done.

        Raises: CallError: the Leases can't be read or written.
        """
        done: list[TakenBack] = []
        for lease in self._expired(await store.leases()):
            try:
                taken = await store.hold(lease, self._identity, WORK_SECONDS, self._now())
            except CallError as error:
                if conflicts(error) or is_missing(error):
                    continue  # renewed in time, or another janitor was faster
                raise
            done += await self._clean(store, taken, open_janitor)
        return done

    def _expired(self, leases: tuple[Lease, ...]) -> list[Lease]:
        """Return the Leases that have run out, and remember the others."""
        now, before = self._timer(), self._seen
        self._seen = {}
        expired, remaining = [], []
        for lease in leases:
            version, uid = lease.metadata.resource_version, lease.metadata.uid
            known, since = before.get(uid, (version, now))
            self._seen[uid] = (version, since if known == version else now)
            left = lease.spec.lease_duration_seconds - (now - self._seen[uid][1])
            if left <= 0 or not lease.spec.holder_identity:
                expired.append(lease)
            else:
                remaining.append(left)
        self.next_seconds = min(remaining, default=None)
        return expired

    async def _clean(self, store: LeaseStore, lease: Lease, open_janitor: OpenJanitor) -> list[TakenBack]:
        name, run_id = lease.metadata.name, (lease.metadata.labels or {}).get(RUN_LABEL, "")
        try:
            data = (await store.config_map(name)).data
        except CallError as error:
            if not is_missing(error):
                raise
            data = {}  # the gym died before it had made one, so before any change
        kept = {
            key: msgspec.json.decode(text, type=Inverses)
            for key, text in data.items()
            if key != "stand" and not key.startswith((TAKEN_BACK, _PROBLEMS))
        }
        done: list[TakenBack] = []
        if kept:
            async with open_janitor(msgspec.json.decode(data["stand"], type=KeptStand)) as janitor:
                for action_id in sorted(kept, key=lambda key: kept[key].number, reverse=True):
                    cleaned = await janitor.clean(kept[action_id].calls, action_id=action_id)
                    noted = TakenBack(
                        run_id=run_id,
                        action_id=action_id,
                        janitor=self._identity,
                        time=rfc3339(self._now()),
                        cleaned=cleaned,
                    )
                    await store.write_keys(name, _note(noted))
                    done.append(noted)
        if all(noted.cleaned.clean for noted in done):
            noteworthy = done or any(key.startswith(TAKEN_BACK) for key in data)
            await store.remove(lease, with_config_map=bool(data) and not noteworthy)
        else:
            await store.hold(lease, self._identity, LEASE_SECONDS, self._now())  # tried again when that has run out
        return done


async def make_round(caretaker: Caretaker, endpoints: Endpoints, namespace: str) -> list[TakenBack]:
    """Make one round of a stand; the URLs of load generator and flagd are those that the gym noted, where `endpoints` has none.

    Raises: CallError: the Leases can't be read or written.
    """

    def open_for(stand: KeptStand) -> AbstractAsyncContextManager[Janitor]:
        place = msgspec.structs.replace(
            endpoints,
            namespace=stand.namespace,
            load_generator=endpoints.load_generator or stand.load_generator,
            flagd=endpoints.flagd or stand.flagd,
        )
        return open_janitor(place, anyio.sleep)

    async with open_kubernetes(endpoints) as kubernetes:
        return await caretaker.make_round(LeaseStore(kubernetes, namespace), open_for)


def _note(noted: TakenBack) -> dict[str, str | None]:
    """Return the keys to write about an action: its inverse goes only when it is seen to have come true."""
    action_id, text = noted.action_id, msgspec.json.encode(noted).decode()
    if noted.cleaned.clean:
        return {action_id: None, _PROBLEMS + action_id: None, TAKEN_BACK + action_id: text}
    return {_PROBLEMS + action_id: text}
