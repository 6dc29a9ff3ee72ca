"""A trajectory is what the policy was shown, did and earned, and its end says whether the last state's value is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from otel_control_gym.engine.events import (
    ActionRequested,
    ClockAdvanced,
    Event,
    PhaseEntered,
    Recorded,
    RunAborted,
    RunEnded,
)
from otel_control_gym.projections import fold, observation_arrays
from otel_control_gym.projections.trajectories import Trajectory, trajectory

At = Callable[[float], int]


def lived(scribe: Any, at: At, *, steps: int = 3, end: Event | None = None, broken: bool = False) -> list[Recorded]:
    """Return the public log of a run of 30 s steps after a warm-up of 30 s; `broken`: a decision follows that has no step."""
    log = scribe()
    for seconds in range(0, 31, 5):
        log.calls(seconds, 10 * seconds)
    log.flush(30)
    log.add(PhaseEntered(time=at(30), phase="control"))
    for number in range(steps + broken):
        start = 30 + 30 * number
        log.add(
            ActionRequested(
                time=at(start),
                action_id=f"a{number}",
                actor="model",
                action_class="action",
                action_type="scale",
                target_kind="service",
                target="cart",
                parameters={"replicas": number},
                decision_step=number,
                propensity=0.25,
            )
        )
        if number < steps:
            for seconds in range(start + 5, start + 31, 5):
                log.calls(seconds, 10 * seconds + number)
            log.flush(start + 30)
            closing = log.entries.pop().event
            log.add(ClockAdvanced(time=closing.time, since=closing.since, decision_step=number, lag_ns=0))
    if end is not None:
        log.add(end)
    return [entry for entry in log.entries if not entry.truth]


def seen(entries: list[Recorded]) -> Trajectory:
    found = trajectory(entries)
    assert found is not None
    return found


def test_there_is_one_observation_more_than_steps(scribe: Any, at: At) -> None:
    found = seen(lived(scribe, at, steps=3, end=RunEnded(time=at(120), reason="horizon")))
    assert len(found.times) == len(found.nodes) == len(found.edges) == 4
    assert [life.requested.parameters["replicas"] for life in found.lives] == [0, 1, 2]
    assert len(found.rewards) == 3
    assert found.times.tolist() == [at(30), at(60), at(90), at(120)]


def test_each_observation_is_the_fold_of_the_log_up_to_it(scribe: Any, at: At) -> None:
    entries = lived(scribe, at, end=RunEnded(time=at(120), reason="horizon"))
    found = seen(entries)
    for position, sequence in enumerate(found.sequences.tolist()):
        state = fold(entry for entry in entries if entry.seq <= sequence)
        granularity = state.settings.granularity
        arrays = observation_arrays(
            state,
            int(found.times[position]),
            window_seconds=granularity.observation_window_seconds,
            bucket_seconds=granularity.observation_bucket_seconds,
        )
        assert np.array_equal(arrays.nodes, found.nodes[position], equal_nan=True)


def test_what_comes_in_late_does_not_change_what_was_seen_before(scribe: Any, at: At) -> None:
    """The samples of a step that come with the next one are in the table of the run, not in the observation that lacked them."""
    late, due = scribe(), scribe()
    for log in (late, due):
        for seconds in range(0, 31, 5):
            log.calls(seconds, 10 * seconds)
        log.flush(30)
        log.add(PhaseEntered(time=at(30), phase="control"))
        if log is late:
            log.add(ClockAdvanced(time=at(60), since=at(30), decision_step=0, lag_ns=0))
        for seconds in range(35, 61, 5):
            log.calls(seconds, 10 * seconds)
        log.flush(60)
        if log is due:
            log.add(ClockAdvanced(time=at(60), since=at(30), decision_step=0, lag_ns=0))
    lacked, whole = (seen(_with_decision(log, at)) for log in (late, due))
    known = [int((~np.isnan(found.nodes[1])).sum()) for found in (lacked, whole)]
    assert known[0] < known[1]


def _with_decision(log: Any, at: At) -> list[Recorded]:
    request = ActionRequested(
        time=at(30),
        action_id="a0",
        actor="model",
        action_class="action",
        action_type="noop",
        target_kind="none",
        target="",
        parameters={},
        decision_step=0,
    )
    position = next(i for i, entry in enumerate(log.entries) if getattr(entry.event, "phase", "") == "control") + 1
    log.entries.insert(position, Recorded(seq=0, event=request))
    public = [entry for entry in log.entries if not entry.truth]
    return [msgspec.structs.replace(entry, seq=number) for number, entry in enumerate(public, start=1)]


@pytest.mark.parametrize("reason", ["goal", "emergency", "reset_required", "stand_lost"])
def test_an_end_that_the_state_brought_about_is_a_termination(scribe: Any, at: At, reason: Any) -> None:
    found = seen(lived(scribe, at, end=RunEnded(time=at(120), reason=reason)))
    assert (found.terminated, found.truncated, found.done_reason) == (True, False, reason)


ENDS_FROM_OUTSIDE: dict[str, Callable[[int], Event | None]] = {
    "horizon": lambda now: RunEnded(time=now, reason="horizon"),
    "closed": lambda now: RunEnded(time=now, reason="closed"),
    "broken off": lambda now: RunAborted(time=now, reason="goal"),  # whatever it says
    "no end": lambda _: None,
}


@pytest.mark.parametrize("end", ENDS_FROM_OUTSIDE.values(), ids=ENDS_FROM_OUTSIDE)
def test_an_end_from_outside_is_a_truncation(scribe: Any, at: At, end: Callable[[int], Event | None]) -> None:
    found = seen(lived(scribe, at, end=end(at(120))))
    assert (found.terminated, found.truncated) == (False, True)


def test_a_step_that_the_run_broke_off_within_is_left_out(scribe: Any, at: At) -> None:
    found = seen(lived(scribe, at, steps=2, broken=True, end=RunAborted(time=at(95), reason="killed")))
    assert len(found.lives) == len(found.rewards) == len(found.times) - 1 == 2


def test_a_run_without_a_step_is_no_trajectory(scribe: Any, at: At) -> None:
    assert trajectory(lived(scribe, at, steps=0)) is None


def test_what_somebody_else_did_is_named(scribe: Any, at: At) -> None:
    entries = lived(scribe, at)
    human = ActionRequested(
        time=at(90),
        action_id="by-hand",
        actor="human",
        action_class="action",
        action_type="restart",
        target_kind="service",
        target="cart",
        parameters={},
    )
    entries.append(Recorded(seq=entries[-1].seq + 1, event=human))
    assert seen(entries).by_others == ("by-hand",)
    assert seen(entries[:-1]).by_others == ()
