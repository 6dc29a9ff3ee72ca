"""How objects go: finalizers, a pod's grace period, and what becomes of dependents.

In: a wish to delete. Out: an object that is gone, or one that carries a deletionTimestamp until who holds it lets go.

- An object with finalizers stays, marked, until the list is empty.
- A pod that has a node stays, marked, until its kubelet has stopped it (`kubelet`); a second deletion may only shorten the grace.
- Everything else goes at once; what it owned is collected afterwards (propagation "Background"), or it waits for that, or for its
  dependents to be let go: a finalizer makes it wait for `garbage_collection` (propagation "Foreground" or "Orphan").
"""

from __future__ import annotations

from typing import Literal

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import POD, Kind, Object, moment, timestamp

__all__ = ("FOREGROUND", "ORPHAN", "Propagation", "delete", "release")

Propagation = Literal["Background", "Foreground", "Orphan"]

FOREGROUND = "foregroundDeletion"  #: finalizer: dependents go first
ORPHAN = "orphan"  #: finalizer: dependents are let go first
_FINALIZERS = {"Foreground": FOREGROUND, "Orphan": ORPHAN}
_DEFAULT_GRACE = 30


def delete(
    context: Context, kind: Kind, item: Object, *, grace: int | None = None, propagation: Propagation = "Background"
) -> Object:
    """Delete an object, and return its last state: gone, or marked with a deletionTimestamp.

    Args:
        context: the cluster.
        kind: of the object.
        item: the object as stored.
        grace: pods: seconds between SIGTERM and SIGKILL; None: what the pod's spec says.
        propagation: what becomes of dependents. Those of a pod go in the background, whatever is asked: nothing waits for them.
    """
    store, metadata = context.store, item["metadata"]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    seconds = _grace(item, grace) if kind is POD else 0
    finalizer = _FINALIZERS.get(propagation) if kind is not POD else None
    if not metadata.get("finalizers") and seconds == 0 and finalizer is None:
        return store.remove(kind, namespace, name)
    before = metadata.get("deletionGracePeriodSeconds")
    if before is not None and before <= seconds:
        return item
    draft = store.draft(kind, namespace, name)
    since = context.now if "deletionTimestamp" not in metadata else _requested(item)
    draft["metadata"]["deletionTimestamp"] = timestamp(since + seconds * SECOND)
    draft["metadata"]["deletionGracePeriodSeconds"] = seconds
    if finalizer is not None:
        draft["metadata"].setdefault("finalizers", []).append(finalizer)
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
