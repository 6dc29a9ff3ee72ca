"""The garbage collector: what becomes of dependents when their owner goes.

In: objects that are gone, that wait for their dependents (finalizer `foregroundDeletion`), or that shall leave them behind (`orphan`).
Out: deletions of dependents, owner references that are cut, finalizers that are taken away.

- Background: the owner is gone; what names it as its only owner goes too.
- Foreground: dependents are deleted first, theirs before them, and the owner stays until those that block it are gone.
- Orphan: dependents lose the reference to the owner and stay; `adoption` may give them another.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.deletion import FOREGROUND, ORPHAN, delete, release
from otel_control_gym.stands.twin.objects import KINDS, Kind, Object
from otel_control_gym.stands.twin.watches import Change

__all__ = ("GarbageCollector",)

_BY_RESOURCE = {kind.resource: kind for kind in KINDS}
_BY_TYPE = {(kind.api_version, kind.kind): kind for kind in KINDS}


class GarbageCollector:
    """Deletes what is left without its owner, or before it."""

    name = "garbage-collector"

    def __init__(self, context: Context) -> None:
        self._context = context

    def observe(self, change: Change) -> None:
        """Note the dependents of what is gone, owners that begin to wait, and those whose wait may be over."""
        metadata = change.object["metadata"]
        if change.type == "DELETED":
            self._context.soon(self.name, change.object, step=f"gone {metadata['uid']}")
        elif "deletionTimestamp" in metadata:
            before = (change.before or {}).get("metadata", {}).get("finalizers", ())
            for finalizer in (FOREGROUND, ORPHAN):
                if finalizer in metadata.get("finalizers", ()) and finalizer not in before:
                    self._context.soon(self.name, change.object, step=f"{finalizer} {change.kind.resource}")
        for reference in _lost_owners(change):
            kind = _BY_TYPE.get((reference.get("apiVersion", ""), reference.get("kind", "")))
            if kind is not None:
                namespace = metadata.get("namespace", "") if kind.namespaced else ""
                owner = {"metadata": {"namespace": namespace, "name": reference["name"]}}
                self._context.soon(self.name, owner, step=f"{FOREGROUND} {kind.resource}")

    def reconcile(self, step: str, key: str) -> None:
        """Take the dependents of one owner a step further."""
        action, _, what = step.partition(" ")
        if action == "gone":
            self._collect(what)
            return
        kind = _BY_RESOURCE[what]
        owner = self._context.store.get(kind, *split_key(key))
        if owner is None or action not in owner["metadata"].get("finalizers", ()):
            return
        uid = owner["metadata"]["uid"]
        if action == ORPHAN:
            for dependent, namespace, name in self._context.store.dependents(uid):
                self._disown(dependent, namespace, name, uid)
        elif self._clear(uid):
            return
        draft = self._context.store.draft(kind, *split_key(key))
        draft["metadata"]["finalizers"].remove(action)
        release(self._context, kind, draft)

    def _collect(self, uid: str) -> None:
        """Delete what names an owner that is gone; what has another owner as well is left to that one."""
        for kind, namespace, name in self._context.store.dependents(uid):
            dependent = self._context.store.get(kind, namespace, name)
            if dependent is None or "deletionTimestamp" in dependent["metadata"]:
                continue
            if len(dependent["metadata"]["ownerReferences"]) > 1:
                self._disown(kind, namespace, name, uid)
            else:
                delete(self._context, kind, dependent)

    def _clear(self, uid: str) -> bool:
        """Delete an owner's dependents, theirs first; return whether any is left that blocks the owner."""
        blocked = False
        for kind, namespace, name in self._context.store.dependents(uid):
            dependent = self._context.store.get(kind, namespace, name)
            if dependent is None:
                continue
            metadata = dependent["metadata"]
            if "deletionTimestamp" not in metadata:
                below = self._context.store.dependents(metadata["uid"])
                delete(self._context, kind, dependent, propagation="Foreground" if below else "Background")
            remaining = self._context.store.get(kind, namespace, name) is not None
            blocks = any(one["uid"] == uid and one.get("blockOwnerDeletion") for one in metadata["ownerReferences"])
            blocked |= remaining and blocks
        return blocked

    def _disown(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        draft = self._context.store.draft(kind, namespace, name)
        owners = [reference for reference in draft["metadata"]["ownerReferences"] if reference["uid"] != uid]
        del draft["metadata"]["ownerReferences"]
        if owners:
            draft["metadata"]["ownerReferences"] = owners
        self._context.store.update(kind, draft)


def _lost_owners(change: Change) -> list[Object]:
    """Return the owners that an object no longer keeps from being gone."""
    if change.before is None:
        return []
    kept = () if change.type == "DELETED" else change.object["metadata"].get("ownerReferences", ())
    uids = {reference["uid"] for reference in kept}
    return [
        reference
        for reference in change.before["metadata"].get("ownerReferences", ())
        if reference.get("blockOwnerDeletion") and reference["uid"] not in uids
    ]
