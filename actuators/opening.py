"""Puts the actuators of a run together: clients, one procedure per kind of action, life cycle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from otel_control_gym.actuators.actions import CpuPressure, NetworkDelay, Restart, Scale, SetResources, SetWorkload
from otel_control_gym.actuators.chaos import CpuPressureProcedure, NetworkDelayProcedure
from otel_control_gym.actuators.kubernetes import (
    DeploymentClient,
    RestartProcedure,
    ScaleProcedure,
    SetResourcesProcedure,
)
from otel_control_gym.actuators.kubernetes_client import KubernetesClient, open_kubernetes
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.actuators.procedure import Procedure
from otel_control_gym.actuators.workload import LoadGenerator, SetWorkloadProcedure, open_load_generator
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.protocols import Append, Endpoints
from otel_control_gym.engine.randomness import derive_seed, draw_identifier
from otel_control_gym.engine.settings import RunSettings, ServiceConfiguration

__all__ = ("open_actuators",)


class _Procedures:
    """Makes the procedure of an action."""

    def __init__(
        self,
        kubernetes: KubernetesClient,
        load_generator: LoadGenerator,
        services: ServiceConfiguration,
        namespace: str,
        new_name: Callable[[], str],
    ) -> None:
        self._kubernetes, self._load_generator = kubernetes, load_generator
        self._services, self._namespace, self._new_name = services, namespace, new_name

    def __call__(self, action: msgspec.Struct, parameters: dict[str, Any], duration: int | None) -> Procedure:
        match action:
            case Scale():
                return ScaleProcedure(self._client(action.target), self._services.services[action.target], action)
            case Restart():
                return RestartProcedure(self._client(action.target), self._services.services[action.target], action)
            case SetResources():
                return SetResourcesProcedure(
                    self._client(action.target), self._services.services[action.target], action
                )
            case SetWorkload():
                return SetWorkloadProcedure(self._load_generator, action)
            case CpuPressure():
                strength = {key: parameters[key] for key in ("workers", "load_percent")}
                return CpuPressureProcedure(
                    self._kubernetes, self._namespace, target=action.target, **strength, **self._chaos(action, duration)
                )
            case NetworkDelay():
                strength = {key: parameters[key] for key in ("latency_ms", "jitter_ms")}
                source, _, target = action.target.partition("->")
                return NetworkDelayProcedure(
                    self._kubernetes,
                    self._namespace,
                    source=source,
                    target=target,
                    **strength,
                    **self._chaos(action, duration),
                )
            case _:
                raise TypeError(f"{type(action).__name__} is no action of the catalogue")

    def _client(self, target: str) -> DeploymentClient:
        return DeploymentClient(self._kubernetes, self._namespace, target)

    def _chaos(self, action: CpuPressure | NetworkDelay, duration: int | None) -> dict[str, Any]:
        return {
            "duration_seconds": (duration or 0) // SECOND,
            "persistent": action.persistence == "workload",
            "new_name": self._new_name,
        }


@asynccontextmanager
async def open_actuators(
    endpoints: Endpoints, settings: RunSettings, append: Append, *, seed: int
) -> AsyncIterator[Lifecycle]:
    """Open the actuators of a run on a stand; they write their events through `append`.

    `seed` decides action ids and the names of chaos objects. Leaving the context takes nothing back: that is `Lifecycle.close`.
    """
    names = derive_seed(seed, "actuators.objects")
    count = 0

    def new_name() -> str:
        nonlocal count
        count += 1
        return f"ocg-{draw_identifier(names, count, length=10)}"

    async with open_kubernetes(endpoints) as kubernetes, open_load_generator(endpoints) as load_generator:
        procedures = _Procedures(kubernetes, load_generator, settings.services, endpoints.namespace, new_name)
        yield Lifecycle(settings, append, procedures, seed=seed)
