"""A run compared with its own past: what varies as ever is none, what goes on differently is found, with an interval that holds it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from otel_control_gym.engine.campaigns.before_after import LEAST_WINDOWS, compare_times
from otel_control_gym.engine.campaigns.certificates import Place, certificate_of
from otel_control_gym.engine.campaigns.effects import Column, EffectSettings, FeatureThreshold, Readings
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

Float = npt.NDArray[np.float64]

SETTINGS = EffectSettings(
    name="test",
    alpha=0.05,
    confidence=0.95,
    user_facing=("latency_mean_ms",),
    features={
        "latency_mean_ms": FeatureThreshold(absolute=10.0, unit="ms", reason="a test's"),
        "restarts": FeatureThreshold(absolute=0.5, summed=True, unit="1", reason="a test's"),
    },
)
COLUMNS = tuple(Column(f"service-{number:03d}", "latency_mean_ms") for number in range(30))
PLACE = Place(targets=("service-000",), edges=(("service-000", "service-001"),), entry="service-000", callers=())
BUCKET, WINDOW = 10, 30


def noise(seed: int, shape: tuple[int, ...], sigma: float) -> Float:
    """Return sums of twelve uniform draws: normal enough for a test."""
    draws = [draw_uniform(derive_seed(seed, "noise"), number) for number in range(12 * int(np.prod(shape)))]
    summed: Float = np.reshape(draws, (12, *shape)).sum(axis=0)
    return sigma * (summed - 6.0)


def times(
    change: Float | float, *, sigma: float, seed: int = 1, columns: tuple[Column, ...] = COLUMNS
) -> tuple[Readings, Readings]:
    """Return eight windows of three buckets before, and ten of them after with a change added."""
    level = 50.0 + noise(seed, (1, len(columns)), 20.0)
    before = level + noise(seed + 1, (24, len(columns)), sigma)
    after = level + change + noise(seed + 2, (30, len(columns)), sigma)
    return Readings(columns, before, BUCKET), Readings(columns, after, BUCKET)


@pytest.mark.parametrize("sigma", [1.0, 20.0, 100.0])
def test_what_varies_as_ever_is_changed_nowhere(sigma: float) -> None:
    found = [compare_times(*times(0.0, sigma=sigma, seed=seed), SETTINGS, window_seconds=WINDOW) for seed in (1, 5, 9)]
    assert sum(int(effects.changed.sum()) for effects in found) == 0


def test_what_goes_on_differently_is_found_where_it_is_and_its_size_is_in_the_interval() -> None:
    change = np.zeros((30, len(COLUMNS)))
    change[3:, :5] = 100.0  # from the second window on
    effects = compare_times(*times(change, sigma=5.0), SETTINGS, window_seconds=WINDOW)
    assert effects.changed[1:, :5].all()
    assert not effects.changed[0].any()
    assert not effects.changed[:, 5:].any()
    found = certificate_of(effects, PLACE, SETTINGS, applied_s=0.0, method="before_after")
    assert (found.method, found.n_branches, found.effect_class) == ("before_after", 0, "visible")
    assert (found.first_entity, found.delay_s) == ("service-000", 40.0)
    assert found.effect_low is not None
    assert found.effect_high is not None
    assert found.effect_low < 100.0 < found.effect_high
    assert found.effect_high - found.effect_low < 20.0


def test_intervals_hold_the_true_change_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(0, 120, 3):
        effects = compare_times(
            *times(60.0, sigma=10.0, seed=seed, columns=COLUMNS[:1]), SETTINGS, window_seconds=WINDOW
        )
        found = certificate_of(effects, PLACE, SETTINGS, applied_s=0.0, method="before_after")
        assert found.effect_low is not None
        assert found.effect_high is not None
        held.append(found.effect_low < 60.0 < found.effect_high)
    assert sum(held) >= 33  # of 40 at 95 %: fewer come by chance once in a thousand times


def test_a_change_that_chance_could_be_is_none_and_one_that_does_not_matter_is_none() -> None:
    loud, small = times(40.0, sigma=60.0), times(5.0, sigma=0.1)
    assert not compare_times(*loud, SETTINGS, window_seconds=WINDOW).changed.any()
    assert not compare_times(*small, SETTINGS, window_seconds=WINDOW).changed.any()


def test_where_nothing_varied_a_single_window_must_be_far_beyond_and_a_lasting_change_needs_no_more_than_its_threshold() -> (
    None
):
    change = np.zeros((30, len(COLUMNS)))
    change[9:12, 0] = 12.0  # one window, a little beyond
    change[9:15, 1] = 12.0  # two
    change[9:12, 2] = 90.0  # one, far beyond
    effects = compare_times(*times(change, sigma=0.0), SETTINGS, window_seconds=WINDOW)
    assert list(np.flatnonzero(effects.changed.any(axis=0))) == [1, 2]


def test_what_is_unknown_before_is_changed_nowhere() -> None:
    before, after = times(100.0, sigma=1.0)
    before.values[:, 0] = np.nan
    effects = compare_times(before, after, SETTINGS, window_seconds=WINDOW)
    assert not effects.changed[:, 0].any()
    assert effects.changed[:, 1:].all()


def test_a_sum_over_a_window_is_compared_with_sums() -> None:
    column = (Column("service-000", "restarts"),)
    before, after = np.zeros((3 * LEAST_WINDOWS, 1)), np.zeros((6, 1))
    after[[0, 4]] = 1.0  # a restart in either window
    effects = compare_times(
        Readings(column, before, BUCKET), Readings(column, after, BUCKET), SETTINGS, window_seconds=WINDOW
    )
    assert effects.mean.tolist() == [[1.0], [1.0]]
    assert effects.changed.all()
