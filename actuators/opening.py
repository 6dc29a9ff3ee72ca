"""Puts the actuators of a run together: clients, one procedure per kind of action, life cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypedDict

from otel_control_gym.actuators.actions import (
    DeletePod,
    DisableGroup,
    EnableGroup,
    Restart,
    RollbackConfig,
    RolloutConfig,
    Scale,
    SetAutoscaler,
    SetResources,
    SetWorkload,
    ShiftTraffic,
)
from otel_control_gym.actuators.autoscaling import AutoscalerProcedure
from otel_control_gym.actuators.bad_configs import BadAddressProcedure, BadImageProcedure, BadPortProcedure
from otel_control_gym.actuators.chaos import ACTION_LABEL, Injection
from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.flags import FeatureFlagProcedure, FlagClient, open_flags
from otel_control_gym.actuators.interventions import (
    BadConfig,
    CpuPressure,
    DependencyOutage,
    FeatureFlag,
    MemoryPressure,
    NetworkDelay,
    NetworkPartition,
    PacketLoss,
    PodKill,
    RestartLoop,
)
from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.actuators.leases import RUN_LABEL
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.actuators.network_chaos import EdgeProcedure, IsolationProcedure, delay_block, loss_block
from otel_control_gym.actuators.outages import OutageProcedure
from otel_control_gym.actuators.pod_chaos import PodFailureProcedure, PodKillProcedure, RestartLoopProcedure
from otel_control_gym.actuators.pod_deletion import DeletePodProcedure
from otel_control_gym.actuators.procedure import Procedure
from otel_control_gym.actuators.reconnection import Reconnection
from otel_control_gym.actuators.resolution import Resolved, group_members
from otel_control_gym.actuators.rollbacks import RollbackProcedure
from otel_control_gym.actuators.rollouts import RestartProcedure, RolloutConfigProcedure, SetResourcesProcedure
from otel_control_gym.actuators.safekeeping import open_safekeeping
from otel_control_gym.actuators.scaling import GroupProcedure, ScaleProcedure
from otel_control_gym.actuators.stress import CpuPressureProcedure, MemoryPressureProcedure
from otel_control_gym.actuators.traffic import ShiftTrafficProcedure
from otel_control_gym.actuators.workload import LoadGenerator, SetWorkloadProcedure, open_load_generator
from otel_control_gym.actuators.writes import WriteBook
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.protocols import Append, Endpoints
from otel_control_gym.engine.randomness import derive_seed, draw_identifier
from otel_control_gym.engine.settings import RunSettings, Service, ServiceConfiguration

__all__ = ("open_actuators",)

_PARTITION = {"action": "partition"}


class _Ends(TypedDict):
    source: str
    target: str


class _Procedures:
    """Makes the procedure of an action."""

    def __init__(
        self,
        kubernetes: KubernetesClient,
        load_generator: LoadGenerator,
        flags: FlagClient,
        services: ServiceConfiguration,
        namespace: str,
        new_name: Callable[[], str],
        run_id: str,
    ) -> None:
        self._kubernetes, self._load_generator, self._flags = kubernetes, load_generator, flags
        self._services, self._namespace, self._new_name = services, namespace, new_name
        self._run_id = run_id

    def __call__(self, resolved: Resolved, action_id: str) -> Procedure:
        # Of the objects that are made themselves, never of pod templates: those would have another hash in each run.
        labels = {RUN_LABEL: self._run_id, ACTION_LABEL: action_id}
        if resolved.entry.action_class == "intervention":
            return self._intervention(resolved, labels)
        return self._action(resolved, labels)

    def _action(self, resolved: Resolved, labels: dict[str, str]) -> Procedure:
        parameters, target = resolved.parameters, resolved.target
        match resolved.action:
            case Scale():
                return ScaleProcedure(*self._service(target), parameters["replicas"])
            case Restart():
                return RestartProcedure(*self._service(target))
            case DeletePod():
                return DeletePodProcedure(
                    *self._service(target), count=parameters["count"], grace_seconds=parameters["grace_seconds"]
                )
            case EnableGroup() | DisableGroup():
                members = [self._service(name) for name in group_members(self._services, target)]
                return GroupProcedure(members, enable=isinstance(resolved.action, EnableGroup))
            case RolloutConfig():
                return RolloutConfigProcedure(
                    *self._service(target),
                    environment=parameters["env"],
                    by_config_map=parameters.get("via") == "config_map",
                    labels=labels,
                )
            case RollbackConfig():
                return RollbackProcedure(*self._service(target), parameters.get("revision"))
            case SetResources():
                return SetResourcesProcedure(*self._service(target), parameters)
            case SetAutoscaler():
                return AutoscalerProcedure(*self._service(target), parameters, labels)
            case ShiftTraffic():
                sticky = self._sticky_callers(target)
                again = parameters["reconnect_callers"] and bool(sticky)
                return ShiftTrafficProcedure(
                    *self._service(target),
                    version=parameters["version"],
                    weight_percent=parameters["weight_percent"],
                    via=parameters["via"],
                    sticky=bool(sticky),
                    reconnection=self._reconnection(sticky) if again else None,
                    labels=labels,
                )
            case SetWorkload():
                return SetWorkloadProcedure(self._load_generator, parameters)
            case _:
                raise TypeError(f"{type(resolved.action).__name__} is no action of the catalogue")

    def _intervention(self, resolved: Resolved, labels: dict[str, str]) -> Procedure:
        parameters, target = resolved.parameters, resolved.target
        injection = self._injection(resolved, labels)
        match resolved.action:
            case CpuPressure():
                strength = {key: parameters[key] for key in ("workers", "load_percent")}
                return CpuPressureProcedure(injection, target=target, **strength)
            case MemoryPressure():
                return MemoryPressureProcedure(
                    injection,
                    target=target,
                    size_bytes=parameters["size_bytes"],
                    ramp=parameters["shape"] == "ramp",
                )
            case NetworkDelay():
                block = delay_block(parameters["latency_ms"], parameters["jitter_ms"])
                return EdgeProcedure(injection, **_ends(target), block=block)
            case PacketLoss():
                return EdgeProcedure(injection, **_ends(target), block=loss_block(parameters["loss_percent"]))
            case NetworkPartition():
                return EdgeProcedure(injection, **_ends(target), block=_PARTITION, percent=parameters["pods_percent"])
            case PodKill():
                return PodKillProcedure(
                    injection,
                    target=target,
                    percent=parameters["pods_percent"],
                    grace_seconds=parameters["grace_seconds"],
                )
            case RestartLoop():
                return RestartLoopProcedure(
                    injection,
                    target=target,
                    percent=parameters["pods_percent"],
                    every_seconds=parameters["every_seconds"],
                )
            case DependencyOutage():
                return self._outage(target, parameters, injection)
            case BadConfig():
                return self._mistake(target, parameters)
            case FeatureFlag():
                return FeatureFlagProcedure(
                    self._flags,
                    flag=parameters["flag"],
                    variant=parameters["variant"],
                    nil=parameters["intensity"] == "zero",
                )
            case _:
                raise TypeError(f"{type(resolved.action).__name__} is no intervention of the catalogue")

    def _outage(self, target: str, parameters: dict[str, Any], injection: Injection) -> Procedure:
        match parameters["mechanism"]:
            case "scale_to_zero":
                return OutageProcedure(*self._service(target))
            case "partition":
                return IsolationProcedure(injection, target=target, block=_PARTITION)
            case "pod_failure":
                stateful = self._services.services[target].stateful
                return PodFailureProcedure(injection, target=target, stateful=stateful)
            case _:
                return IsolationProcedure(injection, target=target, block=delay_block(parameters["latency_ms"], 0))

    def _mistake(self, edge: str, parameters: dict[str, Any]) -> Procedure:
        source, _, target = edge.partition("->")
        match parameters["mistake"]:
            case "image":
                return BadImageProcedure(*self._service(source))
            case "target_port":
                callers = dict.fromkeys((source, *self._sticky_callers(target)))
                reconnection = self._reconnection(tuple(callers))
                return BadPortProcedure(self._kubernetes, self._namespace, target=target, reconnection=reconnection)
            case _:
                return BadAddressProcedure(*self._service(source), target=target, wrong=parameters["wrong"])

    def _sticky_callers(self, target: str) -> tuple[str, ...]:
        """Return the callers of a service that hold on to their connections."""
        edges = self._services.edges
        return tuple(edge.source for edge in edges if edge.target == target and edge.connection == "sticky")

    def _reconnection(self, callers: Sequence[str]) -> Reconnection:
        return Reconnection([self._service(name) for name in callers])

    def _service(self, name: str) -> tuple[DeploymentClient, Service]:
        return DeploymentClient(self._kubernetes, self._namespace, name), self._services.services[name]

    def _injection(self, resolved: Resolved, labels: dict[str, str]) -> Injection:
        return Injection(
            kubernetes=self._kubernetes,
            namespace=self._namespace,
            duration_seconds=(resolved.duration_ns or 0) // SECOND,
            persistent=resolved.parameters.get("persistence") == "workload",
            new_name=self._new_name,
            labels=labels,
        )


def _ends(edge: str) -> _Ends:
    source, _, target = edge.partition("->")
    return _Ends(source=source, target=target)


@asynccontextmanager
async def open_actuators(
    endpoints: Endpoints, settings: RunSettings, append: Append, *, seed: int, run_id: str
) -> AsyncIterator[Lifecycle]:
    """Open the actuators of a run on a stand; they write their events through `append`.

    `seed` decides action ids and the names of chaos objects. `run_id` labels what is made for the run, and on a stand that outlives the gym
    the run holds a Lease under it. Leaving the context takes nothing back: that is `Lifecycle.close`.
    """
    names = derive_seed(seed, "actuators.objects")
    count = 0

    def new_name() -> str:
        nonlocal count
        count += 1
        return f"ocg-{draw_identifier(names, count, length=10)}"

    async with (
        open_kubernetes(endpoints) as kubernetes,
        open_load_generator(endpoints) as load_generator,
        open_flags(endpoints) as flags,
        open_safekeeping(kubernetes, endpoints, run_id) as safekeeper,
    ):
        writes = WriteBook()
        procedures = _Procedures(
            kubernetes.noting(writes), load_generator, flags, settings.services, endpoints.namespace, new_name, run_id
        )
        yield Lifecycle(settings, append, procedures, seed=seed, writes=writes, safekeeper=safekeeper)
