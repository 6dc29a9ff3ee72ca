"""A stream that shows faults is worth something alone; one that another repeats isn't needed; noise is worth nothing."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.baselines.folds import Fold
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.stream_minutes import STREAMS, StreamMinutes
from otel_control_gym.baselines.stream_values import StreamReport, report_on, stream_tables, train_on
from otel_control_gym.engine.randomness import derive_seed, draw_uniform

FAMILIES, ROWS = 24, 80
SHOWING, REPEATING, PARTIAL = "metrics of requests", "edges", "logs"


def noise(purpose: str, shape: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    seed = derive_seed(0, purpose)
    return np.array([draw_uniform(seed, number) for number in range(shape[0] * shape[1])]).reshape(shape)


def minutes(family: int, *, repeating: bool) -> StreamMinutes:
    """Every fifth row is faulty; the showing stream says so, and the repeating one, if it does, says the same."""
    faulty = np.arange(ROWS) % 5 == 0
    values = {
        stream: noise(f"{stream}/{family}", (ROWS, 2 * len(names))) + np.zeros((ROWS, 2 * len(names)))
        for stream, names in STREAMS.items()
    }
    values[SHOWING][:, 0] += 3.0 * faulty
    if repeating:
        values[REPEATING][:, 0] += 3.0 * faulty
    return StreamMinutes(family_id=f"family-{family:02}", fault_types=("cpu_pressure",), values=values, faulty=faulty)


def report(*, repeating: bool) -> StreamReport:
    runs = [minutes(family, repeating=repeating) for family in range(FAMILIES)]
    names = [run.family_id for run in runs]
    halves = (frozenset(names[::2]), frozenset(names[1::2]))
    folds = [
        Fold(name=str(number), train=halves[number], validation=frozenset(), scored=halves[1 - number])
        for number in range(2)
    ]
    return report_on(train_on(runs, folds), runs)


def lowest(found: Interval) -> float:
    assert found.low is not None
    return found.low


@pytest.fixture(scope="module")
def single() -> StreamReport:
    return report(repeating=False)


def test_the_stream_that_shows_faults_is_useful_alone_and_needed(single: StreamReport) -> None:
    of = {one.stream: one for one in single.streams}
    assert single.families == FAMILIES
    assert single.chance.value == pytest.approx(0.2)
    assert lowest(of[SHOWING].over_chance) > 0.5
    assert lowest(of[SHOWING].loss) > 0.5


def test_noise_is_neither(single: StreamReport) -> None:
    for one in single.streams:
        if one.stream != SHOWING:
            assert one.alone.value is not None
            assert one.alone.value < 0.35, one.stream
            assert one.loss.value == pytest.approx(0.0, abs=0.05)


def test_what_two_streams_both_show_neither_is_needed_for() -> None:
    of = {one.stream: one for one in report(repeating=True).streams}
    for stream in (SHOWING, REPEATING):
        assert lowest(of[stream].over_chance) > 0.5
        assert of[stream].loss.value == pytest.approx(0.0, abs=0.05)


def test_the_tables_have_a_row_for_every_stream_and_the_floor(single: StreamReport) -> None:
    whole, by_fault = stream_tables(single)
    assert [row[0] for row in whole.rows] == [*STREAMS, "all of them", "chance"]
    assert by_fault.columns == ("stream", "cpu_pressure")
