"""Alarms are events that begin: neither an alarm that is always on nor one that stammers is worth more than it tells."""

from __future__ import annotations

import numpy as np
import pytest

from otel_control_gym.baselines.alarms import (
    bystanders,
    count_alarms,
    event_starts,
    point_adjusted_counts,
    threshold_for,
)
from otel_control_gym.baselines.entity_series import FEATURES, EntitySeries
from otel_control_gym.baselines.fault_windows import BucketKind, Fault, RunTruth, bucket_kinds

BUCKETS = 60


def fault(onset: float = 200, end: float = 320) -> Fault:
    return Fault(
        action_id="a",
        fault_type="cpu_pressure",
        kind="service",
        target="cart",
        ends=("cart",),
        named_service="cart",
        intensity="visible",
        onset=onset,
        end=end,
        affected=("cart", "frontend"),
    )


def series() -> EntitySeries:
    services = ("frontend", "cart", "ad")
    return EntitySeries(
        run_id="R",
        family_id="f",
        configuration="shop",
        bucket_seconds=10,
        warmup_buckets=6,
        seconds=10.0 * BUCKETS,
        services=services,
        edges=(),
        values=np.zeros((BUCKETS, len(services), len(FEATURES))),
        suspicions=np.zeros((BUCKETS, len(services))),
    )


def truth(*faults: Fault, actions: tuple[tuple[float, str, str], ...] = ()) -> RunTruth:
    return RunTruth(run_id="R", family_id="f", stratum="single_fault", faults=faults, actions=actions)


def scores(*rows: tuple[int, int], buckets: slice = slice(0)) -> np.ndarray:
    """Return scores [T, 3] that are 9 in the cells that are named, and for all services in `buckets`."""
    found = np.zeros((BUCKETS, 3))
    for bucket, entity in rows:
        found[bucket, entity] = 9.0
    found[buckets] = 9.0
    return found


def test_buckets_are_told_apart_and_a_fault_comes_first() -> None:
    kinds = bucket_kinds(truth(fault(205, 320), actions=((500.0, "scale", "cart"), (210.0, "restart", "ad"))), series())
    assert kinds[5] == BucketKind.WARM_UP
    assert kinds[19] == BucketKind.CALM
    assert (kinds[20:32] == BucketKind.FAULT).all()  # from the bucket that it touches, whatever else was done
    assert (kinds[32:44] == BucketKind.AFTERMATH).all()
    assert (kinds[50:60] == BucketKind.BENIGN).all()


def test_an_event_survives_a_pause_of_one_bucket() -> None:
    assert event_starts(np.array([True, False, True, False, False, True])) == [0, 5]


def test_the_delay_runs_to_the_close_of_the_first_bucket_of_the_event() -> None:
    found = count_alarms(series(), scores(buckets=slice(23, 25)), bucket_kinds(truth(fault()), series()), [fault()], 1)
    assert [detection.delay_s for detection in found.detections] == [40.0]


def test_an_alarm_that_was_on_before_finds_nothing() -> None:
    kinds = bucket_kinds(truth(fault()), series())
    found = count_alarms(series(), scores(buckets=slice(6, BUCKETS)), kinds, [fault()], 1)
    assert found.detections[0].delay_s is None
    assert (found.calm_events, found.alarmed_calm_hours) == (1, found.calm_hours)


def test_false_alarms_are_counted_where_they_begin() -> None:
    happened = truth(fault(), actions=((460.0, "scale", "cart"),))
    kinds = bucket_kinds(happened, series())
    alarmed = scores(buckets=slice(10, 12)) + scores(buckets=slice(47, 48)) + scores(buckets=slice(33, 34))
    found = count_alarms(series(), alarmed, kinds, happened.faults, 1)
    assert (found.calm_events, found.benign_events) == (1, 1)  # that of the aftermath is none
    assert found.benign_hours == pytest.approx(120 / 3600)
    assert found.fault_hours == pytest.approx(120 / 3600)


def test_in_a_fault_only_what_it_should_not_show_on_is_a_false_alarm() -> None:
    kinds = bucket_kinds(truth(fault()), series())
    assert bystanders([fault()], series().entities).tolist() == [False, False, True]
    on_target = count_alarms(series(), scores((25, 1), (26, 0)), kinds, [fault()], 1)
    beside = count_alarms(series(), scores((25, 2)), kinds, [fault()], 1)
    assert (on_target.bystander_events, beside.bystander_events) == (0, 1)


def test_the_threshold_is_the_lowest_that_calm_windows_bear() -> None:
    """Peaks of 1 … 10 in calm buckets of one hour: at most three events an hour leaves the three highest above it."""
    score = np.zeros(360)
    score[5:355:35] = np.arange(1.0, 11.0)
    kinds = np.full(360, int(BucketKind.CALM))
    assert threshold_for([score], [kinds], 10 / 3600, 3.0) == 7.0
    assert threshold_for([score], [kinds], 10 / 3600, 0.5) == 10.0


def test_faults_do_not_raise_the_threshold() -> None:
    score, kinds = np.zeros(360), np.full(360, int(BucketKind.CALM))
    score[100:200], kinds[100:200] = 50.0, BucketKind.FAULT
    score[5] = 1.0
    assert threshold_for([score], [kinds], 10 / 3600, 0.5) == 1.0


def test_point_adjustment_calls_a_range_found_by_one_of_its_buckets() -> None:
    kinds = np.full(20, int(BucketKind.CALM))
    kinds[5:15] = BucketKind.FAULT
    score = np.zeros(20)
    score[7] = score[2] = 1.0
    assert point_adjusted_counts(score, kinds, np.array([0.5, 2.0])).tolist() == [[10, 0], [11, 0], [10, 10]]
