"""Series ➜ which quantity of which node or edge they feed.

In: declared series and the metric map. Out: for each source of a quantity a `Feed`: its series and the entity of each, in the order of
their labels, so that sums don't depend on the order of arrival.

Also kept: which series belong to a metric at all, whatever their labels say. A metric of which a sample arrived was read; that, and not
the series of one entity, tells "nothing happened" from "nobody looked". Whose the labels are is asked of `projections.entities`.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import GraphEdge, GraphNode, SeriesDeclaration
from otel_control_gym.engine.metric_selectors import NATIVE_LOWER, NATIVE_UPPER, is_wanted, logged_names
from otel_control_gym.engine.settings import FeatureSource, MetricMap
from otel_control_gym.projections.entities import Entities, first_label

__all__ = ("Feed", "Part", "SeriesIndex", "Table")

Table = Literal["node", "edge"]
Part = Literal["value", "bucket", "count", "sum"]
_SUFFIX: dict[Part, str] = {"value": "", "bucket": "_bucket", "count": "_count", "sum": "_sum"}
_Key = tuple[Table, str, int, Part]
_HISTOGRAMS = ("histogram", "native_histogram")


class Feed(msgspec.Struct, frozen=True, eq=False):
    """The series of one source of a quantity (or of one part of its histogram), in label order."""

    source: FeatureSource
    series: npt.NDArray[np.int64]  #: [S]
    entity: npt.NDArray[np.int64]  #: [S] position of each series' node or edge in the graph
    bound: npt.NDArray[np.int64]  #: [S] position in `bounds`, histograms' buckets only
    bounds: npt.NDArray[
        np.float64
    ]  #: [L] upper bounds, in the quantity's unit, ascending, the last one infinite if they are a classic one's
    lower: npt.NDArray[
        np.float64
    ]  #: [L] lower bounds of a native histogram's buckets; of a classic one's minus infinity: they count all below
    code: npt.NDArray[np.int64]  #: [S] position of each series' status in `codes`
    codes: tuple[str, ...]
    metric: npt.NDArray[np.int64]  #: all series of the metric, whatever their labels


class _Found(msgspec.Struct, frozen=True):
    labels: tuple[tuple[str, str], ...]
    number: int
    entity: int
    bounds: tuple[float, float]  # upper, lower
    code: str


class SeriesIndex:
    """All series of a run, by the metric map of that run."""

    def __init__(self, metric_map: MetricMap) -> None:
        self._sources: dict[Table, dict[str, tuple[FeatureSource, ...]]] = {
            "node": metric_map.sources("node"),
            "edge": metric_map.sources("edge"),
        }
        self._labels: list[Mapping[str, str]] = []
        self._by_metric: dict[str, list[int]] = {}
        self._entities = Entities(metric_map)
        self._feeds: dict[_Key, Feed] = {}
        # What was found for each feed, in its order, and the newest series that was looked at: later ones change nothing of the others.
        self._found: dict[_Key, tuple[list[_Found], int]] = {}
        self._readers: dict[str, dict[_Key, None]] = {}  # metric -> feeds that a new series of it would change
        self._counters = frozenset(_counter_names(self._sources))

    def place(self, nodes: Sequence[GraphNode], edges: Sequence[GraphEdge]) -> None:
        """Set the axes of the tables; series of anything else are kept in the log, and feed nothing."""
        self._entities.place(nodes, edges)
        self._forget()

    def declare(self, row: SeriesDeclaration) -> bool:
        """Add a series; return whether it is a counter."""
        name = row.labels.get("__name__", "")
        self._labels.append(row.labels)
        self._by_metric.setdefault(name, []).append(row.series)
        for key in self._readers.pop(name, ()):
            self._feeds.pop(key, None)
        if self._entities.learn(row.labels):
            self._forget()
        return name in self._counters

    def _forget(self) -> None:
        """Whose series are whose has changed."""
        self._feeds.clear()
        self._found.clear()

    def quantities(self, table: Table) -> tuple[str, ...]:
        """Return the quantities of a table that the metric map has, sorted."""
        return tuple(self._sources[table])

    def feeds(self, table: Table, quantity: str, part: Part = "value") -> tuple[Feed, ...]:
        """Return the series of each source of a quantity, in the order of preference; empty where the map has no such quantity.

        Of a histogram `part` says which of its series; "value" is its count then, whose samples tell that it was read.
        """
        return tuple(
            self._feed(
                table, quantity, position, source, "count" if part == "value" and source.kind in _HISTOGRAMS else part
            )
            for position, source in enumerate(self._sources[table].get(quantity, ()))
        )

    def _feed(self, table: Table, quantity: str, position: int, source: FeatureSource, part: Part) -> Feed:
        key = (table, quantity, position, part)
        if key not in self._feeds:
            names = [name + _SUFFIX[part] for name in source.metrics]
            candidates = sorted(number for name in names for number in self._by_metric.get(name, ()))
            for name in names:
                self._readers.setdefault(name, {})[key] = None
            found, looked_at = self._found.get(key, ([], -1))
            for number in candidates[bisect_right(candidates, looked_at) :]:
                one = self._find(table, source, part, number)
                if one is not None:
                    insort(found, one, key=_place)
            self._found[key] = found, candidates[-1] if candidates else -1
            self._feeds[key] = _put_together(source, candidates, found)
        return self._feeds[key]

    def _find(self, table: Table, source: FeatureSource, part: Part, number: int) -> _Found | None:
        """Return what a series is to a source; None if it feeds nothing."""
        labels = self._labels[number]
        if not is_wanted(source, labels):
            return None
        entity = self._entities.node(source, labels) if table == "node" else self._entities.edge(source, labels)
        if entity is None:
            return None
        code = first_label(labels, source.code)
        return _Found(
            labels=tuple(sorted(labels.items())),
            number=number,
            entity=entity,
            bounds=_bounds(source, labels) if part == "bucket" else (0.0, 0.0),
            code=source.code_names.get(code, code),
        )


def _place(one: _Found) -> tuple[tuple[tuple[str, str], ...], int]:
    return one.labels, one.number


def _put_together(source: FeatureSource, candidates: Sequence[int], found: Sequence[_Found]) -> Feed:
    """Return the feed of the series that were found; `candidates` are all series of the metric."""
    bounds = sorted({one.bounds for one in found})
    place = {bound: position for position, bound in enumerate(bounds)}
    codes = sorted({one.code for one in found})
    return Feed(
        source=source,
        series=np.array([one.number for one in found], np.int64),
        entity=np.array([one.entity for one in found], np.int64),
        bound=np.array([place[one.bounds] for one in found], np.int64),
        bounds=np.array([upper for upper, _ in bounds]),
        lower=np.array([lower for _, lower in bounds]),
        code=np.array([codes.index(one.code) for one in found], np.int64),
        codes=tuple(codes),
        metric=np.array(candidates, np.int64),
    )


def _bounds(source: FeatureSource, labels: Mapping[str, str]) -> tuple[float, float]:
    """Return the upper and lower bound of a histogram's bucket in the quantity's unit."""
    if source.kind == "native_histogram":
        return float(labels[NATIVE_UPPER]) * source.scale, float(labels[NATIVE_LOWER]) * source.scale
    return float(labels.get("le", "nan")) * source.scale, -np.inf


def _counter_names(sources: Mapping[Table, Mapping[str, tuple[FeatureSource, ...]]]) -> Iterator[str]:
    for quantities in sources.values():
        for source in (one for several in quantities.values() for one in several):
            if source.kind != "gauge":
                yield from logged_names(source)
