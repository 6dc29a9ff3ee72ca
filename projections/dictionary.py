"""The data dictionary: every column of every table and every field of every JSON file, as a page.

In: `schemas` and `documents`. Out: Markdown. A test holds `docs/reference/data-dictionary.md` against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from otel_control_gym.projections.documents import DOCUMENTS, json_schema
from otel_control_gym.projections.schemas import ARROW_TYPES, CONTRACT_VERSION, ROW_GROUP_ROWS, STANDINGS, TABLES

__all__ = ("data_dictionary",)


def data_dictionary() -> str:
    """Return the data dictionary, Markdown."""
    return "\n".join([*_opening(), *_tables(), *_documents()]) + "\n"


def _opening() -> Iterator[str]:
    yield from (
        "# Data dictionary",
        "",
        f"Data contract version {CONTRACT_VERSION}. Generated from `projections/schemas.py` and `projections/documents.py`. A run's",
        "directory holds these files, beside `event_log.zst`, from which all of them can be made again.",
        "[How to read it](../how-to/read-a-run.md).",
        "",
        "| standing | means |",
        "|---|---|",
        *(f"| {standing} | {meaning} |" for standing, meaning in STANDINGS.items()),
        "",
        f"Parquet files are compressed by zstd, ids are dictionaries, rows are sorted, and a row group holds {ROW_GROUP_ROWS:,} rows:",
        "a span of time is found by the statistics of `time`, and little else is read. Every field's metadata in the file has",
        "`unit`, `description`, `rule` and `standing`.",
    )


def _tables() -> Iterator[str]:
    for table in TABLES:
        yield from (
            "",
            f"## {table.file}",
            "",
            f"A row: {table.row}. Sorted by {', '.join(table.order)}.",
            "",
            "| column | type | unit | meaning | rule | standing |",
            "|---|---|---|---|---|---|",
        )
        for column in table.columns:
            yield (
                f"| `{column.name}` | {ARROW_TYPES[column.type]} | {column.unit or '–'} | {column.description} | {column.rule} "
                f"| {column.standing} |"
            )


def _documents() -> Iterator[str]:
    for file, document in DOCUMENTS.items():
        schema = json_schema(file)
        yield from ("", f"## {file}", "", f"Holds {document.holds}. Its JSON Schema: `ocg schema {file}`.")
        for name, record in schema["$defs"].items():
            if name != _root(schema):
                yield from ("", f"`{name}`: {record.get('description', '')}")
            yield from ("", "| field | type | meaning |", "|---|---|---|")
            for field, rule in record["properties"].items():
                yield f"| `{field}` | {_spelt(rule)} | {_meaning(rule, schema)} |"


def _root(schema: dict[str, Any]) -> str:
    reference: str = schema.get("$ref", "")
    return reference.rpartition("/")[2]


def _meaning(rule: dict[str, Any], schema: dict[str, Any]) -> str:
    if "description" in rule:
        return str(rule["description"])
    return str(schema["$defs"][rule["$ref"].rpartition("/")[2]]["description"])


def _spelt(rule: dict[str, Any]) -> str:
    """Return the type of a field in a word or two."""
    if "$ref" in rule:
        return f"`{rule['$ref'].rpartition('/')[2]}`"
    if "anyOf" in rule:
        return " or ".join(_spelt(option) for option in rule["anyOf"])
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    if rule.get("type") == "array":
        return f"list of {_spelt(rule['items'])}"
    if rule.get("type") == "object":
        values = rule.get("additionalProperties")
        return f"object of {_spelt(values)}" if isinstance(values, dict) and values else "object"
    return "time" if rule.get("format") == "date-time" else str(rule.get("type", "any"))
