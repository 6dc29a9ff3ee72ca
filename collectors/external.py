"""Changes that somebody else made on the stand ➜ actions of a human, as events.

In: objects of a watch, before and after. Out: for each change by a foreign hand the life of an action of type `external`: requested,
applied, settled, all at the moment of the change.

Whose a change is, says the API server: every object lists its field managers, and who writes a field gets an entry, or a newer one. Ours is
the gym's own; controllers, the installation and what was there before anybody looked are nobody's action. A write that repeats what a
manager has written in the same second shows in the generation alone, and goes to the newest manager.

Nothing is left of who deleted an object. A pod that ends, though its ReplicaSet hasn't told of deleting it, nothing evicted it and no
chaos object killed it, was deleted by hand; so was any other object that goes. Where the gym did so, whoever holds the log knows better.
Who is killed by a chaos object belongs to the truth, as it does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from otel_control_gym.collectors.kubernetes_rows import Change, ChaosObject, KubernetesEvent, ManagedObject, PodObject
from otel_control_gym.engine.events import ActionApplied, ActionRequested, ActionSettled, Event, TouchedObject

__all__ = ("Deeds", "deleted_object", "deleted_pod", "foreign_change", "told_of_deletion")

OURS = "otel-control-gym"
_NOBODY = (
    OURS,
    "before-first-apply",
    "chaos-controller-manager",
    "helm",
    "horizontal-pod-autoscaler",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
)
_EVICTED = ("PreemptionByScheduler", "EvictionByEvictionAPI", "TerminationByKubelet", "DeletionByTaintManager")


class Foreign(msgspec.Struct, frozen=True):
    """A change by a foreign hand."""

    manager: str
    operation: str  #: created, changed, deleted
    fields: tuple[str, ...] = ()


def foreign_change(
    before: ManagedObject | None, after: ManagedObject, change: Change, *, counted: bool
) -> Foreign | None:
    """Return who else made a change that a watch delivered, or None if it was ours, a controller's, or none.

    `before` is what the watch had delivered of the object; None: it is new. `counted`: the object's generation counts the changes of its
    spec and nothing else.
    """
    if change == "deleted":
        return None
    entries = {entry.key: entry for entry in after.metadata.managed_fields or () if _foreign(entry.manager)}
    if before is None:
        newest = max(entries.values(), key=lambda entry: entry.time, default=None)
        return None if newest is None else Foreign(newest.manager, "created", newest.paths())
    known = {entry.key: entry for entry in before.metadata.managed_fields or ()}
    for key, entry in sorted(entries.items()):
        earlier = known.get(key)
        if earlier is None or entry.time > earlier.time or set(entry.paths()) > set(earlier.paths()):
            return Foreign(entry.manager, "changed", entry.paths())
    same = list(known) == [entry.key for entry in after.metadata.managed_fields or ()]
    if counted and same and after.metadata.generation > before.metadata.generation:
        newest = max(after.metadata.managed_fields or (), key=lambda entry: entry.time, default=None)
        if newest is not None and _foreign(newest.manager) and newest.subresource != "status":
            return Foreign(newest.manager, "changed", newest.paths())
    return None


def _foreign(manager: str) -> bool:
    return manager.lower() not in _NOBODY


def deleted_object(
    before: ManagedObject | PodObject | None, after: ManagedObject | PodObject, change: Change
) -> Foreign | None:
    """Return that an object was deleted, if it goes, or has begun to."""
    began = change == "deleted" or after.metadata.deletion_timestamp is not None
    if not began or (before is not None and before.metadata.deletion_timestamp is not None):
        return None
    return Foreign("", "deleted")


def deleted_pod(before: PodObject | None, after: PodObject, change: Change, told: Sequence[str]) -> Foreign | None:
    """Return that a pod was deleted by hand, if it has begun to end and neither its ReplicaSet (`told`) nor an eviction says why.

    One that is deleted without a grace period is gone at once.
    """
    evicted = any(item.type == "DisruptionTarget" and item.status == "True" for item in after.status.conditions or [])
    return None if evicted or after.metadata.name in told else deleted_object(before, after, change)


def told_of_deletion(events: Sequence[KubernetesEvent]) -> tuple[str, ...]:
    """Return the pods that ReplicaSets have told of deleting."""
    return tuple(row.message.rpartition(" ")[2] for row in events if row.reason == "SuccessfulDelete")


class Deeds:
    """What foreign hands have done, as actions; and whom their chaos objects killed."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # UID -> deeds so far
        self._killers: dict[str, str] = {}  # pod -> UID of the chaos object that kills it
        self._made: dict[str, str] = {}  # UID of a foreign chaos object -> action that made it

    def life(self, foreign: Foreign, *, kind: str, name: str, uid: str, service: str, time: int) -> Iterator[Event]:
        """Yield the life of an external action.

        Its id derives from the object and how many deeds there were to it: a resourceVersion would tell of writes that are hidden.
        """
        number = self._counts[uid] = self._counts.get(uid, 0) + 1
        action_id = f"x{hashlib.sha256(f'{uid}/{number}'.encode()).hexdigest()[:11]}"
        parameters: dict[str, Any] = {
            "object": f"{kind}/{name}",
            "operation": foreign.operation,
            "manager": foreign.manager,
            "fields": list(foreign.fields),
        }
        chaos = kind.endswith("Chaos")
        if chaos and foreign.operation == "created":
            self._made[uid] = action_id
        yield ActionRequested(
            time=time,
            action_id=action_id,
            actor="human",
            action_class="intervention" if chaos else "action",
            action_type="external",
            target_kind="service" if service else "none",
            target=service,
            parameters=parameters,
            root_cause_kind="service" if service else "none",
        )
        yield ActionApplied(time=time, action_id=action_id, objects=(TouchedObject(kind=kind, name=name, uid=uid),))
        yield ActionSettled(time=time, action_id=action_id, status="applied")

    def see(self, chaos: ChaosObject) -> None:
        """Take note of whom a chaos object kills; its records stay known when it is gone."""
        for pod in chaos.victims():
            self._killers[pod] = chaos.metadata.uid

    def killed(self, pod: str) -> bool:
        """Return whether a chaos object kills a pod."""
        return pod in self._killers

    def victim(self, pod: PodObject, time: int) -> Iterator[Event]:
        """Yield that a foreign chaos object has touched a pod, for the truth; those of the gym's own are in its own account."""
        action_id = self._made.get(self._killers.get(pod.metadata.name, ""))
        if action_id is not None:
            touched = TouchedObject(kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid)
            yield ActionApplied(time=time, action_id=action_id, objects=(touched,))
