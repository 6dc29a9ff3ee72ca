"""A paced clock shows what time it should be, and never gets back what was conceded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND, PacedClock

START = 1_767_571_200 * SECOND


class Timer:
    """A timer that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@given(st.floats(0.01, 1e4), st.floats(0.0, 1e5))
def test_it_runs_at_its_factor(factor: float, elapsed: float) -> None:
    timer = Timer()
    clock = PacedClock(START, factor, timer)
    assert clock.now == START
    timer.seconds += elapsed
    assert abs(clock.now - START - elapsed * factor * SECOND) <= max(1000, elapsed * factor)  # rounding of floats


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=5))
def test_what_is_shown_and_what_was_conceded_add_up_to_the_pace(parts: list[tuple[int, int]]) -> None:
    timer = Timer()
    clock = PacedClock(START, 2.0, timer)
    for seconds, conceded in parts:
        timer.seconds += seconds
        reached = clock.now - conceded * SECOND
        clock.concede(reached)
        assert clock.now == reached
    assert clock.conceded == sum(conceded for _, conceded in parts) * SECOND
    assert clock.now + clock.conceded == START + 2 * sum(seconds for seconds, _ in parts) * SECOND
