"""What can be read of a simulation at its present moment; reading changes nothing.

In: the kernel's arrays. Out: counters as copies or read-only views, and the spans that were kept. Downstream: `telemetry`, `node_agent`,
`sampling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.counters import (
    Ending,
    LoadCounters,
    PodCounters,
    SpanRow,
    Statistics,
    read_ending,
    read_load,
    read_only,
    read_pods,
)
from otel_control_gym.stands.twin.machine import NS_PER_SECOND, Machine
from otel_control_gym.stands.twin.message_counters import (
    GroupReading,
    TopicReading,
    read_groups,
    read_topics,
)
from otel_control_gym.stands.twin.topology import Table

__all__ = ("Readings",)


class Readings(Machine):
    """Counters are cumulative from the start of the simulation (edges, flows) or of the pod (span rows, CPU, network)."""

    @property
    def slots(self) -> Sequence[str]:
        """Return the service of each slot."""
        return self._slots

    def pod_counters(self) -> PodCounters:
        """Return the counters of all slots, what is in progress included."""
        return read_pods(self._state.pods[: len(self._slots)], self.now, self._memory())

    def cpu_seconds(self, slots: Sequence[int]) -> float:
        """Return the CPU time of some slots, what is in progress included."""
        pods = self._state.pods[list(slots)]
        return float(read_pods(pods, self.now, np.zeros(len(pods), np.int64)).cpu_seconds.sum())

    def egress(self, slot: int, peer_slot: int) -> tuple[int, float]:
        """Return what rules do to what a pod sends to a peer: added latency [ns], jitter left out, and the share that gets through."""
        rules = [self._rules[key] for key in ((slot, -1), (slot, peer_slot)) if key in self._rules]
        kept = math.prod(0.0 if rule.blocked else 1.0 - rule.loss for rule in rules)
        return sum(rule.latency_ns for rule in rules), kept

    @property
    def span_rows(self) -> Sequence[SpanRow]:
        """Return what each row of `span_buckets` and `span_ms` counts; rows are only ever added."""
        return self._rows

    @property
    def span_buckets(self) -> npt.NDArray[np.int64]:
        """Return spans by duration [rows, 2 (ok, failed), 17], not cumulative; summed over the last axis: calls.

        SERVER rows count what pods answered, CONSUMER rows messages that they processed, CLIENT and PRODUCER rows what their calls came to,
        INTERNAL rows users' tasks.
        """
        return read_only(self._state.span_buckets[: len(self._rows)])

    @property
    def span_ms(self) -> npt.NDArray[np.float64]:
        """Return summed durations of spans in milliseconds [rows, 2 (ok, failed)]."""
        return self._state.span_sums_ns[: len(self._rows)] / 1e6

    @property
    def edge_counts(self) -> npt.NDArray[np.int64]:
        """Return attempts per edge [edges, 9], columns `state.OK, ERROR, REFUSED, LOST, TIMED_OUT, IN_FLIGHT, ATTEMPTED, RETRIED,
        LINE_TIMED_OUT`.

        At every moment ATTEMPTED is the sum of the first six; RETRIED tells how many of them weren't their call's first.
        """
        return read_only(self._state.edge_counts)

    @property
    def edge_statuses(self) -> npt.NDArray[np.int64]:
        """Return finished calls by the status that their caller saw [edges, `names.statuses`]; see `statuses` for what they mean.

        Summed over statuses: all that was attempted, but for what is in flight and what a caller didn't live to see.
        """
        return read_only(self._state.edge_statuses)

    @property
    def edge_buckets(self) -> npt.NDArray[np.int64]:
        """Return finished calls by duration [edges, 2 (ok, failed), 2 (client's view, server's view), 17], not cumulative.

        Refused, lost and timed out calls are in the client's view only; calls whose caller died, and copies of calls that nobody
        waits for, are in neither.
        """
        return read_only(self._state.edge_buckets)

    @property
    def edge_seconds(self) -> npt.NDArray[np.float64]:
        """Return summed durations in seconds [edges, 2 (ok, failed), 2 (client's view, server's view)]."""
        return self._state.edge_sums_ns / NS_PER_SECOND

    def endings(self, known: npt.NDArray[np.bool_]) -> tuple[Ending, ...]:
        """Return the ways in which calls have ended, but those that are known [edges, ENDINGS]."""
        fresh = np.argwhere((self._state.endings > 0) & ~known).tolist()
        return tuple(
            read_ending(int(self._state.endings[edge, row]), edge=edge, row=row, statuses=self.names.statuses)
            for edge, row in fresh
        )

    @property
    def ending_buckets(self) -> npt.NDArray[np.int64]:
        """Return `edge_buckets` by the way in which the calls ended [edges, ENDINGS, 2 (client's view, server's view), 17]."""
        return read_only(self._state.ending_buckets)

    @property
    def ending_seconds(self) -> npt.NDArray[np.float64]:
        """Return `edge_seconds` by the way in which the calls ended [edges, ENDINGS, 2 (client's view, server's view)]."""
        return self._state.ending_sums_ns / NS_PER_SECOND

    def load_counters(self) -> LoadCounters:
        """Return what the users asked for and got."""
        source = self.names.services[self.names.load_service]
        return read_load(self._state, [row for row, edge in enumerate(self.names.edges) if edge[0] == source])

    def topics(self) -> tuple[TopicReading, ...]:
        """Return the state of the topics, in the configuration's order."""
        return read_topics(self._topology, self._state, self.names)

    def groups(self) -> tuple[GroupReading, ...]:
        """Return the state of the consumer groups, each with its place in every partition."""
        return read_groups(self._topology, self._state, self.names)

    def statistics(self) -> Statistics:
        """Return how much the kernel did and holds."""
        world = self._state.world[0]
        return Statistics(
            now=self.now,
            hops=int(world["hops"]),
            events=int(world["events"]),
            hops_in_flight=int(world["hops_used"]),
            sessions=int(world["sessions_used"]),
            spans_seen=int(world["spans_seen"]),
            error_spans_seen=int(world["error_spans_seen"]),
            bytes=sum(array.nbytes for array in self._state),
        )

    def set_span_probability(self, ok: float, error: float | None = None) -> None:
        """Keep ok spans with probability `ok` and failed ones with `error` (None: `ok` × the preference, at most 1)."""
        world = self._state.world
        world["probability_ok"] = ok
        world["probability_error"] = min(1.0, ok * self._preference) if error is None else error

    def take_spans(self) -> Table:
        """Return the spans kept since the last call (dtype `state.SPAN`, in the order of their ends) and forget them."""
        count = int(self._state.world["spans"][0])
        spans = self._state.spans[:count].copy()
        self._state.world["spans"] = 0
        return spans

    def _memory(self) -> npt.NDArray[np.int64]:
        """Return each pod's memory: its process, what its requests hold, what grew beside it."""
        pods = self._state.pods[: len(self._slots)]
        per_request = self._topology.services["memory_request"][pods["service"]]
        held = pods["memory_base"] + pods["memory_ramped"] + per_request * pods["in_flight"]
        used: npt.NDArray[np.int64] = held + pods["leaked"].astype(np.int64)
        return used
