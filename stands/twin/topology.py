"""The application as arrays: what never changes while the kernel runs.

In: a `ServiceConfiguration`. Out: `Topology`, a named tuple of structured arrays that compiled code reads, and `Names`, the same rows
as a person knows them.

Everything refers to everything by row number. An operation owns a run of steps, a step a run of calls, a flow a run of calls too
(its requests to the entry service, made by the load generator). A call knows its edge, its rank among the connections that a pod of the
calling service keeps, and its rank among the target operations that this pod counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.settings import Call, Operation, Service, ServiceConfiguration
from otel_control_gym.stands.twin.statuses import DEFAULTS, LARGEST, PROTOCOLS
from otel_control_gym.stands.twin.topology_checks import check_application, known_statuses

__all__ = ("CONSTANT", "EXPONENTIAL", "LOGNORMAL", "Names", "Table", "Topology", "build_topology")

Table = npt.NDArray[np.void]  #: a structured array

CONSTANT: Final = 0
EXPONENTIAL: Final = 1
LOGNORMAL: Final = 2
_DISTRIBUTIONS: Final = {"constant": CONSTANT, "exponential": EXPONENTIAL, "lognormal": LOGNORMAL}
_MS: Final = 1_000_000.0  #: nanoseconds
_SECOND: Final = 1e9

SERVICE = np.dtype(
    [
        ("workers", "i8"),  # 0: no bound
        ("holds", "i8"),  # 1: keeps its worker while it waits for answers
        ("threads", "i8"),  # cores that it can use at once; 0: no bound
        ("cold_work", "f8"),  # extra share of a fresh pod's first request
        ("cold_requests", "f8"),  # requests until it is down to 1/e
        ("memory_base", "i8"),
        ("memory_request", "i8"),  # for each request in flight
    ],
    align=True,
)
OPERATION = np.dtype(
    [
        ("service", "i8"),
        ("rank", "i8"),  # among the operations of its service
        ("first_step", "i8"),
        ("steps", "i8"),
        ("distribution", "i8"),
        ("request_bytes", "i8"),
        ("response_bytes", "i8"),
        ("tail_ns", "f8"),
        ("mu", "f8"),  # lognormal, of a mean of 1
        ("sigma", "f8"),
        ("failure_ratio", "f8"),
        ("failure_status", "i8"),  # 0: the protocol's for errors
        ("topic", "i8"),  # that its success appends a message to; -1: none
        ("consumed", "i8"),  # 1: its requests are messages
    ],
    align=True,
)
STEP = np.dtype([("work_ns", "f8"), ("first_call", "i8"), ("calls", "i8"), ("parallel", "i8")], align=True)
CALL = np.dtype(
    [
        ("operation", "i8"),  # called
        ("edge", "i8"),
        ("per_line", "i8"),
        ("fails", "i8"),  # 1: its failure is the caller's
        ("connection", "i8"),  # rank of the edge among those of the calling service
        ("target", "i8"),  # rank of the operation among those that the calling service calls
        ("error_status", "i8"),  # of the caller if it fails; 0: its protocol's; -1: the callee's
        ("tolerates", "i8"),  # a status that is an answer
        ("site", "i8"),  # rank of the call in its operation: part of the key of what it causes
        ("cache_hit_ratio", "f8"),  # share of these calls that a warm pod doesn't have to make
    ],
    align=True,
)
EDGE = np.dtype(
    [
        ("source", "i8"),
        ("target", "i8"),
        ("sticky", "i8"),
        ("latency_ns", "i8"),
        ("timeout_ns", "i8"),  # 0: none
        ("retries", "i8"),
        ("backoff_ns", "f8"),  # before the first retry
        ("jitter", "f8"),  # share of it
        ("max_age_ns", "f8"),  # of a sticky connection; 0: none
        ("pool", "i8"),  # calls that a pod has under way at once; 0: no bound
        ("pool_timeout_ns", "i8"),  # 0: none
        ("protocol", "i8"),  # see `statuses`
        ("ok_status", "i8"),
        ("error_status", "i8"),
        ("gone_status", "i8"),
        ("late_status", "i8"),
    ],
    align=True,
)
FLOW = np.dtype([("first_call", "i8"), ("calls", "i8"), ("additions_low", "i8"), ("additions_high", "i8")], align=True)
TOPIC = np.dtype(
    [
        ("broker", "i8"),  # service
        ("first_partition", "i8"),
        ("partitions", "i8"),
        ("first_consumer", "i8"),
        ("consumers", "i8"),
    ],
    align=True,
)
CONSUMER = np.dtype(
    [
        ("topic", "i8"),
        ("service", "i8"),
        ("call", "i8"),
        ("first_reader", "i8"),
        ("latest", "i8"),  # 1: a group without offsets begins at the end
        ("poll_ns", "i8"),
        ("commit_ns", "i8"),
        ("session_ns", "i8"),
    ],
    align=True,
)


class Topology(NamedTuple):
    """The application's rows; read-only."""

    services: Table
    operations: Table
    steps: Table
    calls: Table
    edges: Table
    flows: Table
    status_columns: npt.NDArray[np.int64]  #: status -> column of `State.edge_statuses`
    topics: Table
    consumers: Table


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows are called, and which rows each service owns."""

    services: tuple[str, ...]
    operations: tuple[tuple[str, str], ...]  #: (service, operation)
    edges: tuple[tuple[str, str, str], ...]  #: (source, target, protocol)
    flows: tuple[str, ...]
    load_service: int  #: row of the service of kind `workload`
    served: tuple[tuple[int, ...], ...]  #: per service: its operations, in order of their rank
    called: tuple[tuple[int, ...], ...]  #: per service: the operations that it calls, in order of their rank
    outgoing: tuple[tuple[int, ...], ...]  #: per service: the edges that start there, in order of their rank
    statuses: tuple[int, ...]  #: that calls can end with, ascending
    fan_out: int  #: most calls that one step starts at once, for one order line, copies by flags included
    topics: tuple[str, ...]
    consumers: tuple[tuple[str, str, str], ...]  #: (topic, group, service)
    partitions: tuple[int, ...]  #: per topic
    calls: dict[tuple[str, str], tuple[int, ...]]  #: (operation, called operation), as configured -> rows of such calls


class _Builder:
    """Collects rows while it walks through a configuration."""

    def __init__(self, config: ServiceConfiguration) -> None:
        self.config = config
        self.services = {name: row for row, name in enumerate(config.services)}
        self.operations: dict[tuple[str, str], int] = {}
        for name, service in config.services.items():
            for operation in service.operations:
                self.operations[name, operation] = len(self.operations)
        self.edges = {(edge.source, edge.target): row for row, edge in enumerate(config.edges)}
        self.appending = {(topic.broker, topic.operation): row for row, topic in enumerate(config.topics.values())}
        self.consuming = [(own.service, own.operation) for topic in config.topics.values() for own in topic.consumers]
        self.outgoing: list[list[int]] = [[] for _ in self.services]
        self.called: list[list[int]] = [[] for _ in self.services]
        self.step_rows: list[tuple[int | float, ...]] = []
        self.call_rows: list[tuple[int | float, ...]] = []
        self.calls: dict[tuple[str, str], list[int]] = {}
        self.topic_rows: list[tuple[int, ...]] = []
        self.consumer_rows: list[tuple[int | float, ...]] = []
        self.fan_out = 1

    def call(self, source: str, settings: Call, key: str, *, site: int) -> None:
        """Add a call from a service."""
        target = settings.target
        service, _, operation = target.partition(":")
        if (service, operation) not in self.operations:
            raise self._error(key, target, "there is no such operation", "name one as service:operation")
        if (source, service) not in self.edges:
            raise self._error(key, target, f"there is no edge {source} -> {service}", "add it under edges")
        row, edge, at = self.operations[service, operation], self.edges[source, service], self.services[source]
        for known, item in ((self.outgoing[at], edge), (self.called[at], row)):
            if item not in known:
                known.append(item)
        self.call_rows.append(
            (
                row,
                edge,
                settings.repeat == "per_line",
                settings.on_error == "fail",
                self.outgoing[at].index(edge),
                self.called[at].index(row),
                settings.error_status,
                settings.tolerates,
                site,
                settings.cache_hit_ratio,
            )
        )

    def operation(self, service: str, name: str, operation: Operation, rank: int) -> tuple[int | float, ...]:
        """Add an operation's steps and calls, and return its row."""
        first_step, site = len(self.step_rows), 0
        for number, step in enumerate(operation.steps):
            first_call = len(self.call_rows)
            for call in step.calls:
                key = f"services.{service}.operations.{name}.steps[{number}]"
                self.call(service, call, key, site=site)
                self.calls.setdefault((f"{service}:{name}", call.target), []).append(len(self.call_rows) - 1)
                site += 1
            self.step_rows.append((step.work_ms * _MS, first_call, len(step.calls), step.parallel))
            copies = sum(self._most_copies(f"{service}:{name}", call.target) for call in step.calls)
            self.fan_out = max(self.fan_out, len(step.calls) + copies)
        sigma = math.sqrt(math.log1p(operation.variation**2))
        return (
            self.services[service],
            rank,
            first_step,
            len(operation.steps),
            _DISTRIBUTIONS[operation.distribution],
            operation.request_bytes,
            0 if (service, name) in self.consuming else operation.response_bytes,
            operation.tail_ms * _MS,
            -0.5 * sigma * sigma,
            sigma,
            operation.failure_ratio,
            operation.failure_status,
            self.appending.get((service, name), -1),
            (service, name) in self.consuming,
        )

    def topics(self) -> None:
        """Add the topics, their consumers, and the brokers' calls of what consumers do for a message."""
        first_partition = first_reader = 0
        for number, (name, topic) in enumerate(self.config.topics.items()):
            key = f"topics.{name}"
            if (topic.broker, topic.operation) not in self.operations:
                found = f"{topic.broker}:{topic.operation}"
                raise self._error(f"{key}.operation", found, "there is no such operation", "name one of the broker's")
            first_consumer = len(self.consumer_rows)
            for place, consumer in enumerate(topic.consumers):
                call = Call(target=f"{consumer.service}:{consumer.operation}")
                self.call(topic.broker, call, f"{key}.consumers[{place}]", site=0)
                times = (consumer.poll_ms * _MS, consumer.commit_seconds * _SECOND, consumer.session_seconds * _SECOND)
                service, latest = self.services[consumer.service], consumer.start == "latest"
                self.consumer_rows.append((number, service, len(self.call_rows) - 1, first_reader, latest, *times))
                first_reader += topic.partitions
            broker = self.services[topic.broker]
            self.topic_rows.append((broker, first_partition, topic.partitions, first_consumer, len(topic.consumers)))
            first_partition += topic.partitions

    def _most_copies(self, operation: str, call: str) -> int:
        """Return how many copies of a call flags can ask for at most."""
        copies = 0.0
        for flag in self.config.flags.values():
            values = [float(value) for value in flag.variants.values() if not isinstance(value, str)]
            share = sum(
                effect.copies for effect in flag.effects if (effect.operation, effect.call) == (operation, call)
            )
            copies += share * max(0.0, *values)
        return math.ceil(copies)

    def load_service(self) -> int:
        """Return the row of the service that makes the flows' requests."""
        found = [name for name, service in self.config.services.items() if service.kind == "workload"]
        if len(found) != 1:
            raise self._error("services", found, "one service must be of kind workload", "mark the load generator so")
        return self.services[found[0]]

    def _error(self, key: str, found: object, problem: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(
            file=f"services/{self.config.name}.yaml", key=key, found=found, problem=problem, remedy=remedy
        )


def build_topology(config: ServiceConfiguration) -> tuple[Topology, Names]:
    """Return the rows of an application and their names.

    Raises:
        ConfigurationError: a call names an operation or needs an edge that isn't there, no service (or more than one) makes the
            load, a topic or consumer has no operation, or a number is out of its bounds.
    """
    builder = _Builder(config)
    check_application(config)
    load = builder.load_service()
    operations = [
        builder.operation(service, name, operation, rank)
        for service, settings in config.services.items()
        for rank, (name, operation) in enumerate(settings.operations.items())
    ]
    flows = []
    for name, flow in config.flows.items():
        flows.append((len(builder.call_rows), len(flow.requests), *flow.additions))
        for request in flow.requests:
            call = Call(target=f"{config.entry}:{request}", on_error="ignore")
            builder.call(list(config.services)[load], call, f"flows.{name}.requests", site=0)
    builder.topics()
    edges = [
        (
            builder.services[edge.source],
            builder.services[edge.target],
            edge.connection == "sticky",
            edge.latency_ms * _MS,
            edge.timeout_ms * _MS,
            edge.retries,
            edge.backoff_ms * _MS,
            edge.jitter,
            edge.max_age_seconds * 1000 * _MS,
            edge.pool,
            edge.pool_timeout_ms * _MS,
            PROTOCOLS[edge.protocol],
            *msgspec.structs.astuple(DEFAULTS[PROTOCOLS[edge.protocol]]),
        )
        for edge in config.edges
    ]
    statuses = known_statuses(config)
    topology = Topology(
        services=_table([_service_row(service) for service in config.services.values()], SERVICE),
        operations=_table(operations, OPERATION),
        steps=_table(builder.step_rows, STEP),
        calls=_table(builder.call_rows, CALL),
        edges=_table(edges, EDGE),
        flows=_table(flows, FLOW),
        topics=_table(builder.topic_rows, TOPIC),
        consumers=_table(builder.consumer_rows, CONSUMER),
        status_columns=_columns(statuses),
    )
    served: list[list[int]] = [[] for _ in config.services]
    for (service, _), row in builder.operations.items():
        served[builder.services[service]].append(row)
    return topology, Names(
        services=tuple(config.services),
        operations=tuple(builder.operations),
        edges=tuple((edge.source, edge.target, edge.protocol) for edge in config.edges),
        flows=tuple(config.flows),
        load_service=load,
        served=tuple(map(tuple, served)),
        called=tuple(map(tuple, builder.called)),
        outgoing=tuple(map(tuple, builder.outgoing)),
        statuses=statuses,
        fan_out=builder.fan_out,
        topics=tuple(config.topics),
        consumers=tuple(
            (name, own.group, own.service) for name, topic in config.topics.items() for own in topic.consumers
        ),
        partitions=tuple(topic.partitions for topic in config.topics.values()),
        calls={pair: tuple(rows) for pair, rows in builder.calls.items()},
    )


def _service_row(service: Service) -> tuple[int | float, ...]:
    return (
        service.workers,
        int(service.holds_worker),
        service.threads,
        service.cold_work,
        service.cold_requests,
        service.memory_base_bytes,
        service.memory_per_request_bytes,
    )


def _columns(statuses: Sequence[int]) -> npt.NDArray[np.int64]:
    columns = np.full(LARGEST + 1, -1, np.int64)
    columns[list(statuses)] = np.arange(len(statuses))
    return columns


def _table(rows: Sequence[tuple[int | float, ...]], dtype: np.dtype[np.void]) -> Table:
    table = np.zeros(max(1, len(rows)), dtype)  # never empty: compiled code may look at row 0
    if rows:
        table[:] = rows
    return table
