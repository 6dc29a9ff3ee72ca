"""Commands that change which feature flags are in force.

In: the values of flags. Out: the rows of `State` that say what they do to operations, calls and flows, read by requests from now on.
Upstream: `feature_flags`. Downstream: `calls`, `flag_effects`, `users`.

Effects of several flags on one operation add up (of failures, the shares that each leaves over are multiplied); effects on operations,
calls or flows that the configuration hasn't got are left out. Requests that have passed their first step keep what they found there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_control_gym.engine.settings import FlagEffect
from otel_control_gym.stands.twin.machine import Machine

__all__ = ("FlagCommands",)

_NS_PER_MS: Final = 1e6


class FlagCommands(Machine):
    """Flags change at a moment, all together."""

    def set_flags(self, values: Mapping[str, float]) -> None:
        """Let flags have these values (0: off); those that aren't named are off.

        Raises:
            KeyError: the configuration has no such flag.
        """
        unknown = [name for name in values if name not in self.config.flags]
        if unknown:
            raise KeyError(f"no such flags: {unknown}; known are {list(self.config.flags)}")
        state = self._state
        state.operation_effects[:] = state.call_effects[:] = 0
        for name, flag in self.config.flags.items():
            value = float(values.get(name, 0.0))
            for effect in flag.effects:
                if effect.flow in self.config.flows:
                    state.flow_rounds[self.names.flows.index(effect.flow)] = max(0, round(value))
                if effect.call:
                    self._add_to_calls(effect, value)
                elif effect.operation in self._operations:
                    self._add_to_operation(effect, value)

    def _add_to_operation(self, effect: FlagEffect, value: float) -> None:
        row = self._state.operation_effects[self._operations[effect.operation] :][:1]
        if effect.busy_threads:
            row["rules_threads"] = 1
        row["acts"] |= bool(value) or bool(effect.busy_threads)
        row["failure_ratio"] = 1.0 - (1.0 - row["failure_ratio"]) * (1.0 - min(1.0, effect.failure_ratio * value))
        if value and effect.failure_status:
            row["failure_status"] = effect.failure_status
        if value and effect.serial:
            row["serial"] = 1
        row["delay_ns"] += effect.delay_ms * value * _NS_PER_MS
        row["work_ns"] += effect.work_ms * value * _NS_PER_MS
        row["busy_threads"] += effect.busy_threads * value
        row["leak_bytes"] += effect.leak_bytes * value

    def _add_to_calls(self, effect: FlagEffect, value: float) -> None:
        for call in self.names.calls.get((effect.operation, effect.call), ()):
            row = self._state.call_effects[call : call + 1]
            row["failure_ratio"] = 1.0 - (1.0 - row["failure_ratio"]) * (1.0 - min(1.0, effect.failure_ratio * value))
            row["copies"] += max(0, round(effect.copies * value))
