"""A smoothed level is as near to what comes next as if one had known whether a series fluctuates or wanders."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.baselines.smoothing import smoothed
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

STEPS, SERIES = 10, 400
LEAST = np.full(SERIES, 1e-3)


def noise() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return a step more than is smoothed: that one is foretold."""
    seed = derive_seed(0, "noise")
    return np.array([[draw_uniform(seed, step, number) - 0.5 for number in range(SERIES)] for step in range(STEPS + 1)])


def test_what_fluctuates_is_foretold_nearly_as_by_its_mean_and_what_wanders_as_by_its_last_value() -> None:
    still, wandering = noise(), noise().cumsum(axis=0)
    for series, best, other in (
        (still, still[:-1].mean(axis=0), still[-2]),
        (wandering, wandering[-2], wandering[:-1].mean(axis=0)),
    ):
        left, of_the_best, of_the_other = (
            np.abs(level - series[-1]).mean() for level in (smoothed(series[:-1], LEAST), best, other)
        )
        assert left < 1.15 * of_the_best
        assert left < 0.9 * of_the_other


def test_a_level_moves_with_its_series_and_follows_its_unit() -> None:
    series = noise()[:-1]
    np.testing.assert_allclose(smoothed(7.0 + 3.0 * series, 3.0 * LEAST), 7.0 + 3.0 * smoothed(series, LEAST))


@pytest.mark.parametrize("at", [0, 4, STEPS])
def test_steps_of_which_nothing_is_known_change_nothing(at: int) -> None:
    series = noise()[:-1]
    longer = np.insert(series, at, np.nan, axis=0)
    np.testing.assert_array_equal(smoothed(longer, LEAST), smoothed(series, LEAST))


def test_a_constant_is_its_own_level_and_of_nothing_there_is_none() -> None:
    series = np.stack([np.full(STEPS, 5.0), np.full(STEPS, np.nan)], axis=-1)
    np.testing.assert_allclose(smoothed(series, LEAST[:2]), [5.0, np.nan])
    np.testing.assert_allclose(smoothed(series[:1], LEAST[:2]), [5.0, np.nan])
