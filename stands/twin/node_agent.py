"""What an eBPF agent on the node sees of connections: requests per edge, refused connects, round trips of its probes.

In: the kernel's edge counters and the pods' network, at each scrape. Out: series with the names of Coroot's node agent, in a `TimeSeries`
of their own: Coroot has its own Prometheus, the application's knows them only where the edges are to come from them.

Differences that a comparison with a real agent would show:
- Counters are per edge of the application, not per container; `destination` is the Service's name, as if joined with its IP already.
- A connection counts as alive while calls are under way on it or came since the last scrape; idle ones are missed, as real ones may be.
- Probes have no jitter; they are lost as other packets are, and not sent again. One that would take longer than the agent's patience has no
  answer: so a long delay, or heavy loss, looks like a partition.

Downstream: `coroot.cache` reads the series; `telemetry` has `AgentMetrics` scraped where the edges' source is the agent.
"""

from __future__ import annotations

import math

import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import draw_uniform
from otel_control_gym.stands.twin.counters import Ending
from otel_control_gym.stands.twin.state import ATTEMPTED, ENDINGS, IN_FLIGHT, LINE_TIMED_OUT, REFUSED
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values
from otel_control_gym.stands.twin.world import World

__all__ = ("SCRAPE_SECONDS", "AgentMetrics", "NodeAgent")

SCRAPE_SECONDS = 15  #: Coroot's default
_PROBE_SECONDS = 0.3  #: after which the agent gives an ICMP probe up
_STATUSES = {"http": ("200", "500"), "grpc": ("grpc:OK", "grpc:Internal")}
_CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
_LE = {
    "0.01": 5,
    "0.05": 6,
    "0.1": 7,
    "1": 11,
    "5": 14,
    "10": 15,
    "+Inf": 17,
}  # bound [s] -> so many of the kernel's buckets lie below
_FAMILIES = {"resp": "redis_queries", "sql": "postgres_queries", "kafka": "kafka_requests"}


class NodeAgent:
    """The agent's series of one run, six per edge; `seed` decides which probes are lost on a way that loses packets."""

    def __init__(self, world: World, *, seed: int) -> None:
        self._seed = seed
        self.series = TimeSeries()
        self._world = world
        self._attempted = np.zeros(len(world.simulation.names.edges))
        self._numbers = self._declare()
        edges = {(edge.source, edge.target): edge.latency_ms for edge in world.simulation.config.edges}
        self._round_trips = np.array(
            [2 * edges[source, target] / 1000 for source, target, _ in world.simulation.names.edges]
        )

    def renew_randomness(self, seed: int) -> None:
        """Draw from `seed` from now on."""
        self._seed = seed

    def scrape(self, now: int) -> None:
        """Store what the agent shows now."""
        simulation = self._world.simulation
        counts = simulation.edge_counts
        finished = simulation.edge_buckets[:, :, 0].sum(axis=2)
        attempted = counts[:, ATTEMPTED]
        alive = (attempted > self._attempted) | (counts[:, IN_FLIGHT] > 0)
        self._attempted = attempted.astype(np.float64)
        values = np.column_stack(
            [
                finished[:, 0],
                # A refused connect carries no request, and what waited for the caller's pool in vain was never sent.
                np.maximum(finished[:, 1] - counts[:, REFUSED] - counts[:, LINE_TIMED_OUT], 0),
                simulation.edge_seconds[:, :, 0].sum(axis=1),
                counts[:, REFUSED],
                alive,
                self._probe(),
            ]
        ).astype(np.float64)
        self.series.append(now, self._numbers, values.ravel())

    def _probe(self) -> Values:
        """Return the mean round trip per edge [s] from each pod of its caller to each of its callee; NaN: no answer."""
        pods: dict[str, list[int]] = {}
        for slot, container in enumerate(self._world.containers):
            if container.running and container.slot == slot:
                pods.setdefault(container.service, []).append(slot)
        found = np.full(len(self._round_trips), np.nan)
        for row, (source, target, _) in enumerate(self._world.simulation.names.edges):
            trips = [
                trip
                for one in pods.get(source, ())
                for other in pods.get(target, ())
                if (trip := self._round_trips[row] + self._added(one, other)) <= _PROBE_SECONDS
            ]
            if trips:
                found[row] = sum(trips) / len(trips)
        return found

    def _added(self, one: int, other: int) -> float:
        """Return what rules add to a probe's round trip between two slots [s]; infinity: it is lost."""
        simulation = self._world.simulation
        (there, kept), (back, kept_back) = simulation.egress(one, other), simulation.egress(other, one)
        kept *= kept_back
        if kept < 1.0 and draw_uniform(self._seed, one, other, simulation.now) >= kept:
            return math.inf
        return (there + back) / SECOND

    def _declare(self) -> Numbers:
        simulation = self._world.simulation
        namespace, services = simulation.config.namespace, simulation.config.services
        numbers = []
        for source, target, protocol in simulation.names.edges:
            edge = {"app_id": f"/k8s/{namespace}/{source}", "destination": f"{target}:{services[target].port}"}
            family = f"container_{_FAMILIES.get(protocol, 'http_requests')}"
            statuses = _STATUSES.get(protocol, ("ok", "failed"))
            numbers += [self.series.declare({"__name__": f"{family}_total"} | edge | {"status": it}) for it in statuses]
            numbers += [
                self.series.declare({"__name__": name} | edge)
                for name in (
                    f"{family}_duration_seconds_total_sum",
                    "container_net_tcp_failed_connects_total",
                    "container_net_tcp_active_connections",
                    "container_net_latency_seconds",
                )
            ]
        return np.array(numbers, np.int64)


class AgentMetrics:
    """What the application's Prometheus gets of the agent where it scrapes it, too: requests by status, and their durations, per edge.

    A call that nobody answered has no status and is left out, but over gRPC, whose clients give such a call one themselves. Of the agent's
    eleven bounds there are those that the kernel counts by.
    """

    def __init__(self, world: World, series: TimeSeries) -> None:
        self.numbers: Numbers = np.empty(0, np.int64)
        self._simulation = world.simulation
        self._series = series
        self._known = np.zeros((len(self._simulation.names.edges), ENDINGS), np.bool_)
        # A message's way to a consumer is an answer to that consumer's request, which the twin doesn't have.
        consumers = {topic.broker: topic.consumers for topic in self._simulation.config.topics.values()}
        self._known[
            [
                any(consumer.service == target for consumer in consumers.get(source, ()))
                for source, target, _ in self._simulation.names.edges
            ]
        ] = True
        self._cells: dict[tuple[int, str], list[int]] = {}  # (edge, status) -> rows of endings
        self._durations: dict[int, list[int]] = {}  # edge -> rows of endings
        self._counters: list[int] = []
        self._histograms: list[list[int]] = []

    def read(self, now: int) -> Values:  # noqa: ARG002 - edges don't end
        """Return the values of `numbers`; series that appeared make it another object."""
        fresh = self._simulation.endings(self._known)
        if fresh:
            self._declare(fresh)
        buckets, seconds = self._simulation.ending_buckets, self._simulation.ending_seconds
        counts = [float(buckets[edge, rows, 0].sum()) for (edge, _), rows in self._cells.items()]
        histograms = []
        for edge, rows in self._durations.items():
            reached = buckets[edge, rows, 0].sum(axis=0).cumsum()
            below = [float(reached[place - 1]) for place in _LE.values()]
            histograms += [*below, below[-1], float(seconds[edge, rows, 0].sum())]
        return np.array([*counts, *histograms])

    def _declare(self, fresh: tuple[Ending, ...]) -> None:
        simulation = self._simulation
        namespace, services = simulation.config.namespace, simulation.config.services
        for ending in fresh:
            self._known[ending.edge, ending.row] = True
            source, target, protocol = simulation.names.edges[ending.edge]
            status = _status(protocol, ending)
            if not status:
                continue
            labels = {"app_id": f"/k8s/{namespace}/{source}", "destination": f"{target}:{services[target].port}"}
            family = f"container_{_FAMILIES.get(protocol, 'http_requests')}"
            if (ending.edge, status) not in self._cells:
                self._counters.append(
                    self._series.declare({"__name__": f"{family}_total"} | labels | {"status": status})
                )
            self._cells.setdefault((ending.edge, status), []).append(ending.row)
            if ending.edge not in self._durations:
                name = f"{family}_duration_seconds_total"
                block = [self._series.declare({"__name__": f"{name}_bucket", "le": le} | labels) for le in _LE]
                block += [self._series.declare({"__name__": name + part} | labels) for part in ("_count", "_sum")]
                self._histograms.append(block)
            self._durations.setdefault(ending.edge, []).append(ending.row)
        self.numbers = np.array(
            [*self._counters, *(number for block in self._histograms for number in block)], np.int64
        )


def _status(protocol: str, ending: Ending) -> str:
    """Return a call's end in the agent's words; empty: it saw no answer."""
    if protocol == "http":
        return f"{ending.status // 100}xx" if ending.status else ""
    if protocol == "grpc":
        return f"grpc:{_CODES[ending.status]}"
    return "failed" if ending.failed else "ok"
