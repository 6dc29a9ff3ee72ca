"""The twin's etcd: objects by kind, namespace and name, one growing resourceVersion, a bounded history of changes.

In: whole objects from the API and the controllers. Out: objects, drafts of them, changes to the listeners (the controllers' work
queues) and to watches.

What makes it more than a dictionary:
- An object in the store is never changed. Who wants to change one takes a draft, and `update` compares the draft's resourceVersion
  with the stored one: of two writers who read the same version, the second gets a `Conflict`.
- A write that changes nothing keeps the resourceVersion and tells nobody.
- A watch may resume at any version that the history still holds; older ones are `Expired`.
- UIDs and name suffixes are draws keyed by a counter, so the same writes give the same names.

No clock and no I/O; the caller says what time it is. Upstream: `admission`, controllers. Downstream: `watches`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

import msgspec

from otel_control_gym.engine.randomness import derive_seed, draw_bits, draw_identifier
from otel_control_gym.stands.twin.objects import KINDS, Kind, Object, timestamp
from otel_control_gym.stands.twin.watches import Change, ChangeType, Watch

__all__ = ("AlreadyExists", "Conflict", "Expired", "Missing", "ObjectStore", "StoreError")

_HISTORY = 4096  #: changes that a watch can resume over
_HISTORY_BYTES = 2**26  #: of their bodies, so that large objects can't fill the memory
_WATCH_LIMIT = 8192  #: events that a client may leave unread


class StoreError(Exception):
    """Base of what the store refuses."""


class AlreadyExists(StoreError):
    """Raised when an object of that name is there."""


class Missing(StoreError):
    """Raised when the object to change isn't there (any more)."""


class Conflict(StoreError):
    """Raised when the object was changed after the draft was taken."""


class Expired(StoreError):
    """Raised when the history no longer reaches back to the version asked for."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")


class _Entry(msgspec.Struct, frozen=True):
    """An object and its encoding."""

    object: Object
    body: bytes


class ObjectStore:
    """All objects of the twin's cluster."""

    def __init__(self, seed: int, *, history: int = _HISTORY, watch_limit: int = _WATCH_LIMIT) -> None:
        self._uid_seed = derive_seed(seed, "kubernetes.uid")
        self._name_seed = derive_seed(seed, "kubernetes.name")
        self._uids: Counter[str] = Counter()
        self._suffixes = 0
        self._version = 0
        self._oldest = 0
        self._kinds: dict[str, dict[tuple[str, str], _Entry]] = {kind.resource: {} for kind in KINDS}
        self._owned: dict[str, dict[tuple[Kind, str, str], None]] = {}
        self._history: deque[Change] = deque()
        self._history_limit = history
        self._history_bytes = 0
        self._bytes = 0
        self._watches: dict[Watch, None] = {}
        self._watch_limit = watch_limit
        self._listeners: list[Callable[[Change], None]] = []

    @property
    def version(self) -> int:
        """Return the newest resourceVersion."""
        return self._version

    @property
    def size_bytes(self) -> int:
        """Return how long all objects are together, encoded."""
        return self._bytes

    @property
    def oldest(self) -> int:
        """Return the oldest resourceVersion that a watch can be resumed from."""
        return self._oldest

    @property
    def watches(self) -> int:
        """Return how many watches are open."""
        return len(self._watches)

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call `listener` after every write, in the order of the versions."""
        self._listeners.append(listener)

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """Return an object, not to be changed; None if there is none."""
        entry = self._kinds[kind.resource].get((namespace, name))
        return entry.object if entry else None

    def body(self, kind: Kind, namespace: str, name: str) -> bytes:
        """Return an object's JSON.

        Raises: Missing: there is no such object.
        """
        return self._entry(kind, namespace, name).body

    def draft(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return a copy to change and give to `update`.

        Raises: Missing: there is no such object.
        """
        copy: Object = msgspec.json.decode(self._entry(kind, namespace, name).body)
        return copy

    def objects(self, kind: Kind, namespace: str | None = None) -> list[Object]:
        """Return the objects of a kind, in all namespaces or one, ordered by (namespace, name); not to be changed."""
        return [entry.object for entry in self._entries(kind, namespace)]

    def snapshot(
        self, kind: Kind, version: int, namespace: str | None = None
    ) -> list[tuple[tuple[str, str], Object, bytes]]:
        """Return ((namespace, name), object, JSON) of the objects of a kind as they were at a version, in that order.

        What has happened since is undone from the history.

        Raises: Expired: the history doesn't reach back to `version`.
        """
        if version < self._oldest:
            raise Expired(version, self._oldest)
        found = {key: (entry.object, entry.body) for key, entry in self._kinds[kind.resource].items()}
        for change in reversed(self._history):
            if change.version <= version:
                break
            if change.kind is not kind:
                continue
            key = (change.object["metadata"].get("namespace", ""), change.object["metadata"]["name"])
            if change.before is None:
                found.pop(key, None)
            else:
                found[key] = (change.before, msgspec.json.encode(change.before))
        entries = sorted(found.items(), key=lambda pair: pair[0])
        return [(key, *entry) for key, entry in entries if namespace is None or key[0] == namespace]

    def bodies(
        self, kind: Kind, namespace: str | None = None, selector: Callable[[Object], bool] | None = None
    ) -> list[bytes]:
        """Return the JSON of the objects that a selector accepts, ordered by (namespace, name)."""
        return [entry.body for entry in self._entries(kind, namespace) if selector is None or selector(entry.object)]

    def owned(self, kind: Kind, uid: str) -> list[Object]:
        """Return the objects of a kind that name `uid` among their owners, oldest first."""
        found = []
        for dependent, namespace, name in self._owned.get(uid, ()):
            if dependent is kind:
                found.append(self._entry(kind, namespace, name).object)
        return found

    def dependents(self, uid: str) -> tuple[tuple[Kind, str, str], ...]:
        """Return (kind, namespace, name) of everything that names `uid` among its owners, oldest first."""
        return tuple(self._owned.get(uid, ()))

    def new_uid(self, kind: str) -> str:
        """Return the next UID of a kind: a version 4 UUID, drawn.

        Each kind counts its own, so that a pod has the same UID whether or not a chaos object was made before it.
        """
        self._uids[kind] += 1
        seed = derive_seed(self._uid_seed, kind)
        high = draw_bits(seed, self._uids[kind], 0) & ~0xF000 | 0x4000
        low = draw_bits(seed, self._uids[kind], 1) & ~(3 << 62) | 2 << 62
        digits = f"{high:016x}{low:016x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def new_suffix(self) -> str:
        """Return the next five letters of a generated name."""
        self._suffixes += 1
        return draw_identifier(self._name_seed, self._suffixes)

    def create(self, kind: Kind, item: Object, now: int) -> Object:
        """Put a new object in; the server's part of its metadata is set here.

        Raises: AlreadyExists: there is one of that name.
        """
        given = item["metadata"]
        namespace, name = given.get("namespace", ""), given["name"]
        if (namespace, name) in self._kinds[kind.resource]:
            raise AlreadyExists(name)
        metadata: Object = {"name": name}
        if "generateName" in given:
            metadata["generateName"] = given["generateName"]
        if kind.namespaced:
            metadata["namespace"] = namespace
        metadata["uid"] = self.new_uid(kind.kind)
        metadata["resourceVersion"] = ""
        if kind.generation:
            metadata["generation"] = 1
        metadata["creationTimestamp"] = timestamp(now)
        for key in ("labels", "annotations", "ownerReferences", "finalizers", "managedFields"):
            if given.get(key):
                metadata[key] = given[key]
        rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
        stored = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **rest}
        return self._write(kind, "ADDED", stored, None)

    def update(self, kind: Kind, draft: Object) -> Object:
        """Put a changed draft in and return the stored object (the old one, if nothing changed).

        Raises: Missing: the object is gone. Conflict: it was changed since the draft was taken.
        """
        metadata = draft["metadata"]
        before = self._entry(kind, metadata.get("namespace", ""), metadata["name"]).object
        if metadata["resourceVersion"] != before["metadata"]["resourceVersion"]:
            raise Conflict(metadata["name"])
        if draft == before:
            return before
        return self._write(kind, "MODIFIED", draft, before)

    def remove(self, kind: Kind, namespace: str, name: str) -> Object:
        """Take an object out and return its last state, under a new resourceVersion.

        Raises: Missing: there is no such object.
        """
        before = self._entry(kind, namespace, name).object
        last = {**before, "metadata": dict(before["metadata"])}
        return self._write(kind, "DELETED", last, before)

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        selector: Callable[[Object], bool] | None = None,
        *,
        after: int | None,
        bookmarks: bool = False,
    ) -> Watch:
        """Return a watch of the changes after a resourceVersion; `after` None: first the present state, as ADDED.

        Raises: Expired: the history doesn't reach back to `after`.
        """
        if after is not None and after < self.oldest:
            raise Expired(after, self.oldest)
        watch = Watch(
            kind,
            namespace,
            selector,
            announced=self._version if after is None else after,
            bookmarks=bookmarks,
            limit=self._watch_limit,
        )
        if after is None:
            for body in self.bodies(kind, namespace, selector):
                watch.present(body)
        else:
            for change in self._history:
                if change.version > after and change.kind is kind:
                    watch.offer(change)
        self._watches[watch] = None
        return watch

    def unwatch(self, watch: Watch) -> None:
        """Forget a watch whose client is gone."""
        watch.close()
        self._watches.pop(watch, None)

    def bookmark(self) -> None:
        """Tell every watch that asked for bookmarks how far it has come."""
        for watch in self._watches:
            watch.bookmark(self._version)

    def close_watches(self) -> None:
        """End all watches."""
        for watch in list(self._watches):
            self.unwatch(watch)

    def _entry(self, kind: Kind, namespace: str, name: str) -> _Entry:
        entry = self._kinds[kind.resource].get((namespace, name))
        if entry is None:
            raise Missing(name)
        return entry

    def _entries(self, kind: Kind, namespace: str | None) -> list[_Entry]:
        entries = sorted(self._kinds[kind.resource].items(), key=lambda pair: pair[0])
        return [entry for key, entry in entries if namespace is None or key[0] == namespace]

    def _write(self, kind: Kind, type_: ChangeType, item: Object, before: Object | None) -> Object:
        metadata = item["metadata"]
        key = (metadata.get("namespace", ""), metadata["name"])
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        body = msgspec.json.encode(item)
        known = self._kinds[kind.resource].get(key)
        self._bytes -= len(known.body) if known is not None else 0
        if type_ == "DELETED":
            del self._kinds[kind.resource][key]
        else:
            self._kinds[kind.resource][key] = _Entry(item, body)
            self._bytes += len(body)
        self._index_owners(kind, key, item if type_ != "DELETED" else None, before)
        change = Change(
            version=self._version,
            kind=kind,
            type=type_,
            object=item,
            before=before,
            body=body,
        )
        self._remember(change)
        for watch in self._watches:
            if watch.kind is kind:
                watch.offer(change)
        for listener in self._listeners:
            listener(change)
        return item

    def _remember(self, change: Change) -> None:
        """Put a change into the history, and let go what is beyond its bounds."""
        self._history.append(change)
        self._history_bytes += len(change.body)
        while len(self._history) > self._history_limit or self._history_bytes > _HISTORY_BYTES:
            forgotten = self._history.popleft()
            self._history_bytes -= len(forgotten.body)
            self._oldest = forgotten.version

    def _index_owners(self, kind: Kind, key: tuple[str, str], item: Object | None, before: Object | None) -> None:
        old = [owner["uid"] for owner in before["metadata"].get("ownerReferences", ())] if before else []
        new = [owner["uid"] for owner in item["metadata"].get("ownerReferences", ())] if item else []
        for uid in old:
            if uid not in new:
                self._owned[uid].pop((kind, *key))
                if not self._owned[uid]:
                    del self._owned[uid]
        for uid in new:
            self._owned.setdefault(uid, {})[(kind, *key)] = None
