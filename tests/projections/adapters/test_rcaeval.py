"""A case of RCAEval: enough calm before it, no gap, nothing that makes its methods fail, and the answer outside the frame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from otel_control_gym.engine.errors import NotExportable
from otel_control_gym.projections.adapters import Recording
from otel_control_gym.projections.adapters.rcaeval import FEWEST_SAMPLES, rcaeval_files

Make = Callable[..., Recording]
Values = npt.NDArray[np.float64]
FAULT = {"at": 400, "until": 500, "target": "cart"}


def noise(count: int = 120, seed: int = 1) -> Values:
    return np.array(
        [[((seed + 7 * row + 3 * column) * 7919) % 97 for column in range(3)] for row in range(count)], float
    )


def case(recording: Recording) -> dict[str, Any]:
    """Return the one case of a run: its folder, its frame as columns, its documents."""
    files = rcaeval_files(recording)
    (folder,) = {path.rpartition("/")[0] for path in files}
    rows = list(csv.DictReader(io.StringIO(files[f"{folder}/data.csv"].decode())))
    return {
        "folder": folder,
        "frame": {name: [float(row[name]) for row in rows] for name in rows[0]},
        "inject_time": int(files[f"{folder}/inject_time.txt"]),
        "columns": json.loads(files[f"{folder}/columns.json"]),
        "truth": json.loads(files[f"{folder}/ground_truth.json"]),
    }


def test_the_frame_holds_the_series_by_time_and_service(recording: Make) -> None:
    latency = noise()
    found = case(recording({"latency_mean_ms": latency}, faults=[FAULT]))
    assert list(found["frame"]) == ["time", *sorted(set(found["frame"]) - {"time"})]
    assert found["frame"]["checkout_latency"] == latency[:100, 1].tolist()  # up to the fault's end, at bucket 100
    assert np.diff(found["frame"]["time"]).tolist() == [5.0] * 99


def test_the_injection_lies_in_the_first_bucket_that_counts_as_after_it(recording: Make) -> None:
    found = case(recording({"latency_mean_ms": noise()}, faults=[{**FAULT, "at": 403}]))
    assert found["inject_time"] == found["frame"]["time"][0] + 400
    assert found["truth"]["injected_s"] == found["inject_time"] + 3


def test_the_folder_says_service_and_fault_with_one_underscore(recording: Make) -> None:
    plain = case(recording({"latency_mean_ms": noise()}, faults=[FAULT]))
    odd = case(recording({"latency_mean_ms": noise()}, faults=[{**FAULT, "type": "dependency_outage"}]))
    assert (plain["folder"], odd["folder"]) == ("cart_cpu/R1", "cart_dependencyoutage/R1")
    assert plain["truth"]["metrics"] == ["cart_latency"]  # CPU wasn't read in this run


def test_no_cell_is_missing_and_every_filled_one_is_counted(recording: Make) -> None:
    latency = noise()
    latency[0, 0] = latency[50:53, 0] = np.nan
    found = case(recording({"latency_mean_ms": latency}, faults=[FAULT]))
    column = found["frame"]["cart_latency"]
    assert not np.isnan(column).any()
    assert column[0] == column[1]
    assert column[50:53] == [column[49]] * 3
    assert found["columns"]["filled_cells"] == {"cart_latency": 4}


def test_a_column_that_is_mostly_unknown_is_left_out_and_listed(recording: Make) -> None:
    latency, cpu = noise(), noise(seed=5)
    latency[10:, 0] = np.nan
    found = case(recording({"latency_mean_ms": latency, "cpu_usage_cores": cpu}, faults=[FAULT]))
    assert "cart_latency" not in found["frame"]
    assert "cart_latency" in found["columns"]["left_out_mostly_unknown"]


def test_constant_columns_are_listed_with_those_that_are_constant_on_one_side(recording: Make) -> None:
    memory, errors = np.full((120, 3), 5e7), np.zeros((120, 3))
    errors[80:, 0] = noise()[80:, 0]
    nodes = {"latency_mean_ms": noise(), "memory_usage_bytes": memory, "error_rate": errors}
    found = case(recording(nodes, faults=[FAULT]))["columns"]
    assert "cart_mem" in found["constant"]
    assert found["constant_before_or_after"] == ["cart_error"]


def test_of_columns_that_are_linear_in_each_other_the_more_telling_stays(recording: Make) -> None:
    """What a callee receives is what its callers send: then no method that inverts a correlation matrix can work."""
    load = noise(seed=3)
    load[:, 2] = 2 * load[:, 0] + load[:, 1] + 7
    found = case(recording({"latency_mean_ms": noise(), "request_rate": load}, faults=[FAULT]))
    assert found["columns"]["left_out_linear_in_others"] == ["frontend_workload"]
    columns = np.array([values for name, values in found["frame"].items() if name != "time"])
    varying = columns[columns.std(axis=1) > 0]
    assert np.linalg.matrix_rank(np.corrcoef(varying)) == len(varying)


def test_a_fault_too_early_is_refused_with_the_delay_that_would_do(recording: Make) -> None:
    run = recording({"latency_mean_ms": noise()}, faults=[{**FAULT, "at": 5 * (FEWEST_SAMPLES - 10)}])
    with pytest.raises(
        NotExportable, match="50 samples of 5 s without a fault before it, 60 are needed: inject it 50 s later"
    ):
        rcaeval_files(run)


def test_calm_counts_from_the_end_of_the_fault_before(recording: Make) -> None:
    faults = [{"at": 400, "until": 420, "target": "cart"}, {"at": 800, "until": 900, "target": "checkout"}]
    found = rcaeval_files(recording({"latency_mean_ms": noise(200)}, faults=faults))
    assert {path.partition("/")[0] for path in found} == {
        "checkout_cpu"
    }  # the first ends before there are samples enough
    faults[1]["at"] = 700
    with pytest.raises(NotExportable, match="56 samples"):
        rcaeval_files(recording({"latency_mean_ms": noise(200)}, faults=faults))


def test_a_second_fault_of_a_kind_is_a_case_of_its_own(recording: Make) -> None:
    faults = [{"at": 400, "until": 500, "target": "cart"}, {"at": 900, "until": 990, "target": "cart"}]
    found = rcaeval_files(recording({"latency_mean_ms": noise(200)}, faults=faults))
    assert {path.rpartition("/")[0] for path in found} == {"cart_cpu/R1", "cart_cpu/R1-2"}


@pytest.mark.parametrize(
    ("faults", "why"),
    [
        ([], "no fault was injected"),
        ([{**FAULT, "intensity": "zero"}], "no fault was injected, or none took effect"),
        ([{**FAULT, "applied": False}], "no fault was injected, or none took effect"),
        ([{**FAULT, "kind": "workload", "target": ""}], "its target is no service"),
        ([{**FAULT, "until": 420}], "4 samples after it"),
    ],
)
def test_a_run_without_a_case_is_refused_with_the_reason(
    recording: Make, faults: list[dict[str, Any]], why: str
) -> None:
    with pytest.raises(NotExportable, match=why):
        rcaeval_files(recording({"latency_mean_ms": noise()}, faults=faults))


def test_buckets_that_are_too_wide_are_refused(recording: Make) -> None:
    with pytest.raises(NotExportable, match="buckets of 10 s are too wide"):
        rcaeval_files(recording({"latency_mean_ms": noise()}, faults=[FAULT], width=10))


def test_what_is_injected_does_not_show_in_the_frame_but_by_its_effect(recording: Make) -> None:
    """The same series with another fault in the labels: the same columns and numbers."""
    here, there = (
        case(recording({"latency_mean_ms": noise()}, faults=[{**FAULT, "target": target, "type": kind}]))
        for target, kind in (("cart", "cpu_pressure"), ("frontend", "memory_pressure"))
    )
    assert here["frame"] == there["frame"]
    assert here["columns"] == there["columns"]
