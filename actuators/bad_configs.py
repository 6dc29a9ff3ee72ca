"""Mistakes that are rolled out: an image that isn't there, a wrong address, a wrong port of a Service.

In: a call edge. Out: patches of the source's Deployment or the target's Service, and what shows the mistake at work. Strength zero writes
the value that is there.

Traps: by a wrong targetPort open connections don't notice, so the callers that hold on to theirs are restarted after it; an image that
can't be pulled stops the rollout with the old pods serving, which is its whole effect; a policy may undo the mistake meanwhile (a rollback
does): then it has ended, and the way back sets the one value that was wrong and nothing else.
"""

from __future__ import annotations

import re
from typing import Any

from otel_control_gym.actuators.deployments import DeploymentClient, DeploymentProcedure, template_patch
from otel_control_gym.actuators.kubernetes_client import STRATEGIC, KubernetesClient
from otel_control_gym.actuators.objects import Deployment, ServiceObject, Variable
from otel_control_gym.actuators.postchecks import check_environment
from otel_control_gym.actuators.prechecks import refuse_protected, refuse_rollout
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal, Standing
from otel_control_gym.actuators.reconnection import Reconnection
from otel_control_gym.actuators.transport import Refused
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("BadAddressProcedure", "BadImageProcedure", "BadPortProcedure")

WRONG_PORT = 1  #: tcpmux: nobody listens there
WRONG_TAG = "missing"
_PULL_FAILURES = ("ErrImagePull", "ImagePullBackOff")


class BadAddressProcedure(DeploymentProcedure):
    """The source's variable for the target names a port where nobody listens."""

    def __init__(self, client: DeploymentClient, service: Service, *, target: str, wrong: bool) -> None:
        super().__init__(client, service, f"rollout:{client.name}")
        self._target = target
        self._wrong = wrong
        self._variable = Variable(name="")

    async def _judge(self, before: Deployment, /) -> Precheck:
        rejection = refuse_protected(self._client.name, self._service) or refuse_rollout(before)
        container = before.container(self._client.name)
        named = [item for item in container.env if item.value is not None and _names(item.value, self._target)]
        if not rejection and not named:
            rejection = f"{self._client.name} has no variable that names {self._target} with its port"
        if rejection:
            return Precheck(rejection=rejection)
        self._variable = named[0]
        return Precheck(evidence={"variable": self._variable.name, "wrong": self._wrong})

    def _value(self) -> str:
        """Return the value to write: the port after the target's name is another."""
        right = self._variable.value or ""
        if not self._wrong:
            return right
        return re.sub(rf"(?<![\w-])({re.escape(self._target)}):\d+", rf"\g<1>:{WRONG_PORT}", right)

    def _body(self, value: str) -> dict[str, Any]:
        return template_patch(self._client.name, {"env": [{"name": self._variable.name, "value": value}]})

    def inverse(self) -> tuple[InverseCall, ...]:
        """Set the variable as it was."""
        return (self._client.patch_call(self._body(self._variable.value or "")),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the variable."""
        after = await self._client.patch(self._body(self._value()))
        self._generation = after.metadata.generation
        return (after.metadata.touched("Deployment"),)

    async def _check(self, value: str) -> Check:
        deployment = await self._client.read()
        sets, pods = await self._client.replica_sets(), await self._client.pods()
        return check_environment(
            deployment,
            sets,
            pods,
            container=self._client.name,
            variables={self._variable.name: value},
            config_maps=self.before.container(self._client.name).config_maps,
            generation=self._generation,
        )

    async def postcheck(self) -> Check:
        """Every pod of the source has the wrong address."""
        return await self._check(self._value())

    async def _check_inverse(self) -> Check:
        return await self._check(self._variable.value or "")

    async def standing(self) -> Standing:
        """It is in force in every pod that has the value, until the last of them goes; strength zero has nothing to end."""
        if not self._wrong:
            return Standing()
        name, wrong = self._client.name, Variable(name=self._variable.name, value=self._value())
        pods = [pod for pod in await self._client.pods() if pod.metadata.deletion_timestamp is None]
        left = [
            pod.metadata.name
            for pod in pods
            if any(item.name == name and item.variable(wrong.name) == wrong for item in pod.spec.containers)
        ]
        return (
            Standing(left=tuple(left)) if left else Standing(lost=(name,), reason="no pod has the wrong value any more")
        )


def _names(value: str, service: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(service)}:\d+", value) is not None


class BadImageProcedure(DeploymentProcedure):
    """The source's image gets a tag that doesn't exist: its rollout hangs."""

    def __init__(self, client: DeploymentClient, service: Service) -> None:
        super().__init__(client, service, f"rollout:{client.name}")

    async def _judge(self, before: Deployment, /) -> Precheck:
        rejection = refuse_protected(self._client.name, self._service) or refuse_rollout(before)
        return Precheck(rejection=rejection, evidence={"image_before": self._image(before)})

    def _image(self, deployment: Deployment) -> str:
        return deployment.container(self._client.name).image

    def _wrong_image(self) -> str:
        repository, _, _ = self._image(self.before).rpartition(":")
        return f"{repository}:{WRONG_TAG}-{self._client.name}"

    def inverse(self) -> tuple[InverseCall, ...]:
        """Set the image that was."""
        return (self._client.patch_call(template_patch(self._client.name, {"image": self._image(self.before)})),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the image."""
        after = await self._client.patch(template_patch(self._client.name, {"image": self._wrong_image()}))
        self._generation = after.metadata.generation
        return (after.metadata.touched("Deployment"),)

    async def postcheck(self) -> Check:
        """A pod of the Deployment waits for the image."""
        deployment = await self._client.read()
        if self._image(deployment) != self._wrong_image():
            return Check(seen="none", evidence={"missing": "the Deployment's template hasn't the image"})
        waiting = [pod for pod in await self._client.pods() if any(item in _PULL_FAILURES for item in pod.waits_for)]
        evidence: dict[str, Any] = {"pods_waiting": [pod.metadata.name for pod in waiting]}
        if waiting:
            return Check(seen="all", evidence=evidence)
        return Check(seen="none", evidence=evidence | {"missing": "no pod waits for the image yet"})

    async def standing(self) -> Standing:
        """It is in force as long as the template has the image."""
        name = self._client.name
        if self._image(await self._client.read()) == self._wrong_image():
            return Standing(left=(name,))
        return Standing(lost=(name,), reason="the template has another image")

    async def _check_inverse(self) -> Check:
        deployment = await self._client.read()
        waiting = [pod for pod in await self._client.pods() if any(item in _PULL_FAILURES for item in pod.waits_for)]
        status = deployment.status
        back = self._image(deployment) == self._image(self.before) and not waiting
        complete = status.replicas == status.updated_replicas == status.available_replicas == deployment.spec.replicas
        evidence = {"image": self._image(deployment), "pods_waiting": [pod.metadata.name for pod in waiting]}
        return Check(seen="all" if back and complete else "none", evidence=evidence)


class BadPortProcedure:
    """The target's Service leads to a port where nobody listens, and who holds connections to it is restarted, so that they notice."""

    def __init__(
        self, kubernetes: KubernetesClient, namespace: str, *, target: str, reconnection: Reconnection
    ) -> None:
        self.fields = (f"service:{target}", *reconnection.fields)
        self._kubernetes = kubernetes
        self._target = target
        self._reconnection = reconnection
        self._path = f"api/v1/namespaces/{namespace}/services/{target}"
        self._before: ServiceObject | None = None
        self.begun = False

    async def precheck(self) -> Precheck:
        """Read the Service's ports; a caller that can't be restarted wouldn't notice."""
        try:
            self._before = await self._read()
        except Refused as refusal:
            if refusal.status == 404:
                return Precheck(rejection=f"{self._target} has no Service")
            raise
        ports = {str(port.port): port.target_port for port in self._before.spec.ports}
        evidence = {"target_ports_before": ports, "callers": list(self._reconnection.names)}
        return Precheck(rejection=await self._reconnection.refusal(), evidence=evidence)

    async def _read(self) -> ServiceObject:
        return await self._kubernetes.call("GET", self._path, ServiceObject)

    def _ports_call(self, *, wrong: bool) -> InverseCall:
        assert self._before is not None
        ports = [
            {"port": port.port, "targetPort": WRONG_PORT if wrong else port.target_port}
            for port in self._before.spec.ports
        ]
        return InverseCall(
            api="kubernetes",
            method="PATCH",
            path=self._path,
            content_type=STRATEGIC,
            body={"spec": {"ports": ports}},
        )

    def inverse(self) -> tuple[InverseCall, ...]:
        """Set the ports that were; who can't connect dials until he can."""
        return (self._ports_call(wrong=False),)

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the Service, then restart its callers."""
        changed = await self._kubernetes.write(self._ports_call(wrong=True), ServiceObject)
        self.begun = True
        return (changed.metadata.touched("Service"), *await self._reconnection.begin(now))

    async def postcheck(self) -> Check:
        """The Service has the wrong port, and its callers' restarts are complete."""
        if not await self._is_wrong():
            return Check(seen="none", evidence={"missing": "the Service hasn't the wrong port"})
        return await self._reconnection.check()

    async def _is_wrong(self) -> bool:
        return all(port.target_port == WRONG_PORT for port in (await self._read()).spec.ports)

    async def standing(self) -> Standing:
        """It lasts until somebody sets another port."""
        if await self._is_wrong():
            return Standing(left=(self._target,))
        return Standing(lost=(self._target,), reason="the Service has another port")

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """A Service stays as it is."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Set the ports that were."""
        changed = await self._kubernetes.write(self._ports_call(wrong=False), ServiceObject)
        return (changed.metadata.touched("Service"),)

    async def reverted(self, _now: int, /) -> Reversal:
        """The Service has the ports that it had."""
        assert self._before is not None
        found = await self._read()
        ports = {str(port.port): port.target_port for port in found.spec.ports}
        before = {str(port.port): port.target_port for port in self._before.spec.ports}
        return Reversal(verified=ports == before, evidence={"target_ports": ports})
