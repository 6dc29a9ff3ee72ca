"""The gateway's controller: HTTPRoutes ➜ how the traffic of a Service is split between its pods.

In: routes, the Services and pods there are. Out: `PodRuntime.set_split`, the routes' status.

A route's parent is the Service that clients call (GAMMA); its backends are Services that select among that one's pods. The machines know
two groups of a service's pods: those of the Deployment that bears its name, and the others, its canary. A backend may select pods of
both (the demo's own Service does, as its selector is one label): so the share that reaches the canary is the weighted mean of what part
of each backend's ready pods is canary. A backend that has no ready pod answers nobody: its share fails. Of several routes of one
parent the oldest counts. Without a route a Service spreads over all its pods alike.
"""

from __future__ import annotations

from fractions import Fraction

from otel_control_gym.stands.twin.controller import Context, deployment_of, split_key
from otel_control_gym.stands.twin.dns import selected_pods
from otel_control_gym.stands.twin.objects import HTTP_ROUTE, POD, SERVICE, Object, condition, set_condition
from otel_control_gym.stands.twin.watches import Change

__all__ = ("RouteController",)

_CONTROLLER = "opentelemetry.io/twin-gateway"


class RouteController:
    """Keeps traffic splits in line with the routes."""

    name = "gateway-controller"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._splits: dict[str, float] = {}  # service -> share of its canary

    def observe(self, change: Change) -> None:
        """Queue a route that changed, and all routes when what they lead to did."""
        if change.kind is HTTP_ROUTE:
            if change.type == "DELETED" or change.before is None or change.before["spec"] != change.object["spec"]:
                self._context.soon(self.name, change.object, step="status")
                self._plan()
        elif change.kind is SERVICE:
            for route in self._context.store.objects(HTTP_ROUTE):
                self._context.soon(self.name, route, step="status")
                self._plan()
        elif change.kind is POD and self._context.store.objects(HTTP_ROUTE):
            self._plan()

    def reconcile(self, step: str, key: str) -> None:
        """Judge a route, or split the traffic by all of them."""
        if step == "split":
            self._split()
        elif self._context.store.get(HTTP_ROUTE, *split_key(key)) is not None:
            self._judge(key)

    def _plan(self) -> None:
        after = self._context.settings.endpoint_seconds
        self._context.soon(self.name, {"metadata": {"name": "all"}}, step="split", after=after)

    def _split(self) -> None:
        """Tell the machines what the oldest valid route of each service asks for."""
        wanted: dict[str, float] = {}
        routes = self._context.store.objects(HTTP_ROUTE)
        for route in sorted(routes, key=lambda item: item["metadata"]["creationTimestamp"]):
            parent = route["spec"]["parentRefs"][0]["name"]
            namespace = route["metadata"]["namespace"]
            if namespace == self._context.services.namespace and parent in self._context.services.services:
                wanted.setdefault(parent, self._canary_share(route))
        for service in self._splits:
            if service not in wanted:
                self._context.runtime.set_split(service, None)
        for service, share in wanted.items():
            if self._splits.get(service) != share:
                self._context.runtime.set_split(service, share)
        self._splits = wanted

    def _canary_share(self, route: Object) -> float:
        """Return which share of a route's traffic goes to canary pods."""
        parent, backends = route["spec"]["parentRefs"][0]["name"], route["spec"]["rules"][0]["backendRefs"]
        total, share = sum(int(backend["weight"]) for backend in backends), Fraction(0)
        for backend in backends:
            service = self._backend(route, backend)
            ready = (
                [] if service is None else [pod for pod in selected_pods(self._context.store, service) if _ready(pod)]
            )
            canary = sum(deployment_of(self._context.store, pod) != parent for pod in ready)
            part = Fraction(canary, len(ready)) if ready else Fraction(backend["name"] != parent)
            share += part * Fraction(int(backend["weight"]), total)
        return float(share)

    def _judge(self, key: str) -> None:
        """Write a route's status: whether its parent takes it, and whether its backends are there."""
        store = self._context.store
        draft = store.draft(HTTP_ROUTE, *split_key(key))
        parent = draft["spec"]["parentRefs"][0]
        service = self._backend(draft, parent)
        lacking = [
            backend for backend in draft["spec"]["rules"][0]["backendRefs"] if self._backend(draft, backend) is None
        ]
        before = draft.get("status", {}).get("parents", [])
        entry: Object = {"parentRef": parent, "controllerName": _CONTROLLER, "conditions": []}
        if before:
            entry["conditions"] = before[0]["conditions"]
        accepted = ("True", "Accepted", "") if service else ("False", "NoMatchingParent", _missing(parent))
        resolved = ("False", "BackendNotFound", _missing(lacking[0])) if lacking else ("True", "ResolvedRefs", "")
        programmed = ("True", "Programmed", "") if service else ("False", "Invalid", _missing(parent))
        for name, (status, reason, message) in (
            ("Accepted", accepted),
            ("ResolvedRefs", resolved),
            ("Programmed", programmed),
        ):
            subject = {"status": entry}
            set_condition(subject, name, status=status, now=self._context.now, reason=reason, message=message)
        for found in entry["conditions"]:
            found["observedGeneration"] = draft["metadata"]["generation"]
            found.setdefault("message", "")
        draft["status"] = {"parents": [entry]}
        store.update(HTTP_ROUTE, draft)

    def _backend(self, route: Object, reference: Object) -> Object | None:
        """Return the Service that a parent or backend reference names, if it is there and has the port."""
        namespace = reference.get("namespace", route["metadata"]["namespace"])
        service = self._context.store.get(SERVICE, namespace, reference["name"])
        if service is None or (
            "port" in reference and all(port["port"] != reference["port"] for port in service["spec"].get("ports", ()))
        ):
            return None
        return service


def _missing(reference: Object) -> str:
    port = f" with port {reference['port']}" if "port" in reference else ""
    return f'service "{reference["name"]}"{port} not found'


def _ready(pod: Object) -> bool:
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True" and "deletionTimestamp" not in pod["metadata"]
