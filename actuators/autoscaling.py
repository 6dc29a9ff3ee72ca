"""Autoscalers: a HorizontalPodAutoscaler of a service, by CPU.

In: bounds and target, or the wish to remove it. Out: POST, PATCH or DELETE, and what shows that the autoscaler is at work.

Traps: `metrics` has no merge key, so it is sent whole; without a CPU request utilisation is undefined and the autoscaler does nothing
(precheck); a target at 0 replicas is left alone (precheck); two autoscalers on one target fight (precheck); ScalingActive is said by the
controller, not by the API server, so it is evidence where the API's yes is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.kubernetes_client import FIELD_MANAGER, MERGE
from otel_control_gym.actuators.objects import Deployment, Items, Metadata, Part, PodCondition
from otel_control_gym.actuators.prechecks import refuse_unmeasured, refuse_untouchable
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("AutoscalerProcedure",)

_NOT_FOUND, _CONFLICT = 404, 409
_DEFAULT_MIN, _DEFAULT_MAX, _DEFAULT_PERCENT = 1, 4, 60

_Object = dict[str, Any]


class _Status(Part, frozen=True, kw_only=True):
    conditions: tuple[PodCondition, ...] | None = None


class _Autoscaler(Part, frozen=True, kw_only=True):
    metadata: Metadata
    spec: _Object = msgspec.field(default_factory=dict)
    status: _Status = _Status()

    @property
    def active(self) -> bool:
        """Return whether the controller measures and decides."""
        return any(item.type == "ScalingActive" and item.status == "True" for item in self.status.conditions or ())


class AutoscalerProcedure:
    """Set or remove the autoscaler of a service; back: the one that was, or none."""

    begun = False

    def __init__(
        self,
        client: DeploymentClient,
        service: Service,
        parameters: Mapping[str, Any],
        labels: Mapping[str, str],
    ) -> None:
        self.fields = (f"scale:{client.name}", f"autoscaler:{client.name}")
        self._client = client
        self._service = service
        self._parameters = parameters
        self._labels = dict(labels)
        self._remove = bool(parameters.get("remove", False))
        self._path = f"apis/autoscaling/v2/namespaces/{client.namespace}/horizontalpodautoscalers"
        self._name = client.name
        self._before: _Autoscaler | None = None
        self._replicas = 0

    async def precheck(self) -> Precheck:
        """Find the autoscaler of the target, and refuse targets that none can measure."""
        rejection = refuse_untouchable(self._client.name, self._service)
        if rejection:
            return Precheck(rejection=rejection)
        try:
            found = (await self._client.kubernetes.call("GET", self._path, Items[_Autoscaler])).items
            deployment = await self._client.read()
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return Precheck(rejection="the cluster has no autoscaling/v2, or no such Deployment")
            raise
        self._replicas = deployment.spec.replicas
        own = [item for item in found if self._targets_us(item.spec)]
        self._before = own[0] if own else None
        self._name = own[0].metadata.name if own else self._client.name
        evidence = {"autoscaler_before": None if self._before is None else _shown(self._before.spec)}
        return Precheck(rejection=await self._refuse(own, deployment), evidence=evidence)

    async def _refuse(self, own: list[_Autoscaler], deployment: Deployment) -> str:
        if len(own) > 1:
            return f"{len(own)} autoscalers fight over {self._client.name}: remove all but one"
        if self._remove:
            return "" if own else f"{self._client.name} has no autoscaler"
        if await self._has_canary():
            return f"{self._client.name} has a canary: an autoscaler would count its pods"
        wanted = self._wanted()
        if wanted["minReplicas"] > wanted["maxReplicas"]:
            return f"minReplicas {wanted['minReplicas']} would exceed maxReplicas {wanted['maxReplicas']}"
        return refuse_unmeasured(deployment, self._client.name)

    async def _has_canary(self) -> bool:
        canary = DeploymentClient(self._client.kubernetes, self._client.namespace, f"{self._client.name}-canary")
        try:
            return (await canary.read()).spec.replicas > 0
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return False
            raise

    def _targets_us(self, spec: _Object) -> bool:
        target = spec.get("scaleTargetRef", {})
        return (target.get("kind"), target.get("name")) == ("Deployment", self._client.name)

    def _wanted(self) -> _Object:
        """Return the spec's part that is asked for; what isn't named stays, or is a default."""
        present = self._before.spec if self._before is not None else {}
        percent = self._parameters.get("cpu_utilization_percent") or _percent(present) or _DEFAULT_PERCENT
        target = {"type": "Utilization", "averageUtilization": percent}
        low = self._parameters.get("min_replicas") or present.get("minReplicas", _DEFAULT_MIN)
        wanted: _Object = {
            "minReplicas": low,
            "maxReplicas": self._parameters.get("max_replicas") or present.get("maxReplicas", max(low, _DEFAULT_MAX)),
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        }
        pause = self._parameters.get("scale_down_stabilization_seconds")
        if pause is not None:
            wanted["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": pause}}
        return wanted

    def _body(self, spec: _Object) -> _Object:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self._client.name}
        return {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": self._name,
                "namespace": self._client.namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER, **self._labels},
            },
            "spec": {"scaleTargetRef": target, **spec},
        }

    def _call(self, method: str, body: _Object | None, content_type: str = "application/json") -> InverseCall:
        path = self._path if method == "POST" else f"{self._path}/{self._name}"
        return InverseCall(api="kubernetes", method=method, path=path, body=body, content_type=content_type)

    def inverse(self) -> tuple[InverseCall, ...]:
        """Bring back the autoscaler that was, or remove the one that wasn't and set the replicas that it found."""
        if self._before is None:
            return (self._call("DELETE", None), self._client.scale_call(self._replicas))
        if self._remove:
            return (self._call("POST", self._body(self._before.spec)),)
        return (self._call("PATCH", {"spec": self._before.spec}, MERGE),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Make, change or remove it; one that is there or gone already is an earlier try's."""
        if self._remove:
            assert self._before is not None
            body = {"preconditions": {"uid": self._before.metadata.uid}}
            await self._delete(body)
            return (self._before.metadata.touched("HorizontalPodAutoscaler"),)
        if self._before is not None:
            call = self._call("PATCH", {"spec": self._wanted()}, MERGE)
        else:
            call = self._call("POST", self._body(self._wanted()))
        return (await self._write(call),)

    async def _write(self, call: InverseCall) -> TouchedObject:
        """Make a call that creates or changes the autoscaler; one that is there already was made by a call whose answer was lost."""
        try:
            made = await self._client.kubernetes.write(call, _Autoscaler)
        except Busy as busy:
            if busy.status != _CONFLICT or call.method != "POST":
                raise
            made = await self._read()
        return made.metadata.touched("HorizontalPodAutoscaler")

    async def _delete(self, body: _Object | None) -> None:
        try:
            await self._client.kubernetes.write(self._call("DELETE", body), dict)
        except Refused as refusal:
            if refusal.status != _NOT_FOUND:
                raise

    async def _read(self) -> _Autoscaler:
        return await self._client.kubernetes.call("GET", f"{self._path}/{self._name}", _Autoscaler)

    async def _present(self) -> _Autoscaler | None:
        try:
            return await self._read()
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise

    async def postcheck(self) -> Check:
        """The autoscaler is there, active, and the replicas within its bounds; or it is gone."""
        found = await self._present()
        if self._remove:
            evidence: _Object = {"present": found is not None}
            return Check(seen="none" if found else "all", evidence=evidence)
        return await self._check(found, self._wanted())

    async def _check(self, found: _Autoscaler | None, wanted: _Object) -> Check:
        if found is None:
            return Check(seen="none", evidence={"missing": "there is no autoscaler"})
        replicas = (await self._client.read()).spec.replicas
        low, high = wanted["minReplicas"], wanted["maxReplicas"]
        evidence: _Object = {**_shown(found.spec), "active": found.active, "replicas_desired": replicas}
        if _shown(found.spec) != _shown(wanted):
            return Check(seen="none", evidence=evidence | {"missing": "it hasn't what was asked for"})
        if found.active and low <= replicas <= high:
            return Check(seen="all", evidence=evidence)
        missing = "it isn't active" if not found.active else "the replicas aren't within its bounds"
        return Check(seen="some", evidence=evidence | {"missing": missing})

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Its controller is at work."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Make the inverse calls."""
        call = self.inverse()[0]
        if call.method == "DELETE":
            found = await self._present()
            await self._delete(None)
            scaled = await self._client.scale(self._replicas)
            return (scaled,) if found is None else (found.metadata.touched("HorizontalPodAutoscaler"), scaled)
        return (await self._write(call),)

    async def reverted(self, _now: int, /) -> Reversal:
        """The autoscaler is as it was, or gone again."""
        found = await self._present()
        if self._before is None:
            return Reversal(verified=found is None, evidence={"present": found is not None})
        same = found is not None and _shown(found.spec) == _shown(self._before.spec)
        return Reversal(verified=same, evidence={"autoscaler": None if found is None else _shown(found.spec)})


def _percent(spec: _Object) -> int | None:
    for metric in spec.get("metrics", ()):
        target = metric.get("resource", {})
        if target.get("name") == "cpu":
            percent: int | None = target.get("target", {}).get("averageUtilization")
            return percent
    return None


def _shown(spec: _Object) -> _Object:
    """Return what an action can set of a spec."""
    return {
        "min_replicas": spec.get("minReplicas", _DEFAULT_MIN),
        "max_replicas": spec.get("maxReplicas"),
        "cpu_utilization_percent": _percent(spec),
    }
