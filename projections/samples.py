"""Raw samples ➜ for every series, its last value at every edge of the finest grid.

In: `SamplesCollected`, in log order. Out: two arrays [edges, series]: the value at an edge and the time of the sample it comes from.

The grid is the run's: edge 0 is the run's start, edge k is k scrape intervals later. What stands at an edge is the last sample at
or before it, however old; who reads it judges the age. Counters are kept *continued*: a fall is a restart, after which
the value itself is new growth, so that a difference of two edges is the growth between them. Every bucket is a multiple of the scrape
interval, so one state answers every granularity, and a cell depends on two edges and not on how the log was cut into events.

What makes this hard:
- The amount. Nothing happens once per sample in Python. Where the series of an event were scraped at the same moments (nearly always),
  its samples are a table that goes to its place in one piece; the others are put there one by one, by numpy.
- Samples come late. What is not older than `settled` lands where it would have stood in time: the unsettled samples are taken up again from
  the state before them, in the order of time, because a restart is only known by the sample before it. What is older is left out.
- A long run. Edges that nobody reads again are let go (`release`), so memory follows what is kept and not how long the run is.

Next: `projections.growth` turns edges into increases.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.errors import LogCorrupted
from otel_control_gym.engine.events import SamplesCollected
from otel_control_gym.projections.batches import Batch, batch, chosen, merged

__all__ = ("NEVER", "Samples")

NEVER = np.iinfo(np.int64).min  #: time of a sample that doesn't exist
FEWEST_EDGES = 64  #: room for edges is made for so many at least

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class _Standing(msgspec.Struct, frozen=True, eq=False):
    """Where every series stands: what the next sample of it is judged by."""

    last_raw: Floats
    last_time: Ints
    restarted_from: Floats  #: what a counter had counted before its restarts

    def copy(self) -> _Standing:
        return _Standing(self.last_raw.copy(), self.last_time.copy(), self.restarted_from.copy())

    def widened(self, width: int) -> _Standing:
        """Return a copy with room for `width` series, those that are new without a sample."""
        more = width - self.last_raw.size
        return _Standing(
            np.append(self.last_raw, np.zeros(more)),
            np.append(self.last_time, np.full(more, NEVER, np.int64)),
            np.append(self.restarted_from, np.zeros(more)),
        )


class Samples:
    """The samples of a run on its finest grid.

    `values` float64 and `times` int64 ns (`NEVER` where no sample came yet), both [edges kept, series], are views; `positions` says where
    in them an edge stands.
    """

    def __init__(self, origin: int, interval: int) -> None:
        self.origin = origin
        self.interval = interval
        self.count = 0  #: samples kept so far
        self._first = 0  # the oldest edge that is kept
        self._edges = 1  # the edge after the newest one
        self._series = 0
        self._values = np.zeros((FEWEST_EDGES, 0))
        self._times = np.full((FEWEST_EDGES, 0), NEVER, np.int64)
        self._newest = np.full(FEWEST_EDGES, NEVER, np.int64)
        self._is_counter = np.zeros(0, bool)
        self._standing = _Standing(np.zeros(0), np.zeros(0, np.int64), np.zeros(0))
        self._settled = int(NEVER)
        self._unsettled: list[
            tuple[_Standing, Batch]
        ] = []  # each with the standing before it; the first one's is settled

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """Values at the edges, counters continued over restarts; 0 where there is no sample yet."""
        self._widen()
        return self._values[: self._edges - self._first, : self._series]

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """Times [ns] of the samples that stand at the edges."""
        self._widen()
        return self._times[: self._edges - self._first, : self._series]

    @property
    def newest(self) -> npt.NDArray[np.int64]:
        """Time [ns] of the newest sample of any series at each edge."""
        return self._newest[: self._edges - self._first]

    @property
    def edges(self) -> int:
        """How many edges have been reached: no sample is newer than the last one."""
        return self._edges

    def positions(self, edges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where edges stand in `values`, `times` and `newest`.

        Edges that no sample has reached yet show what stood at the newest one; edges before the start stand for the start.
        """
        # Several times faster than `clip` on a few numbers.
        found = np.minimum(np.maximum(edges, 0), self._edges - 1) - self._first
        assert found.size == 0 or int(found.min()) >= 0, "an edge is read that was let go"
        return found

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
            self._is_counter = np.append(self._is_counter, np.zeros(max(64, series), bool))
            self._standing = self._standing.widened(self._is_counter.size)
        self._is_counter[series] = counter
        self._series += 1

    def add(self, event: SamplesCollected) -> npt.NDArray[np.int64]:
        """Put the samples of an event in their places; return the times of those that came too late and were left out.

        A sample that is there already is ignored.

        Raises: LogCorrupted: the event isn't sorted by (series, time), or names a series that nobody declared.
        """
        nothing = np.zeros(0, np.int64)
        if event.series.size == 0:
            return nothing
        samples = batch(event.series, event.times, event.values)
        self._widen()
        numbers = samples.numbers
        if int(numbers[0]) < 0 or int(numbers[-1]) >= self._series:
            raise LogCorrupted(f"samples of series {numbers[-1]}, but only {self._series} series were declared")
        readings = self._without_markers(samples)
        if readings is None:
            return nothing
        samples, numbers = readings, readings.numbers
        last = self._standing.last_time
        if (samples.times[samples.starts] > np.maximum(last[numbers], self._settled)).all():
            self._take(samples)
            return nothing
        last_times = last[samples.series]
        in_time = samples.times > self._settled
        fresh = in_time & (samples.times > last_times)
        if (in_time & ~fresh).any():
            self._take_up_again(chosen(samples, in_time))
        elif fresh.any():
            self._take(chosen(samples, fresh))
        # The newest sample of a series once more is a repetition, not a late one.
        late: npt.NDArray[np.int64] = samples.times[~in_time & (samples.times != last_times)]
        return late

    def settle(self, moment: int) -> None:
        """Take note that samples at or before a moment [ns] come no more: from now on they are too late."""
        self._settled = max(self._settled, moment)
        while len(self._unsettled) > 1 and self._is_settled(self._unsettled[1][0]):
            del self._unsettled[0]
        if self._unsettled and self._is_settled(self._standing):
            self._unsettled.clear()

    def release(self, edge: int) -> None:
        """Let the edges before `edge` go, but for those that a late sample may still change."""
        if self._settled == NEVER:
            return
        needed = [edge, self._edges - 1, self._edge_of(self._settled)]
        needed += [self._edge_of(int(samples.times.min())) for _, samples in self._unsettled]
        gone = min(needed) - self._first
        kept = self._edges - self._first - gone
        if gone < max(kept, FEWEST_EDGES):
            return  # moving what stays is worth it when more goes
        for grid in (self._values, self._times, self._newest):
            grid[:kept] = grid[gone : gone + kept]
        self._first += gone

    def _without_markers(self, samples: Batch) -> Batch | None:
        """Return the samples without those of counters that are no numbers; None if none is left.

        A counter that was marked stale has no reading: what it had counted stands, and a fall behind the marker is seen.
        """
        missing = np.isnan(samples.values)
        if not missing.any():
            return samples
        read = ~(missing & self._is_counter[samples.series])
        if not read.any():
            return None
        # The marker is a signalling NaN, which arithmetic trips over.
        values = np.where(missing, np.nan, samples.values)[read]
        return batch(samples.series[read], samples.times[read], values)

    # --- samples in the order of time ------------------------------------------------------------------------------------

    def _take(self, samples: Batch) -> None:
        """Put samples into the grid that are newer than what their series have."""
        self._unsettled.append((self._standing.copy(), samples))
        self._place(samples)
        self.count += samples.series.size

    def _place(self, samples: Batch) -> None:
        edges = self._edges_of(samples.moments if samples.length else samples.times)
        lowest, reached = int(edges.min()), self._edges
        self._reach(int(edges.max()) + 1)
        if samples.length:
            self._place_table(samples, edges)
        else:
            self._place_singly(samples, edges)
        everybody = samples.length and samples.starts.size == self._series
        if everybody and edges[0] <= reached and edges[-1] == self._edges - 1 and (np.diff(edges) == 1).all():
            self._newest[lowest - self._first : self._edges - self._first] = samples.moments
        else:
            self._carry_forward(min(lowest, reached))

    def _place_table(self, samples: Batch, edges: Ints) -> None:
        standing, numbers, table = self._standing, samples.numbers, samples.table
        rows = _as_slice(numbers)
        offsets, previous = standing.restarted_from[rows].copy(), standing.last_raw[rows].copy()
        falls = (table[:, 0] < previous) | (table[:, 1:] < table[:, :-1]).any(axis=1)
        restarted = np.flatnonzero(falls & self._is_counter[rows]).tolist()
        last_at_edge = np.append(edges[1:] != edges[:-1], True)
        at = edges[last_at_edge] - self._first
        columns = _as_slice(at)
        shown = table if last_at_edge.all() else table[:, last_at_edge]
        if isinstance(rows, slice) and isinstance(columns, slice):
            np.add(shown.T, offsets, out=self._values[columns, rows])
            self._times[columns, rows] = samples.moments[last_at_edge, None]
        else:
            place = np.ix_(at, numbers)
            self._values[place] = shown.T + offsets
            self._times[place] = samples.moments[last_at_edge, None]
        standing.last_raw[rows] = table[:, -1]
        standing.last_time[rows] = samples.moments[-1]
        for row in restarted:
            continued, counted = _continued(table[row], float(previous[row]), float(offsets[row]))
            self._values[columns, numbers[row]] = continued[last_at_edge]
            standing.restarted_from[numbers[row]] = counted

    def _place_singly(self, samples: Batch, edges: Ints) -> None:
        standing, numbers, values = self._standing, samples.numbers, samples.values
        ends = np.append(samples.starts[1:], values.size)
        before = np.append(0.0, values[:-1])
        before[samples.starts] = standing.last_raw[numbers]
        continued = values + standing.restarted_from[samples.series]
        falls = np.logical_or.reduceat(values < before, samples.starts) & self._is_counter[numbers]
        for row in np.flatnonzero(falls).tolist():
            number, own = numbers[row], slice(samples.starts[row], ends[row])
            continued[own], standing.restarted_from[number] = _continued(
                values[own], float(standing.last_raw[number]), float(standing.restarted_from[number])
            )
        last = ends - 1
        standing.last_raw[numbers] = values[last]
        standing.last_time[numbers] = samples.times[last]
        last_at_edge = np.append(edges[1:] != edges[:-1], True)
        last_at_edge[last] = True
        place = edges[last_at_edge] - self._first, samples.series[last_at_edge]
        self._values[place] = continued[last_at_edge]
        self._times[place] = samples.times[last_at_edge]

    def _edges_of(self, times: Ints) -> Ints:
        """Return the edge that takes each sample: an edge has (edge before, edge]; the start has what is older, too."""
        return np.maximum(0, -((self.origin - times) // self.interval))

    def _edge_of(self, time: int) -> int:
        return max(0, -((self.origin - time) // self.interval))

    def _carry_forward(self, first: int) -> None:
        """Let edges without a sample of their own show what stood at the edge before; from edge `first` to the newest."""
        first = max(first, self._first + 1)
        low, high = first - 1 - self._first, self._edges - self._first
        times, values = self._times[low:high, : self._series], self._values[low:high, : self._series]
        own = times > (self.edge_time(first - 2) + self.interval * np.arange(high - low))[:, None]
        own[0] = True
        lacking = np.flatnonzero(~own.all(axis=0))
        if lacking.size:
            held = np.where(own[:, lacking], np.arange(high - low)[:, None], 0)
            np.maximum.accumulate(held, axis=0, out=held)
            times[:, lacking] = np.take_along_axis(times[:, lacking], held, axis=0)
            values[:, lacking] = np.take_along_axis(values[:, lacking], held, axis=0)
        self._newest[low:high] = times.max(axis=1, initial=NEVER)

    # --- late samples ----------------------------------------------------------------------------------------------------

    def _take_up_again(self, late: Batch) -> None:
        """Place samples of which some are older than what their series have: with all that isn't settled, in the order of time."""
        together = merged([*(samples for _, samples in self._unsettled), late])
        more = together.series.size - sum(samples.series.size for _, samples in self._unsettled)
        if more == 0:
            return  # all of them were there
        assert self._unsettled, "only what isn't settled can be newer than a sample that is in time"
        self._standing = self._unsettled[0][0].widened(self._is_counter.size)
        self._unsettled = []
        # The grid needs no clearing: who has a sample of its own at an edge gets it again, and all others are carried forward anew.
        settled = together.times <= self._settled
        if settled.any():
            self._place(chosen(together, settled))
        rest = chosen(together, ~settled)
        self._unsettled.append((self._standing.copy(), rest))
        self._place(rest)
        self.count += more

    def _is_settled(self, standing: _Standing) -> bool:
        return bool((standing.last_time <= self._settled).all())

    # --- room ------------------------------------------------------------------------------------------------------------

    def _reach(self, edges: int) -> None:
        """Make the edges before `edges` exist, without samples of their own."""
        if edges <= self._edges:
            return
        kept, wanted = self._edges - self._first, edges - self._first
        capacity, width = self._times.shape
        if wanted > capacity:
            longer = max(2 * capacity, wanted)
            values, times, newest = (
                np.empty((longer, width)),
                np.empty((longer, width), np.int64),
                np.empty(longer, np.int64),
            )
            values[:kept], times[:kept], newest[:kept] = self._values[:kept], self._times[:kept], self._newest[:kept]
            self._values, self._times, self._newest = values, times, newest
        self._times[kept:wanted] = NEVER
        # Values of declared series are carried forward to here; the columns of those yet to be declared have to be 0 from the start.
        self._values[kept:wanted, self._series :] = 0.0
        self._edges = edges

    def _widen(self) -> None:
        """Give every series a column; new ones come in crowds, and a column costs memory at every edge."""
        capacity, before = self._times.shape
        if self._series <= before:
            return
        width, kept = self._series + before // 4, self._edges - self._first
        values, times = np.empty((capacity, width)), np.empty((capacity, width), np.int64)
        # What isn't reached yet is left alone: `_reach` fills it.
        values[:kept, :before], times[:kept, :before] = self._values[:kept], self._times[:kept]
        values[:kept, before:], times[:kept, before:] = 0.0, NEVER
        self._values, self._times = values, times


def _continued(values: Floats, previous: float, counted: float) -> tuple[Floats, float]:
    """Return a counter's values continued over its restarts, and what it has counted before the last of them."""
    before = np.append(previous, values[:-1])
    offsets = np.cumsum(np.append(counted, np.where(values < before, before, 0.0)))[1:]
    return values + offsets, float(offsets[-1])


def _as_slice(numbers: npt.NDArray[np.integer[Any]]) -> slice | npt.NDArray[np.integer[Any]]:
    """Return ascending numbers without a gap as a slice, which costs half of what a list of numbers does."""
    first, last = int(numbers[0]), int(numbers[-1])
    return slice(first, last + 1) if last - first + 1 == numbers.size else numbers
