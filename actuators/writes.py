"""Which Kubernetes objects were written, from which version to which: what the calls of a client leave behind.

In: the answers that a client got. Out: one `WrittenObject` per write, in their order. A resourceVersion counts all writes to a cluster, so
a leap in it tells of those that a policy mustn't see: this goes to the truth stream and nowhere else.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.events import WrittenObject

__all__ = ("WriteBook",)

_NAMESPACED = "/namespaces/"


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    uid: str = ""
    resource_version: str = ""


class _Details(msgspec.Struct, frozen=True):
    name: str = ""
    uid: str = ""


class _Answer(msgspec.Struct, frozen=True):
    """An object, a list of them, or (after a deletion) a Status with details about one."""

    kind: str = ""
    metadata: _Metadata = _Metadata()
    items: tuple[_Item, ...] = ()
    details: _Details | None = None


class _Item(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


class WriteBook:
    """Remembers the version in which each object was last seen, and what was written since `take` was last called."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}  # UID -> resourceVersion
        self._written: list[WrittenObject] = []
        self._decoder = msgspec.json.Decoder(_Answer)

    def read(self, payload: bytes) -> None:
        """Take note of the versions in an answer to a read."""
        answer = self._decode(payload)
        for metadata in (answer.metadata, *(item.metadata for item in answer.items)):
            if metadata.uid:
                self._seen[metadata.uid] = metadata.resource_version

    def wrote(self, method: str, path: str, payload: bytes) -> None:
        """Take note of a write and its answer."""
        answer = self._decode(payload)
        uid = answer.metadata.uid or (answer.details.uid if answer.details else "")
        kind, name = _place(path)
        after = "" if method == "DELETE" else answer.metadata.resource_version
        self._written.append(
            WrittenObject(
                method=method,
                kind=kind,
                name=answer.metadata.name or name,
                uid=uid,
                version_before=self._seen.pop(uid, ""),
                version_after=after,
            )
        )
        if after:
            self._seen[uid] = after

    def take(self) -> tuple[WrittenObject, ...]:
        """Return what was written since the last time."""
        written, self._written = tuple(self._written), []
        return written

    def _decode(self, payload: bytes) -> _Answer:
        try:
            return self._decoder.decode(payload)
        except msgspec.DecodeError:
            return _Answer()  # no object: whoever asked for one is told by the call


def _place(path: str) -> tuple[str, str]:
    """Return resource (with its subresource) and name of a path of the API."""
    rest = path.partition(_NAMESPACED)[2].partition("/")[2] or path.rpartition("/")[2]
    resource, _, below = rest.partition("/")
    name, _, part = below.partition("/")
    return f"{resource}/{part}" if part else resource, name
