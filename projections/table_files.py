"""Tables ➜ Parquet files, row group by row group.

In: the rows of a table, stretch by stretch, in the table's order. Out: a file whose bytes depend on the rows alone: row groups have a
fixed number of rows, however many came at once, and each row group its own dictionaries. So a long table is written with the memory of
one row group.

Reading by time skips row groups: the first column is the time, and each row group's metadata has its least and greatest.
Upstream: `projections.tables`. Downstream: `projections.dataset`.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.projections.schemas import ROW_GROUP_ROWS, TableSchema
from otel_control_gym.projections.tables import arrow_schema, encoded

__all__ = ("LEVEL", "TableFile")

LEVEL = 3  #: of zstd, in all files of a dataset


class TableFile:
    """A Parquet file that is being written; a context manager."""

    def __init__(self, path: Path, schema: TableSchema) -> None:
        self._schema = schema
        self._waiting: list[pa.Table] = []
        self._rows = 0
        columns = arrow_schema(schema)
        order = [(name, "ascending") for name in schema.order]
        self._writer = pq.ParquetWriter(
            path,
            columns,
            sorting_columns=pq.SortingColumn.from_ordering(columns, order, null_placement="at_end"),
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=True,
            write_statistics=True,
            version="2.6",
            data_page_version="1.0",
        )

    def __enter__(self) -> TableFile:
        """Return the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what waits, unless something went wrong, and close the file."""
        try:
            if error is None and self._rows:
                self._write(pa.concat_tables(self._waiting))
        finally:
            self._writer.close()

    def add(self, rows: pa.Table) -> None:
        """Add rows as `tables.plain_table` gives them."""
        self._waiting.append(rows)
        self._rows += rows.num_rows
        if self._rows >= ROW_GROUP_ROWS:
            together = pa.concat_tables(self._waiting)
            whole = self._rows - self._rows % ROW_GROUP_ROWS
            for first in range(0, whole, ROW_GROUP_ROWS):
                self._write(together.slice(first, ROW_GROUP_ROWS))
            self._waiting, self._rows = [together.slice(whole)], self._rows - whole

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(encoded(rows, self._schema), row_group_size=ROW_GROUP_ROWS)
