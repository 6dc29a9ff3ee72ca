"""The Python face of the kernel: pods come and go, load and faults change, time passes, counters are read.

In: a `ServiceConfiguration`, a `Workload`, a seed; then commands between runs. Out: counters (numpy, rows explained by index tables),
sampled spans. Upstream: `engine.settings`. Downstream: `world` (pods' life) and `telemetry` (series).

Data sheet
----------
- Time: integer nanoseconds since the epoch; commands act at `now`; `run(until)` includes the events at `until`.
- Pods have slots 0, 1, 2, ... in the order of `add_pod`; a slot is never used again, so slot = identity of a pod's counters. A container
  that restarts is a new slot. A pod runs from `add_pod`, gets traffic from `set_ready(slot, True)` on; users live in the newest ready pod
  of the service of kind `workload`.
- Counters are cumulative from the start of the simulation (edges, flows) or of the pod (span rows, CPU, network).
- Memory: base + share per request in flight + what stressors hold; over the limit a container is killed and `run` stops there.
- Same configuration, seed and commands: same counters and spans, bit for bit, however the time was cut into runs.
- Simplifications: work is drawn per stage and independent of the pod; TCP and TLS handshakes and packet loss don't exist here; CPU quotas
  have one period clock per pod (no slices, no carry-over); the node's cores are the pod's own (no noisy neighbours); a delay rule delays
  each message once, not its acknowledgements; a caller that gives up doesn't tell the called, whose work goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.randomness import draw_bits
from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.stands.twin import kernel
from otel_control_gym.stands.twin.counters import (
    LoadCounters,
    PodCounters,
    SpanRow,
    Statistics,
    read_load,
    read_only,
    read_pods,
)
from otel_control_gym.stands.twin.draws import PHASE
from otel_control_gym.stands.twin.processor import PERIOD
from otel_control_gym.stands.twin.state import (
    CLIENT,
    INTERNAL,
    NEVER,
    RUNNING,
    SERVER,
    STOPPED,
    State,
    copy_state,
    empty_state,
    grown,
    link_free_rows,
)
from otel_control_gym.stands.twin.topology import Names, Table, Topology, build_topology

__all__ = ("Simulation",)

_MAX_LINES: Final = 10  #: order lines: the catalogue's products
_SECOND: Final = 1e9
_PROCESS: Final = "process"  #: the ramp of a process that grows while it starts
_ROW_FIELDS: Final = ("server_rows", "client_rows", "internal_rows")


class Simulation:
    """A simulated application under load; see the module's data sheet.

    `names` tells what rows mean: `operations`, `edges`, `flows`, `services`.
    """

    def __init__(
        self,
        config: ServiceConfiguration,
        workload: Workload,
        seed: int,
        start: int,
        *,
        span_error_preference: float = 5.0,
        node_cores: float = 16.0,
    ) -> None:
        """Build the application without pods at moment `start`; the load begins when a load generator's pod is ready.

        Raises:
            ConfigurationError: see `topology.build_topology`.
        """
        self.config = config
        self.workload = workload
        self.names: Names
        self._topology: Topology
        self._topology, self.names = build_topology(config)
        self._seed = seed
        self._preference = span_error_preference
        self._node_cores = node_cores
        self._state: State = empty_state(len(config.services), len(config.edges), max(1, len(config.flows)))
        self._slots: list[str] = []
        self._rows: list[SpanRow] = []
        self._services = {name: row for row, name in enumerate(self.names.services)}
        self._connections = 0
        self._ramps: dict[tuple[int, str], tuple[int, int, int]] = {}
        self._exits: list[tuple[int, int]] = []
        self._rules: dict[tuple[int, int], tuple[int, int]] = {}
        world = self._state.world
        world["root_key"] = draw_bits(seed)
        world["now"] = start
        world["margin"] = (
            2 * self.names.fan_out * _MAX_LINES + 8
        )  # a call brings an event, and another one for its deadline
        low, high = workload.think_seconds
        world["think_low_ns"], world["think_high_ns"] = low * _SECOND, high * _SECOND
        self.set_mix(workload.mix)
        if workload.arrivals == "closed":
            self.set_users(workload.users, workload.spawn_rate_per_s)
        else:
            self.set_rate(workload.rate_per_s)

    # Time.

    @property
    def now(self) -> int:
        """Return the present moment."""
        return int(self._state.world["now"][0])

    def run(self, until: int) -> bool:
        """Let everything up to and including `until` happen, and return whether it was reached.

        It isn't if a container outgrew its memory limit: time stands at that moment then, so that the cluster can act (`take_exits`).

        Raises:
            ValueError: `until` is in the past.
        """
        if until < self.now:
            raise ValueError(f"can't run back from {self.now} to {until}")
        self._execute(until, kernel.NOTHING)
        return self.now == until

    def take_exits(self) -> list[tuple[int, int]]:
        """Return (moment, slot) of the containers that were killed for their memory since the last call, in their order.

        What they held is lost. They stay in the endpoints until somebody takes them out: calls that still go there are reset.
        """
        exits, self._exits = self._exits, []
        return exits

    # Pods.

    def add_pod(
        self, service: str, *, ordinal: int, cpu_limit_cores: float | None, memory_limit_bytes: int | None
    ) -> int:
        """Start a pod and return its slot. It isn't ready yet.

        `ordinal` numbers the pods of a service (0, 1, ... as they are made); draws that belong to a pod are keyed by it.
        """
        row, slot = self._services[service], len(self._slots)
        settings = self.config.services[service]
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
        pod["connections"] = self._connections
        self._connections += len(self.names.outgoing[row])
        self._room("connections", self._connections)["pod"][pod["connections"] : self._connections] = -1
        if settings.instrumented:
            pod["server_rows"] = self._add_rows(slot, SERVER, self.names.served[row])
            pod["client_rows"] = self._add_rows(slot, CLIENT, self.names.called[row])
            if row == self.names.load_service:
                pod["internal_rows"] = self._add_rows(slot, INTERNAL, range(len(self.names.flows)))
        pod["memory_limit"], pod["memory_due"] = memory_limit_bytes or 0, NEVER
        if memory_limit_bytes is None or settings.memory_base_bytes <= memory_limit_bytes:
            pod["memory_base"] = settings.memory_base_bytes
        else:
            self._set_ramp(slot, _PROCESS, settings.memory_base_bytes, round(settings.start_seconds * _SECOND))
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

    def in_flight(self, slot: int) -> int:
        """Return how many requests the pod holds, queued ones included."""
        return int(self._state.pods["in_flight"][slot])

    def set_limits(self, slot: int, *, cpu_limit_cores: float | None, memory_limit_bytes: int | None) -> None:
        """Change a running pod's limits in place."""
        self._state.pods["memory_limit"][slot] = memory_limit_bytes or 0
        self._execute(self.now, kernel.GROW_MEMORY, slot)
        self._execute(self.now, kernel.LIMIT, slot, cpu_limit_cores or 0.0)

    # Faults.

    def set_stress(self, slot: int, threads: float) -> None:
        """Run busy threads in the pod's CPU quota: workers × load, summed over all that stress it; 0: none."""
        self._execute(self.now, kernel.STRESS, slot, threads)

    def set_memory_stress(self, slot: int, stressor: str, size_bytes: int, ramp_ns: int = 0) -> None:
        """Let a stressor fill memory beside the process, linearly within `ramp_ns`; 0 bytes: it is gone, with what it held."""
        self._set_ramp(slot, f"stressor {stressor}", size_bytes, ramp_ns)

    def set_egress_delay(
        self, slot: int, peer_slots: Sequence[int] | None, latency_ns: int, jitter_ns: int = 0
    ) -> None:
        """Delay what a pod sends towards each peer (None: towards all, besides what single peers have) by latency ± jitter.

        A rule replaces the one for the same pod and peer; latency and jitter 0 remove it. Requests and answers alike.
        """
        for peer in (-1,) if peer_slots is None else peer_slots:
            if latency_ns or jitter_ns:
                self._rules[slot, peer] = (latency_ns, jitter_ns)
            else:
                self._rules.pop((slot, peer), None)
        self._write_rules()

    def egress_latency_ns(self, slot: int, peer_slot: int) -> float:
        """Return what rules add to a packet's way from a pod to a peer, jitter left out; infinity: nothing gets through."""
        return float(sum(self._rules[key][0] for key in ((slot, -1), (slot, peer_slot)) if key in self._rules))

    def clear_egress_delay(self, slot: int) -> None:
        """Remove all delay rules of a pod."""
        self._rules = {key: rule for key, rule in self._rules.items() if key[0] != slot}
        self._write_rules()

    # Load.

    def set_users(self, target: int, spawn_rate: float) -> None:
        """Aim at `target` users, of whom `spawn_rate` a second come or go; who goes finishes the task first.

        Raises:
            ValueError: the workload has open arrivals, or a number is out of bounds.
        """
        self._require("closed")
        if target < 0 or spawn_rate <= 0:
            raise ValueError(f"{target} users at {spawn_rate}/s: users must be at least 0, the spawn rate above 0")
        self._room("sessions", target + 1)
        self._execute(self.now, kernel.USERS, target, round(_SECOND / spawn_rate))

    def set_rate(self, rate: float) -> None:
        """Let tasks arrive at `rate` per second (Poisson).

        Raises:
            ValueError: the workload is a closed loop, or the rate is negative.
        """
        self._require("open")
        if rate < 0:
            raise ValueError(f"{rate} arrivals per second: must be at least 0")
        self._execute(self.now, kernel.RATE, 0, rate / _SECOND)

    def set_mix(self, weights: dict[str, float]) -> None:
        """Give flows other weights; flows that aren't named get the configuration's. Tasks that have begun stay what they are.

        Raises:
            ValueError: a flow is unknown, a weight negative, or all are 0.
        """
        unknown = [name for name in weights if name not in self.config.flows]
        if unknown:
            raise ValueError(f"unknown flows {unknown}; known are {list(self.config.flows)}")
        mix = {name: weights.get(name, flow.weight) for name, flow in self.config.flows.items()}
        values = np.array(list(mix.values()))
        if not len(values) or values.min() < 0 or values.sum() <= 0:
            raise ValueError(f"mix {mix}: weights must be at least 0, and one above 0")
        self.mix = mix  #: weights in force
        self._state.weights[:] = np.cumsum(values) / values.sum()

    # Counters. Arrays are copies or read-only views at `now`.

    @property
    def slots(self) -> Sequence[str]:
        """Return the service of each slot."""
        return self._slots

    def pod_counters(self) -> PodCounters:
        """Return the counters of all slots, what is in progress included."""
        return read_pods(self._state.pods[: len(self._slots)], self.now, self._memory())

    @property
    def span_rows(self) -> Sequence[SpanRow]:
        """Return what each row of `span_buckets` and `span_ms` counts; rows are only ever added."""
        return self._rows

    @property
    def span_buckets(self) -> npt.NDArray[np.int64]:
        """Return spans by duration [rows, 2 (ok, failed), 17], not cumulative; summed over the last axis: calls.

        SERVER rows count what pods answered, CLIENT rows what their calls came to, INTERNAL rows users' tasks.
        """
        return read_only(self._state.span_buckets[: len(self._rows)])

    @property
    def span_ms(self) -> npt.NDArray[np.float64]:
        """Return summed durations of spans in milliseconds [rows, 2 (ok, failed)]."""
        return self._state.span_sums_ns[: len(self._rows)] / 1e6

    @property
    def edge_counts(self) -> npt.NDArray[np.int64]:
        """Return attempts per edge [edges, 8], columns `state.OK, ERROR, REFUSED, LOST, TIMED_OUT, IN_FLIGHT, ATTEMPTED, RETRIED`.

        At every moment ATTEMPTED is the sum of the first six; RETRIED tells how many of them weren't their call's first.
        """
        return read_only(self._state.edge_counts)

    @property
    def edge_buckets(self) -> npt.NDArray[np.int64]:
        """Return finished calls by duration [edges, 2 (ok, failed), 2 (client's view, server's view), 17], not cumulative.

        Refused, lost and timed out calls are in the client's view only; calls whose caller died are in neither.
        """
        return read_only(self._state.edge_buckets)

    @property
    def edge_seconds(self) -> npt.NDArray[np.float64]:
        """Return summed durations in seconds [edges, 2 (ok, failed), 2 (client's view, server's view)]."""
        return self._state.edge_sums_ns / _SECOND

    def load_counters(self) -> LoadCounters:
        """Return what the users asked for and got."""
        source = self.names.services[self.names.load_service]
        return read_load(self._state, [row for row, edge in enumerate(self.names.edges) if edge[0] == source])

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

    # Spans.

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

    # Branches.

    def copy(self) -> Simulation:
        """Return an independent simulation in the same state, with the same randomness ahead."""
        twin = object.__new__(Simulation)
        twin.__dict__.update(self.__dict__)
        twin._state = copy_state(self._state)
        twin._slots, twin._rows = self._slots.copy(), self._rows.copy()
        twin._rules, twin._ramps, twin._exits = self._rules.copy(), self._ramps.copy(), self._exits.copy()
        twin.mix = self.mix.copy()
        return twin

    # Below: how the face keeps the arrays.

    def _execute(self, until: int, command: int, subject: int = 0, amount: float = 0.0) -> None:
        """Carry out a command and run, making room as often as the kernel asks for it."""
        while True:
            reason = kernel.run(self._topology, self._state, until, command, subject, amount)
            if reason == kernel.REACHED:
                return
            if reason == kernel.OUT_OF_MEMORY:
                slot = int(self._state.world["killed"][0])
                self._exits.append((self.now, slot))
                until, command, subject, amount = self.now, kernel.KILL, slot, 0.0
                continue
            if reason == kernel.NEEDS_ROOM:
                command = kernel.NOTHING  # it has been carried out
            self._make_room()

    def _make_room(self) -> None:
        """Double what might be too small for the next event or the end of a pod."""
        world = self._state.world[0]
        margin = int(world["margin"])
        # A pod's end may bring an event for every hop there is.
        self._room("heap", int(world["heap_size"]) + int(world["hops_used"]) + margin)
        self._room("hops", int(world["hops_used"]) + margin)
        self._room("spans", int(world["spans"]) + margin)
        self._room("sessions", int(world["sessions_used"]) + 1)

    def _room(self, name: str, rows: int) -> npt.NDArray[Any]:
        """See to it that a table has `rows` rows at least, and return it."""
        table: npt.NDArray[Any] = getattr(self._state, name)
        before = len(table)
        if before >= rows:
            return table
        table = grown(table, rows)
        self._state = self._state._replace(**{name: table})
        world = self._state.world
        if name == "hops":
            world["free_hop"] = link_free_rows(table, before, int(world["free_hop"][0]))
            self._state = self._state._replace(todo=grown(self._state.todo, len(table)))
        elif name == "sessions":
            world["free_session"] = link_free_rows(table, before, int(world["free_session"][0]))
        return table

    def _add_rows(self, slot: int, kind: int, operations: Sequence[int]) -> int:
        first = len(self._rows)
        self._rows.extend(SpanRow(slot=slot, kind=kind, operation=operation) for operation in operations)
        self._room("span_sums_ns", len(self._rows))
        self._room("span_buckets", len(self._rows))
        return first

    def _write_rules(self) -> None:
        rules = self._room("rules", len(self._rules))
        rules[: len(self._rules)] = [(*key, *rule) for key, rule in self._rules.items()]
        self._state.world["rules"] = len(self._rules)
        pods = self._state.pods
        pods["rules"] = 0
        for slot, _ in self._rules:
            pods["rules"][slot] += 1

    def _set_ramp(self, slot: int, name: str, size_bytes: int, ramp_ns: int) -> None:
        """Put a ramp of memory in the place of the one of that name, from now on."""
        self._ramps.pop((slot, name), None)
        if size_bytes:
            self._ramps[slot, name] = (self.now, ramp_ns, size_bytes)
        # Ramps of the dead are dropped as well: the table holds what can still be felt.
        life = self._state.pods["life"]
        self._ramps = {key: ramp for key, ramp in self._ramps.items() if life[key[0]] != STOPPED}
        table = self._room("ramps", len(self._ramps))
        table[: len(self._ramps)] = [(key[0], *ramp) for key, ramp in self._ramps.items()]
        self._state.world["ramps"] = len(self._ramps)
        self._execute(self.now, kernel.GROW_MEMORY, slot)

    def _memory(self) -> npt.NDArray[np.int64]:
        """Return each pod's memory: its process, what its requests hold, what grew beside it."""
        pods = self._state.pods[: len(self._slots)]
        per_request = self._topology.services["memory_request"][pods["service"]]
        used: npt.NDArray[np.int64] = pods["memory_base"] + pods["memory_ramped"] + per_request * pods["in_flight"]
        return used

    def _require(self, arrivals: str) -> None:
        if self.workload.arrivals != arrivals:
            raise ValueError(
                f"workload {self.workload.name!r} has {self.workload.arrivals} arrivals, not {arrivals} ones"
            )
