"""Who drives a stand: one environment at a time, by a key-value bucket whose entries expire.

In: a broker, a stand's name. Out: a context in which nobody else drives that stand. The entry is renewed three times in its life; one whose
holder died is gone after `LEASE_SECONDS`, and then the next taker has it.

Every write is fenced by the sequence of the entry that it follows, so of two takers one is refused, and a holder can't write over whoever
came after it. One that doesn't get through to the broker is told before its entry expires, and what it was doing on the stand is
cancelled; only a process that was itself stopped meanwhile learns it later, when it goes on.

The bucket is one of NATS' own (`nats kv get ocg-stands NAME` shows who holds a stand). Upstream: `engine.jetstream`. Downstream:
`engine.env`, for stands that outlive their process; an embedded twin needs no lease.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import anyio
import msgspec

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.clock import rfc3339, wall_now
from otel_control_gym.engine.errors import StandError, StandTaken
from otel_control_gym.engine.jetstream import JetStream, StreamConfig
from otel_control_gym.engine.nats_session import Stored, Unanswered

__all__ = ("LEASE_SECONDS", "leased")

LEASE_SECONDS = 15.0  #: after which a stand whose holder fell silent is free
_BUCKET = "ocg-stands"
_STREAM = f"KV_{_BUCKET}"
_RELEASED = {"KV-Operation": "DEL"}
_RELEASE_SECONDS = 5.0
_NUMBERS = count(1)  # a process may have several environments


class _BucketConfig(StreamConfig, frozen=True, kw_only=True, omit_defaults=False):
    """A stream as NATS' key-value buckets are: the last message of a subject is the value of a key."""

    max_msgs_per_subject: int = 1
    allow_rollup_hdrs: bool = True
    deny_purge: bool = False


class _Entry(msgspec.Struct, frozen=True):
    """Who holds a stand."""

    holder: str  #: host, process, and which of its environments
    since: int  #: wall time [ns]


@asynccontextmanager
async def leased(broker: Broker, name: str, *, seconds: float = LEASE_SECONDS) -> AsyncIterator[None]:
    """Hold a stand while the context is open; it is free at once when it is left.

    Raises: StandTaken: somebody else holds it (who, and since when). StandError: in the context: the lease was lost.
    """
    async with JetStream(broker) as jetstream:
        await jetstream.add_stream(
            _BucketConfig(
                name=_STREAM,
                subjects=(f"$KV.{_BUCKET}.>",),
                num_replicas=broker.replicas,
                max_age=round(seconds * 1e9),
            )
        )
        lease = _Lease(jetstream, name, seconds)
        await lease.take()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lease.keep)
                yield
                tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
                await lease.release()


class _Lease:
    """An entry of the bucket, in this process's hands."""

    def __init__(self, jetstream: JetStream, name: str, seconds: float) -> None:
        self._jetstream, self._name, self._seconds = jetstream, name, seconds
        self._subject = f"$KV.{_BUCKET}.{re.sub('[^-/_=a-zA-Z0-9]', '_', name)}"
        self._entry = _Entry(f"{socket.gethostname()}-{os.getpid()}-{next(_NUMBERS)}", wall_now())
        self._sequence = 0

    async def take(self) -> None:
        """Write the entry where there is none.

        Raises: StandTaken: there is one.
        """
        standing = await self._standing()
        held = _held(standing)
        if held is None and await self._write(after=standing.sequence if standing is not None else 0):
            return
        held = held or _held(await self._standing())
        who = f"{held.holder} since {rfc3339(held.since)}" if held is not None else "somebody else, this very moment"
        raise StandTaken(
            f"stand {self._name!r} is driven by {who}\n"
            f"  one environment at a time: wait for its end; if it died, the stand is free {self._seconds:g} s later"
        )

    async def keep(self) -> None:
        """Renew the entry for ever.

        Raises: StandError: it is somebody else's by now, or the broker didn't answer in time.
        """
        while True:
            await anyio.sleep(self._seconds / 3)
            renewed = False
            with anyio.move_on_after(self._seconds / 2), contextlib.suppress(Unanswered):
                renewed = await self._write(after=self._sequence)
            if not renewed:
                raise StandError(
                    f"the lease of stand {self._name!r} was lost: it couldn't be renewed within {self._seconds:g} s\n"
                    "  somebody else may drive the stand now; what was under way there is stopped"
                )

    async def release(self) -> None:
        """Mark the entry as deleted, if it is still ours."""
        with contextlib.suppress(Unanswered):  # then it expires
            await self._jetstream.store_after(self._subject, b"", last=self._sequence, headers=_RELEASED)

    async def _write(self, *, after: int) -> bool:
        """Write the entry as the follower of another; return whether it stands there now."""
        written = await self._jetstream.store_after(self._subject, msgspec.json.encode(self._entry), last=after)
        if written is None:  # refused, or written by an attempt whose answer was lost
            standing = await self._standing()
            if standing is None or _held(standing) != self._entry:
                return False
            written = standing.sequence
        self._sequence = written
        return True

    async def _standing(self) -> Stored | None:
        return await self._jetstream.last(_STREAM, self._subject)


def _held(standing: Stored | None) -> _Entry | None:
    """Return what an entry says; None where there is none, or one that was released."""
    return msgspec.json.decode(standing.body, type=_Entry) if standing is not None and standing.body else None
