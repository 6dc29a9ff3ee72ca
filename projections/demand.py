"""Readings of the load generator ➜ demand and what became of it, per bucket.

In: `WorkloadState` rows, whose counts are cumulative since the run began. Out: growth between the buckets' edges, and how many requests
were open at each edge.

A reading counts at an edge while it isn't older than the scrape interval; at the run's start everything is 0 by definition. Where
there is none the bucket is unknown.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import WorkloadState
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets

__all__ = ("Demand", "demand")

Float = npt.NDArray[np.float64]


class Demand(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Requests of T buckets, each [T]; NaN where the load generator wasn't read."""

    scheduled: Float  #: made in the bucket
    served: Float  #: answered in the bucket
    failed: Float  #: of those: with an error
    open_before: Float  #: made before the bucket, not answered before it
    open_after: Float  #: not answered at its end
    seconds: Float  #: between the readings used
    readings: tuple[WorkloadState | None, ...]  #: the reading at each bucket's end


def demand(state: RunState, buckets: Buckets) -> Demand:
    """Return the demand of each bucket."""
    rows = state.workload.all()
    times, continued = state.workload.continued()
    at = state.origin + buckets.edges * state.samples.interval
    held = np.searchsorted(times, at, side="right") - 1
    fresh = [i >= 0 and at[j] - times[i] <= state.samples.interval for j, i in enumerate(held)]
    counts = np.full((3, at.size), np.nan)
    when = np.full(at.size, np.nan)
    for j, i in enumerate(held):
        if fresh[j]:
            counts[:, j], when[j] = continued[:, i], times[i] - state.origin
        elif at[j] == state.origin:
            counts[:, j], when[j] = 0.0, 0.0
    scheduled, served, failed = np.where(held[1:] != held[:-1], np.diff(counts, axis=1), np.nan)  # a reading of its own
    pending = np.maximum(counts[0] - counts[1], 0.0)
    return Demand(
        scheduled=scheduled,
        served=served,
        failed=failed,
        open_before=pending[:-1],
        open_after=pending[1:],
        seconds=np.diff(when) / 1e9,
        readings=tuple(rows[i] if ok else None for i, ok in zip(held[1:], fresh[1:], strict=True)),
    )
