"""Every event: the language that the rooms speak.

An event is data only: its constructor invents nothing, the log stamps the envelope (`Recorded`). The tag (`action.applied.1`) is
the contract, not the class name; a change that old bodies can't answer is a new version and an upcaster (`engine.upcasters`).

Families: run, action, telemetry, truth. Events of the truth stream say what was done to the stand behind the policy's back; all
others are public. An action's life-cycle events exist in both streams: `truth=True` when they belong to an intervention.

Bulk telemetry is one event with many rows; a row's address is (seq, row). Rows are in (time, key) order, but samples: they lie
series by series, each in time order, because a fold's cell and the packing both want a series' neighbours.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.settings import RunSettings

__all__ = (
    "EVENT_TYPES",
    "ActionApplied",
    "ActionFailed",
    "ActionPostchecked",
    "ActionPrechecked",
    "ActionRequested",
    "ActionReverted",
    "ActionSettled",
    "Actor",
    "BranchTaken",
    "BulkEvent",
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
    "PhaseEntered",
    "PodTransition",
    "PodsTransitioned",
    "Recorded",
    "RolloutStatus",
    "RolloutsObserved",
    "RunAborted",
    "RunDeclared",
    "RunEnded",
    "SamplesCollected",
    "SeriesDeclaration",
    "SeriesDeclared",
    "Span",
    "SpansCollected",
    "TouchedObject",
    "TruthDeclared",
    "WorkloadObserved",
    "WorkloadState",
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


class ClockAdvanced(Event, frozen=True, kw_only=True, tag="run.clock.1"):
    """One step (or warm-up, cool-down) is over: all telemetry up to `time` is in the log before this event."""

    since: int
    decision_step: int | None  #: null outside control
    lag_ns: int = 0  #: how far collectors were behind the barrier (always 0 on the twin)


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
    asked: dict[str, Any] | None = None  #: the action's JSON form as it was asked for: what a rerun asks for again


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


class ActionReverted(Event, frozen=True, kw_only=True, tag="action.reverted.1"):
    """What a timed action or an intervention changed was taken back."""

    action_id: str
    objects: tuple[TouchedObject, ...] = ()
    verified: bool = True  #: the stand was seen without it
    evidence: dict[str, Any] = {}


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
    severity: str
    body: str
    trace_id: str = ""
    span_id: str = ""
    attributes: dict[str, str] = {}


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
    reason: str = ""  #: of a waiting or terminated container, e.g. OOMKilled
    terminating: bool = False


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


class RolloutsObserved(BulkEvent, frozen=True, kw_only=True, tag="kubernetes.rollouts.1"):
    """Deployment and ReplicaSet changes since the last flush."""

    rows: tuple[RolloutStatus, ...]


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
    """Findings that are new or changed since the last poll; an empty one says that a poll succeeded and found nothing new."""

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


class WorkloadObserved(BulkEvent, frozen=True, kw_only=True, tag="telemetry.workload.1"):
    """Readings of the load generator since the last flush, one per scrape interval."""

    rows: tuple[WorkloadState, ...]


class CollectorGap(Event, frozen=True, kw_only=True, tag="telemetry.gap.1"):
    """A source gave nothing for [start, end): a failed scrape, a dropped watch, a late batch. `time` is when that was known."""

    source: str  #: metrics, spans, logs, kubernetes, findings, workload
    start: int
    end: int
    reason: str


# --- truth ----------------------------------------------------------------------------------------------------------------


class TruthDeclared(Event, frozen=True, kw_only=True, tag="truth.declared.1"):
    """First event of the truth stream: the script of the run."""

    seed: int
    scenario: dict[str, Any]
    workload: dict[str, Any]
    twin: dict[str, Any]


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
    ActionReverted,
    ActionSettled,
    SeriesDeclared,
    SamplesCollected,
    SpansCollected,
    LogsCollected,
    KubernetesEventsObserved,
    PodsTransitioned,
    RolloutsObserved,
    FindingsObserved,
    WorkloadObserved,
    CollectorGap,
    TruthDeclared,
    BranchTaken,
)
"""The closed union, in the order of the event catalogue."""


def type_tag(event: Event | type[Event]) -> str:
    """Return an event's tag, e.g. `action.applied.1`."""
    return str(event.__struct_config__.tag)
