"""The data contract's tables as data: every column with its type, unit, meaning, rule and standing.

In: nothing. Out: tables and columns, and the column order of observations. Whatever names a column reads it here, so that table,
observation, validation and documentation can't differ. The JSON files: `documents`. As a page: `dictionary`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from otel_control_gym.projections.documents import DOCUMENTS

__all__ = (
    "ARCHIVE",
    "ARROW_TYPES",
    "CONTRACT_VERSION",
    "EDGE_NUMBERS",
    "FILES",
    "JSON_FILES",
    "NODE_NUMBERS",
    "ROW_GROUP_ROWS",
    "STANDINGS",
    "TABLES",
    "Column",
    "ColumnType",
    "TableSchema",
)

CONTRACT_VERSION = 2  #: of the files of a run; raised when a reader of the old one would misread the new one

ROW_GROUP_ROWS = 8192
"""Rows of a group of a Parquet file: what a reader of a span of time reads at least.

Measured on 52,164 rows of node features (34,722 spans), of which five minutes are wanted: 4.5 ms (7.2 ms) instead of 29 ms (19 ms) with
one group, all of it in 27 ms (22 ms) instead of 28 ms (16 ms), the file 2 % smaller (a third larger). Groups of 1,024 rows quadruple
the time to read all of it, groups of 16,384 hold more than is wanted. Rows are counted, not seconds, so that no file has more groups
than it needs.
"""

Standing = Literal["key", "measured", "derived", "logged", "truth", "weak"]
ColumnType = Literal[
    "time", "text", "id", "number", "count", "flag", "json", "texts", "numbers_by_name", "counts_by_name"
]

ARROW_TYPES: dict[ColumnType, str] = {
    "time": "timestamp[us, UTC]",
    "text": "string",
    "id": "dictionary<string>",
    "number": "float64",
    "count": "int64",
    "flag": "bool",
    "json": "string (JSON)",
    "texts": "list<string>",
    "numbers_by_name": "map<string, float64>",
    "counts_by_name": "map<string, int64>",
}
"""How each type is spelt in the data dictionary; `projections.tables` makes the Arrow types."""
STANDINGS: dict[Standing, str] = {
    "key": "identifies the row",
    "measured": "aggregated from telemetry",
    "derived": "computed from other columns",
    "logged": "taken from an event as it is",
    "truth": "ground truth; not for a model's input",
    "weak": "a tool's suspicion, neither measurement nor truth",
}


class Column(msgspec.Struct, frozen=True):
    """One column. `rule` says how a cell comes about of events, and when it is null."""

    name: str
    type: ColumnType
    unit: str
    description: str
    rule: str
    standing: Standing = "measured"


class TableSchema(msgspec.Struct, frozen=True):
    """One Parquet file: what a row is, the columns in order, and those by which rows are sorted (and identified, if `unique`)."""

    file: str
    row: str
    columns: tuple[Column, ...]
    order: tuple[str, ...]
    unique: bool = True

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.file.removesuffix(".parquet")


def _bucket_keys(*entities: Column) -> tuple[Column, ...]:
    return (_TIME, _RUN, *entities)


_TIME = Column("time", "time", "UTC", "start of the bucket", "aligned to the run's start", "key")
_MOMENT = Column("time", "time", "UTC", "when it happened", "the event's own time", "key")
_RUN = Column("run_id", "id", "", "the run", "same in all files of a run", "key")
_SERVICE = Column("service", "id", "", "node of graph.json", "an id of its nodes", "key")
_ENDS = (
    Column("source", "id", "", "calling node of graph.json", "an id of its nodes", "key"),
    Column("target", "id", "", "called node of graph.json", "an id of its nodes", "key"),
    Column("protocol", "id", "", "protocol of the edge", "as graph.json has it", "key"),
)
_VISIBILITY = Column(
    "visibility",
    "id",
    "",
    "public: a policy could know it; truth: only in hindsight",
    "the stream of the event",
    "logged",
)
_UNREAD = "null where the source wasn't read at either edge of the bucket"
_GROWTH = f"growth of cumulative counters between the bucket's edges, summed over series; {_UNREAD}"
_RATE = f"growth / time between the samples used; {_UNREAD}"
_GAUGE = "last value in the bucket, summed over pods; null without a sample within the source's resolution"
_QUANTILE = "linear within the buckets of the histogram's growth; null below 20 observations"

_TRAFFIC = (
    Column("request_rate", "number", "1/s", "requests per second", _RATE),
    Column("error_rate", "number", "1/s", "failed requests per second", _RATE),
    Column(
        "error_ratio",
        "number",
        "1",
        "failed / all requests",
        "error_count / request_count; null without requests",
        "derived",
    ),
    Column("request_count", "number", "1", "requests answered", _GROWTH),
    Column("error_count", "number", "1", "requests answered with an error", _GROWTH),
    Column("latency_count", "number", "1", "observations behind the latency columns", _GROWTH),
    Column(
        "latency_mean_ms",
        "number",
        "ms",
        "mean latency",
        "growth of the sum / growth of the count; null without observations",
    ),
    Column("latency_p50_ms", "number", "ms", "median latency", _QUANTILE),
    Column("latency_p95_ms", "number", "ms", "95th percentile of latency", _QUANTILE),
    Column("latency_p99_ms", "number", "ms", "99th percentile of latency", _QUANTILE),
)
_COVERAGE = Column(
    "coverage",
    "number",
    "1",
    "share of the expected readings that arrived",
    "arrived / expected, at each source's own resolution, over the sources that cover the row",
)

NODE_FEATURES = TableSchema(
    "node_features.parquet",
    "a service in a bucket",
    (
        *_bucket_keys(_SERVICE),
        *_TRAFFIC,
        Column("cpu_usage_cores", "number", "cores", "CPU used, all pods", _RATE),
        Column("memory_usage_bytes", "number", "bytes", "working set, all pods", _GAUGE),
        Column("restarts", "number", "1", "container restarts", _GROWTH),
        Column("network_rx_bytes_per_s", "number", "bytes/s", "received, all pods", _RATE),
        Column("network_tx_bytes_per_s", "number", "bytes/s", "sent, all pods", _RATE),
        Column("cpu_saturation", "number", "1", "CPU used / limit", "null without a limit", "derived"),
        Column("memory_saturation", "number", "1", "memory used / limit", "null without a limit", "derived"),
        Column(
            "cpu_throttled_ratio",
            "number",
            "1",
            "scheduler periods in which a container was throttled / all periods",
            "growth / growth; null without a CPU limit",
            "derived",
        ),
        Column("replicas_ready", "number", "1", "replicas available", _GAUGE),
        Column("replicas_desired", "number", "1", "replicas asked for", _GAUGE),
        Column("cpu_limit_cores", "number", "cores", "CPU limit, all pods", _GAUGE),
        Column("memory_limit_bytes", "number", "bytes", "memory limit, all pods", _GAUGE),
        _COVERAGE,
    ),
    ("time", "service"),
)

EDGE_FEATURES = TableSchema(
    "edge_features.parquet",
    "a call edge in a bucket, as the caller sees it",
    (
        *_bucket_keys(*_ENDS),
        *_TRAFFIC,
        Column(
            "status_counts",
            "counts_by_name",
            "1",
            "requests by outcome",
            "`ok` and `error`, of request_count and error_count; null where those are",
            "derived",
        ),
        Column(
            "retry_rate",
            "number",
            "1/s",
            "retried requests per second",
            "null: no source of the metric map counts retries",
        ),
        _COVERAGE,
    ),
    ("time", "source", "target", "protocol"),
)

_PRIVATE = "truth for interventions, public for actions"
ACTIONS = TableSchema(
    "actions.parquet",
    "a decision of a control step (noop too), or an intervention",
    (
        Column("time", "time", "UTC", "when it was requested", "ActionRequested", "key"),
        _RUN,
        Column(
            "actor", "id", "", "who decided: scripted, human, model, baseline, external", "ActionRequested", "logged"
        ),
        Column("action_id", "text", "", "the attempt", "ActionRequested", "key"),
        Column(
            "parent_action_id",
            "text",
            "",
            "attempt that this one follows from",
            "ActionRequested; null without",
            "logged",
        ),
        Column("action_type", "id", "", "entry of the catalogue", "ActionRequested", "logged"),
        Column("action_class", "id", "", "action or intervention", "ActionRequested", "logged"),
        Column("target_kind", "id", "", "none, service, edge, group or workload", "ActionRequested", "logged"),
        Column(
            "target",
            "text",
            "",
            "target as the action names it",
            "ActionRequested; empty for none and workload",
            "logged",
        ),
        Column(
            "target_service",
            "id",
            "",
            "service that is acted on",
            "the target, or an edge's called end; null without",
            "derived",
        ),
        Column(
            "target_edge",
            "text",
            "",
            "edge that is acted on, `source->target`",
            "null unless the target is an edge",
            "derived",
        ),
        Column("parameters", "json", "in the names", "resolved parameters", "ActionRequested; keys sorted", "logged"),
        Column("duration_s", "number", "s", "planned duration", "null: until something else changes it", "logged"),
        Column(
            "status",
            "id",
            "",
            "rejected, failed, applied, partial, unverified",
            "ActionSettled; null if it never settled",
            "logged",
        ),
        Column("precheck_status", "id", "", "passed or rejected", "ActionPrechecked; null if it never came", "logged"),
        Column(
            "postcheck_status",
            "id",
            "",
            "effective, partial, unverified",
            "ActionPostchecked; null if it never came",
            "logged",
        ),
        Column("requested", "time", "UTC", "request", "ActionRequested", "logged"),
        Column("applied", "time", "UTC", "the API accepted it", "ActionApplied; null if it never came", "logged"),
        Column(
            "effective", "time", "UTC", "the stand first showed it", "ActionPostchecked; null if never seen", "logged"
        ),
        Column("reverted", "time", "UTC", "taken back", "ActionReverted; null if it never came", "logged"),
        Column("settled", "time", "UTC", "final status known", "ActionSettled; null if it never came", "logged"),
        Column("decision_step", "count", "1", "control step, from 0", "null for interventions", "logged"),
        Column(
            "decision_log_sequence",
            "count",
            "1",
            "public log position that the decision could know",
            "ActionRequested",
            "logged",
        ),
        Column(
            "propensity",
            "number",
            "1",
            "probability with which the policy chose this",
            "null if the policy gave none",
            "logged",
        ),
        Column(
            "alternatives",
            "json",
            "",
            "what the policy weighed, with probabilities",
            "null if the policy gave none",
            "logged",
        ),
        Column("policy_version", "text", "", "who decided, in the policy's words", "ActionRequested", "logged"),
        Column(
            "policy_information", "id", "", "public or privileged: what the policy knew", "ActionRequested", "logged"
        ),
        Column("visibility", "id", "", _PRIVATE, "the stream of the event", "logged"),
        Column(
            "error",
            "text",
            "",
            "what failed, and in which stage",
            "ActionFailed, or the precheck's reason; null without",
            "logged",
        ),
    ),
    ("time", "action_id"),
)

EVENTS = TableSchema(
    "events.parquet",
    "something that happened at a moment",
    (
        _MOMENT,
        _RUN,
        Column(
            "source",
            "id",
            "",
            "kubernetes, pods, rollouts, findings, workload, run, collectors",
            "the event's kind",
            "logged",
        ),
        Column("type", "id", "", "kind of event within its source", "see `source`", "logged"),
        Column("reason", "id", "", "reason in the source's words", "empty where it gives none", "logged"),
        Column("object", "text", "", "what it is about, `Kind/name`", "empty for the run itself", "logged"),
        Column("message", "text", "", "text of the source, or its figures", "as the source gave it", "logged"),
        Column("count", "count", "1", "how often, as the source counts", "1 where it doesn't count", "logged"),
        _VISIBILITY,
        Column(
            "caused_by_action_id",
            "text",
            "",
            "action that touched the object or one of its owners",
            "the latest action applied before, by UID and owner references; public rows name public actions only; null otherwise",
            "derived",
        ),
    ),
    ("time", "source", "type", "object", "reason", "message"),
    unique=False,
)

LABELS = TableSchema(
    "labels.parquet",
    "an action or intervention, as the answer to a learning task; never from Coroot",
    (
        _RUN,
        Column("action_id", "text", "", "row of actions.parquet", "ActionRequested", "key"),
        Column("intervention_id", "text", "", "the same for interventions", "null for actions", "truth"),
        Column("is_fault", "flag", "", "whether it was an intervention", "its class", "truth"),
        Column("fault_type", "id", "", "kind of the fault", "action_type of interventions; null for actions", "truth"),
        Column("target", "text", "", "what it was aimed at", "ActionRequested", "truth"),
        Column("start", "time", "UTC", "when it was due to begin", "the request", "truth"),
        Column("end", "time", "UTC", "when it was due to end", "start + planned duration; null: open", "truth"),
        Column(
            "actual_start",
            "time",
            "UTC",
            "when the stand first showed it",
            "ActionPostchecked; null if unobserved",
            "truth",
        ),
        Column(
            "actual_end",
            "time",
            "UTC",
            "when it was taken back, and seen so",
            "ActionReverted, verified; null if unobserved",
            "truth",
        ),
        Column(
            "end_censored",
            "flag",
            "",
            "it had begun, and its end wasn't seen",
            "applied, not reverted by the log's end",
            "truth",
        ),
        Column("intensity", "id", "", "zero, mild, visible, severe", "parameter of that name; null without", "truth"),
        Column(
            "duration_class",
            "id",
            "",
            "transient, medium, slow_burn, open; in early logs short (<= 60 s), medium (<= 300 s), long",
            "from the planned duration",
            "truth",
        ),
        Column(
            "root_cause_kind",
            "id",
            "",
            "service, dependency, workload, edge, group or none",
            "what the target is in the service graph",
            "truth",
        ),
        Column(
            "expected_symptoms",
            "texts",
            "",
            "what it should show and where, `entity:symptom`",
            "from the catalogue and the service graph: the target first, then who calls it; empty for strength zero",
            "truth",
        ),
        Column("applied", "flag", "", "it took effect", "from the postcheck; null if that never came", "truth"),
        _VISIBILITY,
    ),
    ("start", "action_id"),
)

REWARDS = TableSchema(
    "rewards.parquet",
    "a reward in a reward bucket",
    (
        _TIME,
        _RUN,
        Column("reward_name", "id", "", "reward configuration", "its name", "key"),
        Column(
            "value", "number", "1", "weighted sum of the components", "null while a weighted component is", "derived"
        ),
        Column(
            "components",
            "numbers_by_name",
            "in the dictionary",
            "raw components, weight 0 included",
            "absent where not known",
        ),
        Column(
            "action_id",
            "text",
            "",
            "latest decision at or before the bucket's start",
            "null before the first",
            "derived",
        ),
    ),
    ("time", "reward_name"),
)

SPANS = TableSchema(
    "spans.parquet",
    "a sampled span; an example, not a count",
    (
        Column("time", "time", "UTC", "end of the span", "spans count by their end", "key"),
        _RUN,
        Column("duration_ms", "number", "ms", "duration", "end - start", "logged"),
        Column("trace_id", "text", "", "trace, 32 hex digits", "as sent", "logged"),
        Column("span_id", "text", "", "span, 16 hex digits", "as sent", "key"),
        Column("parent_span_id", "text", "", "parent span", "empty for a root", "logged"),
        Column("service", "id", "", "service that sent it", "as sent", "logged"),
        Column("peer", "id", "", "other end of a client span", "empty without", "logged"),
        Column("operation", "id", "", "span name", "as sent", "logged"),
        Column("kind", "id", "", "server, client, internal, producer, consumer", "as sent", "logged"),
        Column("protocol", "id", "", "http, grpc, sql, resp, kafka", "from the attributes", "logged"),
        Column("status", "id", "", "unset, ok, error", "as sent", "logged"),
        Column("attributes", "json", "", "other attributes", "keys sorted", "logged"),
        Column(
            "sampling_probability",
            "number",
            "1",
            "probability with which the span was kept",
            "counts weighted by its inverse match the counters within sampling error",
            "logged",
        ),
        _VISIBILITY,
    ),
    ("time", "trace_id", "span_id", "visibility"),
)

CONTROL_INPUTS = TableSchema(
    "control_inputs.parquet",
    "the value of an input at the end of a bucket, or its mean over the bucket for rates",
    (
        _TIME,
        _RUN,
        Column("target", "id", "", "service, flow, or empty for the workload", "see `name`", "key"),
        Column(
            "name",
            "id",
            "",
            "offered_rate, served_rate, users_target, users_active, mix_share, replicas, cpu_request, cpu_limit, memory_request, "
            "memory_limit",
            "per pod where Kubernetes means it per pod",
            "key",
        ),
        Column(
            "value",
            "number",
            "in `unit`",
            "the input",
            "last reading in the bucket; rates: growth / time between readings",
        ),
        Column("unit", "id", "", "unit of the value", "by name", "logged"),
        Column(
            "class",
            "id",
            "",
            "exogenous (nobody here decides it), actuator, or outcome (follows what the stand did: never a model's input)",
            "by name",
            "logged",
        ),
        _VISIBILITY,
    ),
    ("time", "target", "name"),
)

WEAK_LABELS = TableSchema(
    "weak_labels.parquet",
    "what Coroot suspected of a service in a bucket",
    (
        *_bucket_keys(_SERVICE),
        Column("findings", "count", "1", "findings in force that name the service", "no row without any", "weak"),
        Column("severity", "id", "", "highest severity among them", "critical over warning over the rest", "weak"),
        Column("symptoms", "texts", "", "their symptom classes", "sorted, each once", "weak"),
        Column("confidence", "number", "1", "highest confidence among them", "as Coroot gave it", "weak"),
    ),
    ("time", "service"),
)

ERROR_SUMMARIES = TableSchema(
    "error_summaries.parquet",
    "a service's failing operation in a log window",
    (
        Column("time", "time", "UTC", "start of the log window", "aligned to the run's start", "key"),
        _RUN,
        _SERVICE,
        Column("operation", "id", "", "operation of the spans; `log` for log records", "as sent", "key"),
        Column("status", "id", "", "error, or the severity of log records", "as sent", "key"),
        Column("top_message", "text", "", "most frequent message", "the first in order among equals", "logged"),
        Column("count", "count", "1", "sampled spans or log records", "not weighted by the sampling probability"),
    ),
    ("time", "service", "operation", "status"),
)

CERTIFICATES = TableSchema(
    "certificates.parquet",
    "an effect certificate: what an action did, against its sibling without it; empty until branches were run",
    (
        _RUN,
        Column("action_id", "text", "", "row of actions.parquet", "the action that is judged", "key"),
        Column("sibling_run_id", "text", "", "run without the action", "same seed, `noop` instead", "truth"),
        Column("method", "id", "", "branches, or before and after", "how it was measured", "truth"),
        Column("n_branches", "count", "1", "branches per arm", "those that classify are never scored", "truth"),
        Column("class", "id", "", "none, masked, visible", "by changed cells", "truth"),
        Column("off_target", "flag", "", "the first changed entity isn't the target", "by changed cells", "truth"),
        Column("first_feature", "id", "", "first feature that changed", "earliest changed cell", "truth"),
        Column("first_entity", "id", "", "its entity", "earliest changed cell", "truth"),
        Column("delay_s", "number", "s", "time until then", "from applied", "truth"),
        Column("delay_low_s", "number", "s", "lower end of its interval", "over branches", "truth"),
        Column("delay_high_s", "number", "s", "upper end of its interval", "over branches", "truth"),
        Column("spread_hops", "count", "1", "how far it spread along edges", "changed entities", "truth"),
        Column("effect", "number", "in `unit`", "size of the effect", "mean difference of the arms", "truth"),
        Column("effect_low", "number", "in `unit`", "lower end of its interval", "over branches", "truth"),
        Column("effect_high", "number", "in `unit`", "upper end of its interval", "over branches", "truth"),
        Column("unit", "id", "", "unit of the effect", "that of the feature", "truth"),
    ),
    ("action_id",),
)

TABLES: tuple[TableSchema, ...] = (
    NODE_FEATURES,
    EDGE_FEATURES,
    ACTIONS,
    EVENTS,
    LABELS,
    REWARDS,
    SPANS,
    CONTROL_INPUTS,
    WEAK_LABELS,
    ERROR_SUMMARIES,
    CERTIFICATES,
)
JSON_FILES: tuple[str, ...] = tuple(DOCUMENTS)
FILES: tuple[str, ...] = (*sorted(table.file for table in TABLES), *sorted(JSON_FILES))
"""What the folds write."""
ARCHIVE = "event_log.zst"  #: lies beside them: the log that they are folds of

NODE_NUMBERS: tuple[str, ...] = tuple(column.name for column in NODE_FEATURES.columns if column.type == "number")
"""The axis F of observations."""
EDGE_NUMBERS: tuple[str, ...] = tuple(column.name for column in EDGE_FEATURES.columns if column.type == "number")
"""The axis G of observations."""
