"""Endpoints: which pods new connections are spread over.

In: pods that become ready, lose readiness or begin to terminate. Out: `PodRuntime.set_endpoint`, some time later.

The time stands for the endpoint slice controller and kube-proxy. It is why a pod that was told to stop is still offered new
connections for a moment.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.objects import POD, Object, condition
from otel_control_gym.stands.twin.watches import Change

__all__ = ("EndpointController",)


class EndpointController:
    """Keeps the endpoints in line with the pods' readiness."""

    name = "endpoints"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._listed: dict[str, bool] = {}  # UID -> in the endpoints

    def observe(self, change: Change) -> None:
        """Queue a pod whose place in the endpoints changes; one that is gone takes its place along."""
        if change.kind is not POD:
            return
        uid = change.object["metadata"]["uid"]
        if change.type == "DELETED":
            self._listed.pop(uid, None)
        elif _serving(change.object) != (change.before is not None and _serving(change.before)):
            after = self._context.pod_delay(self._context.settings.endpoint_seconds, "endpoint", change.object)
            self._context.soon(self.name, change.object, after=after)

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - one step only
        """Put a pod into the endpoints or take it out, as it is now."""
        pod = self._context.store.get(POD, *split_key(key))
        if pod is None:
            return
        uid, ready = pod["metadata"]["uid"], _serving(pod)
        if self._listed.get(uid, False) != ready:
            self._listed[uid] = ready
            self._context.runtime.set_endpoint(uid, ready=ready)


def _serving(pod: Object) -> bool:
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True" and "deletionTimestamp" not in pod["metadata"]
