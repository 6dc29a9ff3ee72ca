"""Quantiles lie on straight lines within buckets, are ordered, and are unknown when there is little to go by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.projections.histograms import quantiles, share_below

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
