"""What is exposed reads back as what was scraped: names, labels, values, types; no time stamps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.servers.prometheus_exposition import exposition

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig

Parse = Callable[[str], Iterable[Metric]]
FORMATS = [
    pytest.param("text/plain;version=0.0.4", "text/plain; version=0.0.4", parse_text, id="text"),
    pytest.param(
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        "application/openmetrics-text; version=1.0.0",
        parse_openmetrics,
        id="openmetrics",
    ),
]


@pytest.mark.parametrize(("accept", "kind", "parse"), FORMATS)
def test_a_runs_scrape_reads_back(make_config: MakeConfig, accept: str, kind: str, parse: Parse) -> None:
    run = TwinRun(make_config(50))
    while run.advance_once(run.start + 30 * SECOND):
        pass
    numbers, values = run.telemetry.series.newest
    rows = [(run.telemetry.series.labels[number], value) for number, value in zip(numbers, values, strict=True)]
    body, content_type = exposition(rows, accept)
    assert content_type.startswith(kind)
    read: dict[frozenset[tuple[str, str]], float] = {}
    types = {}
    for metric in parse(body.decode()):
        types[metric.name] = metric.type
        for sample in metric.samples:
            assert sample.timestamp is None
            read[frozenset((sample.labels | {"__name__": sample.name}).items())] = sample.value
    assert read == {frozenset(labels.items()): value for labels, value in rows}
    assert types["traces_span_metrics_calls"] == "counter"
    assert types["traces_service_graph_request_client_seconds"] == "histogram"
    assert types["k8s_pod_memory_working_set_bytes"] == "gauge"


@given(st.text(), st.floats(allow_nan=False))
def test_any_label_and_value_survives(text: str, value: float) -> None:
    body, _ = exposition([({"__name__": "up", "label": text}, value)], "text/plain")
    ((sample,),) = (metric.samples for metric in parse_text(body.decode()))
    assert (sample.labels, sample.value) == ({"label": text}, value)


def test_a_counters_type_line_bears_its_full_name() -> None:
    body, _ = exposition([({"__name__": "calls_total"}, 1.0)], "")
    assert b"# TYPE calls_total counter\ncalls_total 1.0\n" in body
