"""What is read of a recorded run: public rows for who detects, truth for who scores, and when the tool spoke."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from otel_control_gym.baselines.entity_series import FEATURES, read_entity_series
from otel_control_gym.baselines.fault_windows import BucketKind, bucket_kinds, read_truth
from otel_control_gym.baselines.labelled_runs import LabelledRun
from otel_control_gym.baselines.root_cause_cases import cases_of
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.runs import open_run


@pytest.fixture(scope="module")
def run(run_directory: Path) -> LabelledRun:
    opened = open_run(run_directory, truth=True)
    return LabelledRun(run=opened, series=read_entity_series(opened), truth=read_truth(opened))


def test_a_cell_is_the_tables_row(run: LabelledRun) -> None:
    series = run.series
    rows = run.run.table("node_features", columns=["time", "service", "latency_mean_ms"]).to_arrow().to_pylist()
    row = next(row for row in reversed(rows) if row["service"] in series.services and row["latency_mean_ms"])
    start = min(each["time"] for each in rows)
    bucket = int((row["time"] - start).total_seconds()) // series.bucket_seconds
    cell = series.values[bucket, series.services.index(row["service"]), FEATURES.index("latency_mean_ms")]
    assert cell == row["latency_mean_ms"]


def test_who_makes_the_load_is_no_service_but_its_calls_are_seen(run: LabelledRun) -> None:
    kinds = {node["id"]: node["kind"] for node in run.run.graph["nodes"]}
    assert all(kinds[service] != "workload" for service in run.series.services)
    assert any(kinds.get(source) == "workload" for source, _ in run.series.edges)


def test_detectors_read_the_same_whether_truth_was_opened_or_not(run: LabelledRun, run_directory: Path) -> None:
    public = read_entity_series(open_run(run_directory))
    assert np.array_equal(public.values, run.series.values, equal_nan=True)
    assert public.entities == run.series.entities


def test_without_truth_there_is_nothing_to_score_with(run_directory: Path) -> None:
    with pytest.raises(UsageError, match="opened without truth"):
        read_truth(open_run(run_directory))


def test_the_fault_lies_where_the_labels_say_and_makes_a_case(run: LabelledRun) -> None:
    (fault,) = run.truth.faults
    inside = bucket_kinds(run.truth, run.series) == BucketKind.FAULT
    assert inside.sum() * run.series.bucket_seconds == pytest.approx(
        fault.end - fault.onset, abs=2 * run.series.bucket_seconds
    )
    assert set(fault.ends) <= set(run.series.services)
    cases, left_out = cases_of([run])
    assert len(cases) + len(left_out) == 1


def test_a_question_ends_two_minutes_after_the_onset_and_knows_no_label(run: LabelledRun) -> None:
    late = msgspec.structs.replace(
        run,
        truth=msgspec.structs.replace(
            run.truth, faults=tuple(msgspec.structs.replace(fault, onset=80.0) for fault in run.truth.faults)
        ),
    )
    ((case,), _) = cases_of([late])
    assert case.question is not None
    width = run.series.bucket_seconds
    assert len(case.question.after) == min(120 // width, run.series.buckets - 80 // width)
    assert np.array_equal(case.question.before, run.series.values[: 80 // width], equal_nan=True)
    other = msgspec.structs.replace(
        late,
        truth=msgspec.structs.replace(
            late.truth,
            faults=tuple(
                msgspec.structs.replace(fault, target="ad", ends=("frontend",), fault_type="x", end=81.0)
                for fault in late.truth.faults
            ),
        ),
    )
    ((relabelled,), _) = cases_of([other])
    assert relabelled.question is not None
    assert np.array_equal(case.question.after, relabelled.question.after, equal_nan=True)
    assert case.question.findings == relabelled.question.findings


def test_a_fault_that_nobody_noticed_has_no_question(run: LabelledRun) -> None:
    cases, _ = cases_of([run], {})
    assert all(case.question is None for case in cases)
