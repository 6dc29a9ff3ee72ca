"""The fold has a place for every event, keeps truth apart, and refuses a log that contradicts itself."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

from otel_control_gym.engine.clean_telemetry import CLEAN_FORMS
from otel_control_gym.engine.errors import LogCorrupted
from otel_control_gym.engine.events import (
    EVENT_TYPES,
    ActionSettled,
    PhaseEntered,
    PodsTransitioned,
    PodTransition,
    Recorded,
    RunDeclared,
    SamplesCollected,
    SeriesDeclaration,
    SeriesDeclared,
    TruthDeclared,
)
from otel_control_gym.projections import fold, initial, step
from otel_control_gym.projections.happenings import happenings


def test_every_event_of_the_catalogue_has_been_folded_by_some_test_log(eventful: list[Recorded]) -> None:
    left_out = {kind.__name__ for kind in EVENT_TYPES} - {type(entry.event).__name__ for entry in eventful}
    clean = {kind.__name__ for kind in CLEAN_FORMS.values()}  # folded by the tests of distorted telemetry
    assert left_out <= {"ActionFailed", "RunAborted", "BranchTaken", *clean}  # branches: tests/engine/test_branches.py


def test_the_state_counts_public_and_truth_positions_apart(eventful: list[Recorded]) -> None:
    state = fold(eventful)
    assert state.sequence == sum(not entry.truth for entry in eventful)
    assert state.truth.sequence == sum(entry.truth for entry in eventful)
    assert [life.requested.action_id for life in state.lives.all()] == ["scale-1", "scale-2"]
    assert [life.requested.action_id for life in state.truth.lives.all()] == ["fault-1"]


def test_deployments_are_shown_as_they_were_last_seen(eventful: list[Recorded]) -> None:
    assert [(status.name, status.replicas_desired) for status in fold(eventful).deployments()] == [("cart", 2)]


def test_the_script_of_a_run_is_refused_in_its_public_stream(eventful: list[Recorded]) -> None:
    script = next(entry.event for entry in eventful if isinstance(entry.event, TruthDeclared))
    with pytest.raises(LogCorrupted, match="truth"):
        step(initial(), Recorded(seq=1, event=script))


def test_telemetry_is_refused_in_the_truth_stream(eventful: list[Recorded], at: Any) -> None:
    with pytest.raises(LogCorrupted, match="truth stream"):
        step(fold(eventful), Recorded(seq=99, event=PhaseEntered(time=at(0), phase="reset"), truth=True))


def test_a_second_declaration_is_refused(eventful: list[Recorded]) -> None:
    assert isinstance(eventful[0].event, RunDeclared)
    with pytest.raises(LogCorrupted, match="twice"):
        step(fold(eventful), Recorded(seq=99, event=eventful[0].event))


def test_the_end_of_an_action_that_nobody_requested_is_refused(eventful: list[Recorded], at: Any) -> None:
    with pytest.raises(LogCorrupted, match="never requested"):
        step(fold(eventful), Recorded(seq=99, event=ActionSettled(time=at(0), action_id="x", status="applied")))


def test_samples_of_a_series_that_nobody_declared_are_refused(eventful: list[Recorded], at: Any) -> None:
    stray = SamplesCollected(
        time=at(0), series=np.array([999], np.int32), times=np.array([at(0)]), values=np.array([1.0])
    )
    with pytest.raises(LogCorrupted, match="declared"):
        step(fold(eventful), Recorded(seq=99, event=stray))


def test_a_skipped_series_number_is_refused(eventful: list[Recorded], at: Any) -> None:
    row = SeriesDeclaration(series=999, labels={"__name__": "x"})
    with pytest.raises(LogCorrupted, match="dense"):
        step(fold(eventful), Recorded(seq=99, event=SeriesDeclared(time=at(0), rows=(row,))))


def test_samples_out_of_order_are_refused(eventful: list[Recorded], at: Any) -> None:
    crossed = SamplesCollected(
        time=at(0), series=np.array([1, 0], np.int32), times=np.array([at(200), at(200)]), values=np.array([1.0, 1.0])
    )
    with pytest.raises(LogCorrupted, match="sorted"):
        step(fold(eventful), Recorded(seq=99, event=crossed))


@pytest.mark.parametrize("seconds", [50, 120])
def test_a_sample_that_is_not_newer_than_the_last_is_ignored(eventful: list[Recorded], at: Any, seconds: int) -> None:
    state = fold(eventful)
    before, count = state.samples.values.copy(), state.samples.count
    again = SamplesCollected(
        time=at(120), series=np.array([0], np.int32), times=np.array([at(seconds)]), values=np.array([9e9])
    )
    step(state, Recorded(seq=99, event=again))
    assert np.array_equal(state.samples.values, before)
    assert state.samples.count == count


def test_what_happens_to_one_pod_at_one_moment_stays_in_its_order(scribe: Any, at: Any) -> None:
    log = scribe()
    changes: tuple[tuple[Literal["added", "modified", "deleted"], str], ...] = (
        ("added", "Pending"),
        ("modified", "Running"),
        ("modified", "Pending"),
        ("deleted", "Succeeded"),
    )
    rows = [
        PodTransition(
            time=at(10),
            change=change,
            service="cart",
            pod="cart-1",
            uid="pod",
            owner_uid="",
            phase=phase,
            ready=False,
            restart_count=0,
        )
        for change, phase in changes
    ]
    log.add(PodsTransitioned(time=at(10), rows=tuple(rows[:2])))
    log.add(PodsTransitioned(time=at(20), rows=tuple(rows[2:])))
    found = happenings(fold(log.entries), at(5), at(20), truth=False)
    assert [row.type for row in found] == ["created", "started", "changed", "deleted"]
    assert [row.message.split()[0].removeprefix("phase=") for row in found] == [phase for _, phase in changes]


def test_a_counter_that_is_marked_stale_keeps_what_it_had_counted(scribe: Any) -> None:
    log = scribe()
    for seconds, value in ((0, 10.0), (5, 20.0), (10, float("nan")), (15, 5.0)):
        log.calls(seconds, value)
    log.flush(15)
    assert fold(log.entries).samples.values[:, 0].tolist() == [10, 20, 20, 25]
