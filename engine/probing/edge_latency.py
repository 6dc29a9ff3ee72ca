"""Prometheus' raw samples ➜ how long the calls of each edge took in a window.

In: a connection, the run's metric map and application, a window on Prometheus' clock. Out: `Latency` by edge. Which series is of which
edge is asked of `projections.series`, as when tables are made: what is measured here is what a table would show.

Of a histogram only its sum and its count are read: a mean tells 50 ms from 40 where buckets of 10 and 50 ms don't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import SeriesDeclaration
from otel_control_gym.engine.metric_selectors import metric_names
from otel_control_gym.engine.probing.effects import Floats, Latency, latency
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.projections.series import Part, SeriesIndex
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.services import PROMETHEUS
from otel_control_gym.stands.declared_graph import declared_graph

__all__ = ("EdgeMeter", "Series", "growth")

_LATENCY = "latency"
_BEFORE_SECONDS = 120  #: before a window, in which the sample is sought that stands at its beginning


class Series(msgspec.Struct, frozen=True, eq=False):
    """A cumulative series."""

    labels: Mapping[str, str]
    times: Floats  #: [S] seconds, ascending
    values: Floats  #: [S]


class EdgeMeter:
    """Measures the edges of an application."""

    def __init__(self, connection: Connection, settings: RunSettings) -> None:
        self._connection = connection
        self._map = settings.metrics
        self._step = settings.granularity.scrape_interval_seconds
        self._nodes, self._edges = declared_graph(settings.services)

    async def measure(self, start: int, end: int) -> dict[str, Latency]:
        """Return the latency of each edge (`SOURCE->TARGET`) that had calls between two moments [ns].

        Raises: StandError: Prometheus doesn't tell.
        """
        sources = [source for source in self._map.sources("edge").get(_LATENCY, ()) if source.kind == "histogram"]
        names = [name for source in sources for name in metric_names(source) if not name.endswith("_bucket")]
        names += [book.metric for book in self._map.addresses]
        seconds = (end - start) / SECOND
        query = {
            "query": f'{{__name__=~"{"|".join(dict.fromkeys(names))}"}}[{round(seconds + _BEFORE_SECONDS)}s]',
            "time": f"{end / SECOND:.3f}",
        }
        url = self._connection.endpoints.prometheus
        answer = await self._connection.service(url, PROMETHEUS, "api/v1/query", query=query)
        result = answer.find("data", "result")
        if not answer.ok or not isinstance(result, list):
            raise StandError(f"Prometheus doesn't tell how long calls take: {answer.problem or answer.body}")
        cells = np.linspace(start / SECOND, end / SECOND, max(1, round(seconds / self._step)) + 1)
        return self.latencies([_series(item) for item in result], cells)

    def latencies(self, series: Sequence[Series], cells: Floats) -> dict[str, Latency]:
        """Return the latency of each edge; `cells` [K + 1]: the edges of the window's intervals [s]."""
        index = SeriesIndex(self._map)
        index.place(self._nodes, self._edges)
        for number, one in enumerate(series):
            index.declare(SeriesDeclaration(series=number, labels=dict(one.labels)))
        shape = (len(self._edges), len(cells) - 1)
        calls, time_ms = np.zeros(shape), np.zeros(shape)
        parts: tuple[tuple[Part, Floats], ...] = (("count", calls), ("sum", time_ms))
        for part, total in parts:
            for feed in index.feeds("edge", _LATENCY, part):
                scale = feed.source.scale if part == "sum" else 1.0
                for number, edge in zip(feed.series.tolist(), feed.entity.tolist(), strict=True):
                    total[edge] += growth(series[number].times, series[number].values, cells) * scale
        found = {
            f"{edge.source}->{edge.target}": latency(calls[position], time_ms[position])
            for position, edge in enumerate(self._edges)
        }
        return {name: one for name, one in found.items() if one is not None}


def growth(times: Floats, values: Floats, cells: npt.ArrayLike) -> Floats:
    """Return the growth of a counter in each cell (start, end]; one that begins within the window counts from zero.

    A fall is a restart, after which the value itself is the growth.
    """
    if not len(times):
        return np.zeros(np.size(cells) - 1)
    steps = np.diff(values, prepend=values[0] if times[0] <= np.min(cells) else 0.0)
    total = np.concatenate([[0.0], np.cumsum(np.where(steps < 0, values, steps))])
    return np.diff(total[np.searchsorted(times, cells, side="right")])


def _series(item: Any) -> Series:
    """Return a series of an answer's matrix."""
    samples: Iterable[tuple[float, str]] = item.get("values") or ()
    numbers = np.array([(time, float(value)) for time, value in samples], np.float64).reshape(-1, 2)
    return Series(labels=item["metric"], times=numbers[:, 0], values=numbers[:, 1])
