"""Prometheus ➜ raw samples.

In: range selectors over the time since the last flush, answered as JSON. Out: `SeriesDeclared` for series that are new, and one
`SamplesCollected` with everything that was scraped in between: no rates, no quantiles, no lookback (those can't be undone later).

What makes this hard is the amount: thousands of series a step. So nothing is done per sample in Python: the label part of each answer
stays encoded and is the key of its series, the value parts of all series are parsed in one go, and the rest is numpy.

- Prometheus versions differ in whether a range holds its left edge, and on a cluster the windows overlap on purpose: samples not
  newer than their series' last one are dropped.
- A series is what Prometheus says it is. Labels with ids of the run or process are left out of the log, but two series that differ only
  in those stay two: their counters must not be mixed.
- A native histogram comes as one sample with many numbers; it is split into series by `collectors.native_histograms`.
- A query that fails is a gap. It isn't asked again later: what comes late would change buckets that were already judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp
import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.collectors.gaps import Gaps
from otel_control_gym.collectors.native_histograms import NativeHistograms, NativeSeries
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Event, SamplesCollected, SeriesDeclaration, SeriesDeclared
from otel_control_gym.engine.metric_selectors import selectors
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.service_sessions import service_session
from otel_control_gym.engine.settings import MetricMap

__all__ = ("PrometheusCollector", "parse_values")

_QUERY_SECONDS = 120.0  #: Prometheus' own limit of a query
_OVERLAP = 60 * SECOND  #: how far back an inexact barrier's query reaches again
_MILLISECOND = 1_000_000
_CLUTTER = b'[]" '

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class _Item(msgspec.Struct, gc=False):
    metric: msgspec.Raw
    values: msgspec.Raw = msgspec.Raw(b"[]")
    histograms: msgspec.Raw = msgspec.Raw(b"")  # native ones, beside or instead of values


class _Data(msgspec.Struct):
    result: list[_Item] = []


class _Answer(msgspec.Struct, rename="camel"):
    status: str
    data: _Data | None = None
    error_type: str = ""
    error: str = ""
    warnings: list[str] = []


_decoder = msgspec.json.Decoder(_Answer)
_number_decoder = msgspec.json.Decoder(list[float])


def parse_values(parts: Sequence[bytes | memoryview]) -> tuple[Ints, Floats, Ints]:
    """Return times [ns], values, and the number of samples of each part; a part is Prometheus' `[[seconds,"value"],...]`.

    Raises: ValueError: something in a part isn't a number.
    """
    lines = [bytes(part) for part in parts]
    counts = np.fromiter((line.count(b"[") - 1 for line in lines), np.int64, len(lines))
    text = b",".join(line for line in lines if len(line) > 2).translate(None, _CLUTTER)
    numbers = _numbers(text)
    times = np.rint(numbers[0::2] * 1000.0).astype(np.int64) * _MILLISECOND
    return times, np.ascontiguousarray(numbers[1::2]), counts


def _numbers(text: bytes) -> Floats:
    """Return numbers with commas in between. JSON is read faster, but has no word for `NaN` and `+Inf`, and its reader takes `-0` for 0."""
    if b"-0," not in text and not text.endswith(b"-0"):
        with contextlib.suppress(msgspec.DecodeError):
            return np.array(_number_decoder.decode(b"[" + text + b"]"), np.float64)
    return np.array(text.split(b","), np.float64)


class PrometheusCollector:
    """Asks for the raw samples of a metric map's series.

    Args:
        endpoints: where Prometheus is.
        metric_map: says which series are wanted, and which labels aren't logged.
        scrape_interval_seconds: how far before the first barrier its query reaches.
        now: samples before this moment aren't the run's.
    """

    source = "metrics"

    def __init__(self, endpoints: Endpoints, metric_map: MetricMap, *, scrape_interval_seconds: int, now: int) -> None:
        self._endpoints = endpoints
        self._url = f"{endpoints.prometheus}/api/v1/query"
        self._selectors = selectors(metric_map)
        self._dropped = frozenset(metric_map.drop_labels)
        self._start = now
        self._first_reach = scrape_interval_seconds * SECOND
        self._gaps = Gaps(self.source, now)
        self._numbers: dict[bytes, int] = {}  # encoded labels -> series
        self._last: Ints = np.full(1024, now - 1, np.int64)  # newest time by series
        self._native = NativeHistograms()
        self._declared: list[SeriesDeclaration] = []
        self._batches: list[tuple[npt.NDArray[np.int32], Ints, Floats]] = []
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> AbstractAsyncContextManager[None]:
        """Open the connection."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with service_session(self._endpoints, self._url, _QUERY_SECONDS) as self._session:
            yield

    async def drain(self, barrier: Barrier) -> None:
        """Ask for everything between the last barrier and this one."""
        since = self._gaps.since if barrier.exact else self._gaps.since - _OVERLAP
        reach = max(barrier.time - since, self._first_reach)
        reasons = []
        for selector in self._selectors:
            try:
                await self._query(selector, barrier.time, -(-reach // SECOND))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                reasons.append(f"query not answered ({type(error).__name__}): {selector}")
            except (msgspec.MsgspecError, ValueError) as error:
                reasons.append(f"answer can't be read ({error}): {selector}")
        self._gaps.read_up_to(barrier.time, *reasons)

    async def _query(self, selector: str, until: int, seconds: int) -> None:
        assert self._session is not None, "drained outside of `open`"
        form = {"query": f"{selector}[{seconds}s]", "time": f"{until // _MILLISECOND / 1000:.3f}"}
        async with self._session.post(self._url, data=form) as response:
            payload = await response.read()
        answer = _decoder.decode(payload)
        if answer.status != "success" or answer.data is None:
            raise ValueError(f"{answer.error_type}: {answer.error}")
        if answer.warnings:
            raise ValueError(f"incomplete: {answer.warnings[0]}")
        self._take(answer.data.result)

    def _take(self, items: Sequence[_Item]) -> None:
        """Number the series, drop what isn't new, keep the rest."""
        plain = [item for item in items if len(item.values) > 2]
        times, values, counts = parse_values([item.values for item in plain])
        numbers = np.fromiter((self._number(bytes(item.metric)) for item in plain), np.int32, len(plain))
        self._keep(np.repeat(numbers, counts), times, values)
        for item in items:
            if item.histograms:
                self._take_histograms(bytes(item.metric), item.histograms)

    def _take_histograms(self, encoded: bytes, histograms: msgspec.Raw) -> None:
        for part in self._native.split(encoded, histograms):
            number = self._number(encoded, part)
            self._keep(np.full(part.times.size, number, np.int32), part.times, part.values)

    def _keep(self, series: npt.NDArray[np.int32], times: Ints, values: Floats) -> None:
        new = times > self._last[series]
        series, times, values = series[new], times[new], values[new]
        self._last[series] = times  # of a series' samples the last one stays, which is the newest
        if len(series):
            self._batches.append((series, times, values))

    def _number(self, encoded: bytes, part: NativeSeries | None = None) -> int:
        """Return the number of a series, or of a part of the histogram that it is."""
        key = encoded if part is None else encoded + msgspec.json.encode((part.suffix, part.labels))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            labels: dict[str, str] = msgspec.json.decode(encoded, type=dict[str, str])
            if part is not None:
                labels |= part.labels | {"__name__": labels["__name__"] + part.suffix}
            kept = {name: labels[name] for name in sorted(labels) if name not in self._dropped}
            self._declared.append(SeriesDeclaration(series=number, labels=kept))
            if number >= len(self._last):
                self._last = np.concatenate([self._last, np.full(len(self._last), self._start - 1, np.int64)])
        return number

    def newest(self) -> Mapping[str, int]:
        """Return the time of the newest sample."""
        told = int(self._last[: len(self._numbers)].max(initial=self._start - 1))
        return {self.source: told} if told >= self._start else {}

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return new series, then all samples, sorted by (series, time)."""
        events: list[Event] = []
        if self._declared:
            events.append(SeriesDeclared(time=now, rows=tuple(self._declared)))
            self._declared = []
        if self._batches:
            series, times, values = (np.concatenate(columns) for columns in zip(*self._batches, strict=True))
            order = np.lexsort((times, series))
            events.append(SamplesCollected(time=now, series=series[order], times=times[order], values=values[order]))
            self._batches = []
        events += self._gaps.flush(now)
        return [(event, False) for event in events]
