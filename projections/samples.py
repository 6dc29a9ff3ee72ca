"""Raw samples ➜ for every series, its last value at every edge of the finest grid.

In: `SamplesCollected`, in log order. Out: two arrays [edges, series]: the value at an edge and the time of the sample it comes from.

The grid is the run's: edge 0 is the run's start, edge k is k scrape intervals later. What stands at an edge is the last sample at
or before it, however old; who reads it judges the age. Counters are kept *continued*: a fall is a restart, after which
the value itself is new growth, so that a difference of two edges is the growth between them. Every bucket is a multiple of the scrape
interval, so one state answers every granularity, and a cell depends on two edges and not on how the log was cut into events.

Nothing here happens once per sample in Python; only restarts, which are rare, are walked through.
Next: `projections.growth` turns edges into increases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.errors import LogCorrupted
from otel_control_gym.engine.events import SamplesCollected

__all__ = ("NEVER", "Samples")

NEVER = np.iinfo(np.int64).min  #: time of a sample that doesn't exist


class Samples:
    """The samples of a run on its finest grid.

    `values` float64 [edges, series] and `times` int64 ns [edges, series] (`NEVER` where no sample came yet) are views; they grow.
    """

    def __init__(self, origin: int, interval: int) -> None:
        self.origin = origin
        self.interval = interval
        self._values = np.zeros((1, 0))
        self._times = np.full((1, 0), NEVER, np.int64)
        self._newest = np.full(1, NEVER, np.int64)
        self._edges = 1
        self._series = 0
        self._is_counter = np.zeros(0, bool)
        self._restarted_from = np.zeros(0)  # what a counter had counted before its restarts
        self._last_raw = np.zeros(0)
        self._last_time = np.zeros(0, np.int64)
        self.count = 0  #: samples kept so far

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """Values at the edges, counters continued over restarts; 0 where there is no sample yet."""
        return self._values[: self._edges, : self._series]

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """Times [ns] of the samples that stand at the edges."""
        return self._times[: self._edges, : self._series]

    @property
    def newest(self) -> npt.NDArray[np.int64]:
        """Time [ns] of the newest sample of any series at each edge."""
        return self._newest[: self._edges]

    @property
    def edges(self) -> int:
        """How many edges have been reached: no sample is newer than the last one."""
        return self._edges

    def edge_time(self, edge: int) -> int:
        """Return the time [ns] of an edge."""
        return self.origin + edge * self.interval

    def declare(self, series: int, *, counter: bool) -> None:
        """Make room for a series; numbers are dense and ascending.

        Raises: LogCorrupted: a number was skipped or repeated.
        """
        if series != self._series:
            raise LogCorrupted(
                f"series {series} was declared where {self._series} was due: numbers are dense and ascending"
            )
        if series == self._is_counter.size:
            self._widen(max(64, 2 * series))
        self._is_counter[series] = counter
        self._series += 1

    def add(self, event: SamplesCollected) -> None:
        """Put the samples of an event in their places; a sample that isn't newer than its series' last one is ignored.

        Raises: LogCorrupted: the event isn't sorted by (series, time), or names a series that nobody declared.
        """
        series, times, values = event.series, event.times, event.values
        if series.size == 0:
            return
        self._check_order(series, times)
        missing = np.isnan(values)
        if missing.any():
            values = np.where(
                missing, np.nan, values
            )  # Prometheus' stale marker is a signalling NaN, which arithmetic trips over
        # A counter that is not a number (a stale marker) has no reading: what it had counted stands, and a fall behind it is seen.
        fresh = (times > self._last_time[series]) & ~(missing & self._is_counter[series])
        if not fresh.all():
            series, times, values = series[fresh], times[fresh], values[fresh]
            if series.size == 0:
                return
        last_of_series = np.append(series[1:] != series[:-1], True)
        continued = self._continue_counters(series, values)
        self._last_raw[series[last_of_series]] = values[last_of_series]
        self._last_time[series[last_of_series]] = times[last_of_series]
        # An edge takes what lies in (edge before, edge]; the start itself and what is older stand at edge 0.
        edges = np.maximum(0, -((self.origin - times) // self.interval))
        last_at_edge = last_of_series.copy()
        last_at_edge[:-1] |= edges[1:] != edges[:-1]
        self._reach(int(edges.max()) + 1)
        self._values[edges[last_at_edge], series[last_at_edge]] = continued[last_at_edge]
        self._times[edges[last_at_edge], series[last_at_edge]] = times[last_at_edge]
        self._newest[int(edges.min())] = self._times[int(edges.min())].max()
        self._carry_forward(int(edges.min()) + 1)
        self.count += int(series.size)

    def _check_order(self, series: npt.NDArray[np.int32], times: npt.NDArray[np.int64]) -> None:
        if int(series.min()) < 0 or int(series.max()) >= self._series:
            raise LogCorrupted(f"samples of series {int(series.max())}, but only {self._series} series were declared")
        step = np.diff(series)
        if not bool(np.all((step > 0) | ((step == 0) & (np.diff(times) > 0)))):
            raise LogCorrupted("samples of an event aren't sorted by (series, time)")

    def _continue_counters(
        self, series: npt.NDArray[np.int32], values: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        before = np.empty_like(values)
        before[1:] = values[:-1]
        first_of_series = np.append(True, series[1:] != series[:-1])
        before[first_of_series] = self._last_raw[series[first_of_series]]
        continued = values + self._restarted_from[series]
        for position in np.flatnonzero((values < before) & self._is_counter[series]):
            number = series[position]
            self._restarted_from[number] += before[position]
            end = int(np.searchsorted(series, number, side="right"))
            continued[position:end] = values[position:end] + self._restarted_from[number]
        return continued

    def _carry_forward(self, first: int) -> None:
        """An edge without a sample of its own shows what stood at the edge before; from edge `first` to the newest."""
        for edge in range(first, self._edges):
            stale = self._times[edge] <= self.edge_time(edge - 1)
            np.copyto(self._times[edge], self._times[edge - 1], where=stale)
            np.copyto(self._values[edge], self._values[edge - 1], where=stale)
            self._newest[edge] = self._times[edge].max(initial=NEVER)

    def _reach(self, edges: int) -> None:
        capacity, width = self._times.shape
        if edges > capacity:
            longer = max(64, 2 * capacity, edges)
            values, times = np.zeros((longer, width)), np.full((longer, width), NEVER, np.int64)
            values[:capacity], times[:capacity] = self._values, self._times
            self._values, self._times = values, times
            self._newest = np.append(self._newest, np.full(longer - capacity, NEVER, np.int64))
        if edges > self._edges:
            self._edges, before = edges, self._edges
            self._carry_forward(before)

    def _widen(self, width: int) -> None:
        capacity, before = self._times.shape
        values, times = np.zeros((capacity, width)), np.full((capacity, width), NEVER, np.int64)
        values[:, :before], times[:, :before] = self._values, self._times
        self._values, self._times = values, times
        self._is_counter = np.append(self._is_counter, np.zeros(width - before, bool))
        self._restarted_from = np.append(self._restarted_from, np.zeros(width - before))
        self._last_raw = np.append(self._last_raw, np.zeros(width - before))
        self._last_time = np.append(self._last_time, np.full(width - before, NEVER, np.int64))
