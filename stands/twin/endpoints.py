"""Endpoints: which pods new connections are spread over.

In: pods that become ready, lose readiness or begin to terminate; Services whose target port changes. Out: `PodRuntime.set_endpoint`,
some time later.

The time stands for the endpoint slice controller and kube-proxy. It is why a pod that was told to stop is still offered new
connections for a moment. A Service that leads to a port on which nobody listens is, to who connects, a Service without endpoints: both
refuse. Open connections stay, so who holds on to his doesn't notice.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.controller import Context, split_key, workload_of
from otel_control_gym.stands.twin.objects import POD, SERVICE, Object, condition
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
        if change.kind is SERVICE and change.before is not None and change.before["spec"] != change.object["spec"]:
            for pod in self._context.store.objects(POD):
                if workload_of(pod) == change.object["metadata"]["name"]:
                    after = self._context.pod_delay(self._context.settings.endpoint_seconds, "endpoint", pod)
                    self._context.soon(self.name, pod, after=after)
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
        uid, ready = pod["metadata"]["uid"], _serving(pod) and self._reachable(pod)
        if self._listed.get(uid, False) != ready:
            self._listed[uid] = ready
            self._context.runtime.set_endpoint(uid, ready=ready)

    def _reachable(self, pod: Object) -> bool:
        """Return whether the pod's own Service leads to the port on which its process listens (by number or by name)."""
        namespace, name = pod["metadata"]["namespace"], workload_of(pod)
        service = self._context.store.get(SERVICE, namespace, name)
        if service is None:
            return True
        listened = (self._context.services.services[name].port, "service")
        return all(port["targetPort"] in listened for port in service["spec"]["ports"])


def _serving(pod: Object) -> bool:
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True" and "deletionTimestamp" not in pod["metadata"]
