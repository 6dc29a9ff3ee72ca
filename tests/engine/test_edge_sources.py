"""Whatever source the edges of a run come from, they tell of the same calls; and what a policy saw is what the tables say."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import pytest_asyncio

import otel_control_gym as ocg
from otel_control_gym.engine.observation import Observation

SOURCES = ("service_graph", "span_metrics", "node_agent", "client_spans")
CONSUMERS = {("kafka", "accounting"), ("kafka", "fraud-detection")}
Table = dict[str, list[Any]]


class Run(msgspec.Struct):
    edges: Table
    nodes: Table
    observation: Observation


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """One minute of the same store, all of its spans kept, with each source of edges."""
    found = {}
    for source in SOURCES:
        folder = tmp_path_factory.mktemp(source)
        (folder / "store.yaml").write_text(f"name: store\nextends: async-store\nedge_source: {source}\n")
        (folder / "run.yaml").write_text("name: run\nservices: ./store.yaml\nworkload: steady\nhorizon_seconds: 60\n")
        config = ocg.resolve(folder / "run.yaml", seed=5)
        twin = msgspec.structs.replace(config.twin, span_budget_per_600s=10_000_000)
        async with ocg.make(msgspec.structs.replace(config, twin=twin), data_dir=folder / "data") as env:
            await env.reset()
            await env.step(ocg.Noop(), dt=60)
            observation = await env.observe(window=60, granularity=10)
        edges, nodes = (
            pq.read_table(env.run_dir / f"{name}_features.parquet").to_pydict() for name in ("edge", "node")
        )
        found[source] = Run(edges, nodes, observation)
    return found


def by_edge(run: Run, column: str) -> dict[tuple[str, str], list[float]]:
    """Return a column's values over time, NaN for null, by edge."""
    found: dict[tuple[str, str], list[float]] = {}
    rows = zip(run.edges["source"], run.edges["target"], run.edges[column], strict=True)
    for source, target, value in rows:
        found.setdefault((source, target), []).append(np.nan if value is None else value)
    return found


@pytest.mark.parametrize("source", SOURCES[1:])
@pytest.mark.parametrize("column", ["request_count", "error_count"])
def test_every_source_counts_the_same_calls_in_the_same_buckets(runs: dict[str, Run], source: str, column: str) -> None:
    expected, found = by_edge(runs["service_graph"], column), by_edge(runs[source], column)
    assert expected.keys() == found.keys()
    compared = 0
    for edge, values in found.items():
        known = ~np.isnan(values)
        assert np.array(values)[known].tolist() == pytest.approx(np.array(expected[edge])[known].tolist()), edge
        compared += int(np.count_nonzero(np.array(values)[known]))
    assert compared > 100 or column == "error_count"


@pytest.mark.parametrize("source", SOURCES)
def test_every_edge_is_known_while_calls_go_over_it(runs: dict[str, Run], source: str) -> None:
    for edge, values in by_edge(runs[source], "request_count").items():
        called = np.flatnonzero(by_edge(runs["service_graph"], "request_count")[edge])
        # The agent knows an edge from its first call on, and is read every 15 s.
        assert not called.size or not np.isnan(values[int(called[0]) + 2 :]).any(), edge


@pytest.mark.parametrize("source", SOURCES)
def test_messages_are_counted_on_the_way_to_their_consumers(runs: dict[str, Run], source: str) -> None:
    counts = by_edge(runs[source], "request_count")
    published = np.nansum(counts["checkout", "kafka"])
    for edge in CONSUMERS:
        assert np.nansum(counts[edge]) == pytest.approx(published, abs=3)  # some are under way at the end
        assert np.nanmean(by_edge(runs[source], "latency_mean_ms")[edge]) > 0


def test_statuses_add_up_to_the_requests(runs: dict[str, Run]) -> None:
    for run in runs.values():
        for counts, requests in zip(run.edges["status_counts"], run.edges["request_count"], strict=True):
            assert (counts is None) == (requests is None)
            if counts is not None:
                assert sum(count for _, count in counts) == pytest.approx(requests)


@pytest.mark.parametrize(
    ("source", "grpc", "http", "sql"),
    [
        ("service_graph", "0", "200", "ok"),
        ("span_metrics", "ok", "ok", "ok"),  # without a dimension for statuses
        ("node_agent", "grpc:OK", "2xx", "ok"),
        ("client_spans", "0", "200", "ok"),
    ],
)
def test_statuses_are_in_the_words_of_their_source(
    runs: dict[str, Run], source: str, grpc: str, http: str, sql: str
) -> None:
    seen: dict[str, set[str]] = {}
    edges = runs[source].edges
    for protocol, counts in zip(edges["protocol"], edges["status_counts"], strict=True):
        seen.setdefault(protocol, set()).update(code for code, count in counts or () if count)
    assert (seen["grpc"], seen["http"], seen["sql"]) == ({grpc}, {http}, {sql})


@pytest.mark.parametrize("source", SOURCES)
def test_what_was_observed_is_what_the_table_says(runs: dict[str, Run], source: str) -> None:
    run = runs[source]
    times = sorted(set(run.edges["time"]))
    first = [row for row, time in enumerate(run.edges["time"]) if time in times[6:12]]  # warm-up lasts a minute
    order = sorted(range(len(run.observation.edge_names)), key=lambda at: run.observation.edge_names[at])
    for name in ("request_count", "latency_p50_ms", "retry_rate", "coverage"):
        shown = run.observation.edges[:, order, run.observation.edge_features.index(name)].ravel()
        table = [run.edges[name][row] for row in first]
        assert np.array_equal(shown, np.array(table, np.float64), equal_nan=True), name


@pytest.mark.parametrize("source", SOURCES)
def test_every_service_but_the_load_generator_has_requests_and_latency(runs: dict[str, Run], source: str) -> None:
    nodes = runs[source].nodes
    for name in ("request_count", "error_count", "latency_count", "cpu_usage_cores", "memory_usage_bytes", "coverage"):
        unknown = {service for service, value in zip(nodes["service"], nodes[name], strict=True) if value is None}
        assert unknown <= {"load-generator"}, name
    assert min(nodes["coverage"]) == 1
