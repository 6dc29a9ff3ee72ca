"""What a model reads of a recorded run is what it reads live, and holds nothing that wasn't known when the request was made."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.baselines.rows import action_blocks, edge_rows, node_rows
from otel_control_gym.baselines.states import State, state_of
from otel_control_gym.baselines.windows import HORIZON_STEPS, RunWindows, run_windows
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.observation import observe
from otel_control_gym.projections import fold

TABLES = ("node_features", "edge_features", "control_inputs", "rewards", "events")


def test_a_live_observation_gives_the_same_state_as_the_table(run_directory: Path) -> None:
    windows = run_windows(ocg.open_run(run_directory))
    log = fold(read_archive(run_directory / ARCHIVE_NAME, truth=False))
    assert len(windows.decisions) == 2
    for position, decision in enumerate(windows.decisions):
        seen = observe(log, end=decision.requested, window_seconds=300, bucket_seconds=10, in_force=(), truth=None)
        live = state_of(
            seen,
            application=windows.configuration,
            step_seconds=windows.state.step_seconds,
            past=windows.state.past[position],
            now=windows.state.now[position],
        )
        for name in ("time", "nodes", "edges", "offered", "users"):
            np.testing.assert_array_equal(getattr(live, name)[0], getattr(windows.state, name)[position])
        assert np.isfinite(live.offered[0, -1])
        assert live.users[0] > live.offered[0, -1]  # who think between requests
        assert _inputs(live).tobytes() == _inputs(windows.state, position).tobytes()


def test_a_shorter_window_is_unknown_before_it_begins(run_directory: Path) -> None:
    log = fold(read_archive(run_directory / ARCHIVE_NAME, truth=False))
    end = run_windows(ocg.open_run(run_directory)).decisions[-1].requested
    long, short = (
        state_of(
            observe(log, end=end, window_seconds=seconds, bucket_seconds=10, in_force=(), truth=None),
            application="small-core",
            step_seconds=30,
        )
        for seconds in (300, 60)
    )
    np.testing.assert_array_equal(short.nodes[:, -2:], long.nodes[:, -2:])
    assert np.isnan(short.nodes[:, :-2]).all()


@pytest.mark.parametrize("table", TABLES)
def test_rows_after_the_decision_change_no_feature(table: str, run_directory: Path, tmp_path: Path) -> None:
    decision = run_windows(ocg.open_run(run_directory)).decisions[0].requested

    def later(rows: pa.Table) -> pa.Table:
        after = pc.greater_equal(rows["time"].cast(pa.int64()), decision // 1000)
        for name in rows.column_names:
            if pa.types.is_floating(rows.schema.field(name).type):
                spoilt = pc.if_else(after, pa.scalar(1e6), rows[name])
                rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), spoilt)
        return rows

    changed = run_windows(ocg.open_run(_with(table, later, run_directory, tmp_path)))
    assert _inputs(changed.state, 0).tobytes() == _inputs(run_windows(ocg.open_run(run_directory)).state, 0).tobytes()


def test_truth_changes_no_feature(run_directory: Path, tmp_path: Path) -> None:
    """Neither the parameters of a fault, nor that there was one, nor any label."""
    plain = run_windows(ocg.open_run(run_directory))
    actions = pq.read_table(run_directory / "actions.parquet")
    assert (np.array(actions["visibility"].to_pylist()) == "truth").any()
    directory = _with("labels", lambda rows: rows.slice(0, 0), run_directory, tmp_path)
    public = pc.equal(actions["visibility"].cast(pa.string()), "public")
    pq.write_table(actions.filter(public), directory / "actions.parquet")
    assert _everything(run_windows(ocg.open_run(directory))) == _everything(plain)


def test_what_became_of_an_action_changes_no_feature(run_directory: Path, tmp_path: Path) -> None:
    def failed(rows: pa.Table) -> pa.Table:
        for name in ("applied", "effective", "settled", "reverted", "error", "evidence", "postcheck_status"):
            field = rows.schema.field(name)
            rows = rows.set_column(rows.column_names.index(name), field, pa.nulls(len(rows), field.type))
        return rows

    directory = _with("actions", failed, run_directory, tmp_path)
    assert _everything(run_windows(ocg.open_run(directory))) == _everything(run_windows(ocg.open_run(run_directory)))


def test_what_follows_begins_where_the_history_ends(run_directory: Path) -> None:
    windows = run_windows(ocg.open_run(run_directory))
    first, second = windows.decisions[:2]
    if second.requested - first.requested == windows.state.step_seconds * 10**9:
        targets = windows.nodes.shape[-1]
        np.testing.assert_array_equal(windows.nodes[0, 0], windows.state.nodes[1, -1, :, :targets])


def _with(table: str, change: Callable[[pa.Table], pa.Table], run: Path, tmp_path: Path) -> Path:
    directory = Path(shutil.copytree(run, tmp_path / run.parent.parent.name / run.parent.name / run.name))
    path = directory / f"{table}.parquet"
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    return directory


def _inputs(state: State, position: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    parts = [node_rows(state).inputs, edge_rows(state).inputs]
    parts += [action_blocks(state, steps * state.step_seconds) for steps in HORIZON_STEPS]
    return np.concatenate([part[position].ravel() for part in parts])


def _everything(windows: RunWindows) -> bytes:
    return b"".join(_inputs(windows.state, position).tobytes() for position in range(len(windows.decisions)))
