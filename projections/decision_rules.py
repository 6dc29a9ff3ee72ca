"""Rules about decisions, actions and labels: who decided when, with which probability; what is truth stays marked as truth.

In: a `CheckedRun` whose metadata and graph keep their schemas. Out: violations. These are the rules that off-policy evaluation and every
score against labels rest on.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from otel_control_gym.projections.rules import CheckedRun, Rule

__all__ = ("DECISION_RULES",)

Found = Iterator[tuple[str, str]]
Row = Mapping[str, Any]

ACTIONS, LABELS, EVENTS, REWARDS = "actions.parquet", "labels.parquet", "events.parquet", "rewards.parquet"
_STAGES = ("requested", "applied", "reverted", "settled")  #: in the order in which they happen
_STATUSES = ("rejected", "failed", "applied", "partial", "unverified")
_TOLERANCE = 1e-6


def _decisions(run: CheckedRun) -> list[Row]:
    return [row for row in run.actions if row["decision_step"] is not None]


def _steps(run: CheckedRun) -> Found:
    found = Counter(row["decision_step"] for row in _decisions(run))
    twice = sorted(step for step, count in found.items() if count > 1)
    if twice:
        yield ACTIONS, f"more than one decision in step {twice[0]}"
    missing = sorted(set(range(len(found))) - set(found))
    if missing:
        yield ACTIONS, f"no decision in step {missing[0]}, though there are later ones"


def _step_order(run: CheckedRun) -> Found:
    for before, after in pairwise(sorted(_decisions(run), key=lambda row: int(row["decision_step"]))):
        if after["requested"] <= before["requested"]:
            yield ACTIONS, f"decision {after['decision_step']} wasn't requested after the one before it"
        if (after["decision_log_sequence"] or 0) < (before["decision_log_sequence"] or 0):
            yield ACTIONS, f"decision {after['decision_step']} knew less of the log than the one before it"


def _actor(run: CheckedRun) -> Found:
    for row in run.actions:
        if row["action_class"] == "intervention" and row["decision_step"] is not None:
            yield ACTIONS, f"{row['action_id']} is an intervention and a control step's decision"


def _propensity(run: CheckedRun) -> Found:
    for row in run.actions:
        if row["propensity"] is not None and not 0 < row["propensity"] <= 1:
            yield ACTIONS, f"{row['action_id']} was chosen with probability {row['propensity']:g}"


def _alternatives(run: CheckedRun) -> Found:
    for row in run.actions:
        if row["alternatives"] is None:
            continue
        try:
            chances = [float(alternative["probability"]) for alternative in json.loads(row["alternatives"])]
        except (ValueError, TypeError, KeyError):
            yield ACTIONS, f"{row['action_id']}: its alternatives aren't a list of objects with a `probability`"
            continue
        if not math.isclose(sum(chances), 1.0, abs_tol=_TOLERANCE) or min(chances) < 0:
            yield ACTIONS, f"{row['action_id']}: the probabilities of its alternatives sum to {sum(chances):g}"


def _parameters(run: CheckedRun) -> Found:
    for row in run.actions:
        try:
            parameters = json.loads(row["parameters"])
        except ValueError:
            parameters = None
        if not isinstance(parameters, dict):
            yield ACTIONS, f"{row['action_id']}: its parameters aren't a JSON object"


def _stages(run: CheckedRun) -> Found:
    for row in run.actions:
        moments = [(stage, row[stage]) for stage in _STAGES if row[stage] is not None]
        for (before, earlier), (after, later) in pairwise(moments):
            if later < earlier:
                yield ACTIONS, f"{row['action_id']} was {after} before it was {before}"
        if row["effective"] is not None and (row["applied"] is None or row["effective"] < row["applied"]):
            yield ACTIONS, f"{row['action_id']} was effective before it was applied"


def _status(run: CheckedRun) -> Found:
    for row in run.actions:
        status = row["status"]
        if status is not None and status not in _STATUSES:
            yield ACTIONS, f"{row['action_id']} has status {status!r}"
        elif (status == "rejected") != (row["precheck_status"] == "rejected" and status is not None):
            yield ACTIONS, f"{row['action_id']} is {status}, its precheck {row['precheck_status']}"
        elif status == "rejected" and row["applied"] is not None:
            yield ACTIONS, f"{row['action_id']} was rejected, and applied"
        if (status is None) != (row["settled"] is None):
            yield ACTIONS, f"{row['action_id']} has a status without having settled, or settled without one"


def _same_actions(run: CheckedRun) -> Found:
    if not {"actions", "labels"} <= set(run.tables):
        return
    one, other = ({row["action_id"]: row["visibility"] for row in rows} for rows in (run.actions, run.rows("labels")))
    if one != other:
        yield LABELS, "other actions, or another visibility, than in actions.parquet"


def _label_times(run: CheckedRun) -> Found:
    for row in run.rows("labels"):
        for before, after in (("start", "end"), ("start", "actual_start"), ("actual_start", "actual_end")):
            if row[before] is not None and row[after] is not None and row[after] < row[before]:
                yield LABELS, f"{row['action_id']}: {after} lies before {before}"
        if row["end_censored"] and row["actual_end"] is not None:
            yield LABELS, f"{row['action_id']}: its end was seen, and is said to be censored"


def _label_kind(run: CheckedRun) -> Found:
    classes = {row["action_id"]: (row["action_class"], row["action_type"]) for row in run.actions}
    for row in run.rows("labels"):
        kind, name = classes.get(row["action_id"], ("", ""))
        fault = kind == "intervention"
        wanted = (fault, name if fault else None, row["action_id"] if fault else None)
        if kind and (row["is_fault"], row["fault_type"], row["intervention_id"]) != wanted:
            yield LABELS, f"{row['action_id']}: an {kind}, labelled as fault {row['fault_type']}"


def _visibility(run: CheckedRun) -> Found:
    for name, table in run.tables.items():
        if "visibility" in table.schema.names:
            strange = set(table["visibility"].to_pylist()) - {"public", "truth"}
            if strange:
                yield f"{name}.parquet", f"visibility {', '.join(sorted(map(str, strange)))}"


def _hidden(run: CheckedRun) -> Found:
    hidden = {row["action_id"] for row in run.actions if row["visibility"] != "public"}
    for row in run.actions:
        if row["action_class"] == "intervention" and row["visibility"] == "public":
            yield ACTIONS, f"{row['action_id']} is an intervention, and public"
    public = [row for row in run.rows("events") if row["visibility"] == "public"]
    for file, column, rows in ((EVENTS, "caused_by_action_id", public), (REWARDS, "action_id", run.rows("rewards"))):
        told = sorted({row[column] for row in rows} & hidden)
        if told:
            yield file, f"public rows name hidden actions: {', '.join(told)}"


def _schedule(run: CheckedRun) -> Found:
    for key, kind in (("action_schedule", "action"), ("intervention_schedule", "intervention")):
        planned = Counter(entry["action_id"] for entry in run.metadata[key])
        done = Counter(
            row["action_id"] for row in run.actions if row["action_class"] == kind and row["action_type"] != "noop"
        )
        if "actions" in run.tables and planned != done:
            differing = sorted((planned - done) | (done - planned))
            yield "metadata.json", f"{key} has other actions than actions.parquet: {', '.join(differing)}"


DECISION_RULES: tuple[Rule, ...] = (
    Rule("decision-steps", "each control step has exactly one decision row, noop included", _steps),
    Rule("decision-order", "later decisions were requested later, and knew at least as much of the log", _step_order),
    Rule("decision-actor", "an intervention is no control step's decision", _actor),
    Rule("propensity", "a propensity is a probability above 0", _propensity),
    Rule(
        "alternatives",
        "the probabilities of what was weighed, the decision among it, sum to 1",
        _alternatives,
    ),
    Rule("parameters", "parameters are a JSON object", _parameters),
    Rule("action-times", "an action is requested, applied, effective, reverted and settled in that order", _stages),
    Rule("action-status", "a status is a known one, fits the precheck's verdict, and comes with settling", _status),
    Rule("labels", "actions.parquet and labels.parquet have the same actions, with the same visibility", _same_actions),
    Rule("label-times", "a label's times are in order, and an end that was seen isn't censored", _label_times),
    Rule("label-kind", "a label says fault of interventions, with their type, and of nothing else", _label_kind),
    Rule("visibility", "a row is public or truth", _visibility),
    Rule("hidden-truth", "interventions are truth, and no public row names one", _hidden),
    Rule("schedules", "the schedules of metadata.json and actions.parquet have the same actions", _schedule),
)
