"""Every rule of the contract notices the breach that it is there for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from otel_control_gym.engine.events import Recorded
from otel_control_gym.projections import validate, write_dataset
from otel_control_gym.projections.validation import RULES


def change_table(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    def breach(run: Path) -> None:
        path = run / f"{name}.parquet"
        pq.write_table(change(pq.ParquetFile(path).read()), path)

    return breach


def set_cell(column: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        field = table.schema.field(column)
        values = table[column].to_pylist()
        values[row] = value
        plain = pa.string() if pa.types.is_dictionary(field.type) else field.type
        array = (
            pa.array(values, plain).cast(field.type)
            if plain is field.type
            else pa.array(values, plain).dictionary_encode()
        )
        return table.set_column(table.schema.get_field_index(column), field, array)

    return change


def change_metadata(**values: Any) -> Callable[[Path], None]:
    def breach(run: Path) -> None:
        path = run / "metadata.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return breach


def forget_unit(table: pa.Table) -> pa.Table:
    field = table.schema.field("request_rate").with_metadata({"unit": "1/min"})
    return table.set_column(table.schema.get_field_index("request_rate"), field, table["request_rate"])


def shift(table: pa.Table) -> pa.Table:
    later = pc.cast(pc.add(pc.cast(table["time"], pa.int64()), 1), table.schema.field("time").type)
    return table.set_column(0, table.schema.field("time"), later)


def lose_edge(run: Path) -> None:
    graph = json.loads((run / "graph.json").read_text())
    (run / "graph.json").write_text(json.dumps(graph | {"edges": graph["edges"][:1]}))


BREACHES: list[tuple[str, str, Callable[[Path], object]]] = [
    ("file-missing", "spans.parquet", lambda run: (run / "spans.parquet").unlink()),
    ("file-missing", "event_log.zst", lambda run: (run / "event_log.zst").unlink()),
    ("file-unreadable", "rewards.parquet", lambda run: (run / "rewards.parquet").write_bytes(b"PAR1")),
    ("file-unreadable", "graph.json", lambda run: (run / "graph.json").write_bytes(b"{")),
    ("file-unreadable", "logs.jsonl.zst", lambda run: (run / "logs.jsonl.zst").write_bytes(b"text")),
    (
        "schema",
        "edge_features.parquet",
        change_table("edge_features", lambda table: table.drop_columns(["retry_rate"])),
    ),
    ("schema", "spans.parquet", change_table("spans", lambda table: table.append_column("extra", table["kind"]))),
    ("column-metadata", "node_features.parquet", change_table("node_features", forget_unit)),
    ("sorted", "events.parquet", change_table("events", lambda table: table.take(list(range(table.num_rows))[::-1]))),
    ("sorted", "actions.parquet", change_table("actions", lambda table: pa.concat_tables([table, table.slice(2)]))),
    ("run-id", "spans.parquet", change_table("spans", set_cell("run_id", 3, "another"))),
    ("metadata-keys", "metadata.json", change_metadata(surprise=1)),
    ("metadata-values", "metadata.json", change_metadata(status="fine")),
    ("metadata-values", "metadata.json", change_metadata(contract_version=99)),
    ("service-key", "weak_labels.parquet", change_table("weak_labels", set_cell("service", 0, "nobody"))),
    ("edge-key", "edge_features.parquet", lose_edge),
    ("action-key", "rewards.parquet", change_table("rewards", set_cell("action_id", 1, "scale-9"))),
    ("action-key", "events.parquet", change_table("events", set_cell("caused_by_action_id", 1, "scale-9"))),
    ("labels", "labels.parquet", change_table("labels", lambda table: table.slice(1))),
    ("labels", "labels.parquet", change_table("labels", set_cell("visibility", 0, "public"))),
    ("bucket-alignment", "control_inputs.parquet", change_table("control_inputs", shift)),
    ("bucket-alignment", "node_features.parquet", change_metadata(run_end="2026-01-05T00:01:00.000000Z")),
    ("bucket-grid", "node_features.parquet", change_table("node_features", lambda table: table.slice(1))),
    ("range", "node_features.parquet", change_table("node_features", set_cell("coverage", 0, 1.5))),
    ("range", "edge_features.parquet", change_table("edge_features", set_cell("request_count", 0, -1.0))),
    ("file-digest", "rewards.parquet", change_table("rewards", lambda table: table.slice(1))),
    ("archive-digest", "event_log.zst", lambda run: (run / "event_log.zst").write_bytes(b"another")),
]


@pytest.fixture(scope="module")
def valid(eventful: list[Recorded], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("valid") / "run_01TEST"
    directory.mkdir()
    (directory / "event_log.zst").write_bytes(b"an archive")
    write_dataset(eventful, directory)
    assert validate(directory) == []
    return directory


@pytest.mark.parametrize(("rule", "file", "breach"), BREACHES, ids=[f"{rule}:{file}" for rule, file, _ in BREACHES])
def test_a_breach_is_reported_by_its_rule_and_file(
    valid: Path, tmp_path: Path, rule: str, file: str, breach: Callable[[Path], object]
) -> None:
    run = tmp_path / valid.name
    shutil.copytree(valid, run)
    breach(run)
    assert (rule, file) in [(violation.rule_id, violation.file) for violation in validate(run)]


def test_every_rule_has_a_breach() -> None:
    assert {rule for rule, _, _ in BREACHES} == set(RULES)


def test_an_empty_directory_misses_every_file(tmp_path: Path) -> None:
    assert {violation.rule_id for violation in validate(tmp_path)} == {"file-missing"}
