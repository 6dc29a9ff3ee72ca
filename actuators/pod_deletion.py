"""Deletion of pods, each by name and UID, so that none but the one that was seen is deleted.

In: a service and a number. Out: DELETE calls, and what shows that these pods are gone and others ready in their place.
"""

from __future__ import annotations

from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target, check_deletion
from otel_control_gym.actuators.prechecks import refuse_fewer, refuse_untouchable
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("DeletePodProcedure",)

_NOT_FOUND, _CONFLICT = 404, 409


class DeletePodProcedure:
    """Delete the first pods by name among the ready ones; their ReplicaSet is the way back."""

    begun = False

    def __init__(self, client: DeploymentClient, service: Service, *, count: int, grace_seconds: int) -> None:
        self.fields = (f"pods:{client.name}",)
        self._client = client
        self._service = service
        self._count = count
        self._grace_seconds = grace_seconds
        self._ready = 0
        self._targets: tuple[Target, ...] = ()
        self._deleted: dict[str, TouchedObject] = {}  # by UID: those whose deletion was answered

    async def precheck(self) -> Precheck:
        """Choose the pods."""
        ready: list[Pod] = [pod for pod in await self._client.pods() if pod.ready]
        self._ready = len(ready)
        self._targets = tuple(Target(pod.metadata.name, pod.metadata.uid, pod.restarts) for pod in ready[: self._count])
        rejection = refuse_untouchable(self._client.name, self._service)
        return Precheck(
            rejection=rejection or refuse_fewer(self._client.name, self._ready, self._count),
            evidence={"pods": [target.pod for target in self._targets], "pods_ready": self._ready},
        )

    def inverse(self) -> tuple[InverseCall, ...]:
        """Nothing brings a pod back but its ReplicaSet, which does."""
        return ()

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Delete each; one that is gone already, or another by that name, isn't ours to delete."""
        for target in self._targets:
            if target.uid in self._deleted:
                continue
            body = {"gracePeriodSeconds": self._grace_seconds, "preconditions": {"uid": target.uid}}
            path = f"api/v1/namespaces/{self._client.namespace}/pods/{target.pod}"
            call = InverseCall(api="kubernetes", method="DELETE", path=path, body=body)
            try:
                await self._client.kubernetes.write(call, dict)
            except Refused as refusal:
                if refusal.status != _NOT_FOUND:
                    raise
                continue
            except Busy as busy:
                if busy.status != _CONFLICT:
                    raise
                continue
            self._deleted[target.uid] = TouchedObject(kind="Pod", name=target.pod, uid=target.uid)
        return tuple(self._deleted.values())

    async def postcheck(self) -> Check:
        """The UIDs are gone, and as many pods are ready as there were."""
        return check_deletion(
            await self._client.pods(),
            targets=self._targets,
            deleted=tuple(self._deleted),
            ready_before=self._ready,
        )

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Deleted once."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Nothing to take back."""
        return ()

    async def reverted(self, _now: int, /) -> Reversal:
        """Nothing was taken back."""
        return Reversal(verified=True, evidence={})
