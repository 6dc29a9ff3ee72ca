"""A workload's name or file ➜ its record, with the traces that it replays read into it.

In: a name or path; a CSV or Parquet file that a `replay` names. Out: a workload that needs no file any more: where it said `replay`, it
has `points`. So a run's log, a branch and a worker on another machine have all there is.

A trace is checked before anything is made of it: its columns are there and hold numbers (or time stamps), its times ascend, no value is
missing, negative or infinite. Many rows become means of equally many neighbours, because a run can't follow every one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from otel_control_gym.engine.configuration_files import find, label_of, read
from otel_control_gym.engine.errors import ConfigurationError, nearest
from otel_control_gym.engine.settings import (
    Points,
    Product,
    Replay,
    ServiceConfiguration,
    Shape,
    Sum,
    TimeUnit,
    Workload,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Numbers = npt.NDArray[np.float64]

__all__ = ("MOST_POINTS", "load_workload", "without_absent_flows")

MOST_POINTS: Final = 1000  #: that a trace becomes
_SECONDS: Final[dict[TimeUnit, float]] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}


def load_workload(reference: str | Path, *, beside: Path | None = None) -> tuple[Workload, str]:
    """Return the workload that a name or path stands for, its traces read, and the label of its file for messages.

    Args:
        beside: folder of the file that mentions the reference; paths are relative to it, names are looked for in it first.

    Raises:
        UsageError: there is no such file.
        ConfigurationError: the file isn't YAML or doesn't fit the record, or a trace can't be read or replayed.
    """
    file = find("workloads", str(reference), beside)
    workload = read(file, Workload)
    if workload.shape is None:
        return workload, label_of(file)
    reader = _TraceReader(file, workload)
    return msgspec.structs.replace(workload, shape=reader.without_files(workload.shape, "shape")), label_of(file)


def without_absent_flows(workload: Workload, services: ServiceConfiguration) -> Workload:
    """Return a workload whose mix names no flow that the application lacks, if it says that this is to be ignored; else itself."""
    if workload.absent_flows == "refuse":
        return workload

    def there(mix: dict[str, float]) -> dict[str, float]:
        return {flow: weight for flow, weight in mix.items() if flow in services.flows}

    changes = tuple(msgspec.structs.replace(change, mix=there(change.mix)) for change in workload.mix_changes)
    return msgspec.structs.replace(workload, mix=there(workload.mix), mix_changes=changes)


class _TraceReader:
    """Reads the traces of one workload's file."""

    def __init__(self, file: Path | Traversable, workload: Workload) -> None:
        self._file = file
        self._base = workload.users if workload.arrivals == "closed" else workload.rate_per_s

    def without_files(self, shape: Shape, key: str) -> Shape:
        """Return a shape with points in place of every trace."""
        match shape:
            case Replay():
                return self._points(shape, key)
            case Sum(parts=parts) | Product(parts=parts):
                read_parts = (self.without_files(part, f"{key}.parts[{number}]") for number, part in enumerate(parts))
                return msgspec.structs.replace(shape, parts=tuple(read_parts))
            case _:
                return shape

    def _points(self, shape: Replay, key: str) -> Points:
        import numpy as np

        table = self._table(shape, key)
        times = self._column(table, shape.time_column, f"{key}.time_column", _as_seconds(shape.time_unit))
        rates = self._column(table, shape.rate_column, f"{key}.rate_column", _as_numbers)
        falls = np.flatnonzero(np.diff(times) <= 0)
        if len(falls):
            problem = f"{shape.file} isn't in ascending order of time: row {falls[0] + 2} isn't after the row before"
            self._refuse(f"{key}.time_column", shape.time_column, problem, "sort the file, one row for each time")
        if rates.min(initial=0.0) < 0:
            problem = f"{shape.file} has a rate below 0 in row {int(rates.argmin()) + 1}"
            self._refuse(f"{key}.rate_column", shape.rate_column, problem, "use rates of 0 or more")
        times, rates = self._cut(times, rates, shape, key)
        times, rates = _thinned(times, rates)
        unit = self._unit(times, rates, shape, key)
        pairs = zip(times - times[0], rates / unit, strict=True)
        points = tuple((round(float(at), 3), round(float(factor), 6)) for at, factor in pairs)
        return Points(points=points, stretch_to_horizon=shape.stretch_to_horizon)

    def _table(self, shape: Replay, key: str) -> pa.Table:
        import pyarrow as pa
        from pyarrow import csv, parquet

        readers: dict[str, Callable[[Any], pa.Table]] = {".csv": csv.read_csv, ".parquet": parquet.read_table}
        suffix = Path(shape.file).suffix
        if suffix not in readers:
            self._refuse(f"{key}.file", shape.file, "neither CSV nor Parquet", "name a .csv or a .parquet file")
        try:
            with resources.as_file(self._beside(shape.file)) as path:
                if not path.is_file():
                    raise FileNotFoundError("there is no such file")
                return readers[suffix](path)
        except OSError as error:
            problem, remedy = f"can't be read: {error}", "paths are relative to the workload's file"
            self._refuse(f"{key}.file", shape.file, problem, remedy)
        except pa.ArrowInvalid as error:
            self._refuse(f"{key}.file", shape.file, f"can't be read: {error}", "name a table with a head")

    def _beside(self, name: str) -> Path | Traversable:
        if isinstance(self._file, Path):
            return self._file.parent / name
        return resources.files("otel_control_gym.configs") / "workloads" / name

    def _column(self, table: pa.Table, name: str, key: str, numbers: Callable[[pa.ChunkedArray], Numbers]) -> Numbers:
        import numpy as np
        import pyarrow as pa

        if name not in table.column_names:
            self._refuse(key, name, "the file has no such column", nearest(name, table.column_names))
        column = table.column(name)
        if not len(column):
            self._refuse(key, name, "the file has no rows", "give it at least two")
        if column.null_count:
            row = column.is_null().index(True).as_py() + 1
            self._refuse(key, name, f"the value of row {row} is missing", "fill it, or leave the row out")
        try:
            found = numbers(column)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            problem = f"the column holds {column.type}"
            self._refuse(key, name, problem, "use numbers, or for times also time stamps")
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found))[0]) + 1
            self._refuse(key, name, f"the value of row {row} isn't a finite number", "fill it, or leave the row out")
        return found

    def _cut(self, times: Numbers, rates: Numbers, shape: Replay, key: str) -> tuple[Numbers, Numbers]:
        since = times - times[0]
        kept = since >= shape.from_seconds
        if shape.to_seconds is not None:
            kept &= since <= shape.to_seconds
        if kept.sum() < 2:
            problem = f"leaves {kept.sum()} rows of {len(times)}, which span {since[-1]:g} s"
            name = "from_seconds" if shape.to_seconds is None else "to_seconds"
            self._refuse(f"{key}.{name}", getattr(shape, name), problem, "leave at least two rows")
        return times[kept], rates[kept]

    def _unit(self, times: Numbers, rates: Numbers, shape: Replay, key: str) -> float:
        """Return which rate is factor 1."""
        import numpy as np

        match shape.scale:
            case "mean":
                unit = float(np.trapezoid(rates, times) / (times[-1] - times[0]))
            case "peak":
                unit = float(rates.max())
            case "absolute":
                if not self._base:
                    problem = (
                        "the workload's own users (of open arrivals: its rate) are 0, so nothing says what a factor is"
                    )
                    self._refuse(
                        f"{key}.scale", shape.scale, problem, "give it some; the file's values stay what they are"
                    )
                unit = float(self._base)
        if not unit:
            self._refuse(f"{key}.scale", shape.scale, "all rates of the file are 0", "use scale: absolute")
        return unit

    def _refuse(self, key: str, found: object, problem: str, remedy: str) -> NoReturn:
        raise ConfigurationError(file=label_of(self._file), key=key, found=found, problem=problem, remedy=remedy)


def _as_numbers(column: pa.ChunkedArray) -> Numbers:
    import pyarrow as pa

    found: Numbers = column.cast(pa.float64()).to_numpy()
    return found


def _as_seconds(unit: TimeUnit) -> Callable[[pa.ChunkedArray], Numbers]:
    """Return what makes seconds of a column of times: numbers in a unit, or time stamps."""

    def seconds(column: pa.ChunkedArray) -> Numbers:
        import pyarrow as pa

        if pa.types.is_timestamp(column.type):
            whole = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64()).to_numpy()
            return _as_numbers(pa.chunked_array([whole - whole[0]])) * _SECONDS["ns"] if len(whole) else whole
        return _as_numbers(column) * _SECONDS[unit]

    return seconds


def _thinned(times: Numbers, rates: Numbers) -> tuple[Numbers, Numbers]:
    """Return means of equally many neighbouring rows, so many that few enough are left; the last may be of fewer."""
    import numpy as np

    together = -(-len(times) // MOST_POINTS)
    if together == 1:
        return times, rates
    starts = np.arange(0, len(times), together)
    counts = np.diff([*starts, len(times)])
    return np.add.reduceat(times, starts) / counts, np.add.reduceat(rates, starts) / counts
