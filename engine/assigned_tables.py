"""Tables that are given to a run after it, because they compare it with others: written beside its folds, kept when it is rebuilt.

In: a run's directory and rows. Out: the table's file, and its digest in `metadata.json`, so that the directory stays valid. The file comes
first; should the process die between the two, `has_assigned` says no, and whoever gives the table gives it again.

Blocking. Downstream: `engine.rebuild`, `engine.run_checks`, `engine.campaigns`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.run_documents import read_document
from otel_control_gym.engine.run_tables import table_schema
from otel_control_gym.projections.table_files import TableFile
from otel_control_gym.projections.tables import plain_table

__all__ = ("ASSIGNED_TABLES", "assign", "carry_assigned", "has_assigned")

ASSIGNED_TABLES = ("certificates",)

_METADATA = "metadata.json"


def assign(directory: Path, table: str, rows: Sequence[dict[str, Any]], *, run_id: str) -> None:
    """Give a run the rows of a table, in place of those that it had.

    Raises: DatasetError: the files can't be written, or `metadata.json` can't be read.
    """
    schema = table_schema(table)
    draft = _draft(directory / schema.file)
    try:
        with TableFile(draft, schema) as file:
            if rows:
                file.add(plain_table(schema, rows, run_id))
        _put(draft, directory, schema.file)
    except (OSError, pa.ArrowException) as error:
        draft.unlink(missing_ok=True)
        raise DatasetError(f"{directory / schema.file} can't be written: {error}") from error


def has_assigned(directory: Path, table: str) -> bool:
    """Return whether a run's file of a table is the one that its metadata speaks of."""
    file = directory / table_schema(table).file
    if not file.is_file():
        return False
    stated = read_document(directory / _METADATA).get("hashes", {}).get("files", {}).get(file.name)
    return bool(stated == _sha256(file))


def carry_assigned(source: Path, target: Path) -> None:
    """Give another dataset of a run the tables that were given to it, in today's schema; where it has no rows there is nothing to give.

    Raises: DatasetError: a file can't be read or written.
    """
    import pyarrow.parquet as pq

    for table in ASSIGNED_TABLES:
        file = source / table_schema(table).file
        try:
            rows = pq.ParquetFile(file).read().to_pylist() if file.is_file() else []
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{file} can't be read: {error}") from error
        if rows:
            names = [column.name for column in table_schema(table).columns if column.name != "run_id"]
            given = [{name: row.get(name) for name in names} for row in rows]
            assign(target, table, given, run_id=str(rows[0]["run_id"]))


def _put(draft: Path, directory: Path, name: str) -> None:
    """Move a draft to its place, and note its digest."""
    document = read_document(directory / _METADATA)
    document["hashes"]["files"][name] = _sha256(draft)
    metadata = _draft(directory / _METADATA)
    metadata.write_bytes(msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=2) + b"\n")
    draft.replace(directory / name)
    metadata.replace(directory / _METADATA)


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
