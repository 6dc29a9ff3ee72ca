"""Commands that do harm: busy threads, memory that fills, networks that misbehave.

In: slots and how bad it is. Out: commands to the kernel, rows of rules and ramps. Upstream: `world`, which adds up what several chaos
objects do to one pod.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_control_gym.stands.twin import kernel
from otel_control_gym.stands.twin.machine import EgressRule, Machine

__all__ = ("FaultCommands",)


class FaultCommands(Machine):
    """Each fault is set to a level, 0 ends it."""

    def set_stress(self, slot: int, threads: float) -> None:
        """Run busy threads in the pod's CPU quota: workers × load, summed over all that stress it; 0: none."""
        self._execute(self.now, kernel.STRESS, slot, threads)

    def set_memory_stress(self, slot: int, stressor: str, size_bytes: int, ramp_ns: int = 0) -> None:
        """Let a stressor fill memory beside the process, linearly within `ramp_ns`; 0 bytes: it is gone, with what it held."""
        self._set_ramp(slot, f"stressor {stressor}", size_bytes, ramp_ns)

    def set_egress_rules(self, slot: int, rules: Mapping[int | None, EgressRule]) -> None:
        """Do this to what a pod sends towards peers' slots (None: towards all, besides what a single peer has), requests and answers.

        The rules take the place of all that the pod had.
        """
        self._rules = {key: rule for key, rule in self._rules.items() if key[0] != slot}
        self._rules |= {(slot, -1 if peer is None else peer): rule for peer, rule in rules.items()}
        self._write_rules()

    def _write_rules(self) -> None:
        rules = self._room("rules", len(self._rules))
        rules[: len(self._rules)] = [
            (*key, rule.latency_ns, rule.jitter_ns, rule.loss, rule.blocked) for key, rule in self._rules.items()
        ]
        self._state.world["rules"] = len(self._rules)
        pods = self._state.pods
        pods["rules"] = 0
        for slot, _ in self._rules:
            pods["rules"][slot] += 1
