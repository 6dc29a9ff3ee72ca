"""The arrays of a simulation, and what keeps them: they are made, handed to the kernel, grown when it asks for room.

In: a configuration, a workload, a seed. Out: `Machine`, the base that the parts of `Simulation` share: it knows how a command is
carried out (`_execute`) and how a table gets longer (`_room`). What commands there are is said in `pod_commands`, `fault_commands`
and `load_commands`, what can be read in `readings`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy.typing as npt

from otel_control_gym.engine.randomness import draw_bits
from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.stands.twin import kernel
from otel_control_gym.stands.twin.counters import SpanRow
from otel_control_gym.stands.twin.state import STOPPED, State, empty_state, grown, link_free_rows, with_topics
from otel_control_gym.stands.twin.topology import Names, Topology, build_topology

__all__ = ("NS_PER_SECOND", "EgressRule", "Machine")

NS_PER_SECOND: Final = 1e9
_MAX_LINES: Final = 10  #: order lines: the catalogue's products


class EgressRule(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to what a pod sends."""

    latency_ns: int = 0
    jitter_ns: int = 0  #: latency ± jitter, uniform
    loss: float = 0.0  #: share of packets
    blocked: bool = False  #: none gets through


class Machine:
    """The kernel's arrays under their present shapes; `names` tells what their rows mean."""

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
        """Build the application without pods at moment `start`.

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
        state = empty_state(
            len(config.services),
            len(config.edges),
            max(1, len(config.flows)),
            statuses=len(self.names.statuses),
            operations=len(self._topology.operations),
            calls=len(self._topology.calls),
        )
        consumed = [self.names.topics.index(topic) for topic, _, _ in self.names.consumers]
        self._state: State = with_topics(state, self.names.partitions, consumed)
        self._slots: list[str] = []
        self._rows: list[SpanRow] = []
        self._services = {name: row for row, name in enumerate(self.names.services)}
        self._operations = {f"{service}:{name}": row for row, (service, name) in enumerate(self.names.operations)}
        self._connections = 0
        self._ramps: dict[tuple[int, str], tuple[int, int, int]] = {}
        self._exits: list[tuple[int, int]] = []
        self._rules: dict[tuple[int, int], EgressRule] = {}
        world = self._state.world
        world["root_key"] = draw_bits(seed)
        world["now"] = start
        # A call brings an event, and another one for its deadline; a pod of a consumer moves all readers, a message one of each group.
        readers, groups = len(self._state.readers), len(self._state.groups)
        world["margin"] = 2 * self.names.fan_out * _MAX_LINES + 2 * (readers + groups) + 8

    def renew_randomness(self, seed: int) -> None:
        """Draw from `seed` from now on; tasks that have begun, and what was drawn ahead, stay as they are."""
        self._seed = seed
        self._state.world["root_key"] = draw_bits(seed)

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
        self._room("messages", int(world["messages_used"]) + margin)

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
        elif name == "messages":
            world["free_message"] = link_free_rows(table, before, int(world["free_message"][0]))
        return table

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
