"""Histograms ➜ quantiles and shares.

Classic ones. In: the growth of the cumulative buckets, [..., L] for L ascending upper bounds, the last one infinite. Observations are
taken to be spread evenly within a bucket, so a quantile is a straight line between its bucket's bounds (Prometheus, `histogram_quantile`
of classic histograms): it is no better than the bucket is narrow. What lies above the last finite bound is put there.

Native ones with exponential buckets. In: the growth of each bucket for itself, [..., C], with both its bounds. Observations are taken to
be spread evenly in the logarithm, so a quantile is `lower * (upper / lower) ** part` (Prometheus 3, `histogram_quantile` of native
histograms); in the bucket around zero they are spread evenly, from 0 on where nothing is negative. Quantiles from the median up are
counted from above, as Prometheus does. Histograms of different resolutions are brought onto common bounds first, by the same rule of
spreading.

Both: null below 20 observations. Native histograms with custom bounds are not meant here: map them as classic ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = (
    "FEWEST_OBSERVATIONS",
    "common_buckets",
    "native_quantiles",
    "native_share_below",
    "quantiles",
    "share_below",
)

FEWEST_OBSERVATIONS = 20  #: below, a quantile says more about chance than about the service

Float = npt.NDArray[np.float64]


def quantiles(growth: Float, bounds: Float, wanted: tuple[float, ...]) -> Float:
    """Return the quantiles [..., Q] of classic histograms `growth` [..., L]; NaN where there are fewer than 20 observations."""
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
    """Return the share [...] of the observations of classic histograms `growth` [..., L] up to `threshold`; NaN without observations."""
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


def common_buckets(lower: Float, upper: Float) -> tuple[Float, Float, Float]:
    """Return bounds of disjoint, ascending buckets, lower [C] and upper [C], and which share [L, C] of each given one lies in each of them.

    Buckets of one resolution are disjoint already; those of another are cut at each other's bounds.
    """
    if lower.size == 0:
        return lower, upper, np.zeros((0, 0))
    if not (upper <= 0).any():
        lower = np.maximum(lower, 0.0)  # nothing is negative: the bucket around zero begins there
    edges = np.unique(np.concatenate([lower, upper]))
    inside = (edges[:-1] >= lower[:, None]) & (edges[1:] <= upper[:, None])
    used = inside.any(axis=0)
    cut_lower, cut_upper, inside = edges[:-1][used], edges[1:][used], inside[:, used]
    shares = np.zeros(inside.shape)
    for row in range(lower.size):
        low, high = (_position(bounds[inside[row]], lower[row], upper[row]) for bounds in (cut_lower, cut_upper))
        shares[row, inside[row]] = high - low
    return cut_lower, cut_upper, shares


def native_quantiles(counts: Float, lower: Float, upper: Float, wanted: tuple[float, ...]) -> Float:
    """Return the quantiles [..., Q] of native histograms whose disjoint buckets hold `counts` [..., C]; NaN below 20 observations."""
    shape = counts.shape[:-1]
    flat = counts.reshape(-1, lower.size)
    result = np.full((flat.shape[0], len(wanted)), np.nan)
    rows = np.flatnonzero(flat.sum(axis=1) >= FEWEST_OBSERVATIONS)
    held = flat[rows]
    total = held.sum(axis=1)
    every = np.arange(rows.size)
    for column, share in enumerate(wanted):
        if share < 0.5:
            reached = np.cumsum(held, axis=1)
            rank = share * total
            at = np.argmax(reached >= rank[:, None], axis=1)
            part = rank - (reached[every, at] - held[every, at])
        else:
            reached = np.cumsum(held[:, ::-1], axis=1)[:, ::-1]
            rank = (1 - share) * total
            at = lower.size - 1 - np.argmax(reached[:, ::-1] >= rank[:, None], axis=1)
            part = reached[every, at] - rank
        part = np.divide(part, held[every, at], out=np.zeros_like(part), where=held[every, at] > 0)
        result[rows, column] = _value(lower[at], upper[at], part)
    return result.reshape(*shape, len(wanted))


def native_share_below(counts: Float, lower: Float, upper: Float, threshold: float) -> Float:
    """Return the share [...] of the observations of native histograms at or below `threshold`; NaN without observations."""
    total = counts.sum(axis=-1)
    parts = np.array([_position(np.array([threshold]), low, high)[0] for low, high in zip(lower, upper, strict=True)])
    share: Float = np.divide(counts @ parts, total, out=np.full_like(total, np.nan), where=total > 0)
    return share


def _value(lower: Float, upper: Float, part: Float) -> Float:
    """Return the values that lie after a part (0 to 1) of the observations of buckets."""
    geometric = lower * upper > 0
    ratio = np.divide(upper, lower, out=np.ones_like(lower), where=geometric)
    return np.where(geometric, lower * ratio**part, lower + (upper - lower) * part)


def _position(values: Float, lower: float, upper: float) -> Float:
    """Return which part (0 to 1) of a bucket's observations lies at or below values; the inverse of `_value`."""
    inside = np.clip(values, lower, upper)
    if lower * upper > 0:
        return np.asarray(np.where(inside == upper, 1.0, np.log(inside / lower) / np.log(upper / lower)))
    return np.asarray((inside - lower) / (upper - lower))


def _finite(bounds: Float) -> tuple[Float, Float]:
    """Return the lower and upper bounds between which a bucket's observations are spread."""
    lower = np.append(0.0, bounds[:-1])
    upper = np.where(np.isinf(bounds), lower, bounds)
    return lower, upper
