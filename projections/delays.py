"""How late telemetry was, and how late steps began, on a stand whose clock goes on while it is waited for.

In: the events that close steps. Out: the median and the largest of each delay, in seconds. A run on the twin has none: there everything is
out when a moment is over.

Upstream: `projections.fold`. Downstream: `metadata`, which shows them beside each stream's coverage.
"""

from __future__ import annotations

from statistics import median

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import ClockAdvanced

__all__ = ("Delays",)


class Delays:
    """The delays of a run so far."""

    def __init__(self) -> None:
        self._lags: dict[str, list[int]] = {}
        self._waits: list[int] = []
        self._drifts: list[int] = []

    def note(self, event: ClockAdvanced) -> None:
        """Take in a step that is over."""
        if not event.source_lags_ns:
            return
        for source, lag in event.source_lags_ns.items():
            self._lags.setdefault(source, []).append(lag)
        self._waits.append(event.waited_ns)
        if event.decision_step is not None:
            self._drifts.append(event.drift_ns)

    def of_source(self, source: str) -> dict[str, dict[str, float]]:
        """Return how far behind a step's end what a source had told was."""
        return _told("lag_s", self._lags.get(source, []))

    def of_steps(self) -> dict[str, dict[str, float]]:
        """Return how long was waited after a step's end for what is late, and how long after its begin its decision was taken."""
        return _told("waited_s", self._waits) | _told("drift_s", self._drifts)


def _told(name: str, delays: list[int]) -> dict[str, dict[str, float]]:
    if not delays:
        return {}
    return {name: {"median": median(delays) / SECOND, "largest": max(delays) / SECOND}}
