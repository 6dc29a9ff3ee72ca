"""A dependency that is gone: scaled to zero, as far as a cache, database or queue can be gone without Chaos Mesh.

In: a dependency. Out: its Deployment at zero replicas, and later at those that it had. Callers are refused at once; what the pods
held (carts, orders, messages, flags) is lost, because they have no volumes: evidence and label say so. The milder mechanisms, late
answers and dropped packets, are in `network_chaos`; one whose pods stay, but fail, in `pod_chaos`.
"""

from __future__ import annotations

from otel_control_gym.actuators.deployments import DeploymentClient, DeploymentProcedure, autoscaler_of
from otel_control_gym.actuators.objects import Deployment
from otel_control_gym.actuators.postchecks import check_scale
from otel_control_gym.actuators.prechecks import refuse_autoscaled, refuse_protected
from otel_control_gym.actuators.procedure import Check, Precheck, Standing
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("OutageProcedure",)


class OutageProcedure(DeploymentProcedure):
    """Scale a dependency to zero; back: its replicas."""

    def __init__(self, client: DeploymentClient, service: Service) -> None:
        super().__init__(client, service, f"outage:{client.name}", f"scale:{client.name}")

    async def _judge(self, before: Deployment, /) -> Precheck:
        name = self._client.name
        rejection = refuse_protected(name, self._service) or refuse_autoscaled(name, await autoscaler_of(self._client))
        if not rejection and before.spec.replicas == 0:
            rejection = f"{name} has no replicas: it is gone already"
        return Precheck(rejection=rejection, evidence={"replicas_before": before.spec.replicas})

    def inverse(self) -> tuple[InverseCall, ...]:
        """Scale back."""
        return (self._client.scale_call(self.before.spec.replicas),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Scale to zero."""
        touched = await self._client.scale(0)
        self._generation = (await self._client.read()).metadata.generation
        return (touched,)

    async def postcheck(self) -> Check:
        """No replica is left, and no pod either."""
        pods = await self._client.pods()
        check = check_scale(
            await self._client.read(),
            pods,
            replicas=0,
            generation=self._generation,
            available_before=self.before.status.available_replicas,
        )
        evidence = check.evidence | {"pods": [pod.metadata.name for pod in pods], "data_lost": self._service.stateful}
        return Check(seen="some" if check.seen == "all" and pods else check.seen, evidence=evidence)

    async def standing(self) -> Standing:
        """It lasts until somebody scales the dependency up."""
        name, replicas = self._client.name, (await self._client.read()).spec.replicas
        return Standing(lost=(name,), reason=f"scaled to {replicas}") if replicas else Standing(left=(name,))

    async def _check_inverse(self) -> Check:
        return check_scale(
            await self._client.read(),
            await self._client.pods(),
            replicas=self.before.spec.replicas,
            generation=self._generation,
            available_before=0,
        )
