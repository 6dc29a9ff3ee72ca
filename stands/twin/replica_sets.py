"""The ReplicaSet controller: as many pods as are wanted, and their count.

In: replica sets and the pods they own. Out: new pods, deleted pods, status, events.

Only active pods count (not finished, not being deleted), so a terminating pod is replaced at once. Which pod goes first when there
are too many follows Kubernetes' order, in which readiness time and age are compared on a logarithmic scale: of two pods of about
the same age, the UID decides.
"""

from __future__ import annotations

import functools
import math

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.admission import admit_pod
from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.deletion import delete
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import POD, REPLICA_SET, Object, condition, moment, owner_reference
from otel_control_gym.stands.twin.templates import counted
from otel_control_gym.stands.twin.watches import Change

__all__ = ("ReplicaSetController", "deletion_order")

_DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


class ReplicaSetController:
    """Keeps replica sets at their size."""

    name = "replicaset-controller"

    def __init__(self, context: Context) -> None:
        self._context = context

    def observe(self, change: Change) -> None:
        """Queue the replica set that changed, or that owns the pod that did."""
        if change.kind is REPLICA_SET and change.type != "DELETED":
            self._context.soon(self.name, change.object)
        elif change.kind is POD:
            for reference in change.object["metadata"].get("ownerReferences", ()):
                namespace = change.object["metadata"]["namespace"]
                self._context.soon(self.name, {"metadata": {"namespace": namespace, "name": reference["name"]}})

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - one step only
        """Make or delete pods, then count them."""
        item = self._context.store.get(REPLICA_SET, *split_key(key))
        if item is None or "deletionTimestamp" in item["metadata"]:
            return
        active = [pod for pod in self._pods(item) if _active(pod)]
        lacking = item["spec"]["replicas"] - len(active)
        for _ in range(lacking):
            self._create_pod(item)
        if lacking < 0:
            for pod in deletion_order(active, self._context.now)[:-lacking]:
                delete(self._context, POD, pod)
                self._tell(item, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        self._write_status(item)

    def _create_pod(self, item: Object) -> None:
        store, template = self._context.store, item["spec"]["template"]
        prefix = f"{item['metadata']['name'][:57]}-"
        name = prefix + store.new_suffix()
        while store.get(POD, item["metadata"]["namespace"], name) is not None:
            name = prefix + store.new_suffix()
        metadata = {
            "name": name,
            "generateName": prefix,
            "namespace": item["metadata"]["namespace"],
            "labels": template["metadata"].get("labels", {}),
            "annotations": template["metadata"].get("annotations", {}),
            "ownerReferences": [owner_reference(REPLICA_SET, item)],
        }
        pod = admit_pod({"metadata": metadata, "spec": template["spec"]})
        store.create(POD, pod, self._context.now)
        self._tell(item, "SuccessfulCreate", f"Created pod: {name}")

    def _write_status(self, item: Object) -> None:
        draft = self._context.store.draft(REPLICA_SET, item["metadata"]["namespace"], item["metadata"]["name"])
        pods = self._pods(item)
        active = [pod for pod in pods if _active(pod)]
        ready = [pod for pod in active if _ready_since(pod) is not None]
        available = sum(self._available(item, pod) for pod in ready)
        counts = {
            "fullyLabeledReplicas": len(active),
            "readyReplicas": len(ready),
            "availableReplicas": available,
            "terminatingReplicas": sum("deletionTimestamp" in pod["metadata"] for pod in pods),
        }
        draft["status"] = {
            "replicas": len(active),
            **{key: value for key, value in counts.items() if value},
            "observedGeneration": draft["metadata"]["generation"],
        }
        self._context.store.update(REPLICA_SET, draft)

    def _available(self, item: Object, pod: Object) -> bool:
        """Return whether a ready pod has been so for long enough; if not, come back when it will have been."""
        since = _ready_since(pod)
        assert since is not None
        available = since + int(item["spec"].get("minReadySeconds", 0)) * SECOND
        if available > self._context.now:
            key = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            self._context.at(available, self.name, key)
            return False
        return True

    def _pods(self, item: Object) -> list[Object]:
        return self._context.store.owned(POD, item["metadata"]["uid"])

    def _tell(self, item: Object, reason: str, message: str) -> None:
        record(self._context, REPLICA_SET, item, reason, message, component=self.name)


def deletion_order(pods: list[Object], now: int) -> list[Object]:
    """Return pods in the order in which a shrinking replica set deletes them."""
    return sorted(pods, key=functools.cmp_to_key(functools.partial(_compare, now=now)))


def _compare(first: Object, second: Object, *, now: int) -> int:
    ours, theirs = _rank(first), _rank(second)
    if ours != theirs:
        return -1 if ours < theirs else 1
    for times in (
        (_ready_since(first), _ready_since(second)),
        (moment(first["metadata"]["creationTimestamp"]), moment(second["metadata"]["creationTimestamp"])),
    ):
        if times[0] is not None and times[1] is not None and times[0] != times[1]:
            difference = _logarithm(now - times[0]) - _logarithm(now - times[1])
            return difference or _compare_uids(first, second)
        if times[0] is not None and _restarts(first) != _restarts(second):
            return _restarts(second) - _restarts(first)
    return _compare_uids(first, second)


def _rank(pod: Object) -> tuple[bool, int, bool, int]:
    """Return what comes before any comparison of times: unscheduled, not running, not ready, cheap pods go first."""
    return (
        bool(pod["spec"].get("nodeName")),
        _PHASES.get(pod["status"]["phase"], 2),
        _ready_since(pod) is not None,
        counted(pod, _DELETION_COST),
    )


def _logarithm(age: int) -> int:
    return int(math.log2(age)) if age > 0 else -1


def _compare_uids(first: Object, second: Object) -> int:
    return -1 if first["metadata"]["uid"] < second["metadata"]["uid"] else 1


def _restarts(pod: Object) -> int:
    return max((int(status["restartCount"]) for status in pod["status"].get("containerStatuses", ())), default=0)


def _ready_since(pod: Object) -> int | None:
    ready = condition(pod, "Ready")
    return moment(ready["lastTransitionTime"]) if ready is not None and ready["status"] == "True" else None


def _active(pod: Object) -> bool:
    return pod["status"]["phase"] not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]
