"""What tests of the whole twin share: a configuration, an OTLP receiver that keeps what it gets, an open stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from importlib import resources

import msgspec
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_control_gym.engine.configuration_files import load_services
from otel_control_gym.engine.settings import (
    EpisodeSettings,
    Granularity,
    MetricMap,
    RewardSettings,
    RunConfig,
    RunSettings,
    Scenario,
    ServiceConfiguration,
    TwinSettings,
    Workload,
)
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.stand import TwinStand

MakeConfig = Callable[..., RunConfig]


@pytest.fixture(scope="session")
def small_core() -> ServiceConfiguration:
    return load_services("small-core")[0]


@pytest.fixture(scope="session")
def metric_map() -> MetricMap:
    text = (resources.files("otel_control_gym.configs") / "metrics" / "otel-demo-2.2.0.yaml").read_bytes()
    return msgspec.yaml.decode(text, type=MetricMap).with_edges_of("service_graph")


@pytest.fixture(scope="session")
def make_config(small_core: ServiceConfiguration, metric_map: MetricMap) -> MakeConfig:
    """Return a maker of configurations of `small-core`: users, seed, granularity and the twin's settings may be given."""

    def make(
        users: int = 0,
        *,
        seed: int = 7,
        arrivals_per_s: float | None = None,
        granularity: Granularity | None = None,
        twin: TwinSettings | None = None,
    ) -> RunConfig:
        closed = Workload(name="test", users=users, spawn_rate_per_s=50.0)
        opened = Workload(name="test", arrivals="open", rate_per_s=arrivals_per_s or 0.0)
        return RunConfig(
            public=RunSettings(
                services=small_core,
                granularity=granularity or Granularity(),
                metrics=metric_map,
                reward=RewardSettings(name="test"),
                episode=EpisodeSettings(name="test"),
            ),
            scenario=Scenario(name="test"),
            workload=closed if arrivals_per_s is None else opened,
            twin=twin or TwinSettings(),
            seed=seed,
        )

    return make


class Receiver:
    """An OTLP receiver that answers 200, or what it is told to."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.traces: list[ExportTraceServiceRequest] = []
        self.logs: list[ExportLogsServiceRequest] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 * 2**20)
        application.router.add_post("/v1/traces", self._take_traces)
        application.router.add_post("/v1/logs", self._take_logs)
        return application

    async def _take_traces(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        self.traces.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def _take_logs(self, request: web.Request) -> web.Response:
        self.logs.append(ExportLogsServiceRequest.FromString(await request.read()))
        return web.Response(status=self.status, content_type="application/x-protobuf")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    async with listen(found.application()) as found.url:
        yield found


@pytest.fixture
async def stand() -> AsyncIterator[TwinStand]:
    """Return an open twin that wasn't reset yet."""
    found = TwinStand()
    async with found.open():
        yield found
