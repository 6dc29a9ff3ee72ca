"""Scores of families ➜ means and ratios with intervals: runs of one family aren't independent, families are.

A score is averaged in two steps. Within a *cell* (an application's entity and feature, say) it is the mean over all windows; then every
cell counts the same within its feature, and every feature the same (a macro-average): a service with many windows, or a feature that
moves much, doesn't drown the others. Intervals: bootstrap over families, percentiles, by scipy.

Fewer than `LEAST_FAMILIES` families are too few to say anything: `Interval.shown` says so. Every interval comes with the smallest
difference that would be found with a chance of 80 % in a two-sided test at 5 %: 2.8 standard errors.

Pure. Downstream: `headline`, tables of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = (
    "LEAST_FAMILIES",
    "FamilyScores",
    "Interval",
    "family_scores",
    "interval_of",
    "mean_interval",
    "ratio_interval",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

LEAST_FAMILIES = 12
_RESAMPLES = 1000
_DETECTABLE = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))  #: standard errors


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A score with its 95 % interval; null where nothing was scored."""

    value: float | None
    low: float | None
    high: float | None
    families: int
    detectable: float | None  #: smallest difference that would be found in four of five such sets

    @property
    def too_few(self) -> bool:
        """Whether there are too few families to say anything."""
        return self.families < LEAST_FAMILIES

    @property
    def shown(self) -> str:
        """How a table prints it."""
        if self.too_few or self.value is None:
            return f"too few ({self.families})"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class FamilyScores(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Scores of F families in K cells, added up, for S models."""

    totals: Float  #: [S, F, K]
    counts: Float  #: [F, K] windows
    features: Int  #: [K] number of the feature that a cell belongs to

    @property
    def families(self) -> int:
        """How many."""
        return len(self.counts)


def family_scores(
    families: Sequence[str], cells: Sequence[tuple[str, ...]], features: Sequence[str], scores: Float
) -> FamilyScores:
    """Return scores, [S, R] of R windows, added up by family and cell.

    Args:
        families: [R] the family of each.
        cells: [R] what each is a window of.
        features: [R] the feature of each.
        scores: [S, R] finite.
    """
    known = {family: number for number, family in enumerate(sorted(set(families)))}
    named = sorted(set(zip(features, cells, strict=True)))
    position = {cell: number for number, cell in enumerate(named)}
    feature_number = {feature: number for number, feature in enumerate(sorted(set(features)))}
    family = np.array([known[one] for one in families], np.int64)
    cell = np.array([position[one] for one in zip(features, cells, strict=True)], np.int64)
    totals = np.zeros((len(scores), len(known), len(named)))
    counts = np.zeros((len(known), len(named)))
    np.add.at(counts, (family, cell), 1.0)
    for number, values in enumerate(scores):
        np.add.at(totals[number], (family, cell), values)
    return FamilyScores(
        totals=totals, counts=counts, features=np.array([feature_number[feature] for feature, _ in named], np.int64)
    )


def mean_interval(scores: FamilyScores, model: int = 0) -> Interval:
    """Return the macro-average of a model's scores."""
    return interval_of(lambda weights: _macro(scores, weights, model), scores.families)


def ratio_interval(scores: FamilyScores, model: int, other: int) -> Interval:
    """Return one model's macro-average over another's; families are drawn for both at once."""

    def ratio(weights: Float) -> Float:
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Float = _macro(scores, weights, model) / _macro(scores, weights, other)
        return found

    return interval_of(ratio, scores.families)


def interval_of(statistic: Callable[[Float], Float], families: int) -> Interval:
    """Return a statistic of families with its bootstrap interval.

    Args:
        statistic: takes how often each family counts, [..., F], and returns its value for each, [...].
        families: F.
    """
    if not families:
        return Interval(value=None, low=None, high=None, families=0, detectable=None)
    value = float(statistic(np.ones((1, families)))[0])
    if not np.isfinite(value):
        return Interval(value=None, low=None, high=None, families=families, detectable=None)
    if families < 2:
        return Interval(value=value, low=None, high=None, families=families, detectable=None)

    def resampled(drawn: Float, axis: int) -> Float:
        chosen = np.moveaxis(np.atleast_2d(drawn), axis, -1).astype(np.int64)
        weights = np.stack([np.bincount(row, minlength=families) for row in chosen.reshape(-1, families)])
        return statistic(weights.astype(np.float64)).reshape(chosen.shape[:-1])

    found = stats.bootstrap(
        (np.arange(families),),
        resampled,
        n_resamples=_RESAMPLES,
        method="percentile",
        vectorized=True,
        rng=0,
    )
    drawn = found.bootstrap_distribution[np.isfinite(found.bootstrap_distribution)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(
        value=value,
        low=float(low),
        high=float(high),
        families=families,
        detectable=_DETECTABLE * float(np.std(drawn, ddof=1)),
    )


def _macro(scores: FamilyScores, weights: Float, model: int) -> Float:
    """Return the macro-average where families count as `weights`, [B, F], say: [B]. A cell that wasn't drawn is left out."""
    counts, totals = weights @ scores.counts, weights @ scores.totals[model]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = totals / counts
    of_feature = np.eye(scores.features.max(initial=-1) + 1)[scores.features]  # [K, features]
    drawn = (counts > 0).astype(np.float64) @ of_feature
    with np.errstate(divide="ignore", invalid="ignore"):
        by_feature = (np.where(counts > 0, means, 0.0) @ of_feature) / drawn
    known = np.isfinite(by_feature)
    with np.errstate(invalid="ignore"):
        average: Float = np.where(known, by_feature, 0.0).sum(axis=-1) / known.sum(axis=-1)
    return average
