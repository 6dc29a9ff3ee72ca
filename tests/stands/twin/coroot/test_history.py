"""A history forgets nothing of its newest points, however they came and however many things there are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.stands.twin.coroot.history import History

blocks = st.lists(st.tuples(st.integers(1, 40), st.lists(st.integers(0, 60), unique=True, max_size=8)), max_size=40)


@given(blocks, st.integers(5, 60))
def test_the_newest_points_are_those_that_were_appended_last(added: list[tuple[int, list[int]]], keep: int) -> None:
    history = History[int](2, keep)
    expected: dict[int, dict[int, float]] = {}
    time = 0
    for points, keys in added:
        points = min(points, keep)
        times = list(range(time + 1, time + 1 + points))
        block = np.array([[[key * 1e6 + quantity * 1e5 + at for at in times] for quantity in (0, 1)] for key in keys])
        history.append(times, keys, block.reshape(len(keys), 2, points))
        for key in keys:
            expected.setdefault(key, {}).update({at: key * 1e6 + 1e5 + at for at in times})
        time += points
    view = history.view(time - keep, time)
    assert view.times.tolist() == list(range(max(0, time - keep) + 1, time + 1))
    found = {
        key: {
            at: value
            for at, value in zip(view.times.tolist(), view.values[row, 1].tolist(), strict=True)
            if value == value
        }
        for row, key in enumerate(view.keys)
    }
    recent = {key: {at: value for at, value in told.items() if at > time - keep} for key, told in expected.items()}
    assert {key: told for key, told in found.items() if told} == {key: told for key, told in recent.items() if told}


def test_things_that_are_long_gone_take_no_room() -> None:
    history = History[int](1, 10)
    for time in range(1, 1000):
        history.append([time], [time // 50], np.ones((1, 1, 1)))
    assert len(history.view(0, 1000).keys) <= 2
