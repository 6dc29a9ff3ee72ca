"""Means and rates of things that belong to families, with intervals: families are drawn, never their members.

A family in which there is nothing to count over is left out. Fewer than 12 families get a value and no interval: nothing follows from them.
Upstream: `intervals`. Downstream: `anomalies`, `root_causes`, `weak_label_scores`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import DegenerateDataWarning

from otel_control_gym.baselines.intervals import LEAST_FAMILIES, Interval, interval_of

__all__ = ("FamilyRates", "interval_if_enough")

Float = npt.NDArray[np.float64]


class FamilyRates:
    """Members of families, in a fixed order."""

    def __init__(self, families: Sequence[str]) -> None:
        names = sorted(set(families))
        self.count = len(names)  #: of families
        places = {family: place for place, family in enumerate(names)}
        self._belongs = np.zeros((self.count, len(families)))
        for number, family in enumerate(families):
            self._belongs[places[family], number] = 1.0

    def mean(self, values: Sequence[float | None]) -> Interval:
        """Return the mean over the members whose value is known."""
        known = np.array([value is not None for value in values], np.float64)
        return self.rate([0.0 if value is None else value for value in values], known)

    def rate(self, above: Sequence[float] | Float, below: Sequence[float] | Float) -> Interval:
        """Return the sum of one value over that of another, both drawn at once."""
        numerators, denominators = (self._belongs @ np.asarray(values, np.float64) for values in (above, below))
        kept = denominators > 0
        numerators, denominators = numerators[kept], denominators[kept]

        def rate(weights: Float) -> Float:
            found: Float = (weights @ numerators) / (weights @ denominators)
            return found

        return interval_if_enough(rate, int(kept.sum()))


def interval_if_enough(statistic: Callable[[Float], Float], families: int) -> Interval:
    """Return a statistic of families (see `interval_of`) with its interval; without one where they are too few to mean anything."""
    if families >= LEAST_FAMILIES:
        with (
            warnings.catch_warnings()
        ):  # a draw without any fault has no value; `interval_of` leaves it out, scipy mentions it
            warnings.simplefilter("ignore", DegenerateDataWarning)
            return interval_of(statistic, families)
    value = float(statistic(np.ones((1, families)))[0]) if families else np.nan
    return Interval(
        value=value if np.isfinite(value) else None, low=None, high=None, families=families, detectable=None
    )
