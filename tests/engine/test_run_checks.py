"""Every rule of the contract notices the breach that it is there for, and a run that keeps the contract breaks none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import ARCHIVE_NAME
from otel_control_gym.engine.run_checks import all_rules, check_runs
from otel_control_gym.projections.schemas import TABLES

Breach = Callable[[Path], object]
Change = Callable[[pa.Table], pa.Table]

ORDER = {table.name: table.order for table in TABLES}


def table(name: str, *changes: Change, **layout: Any) -> Breach:
    """Return a breach that writes a table anew, changed, in the contract's layout but for `layout`."""

    def breach(run: Path) -> None:
        path = run / f"{name}.parquet"
        content = pq.ParquetFile(path).read()
        for change in changes:
            content = change(content)
        order = [(column, "ascending") for column in ORDER[name] if column in content.schema.names]
        sorting = pq.SortingColumn.from_ordering(content.schema, order, null_placement="at_end")
        pq.write_table(content, path, **({"compression": "zstd", "sorting_columns": sorting} | layout))

    return breach


def cell(column: str, value: Any, row: int = 0) -> Change:
    """Return a change of one cell; a function as `value` gets the row as a dict."""

    def change(content: pa.Table) -> pa.Table:
        position = content.schema.get_field_index(column)
        field = content.schema.field(position)
        values = content[column].to_pylist()
        values[row] = value(content.slice(row, 1).to_pylist()[0]) if callable(value) else value
        if pa.types.is_dictionary(field.type):
            array = pa.array(values, pa.string()).dictionary_encode().cast(field.type)
        else:
            array = pa.array(values, field.type)
        return content.set_column(position, field, array)

    return change


def metadata(**values: Any) -> Breach:
    def breach(run: Path) -> None:
        path = run / "metadata.json"
        content = json.loads(path.read_text())
        for key, value in values.items():
            content[key] = value(content.get(key)) if callable(value) else value
        path.write_text(json.dumps(content))

    return breach


def graph(**values: Any) -> Breach:
    def breach(run: Path) -> None:
        path = run / "graph.json"
        path.write_text(
            json.dumps({key: values.get(key, same)(part) for key, part in json.loads(path.read_text()).items()})
        )

    return breach


def same(value: Any) -> Any:
    return value


def forget_unit(content: pa.Table) -> pa.Table:
    position = content.schema.get_field_index("request_rate")
    field = content.schema.field(position).with_metadata({"unit": "1/min"})
    return content.set_column(position, field, content["request_rate"])


def later(seconds: float, column: str = "time") -> Callable[[dict[str, Any]], Any]:
    return lambda row: row[column] + timedelta(seconds=seconds)


def shifted(content: pa.Table) -> pa.Table:
    moved = pc.add(pc.cast(content["time"], pa.int64()), 1).cast(content.schema.field("time").type)
    return content.set_column(0, content.schema.field("time"), moved)


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def foreign_log(run: Path) -> None:
    """Put the log of another run there, with metadata that states its hash: only the log itself tells."""
    metadata(run_id="01ANOTHER")(run)
    for name in ORDER:
        table(name, rename)(run)


def rename(content: pa.Table) -> pa.Table:
    position = content.schema.get_field_index("run_id")
    ids = pa.array(["01ANOTHER"] * content.num_rows, pa.string()).dictionary_encode()
    field = content.schema.field(position)
    return content.set_column(position, field, ids.cast(field.type))


# Rows of actions.parquet: 0 noop, 1 the fault, 2 the scale-up (or the other way round: their ids decide).
def of(kind: str, column: str, value: Any) -> Change:
    """Return a change of a cell in the row of an action type, of actions.parquet."""

    def change(content: pa.Table) -> pa.Table:
        return cell(column, value, content["action_type"].to_pylist().index(kind))(content)

    return change


def fault(column: str, value: Any) -> Change:
    """Return a change of a cell in the fault's row, of labels.parquet."""

    def change(content: pa.Table) -> pa.Table:
        return cell(column, value, content["is_fault"].to_pylist().index(True))(content)

    return change


ALTERNATIVES = json.dumps([{"type": "noop", "probability": 0.5}, {"type": "scale", "probability": 0.6}])

BREACHES: list[tuple[str, str, Breach]] = [
    ("file-missing", "spans.parquet", lambda run: (run / "spans.parquet").unlink()),
    ("file-missing", ARCHIVE_NAME, lambda run: (run / ARCHIVE_NAME).unlink()),
    ("file-unreadable", "rewards.parquet", lambda run: (run / "rewards.parquet").write_bytes(b"PAR1")),
    ("file-unreadable", "graph.json", lambda run: (run / "graph.json").write_bytes(b"{")),
    ("file-unreadable", "logs.jsonl.zst", lambda run: (run / "logs.jsonl.zst").write_bytes(b"text")),
    (
        "file-unreadable",
        "logs.jsonl.zst",
        lambda run: (run / "logs.jsonl.zst").write_bytes((run / "logs.jsonl.zst").read_bytes()[:-9]),
    ),
    ("contract-version", "metadata.json", metadata(contract_version=1)),
    ("contract-version", "metadata.json", metadata(contract_version=99)),
    ("document", "metadata.json", metadata(surprise=1)),
    ("document", "metadata.json", metadata(status="fine")),
    ("document", "metadata.json", metadata(granularity_config=lambda old: old | {"warmup_seconds": "60"})),
    ("document", "graph.json", graph(nodes=lambda nodes: [{"id": "cart"}])),
    ("schema", "edge_features.parquet", table("edge_features", lambda old: old.drop_columns(["retry_rate"]))),
    ("schema", "spans.parquet", table("spans", lambda old: old.append_column("extra", old["kind"]))),
    ("column-metadata", "node_features.parquet", table("node_features", forget_unit)),
    ("layout", "node_features.parquet", table("node_features", compression="snappy")),
    ("layout", "node_features.parquet", table("node_features", sorting_columns=None)),
    (
        "layout",
        "control_inputs.parquet",
        table("control_inputs", lambda old: pa.concat_tables([old] * 20), row_group_size=1 << 20),
    ),
    ("archive-digest", ARCHIVE_NAME, lambda run: (run / ARCHIVE_NAME).write_bytes(b"another")),
    ("file-digest", "rewards.parquet", table("rewards", lambda old: old.slice(1))),
    ("file-digest", "metadata.json", metadata(hashes=lambda old: old | {"files": {}})),
    ("run-id", "spans.parquet", table("spans", cell("run_id", "another", 3))),
    ("sorted", "events.parquet", table("events", lambda old: old.take(list(range(old.num_rows))[::-1]))),
    ("sorted", "rewards.parquet", table("rewards", lambda old: pa.concat_tables([old, old.slice(old.num_rows - 1)]))),
    ("service-key", "node_features.parquet", table("node_features", cell("service", "nobody"))),
    ("service-key", "actions.parquet", table("actions", of("scale", "target_service", "nobody"))),
    ("edge-key", "edge_features.parquet", graph(edges=lambda edges: edges[:1])),
    ("edge-key", "graph.json", graph(edges=lambda edges: [*edges, edges[0] | {"source": "nobody"}])),
    ("edge-key", "actions.parquet", table("actions", of("scale", "target_edge", "cart->frontend"))),
    ("action-key", "rewards.parquet", table("rewards", cell("action_id", "scale-9"))),
    ("action-key", "events.parquet", table("events", cell("caused_by_action_id", "scale-9"))),
    ("action-key", "actions.parquet", table("actions", cell("parent_action_id", "scale-9"))),
    ("bucket-alignment", "control_inputs.parquet", table("control_inputs", shifted)),
    ("bucket-alignment", "node_features.parquet", metadata(run_end="2026-01-05T00:01:00.000000Z")),
    ("bucket-grid", "node_features.parquet", table("node_features", lambda old: old.slice(1))),
    (
        "bucket-grid",
        "node_features.parquet",
        table("node_features", lambda old: pa.concat_tables([old.slice(0, 28), old.slice(42)])),
    ),
    ("moments", "actions.parquet", metadata(run_start="2026-01-05T00:01:30.000000Z")),
    ("moments", "spans.parquet", metadata(run_end="2026-01-05T00:01:00.000000Z")),
    ("range", "node_features.parquet", table("node_features", cell("coverage", 1.5))),
    ("range", "edge_features.parquet", table("edge_features", cell("request_count", -1.0))),
    ("coverage", "metadata.json", metadata(streams=lambda old: old | {"metrics": {"rows": 5, "coverage": 1.2}})),
    ("coverage", "metadata.json", metadata(streams=lambda old: old | {"metrics": {"rows": 5, "coverage": 0}})),
    ("decision-steps", "actions.parquet", table("actions", of("scale", "decision_step", 0))),
    ("decision-steps", "actions.parquet", table("actions", of("scale", "decision_step", 2))),
    ("decision-order", "actions.parquet", table("actions", of("scale", "requested", later(-30)))),
    ("decision-order", "actions.parquet", table("actions", of("scale", "decision_log_sequence", 1))),
    ("decision-actor", "actions.parquet", table("actions", of("cpu_pressure", "decision_step", 2))),
    ("propensity", "actions.parquet", table("actions", cell("propensity", 0.0))),
    ("alternatives", "actions.parquet", table("actions", cell("alternatives", ALTERNATIVES))),
    ("alternatives", "actions.parquet", table("actions", cell("alternatives", '[{"type": "noop"}]'))),
    ("alternatives", "actions.parquet", table("actions", cell("alternatives", "both"))),
    ("parameters", "actions.parquet", table("actions", cell("parameters", "[]"))),
    ("parameters", "actions.parquet", table("actions", cell("parameters", "{"))),
    ("action-times", "actions.parquet", table("actions", of("scale", "settled", later(-1)))),
    ("action-times", "actions.parquet", table("actions", of("scale", "effective", later(-1)))),
    ("action-status", "actions.parquet", table("actions", of("scale", "status", "done"))),
    ("action-status", "actions.parquet", table("actions", of("scale", "status", "rejected"))),
    ("action-status", "actions.parquet", table("actions", of("scale", "precheck_status", "rejected"))),
    (
        "action-status",
        "actions.parquet",
        table("actions", of("scale", "status", "rejected"), of("scale", "precheck_status", "rejected")),
    ),
    ("action-status", "actions.parquet", table("actions", of("scale", "settled", None))),
    ("labels", "labels.parquet", table("labels", lambda old: old.slice(1))),
    ("labels", "labels.parquet", table("labels", fault("visibility", "public"))),
    ("label-times", "labels.parquet", table("labels", fault("end", later(-1, "start")))),
    ("label-times", "labels.parquet", table("labels", fault("actual_end", later(-1, "actual_start")))),
    ("label-times", "labels.parquet", table("labels", fault("end_censored", True))),
    ("label-kind", "labels.parquet", table("labels", fault("fault_type", "memory_pressure"))),
    ("label-kind", "labels.parquet", table("labels", fault("is_fault", False))),
    ("visibility", "events.parquet", table("events", cell("visibility", "private"))),
    ("hidden-truth", "actions.parquet", table("actions", of("cpu_pressure", "visibility", "public"))),
    ("hidden-truth", "rewards.parquet", lambda run: name_the_fault(run, "rewards", "action_id")),
    ("hidden-truth", "events.parquet", lambda run: name_the_fault(run, "events", "caused_by_action_id")),
    ("schedules", "metadata.json", metadata(intervention_schedule=[])),
    ("schedules", "metadata.json", metadata(action_schedule=lambda old: old + old)),
    ("archive", ARCHIVE_NAME, lambda run: flip(run / ARCHIVE_NAME, 0.5)),
    ("log-content", ARCHIVE_NAME, metadata(content_digest="0" * 64)),
    ("log-content", ARCHIVE_NAME, foreign_log),
    ("fold", "node_features.parquet", table("node_features", cell("request_rate", 9.0, 200))),
    ("fold", "metadata.json", metadata(seed=8)),
    ("fold", "graph.json", graph(edges=lambda edges: edges[::-1])),
]


def name_the_fault(run: Path, name: str, column: str) -> None:
    actions = pq.ParquetFile(run / "actions.parquet").read().to_pylist()
    hidden = next(row["action_id"] for row in actions if row["visibility"] == "truth")
    table(name, cell(column, hidden))(run)


@pytest.fixture
def copy(run_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_directory, tmp_path / run_directory.name))


def test_a_run_that_keeps_the_contract_breaks_no_rule(run_directory: Path) -> None:
    assert ocg.validate(run_directory) == []


@pytest.mark.parametrize(
    ("rule", "file", "breach"),
    BREACHES,
    ids=[f"{rule}:{file}-{number}" for number, (rule, file, _) in enumerate(BREACHES)],
)
def test_a_breach_is_reported_by_its_rule_and_file(copy: Path, rule: str, file: str, breach: Breach) -> None:
    breach(copy)
    assert (rule, file) in [(violation.rule_id, violation.file) for violation in ocg.validate(copy)]


def test_every_rule_has_a_breach() -> None:
    together = {"run-twice", "split", "split-overlap"}  # below
    assert {rule for rule, _, _ in BREACHES} | together == set(all_rules())


def test_an_empty_directory_misses_every_file_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    assert {violation.rule_id for violation in ocg.validate(tmp_path)} == {"file-missing"}
    with pytest.raises(ocg.UsageError, match="is no directory"):
        ocg.validate(tmp_path / "missing")


def test_a_run_of_an_earlier_contract_is_told_how_it_becomes_one_of_today(kept_run: Path) -> None:
    violations = ocg.validate(kept_run)
    assert [violation.rule_id for violation in violations] == ["contract-version"]
    assert "ocg rebuild" in violations[0].message


def test_a_run_at_another_bucket_is_the_fold_of_its_log_too(run_directory: Path, tmp_path: Path) -> None:
    coarse = ocg.rebuild(run_directory, bucket_seconds=30, out=tmp_path / run_directory.name)
    assert ocg.validate(coarse) == []


def test_without_the_log_numbers_are_taken_on_trust(copy: Path) -> None:
    table("node_features", cell("request_rate", 9.0, 200))(copy)
    assert {violation.rule_id for violation in ocg.validate(copy, log=False)} == {"file-digest"}


def test_what_is_given_to_a_run_later_need_not_follow_from_its_log(copy: Path) -> None:
    metadata(status="void", void_rule="no-load", split_ids={"iid": "test"}, stratum="single")(copy)
    assert ocg.validate(copy) == []


# --- runs together --------------------------------------------------------------------------------------------------------


@pytest.fixture
def campaign(run_directory: Path, tmp_path: Path) -> Path:
    shutil.copytree(run_directory.parents[2], tmp_path / "data")
    return tmp_path / "data"


def splits(campaign: Path, content: str) -> None:
    directory = campaign / "campaign=default" / "splits"
    directory.mkdir()
    (directory / "iid.json").write_text(content)


def test_a_directory_of_runs_is_checked_run_by_run(campaign: Path) -> None:
    run = next(campaign.glob("*/*/run_*"))
    splits(campaign, '{"version": 1, "parts": {"train": ["a", "b"], "test": ["c"]}}')
    for path in (campaign, campaign / "campaign=default", run.parent):
        report = check_runs(path)
        assert report.valid
        assert [checked.path.name for checked in report.runs] == [run.name]
    (run / "spans.parquet").unlink()
    assert [(violation.rule_id, violation.file) for violation in ocg.validate(campaign)] == [
        ("file-missing", str((run / "spans.parquet").relative_to(campaign)))
    ]


def test_a_run_that_is_there_twice_is_reported(campaign: Path) -> None:
    run = next(campaign.glob("*/*/run_*"))
    shutil.copytree(run, run.with_name("run_AGAIN"))
    assert [violation.rule_id for violation in ocg.validate(campaign)] == ["run-twice", "run-twice"]


def test_a_split_that_can_not_be_read_is_reported(campaign: Path) -> None:
    splits(campaign, '{"parts": ["train"]}')
    assert [(violation.rule_id, violation.file) for violation in ocg.validate(campaign)] == [
        ("split", "campaign=default/splits/iid.json")
    ]


def test_a_family_in_two_parts_of_a_split_is_reported(campaign: Path) -> None:
    splits(campaign, '{"parts": {"train": ["a", "b"], "validation": ["c"], "test": ["b"]}}')
    found = ocg.validate(campaign)
    assert [violation.rule_id for violation in found] == ["split-overlap"]
    assert found[0].message == "1 families are in test and in train, e.g. b"
