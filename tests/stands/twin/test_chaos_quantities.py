"""Chaos Mesh's numbers are read as its programs read them, odd corners included."""

from __future__ import annotations

import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.chaos_quantities import go_duration, memory_bytes, milliseconds, ramp_seconds, share


def test_durations_and_latencies_are_read_as_the_real_programs_read_them() -> None:
    assert go_duration("1h30m") == 5400 * SECOND
    assert go_duration("-5s") == -5 * SECOND
    assert go_duration("60") is None
    assert go_duration("") is None
    assert milliseconds("150ms") == 150.0
    assert milliseconds("2s") == 2000.0
    assert milliseconds("0.5s") == 0.0  # dropped: a fraction isn't recognised


def test_sizes_and_growth_times_of_memory_stress() -> None:
    assert memory_bytes("256MB") == memory_bytes("256MiB") == 256 * 2**20
    assert memory_bytes("1.5g") == 1536 * 2**20
    assert memory_bytes("256") is None
    assert ramp_seconds(None) == ramp_seconds([]) == 0.0
    assert ramp_seconds(["--time", "2m"]) == ramp_seconds(["--time=120s"]) == 120.0
    assert ramp_seconds(["--time soon"]) is None
    assert ramp_seconds("--time 90s") is None


@pytest.mark.parametrize(
    ("text", "expected"), [("8", 0.08), ("2.5", 0.025), ("200", 2.0), ("many", None), ("nan", None)]
)
def test_percentages_are_texts_whose_range_nobody_checks(text: str, expected: float | None) -> None:
    assert share(text) == expected
    assert share(8) is None
