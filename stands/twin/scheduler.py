"""The scheduler: binds a new pod to the node, if its requests fit.

In: pods without a node. Out: `spec.nodeName`, the condition PodScheduled, events Scheduled or FailedScheduling.

The twin has one node. A pod that doesn't fit stays Pending and is tried again when another pod has gone.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import POD, Object, condition, set_condition
from otel_control_gym.stands.twin.quantities import pod_resources
from otel_control_gym.stands.twin.runtime import PodResources
from otel_control_gym.stands.twin.watches import Change

__all__ = ("NODE_NAME", "Scheduler")

NODE_NAME = "node-0"


class Scheduler:
    """Gives pods their node, some time after they were made."""

    name = "default-scheduler"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._bound: dict[str, PodResources] = {}  # what the node's pods hold, by UID
        self._cores, self._memory = 0.0, 0  # together

    def observe(self, change: Change) -> None:
        """Keep account of the node; queue new pods, and the pods that wait for room when a pod has gone."""
        if change.kind is not POD:
            return
        self._account(change)
        if change.type == "ADDED":
            self._queue(change.object)
        elif change.type == "DELETED":
            for pod in self._context.store.objects(POD):
                if condition(pod, "PodScheduled") is not None and not pod["spec"].get("nodeName"):
                    self._queue(pod)

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - one step only
        """Bind a pod, or say why it can't be."""
        store = self._context.store
        pod = store.get(POD, *split_key(key))
        if pod is None or pod["spec"].get("nodeName"):
            return
        draft = store.draft(POD, *split_key(key))
        lack = self._lack(pod)
        if lack:
            message = f"0/1 nodes are available: 1 {lack}."
            set_condition(
                draft, "PodScheduled", status="False", now=self._context.now, reason="Unschedulable", message=message
            )
            record(
                self._context,
                POD,
                store.update(POD, draft),
                "FailedScheduling",
                message,
                component=self.name,
                type="Warning",
            )
            return
        draft["spec"]["nodeName"] = NODE_NAME
        set_condition(draft, "PodScheduled", status="True", now=self._context.now)
        bound = store.update(POD, draft)
        record(
            self._context,
            POD,
            bound,
            "Scheduled",
            f"Successfully assigned {key} to {NODE_NAME}",
            component=self.name,
        )

    def _queue(self, pod: Object) -> None:
        settings = self._context.settings
        after = self._context.pod_delay(settings.schedule_seconds, "schedule", pod)
        self._context.soon(self.name, pod, after=after)

    def _lack(self, pod: Object) -> str:
        """Return which resource the node hasn't enough of for the pod's requests, or nothing."""
        cores = self._context.settings.node_cores - self._cores
        memory = self._context.settings.node_memory_bytes - self._memory
        wanted = pod_resources(pod["spec"])
        if wanted.cpu_request_cores > cores + 1e-9:
            return "Insufficient cpu"
        return "Insufficient memory" if wanted.memory_request_bytes > memory else ""

    def _account(self, change: Change) -> None:
        """Take a bound pod's requests into account, those of one that is over or gone out of it."""
        pod = change.object
        uid = pod["metadata"]["uid"]
        before = self._bound.pop(uid, None)
        if before is not None:
            self._cores -= before.cpu_request_cores
            self._memory -= before.memory_request_bytes
        over = change.type == "DELETED" or pod.get("status", {}).get("phase") in ("Failed", "Succeeded")
        if pod["spec"].get("nodeName") and not over:
            self._bound[uid] = held = pod_resources(pod["spec"])
            self._cores += held.cpu_request_cores
            self._memory += held.memory_request_bytes
