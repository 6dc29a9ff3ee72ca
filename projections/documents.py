"""The JSON files of a run as data: every field with its type and meaning, and a JSON Schema of each file made of them.

In: nothing. Out: a record per file (per line, for those of lines), and `json_schema`. The writers (`metadata`, `suspicions`, `dataset`)
make plain objects; `validation` and the tests hold these against them. Words about a field stand here alone: schema and data
dictionary are made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from otel_control_gym.engine.errors import UsageError, nearest

__all__ = (
    "DOCUMENTS",
    "METADATA_KEYS",
    "TRUTH_KEYS",
    "Document",
    "FindingRecord",
    "GraphFile",
    "KubernetesEventLine",
    "LogLine",
    "MetadataFile",
    "json_schema",
)

_DIALECT = "https://json-schema.org/draft/2020-12/schema"

_Time = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
        description="RFC 3339, UTC, microseconds",
        extra_json_schema={"format": "date-time"},
    ),
]
_Id = Annotated[str, Meta(min_length=1)]
_Sha256 = Annotated[str, Meta(pattern=r"^([0-9a-f]{64})?$", description="SHA-256, hexadecimal; empty without one")]
_Share = Annotated[float, Meta(ge=0, le=1)]
_Visibility = Annotated[
    Literal["public", "truth"], Meta(description="public: a policy could know it; truth: only in hindsight")
]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what files hold: every field is there, and no other."""


# --- graph.json -----------------------------------------------------------------------------------------------------------


class NodeRecord(_Record, frozen=True, kw_only=True):
    """A service, workload or dependency."""

    id: Annotated[str, Meta(min_length=1, description="value of `service`, `source`, `target` in every table")]
    kind: Annotated[Literal["service", "workload", "dependency"], Meta(description="what it is to the application")]
    namespace: Annotated[str, Meta(description="Kubernetes namespace")]
    deployment: Annotated[str, Meta(description="name of the Kubernetes object that runs it")]
    container: Annotated[str, Meta(description="container whose metrics are its own")]
    endpoint: Annotated[str, Meta(description="host and port at which it is called; empty if it isn't")]
    kubernetes_kind: Annotated[str, Meta(description="kind of that object")]
    optional_group: Annotated[str | None, Meta(description="group that can be switched off as a whole")]
    valid_from: Annotated[_Time, Meta(description="first moment at which it was there")]
    valid_to: Annotated[_Time | None, Meta(description="first moment at which it wasn't any more; null: to the end")]


class EdgeRecord(_Record, frozen=True, kw_only=True):
    """Who calls whom."""

    source: Annotated[str, Meta(min_length=1, description="calling node")]
    target: Annotated[str, Meta(min_length=1, description="called node")]
    protocol: Annotated[str, Meta(description="http, grpc, sql, resp or kafka")]
    basis: Annotated[Literal["expected", "observed"], Meta(description="declared, or seen in the telemetry")]
    valid_from: Annotated[_Time, Meta(description="first moment at which it was there")]
    valid_to: Annotated[_Time | None, Meta(description="first moment at which it wasn't any more; null: to the end")]


class GraphFile(_Record, frozen=True, kw_only=True):
    """Nodes and edges of the application; their ids are the keys of the tables."""

    nodes: Annotated[list[NodeRecord], Meta(description="in the order of the axis N of observations")]
    edges: Annotated[list[EdgeRecord], Meta(description="in the order of the axis E of observations")]


# --- records --------------------------------------------------------------------------------------------------------------


class FindingRecord(_Record, frozen=True, kw_only=True):
    """A finding of Coroot, as it was last seen."""

    timestamp: Annotated[_Time, Meta(description="when it was first seen")]
    key: Annotated[str, Meta(min_length=1, description="what makes it the same finding when it is seen again")]
    source: Annotated[str, Meta(description="incident, alert, check or edge")]
    affected_services: Annotated[list[str], Meta(description="nodes of graph.json that it names")]
    affected_edges: Annotated[list[str], Meta(description="edges that it names, `source->target`")]
    symptom_class: Annotated[str, Meta(description="latency, errors, cpu, memory, …")]
    severity: Annotated[str, Meta(description="in Coroot's words: critical, warning, info")]
    confidence: Annotated[_Share, Meta(description="how sure Coroot is")]
    text: Annotated[str, Meta(description="in Coroot's words")]
    suggested_cause: Annotated[str, Meta(description="service that Coroot suspects; empty without")]
    resolved: Annotated[_Time | None, Meta(description="when it was over; null: never seen to be")]


class LogLine(_Record, frozen=True, kw_only=True):
    """A log record of an application."""

    time: Annotated[_Time, Meta(description="its own time")]
    service: Annotated[str, Meta(description="who wrote it")]
    severity: Annotated[str, Meta(description="TRACE, DEBUG, INFO, WARN, ERROR, FATAL, or UNSPECIFIED")]
    severity_number: Annotated[int, Meta(ge=0, le=24, description="as OpenTelemetry numbers it; 0 where not told")]
    sampling_probability: Annotated[_Share, Meta(description="probability with which the record was kept")]
    body: Annotated[str, Meta(description="the message")]
    trace_id: Annotated[str, Meta(description="trace in which it was written, 32 hex digits; empty without")]
    span_id: Annotated[str, Meta(description="span in which it was written, 16 hex digits; empty without")]
    attributes: Annotated[dict[str, str], Meta(description="other attributes, of the resource too")]
    visibility: _Visibility


class KubernetesEventLine(_Record, frozen=True, kw_only=True):
    """A core/v1 Event as the API server showed it."""

    time: Annotated[_Time, Meta(description="when it last happened")]
    type: Annotated[str, Meta(description="Normal or Warning")]
    reason: Annotated[str, Meta(description="in one word")]
    message: Annotated[str, Meta(description="in a sentence")]
    object_kind: Annotated[str, Meta(description="what it is about: kind")]
    object_name: Annotated[str, Meta(description="its name")]
    object_uid: Annotated[str, Meta(description="its UID")]
    component: Annotated[str, Meta(description="who reports it")]
    count: Annotated[int, Meta(ge=0, description="how often it happened")]
    visibility: _Visibility


# --- metadata.json --------------------------------------------------------------------------------------------------------


class ScheduledAction(_Record, frozen=True, kw_only=True):
    """An action or intervention, as it was asked for."""

    action_id: Annotated[str, Meta(min_length=1, description="row of actions.parquet")]
    at_seconds: Annotated[float, Meta(description="after the run's start")]
    type: Annotated[str, Meta(description="entry of the catalogue")]
    target: Annotated[str, Meta(description="what was aimed at; empty for the workload")]
    parameters: Annotated[dict[str, Any], Meta(description="resolved; the unit is in the name")]
    duration_s: Annotated[float | None, Meta(description="planned; null: until something else changes it")]


class GranularityRecord(_Record, frozen=True, kw_only=True):
    """The ten times of a run, in seconds; the bucket is that of the tables."""

    control_step_seconds: Annotated[int, Meta(ge=1, description="time between two decisions")]
    observation_bucket_seconds: Annotated[int, Meta(ge=1, description="width of a row of the feature tables")]
    observation_window_seconds: Annotated[int, Meta(ge=1, description="what a policy saw at once")]
    reward_bucket_seconds: Annotated[int, Meta(ge=1, description="width of a row of rewards.parquet")]
    scrape_interval_seconds: Annotated[int, Meta(ge=1, description="time between two readings of metrics")]
    trace_aggregation_seconds: Annotated[int, Meta(ge=1, description="window of trace summaries")]
    log_pattern_window_seconds: Annotated[int, Meta(ge=1, description="window of log patterns and error summaries")]
    action_duration_seconds: Annotated[int, Meta(ge=0, description="duration of actions that name none")]
    warmup_seconds: Annotated[int, Meta(ge=0, description="before control")]
    cooldown_seconds: Annotated[int, Meta(ge=0, description="after control")]


class Hashes(_Record, frozen=True, kw_only=True):
    """What the run was made with, as digests."""

    event_log: Annotated[_Sha256, Meta(description="of event_log.zst")]
    files: Annotated[dict[str, _Sha256], Meta(description="of each other file but metadata.json")]
    lock: Annotated[str, Meta(description="of the list of installed packages")]
    metric_map: Annotated[_Sha256, Meta(description="of which series feed which columns")]
    reward_config: Annotated[_Sha256, Meta(description="of the reward's configuration")]
    twin_model: Annotated[str, Meta(description="of the twin's sources; empty on a cluster")]


class GroundTruth(_Record, frozen=True, kw_only=True):
    """What of the files is known in hindsight only, what is a suspicion, what is computed of other columns."""

    truth: Annotated[dict[str, list[str]], Meta(description="table: columns of ground truth")]
    weak: Annotated[dict[str, list[str]], Meta(description="table: columns of a tool's suspicion")]
    derived: Annotated[dict[str, list[str]], Meta(description="table: columns computed of other columns")]
    rows_by_visibility: Annotated[list[str], Meta(description="files in which `visibility` says it for each row")]
    metadata: Annotated[list[str], Meta(description="keys of this document that are truth")]


class MetadataFile(_Record, frozen=True, kw_only=True):
    """What the run was. What a stand can't tell is null or empty, never absent."""

    contract_version: Annotated[int, Meta(ge=1, description="of these files")]
    run_id: Annotated[_Id, Meta(description="the run; time-ordered")]
    status: Annotated[
        Literal["completed", "aborted", "void"],
        Meta(
            description="completed; aborted: it broke off; void: kept, but the stand was sick before anything was done, see void_rule"
        ),
    ]
    void_rule: Annotated[str | None, Meta(description="id of the rule by which it is void")]
    void_reason: Annotated[str | None, Meta(description="what was seen that broke that rule")]
    done_reason: Annotated[str | None, Meta(description="horizon, goal, emergency, reset_required, stand_lost, closed")]
    stand: Annotated[Literal["twin", "cluster"], Meta(description="simulated or real")]
    run_start: Annotated[_Time, Meta(description="edge 0 of all buckets, episode time")]
    run_end: Annotated[_Time, Meta(description="episode time")]
    wall_time: Annotated[str | None, Meta(description="when it was made, by the machine's clock")]
    seed: Annotated[int | None, Meta(description="of every exogenous draw; truth")]
    content_digest: Annotated[str, Meta(description="of the log's content: equal for equal runs")]
    # who
    campaign_id: Annotated[str, Meta(description="campaign that the run belongs to")]
    scenario_id: Annotated[str, Meta(description="scenario; truth")]
    stratum: Annotated[str | None, Meta(description="stratum of the campaign; truth")]
    family_id: Annotated[_Id, Meta(description="same script and seed: never split between train and test; truth")]
    parent_run_id: Annotated[str | None, Meta(description="run that this is a branch of")]
    branch_step: Annotated[int | None, Meta(description="control step at which it left its parent")]
    randomness: Annotated[str, Meta(description="of a branch: same or fresh draws as its parent's")]
    pair_id: Annotated[str | None, Meta(description="pair of a with and a without")]
    retry_of: Annotated[str | None, Meta(description="run that this repeats")]
    split_ids: Annotated[dict[str, str], Meta(description="split: part of it that the run is in")]
    service_config: Annotated[str, Meta(description="service configuration")]
    workload_profile: Annotated[str, Meta(description="workload; truth")]
    policy_name: Annotated[str, Meta(description="who decided")]
    policy_version: Annotated[str, Meta(description="in the policy's words")]
    policy_information: Annotated[str, Meta(description="public or privileged: what the policy knew")]
    reveal_truth: Annotated[bool, Meta(description="whether observations showed the interventions")]
    # what
    action_schedule: Annotated[list[ScheduledAction], Meta(description="actions but noop, in order")]
    intervention_schedule: Annotated[list[ScheduledAction], Meta(description="interventions, in order; truth")]
    workload_schedule: Annotated[dict[str, Any], Meta(description="offered load over control time; truth")]
    granularity_config: Annotated[GranularityRecord, Meta(description="the ten times of these tables")]
    granularity_of_run: Annotated[GranularityRecord, Meta(description="the ten times that the run was lived by")]
    distortion: Annotated[
        dict[str, Any] | None, Meta(description="how the telemetry was degraded before it was logged; null: not at all")
    ]
    clean: Annotated[bool, Meta(description="whether the tables are of the telemetry before distortion")]
    effective_configuration: Annotated[
        dict[str, Any], Meta(description="all of it; scenario, workload, twin and seed in it are truth")
    ]
    streams: Annotated[
        dict[str, dict[str, Any]],
        Meta(
            description="per telemetry stream: whether it is `present`, `rows` that came, `coverage`: share (0..1) of time and services "
            "that no gap tells of, rows left out as too `late`, on a cluster `lag_s` behind the ends of steps; `log`: the last sequences, "
            "on a cluster how long after a step's end was waited (`waited_s`) and how long after its begin was decided (`drift_s`)"
        ),
    ]
    columns: Annotated[dict[str, dict[str, str]], Meta(description="table, column: how a cell comes about")]
    ground_truth: GroundTruth
    # with what
    gym_api_version: Annotated[str, Meta(description="of this package")]
    versions: Annotated[dict[str, str], Meta(description="of packages, and what the stand says of itself")]
    git_shas: Annotated[dict[str, str], Meta(description="of the sources, by repository")]
    chart_versions: Annotated[dict[str, str], Meta(description="of Helm charts; on the twin those it emulates")]
    image_digests: Annotated[dict[str, str], Meta(description="of container images")]
    kubernetes_version: Annotated[str, Meta(description="of the API server")]
    collector_config_hash: Annotated[str, Meta(description="of the OpenTelemetry Collector's configuration")]
    hashes: Hashes
    host: Annotated[dict[str, str], Meta(description="machine that ran the gym")]
    cpu_family: Annotated[str, Meta(description="runs repeat bit for bit within one")]
    data_licence: Annotated[str, Meta(description="SPDX id")]


METADATA_KEYS: tuple[str, ...] = tuple(sorted(MetadataFile.__struct_fields__))
"""Keys of `metadata.json`."""
TRUTH_KEYS: tuple[str, ...] = (
    "family_id",
    "intervention_schedule",
    "pair_id",
    "parent_run_id",
    "retry_of",
    "scenario_id",
    "seed",
    "split_ids",
    "stratum",
    "workload_profile",
    "workload_schedule",
    "effective_configuration.scenario",
    "effective_configuration.seed",
    "effective_configuration.twin",
    "effective_configuration.workload",
)
"""Those of them that tell what was going to happen, or what the run is kin to: not for a model's input."""


class Document(msgspec.Struct, frozen=True):
    """A JSON file: what it holds, as which type, and whether that type is one line of it."""

    holds: str
    type: Any
    lines: bool = False


DOCUMENTS: Mapping[str, Document] = {
    "metadata.json": Document(
        "what the run was: identity, versions, configuration in full, schedules, status, digests", MetadataFile
    ),
    "graph.json": Document("nodes and edges of the application; its ids are the keys of the tables", GraphFile),
    "coroot_findings.json": Document("Coroot's findings, by time", list[FindingRecord]),
    "logs.jsonl.zst": Document("log records, one JSON object a line, sorted by (time, service)", LogLine, lines=True),
    "k8s_events.jsonl.zst": Document(
        "Kubernetes Events, one JSON object a line, sorted by (time, object)", KubernetesEventLine, lines=True
    ),
}


def json_schema(file: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a file; of a file of lines, that of each line.

    Raises: UsageError: a run has no such file.
    """
    if file not in DOCUMENTS:
        raise UsageError(f"there is no JSON Schema of {file!r}\n  {nearest(file, DOCUMENTS)}")
    document = DOCUMENTS[file]
    title = f"a line of {file}" if document.lines else file
    return {"$schema": _DIALECT, "title": title, **msgspec.json.schema(document.type)}
