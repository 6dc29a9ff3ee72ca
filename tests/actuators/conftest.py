"""Actuators on the twin's Kubernetes over real HTTP, with machines on which nothing ever takes time, and a log that only remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from otel_control_gym.actuators import open_actuators
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Event, type_tag
from otel_control_gym.engine.protocols import ActionRecord, Endpoints, Request
from otel_control_gym.engine.settings import (
    EdgeSettings,
    EpisodeSettings,
    Granularity,
    MetricMap,
    RewardSettings,
    RunSettings,
    Service,
    ServiceConfiguration,
    TwinSettings,
)
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.runtime import ContainerExit, NetworkRule, PodProcess, PodResources
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer

START = TwinSettings().epoch_seconds * SECOND


class IdleMachines:
    """Machines that do what they are told, and on which nothing is ever in flight."""

    def __init__(self) -> None:
        self.stress: list[tuple[int, float]] = []
        self.delays: list[tuple[float, float]] = []

    def start_container(
        self, uid: str, service: str, name: str, resources: PodResources, process: PodProcess = PodProcess()
    ) -> None: ...

    def start_seconds(self, service: str, process: PodProcess = PodProcess()) -> float:
        return 1.0

    def set_endpoint(self, uid: str, *, ready: bool) -> None: ...

    def begin_termination(self, uid: str) -> None: ...

    def in_flight(self, uid: str) -> int:
        return 0

    def stop_container(self, uid: str) -> None: ...

    def set_cpu_stress(self, uid: str, chaos: str, *, workers: int, load: float) -> None:
        self.stress.append((workers, load))

    def take_exits(self) -> tuple[ContainerExit, ...]:
        return ()

    def set_memory_stress(self, uid: str, chaos: str, *, size_bytes: int, ramp_seconds: float) -> None: ...

    def answers_probe(self, uid: str) -> bool:
        return True

    def cpu_seconds(self, uid: str) -> float:
        return 0.0

    def memory_bytes(self, uid: str) -> int:
        return 0

    def kill_container(self, uid: str, exit_code: int = 137) -> None: ...

    def set_split(self, service: str, canary_share: float | None) -> None: ...

    def set_network_rule(
        self, uid: str, chaos: str, *, peers: tuple[str, ...] | None, rule: NetworkRule | None
    ) -> None:
        if rule is not None:
            self.delays.append((rule.latency_ms, rule.jitter_ms))


class Stage:
    """A stand, its actuators and what they wrote; `live` is the episode's part."""

    def __init__(self, control_plane: ControlPlane, machines: IdleMachines, endpoints: Endpoints) -> None:
        self.control_plane, self.machines, self.endpoints = control_plane, machines, endpoints
        self.log: list[tuple[Event, bool]] = []
        self.actuators: Lifecycle

    @property
    def now(self) -> int:
        return self.control_plane.now

    async def append(self, event: Event, *, truth: bool = False) -> int:
        self.log.append((event, truth))
        return len(self.log)

    async def perform(self, action: Any, *, truth: bool = False) -> ActionRecord:
        return await self.actuators.perform(Request(action=action, actor="human", truth=truth), self.now)

    async def live(self, seconds: float) -> list[ActionRecord]:
        """Let time pass, and do what is due on the way; return what settled."""
        settled: list[ActionRecord] = []
        end = self.now + round(seconds * SECOND)
        while True:
            due = self.actuators.due()
            moment = end if due is None else max(self.now, min(due, end))
            self.control_plane.run_due(moment)
            while (due := self.actuators.due()) is not None and due <= moment:
                settled += await self.actuators.run_due(moment)
            if moment == end:
                return settled

    def life(self, action_id: str) -> list[str]:
        """Return the kinds of events of an attempt, without `action.` and version."""
        own = [event for event, _ in self.log if getattr(event, "action_id", None) == action_id]
        return [type_tag(event).split(".")[1] for event in own if type_tag(event).startswith("action.")]

    def last(self, kind: type[Event]) -> Any:
        """Return the newest event of a kind."""
        return next(event for event, _ in reversed(self.log) if isinstance(event, kind))


@pytest.fixture
def services() -> ServiceConfiguration:
    return ServiceConfiguration(
        name="shop",
        demo_version="2.2.0",
        chart_version="0.40.10",
        services={
            "frontend": Service(protocol="http", replicas=2, cpu_limit_cores=1.5, memory_limit_bytes=2**28),
            "cart": Service(replicas=2, cpu_limit_cores=0.5, memory_limit_bytes=2**27),
            "quote": Service(memory_limit_bytes=2**27),
            "valkey-cart": Service(kind="dependency", protocol="resp", stateful=True, memory_limit_bytes=2**26),
            "flagd": Service(protected=True, memory_limit_bytes=2**26),
        },
        edges=(
            EdgeSettings(source="frontend", target="cart", protocol="grpc"),
            EdgeSettings(source="cart", target="valkey-cart", protocol="resp"),
        ),
        flows={},
    )


@pytest.fixture
def settings(services: ServiceConfiguration) -> RunSettings:
    return RunSettings(
        services=services,
        granularity=Granularity(action_duration_seconds=60),
        metrics=MetricMap(name="none", node={}, edge={}),
        reward=RewardSettings(name="none"),
        episode=EpisodeSettings(name="none"),
    )


@asynccontextmanager
async def open_stage(settings: RunSettings) -> AsyncIterator[Stage]:
    machines = IdleMachines()
    plane = ControlPlane(settings.services, TwinSettings(), seed=7, start=START, runtime=machines)
    plane.install()
    async with KubernetesServer(plane).open() as url:
        stage = Stage(plane, machines, endpoints_at(url))
        async with open_actuators(stage.endpoints, settings, stage.append, seed=7, run_id="RUN") as stage.actuators:
            yield stage


@pytest.fixture
async def stage(settings: RunSettings) -> AsyncIterator[Stage]:
    async with open_stage(settings) as stage:
        yield stage


@pytest.fixture
async def second_stage(settings: RunSettings) -> AsyncIterator[Stage]:
    async with open_stage(settings) as stage:
        yield stage


def endpoints_at(url: str) -> Endpoints:
    return Endpoints(kubernetes=url, namespace="otel-demo", prometheus=url, coroot=url, load_generator=url, flagd=url)
