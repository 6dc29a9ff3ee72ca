"""Paired branches of a campaign's decisions on disk: what came of each alternative, under the same draws of chance.

In: rows, or the files. Out: `counterfactuals.parquet` (a row per branch: what was done, and the reward) and
`counterfactual_cells.parquet` (a row per branch and cell: what was measured), in a campaign's directory. Branches of one `pair_id`
share run, decision and randomness, and differ by the alternative alone. All of it is truth: a model may learn from the branches of
train families only, and the branches that decided which cells changed (`effect_cells.parquet`) are none of these.

Upstream: `ocg campaign counterfactual` plays them. Downstream: `branched_decisions`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.engine.errors import DatasetError

__all__ = (
    "CELLS_FILE",
    "CELLS_SCHEMA",
    "COUNTERFACTUALS_FILE",
    "COUNTERFACTUALS_SCHEMA",
    "HORIZONS",
    "CounterfactualBranch",
    "branches_table",
    "encoded",
    "read_branches",
    "write_table",
)

COUNTERFACTUALS_FILE = "counterfactuals.parquet"
CELLS_FILE = "counterfactual_cells.parquet"
HORIZONS: tuple[int, ...] = (1, 3, 10)  #: in control steps, over which rewards are summed


class CounterfactualBranch(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `counterfactuals.parquet`: one alternative at one decision, in one future."""

    pair_id: str
    run_id: str
    family_id: str
    stratum: str
    service_config: str
    decision_step: int
    time_us: int
    action_id: str
    alternative_index: int
    alternative: str
    action_type: str
    target: str | None
    is_logged: bool
    probability: float | None
    number: int
    step_s: int
    horizon_s: int
    reward_1: float | None
    reward_3: float | None
    reward_10: float | None
    status: str
    done_reason: str | None

    @property
    def rewards(self) -> tuple[float | None, ...]:
        """Sums of the rewards over `HORIZONS`."""
        return (self.reward_1, self.reward_3, self.reward_10)


def _field(name: str, kind: pa.DataType, unit: str, description: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": description})


_ID = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("us", "UTC")

COUNTERFACTUALS_SCHEMA = pa.schema(
    [
        _field("pair_id", pa.string(), "", "branches that share their draws of chance: run, decision step, number"),
        _field("run_id", _ID, "", "the run that was branched"),
        _field("family_id", _ID, "", "its family: the unit that splits keep together and intervals are drawn over"),
        _field("stratum", _ID, "", "what the run was for"),
        _field("service_config", _ID, "", "its application"),
        _field("decision_step", pa.int64(), "1", "decision at which the branches part, counted from 0"),
        _field("time", _TIME, "UTC", "when it was due"),
        _field("action_id", _ID, "", "the run's own decision there, in its `actions.parquet`"),
        _field("alternative_index", pa.int64(), "1", "number of the alternative within the decision; 0 is `noop`"),
        _field("alternative", pa.string(), "JSON", "what was done, as `env.step` takes it; nothing was done after it"),
        _field("action_type", _ID, "", "its type"),
        _field("target", _ID, "", "its target; null: it has none", nullable=True),
        _field("is_logged", pa.bool_(), "", "the run itself did this"),
        _field(
            "probability",
            pa.float64(),
            "1",
            "with which the policy would have done it; null: not logged",
            nullable=True,
        ),
        _field("number", pa.int64(), "1", "of the future; below 1000000, from where on branches classify"),
        _field("step_s", pa.int64(), "s", "length of a control step"),
        _field("horizon_s", pa.int64(), "s", "how long the branch was to be lived"),
        *(
            _field(
                f"reward_{steps}",
                pa.float64(),
                "reward",
                f"sum over the first {steps} control steps; null: the branch was shorter",
                nullable=True,
            )
            for steps in HORIZONS
        ),
        _field("status", _ID, "", "of the alternative when it was last heard of"),
        _field("done_reason", _ID, "", "why the episode was done within the horizon; null: it wasn't", nullable=True),
    ]
)
"""Columns of `counterfactuals.parquet`; rows are sorted by run, decision step, number and alternative."""

CELLS_SCHEMA = pa.schema(
    [
        _field("pair_id", _ID, "", "as in counterfactuals.parquet"),
        _field("alternative_index", pa.int64(), "1", "as in counterfactuals.parquet"),
        _field("kind", _ID, "", "node or edge"),
        _field("entity", _ID, "", "a service, or source->target"),
        _field("feature", _ID, "", "column of the feature tables, or slo_satisfaction of the objective's service"),
        _field("time", _TIME, "UTC", "start of the control step that ends `horizon_s` after the decision"),
        _field("horizon_s", pa.int64(), "s", "from the decision to the end of that control step"),
        _field("value", pa.float64(), "the feature's", "mean over the known buckets of that control step"),
    ]
)
"""Columns of `counterfactual_cells.parquet`; a cell of which nothing is known has no row."""


def branches_table(branches: Iterable[CounterfactualBranch]) -> pa.Table:
    """Return branches as a table of `COUNTERFACTUALS_SCHEMA`, sorted."""
    ordered = sorted(branches, key=lambda row: (row.run_id, row.decision_step, row.number, row.alternative_index))
    rows = [msgspec.structs.asdict(row) for row in ordered]
    columns = {
        field.name: [row["time_us" if field.name == "time" else field.name] for row in rows]
        for field in COUNTERFACTUALS_SCHEMA
    }
    return encoded(pa.table(columns), COUNTERFACTUALS_SCHEMA)


def encoded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the types of a schema: texts become dictionaries in order of appearance, microseconds times."""
    return pa.Table.from_arrays([_encoded(table[field.name], field.type) for field in schema], schema=schema)


def _encoded(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(kind):
        return column.combine_chunks().cast(kind.value_type).dictionary_encode()
    return column.cast(kind)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table, under another name first, so that a file is there whole or not at all.

    Raises: DatasetError: it can't be written.
    """
    draft = path.with_name(f".{path.name}")
    try:
        pq.write_table(table, draft, compression="zstd", compression_level=3)
        draft.replace(path)
    except OSError as error:
        raise DatasetError(f"{path} can't be written: {error.strerror or error}") from error


def read_branches(directory: Path) -> list[CounterfactualBranch]:
    """Return the branches of a campaign, sorted.

    Raises: DatasetError: there are none, or the file can't be read.
    """
    path = directory / COUNTERFACTUALS_FILE
    if not path.is_file():
        raise DatasetError(
            f"{directory} has no {COUNTERFACTUALS_FILE}\n"
            f"  `ocg campaign counterfactual {directory.name.removeprefix('campaign=')}` plays the branches"
        )
    try:
        table = pq.read_table(path, schema=COUNTERFACTUALS_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} can't be read: {error}\n  `ocg campaign counterfactual` writes it anew") from error
    times = table["time"].cast(pa.int64()).to_pylist()
    return [
        CounterfactualBranch(**{name: value for name, value in row.items() if name != "time"}, time_us=time)
        for row, time in zip(table.to_pylist(), times, strict=True)
    ]
