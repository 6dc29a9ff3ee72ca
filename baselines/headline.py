"""The headline, of a file of predictions alone: error of the model that knows the action over that of its twin that doesn't.

In: `predictions.parquet`, as `ocg baseline evaluate next-state --predictions FILE` writes it. Out: ratios with intervals, on cells that
the action changed and on cells that it left alone. Below 1 knowing the action helped. Nothing else is needed, so that anybody can reckon
them again:

    action_conditioned_over_passive(pq.read_table("predictions.parquet"), strata=("randomised",))

An error is |y_true - y| / scale; it is averaged within (application, entity, feature), then over these, then over features (`intervals`).
The groups come from branches (`effect_cells`), never from the runs that are scored. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from otel_control_gym.baselines.channels import GROUPS
from otel_control_gym.baselines.intervals import Interval, family_scores, ratio_interval

__all__ = ("PREDICTIONS_SCHEMA", "Ratio", "action_conditioned_over_passive", "ratios_by")

Float = npt.NDArray[np.float64]


def _field(name: str, kind: pa.DataType, unit: str, description: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "description": description})


_NAME = pa.dictionary(pa.int32(), pa.string())
PREDICTIONS_SCHEMA = pa.schema(
    [
        _field("run_id", _NAME, "", "the run"),
        _field("family_id", _NAME, "", "its family: what is drawn in a bootstrap"),
        _field("configuration", _NAME, "", "the application"),
        _field("stratum", _NAME, "", "of the campaign's plan"),
        _field("action_id", _NAME, "", "the decision"),
        _field("action_type", _NAME, "", "what was asked for"),
        _field("time", pa.timestamp("us", "UTC"), "UTC", "start of the control step that is foretold"),
        _field("horizon_s", pa.int64(), "s", "from the request to the end of that control step"),
        _field("kind", _NAME, "", "node or edge"),
        _field("entity", _NAME, "", "a service, or source->target"),
        _field("feature", _NAME, "", "what is foretold"),
        _field("model", _NAME, "", "model class"),
        _field("method", _NAME, "", "direct, or rolled: step by step"),
        _field("y_true", pa.float64(), "as the feature", "mean over the control step"),
        _field("y_ac", pa.float64(), "as the feature", "foretold with the action known"),
        _field("y_passive", pa.float64(), "as the feature", "foretold without"),
        _field("y_persistence", pa.float64(), "as the feature", "the last control step's"),
        _field("scale", pa.float64(), "as the feature", "persistence's mean absolute error on training families"),
        _field("group", _NAME, "", "changed, unchanged or undecided, by branches that aren't scored"),
    ]
)
"""Columns of the file."""


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """Error of the action-conditioned model over the passive one's; null where nothing was scored."""

    ratio: float | None
    low: float | None
    high: float | None
    families: int
    cells: int  #: predictions
    detectable: float | None  #: smallest difference from 1 that such a set finds in four of five times
    too_few: bool  #: fewer than twelve families: no claim


def action_conditioned_over_passive(
    predictions: pa.Table,
    *,
    model: str = "boosted",
    method: str = "direct",
    strata: Collection[str] | None = None,
    horizons_s: Collection[int] | None = None,
) -> dict[str, Ratio]:
    """Return the ratio on cells that were changed, and on cells that weren't.

    Args:
        predictions: the file.
        model: model class.
        method: direct or rolled.
        strata: of the campaign's plan; None: all.
        horizons_s: None: all of them.
    """
    chosen = _chosen(predictions, model, method, strata, horizons_s)
    return {group: _ratio(chosen.filter(pc.equal(_text(chosen, "group"), group))) for group in ("changed", "unchanged")}


def ratios_by(
    predictions: pa.Table,
    column: str,
    *,
    model: str = "boosted",
    method: str = "direct",
    strata: Collection[str] | None = None,
    horizons_s: Collection[int] | None = None,
) -> dict[str, dict[str, Ratio]]:
    """Return the same by `configuration`, `action_type`, `horizon_s`, `kind` or `feature_group`, as {level: {group: ratio}}."""
    chosen = _chosen(predictions, model, method, strata, horizons_s)
    if column == "feature_group":
        of_feature = {feature: group for group, features in GROUPS.items() for feature in features}
        values = [of_feature[feature] for feature in chosen["feature"].to_pylist()]
    else:
        values = [str(value) for value in chosen[column].to_pylist()]
    levels, names = pa.array(values, pa.string()), sorted(set(values))
    return {
        name: action_conditioned_over_passive(chosen.filter(pc.equal(levels, name)), model=model, method=method)
        for name in names
    }


def _chosen(
    predictions: pa.Table,
    model: str,
    method: str,
    strata: Collection[str] | None,
    horizons_s: Collection[int] | None,
) -> pa.Table:
    wanted = pc.and_(pc.equal(_text(predictions, "model"), model), pc.equal(_text(predictions, "method"), method))
    if strata is not None:
        wanted = pc.and_(wanted, pc.is_in(_text(predictions, "stratum"), pa.array(sorted(strata), pa.string())))
    if horizons_s is not None:
        wanted = pc.and_(wanted, pc.is_in(predictions["horizon_s"], pa.array(sorted(horizons_s), pa.int64())))
    return predictions.filter(wanted)


def _text(table: pa.Table, column: str) -> Any:
    return table[column].cast(pa.string())


def _ratio(rows: pa.Table) -> Ratio:
    columns: Mapping[str, Float] = {
        name: rows[name].to_numpy().astype(np.float64) for name in ("y_true", "y_ac", "y_passive", "scale")
    }
    errors = np.stack([np.abs(columns[name] - columns["y_true"]) / columns["scale"] for name in ("y_ac", "y_passive")])
    known = np.isfinite(errors).all(axis=0)
    kept = rows.filter(pa.array(known))
    cells = list(zip(kept["configuration"].to_pylist(), kept["entity"].to_pylist(), strict=True))
    scores = family_scores(kept["family_id"].to_pylist(), cells, kept["feature"].to_pylist(), errors[:, known])
    return _as_ratio(ratio_interval(scores, 0, 1), len(kept))


def _as_ratio(interval: Interval, cells: int) -> Ratio:
    return Ratio(
        ratio=interval.value,
        low=interval.low,
        high=interval.high,
        families=interval.families,
        cells=cells,
        detectable=interval.detectable,
        too_few=interval.too_few,
    )
