"""A watch: what one client has still to be told about the changes of one kind of object.

In: changes from `store`, in order of resourceVersion. Out: lines of JSON for `servers.kubernetes`, each an event of the watch.

A client reads as fast as it likes while the stand goes on, so a watch holds what wasn't read yet, up to a bound. A client that falls
further behind is told so by an ERROR event (410 Expired, as a real server does) and has to list again; memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import anyio
import msgspec

from otel_control_gym.stands.twin.objects import Kind, Object

__all__ = ("Change", "ChangeType", "Watch", "event_line", "expired_status")

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


class Change(msgspec.Struct, kw_only=True):
    """One write: what the object was and is, and its encoded body, made once for all watches."""

    version: int
    kind: Kind
    type: ChangeType
    object: Object  #: after the write; of a deletion the last state
    before: Object | None
    body: bytes  #: `object`, encoded
    line: bytes  #: the watch event, encoded


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
        self._pending: list[bytes] = []
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
        line = self._line(change)
        if line is not None:
            self._put(line, change.version)

    def present(self, body: bytes) -> None:
        """Show an object that existed before the watch began."""
        self._put(event_line("ADDED", body), self.announced)

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
        """Wait for events and return all that are pending, one JSON document a line; None: the watch is over."""
        while not self._pending:
            if self._closed:
                return None
            self._arrived = anyio.Event()
            await self._arrived.wait()
        lines = b"".join(self._pending)
        self._pending.clear()
        return lines

    def _bookmark(self, version: int, note: bytes = b"") -> bytes:
        return (
            b'{"type":"BOOKMARK","object":{"kind":"%b","apiVersion":"%b","metadata":{"resourceVersion":"%d",%b%b}}}\n'
            % (
                self.kind.kind.encode(),
                self.kind.api_version.encode(),
                version,
                note,
                b'"creationTimestamp":null',
            )
        )

    def _line(self, change: Change) -> bytes | None:
        """Return the event as this watch shows it: an object that starts or stops matching appears or disappears."""
        if self._selector is None:
            return change.line
        matched = change.before is not None and self._selector(change.before)
        matches = change.type != "DELETED" and self._selector(change.object)
        if matches:
            return change.line if matched else event_line("ADDED", change.body)
        if not matched:
            return None
        return change.line if change.type == "DELETED" else event_line("DELETED", change.body)

    def _put(self, line: bytes, version: int) -> None:
        if len(self._pending) >= self._limit:
            self._pending.clear()
            self._pending.append(event_line("ERROR", expired_status(self.announced, version)))
            self.close()
            return
        self._pending.append(line)
        self.announced = version
        self._arrived.set()


def event_line(name: str, body: bytes) -> bytes:
    """Return one event of a watch, as a line."""
    return b'{"type":"%b","object":%b}\n' % (name.encode(), body)


def expired_status(asked: int, oldest: int) -> bytes:
    """Return the encoded Status that tells a client to list again."""
    return msgspec.json.encode(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": f"too old resource version: {asked} ({oldest})",
            "reason": "Expired",
            "code": 410,
        }
    )
