"""One environment at a time on a stand: a Lease of Kubernetes, held while a stand is open.

In: a connection. Out: a context in which nobody else has the stand, from whichever machine or data directory. `engine.leases` keeps two
environments of one broker apart, and says so sooner; two brokers know nothing of each other, but both know the stand.

The entry is renewed three times in its life. One whose holder died may be taken when it has run out, by the time that stands in it. Every
write names the version that it follows, so of two takers one is refused. A holder that learns that somebody came after it, or can't
renew in time, is told so by an error, and what it was doing is cancelled.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Any

import anyio

from otel_control_gym.engine.clock import SECOND, rfc3339, wall_now, wall_timer
from otel_control_gym.engine.errors import StandError, StandTaken
from otel_control_gym.stands.cluster.connection import MERGE_PATCH, Answer, Connection
from otel_control_gym.stands.cluster.manifests import PART_OF

__all__ = ("LEASE_SECONDS", "check_free", "tenancy")

LEASE_SECONDS = 30  #: three renewals' time
_RELEASE_SECONDS = 5.0
_LABELS = {"app.kubernetes.io/managed-by": "otel-control-gym", **PART_OF}
_NOT_FOUND, _CONFLICT = 404, 409
_NUMBERS = count(1)  # a process may have several environments


@asynccontextmanager
async def tenancy(connection: Connection, *, seconds: int = LEASE_SECONDS) -> AsyncIterator[None]:
    """Hold a stand while the context is open; `seconds`: after which one whose holder fell silent may be taken.

    Raises: StandTaken: somebody else holds it. StandError: it can't be held, or (in the context) it was lost.
    """
    lease = _Lease(connection, seconds)
    await lease.take()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lease.keep)
            yield
            tasks.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
            await lease.release()


async def check_free(connection: Connection) -> None:
    """Look whether anybody drives a stand, without taking it.

    Raises: StandTaken: somebody does. StandError: nobody can be asked.
    """
    await _Lease(connection, LEASE_SECONDS).check_free()


class _Lease:
    def __init__(self, connection: Connection, seconds: int) -> None:
        endpoints = connection.endpoints
        self._connection, self._seconds = connection, seconds
        self._namespace = endpoints.safekeeping
        self._stand = f"{endpoints.kubernetes} namespace {endpoints.namespace}"
        self._name = f"ocg-stand-{endpoints.namespace}"
        self._collection = f"apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{next(_NUMBERS)}"
        self._version = ""

    async def check_free(self) -> Answer:
        """Return the Lease as the server tells it, if nobody holds it; one that isn't there is free.

        Raises: StandTaken: somebody does. StandError: nobody can be asked.
        """
        found = await self._connection.kubernetes("GET", f"{self._collection}/{self._name}")
        if not found.ok and found.status != _NOT_FOUND:
            raise StandError(
                f"Leases of namespace {self._namespace} can't be read: {found.problem}\n  deploy/stand/rbac.yaml grants it"
            )
        if found.ok and _is_held(found):
            raise self._taken(found)
        return found

    async def take(self) -> None:
        """Take the Lease, if nobody holds it.

        Raises: StandTaken: somebody does. StandError: nobody can be asked.
        """
        found = await self.check_free()
        if found.status == _NOT_FOUND:
            answer = await self._make()
        else:
            answer = await self._write(found.text("metadata", "resourceVersion"), self._holder)
        if answer.status == _CONFLICT:
            raise self._taken(await self._connection.kubernetes("GET", f"{self._collection}/{self._name}"))
        if not answer.ok:
            raise StandError(f"Lease {self._name} of namespace {self._namespace} can't be taken: {answer.problem}")
        self._version = answer.text("metadata", "resourceVersion")

    async def _make(self) -> Answer:
        body = {"metadata": {"name": self._name, "labels": _LABELS}, "spec": self._spec(self._holder)}
        answer = await self._connection.kubernetes("POST", self._collection, body=body)
        if answer.status == _NOT_FOUND:  # the namespace isn't there
            namespace = {"metadata": {"name": self._namespace, "labels": _LABELS}}
            await self._connection.kubernetes("POST", "api/v1/namespaces", body=namespace)
            answer = await self._connection.kubernetes("POST", self._collection, body=body)
        return answer

    def _taken(self, found: Answer) -> StandTaken:
        holder, renewed = found.text("spec", "holderIdentity"), found.text("spec", "renewTime")
        return StandTaken(
            f"stand {self._stand} is driven by {holder or 'somebody else, this very moment'}, last seen at {renewed or 'no time'}\n"
            f"  one environment at a time: wait for its end; if it died, the stand is free {self._seconds} s later"
        )

    async def keep(self) -> None:
        """Renew the Lease for ever.

        Raises: StandError: it is somebody else's by now, or the server didn't answer in time.
        """
        renewed = wall_timer()
        while True:
            await anyio.sleep(self._seconds / 3)
            answer = await self._write(self._version, self._holder)
            if answer.status == _CONFLICT:  # an answer that was lost, or somebody who thinks us dead
                found = await self._connection.kubernetes("GET", f"{self._collection}/{self._name}")
                if found.ok and found.text("spec", "holderIdentity") != self._holder:
                    raise StandError(
                        f"the Lease of stand {self._stand} was lost to {found.text('spec', 'holderIdentity')!r}"
                    )
                answer = await self._write(found.text("metadata", "resourceVersion"), self._holder)
            if answer.ok:
                self._version, renewed = answer.text("metadata", "resourceVersion"), wall_timer()
            elif wall_timer() - renewed > self._seconds:
                raise StandError(
                    f"the Lease of stand {self._stand} was lost: it couldn't be renewed within {self._seconds} s ({answer.problem})"
                )

    async def release(self) -> None:
        """Give the Lease back, if it is still ours; one that can't be given back runs out."""
        await self._write(self._version, "")

    async def _write(self, version: str, holder: str) -> Answer:
        body = {"metadata": {"resourceVersion": version}, "spec": self._spec(holder)}
        return await self._connection.kubernetes(
            "PATCH", f"{self._collection}/{self._name}", body=body, content_type=MERGE_PATCH
        )

    def _spec(self, holder: str) -> dict[str, Any]:
        return {"holderIdentity": holder, "leaseDurationSeconds": self._seconds, "renewTime": rfc3339(wall_now())}


def _is_held(found: Answer) -> bool:
    """Return whether a Lease has a holder and hasn't run out."""
    if not found.text("spec", "holderIdentity"):
        return False
    try:
        renewed = datetime.fromisoformat(found.text("spec", "renewTime")).timestamp()
    except ValueError:
        return False
    return wall_now() / SECOND - renewed < float(found.find("spec", "leaseDurationSeconds") or LEASE_SECONDS)
