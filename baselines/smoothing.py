"""The level that goes on from a few steps: exponential smoothing whose constant each series chooses for itself.

In: what is known of series up to a decision. Out: one level each. Beside each other stand smoothers from "the last value" to "the mean
of all", and each is weighed by how near its level was to the next value, step after step of that very stretch: what wanders goes on from
where it is, what fluctuates from its mean, and the same service does the one under a steady load and the other under a rising one. So no
constant of a service would do, however it is learnt: this is what AutoETS gains by fitting every series anew, at the price of ten
additions a series.

Simple exponential smoothing after R. J. Hyndman and G. Athanasopoulos, *Forecasting: Principles and Practice*, 8.1; while a stretch is
young a smoother is the running mean, so that its first value isn't overrated.

Pure. Downstream: `rows`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ("smoothed",)

Float = npt.NDArray[np.float64]

_CONSTANTS = np.array([1.0, 0.8, 0.6, 0.4, 0.25, 0.15, 0.0])  #: of the newest value in a level; 0: the mean of all
_FIRST_SCORED = 3  #: values before which a level isn't scored: of fewer, all smoothers make nearly the same
_SHARPNESS = 12.0  #: a smoother that misses by a tenth more counts for a third
_SHARE_OF_LEAST = 0.3  #: of what nobody cares for, added to each error: a stretch that never moved prefers none


def smoothed(values: Float, least: Float) -> Float:
    """Return the level of each series after its last step, [..., C]; NaN where nothing is known.

    Args:
        values: [L, ..., C] steps, newest last; NaN: unknown, and then the level stays.
        least: [C] differences below which nobody cares.
    """
    levels = np.zeros((len(_CONSTANTS), *values.shape[1:]))
    missed, scored = np.zeros_like(levels), np.zeros(values.shape[1:])
    count = np.zeros(values.shape[1:])
    for value in values:
        known = np.isfinite(value)
        error = np.where(known, value, 0.0) - levels
        counts = known & (count >= _FIRST_SCORED)
        missed += np.where(counts, np.abs(error), 0.0)
        scored += counts
        count += known
        gain = np.fmax(_CONSTANTS.reshape(-1, *[1] * count.ndim), 1.0 / np.fmax(count, 1.0))
        levels += np.where(known, gain * error, 0.0)
    usual = missed / np.fmax(scored, 1.0) + _SHARE_OF_LEAST * least
    weights = (usual.min(axis=0) / usual) ** _SHARPNESS
    level: Float = np.where(count > 0, (weights * levels).sum(axis=0) / weights.sum(axis=0), np.nan)
    return level
