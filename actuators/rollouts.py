"""Changes of a pod template, which Kubernetes rolls out: restart, requests and limits, environment.

In: what the template should have. Out: strategic merge patches, and what shows that the new pods have taken over.

Traps, and where they are answered: a paused Deployment takes the patch and rolls nothing (precheck); a patch that changes nothing makes no
revision, so there is nothing to wait for (precheck, or evidence that holds at once); a ConfigMap that changes in place reaches no process
and isn't undone with the template, so a ConfigMap's name holds a hash of its data, and the template names it; a variable of the container
itself hides one from a ConfigMap (precheck); a Go process keeps to its GOMEMLIMIT and a JVM to its -Xmx, which move with the memory limit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from otel_control_gym.actuators.deployments import DeploymentClient, DeploymentProcedure, template_patch
from otel_control_gym.actuators.kubernetes_client import FIELD_MANAGER
from otel_control_gym.actuators.objects import Container, Deployment, Metadata, Part
from otel_control_gym.actuators.postchecks import check_environment, check_resources, check_restart
from otel_control_gym.actuators.prechecks import (
    refuse_hidden,
    refuse_resources,
    refuse_rollout,
    refuse_unchanged,
    refuse_untouchable,
)
from otel_control_gym.actuators.procedure import Check, Precheck
from otel_control_gym.actuators.quantities import bytes_quantity, cores_quantity
from otel_control_gym.actuators.transport import Busy
from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.settings import Service

__all__ = ("RESTARTED_AT", "RestartProcedure", "RolloutConfigProcedure", "SetResourcesProcedure", "restart_patch")

RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_GO_MEMORY, _GO_SHARE = "GOMEMLIMIT", 0.8  #: the share is of the memory limit, as the demo's chart has it
_JVM_OPTIONS, _JVM_SHARE = "JDK_JAVA_OPTIONS", 0.6  #: the same: 180m of 300Mi
_HEAP = re.compile(r"-Xmx\d+[kKmMgG]?")
_CONFLICT = 409


def restart_patch(mark: str) -> dict[str, Any]:
    """Return the strategic merge patch that restarts a Deployment's pods, as `kubectl rollout restart` does."""
    return {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: mark}}}}}


class RestartProcedure(DeploymentProcedure):
    """Replace all pods, by a new annotation in their template; there is no way back."""

    def __init__(self, client: DeploymentClient, service: Service) -> None:
        super().__init__(client, service, f"rollout:{client.name}")
        self._mark = ""

    async def _judge(self, before: Deployment, /) -> Precheck:
        rejection = refuse_untouchable(self._client.name, self._service) or refuse_rollout(before)
        return Precheck(rejection=rejection, evidence={"generation": before.metadata.generation})

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the annotation; the same mark is written again when the answer was lost."""
        self._mark = self._mark or rfc3339(now)
        after = await self._client.patch(restart_patch(self._mark))
        self._generation = after.metadata.generation
        return (after.metadata.touched("Deployment"),)

    async def postcheck(self) -> Check:
        """The ReplicaSet with our mark has taken over."""
        deployment = await self._client.read()
        sets, pods = await self._client.replica_sets(), await self._client.pods()
        return check_restart(
            deployment, sets, pods, annotation=RESTARTED_AT, mark=self._mark, generation=self._generation
        )


class SetResourcesProcedure(DeploymentProcedure):
    """Change requests and limits; back: those that were, absent ones included."""

    def __init__(self, client: DeploymentClient, service: Service, parameters: Mapping[str, Any]) -> None:
        super().__init__(client, service, f"rollout:{client.name}")
        self._container = client.name
        self._wanted: dict[str, dict[str, str | None]] = {"requests": {}, "limits": {}}
        for kind, word in (("requests", "request"), ("limits", "limit")):
            cores, count = parameters.get(f"cpu_{word}_cores"), parameters.get(f"memory_{word}_bytes")
            if cores is not None:
                self._wanted[kind]["cpu"] = cores_quantity(cores)
            if count is not None:
                self._wanted[kind]["memory"] = bytes_quantity(count)
        self._memory_limit: int | None = parameters.get("memory_limit_bytes")

    def _previous(self) -> dict[str, dict[str, str | None]]:
        """Return what the named resources were; null removes what wasn't there."""
        resources = self.before.container(self._container).resources
        present = {"requests": resources.requests, "limits": resources.limits}
        return {kind: {name: present[kind].get(name) for name in self._wanted[kind]} for kind in self._wanted}

    async def _judge(self, before: Deployment, /) -> Precheck:
        rejection = (
            refuse_untouchable(self._client.name, self._service)
            or refuse_rollout(before)
            or refuse_resources(before.container(self._container).resources, self._wanted)
        )
        return Precheck(rejection=rejection, evidence={"resources_before": self._previous()})

    def _body(self, resources: dict[str, dict[str, str | None]], variables: Mapping[str, str]) -> dict[str, Any]:
        moved = [{"name": name, "value": value} for name, value in variables.items()]
        return template_patch(self._container, {"resources": resources, **({"env": moved} if moved else {})})

    def _own_limits(self) -> dict[str, str]:
        """Return the variables by which the process limits itself as they are now, if the container's memory limit changes."""
        if self._memory_limit is None:
            return {}
        container = self.before.container(self._container)
        found = {name: container.variable(name) for name in (_GO_MEMORY, _JVM_OPTIONS)}
        values = {name: item.value for name, item in found.items() if item is not None and item.value is not None}
        return {name: value for name, value in values.items() if name == _GO_MEMORY or _HEAP.search(value)}

    def _moved_limits(self) -> dict[str, str]:
        """Return them as they should be beside the new limit."""
        assert self._memory_limit is not None
        mebibytes = self._memory_limit / 2**20
        heap = f"-Xmx{round(_JVM_SHARE * mebibytes)}m"
        return {
            name: f"{round(_GO_SHARE * mebibytes)}MiB" if name == _GO_MEMORY else _HEAP.sub(heap, value)
            for name, value in self._own_limits().items()
        }

    def inverse(self) -> tuple[InverseCall, ...]:
        """Set what was."""
        return (self._client.patch_call(self._body(self._previous(), self._own_limits())),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Patch the container's resources, and what its process limits itself by."""
        moved = self._moved_limits() if self._own_limits() else {}
        after = await self._client.patch(self._body(self._wanted, moved))
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

    async def _check_inverse(self) -> Check:
        return await self._check(self._previous())


class _ConfigMap(Part, frozen=True, kw_only=True):
    metadata: Metadata


class RolloutConfigProcedure(DeploymentProcedure):
    """Change the environment; back: the variables and ConfigMaps that were."""

    def __init__(
        self,
        client: DeploymentClient,
        service: Service,
        *,
        environment: Mapping[str, str | None],
        by_config_map: bool,
        labels: Mapping[str, str],
    ) -> None:
        super().__init__(client, service, f"rollout:{client.name}")
        self._container = client.name
        self._environment = dict(environment)
        self._by_config_map = by_config_map
        self._labels = dict(labels)
        self._data = {name: value for name, value in self._environment.items() if value is not None}
        digest = hashlib.sha256(msgspec.json.encode(self._data, order="sorted")).hexdigest()[:10]
        self._map = f"{client.name}-config-{digest}"

    def _previous(self) -> dict[str, str | None]:
        container = self.before.container(self._container)
        found = {name: container.variable(name) for name in self._environment}
        return {name: None if item is None else item.value for name, item in found.items()}

    async def _judge(self, before: Deployment, /) -> Precheck:
        container = before.container(self._container)
        rejection = refuse_untouchable(self._client.name, self._service) or refuse_rollout(before)
        if self._by_config_map:
            rejection = rejection or refuse_hidden(container, self._data)
        rejection = rejection or refuse_unchanged(container, self._variables(), self._maps(container))
        evidence = {"environment_before": self._previous(), "config_maps_before": list(container.config_maps)}
        return Precheck(rejection=rejection, evidence=evidence)

    def _variables(self) -> dict[str, str | None]:
        """Return the variables of the container itself, as they should be."""
        return {} if self._by_config_map else self._environment

    def _maps(self, container: Container) -> tuple[str, ...]:
        """Return the ConfigMaps that the container should read: an earlier one of ours makes way."""
        if not self._by_config_map:
            return container.config_maps
        others = [name for name in container.config_maps if not name.startswith(f"{self._client.name}-config-")]
        return (*others, *((self._map,) if self._data else ()))

    def _body(self, variables: Mapping[str, str | None], maps: tuple[str, ...] | None) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if variables:
            changes["env"] = [
                {"name": name, "$patch": "delete"} if value is None else {"name": name, "value": value}
                for name, value in variables.items()
            ]
        if maps is not None:
            changes["envFrom"] = [{"configMapRef": {"name": name}} for name in maps] or None
        return template_patch(self._container, changes)

    def inverse(self) -> tuple[InverseCall, ...]:
        """Set the variables and the list of ConfigMaps that were; the ConfigMap itself stays, unused, for an undo."""
        if self._by_config_map:
            maps = self.before.container(self._container).config_maps
            return (self._client.patch_call(self._body({}, maps)),)
        return (self._client.patch_call(self._body(self._previous(), None)),)

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Make the ConfigMap, if one is asked for, and patch the template."""
        touched: list[TouchedObject] = []
        maps = None
        if self._by_config_map:
            maps = self._maps(self.before.container(self._container))
            if self._data:
                touched.append(await self._make_map())
        after = await self._client.patch(self._body(self._variables(), maps))
        self._generation = after.metadata.generation
        return (*touched, after.metadata.touched("Deployment"))

    async def _make_map(self) -> TouchedObject:
        """Make the ConfigMap; one of that name has the same data, by its hash."""
        path = f"api/v1/namespaces/{self._client.namespace}/configmaps"
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self._map,
                "namespace": self._client.namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER, **self._labels},
            },
            "data": self._data,
        }
        call = InverseCall(api="kubernetes", method="POST", path=path, body=body)
        try:
            made = await self._client.kubernetes.write(call, _ConfigMap)
        except Busy as busy:
            if busy.status != _CONFLICT:
                raise
            made = await self._client.kubernetes.call("GET", f"{path}/{self._map}", _ConfigMap)
        return made.metadata.touched("ConfigMap")

    async def _check(self, variables: Mapping[str, str | None], maps: tuple[str, ...]) -> Check:
        deployment = await self._client.read()
        sets, pods = await self._client.replica_sets(), await self._client.pods()
        return check_environment(
            deployment,
            sets,
            pods,
            container=self._container,
            variables=variables,
            config_maps=maps,
            generation=self._generation,
        )

    async def postcheck(self) -> Check:
        """All pods run with the new environment."""
        return await self._check(self._variables(), self._maps(self.before.container(self._container)))

    async def _check_inverse(self) -> Check:
        container = self.before.container(self._container)
        return await self._check(self._previous() if not self._by_config_map else {}, container.config_maps)
