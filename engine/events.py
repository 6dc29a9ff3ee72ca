"""Every event: the language that the rooms speak.

An event is data only: its constructor invents nothing, the log stamps the envelope (`Recorded`). The tag (`action.applied.1`) is
the contract, not the class name; a change that old bodies can't answer is a new version and an upcaster (`engine.upcasters`).

Families: run, action, telemetry, truth, clean. Events of the truth stream say what was done to the stand behind the policy's back, or
(clean) what its telemetry was before it was distorted; all others are public. An action's life-cycle events exist in both streams:
`truth=True` when they belong to an intervention.

Bulk telemetry is one event with many rows; a row's address is (seq, row). Rows are in (time, key) order, but samples: they lie
series by series, each in time order, because a fold's cell and the packing both want a series' neighbours.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.settings import RunIdentity, RunSettings

__all__ = (
    "EVENT_TYPES",
    "ActionApplied",
    "ActionFailed",
    "ActionForced",
    "ActionLapsed",
    "ActionPostchecked",
    "ActionPrechecked",
    "ActionRequested",
    "ActionResumed",
    "ActionReverted",
    "ActionSettled",
    "Actor",
    "AutoscalerStatus",
    "AutoscalersObserved",
    "BranchTaken",
    "BulkEvent",
    "CleanAutoscalers",
    "CleanFindings",
    "CleanGap",
    "CleanKubernetesEvents",
    "CleanLogs",
    "CleanPods",
    "CleanRollouts",
    "CleanRoutes",
    "CleanSamples",
    "CleanSeries",
    "CleanSpans",
    "CleanWorkload",
    "ClockAdvanced",
    "CollectorGap",
    "EnvironmentRecorded",
    "Event",
    "Finding",
    "FindingsObserved",
    "GraphEdge",
    "GraphNode",
    "GraphObserved",
    "InverseCall",
    "KubernetesEvent",
    "KubernetesEventsObserved",
    "LogRow",
    "LogsCollected",
    "ObjectsWritten",
    "PhaseEntered",
    "PodTransition",
    "PodsTransitioned",
    "Recorded",
    "RolloutStatus",
    "RolloutsObserved",
    "RouteStatus",
    "RoutesObserved",
    "RunAborted",
    "RunDeclared",
    "RunEnded",
    "RunIdentified",
    "SamplesCollected",
    "SeriesDeclaration",
    "SeriesDeclared",
    "Span",
    "SpansCollected",
    "TouchedObject",
    "TruthDeclared",
    "WorkloadObserved",
    "WorkloadState",
    "WrittenObject",
    "type_tag",
)

Phase: TypeAlias = Literal["reset", "warmup", "control", "cooldown"]
Actor: TypeAlias = Literal["scripted", "human", "model", "baseline", "external"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of every event.

    `time` is episode time [ns since the epoch, UTC]: when the thing happened; for telemetry, the moment up to which it was
    collected.
    """

    time: int


class BulkEvent(Event, frozen=True, kw_only=True, tag_field="type"):
    """Base of events with many rows; their bodies are packed (`engine.codec`), all others are JSON."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """Base of a bulk event's rows."""


# --- run ------------------------------------------------------------------------------------------------------------------


class RunDeclared(Event, frozen=True, kw_only=True, tag="run.declared.1"):
    """First event of a run: what is known beforehand, without the script. `time` is the origin of all buckets."""

    contract_version: int
    settings: RunSettings


class EnvironmentRecorded(Event, frozen=True, kw_only=True, tag="run.environment.1"):
    """What isn't reproducible: versions, host, wall times. The only event that the content digest leaves out."""

    versions: dict[str, str]
    host: dict[str, str]
    wall_time: str
    stand: dict[str, str]
    git_shas: dict[str, str] = {}
    lock: str = ""  #: digest of the names and versions of all that was installed


class GraphNode(Row, frozen=True, kw_only=True):
    """A node of the declared graph; `id` is the value of `service` in every table."""

    id: str
    kind: Literal["service", "workload", "dependency"]
    namespace: str
    deployment: str
    container: str
    endpoint: str
    kubernetes_kind: str
    optional_group: str | None = None


class GraphEdge(Row, frozen=True, kw_only=True):
    """A directed edge of the declared graph."""

    source: str
    target: str
    protocol: str
    basis: Literal["expected", "observed"] = "expected"


class GraphObserved(Event, frozen=True, kw_only=True, tag="run.graph.1"):
    """The graph whose nodes and edges the tables have, in the order of the observation's axes."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


class PhaseEntered(Event, frozen=True, kw_only=True, tag="run.phase.1"):
    """The episode entered reset, warm-up, control or cool-down."""

    phase: Phase


class ClockAdvanced(Event, frozen=True, kw_only=True, omit_defaults=True, tag="run.clock.1"):
    """One step (or warm-up, cool-down) is over: all telemetry up to `time` is in the log before this event.

    What only a cluster has to tell is left out elsewhere: the twin's events are byte for byte what they were before there were clusters.
    """

    since: int
    decision_step: int | None  #: null outside control
    lag_ns: int  #: how far collectors were behind the barrier: the largest of `source_lags_ns` (always 0 on the twin)
    source_lags_ns: dict[str, int] = {}  #: source -> how far before `time` what it told ended (`Collector.newest`)
    waited_ns: int = 0  #: how long after `time` it was waited for what is late; not part of the step
    drift_ns: int = 0  #: how long after `since` the step's decision was taken


class RunEnded(Event, frozen=True, kw_only=True, tag="run.ended.1"):
    """Last event of a run that was closed in order."""

    reason: Literal["horizon", "goal", "emergency", "reset_required", "stand_lost", "closed"]


class RunAborted(Event, frozen=True, kw_only=True, tag="run.aborted.1"):
    """Last event of a run that didn't end in order; written by the run itself or by recovery."""

    reason: str


# --- action ---------------------------------------------------------------------------------------------------------------


class ActionRequested(Event, frozen=True, kw_only=True, tag="action.requested.1"):
    """Somebody wants to act. Durable before any call that changes the stand (write-ahead)."""

    action_id: str
    parent_action_id: str | None = None
    actor: Actor
    action_class: Literal["action", "intervention"]
    action_type: str
    target_kind: Literal["none", "service", "edge", "group", "workload"]
    target: str  #: service, `source->target`, group; empty for none and workload
    parameters: dict[str, Any]  #: resolved numbers; the unit is in the name
    duration_ns: int | None = None  #: null: lasts until something else changes it
    decision_step: int | None = None
    decision_log_sequence: int | None = None  #: public position that the decision could know
    propensity: float | None = None
    alternatives: tuple[dict[str, Any], ...] | None = None
    policy_version: str = ""
    policy_information: Literal["public", "privileged"] = "public"
    root_cause_kind: str = ""  #: what of the graph the target is: service, dependency, workload, edge, group, none
    expected_symptoms: tuple[str, ...] = ()  #: `entity:symptom`, by the catalogue and the service graph


class InverseCall(Row, frozen=True, kw_only=True):
    """A call that takes a change back, complete: whoever finds it in the log needs to know nothing else."""

    api: Literal["kubernetes", "load_generator", "flagd"]
    method: str
    path: str  #: without a leading slash
    content_type: str = "application/json"
    body: Any = None  #: a JSON document; null: none


class ActionPrechecked(Event, frozen=True, kw_only=True, tag="action.prechecked.1"):
    """The verdict before anything is touched."""

    action_id: str
    verdict: Literal["passed", "rejected"]
    reason: str = ""
    evidence: dict[str, Any] = {}
    inverse: tuple[InverseCall, ...] = ()  #: what takes the change back, known before it is made


class TouchedObject(Row, frozen=True, kw_only=True):
    """A Kubernetes object (or an endpoint, kind `HTTP`) that an action wrote, as the server named it.

    Without its resourceVersion: that counts all writes to the cluster, and a leap would tell of those that a policy mustn't see.
    """

    kind: str
    name: str
    uid: str


class ActionApplied(Event, frozen=True, kw_only=True, tag="action.applied.1"):
    """The API accepted the change. Says nothing yet about the effect: see `ActionPostchecked`."""

    action_id: str
    objects: tuple[TouchedObject, ...]


class ActionFailed(Event, frozen=True, kw_only=True, tag="action.failed.1"):
    """An API refused, timed out, or couldn't be reached, in the named stage."""

    action_id: str
    stage: Literal["precheck", "apply", "postcheck", "revert"]
    error: str


class ActionPostchecked(Event, frozen=True, kw_only=True, tag="action.postchecked.1"):
    """The last word on whether the change took effect on the stand, with what was seen."""

    action_id: str
    verdict: Literal["effective", "partial", "unverified"]
    effective_time: int | None  #: when the stand first showed it; null if never seen
    evidence: dict[str, Any]
    precision_ns: int | None = None  #: how much earlier it may have been; null: not said (early logs), or never seen


class ActionLapsed(Event, frozen=True, kw_only=True, tag="action.lapsed.1"):
    """What was in force isn't any more where it was, though we didn't take it back: its pod or container was replaced, a flag was reset.

    `time` is when that was seen. Of a fault that lasts beyond this `left` names what still has it.
    """

    action_id: str
    lost: tuple[str, ...]  #: pods (or a Deployment, Service, flag) that no longer have it
    left: tuple[str, ...]  #: those that still have it; none: it is no longer in force at all
    end_time: int  #: when it ended there, at the latest
    precision_ns: int  #: how much earlier that may have been
    reason: str


class ActionResumed(Event, frozen=True, kw_only=True, tag="action.resumed.1"):
    """A fault that had lapsed is in force again, as it should be: it was brought to the pods that took over."""

    action_id: str
    places: tuple[str, ...]  #: where it is in force
    resumed_time: int  #: when it was so again, at the latest
    precision_ns: int  #: how much earlier that may have been


class ActionForced(Event, frozen=True, kw_only=True, tag="action.forced.1"):
    """An object that didn't go by itself when an action was taken back was made to."""

    action_id: str
    step: Literal["annotation", "finalizers", "pods"]  #: the controller told, its finalizers taken, the pods deleted
    objects: tuple[TouchedObject, ...]
    error: str = ""  #: of the step, if it was refused


class ActionReverted(Event, frozen=True, kw_only=True, tag="action.reverted.1"):
    """What a timed action or an intervention changed was taken back."""

    action_id: str
    objects: tuple[TouchedObject, ...] = ()
    verified: bool = True  #: the stand was seen without it
    evidence: dict[str, Any] = {}
    precision_ns: int | None = (
        None  #: how much earlier it may have been gone; null: not said (early logs), or never seen
    )


class ActionSettled(Event, frozen=True, kw_only=True, tag="action.settled.1"):
    """The final status of an attempt; every requested action has exactly one."""

    action_id: str
    status: Literal["rejected", "failed", "applied", "partial", "unverified"]


# --- telemetry ------------------------------------------------------------------------------------------------------------


class SeriesDeclaration(Row, frozen=True, kw_only=True):
    """A Prometheus series: its number in this run and its labels, `__name__` included, sorted by name."""

    series: int
    labels: dict[str, str]


class SeriesDeclared(BulkEvent, frozen=True, kw_only=True, tag="telemetry.series.1"):
    """New series; numbers are dense and ascending over the run."""

    rows: tuple[SeriesDeclaration, ...]


class SamplesCollected(BulkEvent, frozen=True, kw_only=True, eq=False, tag="telemetry.samples.1"):
    """Raw cumulative or gauge samples since the last flush, sorted by (series, time); three columns of equal length."""

    series: npt.NDArray[np.int32]
    times: npt.NDArray[np.int64]  #: ns
    values: npt.NDArray[np.float64]


class Span(Row, frozen=True, kw_only=True):
    """A sampled span; `time` is its end (spans count by their end)."""

    time: int
    duration_ns: int
    trace_id: str  #: 32 hex digits
    span_id: str  #: 16 hex digits
    parent_span_id: str  #: empty for a root
    service: str
    peer: str  #: the other end of a client span, else empty
    operation: str
    kind: Literal["server", "client", "internal", "producer", "consumer"]
    protocol: str
    status: Literal["unset", "ok", "error"]
    attributes: dict[str, str] = {}
    sampling_probability: float = 1.0


class SpansCollected(BulkEvent, frozen=True, kw_only=True, tag="telemetry.spans.1"):
    """Spans that arrived since the last flush."""

    rows: tuple[Span, ...]


class LogRow(Row, frozen=True, kw_only=True):
    """A log record of an application."""

    time: int
    service: str
    severity: (
        str  #: TRACE, DEBUG, INFO, WARN, ERROR, FATAL or UNSPECIFIED; logs of contract 1 have the sender's own spelling
    )
    body: str
    trace_id: str = ""
    span_id: str = ""
    attributes: dict[str, str] = {}
    severity_number: int = 0  #: as OpenTelemetry numbers it, 1..24; 0: unspecified
    sampling_probability: float = 1.0  #: with which it was kept: counts are weighted by its inverse


class LogsCollected(BulkEvent, frozen=True, kw_only=True, tag="telemetry.logs.1"):
    """Log records that arrived since the last flush."""

    rows: tuple[LogRow, ...]


class KubernetesEvent(Row, frozen=True, kw_only=True):
    """A core/v1 Event as the API server showed it."""

    time: int
    type: str  #: Normal, Warning
    reason: str
    message: str
    object_kind: str
    object_name: str
    object_uid: str
    component: str
    count: int


class KubernetesEventsObserved(BulkEvent, frozen=True, kw_only=True, tag="kubernetes.events.1"):
    """Kubernetes Events since the last flush (chaos-mesh.org's own go to the truth stream)."""

    rows: tuple[KubernetesEvent, ...]


class PodTransition(Row, frozen=True, kw_only=True):
    """A pod's state after a change that the watch delivered."""

    time: int
    change: Literal["added", "modified", "deleted"]
    service: str
    pod: str
    uid: str
    owner_uid: str  #: of the ReplicaSet
    phase: str
    ready: bool
    restart_count: int
    reason: str = ""  #: of a waiting or terminated container, or of a running one's end before, e.g. OOMKilled
    terminating: bool = False
    node: str = ""  #: that it is scheduled to; empty: none yet (in logs of contract version 1: not told)
    running: bool | None = None  #: all its containers run; null: not told


class PodsTransitioned(BulkEvent, frozen=True, kw_only=True, tag="kubernetes.pods.1"):
    """Pod transitions since the last flush."""

    rows: tuple[PodTransition, ...]


class RolloutStatus(Row, frozen=True, kw_only=True):
    """A Deployment's or ReplicaSet's state after a change that the watch delivered."""

    time: int
    change: Literal["added", "modified", "deleted"]
    kind: Literal["Deployment", "ReplicaSet"]
    service: str
    name: str
    uid: str
    owner_uid: str  #: of a ReplicaSet's Deployment
    generation: int
    observed_generation: int
    revision: str
    replicas_desired: int
    replicas_updated: int
    replicas_ready: int
    replicas_available: int
    cpu_request_cores: float | None = None
    cpu_limit_cores: float | None = None
    memory_request_bytes: int | None = None
    memory_limit_bytes: int | None = None
    images: tuple[str, ...] = ()  #: of the template's containers
    stalled: str = ""  #: why a Deployment doesn't progress (ProgressDeadlineExceeded), or that it is paused


class RolloutsObserved(BulkEvent, frozen=True, kw_only=True, tag="kubernetes.rollouts.1"):
    """Deployment and ReplicaSet changes since the last flush."""

    rows: tuple[RolloutStatus, ...]


class AutoscalerStatus(Row, frozen=True, kw_only=True):
    """A HorizontalPodAutoscaler's state after a change that the watch delivered and that shows in these fields."""

    time: int
    change: Literal["added", "modified", "deleted"]
    name: str
    uid: str
    deployment: str  #: that it scales
    replicas_min: int
    replicas_max: int
    cpu_utilization_percent: int | None  #: aimed at, of the request; null: it scales by something else
    replicas_current: int
    replicas_wanted: int  #: its latest decision
    active: bool  #: it can read what it scales by


class AutoscalersObserved(BulkEvent, frozen=True, kw_only=True, tag="kubernetes.autoscalers.1"):
    """Changes of autoscalers since the last flush."""

    rows: tuple[AutoscalerStatus, ...]


class RouteStatus(Row, frozen=True, kw_only=True):
    """An HTTPRoute's state after a change that the watch delivered and that shows in these fields."""

    time: int
    change: Literal["added", "modified", "deleted"]
    name: str
    uid: str
    parent: str  #: Service (or Gateway) whose traffic it splits
    weights: dict[str, float]  #: backend Service -> share of the traffic


class RoutesObserved(BulkEvent, frozen=True, kw_only=True, tag="kubernetes.routes.1"):
    """Changes of routes since the last flush."""

    rows: tuple[RouteStatus, ...]


class Finding(Row, frozen=True, kw_only=True):
    """A finding of Coroot (a suspicion, never truth)."""

    time: int
    key: str
    source: Literal["incident", "alert", "check", "edge"]
    services: tuple[str, ...]
    edges: tuple[str, ...] = ()  #: `source->target`
    symptom: str
    severity: str
    confidence: float
    text: str
    suggested_cause: str = ""
    resolved: int | None = None


class FindingsObserved(BulkEvent, frozen=True, kw_only=True, tag="telemetry.findings.1"):
    """Findings that are new or changed since the last poll; an empty one says that a poll succeeded and found nothing new.

    `time` is the poll's moment (in logs of contract version 1, that of the flush after it).
    """

    rows: tuple[Finding, ...]


class WorkloadState(Row, frozen=True, kw_only=True):
    """The load generator's own account, cumulative since the run began; a closed loop offers what its users ask for."""

    time: int
    users_target: int
    users_active: int
    spawn_rate_per_s: float
    scheduled: int  #: requests that users made
    served: int  #: of those: answered, with or without error
    failed: int  #: of those served: answered with an error or refused
    state: str
    mix: dict[str, float] = {}  #: flow -> share of tasks
    rate_per_s: float | None = None  #: tasks per second of open arrivals; null: a closed loop of users, or not told


class WorkloadObserved(BulkEvent, frozen=True, kw_only=True, tag="telemetry.workload.1"):
    """Readings of the load generator since the last flush, one per scrape interval."""

    rows: tuple[WorkloadState, ...]


class CollectorGap(Event, frozen=True, kw_only=True, tag="telemetry.gap.1"):
    """A source gave nothing for [start, end): a failed scrape, a dropped watch, a late batch. `time` is when that was known."""

    source: str  #: metrics, spans, logs, kubernetes, findings, workload
    start: int
    end: int
    reason: str
    services: tuple[str, ...] = ()  #: whose part of the source is missing; empty: all of it


# --- truth ----------------------------------------------------------------------------------------------------------------


class WrittenObject(Row, frozen=True, kw_only=True):
    """A write to a Kubernetes object, with what a policy mustn't see: versions count all writes to the cluster."""

    method: str
    kind: str  #: as in the path: `deployments`, `deployments/scale`
    name: str
    uid: str
    version_before: str  #: resourceVersion that was read last before the write; empty: none was
    version_after: str  #: resourceVersion in the answer; empty: the object is gone, or the answer has none


class ObjectsWritten(Event, frozen=True, kw_only=True, tag="truth.objects.1"):
    """What an action, a policy's too, has written to Kubernetes objects; always in the truth stream."""

    action_id: str
    objects: tuple[WrittenObject, ...]


class TruthDeclared(Event, frozen=True, kw_only=True, tag="truth.declared.1"):
    """First event of the truth stream: the script of the run."""

    seed: int
    scenario: dict[str, Any]
    workload: dict[str, Any]
    twin: dict[str, Any]


# --- clean: telemetry as the stand showed it, in the truth stream of a run whose public telemetry is distorted -------------------


class CleanSeries(SeriesDeclared, frozen=True, kw_only=True, tag="clean.series.1"):
    """`SeriesDeclared` before distortion; numbers are those of `CleanSamples`."""


class CleanSamples(SamplesCollected, frozen=True, kw_only=True, eq=False, tag="clean.samples.1"):
    """`SamplesCollected` before distortion."""


class CleanSpans(SpansCollected, frozen=True, kw_only=True, tag="clean.spans.1"):
    """`SpansCollected` before distortion."""


class CleanLogs(LogsCollected, frozen=True, kw_only=True, tag="clean.logs.1"):
    """`LogsCollected` before distortion."""


class CleanKubernetesEvents(KubernetesEventsObserved, frozen=True, kw_only=True, tag="clean.events.1"):
    """`KubernetesEventsObserved` before distortion."""


class CleanPods(PodsTransitioned, frozen=True, kw_only=True, tag="clean.pods.1"):
    """`PodsTransitioned` before distortion."""


class CleanRollouts(RolloutsObserved, frozen=True, kw_only=True, tag="clean.rollouts.1"):
    """`RolloutsObserved` before distortion."""


class CleanAutoscalers(AutoscalersObserved, frozen=True, kw_only=True, tag="clean.autoscalers.1"):
    """`AutoscalersObserved` before distortion."""


class CleanRoutes(RoutesObserved, frozen=True, kw_only=True, tag="clean.routes.1"):
    """`RoutesObserved` before distortion."""


class CleanFindings(FindingsObserved, frozen=True, kw_only=True, tag="clean.findings.1"):
    """`FindingsObserved` before distortion."""


class CleanWorkload(WorkloadObserved, frozen=True, kw_only=True, tag="clean.workload.1"):
    """`WorkloadObserved` before distortion."""


class CleanGap(CollectorGap, frozen=True, kw_only=True, tag="clean.gap.1"):
    """A `CollectorGap` that wasn't made by distortion."""


class RunIdentified(Event, frozen=True, kw_only=True, tag="truth.identified.1"):
    """Which place the run has among others. Not part of what happened in it: the content digest leaves it out, as `EnvironmentRecorded`."""

    identity: RunIdentity


class BranchTaken(Event, frozen=True, kw_only=True, tag="truth.branched.1"):
    """From here on this run is another future of an earlier run: what comes before was rerun from that run's log.

    Where a run comes from isn't part of what happened in it: as `EnvironmentRecorded`, this event is left out of the content digest, so
    that a branch that decides as its parent did has its parent's digest.
    """

    parent_run_id: str
    parent_digest: str  #: content digest of what both runs have in common
    decision_step: int  #: the first one that is this run's own
    randomness: Literal["same", "fresh"]
    seed: int | None = None  #: of the draws from here on; null: as in the parent
    pair_id: str | None = None  #: the branches that are compared with each other
    interventions: tuple[dict[str, Any], ...] | None = (
        None  #: planned from here on, instead of the script's; null: the script's
    )


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """An event with its envelope: where it stands in which stream."""

    seq: int  #: JetStream's sequence in its own stream, from 1
    event: Event
    truth: bool = False
    after_seq: int = 0  #: truth only: the public sequence that it follows


EVENT_TYPES: tuple[type[Event], ...] = (
    RunDeclared,
    EnvironmentRecorded,
    GraphObserved,
    PhaseEntered,
    ClockAdvanced,
    RunEnded,
    RunAborted,
    ActionRequested,
    ActionPrechecked,
    ActionApplied,
    ActionFailed,
    ActionPostchecked,
    ActionLapsed,
    ActionResumed,
    ActionForced,
    ActionReverted,
    ActionSettled,
    SeriesDeclared,
    SamplesCollected,
    SpansCollected,
    LogsCollected,
    KubernetesEventsObserved,
    PodsTransitioned,
    RolloutsObserved,
    AutoscalersObserved,
    RoutesObserved,
    FindingsObserved,
    WorkloadObserved,
    CollectorGap,
    TruthDeclared,
    CleanSeries,
    CleanSamples,
    CleanSpans,
    CleanLogs,
    CleanKubernetesEvents,
    CleanPods,
    CleanRollouts,
    CleanAutoscalers,
    CleanRoutes,
    CleanFindings,
    CleanWorkload,
    CleanGap,
    RunIdentified,
    ObjectsWritten,
    BranchTaken,
)
"""The closed union, in the order of the event catalogue."""


def type_tag(event: Event | type[Event]) -> str:
    """Return an event's tag, e.g. `action.applied.1`."""
    return str(event.__struct_config__.tag)
