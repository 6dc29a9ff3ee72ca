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
- Networks lose and block packets, TCP sends them again (`network`); connections stick, age and come in pools (`connections`, `pools`);
  calls end with statuses (`statuses`).
- Simplifications: work is drawn per stage and independent of the pod; TCP and TLS handshakes take no time on a sound network; CPU quotas
  have one period clock per pod (no slices, no carry-over); the node's cores are the pod's own (no noisy neighbours); a delay rule delays
  each message once, not its acknowledgements; a caller that gives up doesn't tell the called, whose work goes on.
"""

from __future__ import annotations

from otel_control_gym.engine.settings import ServiceConfiguration, Workload
from otel_control_gym.stands.twin.fault_commands import FaultCommands
from otel_control_gym.stands.twin.flag_commands import FlagCommands
from otel_control_gym.stands.twin.load_commands import LoadCommands
from otel_control_gym.stands.twin.machine import NS_PER_SECOND
from otel_control_gym.stands.twin.pod_commands import PodCommands
from otel_control_gym.stands.twin.readings import Readings
from otel_control_gym.stands.twin.state import copy_state

__all__ = ("Simulation",)


class Simulation(PodCommands, FaultCommands, FlagCommands, LoadCommands, Readings):
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
        super().__init__(
            config, workload, seed, start, span_error_preference=span_error_preference, node_cores=node_cores
        )
        world = self._state.world
        low, high = workload.think_seconds
        world["think_low_ns"], world["think_high_ns"] = low * NS_PER_SECOND, high * NS_PER_SECOND
        self.set_mix(workload.mix)
        if workload.arrivals == "closed":
            self.set_users(workload.users, workload.spawn_rate_per_s)
        else:
            self.set_rate(workload.rate_per_s)
        self.set_flags({})

    def copy(self) -> Simulation:
        """Return an independent simulation in the same state, with the same randomness ahead."""
        twin = object.__new__(Simulation)
        twin.__dict__.update(self.__dict__)
        twin._state = copy_state(self._state)
        twin._slots, twin._rows = self._slots.copy(), self._rows.copy()
        twin._rules, twin._ramps, twin._exits = self._rules.copy(), self._ramps.copy(), self._exits.copy()
        twin.mix = self.mix.copy()
        return twin
