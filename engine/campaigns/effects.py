"""Futures with and without an action ➜ which cells of the telemetry it changed.

In: readings of K pairs of branches, each pair under fresh randomness of its own, and from which size on a difference matters. Out: for
every cell (column, window after the decision) its mean effect and whether it is *changed* (Benjamini-Hochberg q < alpha over all cells, and
the mean effect beyond the feature's threshold), *unchanged* (two one-sided tests put it within the threshold) or *undecided*. Pure.

The two futures of a pair share their draws, the pairs don't: so differences within pairs are independent of each other, and what users
would have done anyway cancels out. Statistics: Student's t over pairs, by scipy.

Upstream: `readings`. Downstream: `certificates`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = (
    "LEAST_BRANCHES",
    "Column",
    "EffectSettings",
    "Effects",
    "FeatureThreshold",
    "Readings",
    "compare_branches",
    "compare_pair",
    "in_windows",
    "lasting",
    "mean_of",
    "measured",
    "summed_columns",
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

LEAST_BRANCHES = 8  #: per arm; with fewer the corrected test can hardly find anything
_FAR = 3.0  #: thresholds that a single window of a single pair must be beyond


class FeatureThreshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From which size on a difference of a feature matters: the larger of `absolute` and `relative` times the mean without the action."""

    absolute: float
    unit: str
    reason: str
    relative: float = 0.0
    summed: bool = False  #: a window's value is the sum over its buckets, not their mean


class EffectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as an effect (`configs/effects/`)."""

    name: str
    alpha: float
    confidence: float
    user_facing: tuple[str, ...]  #: features of the objective's service that users feel
    features: dict[str, FeatureThreshold]
    meant_masked: dict[str, str] = {}  #: kind of action or fault -> why users needn't feel it, however strong it is


class Column(msgspec.Struct, frozen=True, order=True):
    """What is measured in every bucket."""

    entity: str  #: a service, or source->target
    feature: str


class Readings(msgspec.Struct, frozen=True, eq=False):
    """Telemetry of B buckets after a decision."""

    columns: tuple[Column, ...]  #: [C]
    values: Float  #: [B, C]; NaN where nothing is known
    bucket_seconds: int


class Effects(msgspec.Struct, frozen=True, eq=False):
    """What K pairs of futures say of C columns in W windows."""

    columns: tuple[Column, ...]
    bucket_seconds: int
    window_seconds: int
    mean: Float  #: [W, C] mean difference, with - without
    threshold: Float  #: [W, C]
    changed: Bool  #: [W, C]
    unchanged: Bool  #: [W, C]; a cell that is neither is undecided
    by_bucket: Float  #: [K, B, C] difference of each pair in each bucket
    by_window: Float  #: [K, W, C]
    tolerance: Float  #: [B, C] threshold in a bucket
    before: Float | None = None  #: [R, C] windows before the decision, where a run is compared with itself


def compare_branches(
    treated: Sequence[Readings], control: Sequence[Readings], settings: EffectSettings, *, window_seconds: int
) -> Effects:
    """Return what pairs of branches say; `treated[k]` and `control[k]` were drawn from the same randomness."""
    effects = measured(treated, control, settings, window_seconds)
    differences = effects.by_window
    count = len(differences)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = stats.sem(differences, axis=0)
        beyond_chance = 2 * stats.t.sf(np.abs(effects.mean) / error, count - 1)
        within = stats.t.sf((effects.threshold - np.abs(effects.mean)) / error, count - 1)
    # Where all pairs differ by the same, there is no chance in it.
    beyond_chance = np.where(error == 0, np.where(effects.mean == 0, 1.0, 0.0), beyond_chance)
    within = np.where(error == 0, np.where(np.abs(effects.mean) < effects.threshold, 0.0, 1.0), within)
    known = np.isfinite(effects.mean)
    q = np.ones(effects.mean.shape)
    if known.any():
        q[known] = stats.false_discovery_control(beyond_chance[known], method="bh")
    changed = known & (q < settings.alpha) & (np.abs(effects.mean) > effects.threshold)
    return msgspec.structs.replace(effects, changed=changed, unchanged=known & ~changed & (within < settings.alpha))


def compare_pair(treated: Readings, control: Readings, settings: EffectSettings, *, window_seconds: int) -> Effects:
    """Return what one pair of runs says: a cell counts as changed if it is beyond its threshold, and the same is so, to the same side, in a
    neighbouring window, or it is far beyond. That is no test: it can't tell chance from effect where they are of one size, and nothing
    counts as unchanged.
    """
    effects = measured([treated], [control], settings, window_seconds)
    return msgspec.structs.replace(effects, changed=lasting(effects))


def lasting(effects: Effects) -> Bool:
    """Return [W, C]: where the mean is beyond its threshold, and so, to the same side, in a neighbouring window, or is far beyond."""
    with np.errstate(invalid="ignore"):
        side = np.where(np.abs(effects.mean) > effects.threshold, np.sign(effects.mean), 0.0)
        far = np.abs(effects.mean) > _FAR * effects.threshold
    beside = np.zeros(side.shape, bool)
    beside[1:] |= side[1:] == side[:-1]
    beside[:-1] |= side[:-1] == side[1:]
    found: Bool = (side != 0) & (beside | far)
    return found


def measured(
    treated: Sequence[Readings], control: Sequence[Readings], settings: EffectSettings, window_seconds: int
) -> Effects:
    """Return the differences of two arms and what they are measured by; nothing counts as changed yet."""
    first = control[0]
    assert all(readings.columns == first.columns for readings in (*treated, *control))
    with_it, without = (np.stack([readings.values for readings in arm]) for arm in (treated, control))
    per_window = window_seconds // first.bucket_seconds
    windows = with_it.shape[1] // per_window
    thresholds = [settings.features[column.feature] for column in first.columns]
    summed = summed_columns(first.columns, settings)
    one, other = (in_windows(arm, windows, per_window, summed) for arm in (with_it, without))
    usual = mean_of(other, axis=0)
    mean = (one - other).mean(axis=0)  # NaN where a pair doesn't know
    threshold = _threshold(thresholds, usual)
    return Effects(
        columns=first.columns,
        bucket_seconds=first.bucket_seconds,
        window_seconds=window_seconds,
        mean=mean,
        threshold=threshold,
        changed=np.zeros(mean.shape, bool),
        unchanged=np.zeros(mean.shape, bool),
        by_bucket=with_it - without,
        by_window=one - other,
        tolerance=_threshold(thresholds, mean_of(without, axis=0)),
    )


def summed_columns(columns: Sequence[Column], settings: EffectSettings) -> Bool:
    """Return [C]: whether a window's value of a column is the sum over its buckets."""
    return np.array([settings.features[column.feature].summed for column in columns])


def in_windows(arm: Float, windows: int, per_window: int, summed: Bool) -> Float:
    """Return [K, W, C] of [K, B, C]."""
    parts = arm[:, : windows * per_window].reshape(len(arm), windows, per_window, arm.shape[2])
    mean = mean_of(parts, axis=2)
    return np.where(summed, mean * per_window, mean)


def mean_of(values: Float, *, axis: int) -> Float:
    """Return the mean of what is known; NaN where nothing is."""
    count = np.isfinite(values).sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Float = np.nansum(values, axis=axis) / count
    return mean


def _threshold(thresholds: Sequence[FeatureThreshold], usual: Float) -> Float:
    absolute = np.array([threshold.absolute for threshold in thresholds])
    relative = np.array([threshold.relative for threshold in thresholds])
    threshold: Float = np.fmax(absolute, relative * np.abs(usual))
    return threshold
