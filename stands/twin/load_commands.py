"""Commands that change what users ask for.

In: users, rates, weights of flows. Out: commands to the kernel. Upstream: the load generator's server.
"""

from __future__ import annotations

import numpy as np

from otel_control_gym.stands.twin import kernel
from otel_control_gym.stands.twin.machine import NS_PER_SECOND, Machine

__all__ = ("LoadCommands",)


class LoadCommands(Machine):
    """A closed loop has users, open arrivals have a rate; both have a mix of flows."""

    def set_users(self, target: int, spawn_rate: float) -> None:
        """Aim at `target` users, of whom `spawn_rate` a second come or go; who goes finishes the task first.

        Raises:
            ValueError: the workload has open arrivals, or a number is out of bounds.
        """
        self._require("closed")
        if target < 0 or spawn_rate <= 0:
            raise ValueError(f"{target} users at {spawn_rate}/s: users must be at least 0, the spawn rate above 0")
        self._room("sessions", target + 1)
        self._execute(self.now, kernel.USERS, target, round(NS_PER_SECOND / spawn_rate))

    def set_rate(self, rate: float) -> None:
        """Let tasks arrive at `rate` per second (Poisson).

        Raises:
            ValueError: the workload is a closed loop, or the rate is negative.
        """
        self._require("open")
        if rate < 0:
            raise ValueError(f"{rate} arrivals per second: must be at least 0")
        self._execute(self.now, kernel.RATE, 0, rate / NS_PER_SECOND)

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

    def _require(self, arrivals: str) -> None:
        if self.workload.arrivals != arrivals:
            raise ValueError(
                f"workload {self.workload.name!r} has {self.workload.arrivals} arrivals, not {arrivals} ones"
            )
