"""Actions on Deployments: scale, rolling restart, requests and limits.

In: an action of the catalogue. Out: patches of Deployments and what is read back. The objects are decoded into the few fields that
are needed (a full client model takes three hundred times as long). All writes carry absolute values, so that each may be
repeated when its answer was lost. Verdicts are pure functions in `prechecks` and `postchecks`.
"""

from __future__ import annotations

from typing import Any

from otel_control_gym.actuators.actions import Restart, Scale, SetResources
from otel_control_gym.actuators.kubernetes_client import KubernetesClient
from otel_control_gym.actuators.objects import Deployment, Items, Pod, ReplicaSet, ScaleObject
from otel_control_gym.actuators.postchecks import check_resources, check_restart, check_scale
from otel_control_gym.actuators.prechecks import refuse_resources, refuse_rollout, refuse_untouchable
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.quantities import bytes_quantity, cores_quantity
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.events import TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("FIELD_MANAGER", "DeploymentClient", "RestartProcedure", "ScaleProcedure", "SetResourcesProcedure")

FIELD_MANAGER = "otel-control-gym"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_MANAGER = {"fieldManager": FIELD_MANAGER}


class DeploymentClient:
    """Reads and writes of one Deployment and of what it owns."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str, name: str) -> None:
        self.name = name
        self._kubernetes = kubernetes
        self._apps = f"apis/apps/v1/namespaces/{namespace}"
        self._core = f"api/v1/namespaces/{namespace}"
        self._label = {"labelSelector": f"opentelemetry.io/name={name}"}

    async def read(self) -> Deployment:
        """Return the Deployment."""
        return await self._kubernetes.call("GET", f"{self._apps}/deployments/{self.name}", Deployment)

    async def replica_sets(self) -> tuple[ReplicaSet, ...]:
        """Return the ReplicaSets that carry the Deployment's label."""
        path = f"{self._apps}/replicasets"
        return (await self._kubernetes.call("GET", path, Items[ReplicaSet], query=self._label)).items

    async def pods(self) -> tuple[Pod, ...]:
        """Return the pods that carry the Deployment's label."""
        return (await self._kubernetes.call("GET", f"{self._core}/pods", Items[Pod], query=self._label)).items

    async def scale(self, replicas: int) -> TouchedObject:
        """Set the desired replicas through the scale subresource."""
        scaled = await self._kubernetes.call(
            "PATCH",
            f"{self._apps}/deployments/{self.name}/scale",
            ScaleObject,
            body={"spec": {"replicas": replicas}},
            content_type=_MERGE,
            query=_MANAGER,
        )
        return scaled.metadata.touched("Deployment")

    async def patch_template(self, template: dict[str, Any]) -> Deployment:
        """Merge into the pod template; Kubernetes rolls the pods if that changes it."""
        return await self._kubernetes.call(
            "PATCH",
            f"{self._apps}/deployments/{self.name}",
            Deployment,
            body={"spec": {"template": template}},
            content_type=_STRATEGIC,
            query=_MANAGER,
        )


class _DeploymentProcedure:
    """What the three have in common: a Deployment, its settings, and the first reading of it."""

    def __init__(self, client: DeploymentClient, service: Service) -> None:
        self._client = client
        self._service = service
        self._before: Deployment | None = None
        self._generation = 0

    async def _read_before(self) -> Deployment | str:
        """Return the Deployment, or why there is none."""
        try:
            self._before = await self._client.read()
        except Refused as refusal:
            if refusal.status == 404:
                return f"Deployment {self._client.name!r} doesn't exist"
            raise
        return self._before

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """A Deployment's controller sees to its pods; there is nothing to do."""
        return ()


class ScaleProcedure(_DeploymentProcedure):
    """Set the replicas; back: the replicas that were."""

    def __init__(self, client: DeploymentClient, service: Service, action: Scale) -> None:
        super().__init__(client, service)
        self.field = f"scale:{action.target}"
        self._replicas = action.replicas

    async def precheck(self) -> Precheck:
        """Refuse protected and stateful targets."""
        before = await self._read_before()
        if isinstance(before, str):
            return Precheck(rejection=before)
        evidence = {"replicas_before": before.spec.replicas, "replicas_available": before.status.available_replicas}
        return Precheck(rejection=refuse_untouchable(self._client.name, self._service), evidence=evidence)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the scale subresource, and read the generation that this write made."""
        return await self._scale_to(self._replicas)

    async def _scale_to(self, replicas: int) -> tuple[TouchedObject, ...]:
        touched = await self._client.scale(replicas)
        self._generation = (await self._client.read()).metadata.generation
        return (touched,)

    async def postcheck(self) -> Check:
        """Compare spec and status with what was asked for."""
        assert self._before is not None
        return check_scale(
            await self._client.read(),
            replicas=self._replicas,
            generation=self._generation,
            available_before=self._before.status.available_replicas,
        )

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Scale back."""
        assert self._before is not None
        return await self._scale_to(self._before.spec.replicas)

    async def reverted(self) -> Reversal:
        """The spec has the old replicas, and as many are available."""
        assert self._before is not None
        check = check_scale(
            await self._client.read(),
            replicas=self._before.spec.replicas,
            generation=self._generation,
            available_before=self._replicas,
        )
        return Reversal(verified=check.seen == "all", evidence=check.evidence)


class RestartProcedure(_DeploymentProcedure):
    """Replace all pods, by a new annotation in their template; there is no way back."""

    def __init__(self, client: DeploymentClient, service: Service, action: Restart) -> None:
        super().__init__(client, service)
        self.field = f"rollout:{action.target}"
        self._mark = ""

    async def precheck(self) -> Precheck:
        """Refuse protected, stateful, empty and paused targets."""
        before = await self._read_before()
        if isinstance(before, str):
            return Precheck(rejection=before)
        rejection = refuse_untouchable(self._client.name, self._service) or refuse_rollout(before)
        return Precheck(rejection=rejection, evidence={"generation": before.metadata.generation})

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the annotation; the same mark is written again when the answer was lost."""
        self._mark = self._mark or rfc3339(now)
        after = await self._client.patch_template({"metadata": {"annotations": {RESTARTED_AT: self._mark}}})
        self._generation = after.metadata.generation
        return (after.metadata.touched("Deployment"),)

    async def postcheck(self) -> Check:
        """The ReplicaSet with our mark has taken over."""
        deployment = await self._client.read()
        sets = await self._client.replica_sets()
        return check_restart(deployment, sets, annotation=RESTARTED_AT, mark=self._mark, generation=self._generation)

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Nothing to take back."""
        return ()

    async def reverted(self) -> Reversal:
        """Nothing was taken back."""
        return Reversal(verified=True, evidence={})


class SetResourcesProcedure(_DeploymentProcedure):
    """Change requests and limits; back: those that were, absent ones included."""

    def __init__(self, client: DeploymentClient, service: Service, action: SetResources) -> None:
        super().__init__(client, service)
        self.field = f"rollout:{action.target}"
        self._container = action.target
        cpu = (action.cpu_request_cores, action.cpu_limit_cores)
        memory = (action.memory_request_bytes, action.memory_limit_bytes)
        self._wanted: dict[str, dict[str, str | None]] = {"requests": {}, "limits": {}}
        for kind, cores, count in zip(("requests", "limits"), cpu, memory, strict=True):
            if cores is not None:
                self._wanted[kind]["cpu"] = cores_quantity(cores)
            if count is not None:
                self._wanted[kind]["memory"] = bytes_quantity(count)

    def _previous(self) -> dict[str, dict[str, str | None]]:
        """Return what the named resources were; null removes what wasn't there."""
        assert self._before is not None
        resources = self._before.container(self._container).resources
        present = {"requests": resources.requests, "limits": resources.limits}
        return {kind: {name: present[kind].get(name) for name in self._wanted[kind]} for kind in self._wanted}

    async def precheck(self) -> Precheck:
        """Refuse protected, stateful, empty and paused targets, and requests above limits."""
        before = await self._read_before()
        if isinstance(before, str):
            return Precheck(rejection=before)
        rejection = (
            refuse_untouchable(self._client.name, self._service)
            or refuse_rollout(before)
            or refuse_resources(before.container(self._container).resources, self._wanted)
        )
        return Precheck(rejection=rejection, evidence={"resources_before": self._previous()})

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the container's resources."""
        return await self._set(self._wanted)

    async def _set(self, resources: dict[str, dict[str, str | None]]) -> tuple[TouchedObject, ...]:
        body = {"spec": {"containers": [{"name": self._container, "resources": resources}]}}
        after = await self._client.patch_template(body)
        self._generation = after.metadata.generation
        return (after.metadata.touched("Deployment"),)

    async def _check(self, resources: dict[str, dict[str, str | None]]) -> Check:
        deployment = await self._client.read()
        sets, pods = await self._client.replica_sets(), await self._client.pods()
        return check_resources(
            deployment, sets, pods, container=self._container, resources=resources, generation=self._generation
        )

    async def postcheck(self) -> Check:
        """All pods run with the new resources."""
        return await self._check(self._wanted)

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Set what was."""
        return await self._set(self._previous())

    async def reverted(self) -> Reversal:
        """All pods run with the old resources."""
        check = await self._check(self._previous())
        return Reversal(verified=check.seen == "all", evidence=check.evidence)
