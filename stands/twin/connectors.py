"""The collector's two connectors: every span counted, by name (`spanmetrics`) and by edge (`servicegraph`).

In: the kernel's histograms. Out: cumulative series, with names, labels and buckets of contrib 0.151 and our overlay.

Differences that a comparison with a real collector would show, all of them on purpose:
- Counts are exact: the kernel counts every call, the connectors would miss spans that the collector drops.
- Series of a pod that is gone end with one last sample; the real ones are repeated until the collector restarts.
- Of the service graph's `dimensions` (our overlay asks for statuses and attempts) the twin has only the client's; the real one repeats
  the server's beside them.
- A call that was refused or lost stays on its edge; the real connector would show it as an edge to a virtual node of the same name,
  after the time to live of its store.
As with the real ones, a series appears with its first count, spans of one name share a series (an HTTP client's are all called GET or
POST), and an edge to a service without spans is a `virtual_node` whose server durations are 0. So is the edge of a producer to its broker
(the node's name is the span's peer.service). A broker's edges to its consumers have no series: consumers' spans begin traces of their own,
so that no connector can tell where the message was; what went that way is in the groups' offsets (`kafka_metrics`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.conventions import (
    DIMENSIONS,
    PodIdentity,
    call_attributes,
    label,
    message_span_name,
    peer_labels,
    series_labels,
    span_name,
)
from otel_control_gym.stands.twin.counters import Ending
from otel_control_gym.stands.twin.recording import BOUNDS_MS
from otel_control_gym.stands.twin.state import CLIENT, CONSUMER, ENDINGS, INTERNAL, PRODUCER, SERVER
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values
from otel_control_gym.stands.twin.world import World

__all__ = (
    "CALLS",
    "DURATION",
    "EDGE_CLIENT",
    "EDGE_FAILED",
    "EDGE_REQUESTS",
    "EDGE_SERVER",
    "ServiceGraph",
    "SpanMetrics",
)

CALLS = "traces_span_metrics_calls_total"
DURATION = "traces_span_metrics_duration_milliseconds"
EDGE_REQUESTS = "traces_service_graph_request_total"
EDGE_FAILED = "traces_service_graph_request_failed_total"
EDGE_CLIENT = "traces_service_graph_request_client_seconds"
EDGE_SERVER = "traces_service_graph_request_server_seconds"

_KINDS = {
    SERVER: "SPAN_KIND_SERVER",
    CLIENT: "SPAN_KIND_CLIENT",
    INTERNAL: "SPAN_KIND_INTERNAL",
    PRODUCER: "SPAN_KIND_PRODUCER",
    CONSUMER: "SPAN_KIND_CONSUMER",
}
_STATUS = ("STATUS_CODE_UNSET", "STATUS_CODE_ERROR")
_LE_MS = (*map(str, BOUNDS_MS), "+Inf")
_LE_SECONDS = (*(f"{bound / 1000:g}" for bound in BOUNDS_MS), "+Inf")

Flags = npt.NDArray[np.bool_]


class SpanMetrics:
    """`traces_span_metrics_*`: a cell per (pod, kind, span name, peer) and status, 20 series each.

    Peers are told apart, by labels of clients' series, only where our overlay asks for them: where spans metrics are the source of the
    edges.
    """

    def __init__(self, world: World, identity: Callable[[int], PodIdentity], series: TimeSeries) -> None:
        self._with_peers = world.simulation.config.edge_source == "span_metrics"
        self.numbers: Numbers = np.empty(0, np.int64)
        self._world = world
        self._identity = identity
        self._series = series
        self._groups: dict[tuple[int, int, str, str], int] = {}  # (home, kind, name, peer)
        self._row_groups: list[int] = []
        self._order = self._starts = np.empty(0, np.int64)
        self._known: Flags = np.zeros((0, 2), np.bool_)
        self._cells: list[tuple[int, int]] = []  # (group, status) that are scraped
        self._places: tuple[Numbers, Numbers] = (self._order, self._order)
        self._block_numbers: dict[tuple[int, int], list[int]] = {}
        self._stops_seen = 0  # of `World.stopped`: at the last scrape
        self._stops_ended = 0

    def read(self, now: int) -> Values:
        """Return the values of `numbers`; series that appeared or ended make it another object."""
        simulation = self._world.simulation
        self._end_stopped(now)
        if len(simulation.span_rows) > len(self._row_groups):
            self._adopt_rows()
        if not self._row_groups:
            return np.empty(0)
        buckets = np.add.reduceat(simulation.span_buckets[self._order], self._starts, axis=0)
        sums = np.add.reduceat(simulation.span_ms[self._order], self._starts, axis=0)
        counts = buckets.sum(axis=2)
        fresh = (counts > 0) & ~self._known
        if fresh.any():
            self._declare(fresh)
        values = np.empty((len(self._cells), 3 + len(_LE_MS)))
        values[:, 0] = values[:, 2] = counts[self._places]
        values[:, 1] = sums[self._places]
        values[:, 3:] = buckets[self._places].cumsum(axis=1)
        return values.ravel()

    def _adopt_rows(self) -> None:
        """Sort the kernel's new rows into groups of one name."""
        simulation = self._world.simulation
        names, services = simulation.names, simulation.config.services
        for row in simulation.span_rows[len(self._row_groups) :]:
            peer = ""
            if row.kind == INTERNAL:
                name = span_name(INTERNAL, names.flows[row.operation], None)
            else:
                target, operation = names.operations[row.operation]
                peer = target if self._with_peers and row.kind in (CLIENT, PRODUCER) else ""
                if row.kind in (PRODUCER, CONSUMER):
                    owner = simulation.slots[row.slot]
                    name = message_span_name(simulation.config, row.kind, owner, operation)
                else:
                    name = span_name(row.kind, operation, services[target])
            home = self._world.containers[row.slot].home  # a collector goes on counting when a container restarts
            self._row_groups.append(self._groups.setdefault((home, row.kind, name, peer), len(self._groups)))
        groups = np.array(self._row_groups)
        self._order = np.argsort(groups, kind="stable")
        self._starts = np.searchsorted(groups[self._order], np.arange(len(self._groups)))
        more = len(self._groups) - len(self._known)
        self._known = np.concatenate([self._known, np.zeros((more, 2), np.bool_)])

    def _declare(self, fresh: Flags) -> None:
        keys = list(self._groups)
        for group, status in np.argwhere(fresh).tolist():
            slot, kind, name, peer = keys[group]
            pod, config = self._identity(slot), self._world.simulation.config
            labels = series_labels(pod, config.namespace) | {
                **(peer_labels(config, owner=pod.service, peer=peer, kind=kind) if peer else {}),
                "span_name": name,
                "span_kind": _KINDS[kind],
                "status_code": _STATUS[status],
            }
            block = [self._series.declare({"__name__": CALLS} | labels)]
            block += [self._series.declare(item) for item in _histogram(DURATION, labels, _LE_MS)]
            self._block_numbers[group, status] = block
            self._cells.append((group, status))
        self._known |= fresh
        self._place()

    def _end_stopped(self, now: int) -> None:
        """End the series of pods that had their last sample in the scrape before this one."""
        gone = dict.fromkeys(self._world.stopped[self._stops_ended : self._stops_seen])
        self._stops_ended, self._stops_seen = self._stops_seen, len(self._world.stopped)
        if not gone:
            return
        keys = list(self._groups)
        ended = [cell for cell in self._cells if keys[cell[0]][0] in gone]
        self._cells = [cell for cell in self._cells if keys[cell[0]][0] not in gone]
        self._series.end([number for cell in ended for number in self._block_numbers.pop(cell)], now)
        self._place()

    def _place(self) -> None:
        cells = np.array(self._cells, np.int64).reshape(-1, 2)
        self._places = (cells[:, 0], cells[:, 1])
        blocks = [self._block_numbers[cell] for cell in self._cells]
        self.numbers = np.array(blocks, np.int64).ravel()


class ServiceGraph:
    """`traces_service_graph_*`: a cell per edge, outcome and the client's dimensions. Edges that nobody's spans tell of have none."""

    def __init__(self, world: World, series: TimeSeries) -> None:
        self.numbers: Numbers = np.empty(0, np.int64)
        self._simulation = world.simulation
        self._series = series
        services, edges = self._simulation.config.services, self._simulation.names.edges
        self._virtual = np.array([not services[target].instrumented for _, target, _ in edges], np.bool_)
        self._known: Flags = np.zeros((len(edges), ENDINGS), np.bool_)
        self._known[[not services[source].instrumented for source, _, _ in edges]] = True  # nobody tells of those
        self._cells: list[Ending] = []  # that are scraped
        self._places: tuple[Numbers, Numbers] = (np.empty(0, np.int64), np.empty(0, np.int64))
        self._failed = np.empty(0, np.int64)  # which cells are of failed calls
        self._block_numbers: list[list[int]] = []  # per cell
        self._failed_numbers: list[int] = []

    def read(self, now: int) -> Values:  # noqa: ARG002 - edges don't end
        """Return the values of `numbers`; series that appeared make it another object."""
        fresh = self._simulation.endings(self._known)
        if fresh:
            self._declare(fresh)
        buckets = self._simulation.ending_buckets[self._places]
        seconds = self._simulation.ending_seconds[self._places]
        width = 2 + len(_LE_SECONDS)
        values = np.empty((len(self._cells), 1 + 2 * width))
        values[:, 0] = buckets[:, 0].sum(axis=1)
        for side in (0, 1):
            part = values[:, 1 + side * width : 1 + (side + 1) * width]
            part[:, 0] = seconds[:, side]
            part[:, 2:] = buckets[:, side].cumsum(axis=1)
            if side == 1:
                virtual = self._virtual[self._places[0]]
                part[virtual, 0] = 0.0
                part[virtual, 2:] = values[virtual, :1]
            part[:, 1] = part[:, -1]
        return np.concatenate([values.ravel(), values[self._failed, 0]])

    def _declare(self, fresh: tuple[Ending, ...]) -> None:
        for ending in fresh:
            labels = self._labels(ending)
            block = [self._series.declare({"__name__": EDGE_REQUESTS} | labels)]
            for name in (EDGE_CLIENT, EDGE_SERVER):
                block += [self._series.declare(item) for item in _histogram(name, labels, _LE_SECONDS)]
            self._cells.append(ending)
            self._known[ending.edge, ending.row] = True
            self._block_numbers.append(block)
            if ending.failed:
                self._failed_numbers.append(self._series.declare({"__name__": EDGE_FAILED} | labels))
        self._places = (
            np.array([cell.edge for cell in self._cells], np.int64),
            np.array([cell.row for cell in self._cells], np.int64),
        )
        self._failed = np.flatnonzero([cell.failed for cell in self._cells])
        blocks = np.array(self._block_numbers, np.int64).ravel()
        self.numbers = np.concatenate([blocks, np.array(self._failed_numbers, np.int64)])

    def _labels(self, ending: Ending) -> dict[str, str]:
        names, config = self._simulation.names, self._simulation.config
        source, target, _ = names.edges[ending.edge]
        attributes = call_attributes(
            config,
            kind=CLIENT,
            owner=source,
            target=target,
            operation="",
            status=ending.status,
            attempt=ending.attempt,
        )
        dimensions = {f"client_{label(name)}": str(attributes[name]) for name in DIMENSIONS if name in attributes}
        labels = {"client": source, "server": target, "failed": "true" if ending.failed else "false"} | dimensions
        # An empty label is no label, so an ordinary edge has no connection_type.
        return labels | {"connection_type": "virtual_node"} if self._virtual[ending.edge] else labels


def _histogram(name: str, labels: dict[str, str], bounds: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the labels of a histogram's series: sum, count, then the buckets in ascending order."""
    yield {"__name__": f"{name}_sum"} | labels
    yield {"__name__": f"{name}_count"} | labels
    for bound in bounds:
        yield {"__name__": f"{name}_bucket", "le": bound} | labels
