"""Prometheus' HTTP API: real requests against the twin's server, answers in Prometheus' shapes."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.series_selectors import parse_selector
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.servers.prometheus import PrometheusServer
from otel_control_gym.stands.twin.servers.prometheus_answers import Answers, sample_text
from otel_control_gym.stands.twin.time_series import TimeSeries

START = 1_767_571_200
NOW = (START + 20) * SECOND


def filled() -> TimeSeries:
    """Return five scrapes of a counter (with a gap), a gauge that ends, and a scraped counter that ends."""
    series = TimeSeries()
    calls = series.declare({"__name__": "calls_total", "service_name": "cart", "quote": 'a"b'})
    usage = series.declare({"__name__": "usage", "service_name": "cart"})
    periods = series.declare({"__name__": "periods_total", "job": "kubernetes-nodes-cadvisor"})
    rows = [
        {usage: 0.25, periods: 1.0},
        {calls: 1.0, usage: 0.1, periods: 2.0},
        {calls: 1.0, periods: 3.0},
        {},
        {calls: 12.0},
    ]
    for scrape, row in enumerate(rows):
        series.append((START + 5 * scrape) * SECOND, np.array(list(row), np.int64), np.array(list(row.values())))
    return series


@pytest.fixture
async def server() -> PrometheusServer:
    return PrometheusServer(lambda: NOW)


@pytest.fixture
async def http(server: PrometheusServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with listen(server.application()) as url, aiohttp.ClientSession(url) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str, status: int = 200, **parameters: Any) -> Any:
    async with http.get(path, params=parameters) as response:
        assert response.status == status
        assert response.content_type == "application/json"
        return json.loads(await response.read())


async def test_a_range_selector_gives_raw_samples_left_open(
    server: PrometheusServer, http: aiohttp.ClientSession
) -> None:
    server.attach(filled())
    answer = await get(http, "/api/v1/query", query='calls_total{service_name="cart"}[15s]', time=START + 20)
    labels = {"__name__": "calls_total", "quote": 'a"b', "service_name": "cart"}
    values = [[START + 10, "1"], [START + 20, "12"]]
    assert answer == {
        "status": "success",
        "data": {"resultType": "matrix", "result": [{"metric": labels, "values": values}]},
    }


async def test_post_and_get_answer_alike(server: PrometheusServer, http: aiohttp.ClientSession) -> None:
    server.attach(filled())
    got = await get(http, "/api/v1/query", query='{__name__=~".+"}[1m]', time=f"{START + 20}.0004")
    form = {"query": '{__name__=~".+"}[1m]', "time": str(START + 20)}
    async with http.post("/api/v1/query", data=form) as response:
        assert json.loads(await response.read()) == got
    assert [item["metric"]["__name__"] for item in got["data"]["result"]] == ["calls_total", "periods_total", "usage"]


async def test_an_instant_vector_looks_back_but_not_past_a_stale_marker(
    server: PrometheusServer, http: aiohttp.ClientSession
) -> None:
    server.attach(filled())
    answer = await get(http, "/api/v1/query", query='{__name__=~".+"}')
    found = {item["metric"]["__name__"]: item["value"] for item in answer["data"]["result"]}
    assert answer["data"]["resultType"] == "vector"
    # usage came by OTLP and only ages; periods was scraped, and the scrape that missed it left a marker.
    assert found == {"calls_total": [START + 20, "12"], "usage": [START + 20, "0.1"]}
    assert (await get(http, "/api/v1/query", query="usage", time=START + 5 + 300))["data"]["result"] == []


async def test_a_range_query_repeats_the_newest_sample(server: PrometheusServer, http: aiohttp.ClientSession) -> None:
    server.attach(filled())
    answer = await get(http, "/api/v1/query_range", query="calls_total", start=START, end=START + 20, step="4s")
    values = [[START + 8, "1"], [START + 12, "1"], [START + 16, "1"], [START + 20, "12"]]
    assert answer["data"]["result"][0]["values"] == values


async def test_series_and_labels_are_those_with_samples_in_the_window(
    server: PrometheusServer, http: aiohttp.ClientSession
) -> None:
    server.attach(filled())
    window: dict[str, Any] = {"match[]": '{service_name="cart"}', "start": START + 11, "end": START + 20}
    found = await get(http, "/api/v1/series", **window)
    assert [labels["__name__"] for labels in found["data"]] == ["calls_total"]
    assert (await get(http, "/api/v1/labels"))["data"] == ["__name__", "job", "quote", "service_name"]
    names = await get(http, "/api/v1/label/__name__/values")
    assert names["data"] == ["calls_total", "periods_total", "usage"]


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("/api/v1/query", {}, 'invalid parameter "query"'),
        ("/api/v1/query", {"query": "rate(x[5m])"}, "1:5: parse error"),
        ("/api/v1/query", {"query": "up", "time": "yesterday"}, 'cannot parse "yesterday" to a valid timestamp'),
        ("/api/v1/query", {"query": "up", "time": "inf"}, "valid timestamp"),
        ("/api/v1/query_range", {"query": "up", "start": 10, "end": 5, "step": 1}, "must not be before start"),
        ("/api/v1/query_range", {"query": "up", "start": 0, "end": 5, "step": 0}, "zero or negative"),
        ("/api/v1/query_range", {"query": "up", "start": 0, "end": 50_000, "step": 1}, "11,000 points"),
        ("/api/v1/query_range", {"query": "up[5m]", "start": 0, "end": 5, "step": 1}, "range vector"),
        ("/api/v1/query_range", {"query": "up[5m:1m]", "start": 0, "end": 5, "step": 1}, "only selectors are offered"),
        ("/api/v1/query", {"query": "sum by (job) (up)"}, 'name{label="value"}[5m] for raw samples'),
        ("/api/v1/query", {"query": "up offset 5m"}, "unexpected 'offset', only selectors are offered"),
        ("/api/v1/query", {"query": "1"}, "only selectors are offered"),
        ("/api/v1/series", {}, "no match[] parameter provided"),
        ("/api/v1/labels", {"limit": "few"}, 'invalid parameter "limit"'),
        ("/api/v1/metadata", {"limit": "-1"}, 'invalid parameter "limit"'),
        ("/api/v1/label/a-b/values", {}, 'invalid label name: "a-b"'),
    ],
)
async def test_a_bad_request_is_answered_in_prometheus_shape(
    server: PrometheusServer, http: aiohttp.ClientSession, path: str, parameters: dict[str, Any], message: str
) -> None:
    server.attach(filled())
    answer = await get(http, path, 400, **parameters)
    assert answer["status"] == "error"
    assert answer["errorType"] == "bad_data"
    assert message in answer["error"]


async def test_it_is_ready_once_it_has_a_run(server: PrometheusServer, http: aiohttp.ClientSession) -> None:
    async with http.get("/-/healthy") as response:
        assert response.status == 200
    async with http.get("/-/ready") as response:
        assert response.status == 503
    assert (await get(http, "/api/v1/query", 503, query="up"))["errorType"] == "unavailable"
    server.attach(filled())
    async with http.get("/-/ready") as response:
        assert response.status == 200
    assert (await get(http, "/api/v1/status/buildinfo"))["data"]["version"] == "3.11.3"
    assert (await get(http, "/api/v1/query", query="time()"))["data"]["result"][1] == str(START + 20)


async def test_a_series_that_appears_later_is_found_by_a_query_asked_before(
    server: PrometheusServer, http: aiohttp.ClientSession
) -> None:
    series = filled()
    server.attach(series)
    query: dict[str, Any] = {"query": '{service_name=~".+"}[1m]'}
    before = (await get(http, "/api/v1/query", **query, time=START + 20))["data"]["result"]
    new = series.declare({"__name__": "a_first", "service_name": "cart"})
    series.append((START + 25) * SECOND, np.array([new]), np.array([3.5]))
    after = (await get(http, "/api/v1/query", **query, time=START + 25))["data"]["result"]
    assert [item["metric"]["__name__"] for item in before] == ["calls_total", "usage"]
    assert [item["metric"]["__name__"] for item in after] == ["a_first", "calls_total", "usage"]
    assert after[0]["values"] == [[START + 25, "3.5"]]


async def test_a_limit_cuts_and_says_so(server: PrometheusServer, http: aiohttp.ClientSession) -> None:
    server.attach(filled())
    everything: dict[str, Any] = {"match[]": '{__name__=~".+"}'}
    for path, matching in (("series", everything), ("labels", {}), ("label/__name__/values", {})):
        whole = await get(http, f"/api/v1/{path}", **matching)
        cut = await get(http, f"/api/v1/{path}", **matching, limit=1)
        assert cut["data"] == whole["data"][:1]
        assert (cut["warnings"], "warnings" in whole) == (["results truncated due to limit"], False)


async def test_metadata_tells_each_familys_type(server: PrometheusServer, http: aiohttp.ClientSession) -> None:
    server.attach(filled())
    described = (await get(http, "/api/v1/metadata"))["data"]
    assert {name: item["type"] for name, (item,) in described.items()} == {
        "calls_total": "counter",
        "periods_total": "counter",
        "usage": "gauge",
    }
    assert list((await get(http, "/api/v1/metadata", metric="usage"))["data"]) == ["usage"]
    assert len((await get(http, "/api/v1/metadata", limit=2))["data"]) == 2


async def test_targets_are_those_that_are_scraped(server: PrometheusServer, http: aiohttp.ClientSession) -> None:
    series = filled()
    number = series.declare({"__name__": "periods_total", "job": "kubernetes-nodes-cadvisor", "instance": "node-0"})
    series.append((START + 25) * SECOND, np.array([number]), np.array([1.0]))
    server.attach(series)
    (target,) = (await get(http, "/api/v1/targets"))["data"]["activeTargets"]
    assert target["labels"] == {"job": "kubernetes-nodes-cadvisor", "instance": "node-0"}
    assert (target["health"], target["lastScrape"]) == ("up", "2026-01-05T00:00:25.000000Z")
    assert (await get(http, "/api/v1/targets", state="dropped"))["data"]["activeTargets"] == []


async def test_what_is_scraped_is_the_newest_row_and_nothing_that_has_ended(
    server: PrometheusServer, http: aiohttp.ClientSession
) -> None:
    async with http.get("/metrics") as response:
        assert response.status == 503
    server.attach(filled())
    async with http.get("/metrics") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = (await response.text()).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'calls_total{quote="a\\"b",service_name="cart"} 12.0'
    ]


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.integers(-5, 70),
    st.integers(0, 40),
    st.integers(1, 9),
    st.integers(1, 40),
)
def test_each_step_shows_the_newest_sample_that_is_young_enough(
    scrapes: list[tuple[bool, bool]], start: int, span: int, step: int, lookback: int
) -> None:
    series = TimeSeries()
    pushed = series.declare({"__name__": "a"})
    scraped = series.declare({"__name__": "b", "job": "kubernetes-nodes-cadvisor"})
    for row, present in enumerate(scrapes):
        numbers = [number for number, there in zip((pushed, scraped), present, strict=True) if there]
        series.append(5 * row * SECOND, np.array(numbers, np.int64), np.full(len(numbers), float(row)))
    answers, both = Answers(series), parse_selector('{__name__=~".+"}')
    times = [number * SECOND for number in (start, start + span, step, lookback)]
    shown: dict[str, dict[int, float]] = {"a": {}, "b": {}}
    for item in json.loads(answers.steps(both, *times)):
        shown[item["metric"]["__name__"]] = {time: float(text) for time, text in item["values"]}
    expected: dict[str, dict[int, float]] = {"a": {}, "b": {}}
    for moment in range(start, start + span + 1, step):
        young = [row for row in range(len(scrapes)) if moment - lookback < 5 * row <= moment]
        if with_pushed := [row for row in young if scrapes[row][0]]:
            expected["a"][moment] = with_pushed[-1]
        if young and scrapes[young[-1]][1]:  # else the newest scrape left a stale marker
            expected["b"][moment] = young[-1]
    assert shown == expected
    instant = json.loads(answers.vector(both, start * SECOND, lookback * SECOND))
    assert {item["metric"]["__name__"]: float(item["value"][1]) for item in instant} == {
        name: values[start] for name, values in expected.items() if start in values
    }


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_sample_reads_back_exactly_and_has_no_exponent(value: float) -> None:
    text = sample_text(value)
    assert float(text) == value
    assert math.copysign(1, float(text)) == math.copysign(1, value)
    assert set(text) <= set("-.0123456789")
    assert not text.endswith(".0")


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**53).map(float), min_size=1))
def test_many_samples_are_written_as_each_alone_would_be(values: list[float]) -> None:
    series = TimeSeries()
    number = series.declare({"__name__": "up"})
    for second, value in enumerate(values):
        series.append(second * SECOND, np.array([number]), np.array([value]))
    body = Answers(series).matrix(parse_selector("up[1h]"), len(values) * SECOND)
    texts = [text for _, text in json.loads(body)[0]["values"]]
    assert texts == [sample_text(value + 0.0) for value in values]


def test_special_numbers_are_written_as_prometheus_writes_them() -> None:
    assert [sample_text(value) for value in (math.nan, math.inf, -math.inf)] == ["NaN", "+Inf", "-Inf"]
