"""Series ➜ which quantity of which node or edge they feed.

In: declared series and the metric map. Out: for each quantity a `Feed`: its series and the entity of each, in the order of
their labels, so that sums don't depend on the order of arrival.

Also kept: which series belong to a metric at all, whatever their labels say. A metric of which a sample arrived was read; that, and not
the series of one entity, tells "nothing happened" from "nobody looked".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import GraphEdge, GraphNode, SeriesDeclaration
from otel_control_gym.engine.settings import FeatureSource, MetricMap

__all__ = ("Feed", "Part", "SeriesIndex", "Table")

Table = Literal["node", "edge"]
Part = Literal["value", "bucket", "count", "sum"]
_SUFFIX: dict[Part, str] = {"value": "", "bucket": "_bucket", "count": "_count", "sum": "_sum"}


class Feed(msgspec.Struct, frozen=True, eq=False):
    """The series of a quantity (or of one part of its histogram), in label order."""

    source: FeatureSource
    series: npt.NDArray[np.int64]  #: [S]
    entity: npt.NDArray[np.int64]  #: [S] position of each series' node or edge in the graph
    bound: npt.NDArray[np.int64]  #: [S] position in `bounds`, histograms' buckets only
    bounds: npt.NDArray[np.float64]  #: [L] ascending upper bounds, in the quantity's unit, the last one infinite
    metric: npt.NDArray[np.int64]  #: all series of the metric, whatever their labels


class SeriesIndex:
    """All series of a run, by the metric map of that run."""

    def __init__(self, metric_map: MetricMap) -> None:
        self._map = metric_map
        self._labels: list[Mapping[str, str]] = []
        self._by_metric: dict[str, list[int]] = {}
        self._nodes: dict[str, int] = {}
        self._edges: dict[tuple[str, str], int] = {}
        self._feeds: dict[tuple[Table, str, Part], Feed] = {}
        self._counters = _counter_names(metric_map)

    def place(self, nodes: Sequence[GraphNode], edges: Sequence[GraphEdge]) -> None:
        """Set the axes of the tables; series of anything else are kept in the log, and feed nothing."""
        self._nodes = {node.id: position for position, node in enumerate(nodes)}
        self._edges = {(edge.source, edge.target): position for position, edge in enumerate(edges)}
        self._feeds.clear()

    def declare(self, row: SeriesDeclaration) -> bool:
        """Add a series; return whether it is a counter."""
        name = row.labels.get("__name__", "")
        self._labels.append(row.labels)
        self._by_metric.setdefault(name, []).append(row.series)
        self._feeds.clear()
        return name in self._counters

    def sources(self, table: Table) -> tuple[tuple[str, Part], ...]:
        """Return the quantities of a table, each with the part whose samples say that it was read, sorted."""
        sources = self._map.node if table == "node" else self._map.edge
        return tuple((name, "count" if sources[name].kind == "histogram" else "value") for name in sorted(sources))

    def feed(self, table: Table, quantity: str, part: Part = "value") -> Feed | None:
        """Return the series of a quantity, or None where the metric map has no such quantity."""
        source = (self._map.node if table == "node" else self._map.edge).get(quantity)
        if source is None:
            return None
        key = (table, quantity, part)
        if key not in self._feeds:
            self._feeds[key] = self._find(table, source, part)
        return self._feeds[key]

    def _find(self, table: Table, source: FeatureSource, part: Part) -> Feed:
        found: list[tuple[tuple[tuple[str, str], ...], int, int, float]] = []
        pattern = re.compile(source.entity_pattern) if source.entity_pattern else None
        candidates = self._by_metric.get(source.metric + _SUFFIX[part], [])
        for number in candidates:
            labels = self._labels[number]
            if any(labels.get(label, "") not in values for label, values in source.where.items()):
                continue
            entity = self._entity(table, source, pattern, labels)
            if entity is not None:
                bound = float(labels.get("le", "nan")) * source.scale if part == "bucket" else 0.0
                found.append((tuple(sorted(labels.items())), number, entity, bound))
        found.sort()
        bounds = sorted({bound for _, _, _, bound in found})
        return Feed(
            source,
            np.array([number for _, number, _, _ in found], np.int64),
            np.array([entity for _, _, entity, _ in found], np.int64),
            np.array([bounds.index(bound) for _, _, _, bound in found], np.int64),
            np.array(bounds),
            np.array(candidates, np.int64),
        )

    def _entity(
        self, table: Table, source: FeatureSource, pattern: re.Pattern[str] | None, labels: Mapping[str, str]
    ) -> int | None:
        if table == "edge":
            return self._edges.get((labels.get(source.source, ""), labels.get(source.target, "")))
        value = labels.get(source.entity, "")
        if pattern is not None:
            match = pattern.match(value)
            value = match.group(1) if match else ""
        return self._nodes.get(value)


def _counter_names(metric_map: MetricMap) -> frozenset[str]:
    names = []
    for source in (*metric_map.node.values(), *metric_map.edge.values()):
        if source.kind == "counter":
            names.append(source.metric)
        elif source.kind == "histogram":
            names += [source.metric + suffix for suffix in _SUFFIX.values() if suffix]
    return frozenset(names)
