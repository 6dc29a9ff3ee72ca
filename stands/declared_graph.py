"""The declared graph of an application, which is the same on every kind of stand: its ids are the keys of all tables."""

from __future__ import annotations

from otel_control_gym.engine.events import GraphEdge, GraphNode
from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("declared_graph",)


def declared_graph(services: ServiceConfiguration) -> tuple[tuple[GraphNode, ...], tuple[GraphEdge, ...]]:
    """Return nodes and edges in the configuration's order, which is that of the observation's axes."""
    nodes = tuple(
        GraphNode(
            id=name,
            kind=service.kind,
            namespace=services.namespace,
            deployment=name,
            container=name,
            endpoint=f"{name}.{services.namespace}.svc:{service.port}",
            kubernetes_kind="Deployment",
            optional_group=service.optional_group,
        )
        for name, service in services.services.items()
    )
    edges = tuple(GraphEdge(source=edge.source, target=edge.target, protocol=edge.protocol) for edge in services.edges)
    return nodes, edges
