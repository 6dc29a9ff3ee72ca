"""How objects go: finalizers, a pod's grace period, and dependents that follow their owner.

In: a wish to delete. Out: an object that is gone, or one that carries a deletionTimestamp until who holds it lets go.

- An object with finalizers stays, marked, until the list is empty.
- A pod that has a node stays, marked, until its kubelet has stopped it (`kubelet`); a second deletion may only shorten the grace.
- Everything else goes at once; what it owned is collected afterwards (propagation "Background").
"""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import POD, Kind, Object, moment, timestamp
from otel_control_gym.stands.twin.watches import Change

__all__ = ("GarbageCollector", "delete", "release")

_DEFAULT_GRACE = 30


def delete(context: Context, kind: Kind, item: Object, *, grace: int | None = None) -> Object:
    """Delete an object, and return its last state: gone, or marked with a deletionTimestamp.

    Args:
        context: the cluster.
        kind: of the object.
        item: the object as stored.
        grace: pods: seconds between SIGTERM and SIGKILL; None: what the pod's spec says.
    """
    store, metadata = context.store, item["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    seconds = _grace(item, grace) if kind is POD else 0
    if not metadata.get("finalizers") and seconds == 0:
        return store.remove(kind, namespace, name)
    before = metadata.get("deletionGracePeriodSeconds")
    if before is not None and before <= seconds:
        return item
    draft = store.draft(kind, namespace, name)
    since = context.now if "deletionTimestamp" not in metadata else _requested(item)
    draft["metadata"]["deletionTimestamp"] = timestamp(since + seconds * SECOND)
    draft["metadata"]["deletionGracePeriodSeconds"] = seconds
    if kind.generation:
        draft["metadata"]["generation"] += 1
    return store.update(kind, draft)


def release(context: Context, kind: Kind, draft: Object) -> Object:
    """Store a draft from which finalizers may have been taken; the last one of a deleted object takes the object along."""
    stored = context.store.update(kind, draft)
    metadata = stored["metadata"]
    if "deletionTimestamp" in metadata and not metadata.get("finalizers") and kind is not POD:
        return context.store.remove(kind, metadata.get("namespace", ""), metadata["name"])
    return stored


class GarbageCollector:
    """Deletes what is left without its owner."""

    name = "garbage-collector"

    def __init__(self, context: Context) -> None:
        self._context = context

    def observe(self, change: Change) -> None:
        """Note the dependents of what is gone."""
        if change.type == "DELETED":
            self._context.soon(self.name, change.object, step=change.object["metadata"]["uid"])

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - the owner is gone; its UID is the step
        """Delete the dependents of the owner whose UID is `step`."""
        for kind, namespace, name in self._context.store.dependents(step):
            dependent = self._context.store.get(kind, namespace, name)
            if dependent is not None and "deletionTimestamp" not in dependent["metadata"]:
                delete(self._context, kind, dependent)


def _grace(pod: Object, asked: int | None) -> int:
    if not pod["spec"].get("nodeName") or pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return 0
    if asked is None:
        return int(pod["spec"].get("terminationGracePeriodSeconds", _DEFAULT_GRACE))
    return asked if asked >= 0 else 1


def _requested(pod: Object) -> int:
    """Return when the first deletion was asked for, from the mark that it left."""
    metadata = pod["metadata"]
    return moment(metadata["deletionTimestamp"]) - int(metadata["deletionGracePeriodSeconds"]) * SECOND
