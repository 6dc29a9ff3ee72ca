"""Runs that lie together are one data set, with this package and without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.dataset as ds
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.runs import rebuild

RUNS = {
    "R1": {"campaign": "one", "status": "completed"},
    "R2": {"campaign": "one", "status": "void"},
    "R3": {"campaign": "two", "status": "aborted"},
}


def change_metadata(directory: Path, **values: Any) -> None:
    path = directory / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def data(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of two campaigns; of one, half the metrics are missing."""
    base = tmp_path_factory.mktemp("campaigns")
    source = run_directory.parents[2]
    for run_id, about in RUNS.items():
        directory = base / f"campaign={about['campaign']}" / "service_config=small-core" / f"run_{run_id}"
        change = Path(shutil.copytree(run_directory, source / f"copy_of_{run_id}"))
        change_metadata(change, run_id=run_id)
        rebuild(change, out=directory)
        streams = json.loads((directory / "metadata.json").read_text())["streams"]
        streams["metrics"]["coverage"] = 0.5 if run_id == "R3" else 1.0
        change_metadata(directory, status=about["status"], streams=streams)
    return base


def ids(runs: ocg.Runs) -> list[str]:
    return [run.run_id for run in runs]


def test_void_runs_are_left_out_unless_asked_for(data: Path) -> None:
    assert ids(ocg.open_runs(data)) == ["R1", "R3"]
    assert ids(ocg.open_runs(data, status=("completed", "aborted", "void"))) == ["R1", "R2", "R3"]
    assert ids(ocg.open_runs(data, status=("void",))) == ["R2"]
    with pytest.raises(ocg.UsageError, match="a run is completed, aborted or void"):
        ocg.open_runs(data, status=("finished",))


def test_runs_are_selected_by_coverage_campaign_application_and_condition(data: Path) -> None:
    assert ids(ocg.open_runs(data, min_coverage=0.95)) == ["R1"]
    assert ids(ocg.open_runs(data, campaign="two")) == ["R3"]
    assert ids(ocg.open_runs(data / "campaign=two")) == ["R3"]
    assert ids(ocg.open_runs(data / "campaign=one" / "service_config=small-core")) == ["R1"]
    assert ids(ocg.open_runs(data, service_config="medium-store")) == []
    assert ids(ocg.open_runs(data).where(lambda run: run.status == "aborted")) == ["R3"]
    assert ids(ocg.open_runs(data)[1:]) == ["R3"]


def test_a_table_holds_the_rows_of_all_runs_in_order_with_the_folders_as_columns(data: Path) -> None:
    runs = ocg.open_runs(data)
    table = runs.table("node_features").to_arrow()
    assert table["run_id"].unique().to_pylist() == ["R1", "R3"]
    assert table["campaign"].unique().to_pylist() == ["one", "two"]
    assert table["service_config"].unique().to_pylist() == ["small-core"]
    assert table.num_rows == sum(run.table("node_features").count_rows() for run in runs)
    assert (
        runs[0]
        .table("node_features")
        .to_arrow()
        .equals(table.slice(0, table.num_rows // 2).select(table.schema.names[:-2]))
    )


def test_truth_is_shown_when_it_is_asked_for(data: Path) -> None:
    assert not any(ocg.open_runs(data).table("labels").to_arrow()["is_fault"].to_pylist())
    assert any(ocg.open_runs(data, truth=True).table("labels").to_arrow()["is_fault"].to_pylist())


def test_runs_of_several_contracts_are_one_table(data: Path, kept_run: Path, tmp_path: Path) -> None:
    for source in (data, kept_run.parents[2]):
        shutil.copytree(source, tmp_path / "both", dirs_exist_ok=True)
    runs = ocg.open_runs(tmp_path / "both")
    assert [run.contract_version for run in runs] == [1, 2, 2]
    assert len(runs.table("actions", columns=["run_id"]).to_arrow()["run_id"].unique()) == 3


def test_a_campaign_without_runs_is_empty_and_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert len(ocg.open_runs(tmp_path)) == 0
    assert ocg.open_runs(tmp_path).table("events").count_rows() == 0
    with pytest.raises(ocg.UsageError, match="is no directory"):
        ocg.open_runs(tmp_path / "missing")


def test_duckdb_reads_a_campaign_as_it_is(data: Path) -> None:
    rows = duckdb.execute(
        f"""SELECT campaign, service_config, run_id, count(*), max(request_rate) > 0
        FROM read_parquet('{data}/*/*/*/node_features.parquet', hive_partitioning = true)
        GROUP BY ALL ORDER BY run_id"""
    ).fetchall()
    count = ocg.open_runs(data)[0].table("node_features").count_rows()
    assert rows == [
        ("one", "small-core", "R1", count, True),
        ("one", "small-core", "R2", count, True),
        ("two", "small-core", "R3", count, True),
    ]


def test_duckdb_leaves_void_runs_out_with_the_metadata_beside_the_tables(data: Path) -> None:
    rows = duckdb.execute(
        f"""SELECT DISTINCT run_id FROM read_parquet('{data}/*/*/run_*/rewards.parquet')
        SEMI JOIN (SELECT run_id FROM read_json('{data}/*/*/run_*/metadata.json') WHERE status <> 'void') USING (run_id)
        ORDER BY run_id"""
    ).fetchall()
    assert rows == [("R1",), ("R3",)]


def test_arrow_alone_reads_a_campaign_as_it_is(data: Path) -> None:
    files = [str(path) for path in sorted(data.glob("*/*/*/rewards.parquet"))]
    table = ds.dataset(files, partitioning="hive", partition_base_dir=str(data)).to_table()
    assert set(table["campaign"].to_pylist()) == {"one", "two"}
