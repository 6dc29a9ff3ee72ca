"""A log that was kept folds to the tables that it made on the day it was kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_control_gym.engine.archive import read_archive
from otel_control_gym.projections import fold
from otel_control_gym.projections.tables import make_tables

LOGS = Path(__file__).parents[1] / "logs"


def digests(archive: Path) -> dict[str, dict[str, Any]]:
    """Return rows and digest of each table, as the kept `.json` has them."""
    tables = make_tables(fold(read_archive(archive)), "KEPT", 10)
    return {
        name: {
            "rows": table.num_rows,
            "sha256": hashlib.sha256(json.dumps(_plain(table.to_pylist())).encode()).hexdigest(),
        }
        for name, table in sorted(tables.items())
    }


def _plain(value: Any) -> Any:
    """Return a value whose JSON doesn't hang on the last bit of a sum."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, Mapping):
        return {key: _plain(cell) for key, cell in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(cell) for cell in value]
    return value if isinstance(value, int | str | None) else str(value)


@pytest.mark.parametrize("archive", sorted(LOGS.glob("*.zst")), ids=lambda path: path.stem)
def test_a_kept_log_folds_to_the_tables_of_its_day(archive: Path) -> None:
    assert digests(archive) == json.loads(archive.with_suffix(".json").read_text())


def test_there_is_a_kept_log() -> None:
    assert list(LOGS.glob("*.zst"))
