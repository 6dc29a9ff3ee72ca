"""Rules about files: they are there, can be read, are what was written, and have the shape that the contract gives.

In: a `CheckedRun`. Out: violations. Next: `table_rules` looks at the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow.parquet as pq

from otel_control_gym.projections import schemas
from otel_control_gym.projections.documents import DOCUMENTS
from otel_control_gym.projections.rules import CheckedRun, Rule
from otel_control_gym.projections.schemas import ROW_GROUP_ROWS, TableSchema
from otel_control_gym.projections.tables import arrow_schema

__all__ = ("FILE_RULES",)

Found = Iterator[tuple[str, str]]


def _missing(run: CheckedRun) -> Found:
    for name in (*schemas.FILES, schemas.ARCHIVE):
        if not (run.directory / name).is_file():
            yield name, "there is no such file"


def _unreadable(run: CheckedRun) -> Found:
    yield from run.unreadable.items()


def _version(run: CheckedRun) -> Found:
    version = run.metadata.get("contract_version")
    if run.metadata and version != schemas.CONTRACT_VERSION:
        older = isinstance(version, int) and 0 < version < schemas.CONTRACT_VERSION
        remedy = "`ocg rebuild` makes one of today's of it" if older else "upgrade otel-control-gym"
        yield "metadata.json", f"contract_version {version}, this program checks {schemas.CONTRACT_VERSION}: {remedy}"


def _documents(run: CheckedRun) -> Found:
    for name, document in DOCUMENTS.items():
        if name not in run.documents:
            continue
        records = enumerate(run.documents[name], start=1) if document.lines else [(0, run.documents[name])]
        for line, record in records:
            problem = _problem(record, document.type)
            if problem:
                yield name, f"line {line}: {problem}" if line else problem
                break


def _problem(record: Any, wanted: Any) -> str:
    try:
        msgspec.convert(record, wanted, strict=True)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _schema(run: CheckedRun) -> Found:
    for table in schemas.TABLES:
        if table.name not in run.found:
            continue
        found, wanted = run.found[table.name].schema, arrow_schema(table)
        if not found.equals(wanted):
            differing = [
                f"{field.name}: {field.type}"
                for field in wanted
                if field.name not in found.names or found.field(field.name) != field
            ]
            extra = sorted(set(found.names) - set(wanted.names))
            yield (
                table.file,
                f"wanted {', '.join(differing) or 'another order'}; unexpected {', '.join(extra) or 'none'}",
            )


def _column_metadata(run: CheckedRun) -> Found:
    for table in schemas.TABLES:
        if table.name in run.tables:
            found = run.tables[table.name].schema
            for field in arrow_schema(table):
                if found.field(field.name).metadata != field.metadata:
                    yield table.file, f"{field.name}: {found.field(field.name).metadata}"


def _layout(run: CheckedRun) -> Found:
    for table in schemas.TABLES:
        if table.name in run.tables:
            problem = _layout_problem(pq.read_metadata(run.directory / table.file), table)
            if problem:
                yield table.file, problem


def _layout_problem(metadata: Any, table: TableSchema) -> str:
    for position in range(metadata.num_row_groups):
        group = metadata.row_group(position)
        if group.num_rows > ROW_GROUP_ROWS:
            return f"row group {position} has {group.num_rows} rows"
        compressions = {group.column(column).compression for column in range(group.num_columns)}
        if compressions != {"ZSTD"}:
            return f"row group {position} is compressed by {', '.join(sorted(compressions))}"
        order = [group.column(column.column_index).path_in_schema for column in group.sorting_columns or ()]
        if order != list(table.order):
            return f"row group {position} says that it is sorted by {', '.join(order) or 'nothing'}"
    return ""


def _archive_digest(run: CheckedRun) -> Found:
    path = run.directory / schemas.ARCHIVE
    stated = _hashes(run).get("event_log", "")
    if stated and path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != stated:
        yield schemas.ARCHIVE, f"its SHA-256 isn't {stated}"


def _file_digest(run: CheckedRun) -> Found:
    digests = _hashes(run).get("files", {})
    for name, stated in sorted(digests.items()):
        path = run.directory / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != stated:
            yield name, f"its SHA-256 isn't {stated}: it was changed after it was written"
    unstated = [name for name in schemas.FILES if name not in digests and name != "metadata.json"]
    if run.metadata.get("contract_version") == schemas.CONTRACT_VERSION and unstated:
        yield "metadata.json", f"no SHA-256 of {', '.join(unstated)}"


def _hashes(run: CheckedRun) -> dict[str, Any]:
    found = run.metadata.get("hashes")
    return found if isinstance(found, dict) else {}


FILE_RULES: tuple[Rule, ...] = (
    Rule("file-missing", "every file of the contract is there, the archive too", _missing, of_content=False),
    Rule("file-unreadable", "every file can be read as what it is", _unreadable, of_content=False),
    Rule(
        "contract-version",
        "metadata.json names the version of the contract that is checked",
        _version,
        of_content=False,
    ),
    Rule(
        "document",
        "JSON files have the fields and the types of their JSON Schemas (`ocg schema`), and no others",
        _documents,
        of_content=False,
    ),
    Rule(
        "schema",
        "columns, their order, their types and which may be null are the contract's",
        _schema,
        of_content=False,
    ),
    Rule(
        "column-metadata",
        "every column carries the contract's unit, description, rule and standing",
        _column_metadata,
        of_content=False,
    ),
    Rule(
        "layout",
        f"Parquet is compressed by zstd, a row group has at most {ROW_GROUP_ROWS} rows and names the columns it is sorted by",
        _layout,
        of_content=False,
    ),
    Rule(
        "archive-digest",
        "event_log.zst is the file that the tables were made of",
        _archive_digest,
        of_content=False,
    ),
    Rule(
        "file-digest",
        "every file is the one that was written: its SHA-256 is in metadata.json",
        _file_digest,
        of_content=False,
    ),
)
