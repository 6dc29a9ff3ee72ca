"""Clients' spans ➜ what went over each edge.

In: spans by their end, the graph's edges. Out: the columns of requests, errors and latency, counts per status, tries again; [T, E] each.

A span that was kept with probability p stands for 1 / p of its kind, so counts are estimates without bias, and not whole. Rates are per
bucket, because a span counts in the bucket in which it ended. An edge is known where its caller sends spans, as soon as any span has come
at all, and but for the times in which the receiver missed some. Quantiles are the smallest duration that covers its share of the weights,
null below 20 spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Span
from otel_control_gym.engine.settings import SpanSource
from otel_control_gym.projections.growth import Buckets, sum_by
from otel_control_gym.projections.histograms import FEWEST_OBSERVATIONS
from otel_control_gym.projections.timelines import Timeline

__all__ = ("EdgeSpans", "SpanTraffic")

_KINDS = ("client", "producer")
_WANTED = (0.5, 0.95, 0.99)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Int = npt.NDArray[np.int64]


class SpanTraffic(msgspec.Struct, frozen=True, eq=False):
    """What spans tell of a range of buckets."""

    columns: Mapping[str, Float]  #: by name of the column, NaN where it isn't known
    known: Bool  #: [T, E]
    codes: tuple[str, ...]
    counts: Float  #: [T, E, codes]
    arrived: Float  #: [T]: share of each bucket in which spans could arrive


class EdgeSpans(msgspec.Struct, frozen=True, eq=False):
    """The spans of a run, as a source of its edges."""

    source: SpanSource
    spans: Timeline[Span]
    edges: Mapping[tuple[str, str], int]  #: (caller, called) -> position
    senders: Bool  #: [E] the caller sends spans
    gaps: Sequence[tuple[int, int]]  #: [ns] times in which the receiver missed spans

    def traffic(self, buckets: Buckets, origin: int, interval: int) -> SpanTraffic:
        """Return what went over the edges in each bucket."""
        at = origin + buckets.edges * interval
        arrived = self._arrived(at)
        known = (arrived == 1.0)[:, None] & self.senders[None, :]
        shape, cells = known.shape, known.size
        cell, weight, duration, failed, again, code, codes = self._rows(at)
        requests, errors, retries, total = (
            sum_by(values[None, :], cell, cells).reshape(shape)
            for values in (weight, weight * failed, weight * again, weight * duration)
        )
        seconds = (np.diff(at) / SECOND)[:, None]
        found = _quantiles(cell, weight, duration, cells).reshape(*shape, len(_WANTED))
        columns = {
            "request_rate": requests / seconds,
            "error_rate": errors / seconds,
            "error_ratio": _ratio(errors, requests),
            "request_count": requests,
            "error_count": errors,
            "latency_count": requests,
            "latency_mean_ms": _ratio(total, requests),
            "latency_p50_ms": found[..., 0],
            "latency_p95_ms": found[..., 1],
            "latency_p99_ms": found[..., 2],
            "retry_rate": retries / seconds if self.source.retry else np.full(shape, np.nan),
        }
        return SpanTraffic(
            columns={name: np.where(known, values, np.nan) for name, values in columns.items()},
            known=known,
            codes=codes,
            counts=sum_by(weight[None, :], cell * len(codes) + code, cells * len(codes)).reshape(*shape, len(codes)),
            arrived=arrived,
        )

    def _arrived(self, at: Int) -> Float:
        """Return which share [T] of each bucket the receiver was there; 0 before the run's first span."""
        spans = self.spans.all()
        missed = np.zeros(at.size - 1)
        for start, end in self.gaps:
            missed += np.maximum(0, np.minimum(at[1:], end) - np.maximum(at[:-1], start))
        share = 1.0 - np.minimum(1.0, missed / np.diff(at))
        return np.where(at[1:] > spans[0].time, share, 0.0) if spans else np.zeros(at.size - 1)

    def _rows(self, at: Int) -> tuple[Int, Float, Float, Float, Float, Int, tuple[str, ...]]:
        """Return, for each span of an edge in the range: its cell, weight, duration [ms], failure, retry, status, and the statuses."""
        rows = []
        if at.size > 1:
            for span in self.spans.between(int(at[0]), int(at[-1])):
                edge = self.edges.get((span.service, span.peer)) if span.kind in _KINDS else None
                if edge is not None:
                    rows.append((span, edge, self._code(span), self._again(span)))
        codes = tuple(sorted({code for _, _, code, _ in rows}))
        place = {code: position for position, code in enumerate(codes)}
        bucket = np.searchsorted(at, np.array([span.time for span, _, _, _ in rows], np.int64), side="right") - 1
        return (
            bucket * len(self.senders) + np.array([edge for _, edge, _, _ in rows], np.int64),
            np.array([1.0 / span.sampling_probability for span, _, _, _ in rows]),
            np.array([span.duration_ns / 1e6 for span, _, _, _ in rows]),
            np.array([float(span.status == "error") for span, _, _, _ in rows]),
            np.array([float(again) for _, _, _, again in rows]),
            np.array([place[code] for _, _, code, _ in rows], np.int64),
            codes,
        )

    def _code(self, span: Span) -> str:
        for name in self.source.code:
            if found := span.attributes.get(name, ""):
                return found
        return "error" if span.status == "error" else "ok"

    def _again(self, span: Span) -> bool:
        return any(span.attributes.get(name, "0") != "0" for name in self.source.retry)


def _quantiles(cell: Int, weight: Float, duration: Float, cells: int) -> Float:
    """Return weighted quantiles [cells, Q]; NaN below 20 spans."""
    result = np.full((cells, len(_WANTED)), np.nan)
    order = np.lexsort((duration, cell))
    cell, weight, duration = cell[order], weight[order], duration[order]
    present, starts, counts = np.unique(cell, return_index=True, return_counts=True)
    for number, start, count in zip(present.tolist(), starts.tolist(), counts.tolist(), strict=True):
        if count < FEWEST_OBSERVATIONS:
            continue
        reached = np.cumsum(weight[start : start + count])
        at = np.searchsorted(reached, np.array(_WANTED) * reached[-1])
        result[number] = duration[start + np.minimum(at, count - 1)]
    return result


def _ratio(part: Float, whole: Float) -> Float:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
