"""The columnar store gives back what was put in: every sample at its time, NaN where a series had none."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.time_series import TimeSeries

scrapes = st.lists(
    st.dictionaries(st.integers(0, 400), st.floats(allow_nan=False), max_size=20), min_size=1, max_size=150
)


@given(scrapes, st.integers(0, 160), st.integers(0, 160))
def test_a_window_holds_the_samples_after_its_start_up_to_its_end(
    rows: list[dict[int, float]], after: int, until: int
) -> None:
    series = TimeSeries()
    for number in range(401):
        assert series.declare({"__name__": f"m{number}"}) == number
    for time, row in enumerate(rows):
        series.append(time, np.array(list(row), np.int64), np.array(list(row.values())))
    asked = np.arange(401)[::-1].copy()
    window = series.window(asked, after, until)
    expected = [time for time in range(len(rows)) if after < time <= until]
    assert window.times.tolist() == expected
    for line, time in enumerate(expected):
        for column, number in enumerate(asked.tolist()):
            value = window.values[line, column]
            assert value == rows[time][number] if number in rows[time] else np.isnan(value)


def test_what_is_older_than_the_retention_is_forgotten_with_the_series_that_ended_before() -> None:
    series = TimeSeries(retention_seconds=60)
    gone, kept = series.declare({"__name__": "gone"}), series.declare({"__name__": "kept"})
    both, one = np.array([gone, kept]), np.array([kept])
    series.append(0, both, np.array([1.0, 2.0]))
    series.end([gone], SECOND)
    for second in range(1, 300):
        series.append(second * SECOND, one, np.array([float(second)]))
    assert series.labels.keys() == {kept}
    assert series.removals == 1
    window = series.window(both, 0, 300 * SECOND)
    assert np.isnan(window.values[:, 0]).all()
    assert window.times[0] > 0
    assert window.times[-1] == 299 * SECOND
    assert window.times[0] <= (299 - 60) * SECOND


def test_a_series_without_samples_in_a_full_block_has_none() -> None:
    series = TimeSeries()
    numbers = np.array([series.declare({"__name__": f"m{number}"}) for number in range(256)])
    silent = series.declare({"__name__": "silent"})
    series.append(0, numbers, np.ones(256))
    assert np.isnan(series.window(np.array([silent]), -1, 0).values).all()
