"""What is sampled counts what was there: on the twin, whose counters know it; and a policy sees of it what the tables will hold."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND

WINDOW = 60
RATIO = 0.5
SIGMAS = 4.5  #: beyond which an estimate is called wrong; a dozen estimates are looked at


class Episode(NamedTuple):
    tables: dict[str, list[dict[str, Any]]]
    seen: list[tuple[int, dict[str, list[dict[str, Any]]]]]  #: moments and what was shown


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """An episode under load in which half of the sampled traces are dropped again."""
    config = ocg.resolve("small-core", workload="steady", seed=3)
    telemetry = msgspec.structs.replace(config.public.telemetry, traces="both", span_sampling_ratio=RATIO)
    config = msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, horizon_seconds=150, telemetry=telemetry),
        twin=msgspec.structs.replace(config.twin, span_budget_per_600s=60_000),
    )
    seen = []
    directory = tmp_path_factory.mktemp("sampled")
    async with ocg.make(config, data_dir=directory) as env:
        observation = await env.reset(seed=3)
        done = False
        while not done:
            shown = {"trace_summaries": observation.traces, "log_patterns": observation.log_patterns}
            now = int(observation.time[-1]) + config.public.granularity.observation_bucket_seconds * SECOND
            seen.append((now, {name: [_row(row) for row in rows] for name, rows in shown.items()}))
            observation, _, done, _ = await env.step(ocg.Noop())
    (run,) = directory.rglob("run_*")
    names = ("spans", "trace_summaries", "log_patterns", "node_features")
    return Episode({name: pq.read_table(run / f"{name}.parquet").to_pylist() for name in names}, seen)


def _row(row: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.structs.asdict(row)
    return found


def _count_and_error(spans: Iterable[dict[str, Any]]) -> tuple[float, float]:
    """Return how many there were, by their weights, and the standard deviation of that, for traces that are kept or not."""
    traces: defaultdict[str, float] = defaultdict(float)
    variance = 0.0
    probabilities: dict[str, float] = {}
    for span in spans:
        traces[span["trace_id"]] += 1 / span["sampling_probability"]
        probabilities[span["trace_id"]] = span["sampling_probability"]
    for trace, weight in traces.items():
        variance += weight**2 * (1 - probabilities[trace])
    return sum(traces.values()), math.sqrt(variance)


def test_weighted_spans_are_the_counters_within_the_error_of_sampling(episode: Episode) -> None:
    requests: defaultdict[str, float] = defaultdict(float)
    for row in episode.tables["node_features"]:
        requests[row["service"]] += row["request_count"] or 0.0
    judged = 0
    for service in sorted(requests):
        spans = [
            span
            for span in episode.tables["spans"]
            if span["service"] == service and span["kind"] == "server" and span["visibility"] == "public"
        ]
        count, error = _count_and_error(spans)
        if len(spans) > 50:
            judged += 1
            assert abs(count - requests[service]) < SIGMAS * error, f"{service}: {count} for {requests[service]}"
    assert judged >= 6


def test_summaries_add_up_to_the_spans(episode: Episode) -> None:
    public = [span for span in episode.tables["spans"] if span["visibility"] == "public"]
    rows = episode.tables["trace_summaries"]
    assert sum(row["sampled_count"] for row in rows) == len(public)
    assert sum(row["count"] for row in rows) == pytest.approx(sum(1 / span["sampling_probability"] for span in public))
    assert {row["parent_service"] for row in rows if row["service"] == "cart" and row["kind"] == "server"} >= {
        "frontend",
        "checkout",
    }
    assert {row["parent_service"] for row in rows if row["kind"] == "internal"} == {""}


def test_log_patterns_count_what_the_services_did(episode: Episode) -> None:
    """A card is charged once an order, so the same orders are counted by two services' logs."""
    counts: defaultdict[str, float] = defaultdict(float)
    for row in episode.tables["log_patterns"]:
        counts[row["template"]] += row["count"]
    assert counts["order placed"] > 0
    # A trace across one of the moments at which the twin sets its probabilities anew has two.
    assert counts["payment went through"] == pytest.approx(counts["order placed"], rel=0.1)
    assert counts["Transaction complete."] == pytest.approx(counts["payment went through"], rel=0.1)


def test_a_policy_sees_of_windows_that_are_over_what_the_tables_hold(episode: Episode) -> None:
    compared = 0
    for now, shown in episode.seen:
        for name, rows in shown.items():
            table = [
                {key: value for key, value in row.items() if key != "run_id"}
                | {"time": round(row["time"].timestamp()) * SECOND}
                for row in episode.tables[name]
            ]
            over = [row for row in rows if row["time"] + WINDOW * SECOND <= now]
            windows = {row["time"] for row in over}
            expected = [row for row in table if row["time"] in windows]
            assert sorted(over, key=str) == sorted(expected, key=str)
            compared += len(over)
    assert compared > 100
