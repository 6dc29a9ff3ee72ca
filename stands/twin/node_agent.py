"""What an eBPF agent on the node sees of connections: requests per edge, refused connects, round trips of its probes.

In: the kernel's edge counters and the pods' network, at each scrape. Out: series with the names of Coroot's node agent, in a `TimeSeries`
of their own: Coroot has its own Prometheus, the application's doesn't know them.

Differences that a comparison with a real agent would show:
- Counters are per edge of the application, not per container; `destination` is the Service's name, as if joined with its IP already.
- A connection counts as alive while calls are under way on it or came since the last scrape; idle ones are missed, as real ones may be.
- Probes have no jitter; they are lost as other packets are, and not sent again. One that would take longer than the agent's patience has no
  answer: so a long delay, or heavy loss, looks like a partition.

Downstream: `coroot.cache` reads the series; nothing of the simulation goes further than this module.
"""

from __future__ import annotations

import math

import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import draw_uniform
from otel_control_gym.stands.twin.state import ATTEMPTED, IN_FLIGHT, LINE_TIMED_OUT, REFUSED
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values
from otel_control_gym.stands.twin.world import World

__all__ = ("SCRAPE_SECONDS", "NodeAgent")

SCRAPE_SECONDS = 15  #: Coroot's default
_PROBE_SECONDS = 0.3  #: after which the agent gives an ICMP probe up
_STATUSES = {"http": ("200", "500"), "grpc": ("grpc:OK", "grpc:Internal")}
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
