"""A Deployment and what it owns: reads, patches, and what every procedure on one has in common.

In: patches. Out: the objects, decoded into the few fields that are needed (a full client model takes three hundred times as long). All
writes carry absolute values, so that each may be repeated when its answer was lost. Next: `scaling`, `rollouts`, `rollbacks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from otel_control_gym.actuators.kubernetes_client import MERGE, STRATEGIC, KubernetesClient
from otel_control_gym.actuators.objects import Deployment, Items, Metadata, Part, Pod, ReplicaSet
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("DeploymentClient", "DeploymentProcedure", "autoscaler_of", "template_patch")

_NOT_FOUND = 404
_AUTOSCALERS = "apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers"


class _ScaleObject(Part, frozen=True, kw_only=True):
    """An autoscaling/v1 Scale: metadata are the Deployment's."""

    metadata: Metadata


class _Target(Part, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""


class _AutoscalerSpec(Part, frozen=True, kw_only=True):
    scale_target_ref: _Target = _Target()
    min_replicas: int = 1
    max_replicas: int = 1


class _Autoscaler(Part, frozen=True, kw_only=True):
    metadata: Metadata
    spec: _AutoscalerSpec = _AutoscalerSpec()


class DeploymentClient:
    """Reads and writes of one Deployment and of what it owns."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str, name: str) -> None:
        self.name = name
        self.kubernetes = kubernetes
        self.namespace = namespace
        self.path = f"apis/apps/v1/namespaces/{namespace}/deployments/{name}"
        self._label = {"labelSelector": f"opentelemetry.io/name={name}"}

    async def read(self) -> Deployment:
        """Return the Deployment."""
        return await self.kubernetes.call("GET", self.path, Deployment)

    async def replica_sets(self) -> tuple[ReplicaSet, ...]:
        """Return the ReplicaSets that carry the Deployment's label."""
        path = f"apis/apps/v1/namespaces/{self.namespace}/replicasets"
        return (await self.kubernetes.call("GET", path, Items[ReplicaSet], query=self._label)).items

    async def pods(self) -> tuple[Pod, ...]:
        """Return the pods that carry the Deployment's label, by name."""
        path = f"api/v1/namespaces/{self.namespace}/pods"
        found = (await self.kubernetes.call("GET", path, Items[Pod], query=self._label)).items
        return tuple(sorted(found, key=lambda pod: pod.metadata.name))

    async def scale(self, replicas: int) -> TouchedObject:
        """Set the desired replicas through the scale subresource."""
        scaled = await self.kubernetes.write(self.scale_call(replicas), _ScaleObject)
        return scaled.metadata.touched("Deployment")

    def scale_call(self, replicas: int) -> InverseCall:
        """Return the call that sets the desired replicas."""
        return InverseCall(
            api="kubernetes",
            method="PATCH",
            path=f"{self.path}/scale",
            content_type=MERGE,
            body={"spec": {"replicas": replicas}},
        )

    async def patch(self, body: dict[str, Any], content_type: str = STRATEGIC) -> Deployment:
        """Merge into the Deployment."""
        return await self.kubernetes.write(self.patch_call(body, content_type), Deployment)

    def patch_call(self, body: dict[str, Any], content_type: str = STRATEGIC) -> InverseCall:
        """Return the call that merges into the Deployment; Kubernetes rolls the pods if that changes its template."""
        return InverseCall(api="kubernetes", method="PATCH", path=self.path, content_type=content_type, body=body)


def template_patch(container: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return a strategic merge patch of one container of a Deployment's template."""
    return {"spec": {"template": {"spec": {"containers": [{"name": container, **changes}]}}}}


async def autoscaler_of(client: DeploymentClient) -> str:
    """Return which autoscaler owns a Deployment's replicas, with its bounds, or an empty text.

    Raises: CallError: the autoscalers can't be listed.
    """
    try:
        path = _AUTOSCALERS.format(client.namespace)
        found = (await client.kubernetes.call("GET", path, Items[_Autoscaler])).items
    except Refused as refusal:
        if refusal.status == _NOT_FOUND:  # a cluster without the API has no autoscaler
            return ""
        raise
    for item in found:
        target = item.spec.scale_target_ref
        if (target.kind, target.name) == ("Deployment", client.name):
            bounds = f"{item.spec.min_replicas} to {item.spec.max_replicas}"
            return f"autoscaler {item.metadata.name} ({bounds} replicas)"
    return ""


class DeploymentProcedure(ABC):
    """What the procedures on a Deployment have in common: its settings, the first reading of it, and the way back."""

    begun = False

    def __init__(self, client: DeploymentClient, service: Service, *fields: str) -> None:
        self.fields = fields
        self._client = client
        self._service = service
        self._before: Deployment | None = None
        self._generation = 0

    @property
    def before(self) -> Deployment:
        """The Deployment as the precheck saw it."""
        assert self._before is not None, "the precheck comes first"
        return self._before

    async def precheck(self) -> Precheck:
        """Read the Deployment, and ask the procedure's own rules."""
        try:
            self._before = await self._client.read()
        except Refused as refusal:
            if refusal.status == _NOT_FOUND:
                return Precheck(rejection=f"Deployment {self._client.name!r} doesn't exist")
            raise
        return await self._judge(self._before)

    @abstractmethod
    async def _judge(self, before: Deployment, /) -> Precheck:
        """Return the verdict on a Deployment that exists."""

    def inverse(self) -> tuple[InverseCall, ...]:
        """There is no way back, unless a procedure knows one."""
        return ()

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """A Deployment's controller sees to its pods; there is nothing to do."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Make the inverse calls, and note the generation that they lead to."""
        touched = []
        for call in self.inverse():
            await self._client.kubernetes.write(call, dict)
            after = await self._client.read()
            self._generation = after.metadata.generation
            touched.append(after.metadata.touched("Deployment"))
        return tuple(touched)

    async def reverted(self, _now: int, /) -> Reversal:
        """The inverse's own evidence; where there is no way back, nothing was taken back."""
        if not self.inverse():
            return Reversal(verified=True, evidence={})
        check = await self._check_inverse()
        return Reversal(verified=check.seen == "all", evidence=check.evidence)

    async def _check_inverse(self) -> Check:
        """Look for what the inverse leads to."""
        raise NotImplementedError("a procedure with an inverse says how it is seen")
