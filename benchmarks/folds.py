"""How fast a log becomes a state, an observation and a dataset, on a synthetic log of small-core's size.

The log is what a run of the demo's core writes: services with span metrics, histograms and pod metrics, scraped every 5 s, flushed every
30 s. The digest is of the feature tables: a faster fold that does less shows.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from importlib.resources import files
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from result import Measurement, median_ms

from otel_control_gym import configs
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ClockAdvanced,
    GraphEdge,
    GraphNode,
    GraphObserved,
    Recorded,
    RunDeclared,
    RunEnded,
    SamplesCollected,
    SeriesDeclaration,
    SeriesDeclared,
)
from otel_control_gym.engine.settings import (
    EpisodeSettings,
    Granularity,
    MetricMap,
    RewardSettings,
    RunSettings,
    Service,
    ServiceConfiguration,
)
from otel_control_gym.projections import fold, observation_arrays
from otel_control_gym.projections.dataset import dataset_files
from otel_control_gym.projections.metadata import Identity

__all__ = ("LARGE", "SMALL", "Size", "folds")

BOUNDS = (
    "2",
    "4",
    "6",
    "8",
    "10",
    "50",
    "100",
    "200",
    "400",
    "800",
    "1000",
    "1400",
    "2000",
    "5000",
    "10000",
    "15000",
    "+Inf",
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many services (each calls the next one), and how long the run is."""

    services: int
    seconds: int


SMALL = Size(services=3, seconds=120)
LARGE = Size(services=14, seconds=3600)


def folds(size: Size) -> list[Measurement]:
    """Measure fold, rebuild and observation of a log of the given size."""
    entries = _log(size)
    samples = sum(entry.event.series.size for entry in entries if isinstance(entry.event, SamplesCollected))
    began = time.perf_counter()
    state = fold(entries)
    folded = time.perf_counter() - began
    dataset = dataset_files(state, Identity(run_id="benchmark"))
    rebuilt = time.perf_counter() - began
    observed = []
    for _ in range(10):
        began = time.perf_counter()
        observation_arrays(state, state.known_until, window_seconds=60, bucket_seconds=10)
        observed.append(time.perf_counter() - began)
    tables = (dataset["node_features.parquet"], dataset["edge_features.parquet"])
    detail: dict[str, Any] = {
        "samples": samples,
        "series": state.samples.values.shape[1],
        "dataset_bytes": sum(len(content) for content in dataset.values()),
        "digest": hashlib.sha256(b"".join(tables)).hexdigest(),
    }
    return [
        Measurement(name="fold", value=samples / folded, unit="samples/s", detail=detail),
        Measurement(
            name="rebuild, tables included",
            value=samples / rebuilt,
            unit="samples/s",
            floor=samples / folded,
            floor_name="fold alone",
            detail=detail,
        ),
        Measurement(name="observation of 60 s", value=median_ms(observed), unit="ms", detail=detail),
    ]


def _log(size: Size) -> list[Recorded]:
    names = [f"service-{number}" for number in range(size.services)]
    origin, scrape, step = 1_767_571_200 * SECOND, 5, 30
    settings = RunSettings(
        services=ServiceConfiguration(
            name="chain",
            demo_version="2.2.0",
            chart_version="0.40.10",
            services={name: Service() for name in names},
            edges=(),
            flows={},
        ),
        granularity=Granularity(),
        metrics=_configuration("metrics/otel-demo-2.2.0.yaml", MetricMap).with_edges_of("service_graph"),
        reward=_configuration("rewards/default.yaml", RewardSettings),
        episode=_configuration("episodes/default.yaml", EpisodeSettings),
    )
    labels = [labels for number, name in enumerate(names) for labels in _series(name, names[number + 1 : number + 2])]
    slope = np.arange(1, len(labels) + 1, dtype=np.float64)
    events: list[Any] = [
        RunDeclared(time=origin, contract_version=1, settings=settings),
        _graph(names, origin),
        SeriesDeclared(
            time=origin, rows=tuple(SeriesDeclaration(series=number, labels=row) for number, row in enumerate(labels))
        ),
    ]
    scraped = 0
    for end in range(0, size.seconds + step, step):
        seconds = np.arange(scraped, end + scrape, scrape)
        scraped = end + scrape
        events.append(
            SamplesCollected(
                time=origin + end * SECOND,
                series=np.repeat(np.arange(len(labels), dtype=np.int32), seconds.size),
                times=np.tile(origin + seconds * SECOND, len(labels)),
                values=np.outer(slope, seconds).ravel(),
            )
        )
        events.append(ClockAdvanced(time=origin + end * SECOND, since=origin, decision_step=None))
    events.append(RunEnded(time=origin + size.seconds * SECOND, reason="horizon"))
    return [Recorded(seq=number + 1, event=event) for number, event in enumerate(events)]


def _configuration(name: str, kind: type[Any]) -> Any:
    return msgspec.yaml.decode(files(configs).joinpath(name).read_bytes(), type=kind)


def _graph(names: list[str], origin: int) -> GraphObserved:
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
    return GraphObserved(time=origin, nodes=nodes, edges=edges)


def _series(name: str, called: list[str]) -> list[dict[str, str]]:
    pod = {"k8s_deployment_name": name, "k8s_pod_name": f"{name}-1-aaaaa"}
    spans = {"service_name": name, "span_kind": "SPAN_KIND_SERVER", **pod}
    rows: list[dict[str, str]] = []
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


def _histogram(metric: str, labels: dict[str, str]) -> list[dict[str, str]]:
    buckets = [{"__name__": f"{metric}_bucket", "le": bound, **labels} for bound in BOUNDS]
    return [*buckets, {"__name__": f"{metric}_count", **labels}, {"__name__": f"{metric}_sum", **labels}]
