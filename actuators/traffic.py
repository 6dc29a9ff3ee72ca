"""A share of a service's traffic for another version of it: a second Deployment beside the first (canary).

In: a version (an image tag) and a weight. Out: the Deployment `<service>-canary`, and either pods of both versions in the wanted proportion
behind the service's one Service, or a Service for each version and an HTTPRoute that weighs them.

What makes this hard:
- **Selectors.** The Service selects by the label that the chart gives a service's pods, so the canary's carry it, too, and a label
  `track` that only they have. Its ReplicaSets have owners, so the first Deployment leaves them alone; but who counts pods by the first
  one's selector (an autoscaler) counts the canary's along, which is why both together are refused.
- **Proportions.** Pods are whole: their number grows until the share is met within `TOLERANCE_PERCENT`, up to `MOST_PODS`. What share it
  is, is in the evidence.
- **Connections.** Callers that hold on to their connections keep the pods that they have. Where any caller does, the share can't be told
  from the objects, and the attempt stays unverified; unless they are restarted once both versions are there (`reconnection`), which
  deals the connections anew: one per pod of a caller, so the share is met the better the more there are.
- **Routes.** A route is no more than a wish until a gateway or mesh that the load passes has accepted it, as its status says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from otel_control_gym.actuators.deployments import DeploymentClient, autoscaler_of
from otel_control_gym.actuators.kubernetes_client import FIELD_MANAGER
from otel_control_gym.actuators.objects import Metadata, Part, PodCondition
from otel_control_gym.actuators.prechecks import refuse_autoscaled, refuse_rollout, refuse_untouchable
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.reconnection import Reconnection
from otel_control_gym.actuators.rollbacks import template_of
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("ShiftTrafficProcedure", "proportion")

TOLERANCE_PERCENT = 5
MOST_PODS = 10
_NAME = "opentelemetry.io/name"
_VERSION = "app.kubernetes.io/version"
_GATEWAY = "apis/gateway.networking.k8s.io/v1"
_NOT_FOUND, _CONFLICT = 404, 409

_Object = dict[str, Any]


class _Any(Part, frozen=True, kw_only=True):
    metadata: Metadata


class _Conditioned(Part, frozen=True, kw_only=True):
    conditions: tuple[PodCondition, ...] = ()


class _RouteStatus(Part, frozen=True, kw_only=True):
    parents: tuple[_Conditioned, ...] = ()


class _Route(Part, frozen=True, kw_only=True):
    metadata: Metadata
    spec: _Object = msgspec.field(default_factory=dict)
    status: _RouteStatus = _RouteStatus()

    def weights(self) -> dict[str, int]:
        """Return the weight of each backend."""
        backends = [backend for rule in self.spec.get("rules", ()) for backend in rule.get("backendRefs", ())]
        return {backend["name"]: backend.get("weight", 1) for backend in backends}

    def holds(self, name: str) -> bool:
        """Return whether every parent says that a condition is True."""
        parents = self.status.parents
        return bool(parents) and all(
            any(item.type == name and item.status == "True" for item in parent.conditions) for parent in parents
        )


def proportion(weight_percent: int, replicas: int) -> tuple[int, int]:
    """Return how many pods of the old and the new version meet a weight, with at least `replicas` in all.

    The fewest pods within the tolerance, else the best up to the most; neither side is left without a pod unless its weight is 0.
    """
    best: tuple[float, int, int] | None = None
    for total in range(max(1, replicas), max(replicas, MOST_PODS) + 1):
        new = round(total * weight_percent / 100)
        new = min(max(new, 1 if weight_percent > 0 else 0), total)
        old = max(total - new, 1 if weight_percent < 100 else 0)
        error = abs(100 * new / (old + new) - weight_percent)
        if error <= TOLERANCE_PERCENT:
            return old, new
        if best is None or error < best[0]:
            best = (error, old, new)
    assert best is not None
    return best[1], best[2]


class ShiftTrafficProcedure:
    """Run another version beside the first, with a share of the traffic; back: the first one alone, as it was."""

    def __init__(
        self,
        client: DeploymentClient,
        service: Service,
        *,
        version: str,
        weight_percent: int,
        via: Literal["replicas", "route"],
        sticky: bool,
        reconnection: Reconnection | None,
        labels: Mapping[str, str],
    ) -> None:
        again = () if reconnection is None else reconnection.fields
        self.fields = (f"scale:{client.name}", f"traffic:{client.name}", f"rollout:{client.name}", *again)
        self._client = client
        self._service = service
        self._canary = DeploymentClient(client.kubernetes, client.namespace, f"{client.name}-canary")
        self._version = version
        self._weight = weight_percent
        self._via = via
        self._sticky = sticky  # some caller holds on to its connections
        self._reconnection = reconnection  # of those; None: they keep their connections
        self._labels = {"app.kubernetes.io/managed-by": FIELD_MANAGER, **labels}
        self._template: _Object = {}
        self._replicas = 0
        self._wanted = (0, 0)
        self._both_there = False
        self.begun = False

    # --- the stages ------------------------------------------------------------------------------------------------------

    async def precheck(self) -> Precheck:
        """Refuse targets that an autoscaler owns or a canary has already, and routes where there is no gateway."""
        try:
            raw = await self._client.kubernetes.call("GET", self._client.path, dict)
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return Precheck(rejection=f"Deployment {self._client.name!r} doesn't exist")
            raise
        before = await self._client.read()
        self._template, self._replicas = template_of(raw), before.spec.replicas
        self._wanted = (
            proportion(self._weight, self._replicas)
            if self._via == "replicas"
            else (self._replicas, self._replicas if self._weight else 0)
        )
        name = self._client.name
        rejection = refuse_untouchable(name, self._service) or refuse_rollout(before)
        rejection = rejection or refuse_autoscaled(name, await autoscaler_of(self._client))
        if not rejection and await self._present(self._canary.path):
            rejection = f"{name} has a canary already: wait for its end, or remove it"
        if not rejection and self._via == "route" and not await self._present(self._routes):
            rejection = "the cluster has no gateway.networking.k8s.io: shift via replicas"
        if not rejection and self._reconnection is not None:
            rejection = await self._reconnection.refusal()
        old, new = self._wanted
        evidence = {"replicas_before": self._replicas, "replicas_old": old, "replicas_new": new}
        return Precheck(rejection=rejection, evidence=evidence)

    async def _present(self, path: str) -> bool:
        try:
            await self._client.kubernetes.call("GET", path, dict)
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return False
            raise
        return True

    def inverse(self) -> tuple[InverseCall, ...]:
        """Remove route, Services and canary, and scale back."""
        removed = (self._route_path, *self._service_paths) if self._via == "route" else ()
        return (
            *(InverseCall(api="kubernetes", method="DELETE", path=path) for path in (*removed, self._canary.path)),
            self._client.scale_call(self._replicas),
        )

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make the canary and, via a route, what leads to it; what is there already is an earlier try's.

        Once both versions were seen to be there, restart the callers, if that is asked for.
        """
        if self._both_there and self._reconnection is not None:
            return await self._reconnection.begin(now)
        old, new = self._wanted
        touched = [await self._make("Deployment", self._canary.path, self._canary_body(new))]
        self.begun = True
        if self._via == "route":
            for path, selector in zip(self._service_paths, self._selectors(), strict=True):
                touched.append(await self._make("Service", path, self._service_body(path, selector)))
            touched.append(await self._make("HTTPRoute", self._route_path, self._route_body()))
        elif old != self._replicas:
            touched.append(await self._client.scale(old))
        return tuple(touched)

    async def postcheck(self) -> Check:
        """Both versions have their pods, and, via a route, the gateway has taken the weights."""
        old, new = self._wanted
        stable, canary = await self._client.read(), await self._canary.read()
        complete = all(
            item.spec.replicas == item.status.replicas == item.status.available_replicas == count
            for item, count in ((stable, old), (canary, new))
        )
        available = (stable.status.available_replicas, canary.status.available_replicas)
        evidence: _Object = {"available_old": available[0], "available_new": available[1]}
        if sum(available):
            evidence["share_percent"] = round(100 * available[1] / sum(available), 1)
        if not complete:
            missing = "not all pods of both versions are available"
            return Check(seen="some" if available[1] else "none", evidence=evidence | {"missing": missing})
        if self._via == "route":
            return await self._check_route(evidence)
        if self._reconnection is not None:
            return await self._check_callers(self._reconnection, evidence)
        if self._sticky:
            missing = "callers hold on to their connections: what share they send can't be told"
            return Check(seen="none", evidence=evidence | {"missing": missing})
        return Check(seen="all", evidence=evidence)

    async def _check_callers(self, reconnection: Reconnection, evidence: _Object) -> Check:
        self._both_there = True
        if not reconnection.begun:
            missing = "callers that hold on to their connections haven't dialled anew"
            return Check(seen="none", evidence=evidence | {"missing": missing}, more=True)
        check = await reconnection.check()
        evidence = evidence | {"callers": list(reconnection.names)}
        if check.seen != "all":
            evidence = evidence | {"missing": check.evidence["missing"]}
        return Check(seen=check.seen, evidence=evidence, moment=check.moment)

    async def _check_route(self, evidence: _Object) -> Check:
        route = await self._client.kubernetes.call("GET", self._route_path, _Route)
        evidence = evidence | {"weights": route.weights()}
        if route.weights() != self._weights():
            return Check(seen="none", evidence=evidence | {"missing": "the route hasn't the weights"})
        unmet = [name for name in ("Accepted", "ResolvedRefs") if not route.holds(name)]
        if unmet:
            missing = f"{', '.join(unmet)}: not True, so no gateway that the load passes follows the weights"
            return Check(seen="none", evidence=evidence | {"missing": missing})
        return Check(seen="all", evidence=evidence)

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Both Deployments see to their pods."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Make the inverse calls; what isn't there needs no removal."""
        for call in self.inverse():
            try:
                await self._client.kubernetes.write(call, dict)
            except Refused as refusal:
                if refusal.status != _NOT_FOUND:
                    raise
        return ((await self._client.read()).metadata.touched("Deployment"),)

    async def reverted(self, _now: int, /) -> Reversal:
        """No canary is left, and the first version has its replicas."""
        canary = await self._present(self._canary.path)
        pods = [pod.metadata.name for pod in await self._client.pods() if (pod.metadata.labels or {}).get("track")]
        stable = await self._client.read()
        back = stable.spec.replicas == stable.status.available_replicas == self._replicas
        evidence = {
            "canary_present": canary,
            "canary_pods": pods,
            "replicas_available": stable.status.available_replicas,
        }
        return Reversal(verified=back and not canary and not pods, evidence=evidence)

    # --- bodies and calls --------------------------------------------------------------------------------------------------

    @property
    def _routes(self) -> str:
        return f"{_GATEWAY}/namespaces/{self._client.namespace}/httproutes"

    @property
    def _route_path(self) -> str:
        return f"{self._routes}/{self._client.name}-split"

    @property
    def _service_paths(self) -> tuple[str, str]:
        prefix = f"api/v1/namespaces/{self._client.namespace}/services/{self._client.name}"
        return (f"{prefix}-stable", f"{prefix}-canary")

    def _canary_version(self) -> str:
        """Return the version label of the canary's pods, which is never the first one's."""
        return f"{self._version}-canary"

    def _selectors(self) -> tuple[dict[str, str], dict[str, str]]:
        name = {_NAME: self._client.name}
        present = self._template["metadata"]["labels"].get(_VERSION, "")
        return name | {_VERSION: present}, name | {_VERSION: self._canary_version()}

    def _weights(self) -> dict[str, int]:
        names = [path.rpartition("/")[2] for path in self._service_paths]
        return {names[0]: 100 - self._weight, names[1]: self._weight}

    async def _make(self, kind: str, path: str, body: _Object) -> TouchedObject:
        collection, _, name = path.rpartition("/")
        metadata = {"name": name, "namespace": self._client.namespace, "labels": self._labels}
        call = InverseCall(
            api="kubernetes", method="POST", path=collection, body={"kind": kind, "metadata": metadata, **body}
        )
        try:
            made = await self._client.kubernetes.write(call, _Any)
        except Busy as busy:
            if busy.status != _CONFLICT:
                raise
            made = await self._client.kubernetes.call("GET", path, _Any)
        return made.metadata.touched(kind)

    def _canary_body(self, replicas: int) -> _Object:
        labels = {**self._template["metadata"]["labels"], "track": "canary", _VERSION: self._canary_version()}
        spec = self._template["spec"]
        containers = [self._tagged(container) for container in spec["containers"]]
        metadata = {**self._template["metadata"], "labels": labels}
        return {
            "apiVersion": "apps/v1",
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {_NAME: self._client.name, "track": "canary"}},
                "template": {"metadata": metadata, "spec": {**spec, "containers": containers}},
            },
        }

    def _tagged(self, container: _Object) -> _Object:
        """Return a container with the version's image, if it is the service's own."""
        repository, _, tag = container["image"].rpartition(":")
        suffix = f"-{self._client.name}"
        if container["name"] != self._client.name or not tag.endswith(suffix):
            return container
        return {**container, "image": f"{repository}:{self._version}{suffix}"}

    def _service_body(self, _path: str, selector: dict[str, str]) -> _Object:
        port = self._service.port
        ports = [{"name": "tcp-service", "port": port, "targetPort": port, "protocol": "TCP"}]
        return {"apiVersion": "v1", "spec": {"type": "ClusterIP", "selector": selector, "ports": ports}}

    def _route_body(self) -> _Object:
        port = self._service.port
        parent = {"group": "", "kind": "Service", "name": self._client.name, "port": port}
        backends = [{"name": name, "port": port, "weight": weight} for name, weight in self._weights().items()]
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "spec": {"parentRefs": [parent], "rules": [{"backendRefs": backends}]},
        }
