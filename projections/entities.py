"""Labels ➜ the node or edge of the graph that a series is about.

In: the declared graph, the metric map's aliases and addresses, the labels of series. Out: positions in the graph.

What a label holds is rarely a node's id: it is a pod's name, an RPC service, `10.96.0.7:8080`. It goes through the source's pattern; if
that is no node, through the map's aliases, and then through the addresses that information metrics tell of (kube_pod_info,
kube_service_info), of which the newest counts, because pods' addresses are given away again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from otel_control_gym.engine.events import GraphEdge, GraphNode
from otel_control_gym.engine.settings import AddressBook, FeatureSource, MetricMap, Names

__all__ = ("Entities", "first_label")


def first_label(labels: Mapping[str, str], names: Names) -> str:
    """Return what the first of some labels holds that isn't empty; empty if none does."""
    for name in (names,) if isinstance(names, str) else names:
        if found := labels.get(name, ""):
            return found
    return ""


class Entities:
    """The nodes and edges of a run, and the names that series have for them."""

    def __init__(self, metric_map: MetricMap) -> None:
        self._aliases = metric_map.aliases
        self._books: dict[str, AddressBook] = {book.metric: book for book in metric_map.addresses}
        self._addresses: dict[str, str] = {}  # -> what the book calls it
        self._nodes: dict[str, int] = {}
        self._edges: dict[tuple[str, str], int] = {}
        self._by_target: dict[tuple[str, str], int] = {}  # (target, protocol) -> edge

    def place(self, nodes: Sequence[GraphNode], edges: Sequence[GraphEdge]) -> None:
        """Set the graph."""
        self._nodes = {node.id: position for position, node in enumerate(nodes)}
        self._edges = {(edge.source, edge.target): position for position, edge in enumerate(edges)}
        self._by_target = {(edge.target, edge.protocol): position for position, edge in enumerate(edges)}

    def learn(self, labels: Mapping[str, str]) -> bool:
        """Note an address that a series of an information metric tells of; return whether it is news."""
        book = self._books.get(labels.get("__name__", ""))
        if book is None or not (address := labels.get(book.address, "")):
            return False
        before = self._addresses.get(address)
        self._addresses[address] = _matched(labels.get(book.name, ""), book.name_pattern)
        return before != self._addresses[address]

    def node(self, source: FeatureSource, labels: Mapping[str, str]) -> int | None:
        """Return whose series it is, or None."""
        return self._nodes.get(self._name(labels, source.entity, source.entity_pattern))

    def edge(self, source: FeatureSource, labels: Mapping[str, str]) -> int | None:
        """Return of which edge a series is, or None."""
        target = self._name(labels, source.target, source.target_pattern)
        if not source.source:
            return self._by_target.get((target, source.protocol))
        return self._edges.get((self._name(labels, source.source, source.source_pattern), target))

    def _name(self, labels: Mapping[str, str], names: Names, pattern: str) -> str:
        """Return the node that the first telling label means; of one that means none, what it holds."""
        text = ""
        for label in (names,) if isinstance(names, str) else names:
            text = _matched(labels.get(label, ""), pattern)
            for name in (text, self._aliases.get(text, ""), self._addresses.get(text, "")):
                if name in self._nodes:
                    return name
        return text


def _matched(text: str, pattern: str) -> str:
    if not pattern:
        return text
    found = re.match(pattern, text)
    return found[1] or "" if found else ""
