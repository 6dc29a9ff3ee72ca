"""Samples enter the log raw, once, in order; what can't be had is a gap."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.collectors.prometheus import PrometheusCollector, parse_values
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap, SamplesCollected, SeriesDeclared
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import FeatureSource, MetricMap
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.servers.prometheus import PrometheusServer
from otel_control_gym.stands.twin.time_series import TimeSeries

START = 1_767_571_200 * SECOND
METRICS = MetricMap(
    name="test",
    drop_labels=("run_id",),
    node={"requests": FeatureSource(metric="calls_total", kind="counter", where={"kind": ("server",)})},
    edge={},
)


def endpoints_at(url: str) -> Endpoints:
    return Endpoints(kubernetes=url, namespace="x", prometheus=url, coroot=url, load_generator=url, flagd=url)


def barrier(seconds: float) -> Barrier:
    return Barrier(time=START + round(seconds * SECOND), resource_version="")


class Scraped:
    """A Prometheus with two series that are wanted and one that isn't."""

    def __init__(self) -> None:
        self.series = TimeSeries()
        labels = [("server", "a"), ("server", "b"), ("client", "a")]
        self.numbers = np.array(
            [
                self.series.declare(
                    {"__name__": "calls_total", "kind": kind, "service_name": name, "run_id": f"r{name}"}
                )
                for kind, name in labels
            ]
        )

    def scrape(self, seconds: int, value: float) -> None:
        self.series.append(START + seconds * SECOND, self.numbers, np.array([value, value + 0.5, -1.0]))


@asynccontextmanager
async def collecting(scraped: Scraped) -> AsyncIterator[PrometheusCollector]:
    server = PrometheusServer(lambda: START)
    server.attach(scraped.series)
    async with listen(server.application()) as url:
        collector = PrometheusCollector(endpoints_at(url), METRICS, scrape_interval_seconds=5, now=START)
        async with collector.open():
            yield collector


async def test_each_sample_is_collected_once_with_its_own_time() -> None:
    scraped = Scraped()
    async with collecting(scraped) as collector:
        scraped.scrape(0, 1.0)
        await collector.drain(barrier(0))
        declared, first = (event for event, _ in collector.flush(START))
        assert isinstance(declared, SeriesDeclared)
        assert [dict(row.labels) for row in declared.rows] == [
            {"__name__": "calls_total", "kind": "server", "service_name": "a"},
            {"__name__": "calls_total", "kind": "server", "service_name": "b"},
        ]
        assert isinstance(first, SamplesCollected)
        assert (first.series.tolist(), first.values.tolist()) == ([0, 1], [1.0, 1.5])
        for seconds in (5, 10, 15):
            scraped.scrape(seconds, float(seconds))
        await collector.drain(barrier(15))
        ((second, truth),) = collector.flush(START + 15 * SECOND)
        assert isinstance(second, SamplesCollected)
        assert not truth
        assert second.series.tolist() == [0, 0, 0, 1, 1, 1]
        assert second.times.tolist() == [START + s * SECOND for s in (5, 10, 15)] * 2
        assert second.values.tolist() == [5.0, 10.0, 15.0, 5.5, 10.5, 15.5]
        await collector.drain(barrier(15))
        assert collector.flush(START + 15 * SECOND) == []


async def test_an_overlapping_window_brings_nothing_twice() -> None:
    scraped = Scraped()
    async with collecting(scraped) as collector:
        scraped.scrape(0, 1.0)
        await collector.drain(barrier(0))
        collector.flush(START)
        scraped.scrape(5, 2.0)
        late = Barrier(
            time=START + 5 * SECOND, resource_version="", exact=False
        )  # asks for a minute more than it needs
        await collector.drain(late)
        ((event, _),) = collector.flush(late.time)
        assert isinstance(event, SamplesCollected)
        assert event.values.tolist() == [2.0, 2.5]


@pytest.mark.parametrize(
    "answer",
    [
        web.json_response({"status": "error", "errorType": "timeout", "error": "too slow"}, status=503).body,
        b"<html>bad gateway</html>",
        b'{"status":"success","data":{"result":[{"metric":{},"values":[[1,"x"]]}]}}',
    ],
)
async def test_a_failing_source_is_a_gap_and_no_sample(answer: bytes) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(body=answer)

    application = web.Application()
    application.router.add_post("/api/v1/query", handler)
    async with listen(application) as url:
        collector = PrometheusCollector(endpoints_at(url), METRICS, scrape_interval_seconds=5, now=START)
        async with collector.open():
            await collector.drain(barrier(0))
            collector.flush(START)
            await collector.drain(barrier(30))
            ((gap, truth),) = collector.flush(START + 30 * SECOND)
    assert isinstance(gap, CollectorGap)
    assert (gap.source, gap.start, gap.end, truth) == ("metrics", START, START + 30 * SECOND, False)
    assert "calls_total" in gap.reason


async def test_a_prometheus_that_is_gone_is_a_gap() -> None:
    async with listen(web.Application()) as url:
        gone = endpoints_at(url)
    collector = PrometheusCollector(gone, METRICS, scrape_interval_seconds=5, now=START)
    async with collector.open():
        await collector.drain(barrier(30))
        ((gap, _),) = collector.flush(START + 30 * SECOND)
    assert isinstance(gap, CollectorGap)


@given(st.lists(st.lists(st.tuples(st.integers(0, 2**41), st.floats()), min_size=1, max_size=5), max_size=5))
def test_every_float_comes_out_with_the_bits_that_it_went_in_with(parts: list[list[tuple[int, float]]]) -> None:
    def text(value: float) -> str:
        return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(repr(value), repr(value).removesuffix(".0"))

    encoded = [
        ("[" + ",".join(f'[{ms // 1000}.{ms % 1000:03d},"{text(value)}"]' for ms, value in part) + "]").encode()
        for part in parts
    ]
    times, values, counts = parse_values(encoded)
    flat = [sample for part in parts for sample in part]
    assert counts.tolist() == [len(part) for part in parts]
    assert times.tolist() == [ms * 1_000_000 for ms, _ in flat]
    expected = [struct.pack("d", float("nan") if value != value else value) for _, value in flat]
    assert [struct.pack("d", value) for value in values] == expected
