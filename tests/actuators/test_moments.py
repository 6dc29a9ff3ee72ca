"""A moment is known as well as the stand's stamps or the looks tell, and never better."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.actuators.moments import Span, newest, span_between
from otel_control_gym.engine.clock import SECOND


def stamp(moment: int) -> str:
    """Return a moment as Kubernetes writes it."""
    return datetime.fromtimestamp(moment // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


moments = st.integers(0, 20 * SECOND)


@given(moments, moments, moments)
def test_what_happened_between_two_looks_lies_in_the_span_whether_or_not_it_bears_a_stamp(
    first: int, second: int, third: int
) -> None:
    before, happened, now = sorted((first, second, third))
    if before == happened:
        return
    for text in ("", stamp(happened)):
        span = span_between(before, now, text)
        assert before <= span.moment - span.precision_ns <= happened <= span.moment <= now
    assert span_between(before, now, stamp(happened)).precision_ns <= SECOND


def test_a_stamp_from_before_the_last_look_or_from_the_future_says_something_else() -> None:
    looks = Span(20 * SECOND, 5 * SECOND)
    assert span_between(15 * SECOND, 20 * SECOND, stamp(3 * SECOND)) == looks
    assert span_between(15 * SECOND, 20 * SECOND, stamp(40 * SECOND)) == looks
    assert span_between(15 * SECOND, 20 * SECOND, stamp(17 * SECOND)) == Span(18 * SECOND, SECOND)


def test_the_newest_stamp_is_known_only_if_all_are() -> None:
    early, late = stamp(3 * SECOND), stamp(5 * SECOND)
    assert newest([late, early]) == late
    assert newest([late, ""]) == ""
    assert newest([]) == ""
