"""The declared application and graph ➜ of whom silence means zero.

In: services and who calls whom. Out: for each value of `FeatureSource.covers` and each table, who is covered. Span metrics have no series
until a first request: of who sends spans and is called, a metric that was read and has no series tells of no requests; of others it tells
nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import GraphObserved
from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.projections.series import Table
from otel_control_gym.projections.visibility import Visibility

__all__ = ("coverage_masks",)

_Masks = dict[tuple[Table, str], npt.NDArray[np.bool_]]


def coverage_masks(application: ServiceConfiguration, graph: GraphObserved, visibility: Visibility) -> _Masks:
    """Return who is covered, by table and `FeatureSource.covers`; of what isn't seen, nothing is known."""
    services = application.services
    instrumented = {name for name, service in services.items() if service.instrumented}
    # A caller that isn't one of the services is the load generator, which sends spans too. Who isn't called serves nobody.
    sending = [edge.source in instrumented or edge.source not in services for edge in graph.edges]
    called = {application.entry, *(edge.target for edge in graph.edges)}
    heard = {edge.target for edge, sends in zip(graph.edges, sending, strict=True) if sends} - instrumented
    consuming = {
        (topic.broker, consumer.service)
        for topic in application.topics.values()
        for consumer in topic.consumers
        if consumer.service in instrumented
    }
    node: dict[str, list[bool]] = {
        "": [item.id in instrumented & called for item in graph.nodes],
        "called": [item.id in heard for item in graph.nodes],
        "all": [True] * len(graph.nodes),
        "none": [False] * len(graph.nodes),
    }
    edge: dict[str, list[bool]] = {
        "": sending,
        "consumers": [(item.source, item.target) in consuming for item in graph.edges],
        "all": [True] * len(graph.edges),
        "none": [False] * len(graph.edges),
    }
    seen_nodes = np.array([visibility.shows_service(item.id) for item in graph.nodes], bool)
    seen_edges = np.array([visibility.shows_edge(item.source, item.target) for item in graph.edges], bool)
    found: _Masks = {("node", covers): np.array(flags, bool) & seen_nodes for covers, flags in node.items()}
    return found | {("edge", covers): np.array(flags, bool) & seen_edges for covers, flags in edge.items()}
