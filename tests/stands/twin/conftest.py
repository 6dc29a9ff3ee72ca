"""A small application and a control plane over machines that only take notes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import msgspec
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import EdgeSettings, Service, ServiceConfiguration, TwinSettings, Version
from otel_control_gym.stands.twin.api import Api
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.objects import POD, Kind, Object
from otel_control_gym.stands.twin.runtime import ContainerExit, NetworkRule, PodProcess, PodResources

START = TwinSettings().epoch_seconds * SECOND


class NotedRuntime:
    """Machines on which every request takes no time, unless a test says how many are in flight."""

    def __init__(self, services: ServiceConfiguration) -> None:
        self.services = services
        self.running: dict[str, tuple[str, PodResources]] = {}
        self.endpoints: dict[str, bool] = {}
        self.terminating: list[str] = []
        self.stress: dict[tuple[str, str], tuple[int, float]] = {}
        self.rules: dict[tuple[str, str], tuple[tuple[str, ...] | None, NetworkRule]] = {}
        self.known: dict[str, None] = {}
        self.processes: dict[str, PodProcess] = {}
        self.unready: dict[str, None] = {}
        self.cpu: dict[str, float] = {}
        self.cpu_reads: list[str] = []
        self.resident: dict[str, int] = {}
        self.splits: dict[str, float] = {}
        self.memory: dict[tuple[str, str], tuple[int, float]] = {}
        self.requests: dict[str, int] = {}
        self.exits: list[ContainerExit] = []
        self.clock: Callable[[], int] = lambda: START

    def start_container(
        self, uid: str, service: str, name: str, resources: PodResources, process: PodProcess = PodProcess()
    ) -> None:
        assert uid not in self.running
        assert name.startswith(service)
        self.running[uid] = (service, resources)
        self.processes[uid] = process
        self.known[uid] = None

    def start_seconds(self, service: str, process: PodProcess = PodProcess()) -> float:
        settings = self.services.services[service]
        version = settings.versions.get(process.version)
        if version is not None and not version.gets_ready:
            return math.inf
        return settings.start_seconds * (version.start_factor if version is not None else 1)

    def set_endpoint(self, uid: str, *, ready: bool) -> None:
        assert uid in self.known
        self.endpoints[uid] = ready

    def begin_termination(self, uid: str) -> None:
        assert uid in self.running
        self.terminating.append(uid)

    def in_flight(self, uid: str) -> int:
        return self.requests.get(uid, 0)

    def stop_container(self, uid: str) -> None:
        self.running.pop(uid, None)
        self.endpoints.pop(uid, None)
        self.stress = {key: value for key, value in self.stress.items() if key[0] != uid}
        self.rules = {key: value for key, value in self.rules.items() if key[0] != uid}

    def set_cpu_stress(self, uid: str, chaos: str, *, workers: int, load: float) -> None:
        assert uid in self.running
        if load:
            self.stress[uid, chaos] = (workers, load)
        else:
            self.stress.pop((uid, chaos), None)

    def take_exits(self) -> tuple[ContainerExit, ...]:
        exits, self.exits = tuple(self.exits), []
        for ended in exits:
            del self.running[ended.uid]
            for noted in (self.stress, self.memory):
                for key in [key for key in noted if key[0] == ended.uid]:
                    del noted[key]
        return exits

    def set_memory_stress(self, uid: str, chaos: str, *, size_bytes: int, ramp_seconds: float) -> None:
        assert uid in self.running
        if size_bytes:
            self.memory[uid, chaos] = (size_bytes, ramp_seconds)
        else:
            self.memory.pop((uid, chaos), None)

    def answers_probe(self, uid: str) -> bool:
        return uid not in self.unready

    def cpu_seconds(self, uid: str) -> float:
        self.cpu_reads.append(uid)
        return self.cpu.get(uid, 0.0)

    def memory_bytes(self, uid: str) -> int:
        return self.resident.get(uid, 0)

    def kill_container(self, uid: str, exit_code: int = 137) -> None:
        if uid in self.running:
            self.exits.append(ContainerExit(uid=uid, at=self.clock(), exit_code=exit_code, reason="Error"))

    def set_split(self, service: str, canary_share: float | None) -> None:
        if canary_share is None:
            self.splits.pop(service, None)
        else:
            self.splits[service] = canary_share

    def set_network_rule(
        self, uid: str, chaos: str, *, peers: tuple[str, ...] | None, rule: NetworkRule | None
    ) -> None:
        assert uid in self.known
        if rule is not None:
            self.rules[uid, chaos] = (peers, rule)
        else:
            self.rules.pop((uid, chaos), None)


class Cluster(msgspec.Struct):
    """A control plane, its machines, and the passing of time."""

    control_plane: ControlPlane
    runtime: NotedRuntime

    @property
    def api(self) -> Api:
        """What a client may ask of the cluster."""
        return Api(self.control_plane.context)

    def apply_chaos(self, kind: Kind, spec: Object, name: str = "ocg-1") -> Object:
        """Create a chaos object in the application's namespace."""
        namespace = self.control_plane.namespace
        return self.api.create(kind, namespace, {"metadata": {"name": name}, "spec": spec})

    def read(self, kind: Kind, name: str) -> Object:
        """Return an object of the application's namespace."""
        return self.api.get(kind, self.control_plane.namespace, name)

    def pods_of(self, service: str) -> list[Object]:
        """Return a service's pods that aren't being deleted, by name."""
        return [
            pod
            for pod in self.control_plane.store.objects(POD)
            if pod["metadata"]["labels"]["opentelemetry.io/name"] == service
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def live(self, seconds: float) -> None:
        """Let the cluster live for a time."""
        self.control_plane.run_due(self.control_plane.now + round(seconds * SECOND))

    def settle(self) -> None:
        """Let the cluster live until no controller but those that wait for an hour or a deadline has anything to do."""
        for _ in range(200):
            due = self.control_plane.due()
            if due is None or due > self.control_plane.now + 60 * SECOND:
                return
            self.control_plane.run_due(due)
        raise AssertionError("the controllers don't come to rest")


@pytest.fixture(scope="session")
def shop() -> ServiceConfiguration:
    """Three services in a row: a frontend over a cart over a store that never stops by itself."""
    return ServiceConfiguration(
        name="shop",
        demo_version="2.2.0",
        chart_version="0.40.10",
        services={
            "frontend": Service(
                protocol="http", replicas=2, cpu_limit_cores=1.0, memory_limit_bytes=2**28, start_seconds=3.0
            ),
            "cart": Service(
                replicas=4,
                cpu_limit_cores=0.5,
                memory_limit_bytes=160 * 2**20,
                start_seconds=1.0,
                versions={"2.2.1": Version(start_factor=4.0), "2.3.0-rc1": Version(gets_ready=False)},
            ),
            "valkey-cart": Service(
                kind="dependency", protocol="resp", port=6379, drains=False, memory_limit_bytes=20 * 2**20
            ),
        },
        edges=(
            EdgeSettings(source="frontend", target="cart", protocol="grpc"),
            EdgeSettings(source="cart", target="valkey-cart", protocol="resp"),
        ),
        flows={},
    )


class Install(Protocol):
    """Makes installed clusters."""

    def __call__(
        self, *, seed: int = 7, settings: TwinSettings | None = None, services: ServiceConfiguration | None = None
    ) -> Cluster: ...


@pytest.fixture
def install(shop: ServiceConfiguration) -> Install:
    """Return a maker of installed clusters at the run's start."""

    def new_cluster(
        *, seed: int = 7, settings: TwinSettings | None = None, services: ServiceConfiguration | None = None
    ) -> Cluster:
        application = services or shop
        runtime = NotedRuntime(application)
        control_plane = ControlPlane(application, settings or TwinSettings(), seed=seed, start=START, runtime=runtime)
        runtime.clock = lambda: control_plane.now
        control_plane.install()
        return Cluster(control_plane, runtime)

    return new_cluster


@pytest.fixture
def cluster(install: Install) -> Cluster:
    """Return an installed cluster at the run's start."""
    return install()
