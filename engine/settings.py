"""The configuration's shapes: frozen records without behaviour. `engine.configuration` loads and checks them.

Every record here can travel in an event (the log carries the effective configuration in full), so nothing in them depends on the
machine. Durations are whole seconds, because Kubernetes' time stamps are; memory is bytes, CPU is cores.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = (
    "AddressBook",
    "Bounds",
    "Burst",
    "Call",
    "Constant",
    "Consumer",
    "Delay",
    "Distortion",
    "EdgeFeed",
    "EdgeSettings",
    "EdgeSource",
    "Emergency",
    "EpisodeSettings",
    "FeatureSource",
    "FeatureSources",
    "Flag",
    "FlagEffect",
    "Flow",
    "Goal",
    "Granularity",
    "Hidden",
    "Intensity",
    "Losses",
    "MetricMap",
    "Names",
    "Noise",
    "Objective",
    "Operation",
    "PlannedAction",
    "Points",
    "PolicySettings",
    "Product",
    "RandomFactor",
    "Randomization",
    "Replay",
    "RewardSettings",
    "RunConfig",
    "RunIdentity",
    "RunSettings",
    "Scenario",
    "Service",
    "ServiceConfiguration",
    "Shape",
    "Silence",
    "Sine",
    "SpanSource",
    "Step",
    "Sum",
    "TelemetrySettings",
    "TelemetrySource",
    "TimeUnit",
    "Topic",
    "TwinSettings",
    "Version",
    "Workload",
    "WorkloadPoint",
)


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: immutable, named fields only, a misspelt key is an error."""


class Granularity(_Record, frozen=True, kw_only=True):
    """The ten independent times of a run, in seconds (design: "Time")."""

    control_step_seconds: int = 30
    observation_bucket_seconds: int = 10
    observation_window_seconds: int = 300
    reward_bucket_seconds: int = 30
    scrape_interval_seconds: int = 5
    trace_aggregation_seconds: int = 60
    log_pattern_window_seconds: int = 60
    action_duration_seconds: int = 120
    warmup_seconds: int = 60
    cooldown_seconds: int = 30


Protocol = Literal["http", "grpc", "sql", "resp", "kafka"]


class Call(_Record, frozen=True, kw_only=True):
    """One downstream call of an operation: whom, how often, and what its failure means."""

    target: str  #: `service:operation`
    repeat: Literal["once", "per_line"] = "once"  #: per_line: once for every order line of the request
    on_error: Literal["fail", "ignore"] = "fail"
    error_status: int = 0  #: of the caller when this call fails; 0: its protocol's default; -1: the callee's
    tolerates: int = 0  #: a status of the callee that the caller takes for an answer; 0: none
    cache_hit_ratio: float = (
        0.0  #: share of these calls that a warm process answers from its own memory; a fresh one sends all
    )


class Step(_Record, frozen=True, kw_only=True):
    """A stage of an operation: own work on the CPU, then calls, either one after the other or all at once."""

    work_ms: float = 0.0  #: mean CPU milliseconds before the calls
    calls: tuple[Call, ...] = ()
    parallel: bool = False


class Operation(_Record, frozen=True, kw_only=True):
    """What a service does for one request of a kind: its stages, then `tail_ms` of work before it answers."""

    steps: tuple[Step, ...] = ()
    tail_ms: float = 0.0  #: mean CPU milliseconds after the last step
    distribution: Literal["exponential", "lognormal", "constant"] = "lognormal"
    variation: float = 0.7  #: coefficient of variation of the work (lognormal)
    request_bytes: int = 300
    response_bytes: int = 1200
    failure_ratio: float = 0.0  #: share of requests that fail by themselves (bugs), after their work
    failure_status: int = 0  #: with this status of the service's protocol; 0: the protocol's default


class Version(_Record, frozen=True, kw_only=True):
    """Another build of a service, told by its image tag: how it differs from the one that the configuration describes."""

    work_factor: float = 1.0  #: CPU work of every operation
    failure_ratio: float = 0.0  #: share of requests that fail by themselves, besides the operation's own
    failure_status: int = 0
    memory_factor: float = 1.0  #: memory of its process
    start_factor: float = 1.0
    gets_ready: bool = True  #: False: its process runs and never serves


class Service(_Record, frozen=True, kw_only=True):
    """One Deployment of the application: identity, Kubernetes shape, and the physics that the twin gives it."""

    kind: Literal["service", "workload", "dependency"] = "service"
    runtime: str = ""
    protocol: Protocol = "grpc"
    port: int = 8080
    listens: bool = True  #: False: a consumer of messages, without a port, a Service or a probe
    replicas: int = 1
    cpu_request_cores: float = 0.1
    cpu_limit_cores: float | None = None
    memory_request_bytes: int = 0
    memory_limit_bytes: int | None = None
    stateful: bool = False  #: keeps data in its pod: never scaled above one, never rolled
    protected: bool = False  #: no action may touch it
    user_facing: bool = False
    optional_group: str | None = None
    instrumented: bool = True  #: sends spans
    sends_logs: bool = True  #: and log records, if it is instrumented
    grpc_service: str = ""  #: e.g. oteldemo.CartService
    workers: int = 0  #: requests that hold the processor or a thread at once; 0: no bound
    holds_worker: bool = False  #: a request keeps its worker while it waits for downstream answers (thread pools)
    threads: int = 0  #: cores that the runtime can use at once; 0: as many as there are runnable requests
    start_seconds: float = 1.0  #: container start to serving
    cold_work: float = (
        0.0  #: extra work of a fresh process's first request (JIT, empty caches), as a multiple of its ordinary work
    )
    cold_requests: float = 100.0  #: requests served until that extra is down to 1/e
    drains: bool = True  #: finishes what is in flight when it is told to stop
    memory_base_bytes: int = 20_000_000
    memory_per_request_bytes: int = 20_000
    operations: dict[str, Operation] = {}
    versions: dict[str, Version] = {}  #: image tag (before `-<service>`) -> what is different


class EdgeSettings(_Record, frozen=True, kw_only=True):
    """A directed call edge of the application."""

    source: str
    target: str
    protocol: Protocol
    connection: Literal["sticky", "per_request"] = "sticky"  #: sticky: one connection per client pod, as gRPC holds it
    latency_ms: float = 0.15  #: one-way network latency without faults
    timeout_ms: float = 0.0  #: the caller waits no longer than this for an attempt; 0: for ever
    retries: int = 0  #: how often a call that failed in any way is tried again
    backoff_ms: float = 0.0  #: pause before the first retry, doubled before each further one
    jitter: float = (
        0.0  #: share of a pause (0..1) that is left to chance: it takes between 1 - jitter and 1 times its length
    )
    pool: int = 0  #: calls that a client pod has under way at once, further ones wait in line; 0: no bound
    pool_timeout_ms: float = 0.0  #: how long a call waits in that line before it fails; 0: for ever
    max_age_seconds: float = (
        0.0  #: a sticky connection that is older is closed after its calls and dialled anew; 0: never
    )


class Flow(_Record, frozen=True, kw_only=True):
    """A user task: its weight in the mix and the requests that it makes, one after the other, on the entry service."""

    weight: float
    requests: tuple[str, ...]  #: operations of the entry service
    additions: tuple[int, int] = (0, 0)  #: bounds of how often `requests[:-1]` is repeated (add to cart), uniform


class Consumer(_Record, frozen=True, kw_only=True):
    """A consumer group of a topic: the pods of a service, each partition read by one of them, one message after the other.

    At least once: what was read after the last commit is read again when a pod goes.
    """

    group: str
    service: str
    operation: str  #: of that service: what it does for one message
    start: Literal["earliest", "latest"] = "earliest"  #: where a group without offsets begins
    poll_ms: float = 100.0  #: how long an empty partition is waited for before it is asked again
    commit_seconds: float = 5.0  #: from a message's processing to its automatic commit, at most
    session_seconds: float = 45.0  #: how long the group holds on to a pod that died without leaving it


class Topic(_Record, frozen=True, kw_only=True):
    """A topic of a message broker; its messages are lost with the broker's pod."""

    broker: str  #: service
    operation: str  #: of the broker: whose success appends a message
    partitions: int = 1
    consumers: tuple[Consumer, ...] = ()


class FlagEffect(_Record, frozen=True, kw_only=True):
    """What a feature flag does to an operation, per unit of its value (true is 1): everything is multiplied by the value.

    An effect on what the configuration doesn't have is none.
    """

    operation: str = ""  #: `service:operation`
    call: str = ""  #: `service:operation` called by `operation`: the effect is on this call alone
    failure_ratio: float = 0.0  #: of the requests (of the call: it is refused, without reaching anybody)
    failure_status: int = 0  #: of requests that fail so; 0: the protocol's default
    delay_ms: float = 0.0  #: waited without the CPU
    serial: bool = False  #: the delay is behind a lock of the process: one request after the other
    work_ms: float = 0.0  #: more CPU work per request
    busy_threads: float = 0.0  #: of the process, from the next request on, until a request finds the flag off
    leak_bytes: float = 0.0  #: memory that each request leaves behind
    copies: float = 0.0  #: times that the call is made again, without anybody waiting for it
    flow: str = ""  #: the requests of this flow are made this often, one after the other
    unready: str = ""  #: this service's readiness probe fails


class Flag(_Record, frozen=True, kw_only=True):
    """A feature flag of the application, as flagd's file has it, and what the application does about it."""

    description: str = ""
    variants: dict[str, bool | int | float | str]
    default: str = "off"
    effects: tuple[FlagEffect, ...] = ()


Bounds = tuple[float, float]


class Randomization(_Record, frozen=True, kw_only=True):
    """What differs from run to run, within which bounds: drawn from the run's seed, independently for each service or edge.

    Factors are log-uniform (half and double are equally likely) on a grid of a thousand steps, so that the values, which are public,
    tell no more of the seed than they have to; [1, 1] changes nothing.
    """

    work: Bounds = (1.0, 1.0)  #: factor of the CPU work of a service's operations
    cpu_limit: Bounds = (1.0, 1.0)
    cpu_request: Bounds = (1.0, 1.0)  #: at most the limit, whatever was drawn; the same for memory
    memory_limit: Bounds = (1.0, 1.0)
    memory_request: Bounds = (1.0, 1.0)
    start: Bounds = (1.0, 1.0)  #: factor of the time from container start to serving
    latency: Bounds = (1.0, 1.0)  #: factor of an edge's network latency
    load: Bounds = (1.0, 1.0)  #: factor of the workload's users, or of its rate, and of its curve
    replicas: tuple[int, int] | None = (
        None  #: pods of each service that is neither stateful nor protected; null: as configured
    )
    optional_calls_dropped: Bounds = (
        0.0,
        0.0,
    )  #: share of the calls whose failure is ignored that nobody makes; edges stay declared


class ServiceConfiguration(_Record, frozen=True, kw_only=True):
    """An application: its services, call edges and user flows (`configs/services/`)."""

    name: str
    description: str = ""
    demo_version: str
    chart_version: str
    namespace: str = "otel-demo"
    entry: str = "frontend"
    services: dict[str, Service]
    edges: tuple[EdgeSettings, ...]
    flows: dict[str, Flow]
    topics: dict[str, Topic] = {}
    flags: dict[str, Flag] = {}
    metric_map: str = ""  #: file of `configs/metrics/`; empty: otel-demo-<demo_version>
    edge_source: EdgeSource = "service_graph"  #: of those that the metric map offers
    randomize: Randomization | None = None  #: in a log: null, because what was drawn is in the values


class WorkloadPoint(_Record, frozen=True, kw_only=True):
    """How much load there is at a moment of a workload's curve: users of a closed loop, or the rate of open arrivals."""

    at_seconds: int  #: of control time, after the warm-up
    users: int | None = None
    rate_per_s: float | None = None


class _Shape(_Record, frozen=True, kw_only=True, tag_field="kind"):
    """A factor of the workload's users (or of its rate) over control time: 1 is the load as the workload has it."""


class Constant(_Shape, frozen=True, kw_only=True, tag="constant"):
    """`constant`: the same factor all the time, a share of a sum, a scale of a product."""

    level: float = 1.0  #: 0 or more


class Sine(_Shape, frozen=True, kw_only=True, tag="sine"):
    """`sine`: waves around 1, as between day and night: 1 + amplitude x sin(2 pi (t / period + phase))."""

    amplitude: float = 0.5  #: 0 to 1
    periods: float = 1.0  #: how many of them the episode has: a short episode has a short day
    period_seconds: int | None = None  #: a length instead of a number; at least 60
    phase: float | None = None  #: share of a period that is over when control begins, 0 to 1; null: from the run's seed


class Burst(_Shape, frozen=True, kw_only=True, tag="burst"):
    """`burst`: 1, but for bursts of a trapezoid's form, of which no two overlap.

    Without `at_seconds` the episode is cut into equal stretches of at least `every_seconds`, and each has one burst, at a moment from
    the run's seed.
    """

    height: float = 2.0  #: factor at the top; below 1 it is a slump
    rise_seconds: int = 20  #: at least 1
    hold_seconds: int = 60
    fall_seconds: int = 40  #: at least 1
    every_seconds: int = 300  #: at least as long as a burst
    at_seconds: tuple[int, ...] | None = None  #: when the bursts begin instead


class RandomFactor(_Shape, frozen=True, kw_only=True, tag="noise"):
    """`noise`: log-normal factors with mean 1, drawn from the run's seed, with lines in between.

    Draws beyond three standard deviations are put there, so a factor is at most exp(3 x spread).
    """

    spread: float = 0.1  #: standard deviation of a factor's logarithm, at most 1
    every_seconds: int = 30  #: between two draws, which are independent; at least 5


class Points(_Shape, frozen=True, kw_only=True, tag="points"):
    """`points`: factors at moments, with lines in between; before the first and after the last moment theirs."""

    points: tuple[tuple[float, float], ...]  #: (moment, factor), moments ascending
    stretch_to_horizon: bool = False  #: first and last are the episode's ends; else moments are seconds


TimeUnit = Literal["ns", "us", "ms", "s", "min", "h"]


class Replay(_Shape, frozen=True, kw_only=True, tag="replay"):
    """`replay`: a rate over time from a CSV or Parquet file with a row for each moment.

    It becomes `points` when the configuration is read, at most a thousand: of more rows neighbours are averaged.
    """

    file: str  #: relative to the workload's file
    time_column: str = "time"  #: ascending: numbers, or time stamps
    rate_column: str = "rate"  #: 0 or more
    time_unit: TimeUnit = "s"  #: of numbers
    from_seconds: float = 0.0  #: of the file's time since its first row: what lies before is left out
    to_seconds: float | None = None  #: what lies after is left out
    scale: Literal["mean", "peak", "absolute"] = "mean"  #: what factor 1 is; absolute: the workload's own users or rate
    stretch_to_horizon: bool = True  #: the episode is as long as the file; otherwise a second is a second


class Sum(_Shape, frozen=True, kw_only=True, tag="sum"):
    """`sum`: the sum of its parts' factors."""

    parts: tuple[Shape, ...]


class Product(_Shape, frozen=True, kw_only=True, tag="product"):
    """`product`: the product of its parts' factors."""

    parts: tuple[Shape, ...]


Shape = Constant | Sine | Burst | RandomFactor | Points | Replay | Sum | Product


class Workload(_Record, frozen=True, kw_only=True):
    """The load that users offer (`configs/workloads/`): a closed loop of users or open arrivals, constant or along a curve."""

    name: str
    description: str = ""
    arrivals: Literal["closed", "open"] = "closed"
    users: int = 60  #: closed: users in the loop
    spawn_rate_per_s: float = 20.0  #: closed: users that start or stop per second
    think_seconds: tuple[float, float] = (1.0, 10.0)  #: closed: uniform bounds of the pause after each task
    rate_per_s: float = 0.0  #: open: tasks per second (Poisson)
    mix: dict[str, float] = {}  #: flow -> weight; flows that aren't named keep the configuration's
    absent_flows: Literal["refuse", "ignore"] = "refuse"  #: of the mix, where the application lacks a flow
    shape: Shape | None = None  #: in a log: null, because what became of it is the curve
    curve: tuple[
        WorkloadPoint, ...
    ] = ()  #: what users (or rate) become while control lasts; before it they are as above
    interpolation: Literal["linear", "step"] = (
        "linear"  #: between two points: a line, in steps of 5 s, or the earlier one
    )


Intensity = Literal["zero", "mild", "visible", "severe"]


class PlannedAction(_Record, frozen=True, kw_only=True):
    """An action or intervention in a scenario, `at_seconds` of control time after the warm-up."""

    at_seconds: int
    action: dict[str, Any]  #: the JSON form that `parse_action` reads


class PolicySettings(_Record, frozen=True, kw_only=True):
    """Who decides in a run of the command line.

    `noop`: nobody. `scripted`: a list of actions with their moments. `random`: at each moment of `decide_at_seconds` one of `menu` or
    nothing, all equally likely, from the run's seed; the probabilities are logged. `human_like`: an operator who looks at the service
    level, is late, hesitates, repeats and errs, with `menu` for what there is to do.
    """

    name: Literal["noop", "scripted", "random", "human_like"] = "noop"
    actions: tuple[PlannedAction, ...] = ()
    menu: tuple[dict[str, Any], ...] = ()  #: actions in the JSON form that `parse_action` reads
    decide_at_seconds: tuple[int, ...] = ()  #: of control time
    information: Literal["public", "privileged"] = "public"  #: privileged: the script knows what is injected


class Scenario(_Record, frozen=True, kw_only=True):
    """An episode's script (`configs/scenarios/`): what runs, under which load, what is injected, who acts."""

    name: str
    description: str = ""
    services: str = "small-core"
    workload: str = "steady"
    granularity: str = "default"
    reward: str = "default"
    episode: str = "default"
    telemetry: str = "default"
    horizon_seconds: int = 600
    interventions: tuple[PlannedAction, ...] = ()
    policy: PolicySettings = PolicySettings()
    randomize: Randomization | None = None  #: instead of the service configuration's


class Objective(_Record, frozen=True, kw_only=True):
    """The service level that the user-facing flows owe: judged at the entry service, per reward bucket."""

    service: str = ""  #: whose answers are judged; empty: the entry's (a resolved configuration names it)
    availability: float = 0.99  #: share of scheduled demand that is answered without error
    latency_ms: float = 500.0
    latency_share: float = 0.95  #: share of answers that must be faster


class RewardSettings(_Record, frozen=True, kw_only=True):
    """Weights of the reward's components (`configs/rewards/`); a weight of 0 keeps the component in the table, unscored."""

    name: str
    description: str = ""
    objective: Objective = Objective()
    weights: dict[str, float] = {}
    cpu_core_hour_price: float = 1.0  #: cost units per core-hour requested
    memory_gib_hour_price: float = 0.125  #: cost units per GiB-hour requested


class Goal(_Record, frozen=True, kw_only=True):
    """The objective holds for `hold_seconds` on end, after it was breached at least once."""

    hold_seconds: int = 120


class Emergency(_Record, frozen=True, kw_only=True):
    """Availability of the entry service stays below a floor for a time."""

    availability_below: float = 0.2
    for_seconds: int = 120


class EpisodeSettings(_Record, frozen=True, kw_only=True):
    """When an episode is over before its horizon (`configs/episodes/`); null: never for that reason. And what a policy may not do."""

    name: str
    description: str = ""
    goal: Goal | None = None
    emergency: Emergency | None = Emergency()
    runs_on: bool = False  #: goal and emergency end nothing: whoever judges the episode looks for them
    excluded_actions: tuple[str, ...] = ()  #: types that the precheck rejects when a policy asks for them


EdgeSource = Literal["service_graph", "span_metrics", "client_spans", "node_agent"]
"""Where the features of edges come from: series of the collector's service graph, of its span metrics with the peer as a
dimension, clients' spans as they are, or Coroot's node agent."""

Names = str | tuple[str, ...]  #: one, or several


class FeatureSource(_Record, frozen=True, kw_only=True):
    """Which series feed one raw quantity of a node or edge.

    `metric` is the Prometheus name (of a histogram: without `_bucket`, `_sum`, `_count`; a native histogram has none of them); of
    several all are read, as if they were one. `entity` names the label that holds the node, `source` and `target` an edge's
    ends; of several labels the first counts that leads to a node. What a label holds is put through its pattern (a regular expression
    whose first group is kept), then through the map's aliases and addresses.

    `covers` says of whom a metric that was read and has no series tells that there was nothing. Of requests, errors and latency: "" nodes
    that send spans and are called, and edges whose caller sends spans; "called" nodes that send none, but whose callers do;
    "consumers" edges from a broker to a service that sends spans; "all"; "none". Of anything else "" is "none": without a series unknown.
    """

    metric: Names
    kind: Literal["counter", "gauge", "histogram", "native_histogram"]
    where: dict[str, tuple[str, ...]] = {}  #: keep series whose label has one of the values
    where_not: dict[
        str, tuple[str, ...]
    ] = {}  #: drop series whose label has one of the values; "" is a label that isn't there
    present: tuple[str, ...] = ()  #: keep series that have at least one of these labels
    entity: Names = "service_name"
    entity_pattern: str = ""
    source: Names = ""
    source_pattern: str = ""
    target: Names = ""
    target_pattern: str = ""
    protocol: str = ""  #: in place of a source: the declared edge of this protocol that ends at the target
    code: tuple[str, ...] = ()  #: labels that hold the status, of which the first that isn't empty counts
    code_names: dict[str, str] = {}  #: status as the label has it -> as the tables have it
    covers: Literal["", "called", "consumers", "all", "none"] = ""  #: whose silence is zero
    expected: bool = False  #: every entity has it from the beginning: `coverage` misses it even if it never came
    scale: float = 1.0  #: to the contract's unit
    across: Literal["sum", "max"] = "sum"  #: how series of one entity are put together
    resolution_seconds: int = 0  #: 0: the scrape interval

    @property
    def metrics(self) -> tuple[str, ...]:
        """The Prometheus names."""
        return (self.metric,) if isinstance(self.metric, str) else self.metric


FeatureSources = (
    FeatureSource | tuple[FeatureSource, ...]
)  #: several: where the first doesn't know a cell, the next is asked


class SpanSource(_Record, frozen=True, kw_only=True):
    """Which attributes of clients' spans tell how a call ended, and that it was tried again; of several the first that is there counts."""

    code: tuple[str, ...] = ()
    retry: tuple[str, ...] = ()


class EdgeFeed(_Record, frozen=True, kw_only=True):
    """An edge source: its spans, its series, or both (series are asked where spans know nothing)."""

    series: dict[str, FeatureSources] = {}
    spans: SpanSource | None = None


class AddressBook(_Record, frozen=True, kw_only=True):
    """An information metric that tells whose an address is: kube_pod_info's pod_ip is an address, its pod leads to the name."""

    metric: str
    address: str
    name: str
    name_pattern: str = ""


class MetricMap(_Record, frozen=True, kw_only=True):
    """Raw quantity -> its series, for nodes and edges (`configs/metrics/`). Another stand is another map, not other code.

    A file offers `edge_sources`; a run's map has the chosen one as `edge` and `edge_spans`, and the others no more.
    """

    name: str
    description: str = ""
    drop_labels: tuple[str, ...] = ()  #: labels that carry ids of the run or the process, never logged
    aliases: dict[str, str] = {}  #: what a label holds -> node
    addresses: tuple[AddressBook, ...] = ()
    node: dict[str, FeatureSources]
    edge: dict[str, FeatureSources] = {}
    edge_spans: SpanSource | None = None
    edge_sources: dict[EdgeSource, EdgeFeed] = {}

    def with_edges_of(self, source: EdgeSource) -> MetricMap:
        """Return the map of a run whose edges come from `source`; a map that has its edges already stays as it is.

        Raises: KeyError: the map doesn't offer that source.
        """
        if not self.edge_sources:
            return self
        feed = self.edge_sources[source]
        return msgspec.structs.replace(self, edge=feed.series, edge_spans=feed.spans, edge_sources={})

    def sources(self, table: Literal["node", "edge"]) -> dict[str, tuple[FeatureSource, ...]]:
        """Return the sources of each quantity of a table in their order of preference, quantities sorted by name."""
        quantities = self.node if table == "node" else self.edge
        return {
            name: (found,) if isinstance(found := quantities[name], FeatureSource) else found
            for name in sorted(quantities)
        }


TelemetrySource = Literal["metrics", "spans", "logs", "kubernetes", "findings", "workload"]


class Noise(_Record, frozen=True, kw_only=True):
    """Measurement noise, by quantity of the metric map (`node.memory_bytes`, `edge.latency`).

    Factors are log-normal with mean 1: of each value of a gauge, of each growth of a counter or histogram, which so never falls.
    """

    factors: dict[str, float] = {}  #: standard deviation of the factor's logarithm
    offsets: dict[
        str, float
    ] = {}  #: gauges: standard deviation of what is added, in the contract's unit; none falls below 0


class Losses(_Record, frozen=True, kw_only=True):
    """Losses that come in bursts (Gilbert's two-state chain)."""

    share: float = 0.0  #: of all, in the long run
    burst: float = 1.0  #: mean number of losses on end


class Silence(_Record, frozen=True, kw_only=True):
    """Random stretches in which a source gives nothing: lengths and pauses are exponential."""

    share: float = 0.0  #: of the time, in the long run
    seconds: float = 60.0  #: mean length of a stretch


class Delay(_Record, frozen=True, kw_only=True):
    """How late a source's rows arrive: in the order of their times, as over one connection."""

    seconds: float = 0.0
    random_seconds: float = 0.0  #: besides: uniform between 0 and this


class Hidden(_Record, frozen=True, kw_only=True):
    """What never enters the public stream. Graph and axes of observations stay: what is hidden is masked."""

    services: tuple[str, ...] = ()  #: with all edges that touch them; actions on them still work
    edges: tuple[str, ...] = ()  #: `source->target`
    features: tuple[str, ...] = ()  #: quantities of the metric map: `node.cpu_seconds`, `edge.requests`


class Distortion(_Record, frozen=True, kw_only=True):
    """How telemetry is degraded between the stand and the log (`collectors.distortion`), drawn from the run's seed."""

    noise: Noise = Noise()
    jitter_seconds: float = 0.0  #: a scrape's time stamp is off by up to this, either way
    clock_skew_seconds: float = 0.0  #: a service's clock is off by a constant of up to this, either way
    scrapes: Losses = Losses()  #: of whole scrapes
    targets: Losses = Losses()  #: of one service's part of a scrape
    silences: dict[TelemetrySource, Silence] = {}
    row_losses: dict[Literal["spans", "logs"], float] = {}  #: share of single rows that nobody misses: no gap tells
    hidden: Hidden = Hidden()
    delays: dict[TelemetrySource, Delay] = {}
    keep_clean: bool = False  #: the truth stream keeps what the stand really showed


class TelemetrySettings(_Record, frozen=True, kw_only=True):
    """What of the stand's telemetry enters the log, and in which form (`configs/telemetry/`)."""

    name: str = "default"
    description: str = ""
    traces: Literal["raw", "aggregated", "both"] = "raw"
    span_sampling_ratio: float = 1.0  #: share of the traces that are kept
    lag_seconds: int = (
        60  #: how late a row may arrive and still land in its bucket; later ones are left out, and counted
    )
    distortion: Distortion = Distortion()


class TwinSettings(_Record, frozen=True, kw_only=True):
    """How the twin simulates: where its clock starts, how much of its traces it sends, what its control plane costs in time."""

    epoch_seconds: int = 1_767_571_200  #: 2026-01-05T00:00:00Z, a Monday
    span_budget_per_600s: int = 5_000
    error_span_preference: float = 5.0  #: how much likelier an error span is kept than an ok one
    node_cores: float = 16.0
    node_memory_bytes: int = 64 * 2**30
    schedule_seconds: float = 0.05  #: pod made -> bound
    container_seconds: float = 0.8  #: bound -> container started (image is present)
    endpoint_seconds: float = 0.3  #: Ready -> traffic
    termination_seconds: float = 1.0  #: SIGTERM -> exit where the process handles it
    chaos_seconds: float = 0.4  #: chaos object made -> injected
    scrape_phases: bool = (
        False  #: each source of metrics is scraped off the buckets' edges by a constant of its own, as on a cluster
    )
    chaos_refusal: float = 0.0  #: share of the pods that the chaos daemon can't reach into: injection is partial


class RunSettings(_Record, frozen=True, kw_only=True):
    """What a policy may know of a run: everything but the script. This is what `RunDeclared` carries."""

    services: ServiceConfiguration
    granularity: Granularity
    metrics: MetricMap
    reward: RewardSettings
    episode: EpisodeSettings
    telemetry: TelemetrySettings = TelemetrySettings()
    stand: Literal["twin", "cluster"] = "twin"
    campaign: str = "default"
    horizon_seconds: int = 600
    reveal_truth: bool = False  #: observations show the interventions in force: for oracles and debugging


class RunIdentity(_Record, frozen=True, kw_only=True):
    """Which place a run has among others: set by who plans many of them, null where nobody does.

    It tells of faults (a stratum is named for them), so it goes to the truth stream; and it says where a run comes from, not what
    happened in it, so the content digest leaves it out.
    """

    scenario_id: str | None = None  #: null: the scenario's name
    stratum: str | None = None  #: of the campaign's plan
    family_id: str | None = None  #: (scenario template, root seed); null: of this scenario and seed
    parent_run_id: str | None = None  #: that this run is a branch of
    branch_step: int | None = None  #: first decision step that is the branch's own
    randomness: Literal["same", "fresh"] | None = None  #: of the draws from there on; null: the run is no branch
    pair_id: str | None = None  #: runs that are compared with each other
    retry_of: str | None = None  #: run that was void, or lost its stand, and is run again
    split_ids: dict[str, str] = {}  #: split -> part, e.g. heldout_target -> test
    data_licence: str | None = None  #: null: the project's


class RunConfig(_Record, frozen=True, kw_only=True):
    """The effective configuration of a run, in full."""

    public: RunSettings
    scenario: Scenario
    workload: Workload
    twin: TwinSettings = TwinSettings()
    seed: int = 0
    identity: RunIdentity = RunIdentity()
