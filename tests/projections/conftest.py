"""Synthetic logs: a scribe that writes events as a run would, from samples and happenings that a test states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from otel_control_gym import configs
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionForced,
    ActionLapsed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionResumed,
    ActionReverted,
    ActionSettled,
    AutoscalersObserved,
    AutoscalerStatus,
    ClockAdvanced,
    CollectorGap,
    EnvironmentRecorded,
    Event,
    Finding,
    FindingsObserved,
    GraphEdge,
    GraphNode,
    GraphObserved,
    KubernetesEvent,
    KubernetesEventsObserved,
    LogRow,
    LogsCollected,
    ObjectsWritten,
    PhaseEntered,
    PodsTransitioned,
    PodTransition,
    Recorded,
    RolloutsObserved,
    RolloutStatus,
    RoutesObserved,
    RouteStatus,
    RunDeclared,
    RunEnded,
    RunIdentified,
    SamplesCollected,
    SeriesDeclaration,
    SeriesDeclared,
    Span,
    SpansCollected,
    TouchedObject,
    TruthDeclared,
    WorkloadObserved,
    WorkloadState,
    WrittenObject,
)
from otel_control_gym.engine.settings import (
    EdgeSettings,
    EpisodeSettings,
    Granularity,
    MetricMap,
    Objective,
    RewardSettings,
    RunIdentity,
    RunSettings,
    Service,
    ServiceConfiguration,
    TelemetrySettings,
)

ORIGIN = 1_767_571_200 * SECOND


def _read(name: str, kind: type[Any]) -> Any:
    from importlib.resources import files

    return msgspec.yaml.decode(files(configs).joinpath(name).read_bytes(), type=kind)


def run_settings(callers: Sequence[str] = (), *, lag_seconds: int = 60, **granularity: int) -> RunSettings:
    """A frontend that calls a cart, which calls a cache that sends no spans; `callers` are further services, called by nobody."""
    return RunSettings(
        services=ServiceConfiguration(
            name="three",
            demo_version="2.2.0",
            chart_version="0.40.10",
            services={
                "frontend": Service(user_facing=True),
                "cart": Service(),
                "cache": Service(instrumented=False),
                **{name: Service() for name in callers},
            },
            edges=(
                EdgeSettings(source="frontend", target="cart", protocol="grpc"),
                EdgeSettings(source="cart", target="cache", protocol="resp"),
            ),
            flows={},
        ),
        granularity=Granularity(**granularity),
        metrics=_read("metrics/otel-demo-2.2.0.yaml", MetricMap).with_edges_of("service_graph"),
        reward=msgspec.structs.replace(
            _read("rewards/default.yaml", RewardSettings), objective=Objective(service="frontend")
        ),
        episode=_read("episodes/default.yaml", EpisodeSettings),
        telemetry=TelemetrySettings(lag_seconds=lag_seconds),
    )


class Scribe:
    """Writes a log. Times are seconds after the run's start; samples wait until `flush`, as a collector's do."""

    def __init__(
        self,
        callers: Sequence[str] = (),
        *,
        lag_seconds: int = 60,
        change: Callable[[RunSettings], RunSettings] | None = None,
        **granularity: int,
    ) -> None:
        self.settings = run_settings(callers, lag_seconds=lag_seconds, **granularity)
        if change is not None:
            self.settings = change(self.settings)
        self.entries: list[Recorded] = []
        self._series: dict[tuple[tuple[str, str], ...], int] = {}
        self._new: list[SeriesDeclaration] = []
        self._samples: list[tuple[int, int, float]] = []
        self._flushed = 0.0
        nodes = tuple(
            GraphNode(
                id=name,
                kind="service",
                namespace="otel-demo",
                deployment=name,
                container=name,
                endpoint=f"{name}:8080",
                kubernetes_kind="Deployment",
            )
            for name in self.settings.services.services
        )
        edges = tuple(
            GraphEdge(source=edge.source, target=edge.target, protocol=edge.protocol)
            for edge in self.settings.services.edges
        )
        self.add(RunDeclared(time=ORIGIN, contract_version=1, settings=self.settings))
        self.add(
            EnvironmentRecorded(
                time=ORIGIN,
                versions={"numpy": "2"},
                host={"machine": "x86_64"},
                wall_time="2026-02-03T04:05:06Z",
                stand={},
            )
        )
        self.add(
            TruthDeclared(time=ORIGIN, seed=7, scenario={"name": "test"}, workload={"name": "steady"}, twin={}),
            truth=True,
        )
        self.add(GraphObserved(time=ORIGIN, nodes=nodes, edges=edges))
        self.add(PhaseEntered(time=ORIGIN, phase="warmup"))

    def moment(self, seconds: float) -> int:
        """Return a time of the run in nanoseconds."""
        return moment(seconds)

    def add(self, event: Event, *, truth: bool = False) -> None:
        """Append an event."""
        position = 1 + sum(entry.truth == truth for entry in self.entries)
        self.entries.append(Recorded(seq=position, event=event, truth=truth))

    def sample(self, seconds: float, value: float, name: str, **labels: str) -> None:
        """Take a sample of a series, declared when it is first met."""
        key = tuple(sorted({"__name__": name, **labels}.items()))
        if key not in self._series:
            self._series[key] = len(self._series)
            self._new.append(SeriesDeclaration(series=self._series[key], labels=dict(key)))
        self._samples.append((self._series[key], moment(seconds), value))

    def calls(
        self, seconds: float, count: float, service: str = "frontend", *, errors: float | None = None, pod: str = "a"
    ) -> None:
        """Take samples of a service's span metrics."""
        labels = {"service_name": service, "span_kind": "SPAN_KIND_SERVER", "k8s_pod_name": pod}
        self.sample(seconds, count, "traces_span_metrics_calls_total", status_code="STATUS_CODE_UNSET", **labels)
        if errors is not None:
            self.sample(seconds, errors, "traces_span_metrics_calls_total", status_code="STATUS_CODE_ERROR", **labels)

    def flush(self, seconds: float) -> None:
        """Publish what waits, and close the step."""
        now = moment(seconds)
        if self._new:
            self.add(SeriesDeclared(time=now, rows=tuple(self._new)))
        if self._samples:
            waiting = sorted(self._samples)
            self.add(
                SamplesCollected(
                    time=now,
                    series=np.array([series for series, _, _ in waiting], np.int32),
                    times=np.array([time for _, time, _ in waiting], np.int64),
                    values=np.array([value for _, _, value in waiting]),
                )
            )
        self._new, self._samples = [], []
        self.add(ClockAdvanced(time=now, since=moment(self._flushed), decision_step=None, lag_ns=0))
        self._flushed = seconds

    def workload(self, readings: Iterable[tuple[float, int, int, int]], *, users: int = 10) -> None:
        """Add readings of the load generator: (seconds, scheduled, served, failed)."""
        rows = [
            WorkloadState(
                time=moment(seconds),
                users_target=users,
                users_active=users,
                spawn_rate_per_s=1.0,
                scheduled=scheduled,
                served=served,
                failed=failed,
                state="running",
                mix={"browse": 1.0},
            )
            for seconds, scheduled, served, failed in readings
        ]
        self.add(WorkloadObserved(time=rows[-1].time, rows=tuple(rows)))


def moment(seconds: float) -> int:
    """Return a time of the run in nanoseconds."""
    return ORIGIN + round(seconds * SECOND)


@pytest.fixture(scope="session")
def scribe() -> Callable[..., Scribe]:
    """Makes a scribe of a new log."""
    return Scribe


@pytest.fixture(scope="session")
def packaged_metrics() -> MetricMap:
    """The demo's map as its file has it, with all sources of edges."""
    offered: MetricMap = _read("metrics/otel-demo-2.2.0.yaml", MetricMap)
    return offered


@pytest.fixture(scope="session")
def at() -> Callable[[float], int]:
    """Turns seconds after the run's start into its nanoseconds."""
    return moment


Scrapes = Sequence[tuple[float, str, dict[str, str], float]]


@pytest.fixture(scope="session")
def log_of() -> Callable[..., list[Recorded]]:
    """Makes a log of scrapes [(seconds, metric, labels, value)], flushed at the given seconds."""

    def write(scrapes: Scrapes, flushes: Iterable[int], **granularity: int) -> list[Recorded]:
        scribe = Scribe((), change=None, **granularity)
        waiting = sorted(scrapes, key=lambda scrape: scrape[0])
        for flush in sorted(flushes):
            while waiting and waiting[0][0] <= flush:
                seconds, name, labels, value = waiting.pop(0)
                scribe.sample(seconds, value, name, **labels)
            scribe.flush(flush)
        return scribe.entries

    return write


@pytest.fixture(scope="session")
def eventful() -> list[Recorded]:
    """A run of two minutes in which a scaling, a rejected action and an intervention happen, with all telemetry."""
    log = Scribe()
    log.add(RunIdentified(time=moment(0), identity=RunIdentity(stratum="single-fault")), truth=True)
    log.workload([(5 * i, 50 * i, 50 * i, 0) for i in range(1, 7)])
    _steady(log, 0, 30)
    log.add(PhaseEntered(time=moment(30), phase="control"))
    _act(log, "scale-1", "scale", "cart", step=0, uid="deployment-cart")
    _intervene(log, "fault-1", "cpu_pressure", "cart")
    log.add(
        RolloutsObserved(
            time=moment(60),
            rows=(_deployment(0.0, replicas=1, generation=1), _deployment(31.0, replicas=2, generation=2)),
        )
    )
    log.add(PodsTransitioned(time=moment(60), rows=(_pod(33.0, "cart-1-bbbbb"),)))
    log.add(AutoscalersObserved(time=moment(60), rows=(_autoscaler(31.0), _autoscaler(46.0, wanted=3))))
    log.add(
        RoutesObserved(
            time=moment(60),
            rows=(
                RouteStatus(
                    time=moment(40),
                    change="added",
                    name="cart-split",
                    uid="route-cart",
                    parent="cart",
                    weights={"cart-stable": 0.75, "cart-canary": 0.25},
                ),
            ),
        )
    )
    log.add(
        KubernetesEventsObserved(
            time=moment(60), rows=(_event(32.0, "deployment-cart"), _event(34.0, "pod-b", kind="Pod"))
        )
    )
    log.add(KubernetesEventsObserved(time=moment(60), rows=(_event(35.0, "chaos-1", kind="StressChaos"),)), truth=True)
    log.workload([(5 * i, 50 * i, 50 * i, 5 * (i - 6)) for i in range(7, 13)])
    log.add(SpansCollected(time=moment(60), rows=tuple(_span(31 + i, i) for i in range(20))))
    log.add(
        LogsCollected(
            time=moment(60), rows=(LogRow(time=moment(40), service="cart", severity="ERROR", body="no cache"),)
        )
    )
    log.add(
        FindingsObserved(
            time=moment(60),
            rows=(
                Finding(
                    time=moment(45),
                    key="incident:1",
                    source="incident",
                    services=("cart",),
                    symptom="latency",
                    severity="warning",
                    confidence=0.5,
                    text="cart is slow",
                ),
            ),
        )
    )
    _steady(log, 35, 60)
    _reject(log, "scale-2", "cache", step=1)
    log.add(CollectorGap(time=moment(90), source="metrics", start=moment(60), end=moment(75), reason="timeout"))
    log.workload([(5 * i, 50 * i, 50 * i, 30) for i in range(13, 25)])
    log.add(KubernetesEventsObserved(time=moment(120), rows=(_event(95.0, "deployment-cart"),)))
    _steady(log, 80, 120)
    log.add(RunEnded(time=moment(120), reason="horizon"))
    return log.entries


def _steady(log: Scribe, start: int, end: int) -> None:
    for seconds in range(start, end + 5, 5):
        log.calls(seconds, 10 * seconds, errors=float(seconds // 20))
        log.calls(seconds, 5 * seconds, service="cart")
        for service in ("frontend", "cart", "cache"):
            pod = {"k8s_deployment_name": service, "k8s_pod_name": f"{service}-1-aaaaa"}
            log.sample(seconds, 0.3 * seconds, "k8s_pod_cpu_time_seconds_total", **pod)
            log.sample(seconds, 5e7 + seconds, "k8s_pod_memory_working_set_bytes", **pod)
            log.sample(seconds, 0, "k8s_container_restarts", **pod)
            log.sample(seconds, 1.0, "k8s_container_cpu_limit", **pod)
        for bound, share in (("10", 0.5), ("100", 0.9), ("+Inf", 1.0)):
            labels = {"service_name": "frontend", "span_kind": "SPAN_KIND_SERVER", "le": bound}
            log.sample(seconds, 10 * seconds * share, "traces_span_metrics_duration_milliseconds_bucket", **labels)
        labels = {"service_name": "frontend", "span_kind": "SPAN_KIND_SERVER"}
        log.sample(seconds, 10 * seconds, "traces_span_metrics_duration_milliseconds_count", **labels)
        log.sample(seconds, 250 * seconds, "traces_span_metrics_duration_milliseconds_sum", **labels)
        log.sample(seconds, 5 * seconds, "traces_service_graph_request_total", client="frontend", server="cart")
    log.flush(end)


def _act(log: Scribe, action_id: str, kind: str, target: str, *, step: int, uid: str) -> None:
    log.add(_request(30.0, action_id, kind, target, step=step, replicas=2))
    log.add(ActionPrechecked(time=moment(30), action_id=action_id, verdict="passed"))
    touched = TouchedObject(kind="Deployment", name=target, uid=uid)
    log.add(ActionApplied(time=moment(30), action_id=action_id, objects=(touched,)))
    written = WrittenObject(
        method="PATCH", kind="deployments/scale", name=target, uid=uid, version_before="41", version_after="43"
    )
    log.add(ObjectsWritten(time=moment(30), action_id=action_id, objects=(written,)), truth=True)
    log.add(
        ActionPostchecked(
            time=moment(36), action_id=action_id, verdict="effective", effective_time=moment(36), evidence={}
        )
    )
    log.add(ActionSettled(time=moment(36), action_id=action_id, status="applied"))


def _reject(log: Scribe, action_id: str, target: str, *, step: int) -> None:
    log.add(_request(60.0, action_id, "scale", target, step=step, replicas=3))
    log.add(ActionPrechecked(time=moment(60), action_id=action_id, verdict="rejected", reason="cache is stateful"))
    log.add(ActionSettled(time=moment(60), action_id=action_id, status="rejected"))


def _intervene(log: Scribe, action_id: str, kind: str, target: str) -> None:
    request = ActionRequested(
        time=moment(30),
        action_id=action_id,
        actor="scripted",
        action_class="intervention",
        action_type=kind,
        target_kind="service",
        target=target,
        parameters={"intensity": "severe"},
        duration_ns=60 * SECOND,
    )
    touched = TouchedObject(kind="StressChaos", name="ocg-x", uid="chaos-1")
    also = TouchedObject(kind="Deployment", name="cart", uid="deployment-cart")
    verdict = ActionPostchecked(
        time=moment(32), action_id=action_id, verdict="effective", effective_time=moment(31), evidence={}
    )
    for event in (
        request,
        ActionPrechecked(time=moment(30), action_id=action_id, verdict="passed"),
        ActionApplied(time=moment(30), action_id=action_id, objects=(touched,)),
        verdict,
        _lapsed(action_id, 50, "cart-1-aaaaa"),
        ActionResumed(
            time=moment(56), action_id=action_id, places=("cart-1-bbbbb",), resumed_time=moment(55), precision_ns=SECOND
        ),
        ActionForced(time=moment(89), action_id=action_id, step="finalizers", objects=(touched,)),
        ActionReverted(time=moment(90), action_id=action_id, objects=(touched, also)),
        ActionSettled(time=moment(90), action_id=action_id, status="applied"),
    ):
        log.add(event, truth=True)


def _lapsed(action_id: str, seconds: float, *lost: str, left: tuple[str, ...] = ()) -> ActionLapsed:
    return ActionLapsed(
        time=moment(seconds + 1),
        action_id=action_id,
        lost=lost,
        left=left,
        end_time=moment(seconds),
        precision_ns=SECOND,
        reason="pod replaced",
    )


def _request(
    seconds: float, action_id: str, kind: str, target: str, *, step: int, **parameters: int
) -> ActionRequested:
    return ActionRequested(
        time=moment(seconds),
        action_id=action_id,
        actor="model",
        action_class="action",
        action_type=kind,
        target_kind="service",
        target=target,
        parameters=parameters,
        decision_step=step,
        decision_log_sequence=9,
        propensity=0.5,
        alternatives=({"type": kind, "probability": 0.5}, {"type": "noop", "probability": 0.5}),
    )


def _deployment(seconds: float, *, replicas: int, generation: int) -> RolloutStatus:
    return RolloutStatus(
        time=moment(seconds),
        change="modified",
        kind="Deployment",
        service="cart",
        name="cart",
        uid="deployment-cart",
        owner_uid="",
        generation=generation,
        observed_generation=generation,
        revision="1",
        replicas_desired=replicas,
        replicas_updated=replicas,
        replicas_ready=replicas,
        replicas_available=replicas,
        cpu_request_cores=0.5,
        cpu_limit_cores=1.0,
        memory_request_bytes=2**30,
        memory_limit_bytes=2**30,
    )


def _autoscaler(seconds: float, *, wanted: int = 2) -> AutoscalerStatus:
    return AutoscalerStatus(
        time=moment(seconds),
        change="modified" if wanted > 2 else "added",
        name="cart",
        uid="autoscaler-cart",
        deployment="cart",
        replicas_min=2,
        replicas_max=4,
        cpu_utilization_percent=60,
        replicas_current=2,
        replicas_wanted=wanted,
        active=True,
    )


def _pod(seconds: float, name: str) -> PodTransition:
    return PodTransition(
        time=moment(seconds),
        change="added",
        service="cart",
        pod=name,
        uid="pod-b",
        owner_uid="deployment-cart",
        phase="Pending",
        ready=False,
        restart_count=0,
    )


def _event(seconds: float, uid: str, *, kind: str = "Deployment") -> KubernetesEvent:
    return KubernetesEvent(
        time=moment(seconds),
        type="Normal",
        reason="Something",
        message=f"about {uid}",
        object_kind=kind,
        object_name="cart",
        object_uid=uid,
        component="controller",
        count=1,
    )


def _span(seconds: float, number: int) -> Span:
    return Span(
        time=moment(seconds),
        duration_ns=5_000_000,
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id="",
        service="cart",
        peer="",
        operation="GetCart",
        kind="server",
        protocol="grpc",
        status="error" if number == 3 else "unset",
        attributes={"error.type": "timeout"} if number == 3 else {},
        sampling_probability=0.25,
    )
