"""A run's directory is read lazily, by name, and shows nothing that a policy couldn't know unless truth is asked for."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zstandard

import otel_control_gym as ocg
from otel_control_gym.projections.schemas import CONTRACT_VERSION, TABLES
from otel_control_gym.projections.tables import arrow_schema


def change_metadata(directory: Path, **values: Any) -> None:
    path = directory / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def copy(run_directory: Path, tmp_path: Path) -> Path:
    """A copy of a run that a test may spoil."""
    return Path(shutil.copytree(run_directory, tmp_path / run_directory.name))


# --- tables ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [table.name for table in TABLES])
def test_a_table_read_with_truth_is_the_file(run_directory: Path, name: str) -> None:
    table = ocg.open_run(run_directory, truth=True).table(name).to_arrow()
    assert table.equals(pq.ParquetFile(run_directory / f"{name}.parquet").read())


def test_a_time_range_keeps_the_rows_that_start_in_it(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    origin = datetime.fromisoformat(run.run_start)
    by_seconds = run.table("node_features", start=30, end=60)
    by_times = run.table("node_features", start=origin + timedelta(seconds=30), end=origin + timedelta(seconds=60))
    assert by_seconds.to_arrow().equals(by_times.to_arrow())
    assert sorted(set(by_seconds.to_arrow()["time"].to_pylist())) == [
        origin + timedelta(seconds=seconds) for seconds in (30, 40, 50)
    ]


def test_columns_come_in_the_order_asked_for_with_their_units(run_directory: Path) -> None:
    table = ocg.open_run(run_directory).table("node_features", columns=["cpu_usage_cores", "service"])
    assert table.to_arrow().schema.names == ["cpu_usage_cores", "service"]
    assert table.schema.field("cpu_usage_cores").metadata[b"unit"] == b"cores"


def test_batches_frames_and_rows_are_the_same_table(run_directory: Path) -> None:
    table = ocg.open_run(run_directory).table("edge_features").filter(pc.field("source") == "frontend")
    rows = table.to_arrow()
    assert 0 < rows.num_rows == table.count_rows() == sum(batch.num_rows for batch in table.to_batches())
    assert table.to_pandas()["request_count"].isna().sum() == rows["request_count"].null_count
    assert table.to_polars()["request_count"].to_list() == rows["request_count"].to_pylist()


def test_duckdb_reads_a_table_as_it_is(run_directory: Path) -> None:
    actions = ocg.open_run(run_directory).table("actions", columns=["action_type"])
    assert actions.count_rows() == 2
    assert duckdb.execute("SELECT * FROM actions").fetchall() == [("noop",), ("scale",)]


def test_a_moment_without_a_zone_a_wrong_name_and_a_table_without_time_are_refused(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    with pytest.raises(ocg.UsageError, match="which zone"):
        run.table("events", start=datetime(2026, 1, 5))  # noqa: DTZ001 - the mistake
    with pytest.raises(ocg.UsageError, match="did you mean 'node_features'"):
        run.table("node_feature")
    with pytest.raises(ocg.UsageError, match="did you mean 'request_rate'"):
        run.table("node_features", columns=["request_rat"])
    with pytest.raises(ocg.UsageError, match="no time to select by"):
        run.table("certificates", start=0)


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_a_package_that_is_not_installed_is_named_with_the_remedy(
    run_directory: Path, monkeypatch: pytest.MonkeyPatch, package: str, method: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ocg.UsageError, match=f"{package} isn't installed\n  `pip install {package}`"):
        getattr(ocg.open_run(run_directory).table("events"), method)()


def test_a_missing_or_broken_file_is_named(copy: Path) -> None:
    (copy / "spans.parquet").unlink()
    (copy / "events.parquet").write_bytes(b"PAR1")
    run = ocg.open_run(copy)
    with pytest.raises(ocg.DatasetError, match=r"spans\.parquet is missing"):
        run.table("spans")
    with pytest.raises(ocg.DatasetError, match=r"events\.parquet can't be read"):
        run.table("events").to_arrow()


# --- what is public -------------------------------------------------------------------------------------------------------


def test_rows_of_the_truth_stream_are_shown_with_truth_alone(run_directory: Path) -> None:
    public, whole = ocg.open_run(run_directory), ocg.open_run(run_directory, truth=True)
    hidden = 0
    for table in TABLES:
        shown = public.table(table.name)
        if any(column.name == "visibility" for column in table.columns):
            assert set(shown.to_arrow()["visibility"].to_pylist()) <= {"public"}
            hidden += whole.table(table.name).count_rows() - shown.count_rows()
    assert hidden > 5
    assert public.table("labels").filter(pc.field("is_fault")).count_rows() == 0
    assert whole.table("labels").filter(pc.field("is_fault")).count_rows() == 1


def test_certificates_are_truth_altogether(copy: Path) -> None:
    schema = arrow_schema(next(table for table in TABLES if table.name == "certificates"))
    row = {"run_id": "R", "action_id": "a", "class": "visible"}
    pq.write_table(schema.empty_table().from_pylist([row], schema=schema), copy / "certificates.parquet")
    assert ocg.open_run(copy, truth=True).table("certificates").count_rows() == 1
    assert ocg.open_run(copy).table("certificates").count_rows() == 0


def test_nothing_that_is_read_without_truth_tells_what_was_injected(run_directory: Path) -> None:
    run = ocg.open_run(run_directory)
    told = [run.metadata, run.graph, list(run.logs()), list(run.kubernetes_events()), run.findings]
    told += [run.table(table.name).to_arrow().to_pylist() for table in TABLES]
    text = json.dumps(told, default=str)
    secrets = [row["action_id"] for row in ocg.open_run(run_directory, truth=True).metadata["intervention_schedule"]]
    assert secrets
    for secret in ("StressChaos", '"seed":', "truth_sequence", *secrets):
        assert secret not in text
    # The words of the contract name faults; a fault of this run would be named in a cell.
    without_words = json.dumps([{**run.metadata, "columns": None, "ground_truth": None}, *told[1:]], default=str)
    assert "cpu_pressure" not in without_words


def test_metadata_logs_and_kubernetes_events_are_whole_with_truth(run_directory: Path) -> None:
    public, whole = ocg.open_run(run_directory), ocg.open_run(run_directory, truth=True)
    assert whole.metadata == json.loads((run_directory / "metadata.json").read_text())
    assert whole.metadata["seed"] == 7
    assert len(list(whole.kubernetes_events())) > len(list(public.kubernetes_events())) > 0
    assert all(record["visibility"] == "public" for record in public.logs())
    assert any(entry.truth for entry in whole.events())
    assert not any(entry.truth for entry in public.events())


def test_a_file_of_lines_that_was_cut_off_is_refused(copy: Path) -> None:
    path = copy / "logs.jsonl.zst"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ocg.DatasetError, match=r"logs\.jsonl\.zst was cut off"):
        list(ocg.open_run(copy).logs())
    path.write_bytes(zstandard.compress(b'{"visibility": "public"}\n{"visibil\n'))
    with pytest.raises(ocg.DatasetError, match=r"logs\.jsonl\.zst can't be read after line 1"):
        list(ocg.open_run(copy).logs())


# --- versions of the contract ---------------------------------------------------------------------------------------------


def test_a_run_of_version_1_reads_like_one_of_today(kept_run: Path, run_directory: Path) -> None:
    kept, rebuilt = ocg.open_run(kept_run, truth=True), ocg.open_run(run_directory, truth=True)
    assert (kept.contract_version, rebuilt.contract_version) == (1, CONTRACT_VERSION)
    for table in TABLES:
        assert kept.table(table.name).schema == rebuilt.table(table.name).schema
    assert [row["action_type"] for row in kept.table("actions").to_arrow().to_pylist()] == [
        "noop",
        "cpu_pressure",
        "scale",
    ]
    assert kept.graph["nodes"]
    assert len(kept.windows()) == len(rebuilt.windows()) == 2


def test_what_an_old_contract_lacked_is_null_or_empty(kept_run: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(kept_run, tmp_path / kept_run.name))
    nodes = directory / "node_features.parquet"
    pq.write_table(pq.ParquetFile(nodes).read().drop_columns(["restarts"]), nodes)
    (directory / "weak_labels.parquet").unlink()
    metadata = json.loads((directory / "metadata.json").read_text())
    del metadata["host"]
    (directory / "metadata.json").write_text(json.dumps(metadata))
    run = ocg.open_run(directory)
    assert run.metadata["host"] is None
    read = run.table("node_features").to_arrow()
    assert read["restarts"].null_count == read.num_rows > 0
    assert run.table("weak_labels").count_rows() == 0


def test_a_run_of_a_later_contract_is_refused_with_the_remedy(copy: Path) -> None:
    change_metadata(copy, contract_version=CONTRACT_VERSION + 1)
    with pytest.raises(
        ocg.DatasetError, match=f"contract {CONTRACT_VERSION + 1}; this program reads 1 to .*\n  upgrade"
    ):
        ocg.open_run(copy)


def test_times_are_in_utc(run_directory: Path) -> None:
    first = ocg.open_run(run_directory).table("rewards").to_arrow()["time"][0].as_py()
    assert first.astimezone(UTC) == datetime(2026, 1, 5, tzinfo=UTC)
