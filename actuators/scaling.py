"""Replicas: of a service, and of an optional group of services.

In: desired replicas. Out: patches, and what shows that as many pods are there. A group's replicas are remembered where the group is: in an
annotation of each Deployment, so that whoever enables it again needs no memory of his own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from otel_control_gym.actuators.deployments import DeploymentClient, DeploymentProcedure, autoscaler_of
from otel_control_gym.actuators.kubernetes_client import MERGE
from otel_control_gym.actuators.moments import newest
from otel_control_gym.actuators.objects import Deployment
from otel_control_gym.actuators.postchecks import check_scale
from otel_control_gym.actuators.prechecks import refuse_autoscaled, refuse_protected, refuse_untouchable
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("GroupProcedure", "ScaleProcedure")

REMEMBERED = "otel-control-gym/replicas"  #: annotation: the replicas of a Deployment whose group is disabled


class ScaleProcedure(DeploymentProcedure):
    """Set the replicas; back: the replicas that were."""

    def __init__(self, client: DeploymentClient, service: Service, replicas: int) -> None:
        super().__init__(client, service, f"scale:{client.name}")
        self._replicas = replicas

    async def _judge(self, before: Deployment, /) -> Precheck:
        evidence = {"replicas_before": before.spec.replicas, "replicas_available": before.status.available_replicas}
        rejection = refuse_untouchable(self._client.name, self._service)
        return Precheck(
            rejection=rejection or refuse_autoscaled(self._client.name, await autoscaler_of(self._client)),
            evidence=evidence,
        )

    def inverse(self) -> tuple[InverseCall, ...]:
        """Scale back."""
        return (self._client.scale_call(self.before.spec.replicas),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the scale subresource, and read the generation that this write made."""
        touched = await self._client.scale(self._replicas)
        self._generation = (await self._client.read()).metadata.generation
        return (touched,)

    async def postcheck(self) -> Check:
        """Compare spec and status with what was asked for."""
        return check_scale(
            await self._client.read(),
            await self._client.pods(),
            replicas=self._replicas,
            generation=self._generation,
            available_before=self.before.status.available_replicas,
        )

    async def _check_inverse(self) -> Check:
        return check_scale(
            await self._client.read(),
            await self._client.pods(),
            replicas=self.before.spec.replicas,
            generation=self._generation,
            available_before=self._replicas,
        )


class GroupProcedure:
    """Scale every service of a group to zero and remember its replicas, or back to what is remembered.

    `members` are the group's services with their declared replicas, which are taken where nothing is remembered.
    """

    def __init__(self, members: Sequence[tuple[DeploymentClient, Service]], *, enable: bool) -> None:
        self.fields = tuple(f"scale:{client.name}" for client, _ in members)
        self._members = members
        self._enable = enable
        self._before: list[Deployment] = []
        self._generations: dict[str, int] = {}
        self.begun = False

    async def precheck(self) -> Precheck:
        """Refuse groups with a protected or autoscaled service, and those that are disabled already."""
        self._before = []
        for client, service in self._members:
            try:
                before = await client.read()
            except Refused as refusal:
                if refusal.status == 404:
                    return Precheck(rejection=f"Deployment {client.name!r} doesn't exist")
                raise
            self._before.append(before)
            rejection = refuse_protected(client.name, service)
            rejection = rejection or refuse_autoscaled(client.name, await autoscaler_of(client))
            if rejection:
                return Precheck(rejection=rejection)
        replicas = {item.metadata.name: item.spec.replicas for item in self._before}
        if not self._enable and not any(replicas.values()):
            return Precheck(rejection="the group is disabled already", evidence={"replicas_before": replicas})
        return Precheck(evidence={"replicas_before": replicas})

    def _wanted(self) -> dict[str, int]:
        """Return the replicas to set for each service."""
        if not self._enable:
            return {client.name: 0 for client, _ in self._members}
        wanted = {}
        for before, (client, service) in zip(self._before, self._members, strict=True):
            remembered = (before.metadata.annotations or {}).get(REMEMBERED, "")
            known = int(remembered) if remembered.isdigit() else service.replicas
            wanted[client.name] = before.spec.replicas or known
        return wanted

    def _body(self, before: Deployment, replicas: int) -> dict[str, Any]:
        present = (before.metadata.annotations or {}).get(REMEMBERED)
        note = None if self._enable else str(before.spec.replicas) if before.spec.replicas else present
        return {"metadata": {"annotations": {REMEMBERED: note}}, "spec": {"replicas": replicas}}

    def inverse(self) -> tuple[InverseCall, ...]:
        """Set replicas and annotation of each service as they were."""
        return tuple(
            client.patch_call(
                {
                    "metadata": {"annotations": {REMEMBERED: (before.metadata.annotations or {}).get(REMEMBERED)}},
                    "spec": {"replicas": before.spec.replicas},
                },
                MERGE,
            )
            for before, (client, _) in zip(self._before, self._members, strict=True)
        )

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch every Deployment of the group."""
        wanted = self._wanted()
        touched = []
        for before, (client, _) in zip(self._before, self._members, strict=True):
            after = await client.patch(self._body(before, wanted[client.name]), MERGE)
            self.begun = True
            self._generations[client.name] = after.metadata.generation
            touched.append(after.metadata.touched("Deployment"))
        return tuple(touched)

    async def postcheck(self) -> Check:
        """Judge each Deployment as a scaling; some of them there is partial."""
        return await self._check(self._wanted())

    async def _check(self, wanted: dict[str, int]) -> Check:
        checks = {}
        for before, (client, _) in zip(self._before, self._members, strict=True):
            checks[client.name] = check_scale(
                await client.read(),
                await client.pods(),
                replicas=wanted[client.name],
                generation=self._generations.get(client.name, 0),
                available_before=before.status.available_replicas,
            )
        evidence = {name: check.evidence for name, check in checks.items()}
        if all(check.seen == "all" for check in checks.values()):
            return Check(seen="all", evidence=evidence, moment=newest(check.moment for check in checks.values()))
        missing = [name for name, check in checks.items() if check.seen != "all"]
        evidence["missing"] = {"services": missing}
        some = any(check.seen != "none" for check in checks.values())
        return Check(seen="some" if some else "none", evidence=evidence)

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Replicas stay by themselves."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Make the inverse calls."""
        touched = []
        for call, (client, _) in zip(self.inverse(), self._members, strict=True):
            after = await client.kubernetes.write(call, Deployment)
            self._generations[client.name] = after.metadata.generation
            touched.append(after.metadata.touched("Deployment"))
        return tuple(touched)

    async def reverted(self, _now: int, /) -> Reversal:
        """Every Deployment has the replicas that it had."""
        check = await self._check({item.metadata.name: item.spec.replicas for item in self._before})
        return Reversal(verified=check.seen == "all", evidence=check.evidence)
