"""A watch: what one client has still to be told about the changes of one kind of object.

In: changes from `store`, in order of resourceVersion. Out: lines of JSON for `servers.kubernetes`, each an event of the watch.

A client reads as fast as it likes while the stand goes on, so a watch holds what wasn't read yet, up to a bound; the bodies are the store's
own, encoded once for all watches. A client that falls further behind is cut off, as by the real watch cache: its stream ends, and it may
resume at the last version that it has read, if the history still reaches back to it (410 Expired otherwise). Memory stays bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

import anyio
import msgspec

from otel_control_gym.stands.twin.objects import Kind, Object

__all__ = ("Change", "ChangeType", "Watch")

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

_CHUNK_BYTES = (
    2**16
)  #: that one read returns at most (but one event at least): what a client that stops reading holds on to
_PENDING_BYTES = 2**26  #: of events that weren't read
_Event = tuple[bytes, bytes]  # how its line begins, and its object


class Change(msgspec.Struct, kw_only=True):
    """One write: what the object was and is, and its encoded body, made once for all watches."""

    version: int
    kind: Kind
    type: ChangeType
    object: Object  #: after the write; of a deletion the last state
    before: Object | None
    body: bytes  #: `object`, encoded


class Watch:
    """The events of one kind (and namespace and selector) that a client hasn't read yet.

    `announced` is the resourceVersion that the client knows of once it has read everything here.
    """

    def __init__(
        self,
        kind: Kind,
        namespace: str | None,
        selector: Callable[[Object], bool] | None,
        *,
        announced: int,
        bookmarks: bool,
        limit: int,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.announced = announced
        self.bookmarks = bookmarks
        self._selector = selector
        self._limit = limit
        self._pending: deque[_Event] = deque()
        self._pending_bytes = 0
        self._changes = 0  # pending events that aren't of the present state, at most
        self._arrived = anyio.Event()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Return whether nothing more will be added."""
        return self._closed

    def offer(self, change: Change) -> None:
        """Take a change in, if it concerns this watch."""
        if self._closed:
            return
        if self.namespace is not None and change.object["metadata"].get("namespace") != self.namespace:
            return
        shown = self._shown(change)
        if shown is not None:
            self._put((_BEGINNINGS[shown], change.body), change.version)

    def present(self, body: bytes) -> None:
        """Show an object that existed before the watch began."""
        self._append((_BEGINNINGS["ADDED"], body))

    def end_initial_events(self) -> None:
        """Say that all there was has been shown, if the client asked for bookmarks."""
        if self.bookmarks:
            note = b'"annotations":{"k8s.io/initial-events-end":"true"},'
            self._put(self._bookmark(self.announced, note), self.announced)

    def bookmark(self, version: int) -> None:
        """Tell the client that it has seen everything up to `version`; silent if it knows, or didn't ask for bookmarks."""
        if self.bookmarks and self.announced < version and not self._closed:
            self._put(self._bookmark(version), version)

    def close(self) -> None:
        """End the watch; what is pending can still be read."""
        self._closed = True
        self._arrived.set()

    async def read(self) -> bytes | None:
        """Wait for events and return those that are pending, as many as fit a chunk, one JSON document a line; None: the watch is over."""
        while not self._pending:
            if self._closed:
                return None
            self._arrived = anyio.Event()
            await self._arrived.wait()
        parts: list[bytes] = []
        size = 0
        while self._pending and size < _CHUNK_BYTES:
            beginning, body = self._pending.popleft()
            parts += (beginning, body, b"}\n")
            size += len(body)
        self._pending_bytes -= size
        self._changes = min(self._changes, len(self._pending))
        return b"".join(parts)

    def _bookmark(self, version: int, note: bytes = b"") -> _Event:
        body = b'{"kind":"%b","apiVersion":"%b","metadata":{"resourceVersion":"%d",%b"creationTimestamp":null}}' % (
            self.kind.kind.encode(),
            self.kind.api_version.encode(),
            version,
            note,
        )
        return _BEGINNINGS["BOOKMARK"], body

    def _shown(self, change: Change) -> ChangeType | None:
        """Return how this watch shows a change: an object that starts or stops matching appears or disappears."""
        if self._selector is None:
            return change.type
        matched = change.before is not None and self._selector(change.before)
        matches = change.type != "DELETED" and self._selector(change.object)
        if matches:
            return change.type if matched else "ADDED"
        return "DELETED" if matched else None

    def _put(self, event: _Event, version: int) -> None:
        if self._changes >= self._limit or self._pending_bytes > _PENDING_BYTES:
            self._pending.clear()
            self.close()
            return
        self._changes += 1
        self._append(event)
        self.announced = version

    def _append(self, event: _Event) -> None:
        self._pending.append(event)
        self._pending_bytes += len(event[1])
        self._arrived.set()


_BEGINNINGS = {name: b'{"type":"%b","object":' % name.encode() for name in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")}
