"""Log records are counted in the bucket of their own time; a stream that was up and silent is 0, one that wasn't up is unknown."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.events import CollectorGap, LogRow, LogsCollected, RunDeclared
from otel_control_gym.projections import fold
from otel_control_gym.projections.features import node_features
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.log_counts import LogCounts, severity_class


def record(time: int, severity: str = "INFO", service: str = "cart") -> LogRow:
    return LogRow(time=time, service=service, severity=severity, body="x")


def columns(log: Any, service: str = "cart") -> dict[str, Any]:
    state = fold(log.entries)
    found = node_features(state.telemetry(), state.buckets(10))
    position = [node.id for node in state.graph.nodes].index(service)
    return {name: values[:, position] for name, values in found.items() if name.startswith("log_")}


def test_a_late_record_lands_in_its_own_bucket(scribe: Any, at: Any) -> None:
    log = scribe()
    log.add(LogsCollected(time=at(20), rows=(record(at(12)),)))
    log.flush(20)
    log.add(LogsCollected(time=at(30), rows=(record(at(3), "Error"), record(at(19.999), "warn"), record(at(20)))))
    log.flush(30)
    found = columns(log)
    assert found["log_count"].tolist() == [1, 2, 1]
    assert found["log_error_count"].tolist() == [1, 0, 0]
    assert found["log_warning_count"].tolist() == [0, 1, 0]


def test_silence_is_zero_a_gap_and_a_service_without_logs_are_unknown(scribe: Any, at: Any) -> None:
    log = scribe()
    log.add(CollectorGap(time=at(30), source="logs", start=at(15), end=at(20), reason="dropped"))
    log.add(CollectorGap(time=at(30), source="metrics", start=at(0), end=at(30), reason="dropped"))
    log.flush(30)
    assert np.array_equal(columns(log)["log_count"], [0, np.nan, 0], equal_nan=True)
    assert np.isnan(columns(log, "cache")["log_count"]).all()  # isn't instrumented


def test_a_service_that_sends_spans_and_no_logs_has_unknown_counts(scribe: Any) -> None:
    log = scribe()
    log.flush(10)
    declared = log.entries[0].event
    assert isinstance(declared, RunDeclared)
    services = declared.settings.services
    quiet = services.services | {"cart": msgspec.structs.replace(services.services["cart"], sends_logs=False)}
    settings = msgspec.structs.replace(declared.settings, services=msgspec.structs.replace(services, services=quiet))
    log.entries[0] = msgspec.structs.replace(log.entries[0], event=msgspec.structs.replace(declared, settings=settings))
    assert np.isnan(columns(log)["log_count"]).all()
    assert columns(log, "frontend")["log_count"].tolist() == [0]


@pytest.mark.parametrize(
    ("severity", "kind"),
    [
        ("WARN", "warning"),
        ("Warning", "warning"),
        ("ERROR", "error"),
        ("fatal", "error"),
        ("SEVERE", "error"),
        ("", "other"),
    ],
)
def test_severities_are_told_however_an_sdk_spells_them(severity: str, kind: str) -> None:
    assert severity_class(severity) == kind


@given(st.lists(st.tuples(st.integers(-20, 2000), st.sampled_from(["INFO", "WARN", "ERROR"]))), st.integers(1, 6))
def test_however_they_are_cut_counts_of_wide_buckets_are_sums_of_narrow_ones(
    stamps: list[tuple[int, str]], width: int
) -> None:
    rows = [record(stamp, severity) for stamp, severity in stamps]
    together, apart = LogCounts(0, 5), LogCounts(0, 5)
    for counts in (together, apart):
        counts.place(["cart"])
    together.add(rows)
    for row in reversed(rows):
        apart.add([row])
    wide = together.per_bucket(Buckets(0, 60, width))
    narrow = apart.per_bucket(Buckets(0, 60 * width, 1))
    for name, values in wide.items():
        assert values[:, 0].tolist() == narrow[name][:, 0].reshape(60, width).sum(axis=1).tolist()
    assert wide["log_count"].sum() == sum(0 <= stamp < 300 * width for stamp, _ in stamps)


def test_a_sampled_record_counts_for_those_that_were_left_out(scribe: Any, at: Any) -> None:
    log = scribe()
    rows = (record(at(1)), msgspec.structs.replace(record(at(2), "ERROR"), sampling_probability=0.25))
    log.add(LogsCollected(time=at(10), rows=rows))
    log.flush(10)
    assert columns(log)["log_count"].tolist() == [5]
    assert columns(log)["log_error_count"].tolist() == [4]
