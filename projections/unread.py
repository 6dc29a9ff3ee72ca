"""Services that a scrape passed over ➜ cells that aren't known.

In: gaps of the metrics that name services, and the finest grid. Out: where a node's or edge's target wasn't read, and feature columns with
null in the cells that this makes unknown. Without it, a service that wasn't read would look like one at rest: its counters stand still
while everybody else's scrape says that the metric was read.

A gap is from the scrape before the lost one to the lost one, so an edge within it shows what stood before. A growth needs both edges of its
bucket, a level the later one; what was lost within a bucket is in the growth of the whole. Upstream: `projections.fold`. Downstream:
`projections.features`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import CollectorGap
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.samples import Samples

__all__ = ("Unread", "masked", "unread")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_LEVELS: Final = frozenset(
    {
        "memory_usage_bytes",
        "memory_saturation",
        "replicas_ready",
        "replicas_desired",
        "cpu_limit_cores",
        "memory_limit_bytes",
    }
)


class Unread(msgspec.Struct, frozen=True):
    """When an entity of a table wasn't read: in (start, end] [ns]."""

    entity: int  #: position of the node or edge in the graph
    start: int
    end: int


def unread(gaps: Sequence[CollectorGap], services: Sequence[str]) -> tuple[Unread, ...]:
    """Return when entities weren't read, whose readings come from these services' targets (one each)."""
    return tuple(
        Unread(position, gap.start, gap.end)
        for gap in gaps
        if gap.source == "metrics" and gap.services
        for position, service in enumerate(services)
        if service in gap.services
    )


def masked(
    columns: dict[str, Float], lost: Sequence[Unread], buckets: Buckets, samples: Samples, entities: int
) -> dict[str, Float]:
    """Return columns [T, N] with NaN in the cells that lost scrapes make unknown, and coverage without those scrapes."""
    if not lost or not buckets.count:
        return columns
    finest = np.arange(buckets.edges[0], buckets.edges[-1] + 1)
    blind = _blind(lost, finest, samples, entities)
    at_edges = blind[:: buckets.width]
    growth, level = at_edges[:-1] | at_edges[1:], at_edges[1:]
    seen = 1.0 - blind[1:].reshape(buckets.count, buckets.width, entities).mean(axis=1)
    result = {}
    for name, values in columns.items():
        if name == "coverage":
            result[name] = np.minimum(values, seen)
        else:
            result[name] = np.where(level if name in _LEVELS else growth, np.nan, values)
    return result


def _blind(lost: Sequence[Unread], edges: npt.NDArray[np.int64], samples: Samples, entities: int) -> Bool:
    at = samples.origin + edges * samples.interval
    blind = np.zeros((edges.size, entities), bool)
    for item in lost:
        blind[(at > item.start) & (at <= item.end), item.entity] = True
    return blind
