"""Which cells an action really changed, as branches found it: the file that parts headline scores into changed and unchanged.

A *cell* is a feature of an entity, over the control step that ends a horizon after the request of an action. Which group it is in was
decided by branches of that decision (twins that lived on with and without the action, under fresh randomness), never by the run whose
forecasts are scored. In: `effect_cells.parquet`, in a campaign's directory or in those of its runs. Out: groups by cell.

Upstream: the counterfactuals of a campaign write it (`write_cells`). Downstream: `headline`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.engine.errors import DatasetError

__all__ = ("EFFECT_CELLS_FILE", "EFFECT_CELLS_SCHEMA", "CellKey", "EffectCell", "Group", "read_cells", "write_cells")

EFFECT_CELLS_FILE = "effect_cells.parquet"
Group: TypeAlias = Literal["changed", "unchanged", "undecided"]


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})


EFFECT_CELLS_SCHEMA = pa.schema(
    [
        _field("run_id", pa.string(), "", "the run in which the action was taken"),
        _field("action_id", pa.string(), "", "the decision in `actions.parquet`"),
        _field("kind", pa.string(), "", "node or edge"),
        _field("entity", pa.string(), "", "a service, or source->target"),
        _field("feature", pa.string(), "", "column of `node_features.parquet` or `edge_features.parquet`"),
        _field(
            "time",
            pa.timestamp("us", "UTC"),
            "UTC",
            "start of the control step that ends `horizon_s` after the request",
        ),
        _field("horizon_s", pa.int64(), "s", "from the request to the end of that control step"),
        _field("group", pa.string(), "", "changed, unchanged (shown to be within the threshold) or undecided"),
        _field("n_branches", pa.int64(), "1", "branches per arm"),
    ]
)
"""Columns of `effect_cells.parquet`; rows are sorted by all of them in this order."""


class EffectCell(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the file; `time_us` is `time` in microseconds since the epoch."""

    run_id: str
    action_id: str
    kind: Literal["node", "edge"]
    entity: str
    feature: str
    time_us: int
    horizon_s: int
    group: Group
    n_branches: int


class CellKey(NamedTuple):
    """What identifies a cell."""

    run_id: str
    action_id: str
    entity: str
    feature: str
    horizon_s: int


def write_cells(directory: Path, cells: Iterable[EffectCell]) -> Path:
    """Write the file into a directory, sorted, and return where it is."""
    rows = sorted(msgspec.structs.astuple(cell) for cell in cells)
    columns = list(zip(*rows, strict=True)) or [()] * len(EFFECT_CELLS_SCHEMA)
    arrays = [_array(values, field) for values, field in zip(columns, EFFECT_CELLS_SCHEMA, strict=True)]
    path, draft = directory / EFFECT_CELLS_FILE, directory / f".{EFFECT_CELLS_FILE}"
    pq.write_table(pa.Table.from_arrays(arrays, schema=EFFECT_CELLS_SCHEMA), draft, compression="zstd")
    return draft.replace(path)


def _array(values: Sequence[object], field: pa.Field) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        return pa.array(values, pa.int64()).cast(field.type)
    return pa.array(values, field.type)


def read_cells(directories: Iterable[Path]) -> Mapping[CellKey, Group]:
    """Return the group of every cell that a file in one of the directories names; nothing where there is no file.

    Raises: DatasetError: a file can't be read, lacks a column, or names a group that there isn't.
    """
    found: dict[CellKey, Group] = {}
    for directory in directories:
        path = directory / EFFECT_CELLS_FILE
        if path.is_file():
            found.update(_read(path))
    return found


def _read(path: Path) -> dict[CellKey, Group]:
    names = [*CellKey._fields, "group"]
    try:
        table = pq.read_table(path, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} can't be read: {error}\n  `ocg campaign counterfactual` writes it anew") from error
    missing = sorted(set(names) - set(table.column_names))
    if missing:
        raise DatasetError(f"{path} has no column {', '.join(missing)}\n  `ocg campaign counterfactual` writes it anew")
    groups = table["group"].to_pylist()
    unknown = sorted(set(groups) - set(get_args(Group)))
    if unknown:
        raise DatasetError(f"{path}: group {', '.join(unknown)}: a cell is {', '.join(get_args(Group))}")
    keys = zip(*(table[name].to_pylist() for name in CellKey._fields), strict=True)
    return {CellKey(*key): group for key, group in zip(keys, groups, strict=True)}
