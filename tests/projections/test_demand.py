"""Demand is what the load generator counted between two readings of its own; without them it is unknown."""

from __future__ import annotations

from typing import Any

import numpy as np

from otel_control_gym.projections import fold
from otel_control_gym.projections.demand import demand
from otel_control_gym.projections.inputs import control_input_rows


def test_counts_begin_at_zero_and_open_requests_are_carried_over(scribe: Any) -> None:
    log = scribe()
    log.workload([(5, 50, 45, 1), (10, 100, 98, 3)])
    log.flush(10)
    state = fold(log.entries)
    found = demand(state, state.buckets(5))
    assert found.scheduled.tolist() == [50, 50]
    assert found.served.tolist() == [45, 53]
    assert found.failed.tolist() == [1, 2]
    assert found.open_before.tolist() == [0, 5]
    assert found.open_after.tolist() == [5, 2]


def test_a_missed_reading_makes_its_bucket_unknown_and_leaves_no_row(scribe: Any) -> None:
    log = scribe()
    log.workload([(5, 50, 50, 0), (15, 150, 150, 0)])
    log.flush(15)
    state = fold(log.entries)
    found = demand(state, state.buckets(5))
    assert np.array_equal(found.scheduled, [50, np.nan, 100], equal_nan=True)
    rates = [row["value"] for row in control_input_rows(state, state.buckets(5)) if row["name"] == "offered_rate"]
    assert rates == [10, 10]


def test_a_load_generator_that_began_anew_counts_on(scribe: Any) -> None:
    log = scribe()
    log.workload([(5, 50, 50, 2), (10, 30, 20, 1)])
    log.flush(10)
    state = fold(log.entries)
    found = demand(state, state.buckets(10))
    assert (found.scheduled[0], found.served[0], found.failed[0]) == (80, 70, 3)
