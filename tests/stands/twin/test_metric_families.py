"""Types follow from names as OTLP's translation gives them; every series of the twin has a family that says what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.metric_families import MetricFamily, families
from otel_control_gym.stands.twin.run import TwinRun

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig


def test_a_histogram_takes_its_parts_in_and_only_its_own() -> None:
    found = families(["a_sum", "a_count", "a_bucket", "lag_sum", "b_total", "c_bucket_total"])
    assert {name: (family.name, family.type) for name, family in found.items()} == {
        "a_sum": ("a", "histogram"),
        "a_count": ("a", "histogram"),
        "a_bucket": ("a", "histogram"),
        "lag_sum": ("lag_sum", "gauge"),
        "b_total": ("b_total", "counter"),
        "c_bucket_total": ("c_bucket_total", "counter"),
    }


def test_every_series_of_a_run_is_described(make_config: MakeConfig) -> None:
    run = TwinRun(make_config(50))
    while run.advance_once(run.start + 30 * SECOND):
        pass
    found = families(labels["__name__"] for labels in run.telemetry.series.labels.values())
    assert [family.name for family in found.values() if not family.help] == []
    name = "traces_span_metrics_duration_milliseconds"
    assert found[f"{name}_bucket"] == found[f"{name}_sum"] == MetricFamily(name, "histogram", found[f"{name}_sum"].help)
    assert found["k8s_container_restarts"].type == "gauge"
