"""A difference of latencies is what was put there, its interval holds the truth as often as it says, each verdict says what to do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from otel_control_gym.engine.probing.effects import Difference, Latency, difference, judged, latency
from otel_control_gym.engine.randomness import draw_uniform

EDGE = "frontend->cart"


def window(seed: int, mean_ms: float, intervals: int = 8) -> Latency:
    """Return what is measured where both the calls of an interval and how long they take vary."""
    calls = np.array([20 + round(40 * draw_uniform(seed, 1, number)) for number in range(intervals)], np.float64)
    drift = np.array([4 * (draw_uniform(seed, 2, number) - 0.5) for number in range(intervals)])
    found = latency(calls, calls * (mean_ms + drift))
    assert found is not None
    return found


def test_the_interval_holds_the_true_difference_in_95_of_100_cases() -> None:
    hits = 0
    for seed in range(400):
        found = difference(window(2 * seed, 53.0), window(2 * seed + 1, 3.0))
        hits += abs(found.milliseconds - 50.0) <= found.half_width_ms
    assert abs(hits - 380) < 4 * math.sqrt(400 * 0.95 * 0.05)


def test_the_mean_is_that_of_the_calls_not_of_the_intervals() -> None:
    found = latency(np.array([1.0, 0.0, 99.0]), np.array([100.0, 0.0, 99.0]))
    assert found is not None
    assert found.mean_ms == pytest.approx(1.99)
    assert (found.calls, found.intervals) == (100, 2)


def test_with_two_intervals_nothing_is_known_of_the_error_and_without_calls_nothing_at_all() -> None:
    few = latency(np.array([5.0, 5.0]), np.array([10.0, 10.0]))
    assert few is not None
    assert judged(EDGE, "now", 50, difference(few, few)).status == "unknown"
    assert latency(np.zeros(3), np.zeros(3)) is None


@pytest.mark.parametrize(
    ("asked", "milliseconds", "half_width", "status", "said"),
    [
        (0, 0.4, 1.0, "ok", "+0.40 ± 1.00 ms"),
        (50, 57.0, 2.0, "ok", "+57.00 ± 2.00 ms"),
        (0, 12.0, 1.0, "failed", "where nothing should show"),
        (50, 1.0, 2.0, "failed", "no delay, though Chaos Mesh says that it is there"),
        (50, 101.0, 3.0, "warning", "in place of 50 ms"),
        (50, 25.0, 3.0, "warning", "in place of 50 ms"),
        (50, 50.0, 11.0, "unknown", "too unsteady"),
    ],
)
def test_what_was_measured_is_judged_by_what_was_asked_for(
    asked: int, milliseconds: float, half_width: float, status: str, said: str
) -> None:
    finding = judged(EDGE, "then", asked, Difference(milliseconds=milliseconds, half_width_ms=half_width))
    assert (finding.status, said in finding.found) == (status, True), finding
    assert bool(finding.remedy) == (status != "ok")
