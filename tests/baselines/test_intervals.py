"""Families are drawn, not rows; cells and features count the same however many rows they have."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.baselines.intervals import LEAST_FAMILIES, family_scores, mean_interval, ratio_interval
from otel_control_gym.engine.randomness import draw_uniform


def test_every_cell_and_every_feature_counts_the_same() -> None:
    scores = family_scores(
        ["a"] * 6,
        [("x",), ("x",), ("x",), ("x",), ("y",), ("x",)],
        ["rate", "rate", "rate", "rate", "rate", "latency"],
        np.array([[1.0, 1.0, 1.0, 1.0, 3.0, 6.0]]),
    )
    assert mean_interval(scores).value == pytest.approx(((1 + 3) / 2 + 6) / 2)


def test_repeated_rows_of_a_family_make_no_interval_narrower() -> None:
    values = np.array([draw_uniform(1, number) for number in range(20)])
    families = [f"family-{number}" for number in range(20)]
    once = family_scores(families, [("x",)] * 20, ["rate"] * 20, values[np.newaxis])
    often = family_scores(families * 50, [("x",)] * 1000, ["rate"] * 1000, np.tile(values, 50)[np.newaxis])
    found, same = mean_interval(once), mean_interval(often)
    assert (same.low, same.high, same.detectable) == pytest.approx((found.low, found.high, found.detectable))
    assert same.families == found.families == 20


def test_a_ratio_of_equal_models_is_one_with_no_width() -> None:
    values = np.array([1.0 + draw_uniform(1, number) for number in range(20)])
    families = [f"family-{number}" for number in range(20)]
    scores = family_scores(families, [("x",)] * 20, ["rate"] * 20, np.stack([values, values, 2 * values]))
    same, double = ratio_interval(scores, 0, 1), ratio_interval(scores, 2, 1)
    assert (same.value, same.low, same.high, same.detectable) == (1.0, 1.0, 1.0, 0.0)
    assert (double.low, double.high) == pytest.approx((2.0, 2.0))


def test_the_interval_is_the_textbooks_where_there_is_one() -> None:
    values = np.array([draw_uniform(2, number) for number in range(200)])
    scores = family_scores([str(number) for number in range(200)], [("x",)] * 200, ["rate"] * 200, values[np.newaxis])
    found = mean_interval(scores)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert found.detectable == pytest.approx(2.8 * half / 1.96, rel=0.15)


def test_too_few_families_say_nothing() -> None:
    few = LEAST_FAMILIES - 1
    scores = family_scores([str(number) for number in range(few)], [("x",)] * few, ["rate"] * few, np.ones((1, few)))
    assert mean_interval(scores).shown == f"too few ({few})"
    empty = family_scores([], [], [], np.zeros((1, 0)))
    assert mean_interval(empty).value is None
    assert mean_interval(empty).shown == "too few (0)"
