"""A small cluster in virtual time, on machines on which nothing is ever in flight."""

from __future__ import annotations

import pytest

from otel_control_gym.engine.clock import SECOND
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

START = TwinSettings().epoch_seconds * SECOND


class IdleMachines:
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

    def set_cpu_stress(self, uid: str, chaos: str, *, workers: int, load: float) -> None: ...

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
    ) -> None: ...


@pytest.fixture
def services() -> ServiceConfiguration:
    return ServiceConfiguration(
        name="shop",
        demo_version="2.2.0",
        chart_version="0.40.10",
        services={
            "frontend": Service(protocol="http", cpu_limit_cores=1.0, memory_limit_bytes=2**28),
            "cart": Service(
                replicas=2, cpu_limit_cores=0.5, memory_limit_bytes=2**27, grpc_service="oteldemo.CartService"
            ),
        },
        edges=(EdgeSettings(source="frontend", target="cart", protocol="grpc"),),
        flows={},
    )


@pytest.fixture
def settings(services: ServiceConfiguration) -> RunSettings:
    return RunSettings(
        services=services,
        granularity=Granularity(),
        metrics=MetricMap(name="none", node={}, edge={}),
        reward=RewardSettings(name="none"),
        episode=EpisodeSettings(name="none"),
    )


@pytest.fixture
def plane(services: ServiceConfiguration) -> ControlPlane:
    plane = ControlPlane(services, TwinSettings(), seed=7, start=START, runtime=IdleMachines())
    plane.install()
    return plane
