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
    "READ_ME",
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
_RECORDS = (
    "each record whose own time is in the bucket, however late it came, counts 1 / its sampling probability; null where the stream has a "
    "gap, or the service sends none"
)
_POLLED = "as the newest poll at or before the bucket's end told it; null before the first, after a failed one, and 120 s after the newest"
_QUANTILE = (
    "of the histogram's growth, as Prometheus interpolates: linear within a classic bucket, exponential within a native one; of clients' "
    "spans the smallest duration that covers its share of the weights; null below 20 observations"
)

_SOURCE = (
    f"{_GROWTH}; a row's requests, errors and latency are from the first source of the metric map that knows them; not whole where "
    "they are from clients' spans, each of which counts 1 / sampling_probability"
)

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
    Column(
        "request_count",
        "number",
        "1",
        "requests; of a consumer messages processed, of what sends no spans those that its callers saw",
        _SOURCE,
    ),
    Column("error_count", "number", "1", "requests that ended with an error, in the eyes of who counts them", _GROWTH),
    Column("latency_count", "number", "1", "observations behind the latency columns", _GROWTH),
    Column(
        "latency_mean_ms",
        "number",
        "ms",
        "mean latency; of a broker's edge to a consumer: of processing a message",
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
    "share of the expected readings of metrics that arrived",
    "arrived / expected, at each source's own resolution, over the metrics that cover the row; of several sources of one quantity the "
    "one that had most; 0 where none covers it; of logs and findings, null tells it",
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
        Column("log_count", "number", "1", "log records", _RECORDS),
        Column("log_warning_count", "number", "1", "log records that are warnings", _RECORDS),
        Column("log_error_count", "number", "1", "log records that are errors or worse", _RECORDS),
        Column("findings_open", "number", "1", "findings of Coroot that name the service", _POLLED, "weak"),
        Column(
            "finding_severity",
            "number",
            "1",
            "the worst of them: 0 none (or information only), 1 warning, 2 critical",
            _POLLED,
            "weak",
        ),
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
            "requests by status: HTTP's, gRPC's number (of the node agent `grpc:` and its name), `ok` and `error` without one",
            "growth of the counters of each status, those that didn't grow left out; both `ok` and `error` where there is nothing else; "
            "null where request_count is, and where statuses don't add up to it",
            "derived",
        ),
        Column(
            "retry_rate",
            "number",
            "1/s",
            "requests per second that were sent again after a failure, part of request_rate; as far as callers tell of it",
            f"{_RATE}; 0 where none was told of; null where the metric map has no retry_count for the edges' source: of the node agent, "
            "and from a broker to its consumers, where nothing is tried again but delivered again",
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
        Column(
            "evidence",
            "json",
            "",
            "what the postcheck looked at on the stand, and what it saw",
            "ActionPostchecked; keys sorted; null if it never came",
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
            "kubernetes, pods, rollouts, autoscalers, routes, findings, workload, run, collectors",
            "the event's kind",
            "logged",
        ),
        Column(
            "type",
            "id",
            "",
            "what happened. kubernetes: Normal, Warning; pods: found, created, scheduled, waiting, started, ready, unready, killed (for "
            "its memory), stopped, restarted, backing_off, terminating, ended, changed, deleted; rollouts: found, created, scaled, "
            "new_revision, respecified, progressing, degraded, stalled, complete, deleted; autoscalers: found, created, respecified, "
            "decided, followed, active, inactive, deleted; routes: created, found, shifted, deleted; findings: opened, changed, "
            "resolved; workload: first, users_changed, rate_changed, mix_changed, state_changed, scheduled (a point of its curve: "
            "truth); run: phase, ended, aborted; collectors: gap, late",
            "of two states of an object, one after the other, the weightiest change",
            "derived",
        ),
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
    (
        "time",
        "source",
        "object",
    ),  # of one object at one moment in the order in which it happened: Kubernetes' stamps have a second
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
            "when it was no longer in force: taken back and seen so, or ended before that (its pods were replaced, it was undone)",
            "ActionLapsed that nothing followed, else ActionReverted, verified; null if unobserved",
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
        Column(
            "actual_start_precision_s",
            "number",
            "s",
            "how much earlier actual_start may have been",
            "a time stamp of the stand has 1 s, else the time since the look before; null: not known (early logs)",
            "truth",
        ),
        Column(
            "actual_end_precision_s", "number", "s", "the same for actual_end", "as actual_start_precision_s", "truth"
        ),
        Column(
            "gaps",
            "json",
            "",
            "when it wasn't in force in between: start, end, partial (in some places only), reason",
            "ActionLapsed to the ActionResumed that follows; an empty list without any",
            "truth",
        ),
        Column(
            "data_lost",
            "flag",
            "",
            "the target's process was ended, and with it what it kept: it has no volume",
            "parameter of that name, if it took effect",
            "truth",
        ),
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
            "in README.md",
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
    "a sampled span; an example, not a count; none if the run's `traces` is aggregated",
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
        Column(
            "target",
            "id",
            "",
            "service, `service/deployment` (a second version of it), flow, flag, or empty for the workload",
            "see `name`",
            "key",
        ),
        Column(
            "name",
            "id",
            "",
            "of the workload: offered_rate (of a closed loop it follows the answers, too), served_rate, failed_rate, users_target, "
            "users_active, rate_target (open arrivals); of a flow: mix_share; of a service: replicas, cpu_request, cpu_limit, "
            "memory_request, memory_limit (per pod), revision, autoscaler_min, autoscaler_max, autoscaler_cpu_target (of the request), "
            "autoscaler_wanted; of a version: traffic_share (where the traffic is split); of a flag that the run sets: flag",
            "no row where the source wasn't read, or there is no such thing",
            "key",
        ),
        Column(
            "value",
            "number",
            "in `unit`",
            "the input",
            "last reading in the bucket, rates: growth / time between readings; else as it was just before the bucket's end",
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
        Column(
            "findings",
            "count",
            "1",
            "findings that name the service and were in force in the bucket",
            "by Coroot's own times, also those told later: a label, never an input; no row without any",
            "weak",
        ),
        Column("severity", "id", "", "highest severity among them", "critical over warning over the rest", "weak"),
        Column("symptoms", "texts", "", "their symptom classes", "sorted, each once", "weak"),
        Column(
            "confidence",
            "number",
            "1",
            "highest confidence among them",
            "of an incident: burn rate / threshold / 4, at most 1; else by severity",
            "weak",
        ),
        Column("sources", "texts", "", "what they are", "incident, alert, check, edge; sorted, each once", "weak"),
        Column(
            "suggested_causes",
            "texts",
            "",
            "services (or Coroot's own words) that they suggest as the cause",
            "sorted, each once; empty where none suggests any",
            "weak",
        ),
        Column("edges", "texts", "", "edges that they name, `source->target`", "sorted, each once", "weak"),
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
        Column(
            "peer",
            "id",
            "",
            "service that was called: the row tells of the edge to it",
            "peer of client spans; empty for what the service did itself",
            "key",
        ),
        Column(
            "status",
            "id",
            "",
            "`grpc N`, `http N`, or error; the severity of log records",
            "the protocol's code, where the span has one; warnings and worse",
            "key",
        ),
        Column(
            "top_message",
            "text",
            "",
            "most frequent message",
            "of spans exception.message, status text, or error.type; of records the first line; the first in order among equals",
            "logged",
        ),
        Column(
            "trace_id", "text", "", "an example", "trace of the first that has the message; empty without one", "logged"
        ),
        Column("count", "count", "1", "sampled spans or log records", "as they lie in the files"),
        Column(
            "weighted_count",
            "number",
            "1",
            "estimate of how many there were",
            "sum of 1 / sampling probability",
        ),
    ),
    ("time", "service", "operation", "peer", "status"),
)

_WINDOW_OF = "aligned to the run's start; from the run's start to its end"
_WEIGHTED = "sum of 1 / sampling probability"
_FEW = "duration at which the weight of faster spans reaches the share; null below {} sampled spans"
TRACE_SUMMARIES = TableSchema(
    "trace_summaries.parquet",
    "the public spans of an operation, by who called it, that ended in a trace window; none if the run's `traces` is raw",
    (
        Column("time", "time", "UTC", "start of the trace window", _WINDOW_OF, "key"),
        _RUN,
        Column("service", "id", "", "service that sent the spans", "as sent", "key"),
        Column("operation", "id", "", "span name", "as sent", "key"),
        Column(
            "parent_service",
            "id",
            "",
            "service of the parent span",
            "empty: a root; null: the parent isn't among the sampled spans of the window",
        ),
        Column("kind", "id", "", "server, client, internal, producer, consumer", "as sent", "key"),
        Column("protocol", "id", "", "http, grpc, sql, resp, kafka", "from the attributes", "key"),
        Column("count", "number", "1", "estimate of how many spans there were", _WEIGHTED),
        Column("error_count", "number", "1", "estimate of how many of them failed", _WEIGHTED),
        Column("sampled_count", "count", "1", "sampled spans behind the estimates", "not weighted"),
        Column("latency_mean_ms", "number", "ms", "mean duration", "weighted by 1 / sampling probability"),
        Column("latency_p50_ms", "number", "ms", "median duration", _FEW.format(2)),
        Column("latency_p95_ms", "number", "ms", "95th percentile of the duration", _FEW.format(20)),
        Column("latency_p99_ms", "number", "ms", "99th percentile of the duration", _FEW.format(100)),
        Column("slow_trace_id", "text", "", "trace of the longest span", "32 hex digits", "logged"),
        Column("failed_trace_id", "text", "", "trace of the first failed span", "null without", "logged"),
    ),
    ("time", "service", "operation", "parent_service", "kind", "protocol"),
)

LOG_PATTERNS = TableSchema(
    "log_patterns.parquet",
    "the public log records of a service, severity and template in a log window",
    (
        Column("time", "time", "UTC", "start of the log window", _WINDOW_OF, "key"),
        _RUN,
        Column("service", "id", "", "service that sent the records", "as sent", "key"),
        Column(
            "severity", "id", "", "TRACE, DEBUG, INFO, WARN, ERROR, FATAL, UNSPECIFIED", "by severity number", "key"
        ),
        Column(
            "pattern_id", "id", "", "the template's, 16 hex digits", "hash of the template, the same in all runs", "key"
        ),
        Column(
            "template",
            "text",
            "",
            "what the records have in common",
            "first lines; ids, addresses, numbers masked; words that differ are <*>, as Drain finds in the service's texts of the window",
            "derived",
        ),
        Column("count", "number", "1", "estimate of how many records there were", _WEIGHTED),
        Column("sampled_count", "count", "1", "records behind the estimate", "not weighted"),
        Column("example", "text", "", "first of the records", "at most 1000 characters", "logged"),
    ),
    ("time", "service", "severity", "pattern_id"),
)

CERTIFICATES = TableSchema(
    "certificates.parquet",
    "an effect certificate: what an action did, against futures without it; empty until `ocg campaign certify`",
    (
        _RUN,
        Column("action_id", "text", "", "row of actions.parquet", "the action that is judged", "key"),
        Column("sibling_run_id", "text", "", "run without the action", "same seed, `noop` instead", "truth"),
        Column("method", "id", "", "branches, or pair: this run and its sibling alone", "how it was measured", "truth"),
        Column(
            "n_branches", "count", "1", "branches per arm; 0: a pair", "those that classify are never scored", "truth"
        ),
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
    TRACE_SUMMARIES,
    LOG_PATTERNS,
    CERTIFICATES,
)
JSON_FILES: tuple[str, ...] = tuple(DOCUMENTS)
READ_ME = "README.md"  #: tells who has nothing but the directory what is in it
FILES: tuple[str, ...] = (*sorted(table.file for table in TABLES), *sorted(JSON_FILES), READ_ME)
"""What the folds write."""
ARCHIVE = "event_log.zst"  #: lies beside them: the log that they are folds of

NODE_NUMBERS: tuple[str, ...] = tuple(column.name for column in NODE_FEATURES.columns if column.type == "number")
"""The axis F of observations."""
EDGE_NUMBERS: tuple[str, ...] = tuple(column.name for column in EDGE_FEATURES.columns if column.type == "number")
"""The axis G of observations."""
