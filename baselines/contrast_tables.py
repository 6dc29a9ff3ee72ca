"""Contrasts on disk: what an action and a fault do alone and together, and whether one can be told from the other.

In: rows, or the files. Out: in a campaign's directory `factorial.parquet` (a row per branch of four: neither, action, fault, both) and
`matched.parquet` (a row per branch and cell: an action and a fault of like symptom, at the same service and moment).

Upstream: `ocg campaign contrast` plays them. Downstream: `contrasts`, `cause_model`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, get_args

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.baselines.counterfactual_tables import encoded, write_table
from otel_control_gym.engine.errors import DatasetError

__all__ = (
    "ARMS",
    "CONTRASTED_FEATURES",
    "FACTORIAL_FILE",
    "FACTORIAL_SCHEMA",
    "MATCHED_FILE",
    "MATCHED_SCHEMA",
    "FactorialArm",
    "FactorialBranch",
    "MatchedCell",
    "read_factorial",
    "read_matched",
    "write_rows",
)

FACTORIAL_FILE = "factorial.parquet"
MATCHED_FILE = "matched.parquet"
FactorialArm: TypeAlias = Literal["neither", "action", "fault", "both"]
ARMS: tuple[FactorialArm, ...] = get_args(FactorialArm)
CONTRASTED_FEATURES: tuple[str, ...] = (
    "request_rate",
    "error_ratio",
    "latency_mean_ms",
    "cpu_usage_cores",
    "cpu_saturation",
    "memory_usage_bytes",
    "network_rx_bytes_per_s",
    "network_tx_bytes_per_s",
    "replicas_ready",
    "restarts",
)
"""What is measured of matched branches, beside users' satisfaction."""


class FactorialBranch(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A row of `factorial.parquet`."""

    run_id: str
    number: int
    arm: FactorialArm
    family_id: str
    stratum: str
    fault_type: str
    action_type: str
    target: str
    reward: float


class MatchedCell(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A row of `matched.parquet`."""

    run_id: str
    comparison: str
    number: int
    cause: Literal["action", "fault"]
    strength: str
    place: Literal["target", "entry"]
    feature: str
    step: int
    family_id: str
    target: str
    value: float


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})


_ID = pa.dictionary(pa.int32(), pa.string())

FACTORIAL_SCHEMA = pa.schema(
    [
        _field("run_id", _ID, "", "the run that was branched before its fault"),
        _field("number", pa.int64(), "1", "of the future; the four arms of a number share their draws of chance"),
        _field("arm", _ID, "", "neither, action, fault, both"),
        _field("family_id", _ID, "", "the run's family"),
        _field("stratum", _ID, "", "what the run was for"),
        _field("fault_type", _ID, "", "the run's fault"),
        _field("action_type", _ID, "", "the run's action"),
        _field("target", _ID, "", "the action's target; empty: none"),
        _field("reward", pa.float64(), "reward", "sum over the control steps from the action's moment on"),
    ]
)
"""Columns of `factorial.parquet`; rows are sorted by the first three."""

MATCHED_SCHEMA = pa.schema(
    [
        _field("run_id", _ID, "", "the run without fault and action that was branched"),
        _field("comparison", _ID, "", "scale-down or cpu_pressure; bad rollout or bad_config"),
        _field("number", pa.int64(), "1", "of the future; branches of a number share their draws of chance"),
        _field("cause", _ID, "", "action or fault: what is to be told from the rest"),
        _field("strength", _ID, "", "of the cause; branches are matched on symptom over strengths"),
        _field("place", _ID, "", "target: the service aimed at; entry: the objective's service"),
        _field("feature", _ID, "", "column of `node_features.parquet`, or slo_satisfaction"),
        _field("step", pa.int64(), "1", "control step, counted from the cause; below 0: before it"),
        _field("family_id", _ID, "", "the run's family"),
        _field("target", _ID, "", "the service aimed at"),
        _field("value", pa.float64(), "the feature's", "mean over the known buckets of that control step"),
    ]
)
"""Columns of `matched.parquet`; rows are sorted by the first eight; a cell of which nothing is known has no row."""

RowT = TypeVar("RowT", FactorialBranch, MatchedCell)


def write_rows(rows: Iterable[RowT], schema: pa.Schema, path: Path) -> None:
    """Write rows, sorted; the file is there whole or not at all.

    Raises: DatasetError: it can't be written.
    """
    ordered = [msgspec.structs.astuple(row) for row in sorted(rows)]
    columns = dict(zip(schema.names, map(list, zip(*ordered, strict=True)), strict=True))
    write_table(encoded(pa.table(columns), schema), path)


def read_factorial(directory: Path) -> list[FactorialBranch]:
    """Return the branches of four of a campaign.

    Raises: DatasetError: there are none, or the file can't be read.
    """
    return _read(directory / FACTORIAL_FILE, FactorialBranch)


def read_matched(directory: Path) -> list[MatchedCell]:
    """Return the cells of matched causes of a campaign.

    Raises: DatasetError: there are none, or the file can't be read.
    """
    return _read(directory / MATCHED_FILE, MatchedCell)


def _read(path: Path, kind: type[RowT]) -> list[RowT]:
    try:
        return [msgspec.convert(row, kind) for row in pq.read_table(path).to_pylist()]
    except (OSError, pa.ArrowException, msgspec.ValidationError) as error:
        raise DatasetError(f"{path} can't be read: {error}\n  `ocg campaign contrast` writes it") from error
