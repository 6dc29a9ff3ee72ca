"""The volume under the surface keeps to the paper's definition: by hand for small cases, in its limits, and beside scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from otel_control_gym.baselines.range_precision import extended_labels, precision_sums, ranges_of

ONE = np.ones((1, 1))
marked = st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=4, max_size=60).filter(
    lambda rows: any(flag for _, flag in rows)
)


def flags(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def volume(scores: list[float], labels: np.ndarray, longest: int) -> float:
    return float(precision_sums([np.array(scores, float)], [labels], longest).weighted(ONE).vus_pr[0])


@given(marked)
def test_the_area_without_buffer_is_average_precision(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([score for score, _ in rows], float), np.array([flag for _, flag in rows])
    found = precision_sums([scores], [labels], 0).weighted(ONE).auc_pr[0]
    assert found == pytest.approx(average_precision_score(labels, scores))


def test_labels_fall_off_on_both_sides_of_a_range() -> None:
    extended = extended_labels(flags("...xx..."), 4)
    near, far = np.sqrt(3 / 4), np.sqrt(2 / 4)
    assert extended == pytest.approx([0, far, near, 1, 1, near, far, 0])


def test_where_the_slopes_of_two_ranges_meet_a_label_is_at_most_one() -> None:
    assert extended_labels(flags("x.x"), 2)[1] == 1.0


def test_an_alarm_in_the_buffer_is_worth_what_the_label_says_there() -> None:
    """By hand: score only in the bucket before a range of one; l = 0 sees a miss, l = 1 too (no room), l = 2 a half."""
    scores, labels = [0, 1, 0, 0], flags("..x.")
    slope = np.sqrt(1 / 2)
    mass = (1 + 1 + 2 * slope) / 2  # mean of the plain and the extended labels
    first = min(1, slope / mass) * slope  # recall times precision at the first threshold
    rest = (min(1, (1 + 2 * slope) / mass) - slope / mass) * (1 + 2 * slope) / 4
    plain = 1 / 4  # all alarmed: recall 1, precision 1/4
    assert volume([float(score) for score in scores], labels, 2) == pytest.approx((plain + plain + first + rest) / 3)


def test_a_range_that_is_missed_costs_recall() -> None:
    """Two ranges, one found: half the labels and half the ranges, so a quarter of the recall, at precision one."""
    scores, labels = np.array([1.0, 0.0, 0.0, 0.0]), flags("x..x")
    sums = precision_sums([scores], [labels], 0)
    by_hand = 1 / 4 * 1 + (1 - 1 / 4) * 2 / 4
    assert sums.weighted(ONE).vus_pr[0] == pytest.approx(by_hand)
    assert sums.weighted(ONE).auc_pr[0] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 4)


@given(marked)
def test_a_score_that_is_the_label_comes_to_one_and_a_constant_one_to_chance(rows: list[tuple[int, bool]]) -> None:
    labels = np.array([flag for _, flag in rows])
    assert volume(labels.astype(float).tolist(), labels, 0) == pytest.approx(1.0)
    assert volume([3.0] * len(labels), labels, 0) == pytest.approx(labels.mean())


def test_a_series_that_counts_twice_is_a_series_that_is_there_twice() -> None:
    first, second = (np.array([0.1, 0.9, 0.4]), flags(".x.")), (np.array([0.7, 0.2, 0.3, 0.8]), flags("..xx"))
    weighted = precision_sums([first[0], second[0]], [first[1], second[1]], 2).weighted(np.array([[2.0, 1.0]]))
    repeated = precision_sums([first[0], first[0], second[0]], [first[1], first[1], second[1]], 2)
    assert weighted.vus_pr == pytest.approx(repeated.weighted(np.ones((1, 3))).vus_pr)
    assert weighted.auc_pr == pytest.approx(repeated.weighted(np.ones((1, 3))).auc_pr)


def test_series_of_a_group_add_up() -> None:
    scores = [np.array([0.1, 0.9]), np.array([0.7, 0.2]), np.array([0.5, 0.6])]
    labels = [flags(".x"), flags("x."), flags("..")]
    sums = precision_sums(scores, labels, 1)
    grouped = sums.by_group(np.array([0, 1, 0]), 2)
    assert grouped.weighted(np.array([[1.0, 2.0]])).vus_pr == pytest.approx(
        sums.weighted(np.array([[1.0, 2.0, 1.0]])).vus_pr
    )


def test_ranges_are_what_is_set_without_a_pause() -> None:
    assert ranges_of(flags("xx..x")) == [(0, 2), (4, 5)]
    assert ranges_of(flags("...")) == []
