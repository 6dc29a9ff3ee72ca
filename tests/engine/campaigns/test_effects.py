"""An effect is what is beyond chance and beyond what matters; what is within is none, and what can't be told is said to be neither."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from otel_control_gym.engine.campaigns.effects import (
    Column,
    EffectSettings,
    FeatureThreshold,
    Readings,
    compare_branches,
    compare_pair,
)
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

SETTINGS = EffectSettings(
    name="test",
    alpha=0.05,
    confidence=0.95,
    user_facing=("latency_mean_ms",),
    features={
        "latency_mean_ms": FeatureThreshold(absolute=10.0, relative=0.1, unit="ms", reason="a test's"),
        "restarts": FeatureThreshold(absolute=0.5, summed=True, unit="1", reason="a test's"),
    },
)
COLUMNS = tuple(Column(f"service-{number:03d}", "latency_mean_ms") for number in range(300))


def noise(seed: int, shape: tuple[int, ...], sigma: float) -> npt.NDArray[np.float64]:
    """Return sums of twelve uniform draws: normal enough for a test."""
    draws = [draw_uniform(derive_seed(seed, "noise"), number) for number in range(12 * int(np.prod(shape)))]
    return sigma * (np.reshape(draws, (12, *shape)).sum(axis=0) - 6.0)


def arms(
    effect: npt.NDArray[np.float64] | float, *, sigma: float, branches: int = 8, seed: int = 1
) -> tuple[list[Readings], list[Readings]]:
    """Return 8 pairs of 6 buckets; each pair has a level of its own, which both of its futures share."""
    shape = (branches, 6, len(COLUMNS))
    shared = 50.0 + noise(seed, (branches, 1, 1), 20.0)
    control, treated = shared + noise(seed + 1, shape, sigma), shared + effect + noise(seed + 2, shape, sigma)
    return tuple([Readings(COLUMNS, values, 10) for values in arm] for arm in (treated, control))  # type: ignore[return-value]


def test_what_only_chance_moves_is_changed_nowhere() -> None:
    changed = [compare_branches(*arms(0.0, sigma=20.0, seed=seed), SETTINGS, window_seconds=30) for seed in (1, 5, 9)]
    assert sum(int(effects.changed.sum()) for effects in changed) == 0


def test_an_effect_beyond_its_threshold_is_found_where_it_is_and_nowhere_else() -> None:
    effect = np.zeros(len(COLUMNS))
    effect[:5] = 60.0
    effects = compare_branches(*arms(effect, sigma=5.0), SETTINGS, window_seconds=30)
    assert effects.changed[:, :5].all()
    assert not effects.changed[:, 5:].any()
    assert effects.mean[:, :5] == pytest.approx(60.0, abs=8.0)


def test_a_difference_that_is_certain_but_too_small_to_matter_is_unchanged() -> None:
    effects = compare_branches(*arms(3.0, sigma=1.0), SETTINGS, window_seconds=30)
    assert not effects.changed.any()
    assert effects.unchanged.all()


def test_what_chance_hides_is_undecided() -> None:
    effects = compare_branches(*arms(12.0, sigma=60.0), SETTINGS, window_seconds=30)
    assert (~effects.changed & ~effects.unchanged).mean() > 0.9


def test_what_all_pairs_agree_on_to_the_bit_needs_no_chance() -> None:
    treated, control = arms(0.0, sigma=0.0)
    same = compare_branches(control, control, SETTINGS, window_seconds=30)
    assert same.unchanged.all()
    shifted = [Readings(COLUMNS, readings.values + 64.0, 10) for readings in control]
    assert compare_branches(shifted, control, SETTINGS, window_seconds=30).changed.all()
    assert len(treated) == 8


def test_a_threshold_grows_with_what_is_usual() -> None:
    control = [Readings(COLUMNS[:1], np.full((6, 1), 1000.0), 10)] * 8
    treated = [Readings(COLUMNS[:1], np.full((6, 1), 1050.0), 10)] * 8
    assert not compare_branches(treated, control, SETTINGS, window_seconds=30).changed.any()  # 50 ms of 1000 ms


def test_a_cell_that_a_branch_knows_nothing_of_is_undecided() -> None:
    treated, control = arms(60.0, sigma=1.0)
    treated[3].values[:3] = np.nan
    effects = compare_branches(treated, control, SETTINGS, window_seconds=30)
    assert not (effects.changed[0] | effects.unchanged[0]).any()
    assert effects.changed[1].all()


def test_events_are_counted_over_a_window_and_levels_are_averaged() -> None:
    columns = (Column("cart", "latency_mean_ms"), Column("cart", "restarts"))
    control = Readings(columns, np.zeros((3, 2)), 10)
    treated = Readings(columns, np.array([[30.0, 0.0], [30.0, 1.0], [30.0, 1.0]]), 10)
    effects = compare_pair(treated, control, SETTINGS, window_seconds=30)
    assert effects.mean.tolist() == [[30.0, 2.0]]


@pytest.mark.parametrize(
    ("differences", "counts"),
    [([0, 15, 0, 0], False), ([0, 15, 15, 0], True), ([0, 15, -15, 0], False), ([0, 0, 0, 40], True)],
)
def test_a_single_pair_must_be_beyond_a_threshold_twice_to_the_same_side_or_far_beyond(
    differences: list[float], counts: bool
) -> None:
    columns = (Column("cart", "latency_mean_ms"),)
    values = np.repeat(np.array(differences, float), 3)[:, None]
    control = Readings(columns, np.zeros_like(values), 10)
    effects = compare_pair(Readings(columns, values, 10), control, SETTINGS, window_seconds=30)
    assert effects.changed.any() == counts
