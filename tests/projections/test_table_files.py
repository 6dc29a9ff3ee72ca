"""A table file's bytes depend on its rows alone: not on how many came at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from otel_control_gym.projections.schemas import CONTROL_INPUTS, ROW_GROUP_ROWS
from otel_control_gym.projections.table_files import TableFile
from otel_control_gym.projections.tables import arrow_schema, plain_table

ROWS = 2 * ROW_GROUP_ROWS + 1000


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """Return more rows than two row groups take; targets come and go, so that row groups have different dictionaries."""
    numbers = range(ROWS)
    content = {
        "time": [10**9 * number for number in numbers],
        "target": [f"service-{number // 3 % 7 + number // 40_000}" for number in numbers],
        "name": ["replicas"] * ROWS,
        "value": [float(number) for number in numbers],
        "unit": ["1"] * ROWS,
        "class": ["actuator"] * ROWS,
        "visibility": ["public"] * ROWS,
    }
    return plain_table(CONTROL_INPUTS, content, "01TEST")


def write(path: Path, rows: pa.Table, cuts: list[int]) -> bytes:
    with TableFile(path, CONTROL_INPUTS) as file:
        for start, end in pairwise([0, *cuts, rows.num_rows]):
            file.add(rows.slice(start, end - start))
    return path.read_bytes()


@pytest.mark.parametrize(
    "cuts", [[1], [ROW_GROUP_ROWS], [ROW_GROUP_ROWS - 1, ROW_GROUP_ROWS + 1], list(range(5000, ROWS, 5000)), [ROWS]]
)
def test_the_bytes_do_not_depend_on_how_rows_came(rows: pa.Table, tmp_path: Path, cuts: list[int]) -> None:
    assert write(tmp_path / "cut", rows, cuts) == write(tmp_path / "whole", rows, [])


def test_row_groups_are_of_one_size_and_know_their_times(rows: pa.Table, tmp_path: Path) -> None:
    write(tmp_path / "whole", rows, [])
    file = pq.ParquetFile(tmp_path / "whole")
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 1000]
    ends = [(group.column(0).statistics.min, group.column(0).statistics.max) for group in groups]
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert file.read().column("value").to_pylist() == list(map(float, range(ROWS)))


def test_a_table_without_rows_has_its_schema(rows: pa.Table, tmp_path: Path) -> None:
    write(tmp_path / "empty", rows.slice(0, 0), [])
    assert pq.read_table(tmp_path / "empty").num_rows == 0
    assert pq.ParquetFile(tmp_path / "empty").schema_arrow.equals(arrow_schema(CONTROL_INPUTS))
