"""A window is what a policy saw, what it asked for, and what came after: nothing earlier or later than it was known."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.projections import fold, observation_arrays


def test_the_history_is_the_observation_of_that_moment_bit_for_bit(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    state = fold(read_archive(run_directory / ARCHIVE_NAME, truth=False))
    windows = run.windows(history=60)
    decisions = [life.requested for life in state.lives.all()]
    assert len(windows) == len(decisions) == 2
    for window, decision in zip(windows, decisions, strict=True):
        seen = observation_arrays(state, decision.time, window_seconds=60, bucket_seconds=10)
        assert windows.axes.node_names == seen.node_names
        assert windows.axes.edge_names == seen.edge_names
        np.testing.assert_array_equal(window.observation.time, seen.time)
        np.testing.assert_array_equal(window.observation.nodes, seen.nodes)
        np.testing.assert_array_equal(window.observation.node_mask, seen.node_mask)
        np.testing.assert_array_equal(window.observation.edges, seen.edges)
        np.testing.assert_array_equal(window.observation.edge_mask, seen.edge_mask)


def test_the_next_observation_begins_where_the_history_ends(run_directory: Path) -> None:
    for window in ocg.open_run(run_directory).windows(history=60, horizon=20):
        assert window.next_observation.time[0] == window.observation.time[-1] + 10 * SECOND
        assert window.next_observation.nodes.shape[0] == 2
        assert window.next_observation.node_mask.any()


def test_a_bucket_that_the_request_lies_within_is_neither_history_nor_future(
    run_directory: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(run_directory, tmp_path / run_directory.name))
    path = directory / "actions.parquet"
    table = pq.ParquetFile(path).read()
    field = table.schema.field("requested")
    late = [moment + timedelta(seconds=3) for moment in table["requested"].to_pylist()]
    pq.write_table(table.set_column(table.schema.get_field_index("requested"), field, pa.array(late, field.type)), path)
    before = ocg.open_run(run_directory).windows(history=60)[0]
    window = ocg.open_run(directory).windows(history=60)[0]
    np.testing.assert_array_equal(window.observation.time, before.observation.time)
    assert window.next_observation.time[0] == window.observation.time[-1] + 20 * SECOND


def test_what_lies_before_the_run_is_masked_and_shapes_are_always_the_same(run_directory: Path) -> None:
    early, later = ocg.open_run(run_directory).windows(history=300)
    assert early.observation.nodes.shape == later.observation.nodes.shape == (30, 14, early.observation.nodes.shape[2])
    assert not early.observation.node_mask[:24].any()
    assert early.observation.node_mask[24:].any(axis=(1, 2)).all()
    assert np.isnan(early.observation.nodes[~early.observation.node_mask]).all()


def test_the_action_is_what_was_asked_for(run_directory: Path) -> None:
    windows = ocg.open_run(run_directory).windows()
    axes = windows.axes
    noop, scale = (window.action for window in windows)
    assert [axes.action_types[int(action.type)] for action in (noop, scale)] == ["noop", "scale"]
    assert (int(noop.node), axes.node_names[int(scale.node)], int(scale.edge)) == (-1, "frontend", -1)
    known = {axes.parameters[position]: scale.parameters[position] for position in np.flatnonzero(scale.parameter_mask)}
    assert known == {"replicas": 2}
    assert not noop.parameter_mask.any()


def test_how_an_action_went_changes_no_input(run_directory: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(run_directory, tmp_path / run_directory.name))
    path = directory / "actions.parquet"
    table = pq.ParquetFile(path).read()
    for outcome in (
        "status",
        "precheck_status",
        "postcheck_status",
        "applied",
        "effective",
        "reverted",
        "settled",
        "error",
    ):
        field = table.schema.field(outcome)
        table = table.set_column(table.schema.get_field_index(outcome), field, pa.nulls(table.num_rows, field.type))
    pq.write_table(table, path)
    for before, after in zip(ocg.open_run(run_directory).windows(), ocg.open_run(directory).windows(), strict=True):
        for part in (0, 1):
            for one, other in zip(before[part], after[part], strict=True):
                np.testing.assert_array_equal(one, other)


def test_inputs_are_public_and_no_outcomes(run_directory: Path) -> None:
    public, whole = ocg.open_run(run_directory).windows(), ocg.open_run(run_directory, truth=True).windows()
    assert public.axes == whole.axes
    names = {name for _, name in public.axes.inputs}
    assert {"offered_rate", "replicas"} <= names
    assert not {"served_rate", "users_active"} & names
    position = public.axes.inputs.index(("frontend", "replicas"))
    assert [float(window.next_observation.inputs[-1, position]) for window in public] == [1.0, 2.0]


def test_the_reward_is_that_of_the_buckets_that_end_in_the_horizon(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    values = run.table("rewards").to_arrow()["value"].to_pylist()  # of 30 s each; control begins after two
    one_step = [float(window.reward.value) for window in run.windows()]
    assert one_step == values[2:4]
    assert float(run.windows(horizon=60)[0].reward.value) == pytest.approx(sum(values[2:4]))
    unknown = run.windows(horizon=10)[0].reward
    assert not unknown.mask
    assert np.isnan(unknown.value)


def test_labels_are_masked_without_truth_and_name_kind_and_target_with_it(run_directory: Path) -> None:
    hidden = ocg.open_run(run_directory).windows()
    for window in hidden:
        assert not any(array.any() for array in window.label)
    shown = ocg.open_run(run_directory, truth=True).windows()
    before, during = (window.label for window in shown)
    assert bool(before.mask)
    assert not before.faults.any()
    assert [shown.axes.fault_types[position] for position in np.flatnonzero(during.faults)] == ["cpu_pressure"]
    assert [shown.axes.node_names[position] for position in np.flatnonzero(during.nodes)] == ["frontend"]
    assert not during.edges.any()


def test_a_decision_whose_horizon_the_run_does_not_reach_is_left_out_or_masked(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    assert [len(run.windows(horizon=seconds)) for seconds in (60, 90, 120)] == [2, 1, 0]
    partial = run.windows(horizon=90, partial=True)
    assert len(partial) == 2
    assert partial[1].next_observation.node_mask.any(axis=(1, 2)).tolist() == [True] * 6 + [False] * 3
    assert bool(partial[1].reward.mask)
    with pytest.raises(ocg.UsageError, match="no decision has 120 s of run after it"):
        run.windows(horizon=120).stacked()


def test_stacked_windows_are_the_windows(run_directory: Path) -> None:
    windows = ocg.open_run(run_directory, truth=True).windows()
    stacked = windows.stacked()
    for index, window in enumerate(windows):
        for whole, part in zip(stacked, window, strict=True):
            for arrays, array in zip(whole, part, strict=True):
                assert isinstance(array, np.ndarray)
                np.testing.assert_array_equal(arrays[index], array)
    assert stacked.observation.nodes.shape[0] == 2


def test_a_history_or_horizon_that_is_no_multiple_of_the_bucket_is_refused_with_both(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    with pytest.raises(ocg.UsageError, match="history = 25: no multiple of the run's bucket of 10 s"):
        run.windows(history=25)
    with pytest.raises(ocg.UsageError, match="horizon = -10"):
        run.windows(horizon=-10)
    with pytest.raises(IndexError):
        run.windows()[2]
