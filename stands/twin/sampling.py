"""How many spans are kept: a budget per ten minutes, whatever the load is.

In: how many spans ended so far, how many were kept. Out: the probabilities for the next ten seconds, errors preferred.

The rate of the past interval predicts the next one, and what was kept too much or too little is made good over a minute. Where
nothing is known, a rate is assumed, so that a load that sets in doesn't spend the budget in a moment. Changes fall on a grid of
the run's own time, so the same spans are kept however an episode is cut into steps.
"""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.simulation import Simulation

__all__ = ("SpanSampler",)

_HORIZON_SECONDS = 60.0
_FIRST_RATE = 1000.0  #: spans per second assumed at the start
_LEAST_RATE = 50.0  #: spans per second assumed at least later on


class SpanSampler:
    """Sets a simulation's span probabilities."""

    def __init__(self, simulation: Simulation, *, budget_per_600s: int, error_preference: float) -> None:
        self._simulation = simulation
        self._per_second = budget_per_600s / 600
        self._preference = error_preference
        self._start = self._last = simulation.now
        self._seen = self._seen_errors = 0
        self._set(self._per_second / _FIRST_RATE)

    def update(self, kept: int) -> None:
        """Look at the interval since the last update and set the probabilities for the next; `kept` spans were kept since the start."""
        simulation = self._simulation
        elapsed = (simulation.now - self._last) / SECOND
        if elapsed <= 0:
            return
        statistics = simulation.statistics()
        errors = (statistics.error_spans_seen - self._seen_errors) / elapsed
        others = (statistics.spans_seen - self._seen) / elapsed - errors
        self._seen, self._seen_errors, self._last = statistics.spans_seen, statistics.error_spans_seen, simulation.now
        horizon = (simulation.now - self._start) / SECOND + _HORIZON_SECONDS
        allowed = (self._per_second * horizon - kept) / _HORIZON_SECONDS
        # What wasn't spent in quiet times isn't saved up for a burst.
        allowed = min(max(allowed, 0.0), 2 * self._per_second)
        self._set(allowed / max(others + self._preference * errors, _LEAST_RATE))

    def _set(self, probability: float) -> None:
        ok = min(1.0, probability)
        self._simulation.set_span_probability(ok, min(1.0, ok * self._preference))
