"""Quantiles lie on straight lines within classic buckets, on exponential ones within native, and are unknown with little to go by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.projections.histograms import (
    common_buckets,
    native_quantiles,
    native_share_below,
    quantiles,
    share_below,
)

BOUNDS = np.array([2.0, 10.0, 100.0, np.inf])
counts = st.lists(st.integers(0, 1000), min_size=4, max_size=4).map(np.cumsum).map(lambda cells: cells.astype(float))


def test_a_quantile_lies_on_the_line_between_its_buckets_bounds() -> None:
    found = quantiles(np.array([0.0, 100.0, 100.0, 100.0]), BOUNDS, (0.5, 0.25))
    assert found.tolist() == [6.0, 4.0]


def test_what_lies_above_the_last_finite_bound_is_put_there() -> None:
    assert quantiles(np.array([0.0, 0.0, 10.0, 100.0]), BOUNDS, (0.99,)).tolist() == [100.0]


def test_below_twenty_observations_there_is_no_quantile() -> None:
    assert np.isnan(quantiles(np.array([0.0, 19.0, 19.0, 19.0]), BOUNDS, (0.5,))).all()
    assert not np.isnan(quantiles(np.array([0.0, 20.0, 20.0, 20.0]), BOUNDS, (0.5,))).any()


def test_without_series_there_is_no_quantile() -> None:
    assert np.isnan(quantiles(np.zeros((2, 3, 1)), np.array([np.inf]), (0.5, 0.9))).all()


@given(counts)
def test_quantiles_are_ordered_and_within_the_bounds(growth: np.ndarray) -> None:
    found = quantiles(growth, BOUNDS, (0.5, 0.95, 0.99))
    if growth[-1] >= 20:
        assert 0 <= found[0] <= found[1] <= found[2] <= 100
    else:
        assert np.isnan(found).all()


@given(counts, st.sampled_from([0.1, 0.5, 0.9]))
def test_the_share_below_a_quantile_is_the_quantiles_own(growth: np.ndarray, share: float) -> None:
    value = float(quantiles(growth, BOUNDS, (share,))[0])
    if not np.isnan(value) and 0 < value < 100:
        assert share_below(growth, BOUNDS, value) == pytest.approx(share)


def test_the_share_is_unknown_without_observations() -> None:
    assert np.isnan(share_below(np.zeros(4), BOUNDS, 5.0))


# --- native, exponential buckets --------------------------------------------------------------------------------------------


def buckets_of(schema: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of a native histogram's buckets: a schema doubles in 2**schema steps."""
    bounds = 2.0 ** (np.arange(first - 1, last + 1) / 2.0**schema)
    return bounds[:-1], bounds[1:]


def test_a_native_quantile_lies_where_its_buckets_logarithm_is_divided() -> None:
    found = native_quantiles(np.array([0.0, 64.0, 0.0]), np.array([0.5, 1, 16]), np.array([1, 16, 32.0]), (0.5, 0.25))
    assert found == pytest.approx([4.0, 2.0])  # half and a quarter of the way from 1 to 16, in powers


def test_around_zero_observations_are_spread_evenly_from_zero_on() -> None:
    lower, upper, shares = common_buckets(np.array([-2.0, 2.0]), np.array([2.0, 4.0]))
    assert (lower.tolist(), upper.tolist(), shares.tolist()) == ([0.0, 2.0], [2.0, 4.0], [[1, 0], [0, 1]])
    assert native_quantiles(np.array([100.0, 0.0]), lower, upper, (0.5,)).tolist() == [1.0]


def test_with_negative_observations_the_bucket_around_zero_keeps_its_width() -> None:
    lower, upper, _ = common_buckets(np.array([-4.0, -2.0]), np.array([-2.0, 2.0]))
    assert native_quantiles(np.array([50.0, 50.0]), lower, upper, (0.25, 0.75)) == pytest.approx([-(8**0.5), 0.0])


def test_from_the_median_up_ranks_are_counted_from_above() -> None:
    lower, upper = np.array([1.0, 4.0]), np.array([2.0, 8.0])  # half below, half above, nothing in between
    assert native_quantiles(np.array([50.0, 50.0]), lower, upper, (0.5,)) == pytest.approx([4.0])
    assert native_quantiles(np.array([50.0, 50.0]), lower, upper, (0.499999,)) == pytest.approx([2.0], abs=1e-4)


def test_below_twenty_observations_there_is_no_native_quantile() -> None:
    lower, upper = buckets_of(0, 0, 3)
    assert np.isnan(native_quantiles(np.array([19.0, 0, 0, 0]), lower, upper, (0.5,))).all()


native_counts = (
    st.lists(st.integers(0, 500), min_size=8, max_size=8).map(np.array).filter(lambda held: held.sum() >= 20)
)


@given(native_counts, st.integers(0, 3))
def test_native_quantiles_are_ordered_and_their_share_is_below_them(held: np.ndarray, schema: int) -> None:
    lower, upper = buckets_of(schema, -3, 4)
    found = native_quantiles(held.astype(float), lower, upper, (0.3, 0.5, 0.95))
    assert found[0] <= found[1] <= found[2]
    for value, share in zip(found.tolist(), (0.3, 0.5, 0.95), strict=True):
        assert native_share_below(held.astype(float), lower, upper, value) == pytest.approx(share)


@given(native_counts, native_counts)
def test_histograms_of_two_resolutions_are_added_without_losing_anybody(fine: np.ndarray, coarse: np.ndarray) -> None:
    bounds = [buckets_of(1, -3, 4), buckets_of(0, -3, 4)]
    given_lower, given_upper = (np.concatenate(sides) for sides in zip(*bounds, strict=True))
    lower, upper, shares = common_buckets(given_lower, given_upper)
    assert (lower[1:] >= upper[:-1]).all()
    counts = np.concatenate([fine, coarse]).astype(float)
    assert (counts @ shares).sum() == pytest.approx(counts.sum())
    # A bound of the coarse one is a bound of the fine one, too: what lies below it is known exactly.
    below = fine[bounds[0][1] <= 1.0].sum() + coarse[bounds[1][1] <= 1.0].sum()
    assert native_share_below(counts @ shares, lower, upper, 1.0) == pytest.approx(below / counts.sum())
