"""What policies look at of an observation, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from otel_control_gym.engine.observation import Observation
from otel_control_gym.projections.happenings import Happening

NODES = ("frontend", "cart", "checkout")
EDGES = (("frontend", "cart", "grpc"), ("frontend", "checkout", "grpc"), ("checkout", "cart", "grpc"))
FEATURES = ("error_ratio", "latency_mean_ms", "cpu_saturation", "replicas_desired")
CALM = {"error_ratio": 0.0, "latency_mean_ms": 20.0, "cpu_saturation": 0.5, "replicas_desired": 1.0}
BUCKETS = 30

Seen = Callable[..., Observation]


class _Sight:
    """The part of an observation that is looked at."""

    def __init__(self, nodes: Any, edges: Any, events: tuple[Happening, ...]) -> None:
        self.node_names, self.node_features, self.nodes = NODES, FEATURES, nodes
        self.edge_names, self.edge_features, self.edges = EDGES, ("error_ratio",), edges
        self.events = events


@pytest.fixture
def sight() -> Seen:
    """Return a function that makes an observation: figures of services (the same in all buckets), error ratios of edges, rollouts."""

    def make(
        services: Mapping[str, Mapping[str, float]] | None = None,
        failing: Mapping[tuple[str, str], float] | None = None,
        rollouts: Mapping[str, int] | None = None,
    ) -> Observation:
        rows = [[{**CALM, **(services or {}).get(name, {})}[feature] for feature in FEATURES] for name in NODES]
        ratios = [[(failing or {}).get((source, target), 0.0)] for source, target, _ in EDGES]
        events = tuple(
            Happening(time=time, source="rollouts", type="new_revision", object=f"Deployment/{name}")
            for name, time in (rollouts or {}).items()
        )
        found: Any = _Sight(np.array([rows] * BUCKETS, float), np.array([ratios] * BUCKETS, float), events)
        return found  # type: ignore[no-any-return]

    return make
