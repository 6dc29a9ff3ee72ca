"""Parquet files are laid out for reading by time: a filter on it leaves most of a long file unread."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.projections import write_dataset
from otel_control_gym.projections.schemas import NODE_FEATURES, ROW_GROUP_ROWS, TABLES


@pytest.fixture(scope="module")
def long_run(log_of: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hours of three services, a bucket a second."""
    directory = tmp_path_factory.mktemp("data") / "run_LONG"
    entries = log_of([], [7200], scrape_interval_seconds=1, observation_bucket_seconds=1)
    write_dataset(entries, directory)
    return directory


def test_a_time_filter_reads_the_row_groups_of_that_time_alone(long_run: Path, at: Callable[[float], int]) -> None:
    dataset = ds.dataset(long_run / "node_features.parquet")
    fragment = next(dataset.get_fragments())
    assert fragment.num_row_groups == -(-7200 * 3 // ROW_GROUP_ROWS) == 3
    start = datetime.fromtimestamp(at(3600) / SECOND, UTC)
    span = (pc.field("time") >= pa.scalar(start)) & (pc.field("time") < pa.scalar(start + timedelta(minutes=5)))
    assert [group.id for part in fragment.split_by_row_group(span) for group in part.row_groups] == [1]
    assert dataset.to_table(filter=span).num_rows == 300 * 3


def test_no_row_group_begins_before_the_end_of_the_one_before_it(long_run: Path) -> None:
    metadata = pq.read_metadata(long_run / "node_features.parquet")
    times = [metadata.row_group(group).column(0).statistics for group in range(metadata.num_row_groups)]
    assert all(before.max <= after.min for before, after in pairwise(times))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_file_says_by_what_it_is_sorted_and_is_compressed_by_zstd(long_run: Path, table: Any) -> None:
    metadata = pq.read_metadata(long_run / table.file)
    schema = pq.read_schema(long_run / table.file)
    if metadata.num_rows == 0:
        assert table is not NODE_FEATURES
        return
    group = metadata.row_group(0)
    named = [group.column(column.column_index).path_in_schema for column in group.sorting_columns]
    assert named == list(table.order)
    assert {group.column(column).compression for column in range(group.num_columns)} == {"ZSTD"}
    for column in table.columns:
        assert pa.types.is_dictionary(schema.field(column.name).type) == (column.type == "id")
