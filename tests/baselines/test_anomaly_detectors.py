"""Detectors see what moved beyond what is usual, in public rows that were there in time, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import numpy as np
import pytest
from sklearn.utils import check_random_state

from otel_control_gym.baselines.anomaly_detectors import (
    Chance,
    Constant,
    Detector,
    Findings,
    ForecastResidual,
    Forest,
    RobustDeviation,
    ThreeSigma,
    system_score,
)
from otel_control_gym.baselines.entity_series import FEATURES, EntitySeries

LEARNING: tuple[Callable[[], Detector], ...] = (
    RobustDeviation,
    lambda: Forest(1),
    ForecastResidual,
    ThreeSigma,
)
LATENCY = FEATURES.index("latency_mean_ms")
JUMPS = np.array([10.0, 0.3, 200.0, 0.5, 5e7, 5e4, 5e4])
LEVELS = np.array([20.0, 0.0, 40.0, 0.2, 1e8, 1e4, 1e4, 0.0, 0.0, 0.0])
UNITS = np.array([1.0, 0.0, 4.0, 0.01, 1e6, 500.0, 500.0, 0.0, 0.0, 0.0])


def a_run(number: int, *, level: float = 1.0) -> EntitySeries:
    """Return a calm run of two services and the call between them."""
    noise = check_random_state(number).uniform(-1.5, 1.5, size=(100, 3, len(FEATURES)))
    values = level * (LEVELS + UNITS * noise)
    values[:, 2, 3:9] = np.nan
    return EntitySeries(
        run_id=f"R{number}",
        family_id=f"f{number}",
        configuration="shop",
        bucket_seconds=10,
        warmup_buckets=6,
        seconds=1000.0,
        services=("frontend", "cart"),
        edges=(("frontend", "cart"),),
        values=values,
        suspicions=np.zeros((100, 2)),
    )


def slowed(run: EntitySeries, bucket: int) -> EntitySeries:
    """Return a run in which cart is slow, fails, and is busy in one bucket, and its caller sees that."""
    values = run.values.copy()
    values[bucket, 1, : len(JUMPS)] += JUMPS
    values[bucket, 2, LATENCY] += JUMPS[LATENCY]
    return msgspec.structs.replace(run, values=values)


def fitted(make: Callable[[], Detector]) -> Detector:
    detector, runs = make(), [a_run(number) for number in range(4)]
    detector.fit(runs, [np.arange(100) >= 6 for _ in runs])
    return detector


@pytest.mark.parametrize("make", LEARNING)
def test_a_jump_is_the_oddest_bucket_and_its_service_the_oddest_entity(make: Callable[[], Detector]) -> None:
    scores = fitted(make).score(slowed(a_run(9), 50))
    assert int(np.argmax(system_score(scores))) == 50
    assert int(np.nanargmax(scores[50])) == 1


@pytest.mark.parametrize("make", LEARNING)
def test_what_comes_later_changes_no_score(make: Callable[[], Detector]) -> None:
    detector = fitted(make)
    before, after = detector.score(a_run(9)), detector.score(slowed(a_run(9), 50))
    assert np.array_equal(before[:50], after[:50], equal_nan=True)


@pytest.mark.parametrize("make", [RobustDeviation, lambda: Forest(1), ForecastResidual])
def test_a_run_of_an_application_that_train_never_held_is_scored(make: Callable[[], Detector]) -> None:
    other = msgspec.structs.replace(slowed(a_run(9), 50), configuration="bank")
    assert int(np.argmax(system_score(fitted(make).score(other)))) == 50


def test_a_level_of_its_own_is_no_anomaly_by_the_warm_up() -> None:
    """The load of a run differs from train's: only the chart of train's mean calls all of it odd."""
    busy = a_run(9, level=1.5)
    usual = system_score(fitted(RobustDeviation).score(a_run(9)))
    assert np.median(system_score(fitted(RobustDeviation).score(busy))) < 3 * np.median(usual)
    assert np.median(system_score(fitted(ThreeSigma).score(busy))) > 5.0


def test_less_than_an_effect_is_never_three_units_out() -> None:
    """Errors stood still in train: half of what counts as an effect is no anomaly for all that."""
    run = a_run(9)
    values = run.values.copy()
    values[50, 1, FEATURES.index("error_ratio")] += 0.005
    scores = fitted(RobustDeviation).score(msgspec.structs.replace(run, values=values))
    error_only = msgspec.structs.replace(run, values=np.where(np.arange(len(FEATURES)) == 1, values, LEVELS))
    assert fitted(RobustDeviation).score(error_only)[50, 1] == pytest.approx(1.5)
    assert np.isfinite(scores[50, 1])


def test_missing_readings_are_no_anomaly() -> None:
    run = a_run(9)
    values = run.values.copy()
    values[40:60, 1] = np.nan
    scores = fitted(RobustDeviation).score(msgspec.structs.replace(run, values=values))
    assert np.isnan(scores[40:60, 1]).all()
    assert np.isfinite(system_score(scores)).all()


def test_the_same_seed_gives_the_same_scores_and_another_one_others() -> None:
    makers: tuple[Callable[[int], Detector], ...] = (Forest, Chance)
    for make in makers:
        first, again, other = (fitted(partial(make, seed)).score(a_run(9)) for seed in (1, 1, 2))
        assert np.array_equal(first, again, equal_nan=True)
        assert not np.array_equal(first, other, equal_nan=True)


def test_the_tool_speaks_of_services_alone_and_the_floors_of_nothing() -> None:
    run = msgspec.structs.replace(a_run(1), suspicions=np.eye(100, 2))
    scores = Findings().score(run)
    assert scores[:2, :2].tolist() == [[1, 0], [0, 1]]
    assert np.isnan(scores[:, 2]).all()
    assert not Constant().score(run).any()


def test_the_application_is_as_odd_as_its_three_oddest_entities() -> None:
    scores = np.array([[1.0, 5.0, 3.0, np.nan, 2.0], [np.nan] * 5])
    assert system_score(scores).tolist() == [10 / 3, 0.0]
