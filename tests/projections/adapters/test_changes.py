"""A change is dated by what came before it: not by noise, not by one odd reading, and the same whatever the unit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.projections.adapters.changes import CONSECUTIVE, DEVIATIONS, FEWEST_BEFORE, Change, first_change

BEFORE = np.array([10.0, 11.0, 9.0, 10.0, 12.0, 8.0, 10.0, 11.0, 9.0, 10.0])


def judged(after: list[float], *, before: npt.NDArray[np.float64] = BEFORE, floor: float = 0.0) -> object:
    values = np.concatenate([before, after])
    return first_change(values, start=0, split=len(before), end=len(values), floor=floor)


@given(onset=st.integers(0, 20), height=st.floats(20.0, 1e6), sign=st.sampled_from([-1.0, 1.0]))
def test_a_step_is_dated_by_its_first_value(onset: int, height: float, sign: float) -> None:
    change = judged([10.0] * onset + [10.0 + sign * height] * CONSECUTIVE)
    assert isinstance(change, Change)
    assert change.bucket == len(BEFORE) + onset
    assert change.direction == ("up" if sign > 0 else "down")
    assert change.before == 10.0


@given(st.lists(st.floats(8.0, 12.0), min_size=CONSECUTIVE, max_size=40))
def test_what_stays_within_what_was_seen_before_is_no_change(after: list[float]) -> None:
    assert judged(after) == "unchanged"


def test_one_odd_reading_is_no_change() -> None:
    assert judged([10.0, 1000.0, 10.0, 10.0]) == "unchanged"


def test_two_odd_readings_in_opposite_directions_are_no_change() -> None:
    assert judged([1000.0, -1000.0, 1000.0, -1000.0]) == "unchanged"


def test_a_gap_does_not_interrupt_a_change() -> None:
    change = judged([10.0, 1000.0, float("nan"), 1000.0])
    assert isinstance(change, Change)
    assert change.bucket == len(BEFORE) + 1


def test_the_spread_before_decides_how_far_is_far() -> None:
    spread = 1.4826 * float(np.median(np.abs(BEFORE - 10.0)))
    below, above = 10.0 + DEVIATIONS * spread * 0.99, 10.0 + DEVIATIONS * spread * 1.01
    assert judged([below, below]) == "unchanged"
    assert isinstance(judged([above, above]), Change)


def test_a_difference_below_the_floor_does_not_matter() -> None:
    calm = np.full(10, 0.001)
    assert isinstance(judged([0.5, 0.5], before=calm, floor=0.4), Change)
    assert judged([0.5, 0.5], before=calm, floor=0.6) == "unchanged"


@given(scale=st.sampled_from([1e-3, 1.0, 2.0**20]), height=st.floats(0.0, 100.0))
def test_the_verdict_does_not_depend_on_the_unit(scale: float, height: float) -> None:
    once, scaled = judged([10.0 + height] * 3), judged([(10.0 + height) * scale] * 3, before=BEFORE * scale)
    assert isinstance(once, Change) == isinstance(scaled, Change)


def test_with_too_little_before_or_after_nobody_can_say() -> None:
    assert judged([99.0, 99.0], before=BEFORE[: FEWEST_BEFORE - 1]) == "undecided"
    assert judged([99.0]) == "undecided"
    assert judged([float("nan")] * 9) == "undecided"
