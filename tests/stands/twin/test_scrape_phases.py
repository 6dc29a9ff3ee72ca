"""Scrapes off the edges of buckets, as a cluster has them: nothing is lost, a cell divides by the real spacing, the phase is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import TwinSettings
from otel_control_gym.projections import fold
from otel_control_gym.projections.features import node_features
from otel_control_gym.stands.twin.run import TwinRun, scrape_phases

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig

SCRAPE = 5 * SECOND
PHASED = TwinSettings(scrape_phases=True)


def live(run: TwinRun, seconds: int) -> None:
    until = run.now + seconds * SECOND
    while run.advance_once(until):
        pass


def samples(run: TwinRun, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the times after the start at which series of a name have samples, and the sum of what they show."""
    series = run.telemetry.series
    numbers = np.array([number for number, labels in series.labels.items() if labels["__name__"] == name], np.int64)
    window = series.window(numbers, run.start, run.now)
    there = ~np.isnan(window.values).all(axis=1)
    return window.times[there] - run.start, np.nansum(window.values[there], axis=1)


def test_each_source_is_scraped_at_a_phase_of_its_own_that_the_seed_decides(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(60, twin=PHASED))
    live(run, 60)
    names = ("traces_span_metrics_calls_total", "k8s_pod_memory_working_set_bytes", "k8s_deployment_desired")
    phases = [np.unique(samples(run, name)[0] % SCRAPE).tolist() for name in names]
    assert all(len(phase) == 1 for phase in phases)
    assert len({phase[0] for phase in phases}) == len(names)
    drawn = scrape_phases(run.config, run.telemetry.sources)
    assert all(0 < phase < SCRAPE for phase in drawn)
    assert {phase[0] for phase in phases} <= set(drawn)
    other = msgspec.structs.replace(run.config, seed=run.config.seed + 1)
    assert scrape_phases(other, run.telemetry.sources) != drawn


def test_phases_change_nothing_of_what_happens(make_config: MakeConfig) -> None:
    phased, aligned = TwinRun(make_config(60, twin=PHASED)), TwinRun(make_config(60))
    for run in (phased, aligned):
        live(run, 60)
    assert np.array_equal(phased.simulation.edge_counts, aligned.simulation.edge_counts)
    name = "traces_span_metrics_calls_total"
    assert len(samples(aligned, name)[0]) - len(samples(phased, name)[0]) in (0, 1)
    numbers, values = phased.telemetry.series.newest
    assert len(numbers) == len(values) == len(aligned.telemetry.series.newest[0])


@pytest.fixture
def phased_run(tmp_path: Path) -> Callable[[], Any]:
    async def play() -> Path:
        config = ocg.resolve("small-core", workload="steady", seed=7)
        public = msgspec.structs.replace(config.public, horizon_seconds=60)
        config = msgspec.structs.replace(
            config, public=public, twin=msgspec.structs.replace(config.twin, scrape_phases=True)
        )
        async with ocg.make(config, data_dir=tmp_path) as env:
            await env.reset()
            async with aiohttp.ClientSession() as session:
                query = {"query": "container_cpu_cfs_periods_total"}
                async with session.get(f"{env.endpoints.prometheus}/api/v1/query", params=query) as response:
                    assert (await response.json())["data"]["result"]
            await env.step({"type": "noop"}, dt=60)
        return env.run_dir

    return play


async def test_a_cell_is_the_growth_between_the_last_samples_before_its_edges_by_their_real_spacing(
    phased_run: Callable[[], Any],
) -> None:
    directory = await phased_run()
    state = fold(read_archive(directory / "event_log.zst"))
    buckets = state.buckets(10)
    columns = node_features(state.telemetry(), buckets)
    feed = state.series.feeds("node", "request_count")[0]
    edges = buckets.edges
    held = state.samples.times[np.minimum(edges, state.samples.edges - 1)][:, feed.metric].max(axis=1)
    age = state.origin + edges[1:] * state.samples.interval - held[1:]
    assert len(set(age.tolist())) == 1
    assert 0 < age[0] < SCRAPE
    counts, rates = (
        columns["request_count"][1:],
        columns["request_rate"][1:],
    )  # before the first call there is no series
    known = ~np.isnan(counts)
    assert known.any()
    spacing = np.diff(held)[1:, None] / 1e9 * np.ones_like(counts)
    assert np.allclose(rates[known], counts[known] / spacing[known])
    recorded = json.loads((directory / "metadata.json").read_text())["streams"]["metrics"]["phase_s"]
    assert recorded["node.request_count"] == age[0] / 1e9
    assert len(set(recorded.values())) > 1
    assert ocg.validate(directory) == []
    coverage = pq.read_table(directory / "node_features.parquet")["coverage"].to_numpy()
    assert (coverage[-100:] == 1).mean() > 0.9
