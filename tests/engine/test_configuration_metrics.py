"""A run has the edges that its application asks for; a map that can't feed them is refused where it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.metric_selectors import selectors

REQUESTS: dict[str, Any] = {"metric": "asked_total", "kind": "counter", "source": "from", "target": "to"}


def written(folder: Path, *, services: dict[str, Any] | None = None, edge: dict[str, Any] | None = None) -> Path:
    """Write a scenario of small-core, with other settings and a map of its own whose service graph is `edge`."""
    own = {
        "name": "mine",
        "node": {},
        "edge_sources": {"service_graph": {"series": edge or {"request_count": REQUESTS}}},
    }
    store = {"name": "store", "extends": "small-core", "metric_map": "./mine.yaml"} | (services or {})
    scenario = {"name": "run", "services": "./store.yaml", "horizon_seconds": 120}
    for name, document in (("mine", own), ("store", store), ("run", scenario)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder / "run.yaml"


def refusal(folder: Path, **documents: Any) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        resolve(written(folder, **documents))
    return caught.value


def test_an_application_chooses_its_map_and_the_source_of_its_edges(tmp_path: Path) -> None:
    metrics = resolve(written(tmp_path)).public.metrics
    assert metrics.name == "mine"
    assert list(metrics.edge) == ["request_count"]
    assert not metrics.edge_sources, "what wasn't chosen is no part of a run's configuration"
    assert selectors(metrics) == ('{__name__=~"asked_total"}',)


def test_a_resolved_configuration_keeps_its_edges_when_it_is_resolved_again(tmp_path: Path) -> None:
    config = resolve(written(tmp_path))
    assert resolve(config) == config


@pytest.mark.parametrize("source", ["service_graph", "span_metrics", "client_spans", "node_agent"])
def test_the_demos_map_offers_every_source(tmp_path: Path, source: str) -> None:
    own = {"metric_map": "otel-demo-2.2.0", "edge_source": source}
    metrics = resolve(written(tmp_path, services=own)).public.metrics
    assert metrics.edge
    assert (metrics.edge_spans is not None) == (source == "client_spans")


def test_a_source_that_the_map_does_not_offer_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    error = refusal(tmp_path, services={"edge_source": "node_agent"})
    assert (error.file, error.key) == (str(tmp_path / "store.yaml"), "edge_source")
    assert "use service_graph" in error.remedy


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"target": ""}, "edge.request_count", "two ends"),
        ({"source": ""}, "edge.request_count", "the edge's protocol"),
        ({"target_pattern": "a("}, "edge.request_count.target_pattern", "no regular expression"),
        ({"source_pattern": "a.*"}, "edge.request_count.source_pattern", "put the name in parentheses, e.g. (a.*)"),
        ({"resolution_seconds": 7}, "edge.request_count.resolution_seconds", "multiple of scrape_interval_seconds = 5"),
        ({"resolution_seconds": -5}, "edge.request_count.resolution_seconds", "0 or more"),
    ],
)
def test_a_source_that_cant_feed_an_edge_is_refused(
    tmp_path: Path, changes: dict[str, Any], key: str, words: str
) -> None:
    error = refusal(tmp_path, edge={"request_count": REQUESTS | changes})
    assert error.key == key
    assert words in str(error)


def test_one_metric_is_not_read_as_a_classic_and_a_native_histogram(tmp_path: Path) -> None:
    latency = [REQUESTS | {"metric": "took_seconds", "kind": kind} for kind in ("histogram", "native_histogram")]
    error = refusal(tmp_path, edge={"request_count": REQUESTS, "latency": latency})
    assert error.key == "edge.latency[1].kind"
    assert "under one name" in str(error)
