"""Classic histograms ➜ quantiles and shares.

In: the growth of the cumulative buckets, [..., L] for L ascending upper bounds, the last one infinite. Out: a number each.

Observations are taken to be spread evenly within a bucket, so a quantile is a straight line between its bucket's bounds (the rule of
Prometheus' `histogram_quantile`): it is no better than the bucket is narrow. What lies above the last finite bound is put there.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ("FEWEST_OBSERVATIONS", "quantiles", "share_below")

FEWEST_OBSERVATIONS = 20  #: below, a quantile says more about chance than about the service

Float = npt.NDArray[np.float64]


def quantiles(growth: Float, bounds: Float, wanted: tuple[float, ...]) -> Float:
    """Return the quantiles [..., Q] of histograms `growth` [..., L]; NaN where there are fewer than 20 observations."""
    shape = growth.shape[:-1]
    if bounds.size < 2:
        return np.full((*shape, len(wanted)), np.nan)
    counts = np.maximum.accumulate(growth.reshape(-1, bounds.size), axis=1)
    lower, upper = _finite(bounds)
    total = counts[:, -1]
    result = np.full((counts.shape[0], len(wanted)), np.nan)
    rows = np.flatnonzero(total >= FEWEST_OBSERVATIONS)
    for column, share in enumerate(wanted):
        rank = share * total[rows]
        at = np.argmax(counts[rows] >= rank[:, None], axis=1)
        below = np.where(at > 0, counts[rows, np.maximum(at - 1, 0)], 0.0)
        inside = counts[rows, at] - below
        part = np.divide(rank - below, inside, out=np.zeros_like(rank), where=inside > 0)
        result[rows, column] = lower[at] + (upper[at] - lower[at]) * part
    return result.reshape(*shape, len(wanted))


def share_below(growth: Float, bounds: Float, threshold: float) -> Float:
    """Return the share [...] of the observations of histograms `growth` [..., L] at or below `threshold`; NaN without observations."""
    shape = growth.shape[:-1]
    if bounds.size < 2:
        return np.full(shape, np.nan)
    counts = np.maximum.accumulate(growth.reshape(-1, bounds.size), axis=1)
    lower, upper = _finite(bounds)
    at = int(np.searchsorted(bounds, threshold))
    below = counts[:, at - 1] if at > 0 else np.zeros(counts.shape[0])
    width = upper[at] - lower[at]
    part = (threshold - lower[at]) / width if width > 0 else 0.0
    total = counts[:, -1]
    share = np.divide(below + (counts[:, at] - below) * part, total, out=np.full_like(total, np.nan), where=total > 0)
    return share.reshape(shape)


def _finite(bounds: Float) -> tuple[Float, Float]:
    """Return the lower and upper bounds between which a bucket's observations are spread."""
    lower = np.append(0.0, bounds[:-1])
    upper = np.where(np.isinf(bounds), lower, bounds)
    return lower, upper
