"""`synthetic:N[,seed]`: a generated application of N services, for scale tests and domain randomisation.

In: how many services, a seed. Out: a `ServiceConfiguration` that the `steady` workload runs with headroom; a pure function of the two.

The shape follows what was measured of large deployments: call graphs are trees for the most part, of heavy-tailed size and a depth that
grows slowly, and a few services are shared by very many callers (Luo et al., "Characterizing Microservice Dependency and Performance:
Alibaba Trace Analysis", SoCC 2021); about two services of five call nobody but storage (Winchester et al., "Complexity at Scale: A
Quantitative Analysis of an Alibaba Microservice Deployment", arXiv 2504.13141). So:
- services stand in layers, `gateway` on top; every operation below has one caller in the layer above, drawn at random: a tree;
- caches and databases are leaves; who uses which is drawn in proportion to how many use it already, which makes some of them hot, and
  so are further calls between services;
- the gateway has an operation for every eight services, so that a request touches as many services in a graph of 1,000 as in one of 40.

What follows from the shape: how often each operation is visited under the steady load decides CPU limits (a third of a limit is used at
rest), workers of thread pools, and how heavy the work of hot services may be. Times and sizes are ours, per runtime, in the order of the
demo's (`configs/services/small-core.yaml`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeVar

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.engine.settings import (
    Call,
    EdgeSettings,
    Flow,
    Operation,
    Protocol,
    Service,
    ServiceConfiguration,
    Step,
)

__all__ = ("LARGEST", "SMALLEST", "is_synthetic", "synthetic_services")

SMALLEST: Final = 10
LARGEST: Final = 1000
STEADY_TASKS_PER_S: Final = 34.5  #: 190 users who pause for 5.5 s

_REFERENCE = re.compile(r"synthetic:(\d+)(?:,(\d+))?")
_MIB: Final = 2**20
_UTILISATION: Final = 0.33  #: of a CPU limit at the steady load
_BUSIEST_CORES: Final = 0.4  #: of a single thread at the steady load
_PERIOD_SHARE: Final = 0.2  #: of a quota period that the mean work of an operation may take
_LARGEST_EXTRA: Final = 6.0  #: calls below an operation that further callers may still choose

Item = TypeVar("Item")
Role = Literal["gateway", "service", "cache", "database"]


@dataclass(frozen=True, kw_only=True)
class _Runtime:
    """What a language's typical service is like."""

    name: str
    share: float  #: of all services
    work_ms: float
    start_seconds: float
    memory_mib: int
    workers: int = 0
    threads: int = 0
    cold_work: float = 0.0
    drains: bool = True
    protocol: Protocol = "grpc"


_RUNTIMES: Final = (
    _Runtime(name="go", share=0.3, work_ms=0.6, start_seconds=1, memory_mib=14),
    _Runtime(name="java", share=0.25, work_ms=1.0, start_seconds=14, memory_mib=220, workers=200, cold_work=9.0),
    _Runtime(
        name="nodejs", share=0.15, work_ms=1.5, start_seconds=4, memory_mib=80, workers=1, threads=1, protocol="http"
    ),
    _Runtime(
        name="python", share=0.15, work_ms=2.5, start_seconds=4, memory_mib=48, workers=10, threads=1, drains=False
    ),
    _Runtime(name="dotnet", share=0.1, work_ms=0.8, start_seconds=3, memory_mib=66),
    _Runtime(name="rust", share=0.05, work_ms=0.3, start_seconds=1, memory_mib=6, protocol="http"),
)
_GATEWAY: Final = _Runtime(name="envoy", share=0, work_ms=0.4, start_seconds=2, memory_mib=40, protocol="http")
_CACHE: Final = _Runtime(
    name="valkey", share=0, work_ms=0.05, start_seconds=1, memory_mib=8, workers=1, threads=1, protocol="resp"
)
_DATABASE: Final = _Runtime(
    name="postgres", share=0, work_ms=0.5, start_seconds=4, memory_mib=60, workers=100, drains=False, protocol="sql"
)
_HOLD_WORKERS: Final = ("java", "python", "postgres")  #: a request keeps its thread, or its connection


@dataclass(eq=False)
class _Operation:
    """An operation under construction: its calls, and how often a user's task comes by."""

    node: _Node
    name: str
    work_ms: float
    calls: list[_Operation] = field(default_factory=list)
    stores: list[_Operation] = field(default_factory=list)
    visits: float = 0.0  #: per task
    size: float = 1.0  #: calls that one visit means, itself included
    seconds: float = 0.0  #: that one visit takes


@dataclass(eq=False)
class _Node:
    """A service under construction."""

    name: str
    role: Role
    runtime: _Runtime
    layer: int
    operations: list[_Operation] = field(default_factory=list)


def is_synthetic(reference: object) -> bool:
    """Return whether a reference asks for a generated application, well or badly."""
    return isinstance(reference, str) and reference.startswith("synthetic:")


def synthetic_services(reference: str) -> ServiceConfiguration:
    """Return the application that `synthetic:N[,seed]` stands for (N services and a load generator; seed 0 if none is given).

    Raises: UsageError: it isn't written so, or N is out of bounds.
    """
    found = _REFERENCE.fullmatch(reference)
    size = int(found[1]) if found else 0
    if not SMALLEST <= size <= LARGEST or found is None:
        raise UsageError(
            f"{reference!r} is no generated application\n"
            f"  write synthetic:N or synthetic:N,seed with N from {SMALLEST} to {LARGEST} services, e.g. synthetic:40,3"
        )
    return _Generator(size, int(found[2] or 0)).configuration()


class _Generator:
    """Builds one graph; every draw has a key of its own."""

    def __init__(self, size: int, seed: int) -> None:
        self._size, self._given = size, seed
        self._seed = derive_seed(seed, f"synthetic {size}")
        self._nodes = list(self._placed())
        self._gateway = self._nodes[0]
        self._services = [node for node in self._nodes if node.role == "service"]
        self._storage = [node for node in self._nodes if node.role in ("cache", "database")]
        self._flows = self._tasks()
        self._grow_tree()
        self._give_storage()
        self._measure()
        self._add_calls()
        self._measure()
        self._visit()
        self._lighten()
        self._measure()

    # --- draws ------------------------------------------------------------------------------------------------------------

    def _draw(self, purpose: str, *key: int) -> float:
        return draw_uniform(derive_seed(self._seed, purpose), *key)

    def _pick(self, items: Sequence[Item], purpose: str, *key: int) -> Item:
        return items[int(self._draw(purpose, *key) * len(items))]

    # --- nodes ------------------------------------------------------------------------------------------------------------

    def _placed(self) -> Iterator[_Node]:
        """Yield the nodes, layer by layer within their kind, each with its operations."""
        databases, caches = max(1, round(0.1 * self._size)), max(1, round(0.08 * self._size))
        services = self._size - 1 - databases - caches
        depth = min(services, round(1 + math.log2(self._size) / 2))
        yield self._node("gateway", "gateway", _GATEWAY, 0, max(4, self._size // 8))
        # Every layer has a service; the others are spread so that the middle of the graph is the widest.
        layers = [*range(1, depth + 1)] + [
            1 + int(depth * (self._draw("layer", number, 0) + self._draw("layer", number, 1)) / 2)
            for number in range(services - depth)
        ]
        for number, layer in enumerate(sorted(layers)):
            more = int(math.log(1 - self._draw("operations", number)) / math.log(0.4))
            yield self._node(f"service-{number:03}", "service", self._runtime(number), layer, min(4, 1 + more))
        for number in range(caches):
            yield self._node(f"cache-{number:02}", "cache", _CACHE, depth + 1, 2)
        for number in range(databases):
            yield self._node(f"database-{number:02}", "database", _DATABASE, depth + 1, 2)

    def _runtime(self, number: int) -> _Runtime:
        left = self._draw("runtime", number)
        for runtime in _RUNTIMES:
            left -= runtime.share
            if left < 0:
                return runtime
        return _RUNTIMES[0]

    def _node(self, name: str, role: Role, runtime: _Runtime, layer: int, operations: int) -> _Node:
        node = _Node(name, role, runtime, layer)
        words = {"cache": ("GET", "SET"), "database": ("SELECT", "INSERT"), "gateway": (), "service": ()}[role]
        for number in range(operations):
            http = f"GET /api/{number:03}" if role == "gateway" else f"POST /do-{number}"
            word = words[number] if words else http if runtime.protocol == "http" else f"Do{number}"
            spread = 0.5 + 1.5 * self._draw(f"work {name}", number)
            node.operations.append(_Operation(node, word, round(runtime.work_ms * spread, 3)))
        return node

    def _tasks(self) -> dict[str, Flow]:
        """Return the users' tasks: one or two requests, weights by Zipf's law."""
        endpoints = self._gateway.operations
        flows: dict[str, Flow] = {}
        for number, endpoint in enumerate(endpoints):
            requests = [endpoint.name]
            if self._draw("two requests", number) < 1 / 3:
                requests.append(self._pick(endpoints, "second request", number).name)
            weight = round(10 / (1 + number) ** 0.8, 3)
            flows[f"task_{number:03}"] = Flow(weight=weight, requests=tuple(requests))
        return flows

    # --- calls ------------------------------------------------------------------------------------------------------------

    def _grow_tree(self) -> None:
        """Give every operation of a service one caller in the layer above."""
        above: list[_Operation] = []
        current, layer = list(self._gateway.operations), 0
        for index, node in enumerate(self._services):
            if node.layer != layer:
                above, current, layer = current, [], node.layer
            for number, operation in enumerate(node.operations):
                # The gateway's operations get a call each, the popular ones first, before any gets another.
                idle = len(current) if layer == 1 else len(above)
                parent = above[idle] if idle < len(above) else self._pick(above, "parent", index, number)
                parent.calls.append(operation)
                current.append(operation)

    def _give_storage(self) -> None:
        """Let most operations of services use a cache or a database, the popular ones the most; each of them has a user."""
        urn = list(self._storage)
        for index, store in enumerate(self._storage):
            user = self._pick(self._services, "first user", index).operations[0]
            user.stores.append(store.operations[0])
        for index, node in enumerate(self._services):
            if self._draw("stateful", index) < 0.4:
                continue
            store = self._pick(urn, "storage", index)
            urn.append(store)
            for number, operation in enumerate(node.operations):
                operation.stores.append(self._pick(store.operations, "storage operation", index, number))

    def _add_calls(self) -> None:
        """Add calls to operations further down, the popular ones the most, as long as little hangs on them."""
        operations = [operation for node in self._services for operation in node.operations]
        urn = list(operations)
        for number in range(round(0.35 * len(operations))):
            caller = self._pick(operations, "caller", number)
            called = self._pick(urn, "called", number)
            if caller.node.layer < called.node.layer and called.size <= _LARGEST_EXTRA and called not in caller.calls:
                caller.calls.append(called)
            urn.append(called)

    # --- what follows -----------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Compute, from the leaves up, how many calls and how many seconds a visit of an operation means."""
        for node in sorted(self._nodes, key=lambda node: node.layer, reverse=True):
            for operation in node.operations:
                below = operation.stores + operation.calls
                operation.size = 1 + sum(called.size for called in below)
                waited = [called.seconds + 0.0005 for called in operation.calls]
                stores = sum(called.seconds + 0.0005 for called in operation.stores)
                together = max(waited, default=0.0) if self._parallel(operation) else sum(waited)
                operation.seconds = 2 * operation.work_ms / 1000 + stores + together

    def _visit(self) -> None:
        """Compute, from the gateway down, how often a task visits each operation."""
        total = sum(flow.weight for flow in self._flows.values())
        endpoints = {operation.name: operation for operation in self._gateway.operations}
        for flow in self._flows.values():
            for request in flow.requests:
                endpoints[request].visits += flow.weight / total
        for node in sorted(self._nodes, key=lambda node: node.layer):
            for operation in node.operations:
                for called in operation.stores + operation.calls:
                    called.visits += operation.visits

    def _lighten(self) -> None:
        """Make the work of services lighter that one thread couldn't do with headroom."""
        for node in self._nodes:
            cores = _cores(node)
            if cores > _BUSIEST_CORES:
                for operation in node.operations:
                    operation.work_ms = max(0.001, round(operation.work_ms * _BUSIEST_CORES / cores, 3))

    def _parallel(self, operation: _Operation) -> bool:
        return (
            self._draw(
                f"parallel {operation.node.name}", len(operation.name), operation.node.operations.index(operation)
            )
            < 0.35
        )

    # --- records ----------------------------------------------------------------------------------------------------------

    def configuration(self) -> ServiceConfiguration:
        """Return the graph as a service configuration."""
        edges = {
            (node.name, called.node.name): called.node
            for node in self._nodes
            for operation in node.operations
            for called in operation.stores + operation.calls
        }
        optional = {pair for number, pair in enumerate(edges) if self._may_fail(number, edges[pair])}
        needed = {target for source, target in edges if (source, target) not in optional}
        services = {
            node.name: self._service(node, optional, is_needed=node.role == "gateway" or node.name in needed)
            for node in self._nodes
        }
        services["load-generator"] = Service(
            kind="workload", runtime="python", protocol="http", port=8089, protected=True, start_seconds=6
        )
        entry = EdgeSettings(source="load-generator", target="gateway", protocol="http", connection="per_request")
        return ServiceConfiguration(
            name=f"synthetic-{self._size}-{self._given}",
            description=f"A generated application of {self._size} services (seed {self._given}).",
            demo_version="2.2.0",
            chart_version="0.40.10",
            entry="gateway",
            services=services,
            edges=(entry, *(self._edge(number, pair, edges[pair]) for number, pair in enumerate(edges))),
            flows=self._flows,
        )

    def _may_fail(self, number: int, target: _Node) -> bool:
        return target.role == "service" and self._draw("optional", number) < 0.15

    def _service(self, node: _Node, optional: set[tuple[str, str]], *, is_needed: bool) -> Service:
        runtime, cores = node.runtime, _cores(node)
        longest = max(operation.work_ms for operation in node.operations)
        limit = max(cores / _UTILISATION, longest / 100 / _PERIOD_SHARE, 0.02)
        holds = runtime.name in _HOLD_WORKERS
        present = STEADY_TASKS_PER_S * sum(operation.visits * operation.seconds for operation in node.operations)
        memory = runtime.memory_mib * _MIB
        return Service(
            kind="dependency" if node.role in ("cache", "database") else "service",
            runtime=runtime.name,
            protocol=runtime.protocol,
            port={"cache": 6379, "database": 5432}.get(node.role, 8080),
            cpu_request_cores=_millicores(max(0.005, 1.5 * cores)),
            cpu_limit_cores=_millicores(max(limit, 0.005, 1.5 * cores)),
            memory_request_bytes=memory,
            memory_limit_bytes=2 * memory,
            stateful=node.role in ("cache", "database"),
            user_facing=node.role == "gateway",
            optional_group=None if is_needed else node.name,
            instrumented=node.role in ("gateway", "service"),
            workers=max(runtime.workers, math.ceil(present / 0.25)) if holds else runtime.workers,
            holds_worker=holds,
            threads=runtime.threads,
            start_seconds=runtime.start_seconds,
            cold_work=runtime.cold_work,
            drains=runtime.drains,
            memory_base_bytes=memory,
            memory_per_request_bytes=20_000,
            operations={operation.name: self._operation(operation, optional) for operation in node.operations},
        )

    def _operation(self, operation: _Operation, optional: set[tuple[str, str]]) -> Operation:
        def call(called: _Operation) -> Call:
            ends = (operation.node.name, called.node.name)
            return Call(target=f"{called.node.name}:{called.name}", on_error="ignore" if ends in optional else "fail")

        before = round(operation.work_ms * 0.6, 4)
        steps = [Step(work_ms=before, calls=tuple(map(call, operation.stores)))]
        if operation.calls:
            steps.append(Step(calls=tuple(map(call, operation.calls)), parallel=self._parallel(operation)))
        return Operation(steps=tuple(steps), tail_ms=round(operation.work_ms - before, 4))

    def _edge(self, number: int, pair: tuple[str, str], target: _Node) -> EdgeSettings:
        source, protocol = pair[0], target.runtime.protocol
        patient = target.role != "service" or self._draw("patient", number) < 0.7
        pooled = protocol in ("http", "sql") and self._draw("pooled", number) < 0.3
        return EdgeSettings(
            source=source,
            target=pair[1],
            protocol=protocol,
            connection="per_request" if protocol == "http" and self._draw("connection", number) < 0.5 else "sticky",
            latency_ms=round(0.1 + 0.2 * self._draw("latency", number), 3),
            timeout_ms=0.0 if patient else self._pick((1000.0, 2000.0, 5000.0), "timeout", number),
            retries=0 if patient else self._pick((0, 1, 2), "retries", number),
            backoff_ms=0.0 if patient else 25.0,
            jitter=0.0 if patient else 0.5,
            pool=self._pick((16, 32, 64), "pool", number) if pooled else 0,
            pool_timeout_ms=1000.0 if pooled else 0.0,
        )


def _cores(node: _Node) -> float:
    """Return the cores that a service computes with at the steady load."""
    return STEADY_TASKS_PER_S * sum(operation.visits * operation.work_ms for operation in node.operations) / 1000


def _millicores(cores: float) -> float:
    return math.ceil(cores * 1000) / 1000
