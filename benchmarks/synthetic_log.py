"""A generated log of the size that a benchmark asks for: services with span metrics, histograms and pod metrics, flushed every 30 s.

Values are those of an application under load: calls fall into the histograms' buckets at random (Poisson), a service's rate is drawn from
a log-normal distribution; sums of durations lie on no decimal grid, as a real collector's; memory changes by pages, CPU time is whole
nanoseconds. Events are made one after the other, so that a log of any length costs the memory of one step.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym import configs
from otel_control_gym.engine.archive import export_archive
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.codec import split
from otel_control_gym.engine.envelope import Message, RunName, genesis, seal
from otel_control_gym.engine.events import (
    ClockAdvanced,
    Event,
    GraphEdge,
    GraphNode,
    GraphObserved,
    RunDeclared,
    RunEnded,
    SamplesCollected,
    SeriesDeclaration,
    SeriesDeclared,
    WorkloadObserved,
    WorkloadState,
)
from otel_control_gym.engine.log import RunReader
from otel_control_gym.engine.settings import (
    EpisodeSettings,
    Granularity,
    MetricMap,
    RewardSettings,
    RunSettings,
    Service,
    ServiceConfiguration,
)

__all__ = ("LogSize", "events", "series_labels", "write_archive")

ORIGIN = 1_767_571_200 * SECOND
STEP = 30
BOUNDS = (2, 4, 6, 8, 10, 50, 100, 200, 400, 800, 1000, 1400, 2000, 5000, 10000, 15000)  #: ms; then infinity
MEAN_MS = 30.0

Floats = npt.NDArray[np.float64]
Labels = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class LogSize:
    """How many services (each calls the next one), how long the run is, and how often it is scraped."""

    services: int
    seconds: int
    scrape_seconds: int = 5


def events(size: LogSize) -> Iterator[Event]:
    """Yield the events of a run, the same ones for the same size."""
    names = [f"service-{number}" for number in range(size.services)]
    yield RunDeclared(time=ORIGIN, contract_version=1, settings=_settings(names, size.scrape_seconds))
    yield _graph(names)
    labels = series_labels(size)
    rows = tuple(SeriesDeclaration(series=number, labels=row) for number, row in enumerate(labels))
    yield SeriesDeclared(time=ORIGIN, rows=rows)
    world = _World(size)
    for end in range(0, size.seconds + 1, STEP):
        now = ORIGIN + end * SECOND
        moments = np.arange(max(0, end - STEP + size.scrape_seconds), end + 1, size.scrape_seconds)
        table = world.scrape(moments.size)
        yield SamplesCollected(
            time=now,
            series=np.repeat(np.arange(len(labels), dtype=np.int32), moments.size),
            times=np.tile(ORIGIN + moments * SECOND, len(labels)),
            values=table.ravel(),
        )
        yield WorkloadObserved(time=now, rows=tuple(_reading(int(moment)) for moment in moments))
        yield ClockAdvanced(time=now, since=max(ORIGIN, now - STEP * SECOND), decision_step=None, lag_ns=0)
    yield RunEnded(time=ORIGIN + size.seconds * SECOND, reason="horizon")


def series_labels(size: LogSize) -> list[Labels]:
    """Return the labels of the run's series, in the order of their numbers."""
    names = [f"service-{number}" for number in range(size.services)]
    pairs = [[name, *names[number + 1 : number + 2]] for number, name in enumerate(names)]
    return [labels for name, *called in pairs for labels in _series(name, called)]


async def write_archive(size: LogSize, path: Path) -> None:
    """Write the archive of a run's log, as a broker's is exported."""
    await export_archive(cast(RunReader, _SealedLog(size)), path)


class _SealedLog:
    """Gives a log's messages as the reader of a broker's streams does."""

    def __init__(self, size: LogSize) -> None:
        self._size = size
        self.run = RunName("benchmark", "BENCHMARK")

    async def messages(self, *, truth: bool = False) -> AsyncGenerator[Message, None]:
        head = genesis(self.run, truth=truth)
        for event in () if truth else events(self._size):
            for part in split(event):
                message = seal(part, self.run, head)
                head = message.head
                yield message


class _World:
    """What the series count: each histogram's calls per bucket, and the pods' usage."""

    def __init__(self, size: LogSize) -> None:
        self._random = np.random.default_rng(20260105)  # noqa: TID251 - draws of a benchmark's input, by the million
        self._services, self._scrape = size.services, size.scrape_seconds
        shares = np.diff(-np.exp(-np.array([0.0, *BOUNDS]) / MEAN_MS), append=0.0)
        rates = self._random.lognormal(0.5, 1.5, (size.services, 4))  # three operations, and the calls of the next one
        errors = np.array([1.0, 0.01])
        of_operations = rates[:, :3, None] * errors  # [services, operations, statuses]
        self._rates = (
            np.concatenate([of_operations.reshape(size.services, 6), rates[:, 3:]], axis=1)[..., None] * shares
        )
        self._calls = np.zeros(self._rates.shape)
        self._sums = np.zeros(self._rates.shape[:2])
        self._cpu = np.zeros((size.services, 1))
        self._memory = np.full((size.services, 1), 5e7)
        self._bytes = np.zeros((size.services, 2))

    def scrape(self, scrapes: int) -> Floats:
        """Return the next values [series, scrapes]."""
        grown = self._random.poisson(self._rates[..., None] * self._scrape, (*self._rates.shape, scrapes)).astype(float)
        counts = self._calls[..., None] + np.cumsum(grown, axis=-1)
        took = grown.sum(axis=2) * self._random.gamma(20.0, MEAN_MS / 20.0, (*self._sums.shape, scrapes))
        sums = self._sums[..., None] + np.cumsum(took, axis=-1)
        cpu = self._cpu + np.cumsum(np.rint(self._random.gamma(9.0, 5e6, (self._services, scrapes))), axis=-1)
        pages = self._random.integers(-8, 9, (self._services, scrapes))
        memory = self._memory + np.cumsum(4096.0 * pages, axis=-1)
        sent = self._bytes[..., None] + np.cumsum(self._random.poisson(20_000.0, (self._services, 2, scrapes)), axis=-1)
        self._calls, self._sums = counts[..., -1], sums[..., -1]
        self._cpu, self._memory, self._bytes = cpu[:, -1:], memory[:, -1:], sent[..., -1]
        at_most = np.cumsum(counts, axis=2)  # a histogram's buckets are cumulative
        rows: list[Floats] = []
        for service in range(self._services):
            for operation in range(6):
                total = at_most[service, operation, -1:]
                rows += [total, at_most[service, operation], total, sums[service, operation : operation + 1]]
            if service + 1 < self._services:
                total = at_most[service, 6, -1:]
                failed = np.floor(total / 100)
                rows += [total, failed, at_most[service, 6], total, sums[service, 6:7]]
            one, none = np.ones((1, scrapes)), np.zeros((1, scrapes))
            own = slice(service, service + 1)
            rows += [one, one, sent[service], cpu[own] / 1e9, memory[own], none, one / 2, 2e8 * one]
        return np.concatenate(rows)


def _settings(names: list[str], scrape_seconds: int) -> RunSettings:
    return RunSettings(
        services=ServiceConfiguration(
            name="chain",
            demo_version="2.2.0",
            chart_version="0.40.10",
            services={name: Service() for name in names},
            edges=(),
            flows={},
        ),
        granularity=Granularity(scrape_interval_seconds=scrape_seconds),
        metrics=_configuration("metrics/otel-demo-2.2.0.yaml", MetricMap),
        reward=_configuration("rewards/default.yaml", RewardSettings),
        episode=_configuration("episodes/default.yaml", EpisodeSettings),
    )


def _configuration(name: str, kind: type[Any]) -> Any:
    return msgspec.yaml.decode(files(configs).joinpath(name).read_bytes(), type=kind)


def _reading(second: int) -> WorkloadState:
    return WorkloadState(
        time=ORIGIN + second * SECOND,
        users_target=60,
        users_active=60,
        spawn_rate_per_s=20.0,
        scheduled=10 * second,
        served=10 * second,
        failed=second // 10,
        state="running",
    )


def _graph(names: list[str]) -> GraphObserved:
    nodes = tuple(
        GraphNode(
            id=name,
            kind="service",
            namespace="n",
            deployment=name,
            container=name,
            endpoint="",
            kubernetes_kind="Deployment",
        )
        for name in names
    )
    edges = tuple(GraphEdge(source=caller, target=called, protocol="grpc") for caller, called in pairwise(names))
    return GraphObserved(time=ORIGIN, nodes=nodes, edges=edges)


def _series(name: str, called: list[str]) -> list[Labels]:
    pod = {"k8s_deployment_name": name, "k8s_pod_name": f"{name}-1-aaaaa"}
    spans = {"service_name": name, "span_kind": "SPAN_KIND_SERVER", **pod}
    rows: list[Labels] = []
    for operation in ("one", "two", "three"):
        for status in ("STATUS_CODE_UNSET", "STATUS_CODE_ERROR"):
            one = {**spans, "span_name": operation, "status_code": status}
            rows.append({"__name__": "traces_span_metrics_calls_total", **one})
            rows += _histogram("traces_span_metrics_duration_milliseconds", one)
    for other in called:
        ends = {"client": name, "server": other}
        rows += [{"__name__": f"traces_service_graph_request_{part}total", **ends} for part in ("", "failed_")]
        rows += _histogram("traces_service_graph_request_client_seconds", ends)
    rows += [{"__name__": f"k8s_deployment_{part}", "k8s_deployment_name": name} for part in ("available", "desired")]
    rows += [{"__name__": "k8s_pod_network_io_bytes_total", "direction": way, **pod} for way in ("receive", "transmit")]
    own = ("k8s_pod_cpu_time_seconds_total", "k8s_pod_memory_working_set_bytes", "k8s_container_restarts")
    rows += [
        {"__name__": metric, **pod} for metric in (*own, "k8s_container_cpu_limit", "k8s_container_memory_limit_bytes")
    ]
    return rows


def _histogram(metric: str, labels: Labels) -> list[Labels]:
    buckets = [{"__name__": f"{metric}_bucket", "le": str(bound), **labels} for bound in (*BOUNDS, "+Inf")]
    return [*buckets, {"__name__": f"{metric}_count", **labels}, {"__name__": f"{metric}_sum", **labels}]
