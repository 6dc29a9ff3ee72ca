"""Values at edges ➜ increases and levels per bucket and entity, with what is known about them.

In: the samples' grid, the series of a quantity, a range of buckets. Out: arrays [T, N]: T buckets, N nodes or edges.

The rules, and why they are more than a difference of neighbours:

- The growth of a counter over a bucket (a, b] is its value at b less its value at a, and neighbouring buckets share an edge: growth
  is conserved at every granularity. A rate divides it by the time between the samples that stand at the two edges.
- A value counts at an edge while it isn't older than its source's resolution. If the metric as a whole wasn't read that recently at
  either edge, or a series comes back from a longer absence, the growth can't be placed in a bucket, and the cell is null.
- A series that appears after its metric was read counts from 0: it didn't exist then. One that vanishes (its pod is gone) keeps what
  it had counted and grows no more; a gauge that vanishes is gone.
- Zero and unknown differ. Span metrics have no series until a first request or a first error; whoever is declared to be
  instrumented is *covered*, and read as 0 where the metric was read. Anything else is covered from its first sample on, and a bucket
  needs a sample of its own: a database that sends no spans and that nobody else tells of has null requests, not zero.
- A source that refreshes more slowly than it is scraped was read when its figures changed, not when they were shown once more.
- A gauge that is not a number was marked stale (or isn't one): it is gone at once, and is no reading.
- A metric that has no series yet was read if anything was: a scrape brings all of them. (Not if it stands in for an entity's own.)

Every rule looks only at what stood at or before the bucket's end: a cell of a log's prefix is the cell of the whole log.
Upstream: `projections.samples`, `projections.series`. Downstream: `projections.features`.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.projections.samples import NEVER, Samples
from otel_control_gym.projections.series import Feed

__all__ = ("Buckets", "Increase", "Level", "arrivals", "growth_by", "increase", "level", "sum_by")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]


class Buckets(msgspec.Struct, frozen=True):
    """A range of buckets of the run: `count` buckets of `width` finest intervals each, from bucket `first` on."""

    first: int
    count: int
    width: int

    @property
    def edges(self) -> Int:
        """Edge numbers [T + 1]."""
        return np.arange(self.first, self.first + self.count + 1, dtype=np.int64) * self.width


class Increase(msgspec.Struct, frozen=True, eq=False):
    """Growth of a counter per bucket and entity; `valid` says where it is known."""

    growth: Float  #: [T, N]
    valid: Bool  #: [T, N]
    seconds: Float  #: [T] between the samples at the two edges


class Level(msgspec.Struct, frozen=True, eq=False):
    """Value of a gauge at the end of each bucket; `valid` says where there is one."""

    value: Float  #: [T, N]
    valid: Bool  #: [T, N]


def increase(
    samples: Samples, feed: Feed, buckets: Buckets, covered: Bool, *, base: Increase | None = None
) -> Increase:
    """Return how much the counters of each entity grew in each bucket.

    `covered` bool [N]: entities that the source reads even where it has no series. `base` is the quantity of which this one counts a part
    (errors of requests): where that is known, this is, and 0 without a series.
    """
    entities, edges = covered.size, samples.positions(buckets.edges)
    times = samples.times[edges[:, None], feed.series]
    values = samples.values[edges[:, None], feed.series]
    at = samples.origin + buckets.edges * samples.interval
    resolution = _resolution(samples, feed)
    read = _refresh_times(samples, feed, buckets.edges)
    sampled = times[1:] > at[:-1, None]
    absent = (times[:-1] != NEVER) & (at[:-1, None] - times[:-1] > resolution)
    returned = _any_by(sampled & absent, feed.entity, entities)
    growth = sum_by(values[1:] - values[:-1], feed.entity, entities)
    if base is not None:
        return Increase(growth, base.valid & ~returned, base.seconds)
    fresh = _fresh(at, read, resolution)
    was_read = fresh[1:] & fresh[:-1] & (read[1:] > at[:-1])
    seconds = np.where(was_read, (read[1:] - np.where(was_read, read[:-1], 0)) / 1e9, np.nan)
    valid = was_read[:, None] & ~returned & (covered[None, :] | _any_by(sampled, feed.entity, entities))
    return Increase(growth, valid, seconds)


def growth_by(samples: Samples, feed: Feed, buckets: Buckets, group: Int, groups: int) -> Float:
    """Return how much counters grew in each bucket, [T, groups], summed by a group of each series; says nothing of what is known."""
    edges = samples.positions(buckets.edges)
    values = samples.values[edges[:, None], feed.series]
    return sum_by(values[1:] - values[:-1], group, groups)


def level(samples: Samples, feed: Feed, buckets: Buckets, entities: int) -> Level:
    """Return the value of each entity's gauges at the end of each bucket: their sum, or the largest (at least 0) if the source says so."""
    edges = samples.positions(buckets.edges)
    times = samples.times[edges[1:][:, None], feed.series]
    values = samples.values[edges[1:][:, None], feed.series]
    at = samples.origin + buckets.edges * samples.interval
    present = (times > at[:-1, None]) & (times != NEVER) & ~np.isnan(values)
    present &= at[1:, None] - np.where(present, times, at[1:, None]) <= _resolution(samples, feed)
    # Who was passed over by the newest scrape is gone, however young its last sample: its successor is counted already.
    read = _read_times(samples, feed, edges[1:])
    present &= read[:, None] - np.where(present, times, read[:, None]) < samples.interval
    valid = _any_by(present, feed.entity, entities)
    if feed.source.across == "max":
        largest = np.zeros((entities, buckets.count))
        np.maximum.at(largest, feed.entity, np.where(present, values, 0.0).T)
        return Level(largest.T, valid)
    return Level(sum_by(np.where(present, values, 0.0), feed.entity, entities), valid)


def arrivals(samples: Samples, feed: Feed, buckets: Buckets, covered: Bool) -> tuple[Int, Int]:
    """Return how many readings of each entity arrived in each bucket, and how many its source's resolution lets expect, both [T, N].

    A reading is an interval of the resolution that holds a sample: of the metric for entities that are covered without a series, of
    the entity itself for others, from its first sample on; before it none is expected, unless the map says that every entity has it.
    """
    span = max(1, _resolution(samples, feed) // samples.interval)
    per_bucket = max(1, buckets.width // span)
    ends = np.repeat(buckets.edges[1:], per_bucket) - np.tile(np.arange(per_bucket - 1, -1, -1) * span, buckets.count)
    begins = samples.origin + (ends - span) * samples.interval
    held = samples.positions(ends)
    times = samples.times[held[:, None], feed.series]
    number = ~np.isnan(samples.values[held[:, None], feed.series])
    own = _any_by((times > begins[:, None]) & number, feed.entity, covered.size)
    metric = _read_times(samples, feed, held) > begins
    arrived = np.where(covered[None, :], metric[:, None] | own, own)
    last = times[per_bucket - 1 :: per_bucket] != NEVER
    expected = (covered[None, :] | feed.source.expected | _any_by(last, feed.entity, covered.size)) * per_bucket
    return arrived.reshape(buckets.count, per_bucket, covered.size).sum(axis=1), expected.astype(np.int64)


def sum_by(values: Float, group: Int, groups: int) -> Float:
    """Return the sums [T, groups] of the columns of `values` [T, S] by their group.

    One after the other in column order, never pairwise: a further series that adds nothing then changes no bit of the sum.
    """
    rows = values.shape[0]
    if values.size == 0:
        return np.zeros((rows, groups))
    cell = (np.arange(rows)[:, None] * groups + group[None, :]).ravel()
    sums = np.bincount(cell, weights=values.ravel(), minlength=rows * groups)
    return sums.reshape(rows, groups).astype(np.float64, copy=False)


def _any_by(flags: Bool, group: Int, groups: int) -> Bool:
    """Return whether any of the columns of `flags` [T, S] is set, by their group, [T, groups]."""
    result = np.zeros((flags.shape[0], groups), bool)
    if group.size:
        order = np.argsort(group, kind="stable")
        present, starts = np.unique(group[order], return_index=True)
        result[:, present] = np.logical_or.reduceat(flags[:, order], starts, axis=1)
    return result


def _resolution(samples: Samples, feed: Feed) -> int:
    return max(feed.source.resolution_seconds * 1_000_000_000, samples.interval)


def _read_times(samples: Samples, feed: Feed, edges: Int, *, ends: int = 0) -> Int:
    """Return when the metric was last read at each edge: its newest sample, or, while it has no series, anybody's.

    Where others tell of the entity, their connector may not be there at all: so something of it has to have come, if not at an edge then
    `ends` edges later, where the bucket ends that begins there.
    """
    everybody, none = samples.newest[edges], np.full(edges.shape, NEVER)
    newest = samples.times[edges[:, None], feed.metric].max(axis=1) if feed.metric.size else none
    if not feed.source.covers:
        return np.where(newest == NEVER, everybody, newest)
    soon = np.append(newest[ends:], none[:ends]) != NEVER
    return np.where((newest == NEVER) & soon, everybody, newest)


def _refresh_times(samples: Samples, feed: Feed, edges: Int) -> Int:
    """Return when the source's figures are from: the newest sample at which one changed, within its resolution; else as `_read_times`.

    A source that is slower than the scrape shows the same figure again. Where the scrape at a refresh is lost, the one before it would
    pass for a reading of its own, and the bucket for one without growth.
    """
    read = _read_times(samples, feed, samples.positions(edges), ends=1)
    steps = _resolution(samples, feed) // samples.interval
    if steps < 2 or feed.metric.size == 0:
        return read
    found = np.full(edges.shape, NEVER)
    for back in range(steps, -1, -1):
        later, before = samples.positions(edges - back)[:, None], samples.positions(edges - back - 1)[:, None]
        changed = samples.values[later, feed.metric] != samples.values[before, feed.metric]
        found = np.maximum(found, np.where(changed, samples.times[later, feed.metric], NEVER).max(axis=1))
    return np.where(found == NEVER, read, found)


def _fresh(at: Int, read: Int, resolution: int) -> Bool:
    known = read != NEVER
    age = at - np.where(known, read, at)
    return np.asarray(known & (age <= resolution), bool)
