"""What one helper writes of a cell the other reads, and a file that can't be trusted is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from otel_control_gym.baselines.effect_cells import (
    EFFECT_CELLS_FILE,
    EFFECT_CELLS_SCHEMA,
    CellKey,
    EffectCell,
    read_cells,
    write_cells,
)
from otel_control_gym.engine.errors import DatasetError

CELL = EffectCell(
    run_id="r",
    action_id="a",
    kind="edge",
    entity="front->back",
    feature="request_rate",
    time_us=5,
    horizon_s=90,
    group="changed",
    n_branches=8,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_cells(tmp_path, [CELL])
    assert read_cells([tmp_path, tmp_path / "elsewhere"]) == {
        CellKey("r", "a", "front->back", "request_rate", 90): "changed"
    }
    assert pq.read_schema(tmp_path / EFFECT_CELLS_FILE).equals(EFFECT_CELLS_SCHEMA)


def test_no_cell_is_a_file_too(tmp_path: Path) -> None:
    write_cells(tmp_path, [])
    assert read_cells([tmp_path]) == {}


def test_a_group_that_there_is_not_is_refused(tmp_path: Path) -> None:
    path = write_cells(tmp_path, [CELL])
    table = pq.read_table(path)
    position = table.column_names.index("group")
    pq.write_table(table.set_column(position, "group", pa.array(["perhaps"])), path)
    with pytest.raises(DatasetError, match="group perhaps: a cell is changed, unchanged, undecided"):
        read_cells([tmp_path])


def test_a_file_without_a_column_is_refused(tmp_path: Path) -> None:
    path = write_cells(tmp_path, [CELL])
    pq.write_table(pq.read_table(path).drop(["horizon_s"]), path)
    with pytest.raises(DatasetError, match="horizon_s"):
        read_cells([tmp_path])
