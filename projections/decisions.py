"""Lives of actions ➜ rows of `actions.parquet` and `labels.parquet`.

In: the public and the hidden lives of a state. Out: a row each for both tables. Labels come from life-cycle events and nothing else:
what a tool suspected is in `weak_labels.parquet`. When something was in force, and when it wasn't meanwhile, says `stretches`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_control_gym.engine.events import ActionRequested
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.stretches import gaps_of, stretch_of

__all__ = ("action_rows", "label_rows")

Row = dict[str, Any]

_FORMER_SYMPTOMS: Mapping[str, tuple[str, ...]] = {
    "cpu_pressure": ("cpu_saturation", "latency"),
    "network_delay": ("latency",),
}
"""What a fault was expected to show when requests didn't say so themselves: logs of that time fold to the labels of that time."""

_SHORT_SECONDS, _MEDIUM_SECONDS = 60, 300


def action_rows(state: RunState) -> list[Row]:
    """Return the rows of the actions table, sorted."""
    rows = [_action(life, visibility) for life, visibility in _lives(state)]
    return sorted(rows, key=lambda row: (row["time"], row["action_id"]))


def label_rows(state: RunState) -> list[Row]:
    """Return the rows of the labels table, sorted."""
    rows = [_label(life, visibility) for life, visibility in _lives(state)]
    return sorted(rows, key=lambda row: (row["start"], row["action_id"]))


def _lives(state: RunState) -> list[tuple[Life, str]]:
    public = [(life, "public") for life in state.lives.all()]
    return public + [(life, "truth") for life in state.truth.lives.all()]


def _action(life: Life, visibility: str) -> Row:
    asked = life.requested
    edge = asked.target if asked.target_kind == "edge" else None
    service = asked.target if asked.target_kind == "service" else None
    return {
        "time": asked.time,
        "actor": asked.actor,
        "action_id": asked.action_id,
        "parent_action_id": asked.parent_action_id,
        "action_type": asked.action_type,
        "action_class": asked.action_class,
        "target_kind": asked.target_kind,
        "target": asked.target,
        "target_service": edge.partition("->")[2] if edge is not None else service,
        "target_edge": edge,
        "parameters": json.dumps(asked.parameters, sort_keys=True),
        "duration_s": None if asked.duration_ns is None else asked.duration_ns / 1e9,
        "status": None if life.settled is None else life.settled.status,
        "precheck_status": None if life.prechecked is None else life.prechecked.verdict,
        "postcheck_status": None if life.postchecked is None else life.postchecked.verdict,
        "requested": asked.time,
        "applied": None if life.applied is None else life.applied.time,
        "effective": None if life.postchecked is None else life.postchecked.effective_time,
        "reverted": None if life.reverted is None else life.reverted.time,
        "settled": None if life.settled is None else life.settled.time,
        "decision_step": asked.decision_step,
        "decision_log_sequence": asked.decision_log_sequence,
        "propensity": asked.propensity,
        "alternatives": None if asked.alternatives is None else json.dumps(asked.alternatives, sort_keys=True),
        "policy_version": asked.policy_version,
        "policy_information": asked.policy_information,
        "visibility": visibility,
        "error": life.error,
        "evidence": None if life.postchecked is None else json.dumps(life.postchecked.evidence, sort_keys=True),
    }


def _label(life: Life, visibility: str) -> Row:
    asked = life.requested
    is_fault = asked.action_class == "intervention"
    stretch = stretch_of(life)
    intensity = asked.parameters.get("intensity")
    return {
        "action_id": asked.action_id,
        "intervention_id": asked.action_id if is_fault else None,
        "is_fault": is_fault,
        "fault_type": asked.action_type if is_fault else None,
        "target": asked.target,
        "start": asked.time,
        "end": None if asked.duration_ns is None else asked.time + asked.duration_ns,
        "actual_start": stretch.start,
        "actual_end": stretch.end,
        "end_censored": life.applied is not None and asked.duration_ns is not None and stretch.end is None,
        "intensity": None if intensity is None else str(intensity),
        "duration_class": asked.parameters.get("duration_class", _duration_class(asked.duration_ns)),
        "root_cause_kind": asked.root_cause_kind or asked.target_kind,
        "expected_symptoms": _symptoms(asked),
        "applied": _took_effect(life),
        "visibility": visibility,
        "actual_start_precision_s": _in_seconds(stretch.start_precision_ns),
        "actual_end_precision_s": _in_seconds(stretch.end_precision_ns),
        "gaps": json.dumps([gap.as_mapping() for gap in gaps_of(life)]),
        "data_lost": bool(asked.parameters.get("data_lost", False)) and _took_effect(life) is True,
    }


def _in_seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def _symptoms(asked: ActionRequested) -> list[str]:
    if asked.root_cause_kind:
        return list(asked.expected_symptoms)
    return list(_FORMER_SYMPTOMS.get(asked.action_type, ())) if asked.action_class == "intervention" else []


def _took_effect(life: Life) -> bool | None:
    """Return what the postcheck saw; what was refused or failed before can't have taken effect, what wasn't seen is null."""
    if life.postchecked is not None and life.postchecked.verdict != "unverified":
        return True
    if life.settled is not None and life.settled.status in ("rejected", "failed"):
        return False
    return None


def _duration_class(duration_ns: int | None) -> str:
    """Return the class of a duration in the words of a time when requests didn't say it; `open` also now."""
    if duration_ns is None:
        return "open"
    seconds = duration_ns / 1e9
    if seconds <= _SHORT_SECONDS:
        return "short"
    return "medium" if seconds <= _MEDIUM_SECONDS else "long"
