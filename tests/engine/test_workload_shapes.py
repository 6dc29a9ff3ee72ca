"""A shape becomes a curve by laws: the same seed the same curve, sums add, products multiply, noise has mean 1, nothing is negative."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.settings import (
    Burst,
    Constant,
    Points,
    Product,
    RandomFactor,
    Shape,
    Sine,
    Sum,
    Workload,
)
from otel_control_gym.engine.workload_shapes import factor_at, knots, shaped

HORIZONS = st.integers(30, 4000)
SEEDS = st.integers(0, 2**63)

sines = st.builds(
    Sine,
    amplitude=st.floats(0, 1),
    periods=st.floats(0.1, 10),
    period_seconds=st.none() | st.integers(60, 5000),
    phase=st.none() | st.floats(0, 1),
)
bursts = st.builds(
    Burst,
    height=st.floats(0, 5),
    rise_seconds=st.integers(1, 60),
    hold_seconds=st.integers(0, 60),
    fall_seconds=st.integers(1, 60),
    every_seconds=st.integers(180, 900),
    at_seconds=st.none() | st.just((10, 200, 1000)),
)
noises = st.builds(RandomFactor, spread=st.floats(0, 1), every_seconds=st.integers(5, 300))
constants = st.builds(Constant, level=st.floats(0, 3))
points = st.builds(
    lambda levels, stretch: Points(
        points=tuple((17.0 * number, level) for number, level in enumerate(levels)), stretch_to_horizon=stretch
    ),
    st.lists(st.floats(0, 3), min_size=2, max_size=8),
    st.booleans(),
)
SHAPES: st.SearchStrategy[Shape] = st.recursive(
    sines | bursts | noises | constants | points,
    lambda parts: st.builds(
        lambda kind, found: kind(parts=tuple(found)),
        st.sampled_from((Sum, Product)),
        st.lists(parts, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


def highest(shape: Shape) -> float:
    """Return a bound of a shape's factor, from its definition."""
    match shape:
        case Constant(level=level):
            return level
        case Sine(amplitude=amplitude):
            return 1 + amplitude
        case Burst(height=height):
            return max(1.0, height)
        case RandomFactor(spread=spread):
            return math.exp(3 * spread)
        case Points(points=found):
            return max(factor for _, factor in found)
        case Sum(parts=parts):
            return math.fsum(map(highest, parts))
        case Product(parts=parts):
            return math.prod(map(highest, parts))
        case _:
            raise AssertionError(shape)


def workload(shape: Shape, **settings: Any) -> Workload:
    return Workload(name="shaped", shape=shape, **({"users": 100} | settings))


@given(SHAPES, HORIZONS, SEEDS)
def test_users_are_never_negative_and_never_more_than_the_shapes_bound(shape: Shape, horizon: int, seed: int) -> None:
    found = shaped(workload(shape), horizon, seed)
    levels = [found.users, *(point.users or 0 for point in found.curve)]
    assert 0 <= min(levels) <= max(levels) <= 100 * highest(shape) + 1


@given(SHAPES, HORIZONS, SEEDS)
def test_a_curve_is_complete_in_order_and_begins_with_what_there_was_before(
    shape: Shape, horizon: int, seed: int
) -> None:
    found = shaped(workload(shape), horizon, seed)
    moments = [point.at_seconds for point in found.curve]
    assert found.shape is None
    assert moments == sorted(set(moments))
    assert (moments[0], moments[-1]) == (0, horizon)
    assert found.users == found.curve[0].users
    assert shaped(found, horizon, seed + 1) == found


@given(SHAPES, HORIZONS, SEEDS)
def test_the_same_seed_gives_the_same_curve(shape: Shape, horizon: int, seed: int) -> None:
    copied = msgspec.json.decode(msgspec.json.encode(workload(shape)), type=Workload)
    assert shaped(workload(shape), horizon, seed) == shaped(copied, horizon, seed)


@pytest.mark.parametrize("shape", [Sine(), Burst(), RandomFactor()])
def test_another_seed_gives_another_curve(shape: Shape) -> None:
    curves = [shaped(workload(shape), 600, seed).curve for seed in range(5)]
    assert len(set(curves)) == 5


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 600)), min_size=2, max_size=4), HORIZONS, st.floats(0, 1))
def test_a_sum_adds_and_a_product_multiplies_at_every_knot(
    parts: list[tuple[float, int]], horizon: int, phase: float
) -> None:
    # Nothing of these is drawn: a part's draws depend on its place in the whole.
    shapes: tuple[Shape, ...] = (
        Sine(amplitude=0.7, phase=phase),
        *(Burst(height=height, at_seconds=(at,)) for height, at in parts),
    )
    alone = [knots(shape, horizon, 1) for shape in shapes]
    for kind, together in ((Sum, math.fsum), (Product, math.prod)):
        for at, factor in knots(kind(parts=shapes), horizon, 1):
            sine = 1 + 0.7 * math.sin(2 * math.pi * (at / max(horizon, 60) + phase))
            expected = together([sine, *(factor_at(found, at) for found in alone[1:])])
            assert factor == pytest.approx(expected, abs=1e-9)


@given(SHAPES, HORIZONS, SEEDS)
def test_a_part_more_at_the_end_shifts_no_draw(shape: Shape, horizon: int, seed: int) -> None:
    whole = knots(Sum(parts=(shape, Constant(level=0.0))), horizon, seed)
    longer = knots(Sum(parts=(shape, Constant(level=0.0), Constant(level=1.0))), horizon, seed)
    assert [knot.at for knot in whole] == [knot.at for knot in longer]
    assert [knot.factor + 1 for knot in whole] == pytest.approx([knot.factor for knot in longer])


def test_two_parts_of_a_kind_draw_apart() -> None:
    one = knots(Product(parts=(RandomFactor(), Constant())), 600, 1)
    both = knots(Product(parts=(RandomFactor(), RandomFactor())), 600, 1)
    assert [knot.factor for knot in both] != pytest.approx([knot.factor**2 for knot in one])


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.5])
def test_noise_has_mean_1_and_the_spread_that_it_says(spread: float) -> None:
    factors = [factor for _, factor in knots(RandomFactor(spread=spread, every_seconds=5), 5 * 20_000, 7)]
    count = len(factors)
    mean = math.fsum(factors) / count
    deviation = math.sqrt(math.fsum((factor - mean) ** 2 for factor in factors) / count)
    expected = math.sqrt(math.exp(spread**2) - 1)
    # Four standard errors, and what the cut at three deviations takes away (0.3 % of the draws).
    assert abs(mean - 1) < 4 * expected / math.sqrt(count) + 0.005 * spread
    assert deviation == pytest.approx(expected, rel=0.06)


@given(HORIZONS, SEEDS, st.integers(130, 900))
def test_bursts_are_one_in_each_stretch_and_do_not_overlap(horizon: int, seed: int, every: int) -> None:
    burst = Burst(height=3.0, rise_seconds=20, hold_seconds=60, fall_seconds=40, every_seconds=every)
    found = knots(burst, horizon, seed)
    tops = [at for at, factor in found if factor == 3.0]
    if horizon >= every:
        assert len(tops) == 2 * (horizon // every)
        assert found[-1].factor == 1.0
        starts = tops[::2]
        assert all(later - earlier >= 120 for earlier, later in pairwise(starts))


@pytest.mark.parametrize("horizon", [600, 3600])
def test_a_day_varies_as_much_in_ten_minutes_as_in_an_hour(horizon: int) -> None:
    found = [factor for _, factor in knots(Sine(amplitude=0.5), horizon, 3)]
    assert min(found) < 0.51
    assert max(found) > 1.49


@given(st.lists(st.floats(0, 5), min_size=2, max_size=20), st.integers(400, 4000))
def test_points_are_met_at_their_own_moments_stretched_or_not(levels: list[float], horizon: int) -> None:
    trace = tuple((20.0 * number, level) for number, level in enumerate(levels))
    end = trace[-1][0]
    for stretch, scale in ((False, 1.0), (True, horizon / end)):
        found = knots(Points(points=trace, stretch_to_horizon=stretch), horizon, 1)
        for at, level in trace:
            assert factor_at(found, at * scale) == pytest.approx(level)


def test_open_arrivals_have_a_rate_with_fractions() -> None:
    found = shaped(workload(Constant(level=0.5), arrivals="open", rate_per_s=0.25, users=0), 60, 1)
    assert (found.rate_per_s, found.users) == (0.125, 0)
    assert [point.rate_per_s for point in found.curve] == [0.125, 0.125]


def test_a_workload_without_a_shape_stays_what_it_is() -> None:
    plain = Workload(name="plain")
    assert shaped(plain, 600, 1) is plain
