"""Parquet files of runs ➜ one lazily read table.

In: run directories, of any contract version up to today's, and what is asked for: a span of time, columns, truth or not. Out: a
`RunTable`, which reads nothing until it is turned into something, and then only the row groups and columns that are asked for. It speaks
Arrow's C stream interface, so DuckDB, Polars and pandas take it as it is.

A column that an older contract didn't have is null; a table that it didn't have is empty. Rows of the truth stream, and tables that are
truth altogether, are there with `truth` only.

Blocking. Upstream: `projections.dataset` writes the files. Downstream: `engine.runs`, `engine.campaigns`, `engine.run_windows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from otel_control_gym.engine.errors import DatasetError, UsageError, nearest
from otel_control_gym.projections import schemas
from otel_control_gym.projections.schemas import TableSchema
from otel_control_gym.projections.tables import arrow_schema

if TYPE_CHECKING:
    import pandas
    import polars

__all__ = ("Moment", "RunTable", "moment_of", "open_table", "table_schema")

Moment = datetime | float | int
"""A point in time: an aware `datetime`, or seconds after the run's start."""


class RunTable:
    """A table of a run, or of all runs of a campaign, that is read when it is asked for.

    `dataset` is the Arrow dataset with the rows that are selected; the other methods also keep to the selected columns. In DuckDB,
    `SELECT … FROM nodes` works where the variable `nodes` holds one, and so does `polars.from_arrow(nodes)`. A file that can't be read
    is a `DatasetError` when it is read.
    """

    def __init__(self, description: TableSchema, dataset: ds.Dataset, columns: Sequence[str] | None = None) -> None:
        self.description = description  #: the contract's words: what a row is, each column's unit, meaning and rule
        self.dataset = dataset
        known = dataset.schema.names
        for name in columns or ():
            if name not in known:
                raise UsageError(f"{description.file} has no column {name!r}\n  {nearest(name, known)}")
        self.columns: tuple[str, ...] = tuple(known if columns is None else columns)

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the selected columns; each field's metadata has unit, description, rule and standing."""
        whole = self.dataset.schema
        return pa.schema([whole.field(name) for name in self.columns], metadata=whole.metadata)

    def filter(self, condition: ds.Expression) -> RunTable:
        """Return the rows that meet an Arrow expression as well, e.g. `pyarrow.compute.field("service") == "cart"`."""
        return RunTable(self.description, self.dataset.filter(condition), self.columns)

    def scanner(self, **options: Any) -> ds.Scanner:
        """Return an Arrow scanner over the selection; `options` go to `pyarrow.dataset.Dataset.scanner`."""
        return self.dataset.scanner(columns=list(self.columns), **options)

    def count_rows(self) -> int:
        """Return the number of rows."""
        with self._reading():
            count: int = self.dataset.count_rows()
        return count

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows in batches, so that a table needn't fit into memory."""
        with self._reading():
            yield from self.scanner().to_batches()

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table, in the order of the files."""
        with self._reading():
            return self.scanner().to_table()

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas data frame; ids are categories, times are in UTC.

        Raises: UsageError: pandas isn't installed.
        """
        _wanted("pandas")
        return self.to_arrow().to_pandas()

    def to_polars(self) -> polars.DataFrame:
        """Return the rows as a Polars data frame.

        Raises: UsageError: Polars isn't installed.
        """
        frame: polars.DataFrame = _wanted("polars").from_arrow(self.to_arrow())
        return frame

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say which table it was that couldn't be read."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{self.description.file} can't be read: {error}\n  `ocg validate` says more") from error

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.scanner().to_reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return f"<{self.description.name}: {self.description.row}; {len(self.columns)} columns>"


def open_table(
    name: str,
    directories: Sequence[Path],
    *,
    columns: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    truth: bool = False,
    base: Path | None = None,
) -> RunTable:
    """Return a table over run directories.

    Args:
        name: the table's, with or without `.parquet`.
        directories: of runs; one whose file isn't there adds nothing.
        columns: which of them, and in which order (default: all).
        start: first moment; of buckets, the first that starts there or later.
        end: first moment after the selection.
        truth: whether rows of the truth stream are there.
        base: what the directories lie under as `key=value` folders, which then are columns too.

    Raises: UsageError: there is no such table or column, or the table has no time.
    """
    table = table_schema(name)
    schema = arrow_schema(table)
    files = [str(directory / table.file) for directory in directories if (directory / table.file).is_file()]
    options: dict[str, Any] = {}
    if base is not None:
        keys = [pa.field(key, pa.string()) for key in ("campaign", "service_config")]
        schema = pa.schema([*schema, *keys], metadata=schema.metadata)
        options = {"partitioning": ds.partitioning(pa.schema(keys), flavor="hive"), "partition_base_dir": str(base)}
    dataset = (
        ds.dataset(files, schema=schema, format="parquet", **options) if files else ds.dataset(schema.empty_table())
    )
    for condition in (*_visible(table, truth=truth), *_span(table, start, end)):
        dataset = dataset.filter(condition)
    return RunTable(table, dataset, columns)


def table_schema(name: str) -> TableSchema:
    """Return the description of a table, with or without `.parquet`.

    Raises: UsageError: there is no such table.
    """
    known = {table.name: table for table in schemas.TABLES}
    wanted = name.removesuffix(".parquet")
    if wanted not in known:
        raise UsageError(f"a run has no table {name!r}\n  {nearest(wanted, known)}")
    return known[wanted]


def moment_of(moment: Moment | None, origin: datetime) -> datetime | None:
    """Return a moment as a time; numbers are seconds after `origin`.

    Raises: UsageError: a time without a zone.
    """
    if moment is None:
        return None
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise UsageError(
                f"{moment}: which zone is that?\n  give `datetime(…, tzinfo=UTC)`, or seconds after the start"
            )
        return moment.astimezone(UTC)
    return origin + timedelta(seconds=moment)


def _visible(table: TableSchema, *, truth: bool) -> Iterator[ds.Expression]:
    """Yield what rows must meet to be shown."""
    if truth:
        return
    if any(column.name == "visibility" for column in table.columns):
        yield pc.field("visibility") == "public"
    elif any(column.standing == "truth" for column in table.columns):
        yield pc.scalar(False)


def _span(table: TableSchema, start: datetime | None, end: datetime | None) -> Iterator[ds.Expression]:
    if start is None and end is None:
        return
    times = [name for name in table.order if name in ("time", "start")]
    if not times:
        raise UsageError(f"{table.file} has no time to select by: a row is {table.row}")
    if start is not None:
        yield pc.field(times[0]) >= pa.scalar(start, pa.timestamp("us", tz="UTC"))
    if end is not None:
        yield pc.field(times[0]) < pa.scalar(end, pa.timestamp("us", tz="UTC"))


def _wanted(package: str) -> Any:
    """Import an optional package.

    Raises: UsageError: it isn't installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UsageError(f"{package} isn't installed\n  `pip install {package}`, or use `.to_arrow()`") from error
