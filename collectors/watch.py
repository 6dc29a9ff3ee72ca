"""One list and watch of a kind of Kubernetes object, for as long as it is open.

In: a path of the API. Out: changes, in the order of their resourceVersions, and how far the watch has come.

A watch may end at any time, and goes on. Each way is told as a gap, but for the server's own regular end:

- The connection breaks, the server is away for a while: it goes on from the last version that it saw. Nothing is lost, it came late.
- The version is too old (410), or from the future (the server has lost its state, or is another one), or the stream ends again and again
  without a word (some hosted servers do that to a version that they have forgotten): it lists anew, and tells what changed in between as
  one change per object.
- The server is busy (429, 503): it says when it wants to be asked again, and is.

Tries come after pauses that grow, never at once for long. The library's own watch can't be used for this: it reconnects without a pause,
retries a 410 with the same version, and hands on unreadable lines for ever.
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
_LONGEST_SECONDS = 60.0  #: that a busy server may have us wait at a time
_SILENT_ENDS = 3  #: of streams without a word, one after the other, after which the version is taken for forgotten
_EXPIRED, _TOO_MANY, _UNAVAILABLE, _TIMEOUT = 410, 429, 503, 504
_FUTURE = "Too large resource version"  #: what a server says of a version that it hasn't reached
_ACCEPTED = {"ADDED": "added", "MODIFIED": "modified", "DELETED": "deleted"}

T = TypeVar("T")


class _Expired(Exception):
    """Raised when the server doesn't know what happened after our version."""


class _Busy(Exception):
    """Raised when the server wants to be asked later."""

    def __init__(self, status: int, after_seconds: float) -> None:
        super().__init__(f"HTTP {status}")
        self.after_seconds = after_seconds


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


class _Details(msgspec.Struct, frozen=True, rename="camel"):
    retry_after_seconds: float = 0.0


class _Status(msgspec.Struct):
    message: str = ""
    code: int = 0
    details: _Details = _Details()


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
        self._interrupted = False  # since the stream flowed last
        self._known: dict[str, tuple[int, bytes]] = {}  # UID -> version and body of what exists

    async def list(self, *, initial: bool) -> None:
        """Read what exists, deliver what differs from what was known, and take the list's version as ours.

        Raises: aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError: the list can't be had.
        """
        listing = await self._listing()
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

    async def _listing(self) -> _Listing:
        """Return what exists; a server that is busy is asked again, but not for ever."""
        tries = 0
        while True:
            async with await self._kubernetes.get(self._path) as response:
                busy = _busy(response)
                if busy is None or tries == len(_PAUSES_SECONDS) - 1:
                    response.raise_for_status()
                    return msgspec.json.decode(await response.read(), type=_Listing)
            tries += 1
            await anyio.sleep(max(_PAUSES_SECONDS[tries], busy.after_seconds))

    def _deliver(self, version: int, change: Change, body: bytes, uid: str, *, initial: bool = False) -> None:
        if change == "deleted":
            self._known.pop(uid, None)
        else:
            self._known[uid] = (version, body)
        self.deliveries.append(Delivery(version, change, self._decoder.decode(body), initial))

    async def follow(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled; started once the server has taken the watch on, or can't."""
        self._started = task_status.started
        failures = silent = 0
        wished = 0.0
        while True:
            await anyio.sleep(max(wished, _PAUSES_SECONDS[min(failures, len(_PAUSES_SECONDS) - 1)]))
            before, wished = self.version, 0.0
            try:
                await self._stream()
                failures, silent = (0, 0) if self.version > before else (failures + 1, silent + 1)
                if silent == _SILENT_ENDS:
                    silent = 0
                    await self._start_again("it ended again and again without a word", certain=False)
            except _Expired as expired:
                failures += await self._start_again(str(expired))
            except _Busy as busy:
                failures, wished = failures + 1, busy.after_seconds
                self._break(str(busy), failures)
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
                failures = 1 if self.version > before else failures + 1
                self._break(_reason(error), failures)

    def _break(self, reason: str, failures: int) -> None:
        """Note an interruption; say that the server can't be reached, once reconnecting at once hasn't helped."""
        if not self._interrupted:
            self._interrupted = True
            self.gaps.append(f"watch interrupted ({reason}), went on from version {self.version}")
        if failures > 2:
            self._begun()
            self.broken = f"watch broken ({reason})"
            self._on_progress()

    def _begun(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            started()

    async def _start_again(self, reason: str, *, certain: bool = True) -> int:
        """List anew, because going on isn't possible, or (not `certain`) may not be; return how many failures that was."""
        told = len(self.deliveries)
        try:
            await self.list(initial=False)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            self._break(_reason(error), 3)
            return 1
        if certain or len(self.deliveries) > told:
            self.gaps.append(f"watch expired, listed anew ({reason})")
        return 0

    async def _stream(self) -> None:
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": str(self.version)}
        async with await self._kubernetes.get(self._path, query) as response:
            if response.status in (_EXPIRED, _TIMEOUT):
                message = _message(await response.read())
                if response.status == _EXPIRED or _FUTURE in message:
                    raise _Expired(message)
            if (busy := _busy(response)) is not None:
                raise busy
            response.raise_for_status()
            self.broken, self._interrupted = "", False
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
            if status.code == _EXPIRED or _FUTURE in status.message:
                raise _Expired(status.message)
            if status.code == _TOO_MANY:
                raise _Busy(status.code, min(_LONGEST_SECONDS, status.details.retry_after_seconds))
            raise msgspec.ValidationError(f"{event.type}: {status.message}")


def _busy(response: aiohttp.ClientResponse) -> _Busy | None:
    """Return when the server wants to be asked again; null: it has answered."""
    after = response.headers.get("Retry-After", "")
    if response.status != _TOO_MANY and not (response.status == _UNAVAILABLE and after):
        return None
    return _Busy(response.status, min(_LONGEST_SECONDS, float(after)) if after.isdigit() else 0.0)


def _reason(error: Exception) -> str:
    """Return what went wrong, in a word or two."""
    return f"HTTP {error.status}" if isinstance(error, aiohttp.ClientResponseError) else type(error).__name__


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
