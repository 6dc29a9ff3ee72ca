"""What a rule of the data contract is, and what all rules look at: a run's directory, as far as it can be read.

In: a directory. Out: a `CheckedRun`; a `Rule` makes violations of it. The rules themselves: `file_rules`, `table_rules`, `decision_rules`
here, those that need the event log or several runs in `engine.run_checks`. `validation` puts the ones of this room together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from otel_control_gym.projections import schemas
from otel_control_gym.projections.tables import arrow_schema

__all__ = ("CheckedRun", "Rule", "Violation", "checked_run")


class Violation(msgspec.Struct, frozen=True):
    """A rule that a file breaks."""

    rule_id: str
    file: str
    message: str


class CheckedRun(msgspec.Struct, frozen=True, eq=False, dict=True):
    """What could be read of a run's directory; trusts nothing that wrote it."""

    directory: Path
    documents: Mapping[str, Any]  #: JSON files by name, those that are JSON
    found: Mapping[str, pa.Table]  #: tables by name, those that are Parquet
    unreadable: Mapping[str, str]  #: file: why

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of `metadata.json`; empty if it can't be read."""
        content = self.documents.get("metadata.json")
        return content if isinstance(content, dict) else {}

    @cached_property
    def graph(self) -> dict[str, Any]:
        """Content of `graph.json`; empty if it can't be read."""
        content = self.documents.get("graph.json")
        return content if isinstance(content, dict) else {}

    @cached_property
    def tables(self) -> Mapping[str, pa.Table]:
        """Tables by name, those whose schema is the contract's: what rules about rows look at."""
        return {
            table.name: self.found[table.name]
            for table in schemas.TABLES
            if table.name in self.found and self.found[table.name].schema.equals(arrow_schema(table))
        }

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table; none if it can't be read."""
        rows: list[dict[str, Any]] = self.tables[table].to_pylist() if table in self.tables else []
        return rows

    @cached_property
    def actions(self) -> list[dict[str, Any]]:
        """Rows of `actions.parquet`."""
        return self.rows("actions")


class Rule(msgspec.Struct, frozen=True, eq=False):
    """A rule of the contract: its id is a promise, its sentence is what holds."""

    id: str
    says: str
    check: Callable[[CheckedRun], Iterator[tuple[str, str]]]  #: yields (file, what is wrong)
    of_content: bool = True  #: looks into files whose shape is right; only if metadata and graph keep their schemas

    def violations(self, run: CheckedRun) -> list[Violation]:
        """Return where a run breaks the rule."""
        return [Violation(self.id, file, message) for file, message in self.check(run)]


def checked_run(directory: Path) -> CheckedRun:
    """Read what there is."""
    documents: dict[str, Any] = {}
    tables: dict[str, pa.Table] = {}
    unreadable: dict[str, str] = {}
    for name in schemas.JSON_FILES:
        if (directory / name).is_file():
            try:
                documents[name] = _json(directory / name)
            except (ValueError, OSError, zstandard.ZstdError) as error:
                unreadable[name] = str(error)
    for table in schemas.TABLES:
        if (directory / table.file).is_file():
            try:
                tables[table.name] = pq.ParquetFile(directory / table.file).read()
            except (OSError, pa.ArrowException) as error:
                unreadable[table.file] = str(error)
    return CheckedRun(directory, documents, tables, unreadable)


def _json(path: Path) -> Any:
    """Return the content of a JSON file, or the list of the records of a file of lines.

    Raises: ValueError: it isn't whole, or isn't JSON.
    """
    content = path.read_bytes()
    if path.suffix != ".zst":
        return json.loads(content)
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    text = decompressor.decompress(content).decode()
    if not decompressor.eof:
        raise ValueError("cut off")
    return [json.loads(line) for line in text.splitlines()]
