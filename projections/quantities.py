"""Samples and series ➜ the quantities of one table for a range of buckets.

In: a state's samples and series, and who is covered by whom. Out: increases, levels and coverage [T, N] of quantities that the metric map
names; nothing is known of one that it doesn't have. Where a quantity has several sources, the first that knows a cell gives it.

Upstream: `projections.growth`. Downstream: `projections.traffic`, `projections.features`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.projections.client_spans import EdgeSpans
from otel_control_gym.projections.growth import Buckets, Increase, arrivals, growth_by, increase, level
from otel_control_gym.projections.samples import Samples
from otel_control_gym.projections.series import Feed, Part, SeriesIndex, Table
from otel_control_gym.projections.signals import Signals
from otel_control_gym.projections.unread import Unread

__all__ = ("Quantities", "Telemetry")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]

_OF_REQUESTS = frozenset({"request_count", "error_count", "latency", "status_count", "retry_count"})
_OF_PODS = frozenset(
    {
        "cpu_seconds",
        "memory_bytes",
        "restarts",
        "network_rx_bytes",
        "network_tx_bytes",
        "cfs_periods",
        "cpu_limit",
        "memory_limit",
    }
)
_PARTS_OF_OTHERS = frozenset(
    {"error_count", "cfs_throttled_periods", "status_count", "retry_count"}
)  #: have a series only once something was counted


class Telemetry(msgspec.Struct, frozen=True, eq=False):
    """What the columns are computed of: samples, series, and whose zero is known where there is no series."""

    samples: Samples
    series: SeriesIndex
    covered: Mapping[tuple[Table, str], Bool]  #: by table and `FeatureSource.covers`: [N] or [E]
    signals: Signals  #: log records and findings
    spans: EdgeSpans | None = None  #: where they are the source of the edges
    unread_nodes: tuple[Unread, ...] = ()  #: whose scrapes were lost, and when
    unread_edges: tuple[Unread, ...] = ()


class Quantities:
    """Reads quantities of one table for a range of buckets."""

    def __init__(self, telemetry: Telemetry, table: Table, buckets: Buckets) -> None:
        self._samples, self._series = telemetry.samples, telemetry.series
        self._table, self._buckets = table, buckets
        self._masks = {covers: mask for (name, covers), mask in telemetry.covered.items() if name == table}
        self._entities = self._masks[""].size
        self.shape = (buckets.count, self._entities)  #: (T, N)

    def sources(self, *quantities: str) -> int:
        """Return how many sources the map has for these quantities: the most of any of them."""
        return max(len(self._series.feeds(self._table, quantity)) for quantity in quantities)

    def feed(self, quantity: str, position: int = 0, part: Part = "value") -> Feed | None:
        """Return the series of a quantity's source, or None where there is no such source."""
        feeds = self._series.feeds(self._table, quantity, part)
        return feeds[position] if position < len(feeds) else None

    def increase(
        self, quantity: str, position: int = 0, part: Part = "value", *, base: Increase | None = None
    ) -> Increase:
        """Return the growth of a counter by one source; `base`: see `growth.increase`."""
        feed = self.feed(quantity, position, part)
        if feed is None or self._silent(quantity, feed):
            nothing = np.zeros(self.shape)
            return Increase(nothing, np.zeros(self.shape, bool), np.full(self.shape[0], np.nan))
        return increase(self._samples, feed, self._buckets, self._covered(quantity, feed), base=base)

    def bucketed(self, feed: Feed, place: Int, places: int) -> Float:
        """Return the growth [T, N, places] of counters by their entity and a place within it, as far as it is known."""
        return growth_by(
            self._samples, feed, self._buckets, feed.entity * places + place, self._entities * places
        ).reshape(*self.shape, places)

    def known(self, grown: Increase) -> Float:
        """Return a growth as a column: NaN where it isn't known."""
        return np.where(grown.valid, grown.growth, np.nan)

    def growth(self, quantity: str) -> Float:
        """Return the growth of a counter as a column."""
        return self._first(quantity, lambda position: self.known(self.increase(quantity, position)))

    def rate(self, quantity: str) -> Float:
        """Return the growth of a counter per second."""

        def one(position: int) -> Float:
            grown = self.increase(quantity, position)
            return self.known(grown) / grown.seconds[:, None]

        return self._first(quantity, one)

    def ratio(self, part: str, whole: str) -> Float:
        """Return the growth of a counter of parts by that of all; NaN where there was none."""

        def one(position: int) -> Float:
            everything = self.increase(whole, position)
            counted = self.increase(part, position, base=everything)
            total = self.known(everything)
            return np.divide(self.known(counted), total, out=np.full_like(total, np.nan), where=total > 0)

        return self._first(whole, one)

    def level(self, quantity: str) -> Float:
        """Return a gauge's column."""

        def one(position: int) -> Float:
            feed = self.feed(quantity, position)
            assert feed is not None, "positions are counted over the sources"
            if feed.series.size == 0:
                return np.full(self.shape, np.nan)
            found = level(self._samples, feed, self._buckets, self._entities)
            return np.where(found.valid, found.value, np.nan)

        return self._first(quantity, one)

    def _first(self, quantity: str, column: Callable[[int], Float]) -> Float:
        result = np.full(self.shape, np.nan)
        for position in range(self.sources(quantity)):
            result = column(position) if position == 0 else np.where(np.isnan(result), column(position), result)
        return result

    def coverage(self, arrived: Float | None = None, expected: Float | None = None) -> Float:
        """Return arrived / expected readings [T, N] over all sources that cover the entity; 0 where none does.

        Of several sources of a quantity the one that had most counts. Readings of other kinds may be added.
        """
        came = np.zeros(self.shape) if arrived is None else arrived
        due = np.zeros(self.shape) if expected is None else expected
        unmanned = self.level("replicas_desired") == 0  # scaled to zero: there is no pod that anything could be read of
        for quantity in self._series.quantities(self._table):
            if quantity in _PARTS_OF_OTHERS:
                continue
            most, asked = np.zeros(self.shape, np.int64), np.zeros(self.shape, np.int64)
            for feed in self._series.feeds(self._table, quantity):
                if self._silent(quantity, feed) and not feed.source.expected:
                    continue
                one, all_ = arrivals(self._samples, feed, self._buckets, self._covered(quantity, feed))
                most, asked = np.maximum(most, one), np.maximum(asked, all_)
            came = came + most
            due = due + (np.where(unmanned, most, asked) if quantity in _OF_PODS else asked)
        return np.divide(came, due, out=np.zeros(self.shape), where=due > 0)

    def _silent(self, quantity: str, feed: Feed) -> bool:
        """Return whether a source has no series and covers nobody without one."""
        return feed.series.size == 0 and not self._covered(quantity, feed).any()

    def _covered(self, quantity: str, feed: Feed) -> Bool:
        if feed.source.covers or quantity in _OF_REQUESTS:
            return self._masks[feed.source.covers]
        return np.zeros(self._entities, bool)
