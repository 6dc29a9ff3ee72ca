"""What Prometheus answers about a native histogram can be rebuilt from the log, to the bit."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.collectors.native_histograms import NativeHistograms
from otel_control_gym.collectors.prometheus import PrometheusCollector
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.codec import decode, encode
from otel_control_gym.engine.events import CollectorGap, Event, SamplesCollected, SeriesDeclared, type_tag
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import FeatureSource, MetricMap
from otel_control_gym.stands.twin.servers.listening import listen

START = 1_767_571_200 * SECOND
LABELS = {"__name__": "request_seconds", "service_name": "cart"}
METRICS = MetricMap(
    name="native", node={"latency": FeatureSource(metric="request_seconds", kind="native_histogram", scale=1000.0)}
)
Histogram = dict[str, Any]


def histogram(count: str, total: str, *buckets: Sequence[Any]) -> Histogram:
    return {"count": count, "sum": total, "buckets": [list(bucket) for bucket in buckets]}


class Server:
    """Answers the collector's query as Prometheus does: with what is in the asked range."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, Histogram]] = []
        self.queries: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.queries.append(str(form["query"]))
        until = float(str(form["time"]))
        seconds = int(str(form["query"]).rsplit("[", 1)[1].removesuffix("s]"))
        found = [[time, value] for time, value in self.samples if until - seconds < time <= until]
        result = [{"metric": LABELS, "histograms": found}] if found else []
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}})


@asynccontextmanager
async def collecting(server: Server) -> AsyncIterator[PrometheusCollector]:
    application = web.Application()
    application.router.add_post("/api/v1/query", server.answer)
    async with listen(application) as url:
        endpoints = Endpoints(kubernetes=url, namespace="x", prometheus=url, coroot=url, load_generator=url, flagd=url)
        collector = PrometheusCollector(endpoints, METRICS, scrape_interval_seconds=5, now=START)
        async with collector.open():
            yield collector


def rebuilt(events: Sequence[Event]) -> dict[int, Histogram]:
    """Return the histograms that a log's series are made of, by time; empty buckets left out, as Prometheus does."""
    labels = {row.series: row.labels for event in events if isinstance(event, SeriesDeclared) for row in event.rows}
    found: dict[int, Histogram] = {}
    for event in events:
        if not isinstance(event, SamplesCollected):
            continue
        for series, time, value in zip(event.series.tolist(), event.times.tolist(), event.values.tolist(), strict=True):
            shown = found.setdefault(time, {"buckets": []})
            own = labels[series]
            if own["__name__"] == "request_seconds_bucket":
                bounds = [int(own["boundary_rule"]), own["lower_bound"], own["upper_bound"]]
                shown["buckets"] += [[*bounds, value]] if value else []
            else:
                shown[own["__name__"].rpartition("_")[2]] = value
    return found


def plain(shown: Histogram) -> Histogram:
    buckets = sorted([rule, low, high, float(count)] for rule, low, high, count in shown["buckets"])
    return {"count": float(shown["count"]), "sum": float(shown["sum"]), "buckets": buckets}


async def test_answers_are_rebuilt_from_the_log_to_the_bit_also_over_a_restart() -> None:
    server = Server()
    zero = (3, "-1e-128", "1e-128")
    server.samples = [
        (START / SECOND, histogram("3", "0.1", (*zero, "1"), (0, "0.5", "0.7071067811865475", "2"))),
        (START / SECOND + 5, histogram("9", "2.3000000000000003", (*zero, "1"), (0, "0.5", "0.7071067811865475", "8"))),
        (START / SECOND + 10.25, histogram("4", "5", (0, "1", "1.414213562373095", "4"))),  # restarted
    ]
    events: list[Event] = []
    async with collecting(server) as collector:
        for seconds in (0, 5, 15):
            await collector.drain(Barrier(time=START + seconds * SECOND, resource_version=""))
            events += [
                decode(type_tag(type(event)), encode(event)) for event, _ in collector.flush(START + seconds * SECOND)
            ]
    assert server.queries[0].startswith('{__name__=~"request_seconds"}[')
    assert not any(isinstance(event, CollectorGap) for event in events)
    found = {time: shown | {"buckets": sorted(shown["buckets"])} for time, shown in rebuilt(events).items()}
    assert found == {round(time * 1000) * 1_000_000: plain(shown) for time, shown in server.samples}


async def test_a_bucket_that_is_left_out_is_empty_once_it_is_known() -> None:
    server = Server()
    async with collecting(server) as collector:
        server.samples = [(START / SECOND, histogram("2", "3", (0, "1", "2", "2")))]
        await collector.drain(Barrier(time=START, resource_version=""))
        collector.flush(START)
        server.samples.append((START / SECOND + 5, histogram("1", "5", (0, "4", "8", "1"))))
        await collector.drain(Barrier(time=START + 5 * SECOND, resource_version=""))
        (declared, samples) = (event for event, _ in collector.flush(START + 5 * SECOND))
    assert isinstance(declared, SeriesDeclared)
    assert isinstance(samples, SamplesCollected)
    assert [row.labels["upper_bound"] for row in declared.rows] == ["8"]  # the new one only
    assert samples.values.tolist() == [1.0, 5.0, 0.0, 1.0]  # count, sum, the old bucket, the new one


@pytest.mark.parametrize("broken", [[[1.0, {"count": "x", "sum": "1"}]], [[1.0, {"sum": "1"}]], [["now", {}]]])
def test_what_is_no_histogram_is_refused(broken: Any) -> None:
    with pytest.raises(ValueError, match=r"float|Expected|missing"):
        list(NativeHistograms().split(b"", msgspec.Raw(json.dumps(broken).encode())))


exponents = st.integers(-20, 20)


@given(st.lists(st.dictionaries(exponents, st.integers(1, 2**40), max_size=6), min_size=1, max_size=5))
def test_counts_of_a_histogram_add_up_to_its_count_at_every_moment(scrapes: list[dict[int, int]]) -> None:
    shown = [
        [
            float(5 * number),
            histogram(
                str(sum(held.values())), "1", *((0, f"{2.0**at}", f"{2.0 ** (at + 1)}", str(held[at])) for at in held)
            ),
        ]
        for number, held in enumerate(scrapes)
    ]
    parts = list(NativeHistograms().split(b"", msgspec.Raw(json.dumps(shown).encode())))
    buckets = np.array([part.values for part in parts if part.suffix == "_bucket"]).reshape(-1, len(scrapes))
    (count,) = (part for part in parts if part.suffix == "_count")
    assert np.array_equal(buckets.sum(axis=0), count.values)
    assert count.times.tolist() == [5 * number * SECOND for number in range(len(scrapes))]
