"""One list and watch of a kind of Kubernetes object, for as long as it is open.

In: a path of the API. Out: changes, in the order of their resourceVersions, and how far the watch has come.

A watch may end at any time: the server closes it, the connection breaks, the version is too old (410). It goes on from the last
version that it saw, and then nothing is lost. Only when that isn't possible is there a gap: it lists anew, and tells what changed
in between as one change per object. The library's own watch can't be used for this: it reconnects without a pause, retries a 410 with
the same version, and hands on unreadable lines for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

import aiohttp
import anyio
import msgspec
from anyio.abc import TaskStatus

from otel_control_gym.collectors.kubernetes_client import KubernetesReader
from otel_control_gym.collectors.kubernetes_rows import Change, Metadata

__all__ = ("Delivery", "Watch")

_PAUSES_SECONDS = (0.0, 0.1, 0.5, 2.0, 5.0)  #: before the first, second, ... and every later try to reconnect
_ACCEPTED = {"ADDED": "added", "MODIFIED": "modified", "DELETED": "deleted"}

T = TypeVar("T")


class _Expired(Exception):
    """Raised when the server no longer knows what happened after our version."""


class Delivery(msgspec.Struct, Generic[T], frozen=True):
    """A change that the watch delivered."""

    version: int
    change: Change
    object: T
    initial: bool = False  #: from the first list: it was so before anything was watched


class _Version(msgspec.Struct, rename="camel"):
    resource_version: str


class _Listing(msgspec.Struct):
    metadata: _Version
    items: list[msgspec.Raw]


class _Line(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _Version


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0


class _Identified(msgspec.Struct):
    metadata: Metadata


class Watch(Generic[T]):
    """Follows one path; `on_progress` is called whenever `version` or `broken` changes."""

    def __init__(self, kubernetes: KubernetesReader, path: str, kind: type[T], on_progress: Callable[[], None]) -> None:
        self.version = 0  #: everything up to this resourceVersion is delivered
        self.broken = ""  #: why the server can't be reached at the moment, or empty
        self.gaps: list[str] = []  #: reasons of gaps since they were last taken
        self.deliveries: list[Delivery[T]] = []  #: since they were last taken
        self._kubernetes, self._path, self._on_progress = kubernetes, path, on_progress
        self._decoder = msgspec.json.Decoder(kind)
        self._started: Callable[[], None] | None = None
        self._known: dict[str, tuple[int, bytes]] = {}  # UID -> version and body of what exists

    async def list(self, *, initial: bool) -> None:
        """Read what exists, deliver what differs from what was known, and take the list's version as ours.

        Raises: aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError: the list can't be had.
        """
        async with await self._kubernetes.get(self._path) as response:
            response.raise_for_status()
            listing = msgspec.json.decode(await response.read(), type=_Listing)
        version = int(listing.metadata.resource_version)
        gone = dict(self._known)
        for item in listing.items:
            body = bytes(item)
            metadata = msgspec.json.decode(body, type=_Identified).metadata
            own = int(metadata.resource_version)
            before = gone.pop(metadata.uid, None)
            if before is None or before[0] != own:
                self._deliver(own, "modified" if before else "added", body, metadata.uid, initial=initial)
        for uid, (_, body) in gone.items():
            self._deliver(version, "deleted", body, uid)
        self.deliveries.sort(key=lambda delivery: delivery.version)
        self.version = version
        self._on_progress()

    def _deliver(self, version: int, change: Change, body: bytes, uid: str, *, initial: bool = False) -> None:
        if change == "deleted":
            self._known.pop(uid, None)
        else:
            self._known[uid] = (version, body)
        self.deliveries.append(Delivery(version, change, self._decoder.decode(body), initial))

    async def follow(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; started once the server has taken the watch on, or can't."""
        self._started = task_status.started
        failures = 0
        while True:
            await anyio.sleep(_PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS) - 1)])
            before = self.version
            try:
                await self._stream()
                failures = 0 if self.version > before else failures + 1
            except _Expired as expired:
                failures += await self._start_again(str(expired))
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
                failures += 1
                self._break(error, failures)

    def _break(self, error: Exception, failures: int) -> None:
        """Say that the server can't be reached, once reconnecting at once hasn't helped."""
        if failures > 2:
            self._begun()
            self.broken = f"watch broken ({type(error).__name__})"
            self._on_progress()

    def _begun(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            started()

    async def _start_again(self, reason: str) -> int:
        """List anew after a 410; return how many failures that was."""
        try:
            await self.list(initial=False)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            self._break(error, 3)
            return 1
        self.gaps.append(f"watch expired, listed anew ({reason})")
        return 0

    async def _stream(self) -> None:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": str(self.version)}
        async with await self._kubernetes.get(self._path, query) as response:
            if response.status == 410:
                raise _Expired(_message(await response.read()))
            response.raise_for_status()
            self.broken = ""
            self._begun()
            async for line in _lines(response.content):
                self._take(line)
                self._on_progress()

    def _take(self, line: bytes) -> None:
        event = msgspec.json.decode(line, type=_Line)
        body = bytes(event.object)
        if event.type == "BOOKMARK":
            bookmark = msgspec.json.decode(body, type=_Bookmark)
            self.version = max(self.version, int(bookmark.metadata.resource_version))
        elif event.type in _ACCEPTED:
            metadata = msgspec.json.decode(body, type=_Identified).metadata
            version = int(metadata.resource_version)
            if version <= self._known.get(metadata.uid, (0,))[0]:
                return  # told already, by a list
            change: Change = "added" if event.type == "ADDED" else "deleted" if event.type == "DELETED" else "modified"
            self._deliver(version, change, body, metadata.uid)
            self.version = max(self.version, version)
        else:
            status = msgspec.json.decode(body, type=_Status)
            if status.code == 410:
                raise _Expired(status.message)
            raise msgspec.ValidationError(f"{event.type}: {status.message}")


def _message(payload: bytes) -> str:
    try:
        return msgspec.json.decode(payload, type=_Status).message
    except msgspec.DecodeError:
        return payload[:200].decode(errors="replace")


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield whole lines of any length."""
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line:
                yield line
