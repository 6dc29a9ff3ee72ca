"""What a run's settings hide ➜ what the fold may take for known.

In: the public settings. Out: the metric map without hidden quantities, and which services and edges nobody sees. Where something isn't
seen there is no series, and without a series a service that is declared to be instrumented would show zeros: here it shows null.

In a fold of the clean telemetry nothing is hidden. Downstream: `projections.fold`.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.settings import MetricMap, RunSettings

__all__ = ("Visibility",)


class Visibility:
    """Which parts of the application the folded telemetry shows."""

    def __init__(self, settings: RunSettings, *, clean: bool) -> None:
        hidden = settings.telemetry.distortion.hidden
        self._services = frozenset(() if clean else hidden.services)
        self._edges = frozenset(() if clean else hidden.edges)
        self._features = frozenset(() if clean else hidden.features)
        self._metrics = settings.metrics

    def metric_map(self) -> MetricMap:
        """Return the metric map of what is seen."""
        if not self._features:
            return self._metrics
        node = {name: source for name, source in self._metrics.node.items() if f"node.{name}" not in self._features}
        edge = {name: source for name, source in self._metrics.edge.items() if f"edge.{name}" not in self._features}
        return msgspec.structs.replace(self._metrics, node=node, edge=edge)

    def shows_service(self, service: str) -> bool:
        """Return whether telemetry of a service is seen."""
        return service not in self._services

    def shows_edge(self, source: str, target: str) -> bool:
        """Return whether telemetry of an edge is seen: it isn't where one of its ends isn't."""
        return f"{source}->{target}" not in self._edges and self.shows_service(source) and self.shows_service(target)
