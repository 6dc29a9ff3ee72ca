"""When a fault was in force: gaps lie between its start and its end, in order, and what never came back has ended."""

from __future__ import annotations

import json
from typing import Any, Literal, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionLapsed,
    ActionPostchecked,
    ActionRequested,
    ActionResumed,
    ActionReverted,
    Recorded,
)
from otel_control_gym.projections import fold
from otel_control_gym.projections.decisions import label_rows
from otel_control_gym.projections.happenings import happenings
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.stretches import Gap, Stretch, gaps_of, stretch_of

Verdict: TypeAlias = Literal["effective", "partial", "unverified"]
START, END = 10 * SECOND, 100 * SECOND


def lapsed(seconds: int, *left: str) -> ActionLapsed:
    return ActionLapsed(
        time=(seconds + 1) * SECOND,
        action_id="a",
        lost=("pod-1",),
        left=left,
        end_time=seconds * SECOND,
        precision_ns=SECOND,
        reason="replaced",
    )


def resumed(seconds: int) -> ActionResumed:
    moment = seconds * SECOND
    return ActionResumed(time=moment, action_id="a", places=("pod-2",), resumed_time=moment, precision_ns=0)


def life(*watched: ActionLapsed | ActionResumed, reverted: bool = True) -> Life:
    asked = ActionRequested(
        time=START,
        action_id="a",
        actor="scripted",
        action_class="intervention",
        action_type="cpu_pressure",
        target_kind="service",
        target="cart",
        parameters={},
    )
    shown = ActionPostchecked(
        time=START, action_id="a", verdict="effective", effective_time=START, evidence={}, precision_ns=SECOND
    )
    back = ActionReverted(time=END, action_id="a", precision_ns=0) if reverted else None
    return Life(requested=asked, postchecked=shown, watched=watched, reverted=back)


def spans(*watched: ActionLapsed | ActionResumed) -> list[tuple[int, int | None, bool]]:
    gaps = gaps_of(life(*watched))
    return [(gap.start // SECOND, None if gap.end is None else gap.end // SECOND, gap.partial) for gap in gaps]


def test_what_nothing_happened_to_lasts_until_it_is_taken_back() -> None:
    stretch = Stretch(start=START, start_precision_ns=SECOND, end=END, end_precision_ns=0)
    assert (stretch_of(life()), gaps_of(life())) == (stretch, [])


def test_what_lapsed_and_never_came_back_has_ended_then_whatever_was_taken_back_later() -> None:
    for reverted in (True, False):
        ended = life(lapsed(50), reverted=reverted)
        assert stretch_of(ended).end == 50 * SECOND
        assert stretch_of(ended).end_precision_ns == SECOND
        assert gaps_of(ended) == []


def test_what_came_back_has_a_gap_and_ends_when_it_is_taken_back() -> None:
    assert spans(lapsed(50), resumed(56)) == [(50, 56, False)]
    assert stretch_of(life(lapsed(50), resumed(56))).end == END


def test_a_loss_of_some_places_is_partial_until_it_is_all_of_them_or_none() -> None:
    assert spans(lapsed(50, "pod-2")) == [(50, 100, True)]
    assert stretch_of(life(lapsed(50, "pod-2"))).end == END
    assert spans(lapsed(50, "pod-2"), lapsed(55, "pod-3"), resumed(60)) == [(50, 60, True)]
    assert spans(lapsed(50, "pod-2"), lapsed(55), resumed(60)) == [(50, 55, True), (55, 60, False)]
    assert spans(lapsed(50, "pod-2"), lapsed(55)) == [(50, 55, True)], "the rest is the end"
    assert stretch_of(life(lapsed(50, "pod-2"), lapsed(55))).end == 55 * SECOND


def test_the_end_of_what_lost_more_after_it_had_nothing_left_is_the_first_of_them() -> None:
    assert stretch_of(life(lapsed(50), lapsed(60))).end == 50 * SECOND
    assert spans(lapsed(50), lapsed(60)) == []


@given(st.lists(st.tuples(st.sampled_from(["all", "some", "back"]), st.integers(0, 9)), max_size=12))
def test_gaps_are_in_order_disjoint_and_within_the_stretch(history: list[tuple[str, int]]) -> None:
    seconds, watched = 10, list[ActionLapsed | ActionResumed]()
    for kind, later in history:
        seconds = min(99, seconds + later)
        watched.append(resumed(seconds) if kind == "back" else lapsed(seconds, *(["pod-3"] if kind == "some" else [])))
    told = life(*watched)
    stretch, gaps = stretch_of(told), gaps_of(told)
    assert stretch.end is not None
    edges = [edge for gap in gaps for edge in (gap.start, gap.end or 0)]
    assert [START, *edges, stretch.end] == sorted([START, *edges, stretch.end])
    assert all(gap.end is not None and gap.start < gap.end for gap in gaps)


def test_the_label_of_an_intervention_tells_its_gaps_and_the_truth_s_events_tell_why(
    eventful: list[Recorded],
) -> None:
    state = fold(eventful)
    (label,) = [row for row in label_rows(state) if row["is_fault"]]
    (gap,) = json.loads(label["gaps"])
    assert (gap["partial"], gap["reason"], label["actual_start_precision_s"]) == (False, "pod replaced", None)
    told = {row.type: row for row in happenings(state, 0, 2**62, truth=True) if row.source == "actions"}
    assert set(told) == {"wrote", "lapsed", "resumed", "forced"}
    assert {row.visibility for row in told.values()} == {"truth"}
    assert (told["wrote"].object, told["wrote"].caused_by_action_id) == ("deployments/scale/cart", "scale-1")
    assert told["wrote"].message == "uid=deployment-cart resource_version=41..43"


def test_a_policy_sees_nothing_of_what_became_of_interventions(eventful: list[Recorded]) -> None:
    public = [entry for entry in eventful if not entry.truth]
    seen = happenings(fold(eventful), 0, 2**62, truth=False)
    assert seen == happenings(fold(public), 0, 2**62, truth=False)
    assert not [row for row in seen if row.source == "actions"]


@pytest.mark.parametrize("end", [None, 60 * SECOND])
def test_a_gap_is_told_with_its_times_or_open(end: int | None) -> None:
    told = Gap(50 * SECOND, end, partial=False, reason="replaced").as_mapping()
    assert told["start"] == "1970-01-01T00:00:50.000000Z"
    assert told["end"] == (None if end is None else "1970-01-01T00:01:00.000000Z")


@pytest.mark.parametrize(("verdict", "lost"), [("effective", True), ("partial", True), ("unverified", False)])
def test_data_is_lost_if_the_fault_that_costs_it_took_effect(verdict: Verdict, lost: bool, scribe: Any) -> None:
    log = scribe(())
    asked = msgspec.structs.replace(life().requested, parameters={"data_lost": True})
    looked = ActionPostchecked(time=START, action_id="a", verdict=verdict, effective_time=None, evidence={})
    for event in (asked, looked):
        log.add(event, truth=True)
    (label,) = label_rows(fold(log.entries))
    assert label["data_lost"] is lost
