"""Quantities of requests ➜ the columns of requests, errors, latency, statuses and tries again, which nodes and edges share.

In: the quantities of one table. Out: columns [T, N]. The sources of `request_count`, `error_count`, `latency`, `status_count`
and `retry_count` go together by their position in the metric map: each cell of a row is from the first source that knows its requests (a
service's own spans, else its callers'), never from two.

Upstream: `projections.quantities`, `projections.client_spans`. Downstream: `projections.features`.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.projections.client_spans import SpanTraffic
from otel_control_gym.projections.histograms import (
    common_buckets,
    native_quantiles,
    native_share_below,
    quantiles,
    share_below,
)
from otel_control_gym.projections.quantities import Quantities
from otel_control_gym.projections.series import Feed

__all__ = ("Statuses", "fast_share", "statuses", "traffic")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
_QUANTILES = (0.5, 0.95, 0.99)
_MISPLACED = 0.5  #: observations by which buckets may differ from the count


class Statuses(msgspec.Struct, frozen=True, eq=False):
    """How requests ended: counts [T, N, codes], and where they are known [T, N]."""

    codes: tuple[str, ...]
    counts: Float
    known: Bool


def traffic(quantities: Quantities, spans: SpanTraffic | None = None) -> dict[str, Float]:
    """Return the columns of requests, errors, latency and tries again; spans come before the sources of the map."""
    found = [(spans.known, dict(spans.columns))] if spans is not None else []
    found += [_columns(quantities, position) for position in range(quantities.sources("request_count", "latency"))]
    if not found:
        return {name: np.full(quantities.shape, np.nan) for name in _NAMES}
    (settled, columns), *others = found
    for known, more in others:
        fill = known & ~settled
        if not fill.any():
            continue
        columns = {name: np.where(fill, more[name], columns[name]) for name in _NAMES}
        settled = settled | known
    return columns


def statuses(quantities: Quantities, spans: SpanTraffic | None = None) -> Statuses:
    """Return how requests ended, by the source's statuses where it has them, else `ok` and `error`."""
    found = [Statuses(spans.codes, spans.counts, spans.known)] if spans is not None else []
    found += [_statuses(quantities, position) for position in range(quantities.sources("request_count"))]
    codes = tuple(sorted({code for one in found for code in one.codes}))
    counts, known = np.zeros((*quantities.shape, len(codes))), np.zeros(quantities.shape, bool)
    for one in found:
        fill = one.known & ~known
        places = [codes.index(code) for code in one.codes]
        counts[..., places] += np.where(fill[..., None], one.counts, 0.0)
        known |= one.known
    return Statuses(codes, counts, known)


def fast_share(quantities: Quantities, entity: int, threshold_ms: float) -> Float:
    """Return the share [T] of the answers of one node that took at most `threshold_ms`; NaN where there were none or it isn't known."""
    share = np.full(quantities.shape[0], np.nan)
    for position in range(quantities.sources("latency")):
        histogram = _Histogram(quantities, position)
        known = np.isnan(share) & histogram.known[:, entity]
        share = np.where(known, histogram.share_below(threshold_ms)[:, entity], share)
    return share


_NAMES = (
    "request_rate",
    "error_rate",
    "error_ratio",
    "request_count",
    "error_count",
    "latency_count",
    "latency_mean_ms",
    "latency_p50_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "retry_rate",
)


def _columns(quantities: Quantities, position: int) -> tuple[Bool, dict[str, Float]]:
    requested = quantities.increase("request_count", position)
    failed = quantities.increase("error_count", position, base=requested)
    again = quantities.increase("retry_count", position, base=requested)
    histogram = _Histogram(quantities, position)
    requests, errors, seconds = quantities.known(requested), quantities.known(failed), requested.seconds[:, None]
    found = histogram.quantiles()
    return requested.valid | histogram.known, {
        "request_rate": requests / seconds,
        "error_rate": errors / seconds,
        "error_ratio": _ratio(errors, requests),
        "request_count": requests,
        "error_count": errors,
        "latency_count": histogram.count,
        "latency_mean_ms": histogram.mean,
        "latency_p50_ms": found[..., 0],
        "latency_p95_ms": found[..., 1],
        "latency_p99_ms": found[..., 2],
        "retry_rate": quantities.known(again) / seconds,
    }


def _statuses(quantities: Quantities, position: int) -> Statuses:
    requested = quantities.increase("request_count", position)
    feed = quantities.feed("status_count", position)
    if feed is not None:
        counts = quantities.bucketed(feed, feed.code, len(feed.codes))
        whole = np.isclose(counts.sum(axis=-1), requested.growth, rtol=0, atol=_MISPLACED)
        return Statuses(feed.codes, counts, requested.valid & whole)
    failed = quantities.increase("error_count", position, base=requested)
    counts = np.stack([failed.growth, requested.growth - failed.growth], axis=-1)
    return Statuses(("error", "ok"), counts, requested.valid & failed.valid)


class _Histogram:
    """The growth of one source's latency histogram in each bucket of time, in milliseconds."""

    def __init__(self, quantities: Quantities, position: int) -> None:
        counted = quantities.increase("latency", position, "count")
        total = quantities.increase("latency", position, "sum", base=counted)
        feed = quantities.feed("latency", position, "bucket")
        self.known = counted.valid  #: [T, N]
        self.count = quantities.known(counted)  #: [T, N], NaN where it isn't known
        scale = feed.source.scale if feed is not None else 1.0
        self.mean = _ratio(quantities.known(total), self.count) * scale  #: [T, N], NaN without observations
        self._native = feed is not None and feed.source.kind == "native_histogram"
        self._lower, self._upper = np.zeros(1), np.full(1, np.inf)
        self._growth = np.zeros((*quantities.shape, 1))
        if feed is not None and feed.series.size:
            self._growth = quantities.bucketed(feed, feed.bound, feed.bounds.size)
            self._upper = feed.bounds
            if self._native:
                self._spread(feed)
            self._growth[~self.known] = 0.0

    def _spread(self, feed: Feed) -> None:
        """Bring buckets of different resolutions onto common bounds; what can't be placed in a bucket is not known."""
        self._lower, self._upper, shares = common_buckets(feed.lower, feed.bounds)
        placed = np.abs(self._growth.sum(axis=-1) - self.count) <= _MISPLACED
        self._growth = np.where(placed[..., None], self._growth @ shares, 0.0)

    def quantiles(self) -> Float:
        """Return median, 95th and 99th percentile [T, N, 3]."""
        if self._native:
            return native_quantiles(self._growth, self._lower, self._upper, _QUANTILES)
        return quantiles(self._growth, self._upper, _QUANTILES)

    def share_below(self, threshold_ms: float) -> Float:
        """Return the share [T, N] of the observations at or below a threshold."""
        if self._native:
            return native_share_below(self._growth, self._lower, self._upper, threshold_ms)
        return share_below(self._growth, self._upper, threshold_ms)


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
