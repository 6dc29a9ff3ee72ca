"""Labels beside symptoms: what a monitoring tool suspected, what really was, and where models err.

In: a campaign's runs with truth, and the predictions that `ocg baseline evaluate next-state` keeps. Out: sections of the report. Model
errors are parted by two yes-or-no questions about a service at the control step that is foretold: was a fault on it (truth), and was it
suspected (weak label)? Errors are those of `headline`: scaled by persistence, averaged within (application, service, feature), over
features, with intervals over families.

Blocking. Upstream: `weak_label_scores`, `headline`. Downstream: `report`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from otel_control_gym.baselines.evaluations import Cell, Evaluation, Table
from otel_control_gym.baselines.intervals import Interval, family_scores, mean_interval
from otel_control_gym.baselines.labelled_runs import main_runs
from otel_control_gym.baselines.report_parts import Picture, Section, interval
from otel_control_gym.baselines.report_plots import Row, forest
from otel_control_gym.baselines.weak_label_scores import (
    FaultSymptoms,
    SuspectedRun,
    WeakLabelReport,
    suspected_run,
    weak_label_report,
    weak_label_tables,
)
from otel_control_gym.engine.errors import DatasetError

__all__ = ("labels_section", "streams_section")

_MODEL, _METHOD = "boosted", "direct"
_ERRORS = {"action known": "y_ac", "passive": "y_passive", "persistence": "y_persistence"}
_STATES = ("neither", "suspected only", "fault only", "both")


def labels_section(directory: Path, predictions: Path | None, commands: Sequence[str]) -> Section:
    """Return where labels and symptoms part, and how models do there.

    Raises: DatasetError: a file can't be read. UsageError: the campaign has no runs.
    """
    opened = main_runs(directory)
    runs = [suspected_run(run) for run in opened]
    origins = {run.run_id: datetime.fromisoformat(run.run_start).timestamp() for run in opened}
    report = weak_label_report(directory.name.removeprefix("campaign="), runs)
    errors = None
    if predictions is not None:
        errors = _errors(_read(predictions), {run.truth.run_id: run for run in runs}, origins)
    tables = list(weak_label_tables(report))
    if errors is not None:
        tables.append(_error_table(errors))
    rows = [
        Row(name=one.fault_type or "all", part=what, found=found)
        for one in report.faults
        for what, found in (("found", one.found), ("named", one.named))
    ]
    caption = (
        "Share of faults after which Coroot suspected a service on which the fault should show (found), and the one in which "
        "it sits (named). 95 % intervals over families; faint: fewer than twelve."
    )
    return Section(
        key="labels_and_symptoms",
        question="Where do labels diverge from symptoms? Weak labels beside truth and model errors",
        answers=tuple(_answers(report)),
        tables=tuple(tables),
        pictures=(Picture(name="weak_labels", caption=caption, png=forest(rows, axis="share of faults", marks={})),)
        if any(row.found.value is not None for row in rows)
        else (),
        figures={
            "weak_labels": msgspec.to_builtins(report),
            **({} if errors is None else {"model_errors": msgspec.to_builtins(errors)}),
        },
        wanting=tuple(commands) if predictions is None else (),
    )


def _answers(report: WeakLabelReport) -> list[str]:
    whole, *by_type = report.faults
    silent = [one for one in by_type if one.found.high is not None and one.found.high < 0.5 and not one.found.too_few]
    return [
        f"Coroot's weak labels find {whole.found.shown} of {whole.faults} faults and name the service of {whole.named.shown}; "
        f"of what they suspect in runs with faults {whole.precision.shown} is right.",
        f"Labels without symptoms: {_without_symptoms(whole)}",
        "Types of fault of which the weak labels find fewer than half: "
        + (", ".join(f"{one.fault_type} ({one.found.shown})" for one in silent) or "none that can be shown")
        + ".",
        f"Symptoms without labels: {report.suspicions_in_calm} of {report.suspicions} suspicions have neither a fault nor an action "
        f"behind them, {report.calm_suspicions_per_hour.shown} an hour.",
    ]


def _without_symptoms(whole: FaultSymptoms) -> str:
    certified = {name: count for name, count in whole.certificates.items() if name != "uncertified"}
    if not certified:
        return "not known, no fault has an effect certificate (`ocg campaign certify` makes them)."
    hidden = certified.get("masked", 0) + certified.get("none", 0)
    return f"{hidden} of {sum(certified.values())} certified faults were felt by no user (masked or none)."


def _read(predictions: Path) -> pa.Table:
    try:
        rows = pq.read_table(
            predictions, filters=[("model", "=", _MODEL), ("method", "=", _METHOD), ("kind", "=", "node")]
        )
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"{predictions} can't be read: {error}\n  `ocg baseline evaluate next-state` writes it anew"
        ) from error
    known = pc.is_finite(rows["y_true"])
    for column in _ERRORS.values():
        known = pc.and_(known, pc.is_finite(rows[column]))
    return rows.filter(known)


def _errors(
    rows: pa.Table, runs: Mapping[str, SuspectedRun], origins: Mapping[str, float]
) -> dict[str, dict[str, Interval]]:
    """Return {state: {model: scaled error}} of services."""
    names = {name: rows[name].to_pylist() for name in ("run_id", "family_id", "configuration", "entity", "feature")}
    starts = rows["time"].cast(pa.int64()).to_numpy() / 1e6
    state = np.array(
        [
            _state(runs[run], entity, start - origins[run]) if run in runs else ""
            for run, entity, start in zip(names["run_id"], names["entity"], starts, strict=True)
        ]
    )
    truth, scale = rows["y_true"].to_numpy(), rows["scale"].to_numpy()
    errors = np.stack([np.abs(rows[column].to_numpy() - truth) / scale for column in _ERRORS.values()])
    found: dict[str, dict[str, Interval]] = {}
    for name in _STATES:
        chosen = np.flatnonzero(state == name)
        scores = family_scores(
            [names["family_id"][row] for row in chosen],
            [(names["configuration"][row], names["entity"][row]) for row in chosen],
            [names["feature"][row] for row in chosen],
            errors[:, chosen],
        )
        found[name] = {model: mean_interval(scores, number) for number, model in enumerate(_ERRORS)}
    return found


def _state(run: SuspectedRun, service: str, second: float) -> str:
    faulty = any(
        fault.onset <= second < fault.end and service in (*fault.affected, *fault.ends) for fault in run.truth.faults
    )
    suspected = any(one.service == service and one.start <= second < one.end for one in run.suspicions)
    return _STATES[2 * faulty + suspected]


def _error_table(errors: dict[str, dict[str, Interval]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (state, by_model["passive"].families, *(by_model[model].shown for model in _ERRORS))
        for state, by_model in errors.items()
    ]
    return Table(
        title="Scaled error of models on services, by truth and weak label at the step that is foretold",
        columns=("on the service", "families", *_ERRORS),
        rows=tuple(rows),
        note=f"{_MODEL}, {_METHOD}; 1 is persistence on training families; suspected only: a weak label without a fault",
    )


def streams_section(found: Evaluation | None, commands: Sequence[str]) -> Section:
    """Return which telemetry streams are useful."""
    question = "Which telemetry streams are useful?"
    if found is None:
        return Section(key="telemetry_streams", question=question, wanting=tuple(commands))
    streams: list[dict[str, Any]] = list(found.figures["streams"])
    needed = [one["stream"] for one in streams if _above(interval(one["loss"]))]
    telling = [one["stream"] for one in streams if _above(interval(one["over_chance"]))]
    rows = [
        Row(name=f"{one['stream']}: {what}", part=what, found=interval(one[key]))
        for one in streams
        for what, key in (("alone", "alone"), ("all but it", "without"))
    ]
    everything = interval(found.figures["everything"])
    marks = {} if everything.value is None else {"all of them": everything.value}
    chance = interval(found.figures["chance"])
    if chance.value is not None:
        marks["chance"] = chance.value
    return Section(
        key="telemetry_streams",
        question=question,
        answers=(
            f"With all streams a fault's service is found with an average precision of {everything.shown}; chance is {chance.shown}.",
            "Useful alone (better than chance): " + (", ".join(telling) or "none that can be shown") + ".",
            "Needed (the rest is worse without it): "
            + (", ".join(needed) or "none that can be shown: they overlap")
            + ".",
        ),
        tables=found.tables,
        pictures=(
            Picture(
                name="streams",
                caption="Average precision of finding the service that a fault is on, on families that weren't trained on. 95 % intervals.",
                png=forest(rows, axis="average precision", marks=marks),
            ),
        ),
        figures=found.figures,
    )


def _above(found: Interval) -> bool:
    return not found.too_few and found.low is not None and found.low > 0
