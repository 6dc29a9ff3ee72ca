"""Commands that make pods come and go.

In: a service and what its container may use; a slot. Out: rows of pods, connections and span counters, commands to the kernel.
Upstream: `world`, which knows which pod is which slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.randomness import draw_bits
from otel_control_gym.engine.settings import Version
from otel_control_gym.stands.twin import kernel
from otel_control_gym.stands.twin.counters import SpanRow
from otel_control_gym.stands.twin.draws import PHASE
from otel_control_gym.stands.twin.machine import NS_PER_SECOND, Machine
from otel_control_gym.stands.twin.processor import PERIOD
from otel_control_gym.stands.twin.runtime import PodProcess
from otel_control_gym.stands.twin.state import CLIENT, CONSUMER, INTERNAL, NEVER, PRODUCER, RUNNING, SERVER, grown

__all__ = ("PodCommands",)

_PROCESS: Final = "process"  #: the ramp of a process that grows while it starts
_ROW_FIELDS: Final = ("server_rows", "client_rows", "internal_rows")


class PodCommands(Machine):
    """Pods have slots 0, 1, 2, ... in the order of `add_pod`; a slot is never used again."""

    def take_exits(self) -> list[tuple[int, int]]:
        """Return (moment, slot) of the containers that were killed since the last call, for their memory or by `kill`, in their order.

        What they held is lost. They stay in the endpoints until somebody takes them out: calls that still go there are reset.
        """
        exits, self._exits = self._exits, []
        return exits

    def add_pod(
        self,
        service: str,
        *,
        ordinal: int,
        cpu_limit_cores: float | None,
        memory_limit_bytes: int | None,
        process: PodProcess = PodProcess(),
    ) -> int:
        """Start a pod and return its slot. It isn't ready yet. A version that the service doesn't list is the one described.

        `ordinal` numbers the pods of a service (0, 1, ... as they are made); draws that belong to a pod are keyed by it.
        """
        row, slot = self._services[service], len(self._slots)
        settings = self.config.services[service]
        version = settings.versions.get(process.version, Version())
        self._slots.append(service)
        pods = self._room("pods", slot + 1)
        pod = pods[slot]
        for field in ("queue_head", "queue_tail", "work_root", "last_period", *_ROW_FIELDS):
            pod[field] = -1
        pod["service"], pod["ordinal"], pod["life"] = row, ordinal, RUNNING
        pod["cores"], pod["limit"] = self._node_cores, cpu_limit_cores or 0.0
        pod["last"], pod["due"] = self.now, NEVER
        pod["phase"] = draw_bits(self._seed, PHASE, row, ordinal) % PERIOD
        pod["budget"] = pod["limit"] * PERIOD
        pod["canary"], pod["work_factor"] = process.canary, version.work_factor
        pod["failure_ratio"], pod["failure_status"] = version.failure_ratio, version.failure_status
        self._add_connections(pod, row, process.unreachable)
        if settings.instrumented:
            pod["server_rows"] = self._add_rows(slot, SERVER, self.names.served[row])
            pod["client_rows"] = self._add_rows(slot, CLIENT, self.names.called[row])
            if row == self.names.load_service:
                pod["internal_rows"] = self._add_rows(slot, INTERNAL, range(len(self.names.flows)))
        pod["memory_limit"], pod["memory_due"] = memory_limit_bytes or 0, NEVER
        base = round(settings.memory_base_bytes * version.memory_factor)
        if memory_limit_bytes is None or base <= memory_limit_bytes:
            pod["memory_base"] = base
        else:
            start_seconds = settings.start_seconds * version.start_factor
            self._set_ramp(slot, _PROCESS, base, round(start_seconds * NS_PER_SECOND))
        return slot

    def set_ready(self, slot: int, ready: bool) -> None:
        """Put a pod into the endpoints that new connections and per-request calls choose from, or take it out.

        Open connections stay. The load generator's pod takes the users in when it gets ready.
        """
        row = self._services[self._slots[slot]]
        if ready and not self._state.pods["ready"][slot]:
            needed = int(self._state.ready_count[row]) + 1
            if needed > self._state.ready.shape[1]:
                wider = grown(np.ascontiguousarray(self._state.ready.T), needed)
                self._state = self._state._replace(ready=np.ascontiguousarray(wider.T))
        self._execute(self.now, kernel.READY, slot, float(ready))
        if ready and row == self.names.load_service:
            self._execute(self.now, kernel.HAND_LOAD, slot)

    def warm_up(self, slot: int) -> None:
        """Take a pod for one that has been running for long: its caches are full and its code is compiled."""
        self._state.pods["warm"][slot] = 1

    def drain(self, slot: int) -> None:
        """Let a pod close its connections: callers connect elsewhere with their next call, what is in flight goes on."""
        self._execute(self.now, kernel.DRAIN, slot)

    def stop(self, slot: int) -> None:
        """End a pod: what it holds is lost and fails at its callers. It leaves the endpoints too. Its counters stay."""
        self._execute(self.now, kernel.STOP, slot)

    def kill(self, slot: int) -> None:
        """Kill a pod's process: what it holds is lost. It stays in the endpoints, and `take_exits` tells of it."""
        self._exits.append((self.now, slot))
        self._execute(self.now, kernel.KILL, slot)

    def set_split(self, service: str, canary_share: float | None) -> None:
        """Let this share of dials go to a service's canary pods, the others to the rest; None: to all alike. Open connections stay.

        Raises:
            ValueError: the share isn't one.
        """
        if canary_share is not None and not 0 <= canary_share <= 1:
            raise ValueError(f"{canary_share} of {service}'s connections to its canary pods: must be between 0 and 1")
        self._state.splits[self._services[service]] = -1.0 if canary_share is None else canary_share

    def in_flight(self, slot: int) -> int:
        """Return how many requests the pod holds, queued ones included."""
        return int(self._state.pods["in_flight"][slot])

    def set_limits(self, slot: int, *, cpu_limit_cores: float | None, memory_limit_bytes: int | None) -> None:
        """Change a running pod's limits in place."""
        self._state.pods["memory_limit"][slot] = memory_limit_bytes or 0
        self._execute(self.now, kernel.GROW_MEMORY, slot)
        self._execute(self.now, kernel.LIMIT, slot, cpu_limit_cores or 0.0)

    def _add_connections(self, pod: npt.NDArray[Any], row: int, unreachable: Sequence[str]) -> None:
        """Give a pod a row for each edge that starts at its service; none leads anywhere yet."""
        edges = self.names.outgoing[row]
        first, self._connections = self._connections, self._connections + len(edges)
        connections = self._room("connections", self._connections)[first : self._connections]
        connections["pod"] = -1
        connections["unreachable"] = [self.names.edges[edge][1] in unreachable for edge in edges]
        pod["connections"], pod["misled"] = first, connections["unreachable"].any()

    def _add_rows(self, slot: int, kind: int, operations: Sequence[int]) -> int:
        first = len(self._rows)
        for operation in operations:
            own = kind
            if kind == CLIENT and self._topology.operations["topic"][operation] >= 0:
                own = PRODUCER
            elif kind == SERVER and self._topology.operations["consumed"][operation]:
                own = CONSUMER
            self._rows.append(SpanRow(slot=slot, kind=own, operation=operation))
        self._room("span_sums_ns", len(self._rows))
        self._room("span_buckets", len(self._rows))
        return first
