"""Coroot's suspicions beside the truth: which faults it named, how late, and of what it suspected services without a fault.

In: a campaign's directory. Out: `WeakLabelReport`, for the report's page on where labels diverge from symptoms.

A *suspicion* is a service's stretch of buckets in `weak_labels.parquet`. It is right if a fault that should show on that service is in
force while it begins, or was until two minutes before. A fault is *found* if such a suspicion begins in that time; *named* if one of them
is of a service in which the fault sits. Weak labels stand where Coroot says that trouble began, also if it said so later: delays here are
those of the label, not of the alarm (`anomalies` has that).

Faults without symptoms: what effect certificates call `masked` or `none`, where the campaign was certified. Symptoms without faults:
suspicions that begin within two minutes of an action, without a fault, by the action's type; and those in calm windows.

Upstream: `labelled_runs`' rules, without its telemetry. Downstream: `ocg report`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from otel_control_gym.baselines.anomaly_tables import shown_interval
from otel_control_gym.baselines.evaluations import Cell, Table
from otel_control_gym.baselines.family_rates import FamilyRates
from otel_control_gym.baselines.fault_windows import SETTLING_SECONDS, Fault, RunTruth, read_truth
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.labelled_runs import main_runs
from otel_control_gym.engine.runs import Run

__all__ = (
    "ActionSymptoms",
    "FaultSymptoms",
    "SuspectedRun",
    "Suspicion",
    "WeakLabelReport",
    "compare_weak_labels",
    "suspected_run",
    "weak_label_report",
    "weak_label_tables",
)

_UNCERTIFIED = "uncertified"


class Suspicion(msgspec.Struct, frozen=True, kw_only=True):
    """A service that Coroot suspects without a pause; seconds after the run's start."""

    service: str
    start: float
    end: float


class SuspectedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a run, and what Coroot made of it."""

    truth: RunTruth
    seconds: float
    suspicions: tuple[Suspicion, ...]
    certificates: Mapping[str, str]  #: class by action_id


class FaultSymptoms(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of a type (None: all), and the suspicions in their runs."""

    fault_type: str | None
    families: int
    faults: int
    found: Interval  #: recall
    named: Interval  #: of the faults: a suspected service is the one in which it sits
    precision: Interval  #: of the suspicions in runs with such a fault and no other: right ones
    median_delay_s: float | None
    certificates: dict[str, int]  #: faults by class of their certificate
    found_by_certificate: dict[str, int]  #: those of them that were found


class ActionSymptoms(msgspec.Struct, frozen=True, kw_only=True):
    """Actions of a type that changed something while there was no fault."""

    action_type: str
    families: int
    actions: int
    suspected: Interval  #: share after which a suspicion began


class WeakLabelReport(msgspec.Struct, frozen=True, kw_only=True):
    """Weak labels beside truth."""

    campaign: str
    runs: int
    suspicions: int
    suspicions_in_calm: int  #: neither a fault nor an action stands behind them
    calm_suspicions_per_hour: Interval
    faults: tuple[FaultSymptoms, ...]  #: all, then by type
    actions: tuple[ActionSymptoms, ...]  #: by type


def compare_weak_labels(directory: Path) -> WeakLabelReport:
    """Return Coroot's suspicions in a campaign (`campaign=NAME`) beside the truth.

    Raises: UsageError: there is no such campaign, or no run in it. DatasetError: a file can't be read.
    """
    runs = [suspected_run(run) for run in main_runs(directory)]
    return weak_label_report(directory.name.removeprefix("campaign="), runs)


def suspected_run(run: Run) -> SuspectedRun:
    """Return what happened in a run that was opened with truth, and what Coroot made of it."""
    origin = datetime.fromisoformat(run.run_start)
    width = float(run.metadata["granularity_config"]["observation_bucket_seconds"])
    rows = run.table("weak_labels", columns=["time", "service"]).to_arrow().to_pylist()
    buckets: dict[str, list[float]] = {}
    for row in rows:
        buckets.setdefault(row["service"], []).append((row["time"] - origin).total_seconds())
    certificates = run.table("certificates", columns=["action_id", "class"]).to_arrow().to_pylist()
    return SuspectedRun(
        truth=read_truth(run),
        seconds=(datetime.fromisoformat(run.run_end) - origin).total_seconds(),
        suspicions=tuple(
            Suspicion(service=service, start=start, end=end)
            for service in sorted(buckets)
            for start, end in _stretches(sorted(buckets[service]), width)
        ),
        certificates={row["action_id"]: row["class"] for row in certificates},
    )


def weak_label_report(campaign: str, runs: Sequence[SuspectedRun]) -> WeakLabelReport:
    """Return what runs that were read already come to."""
    types = sorted({fault.fault_type for run in runs for fault in run.truth.faults})
    in_calm = [[one for one in run.suspicions if _is_calm(run, one.start)] for run in runs]
    hours = [_calm_seconds(run) / 3600 for run in runs]
    return WeakLabelReport(
        campaign=campaign,
        runs=len(runs),
        suspicions=sum(len(run.suspicions) for run in runs),
        suspicions_in_calm=sum(len(found) for found in in_calm),
        calm_suspicions_per_hour=FamilyRates([run.truth.family_id for run in runs]).rate(
            [float(len(found)) for found in in_calm], hours
        ),
        faults=tuple(_fault_symptoms(fault_type, runs) for fault_type in (None, *types)),
        actions=_action_symptoms(runs),
    )


def weak_label_tables(report: WeakLabelReport) -> tuple[Table, ...]:
    """Return both parts for people."""
    faults: list[tuple[Cell, ...]] = [
        (
            row.fault_type or "all",
            row.families,
            row.faults,
            shown_interval(row.found),
            shown_interval(row.named),
            shown_interval(row.precision),
            None if row.median_delay_s is None else f"{row.median_delay_s:.0f}",
            ", ".join(
                f"{row.found_by_certificate.get(name, 0)} of {count} {name}"
                for name, count in sorted(row.certificates.items())
            ),
        )
        for row in report.faults
    ]
    actions: list[tuple[Cell, ...]] = [
        (row.action_type, row.families, row.actions, shown_interval(row.suspected)) for row in report.actions
    ]
    return (
        Table(
            title="Coroot's suspicions beside the faults",
            columns=(
                "fault",
                "families",
                "faults",
                "found",
                "named",
                "precision",
                "median delay s",
                "found by certificate",
            ),
            rows=tuple(faults),
            note="found: a service on which it should show was suspected; named: the service in which it sits was",
        ),
        Table(
            title="Suspicions without a fault, after an action",
            columns=("action", "families", "actions", "followed by a suspicion"),
            rows=tuple(actions),
            note=f"in calm windows {shown_interval(report.calm_suspicions_per_hour)} suspicions begin per hour",
        ),
    )


# --- parts ----------------------------------------------------------------------------------------------------------------


def _stretches(starts: Sequence[float], width: float) -> list[tuple[float, float]]:
    """Return buckets that follow each other as one."""
    found: list[tuple[float, float]] = []
    for start in starts:
        if found and start - found[-1][1] < width / 2:
            found[-1] = (found[-1][0], start + width)
        else:
            found.append((start, start + width))
    return found


def _fault_symptoms(fault_type: str | None, runs: Sequence[SuspectedRun]) -> FaultSymptoms:
    pairs = [(run, fault) for run in runs for fault in run.truth.faults if fault_type in (None, fault.fault_type)]
    families = FamilyRates([run.truth.family_id for run, _ in pairs])
    found = [_found(run, fault) for run, fault in pairs]
    delays = [
        min(one.start for one in right) - fault.onset for right, (_, fault) in zip(found, pairs, strict=True) if right
    ]
    certificates = [run.certificates.get(fault.action_id, _UNCERTIFIED) for run, fault in pairs]
    alone = [
        run
        for run in runs
        if run.truth.faults and all(fault_type in (None, fault.fault_type) for fault in run.truth.faults)
    ]
    right = [sum(_is_right(run, one) for one in run.suspicions) for run in alone]
    return FaultSymptoms(
        fault_type=fault_type,
        families=families.count,
        faults=len(pairs),
        found=families.mean([float(bool(one)) for one in found]),
        named=families.mean(
            [
                float(any(suspicion.service in fault.ends for suspicion in one))
                for one, (_, fault) in zip(found, pairs, strict=True)
            ]
        ),
        precision=FamilyRates([run.truth.family_id for run in alone]).rate(
            [float(count) for count in right], [float(len(run.suspicions)) for run in alone]
        ),
        median_delay_s=float(np.median(delays)) if delays else None,
        certificates=dict(sorted(Counter(certificates).items())),
        found_by_certificate=dict(
            sorted(Counter(name for name, one in zip(certificates, found, strict=True) if one).items())
        ),
    )


def _found(run: SuspectedRun, fault: Fault) -> list[Suspicion]:
    """Return the suspicions that begin while a fault shows, on services on which it should."""
    return [one for one in run.suspicions if _shows(fault, one.start) and one.service in _places(fault)]


def _is_right(run: SuspectedRun, suspicion: Suspicion) -> bool:
    return any(_shows(fault, suspicion.start) and suspicion.service in _places(fault) for fault in run.truth.faults)


def _places(fault: Fault) -> tuple[str, ...]:
    return (*fault.affected, *fault.ends)


def _shows(fault: Fault, moment: float) -> bool:
    return fault.onset <= moment < fault.end + SETTLING_SECONDS


def _is_calm(run: SuspectedRun, moment: float) -> bool:
    """Return whether neither a fault nor an action can stand behind what begins then."""
    acted = any(start <= moment < start + SETTLING_SECONDS for start, _, _ in run.truth.actions)
    return not acted and not any(_shows(fault, moment) for fault in run.truth.faults)


def _calm_seconds(run: SuspectedRun) -> float:
    return float(sum(_is_calm(run, float(second)) for second in range(int(run.seconds))))


def _action_symptoms(runs: Sequence[SuspectedRun]) -> tuple[ActionSymptoms, ...]:
    acted: dict[str, list[tuple[str, bool]]] = {}
    for run in runs:
        for moment, action_type, _ in run.truth.actions:
            if any(
                _shows(fault, moment) or moment <= fault.onset < moment + SETTLING_SECONDS for fault in run.truth.faults
            ):
                continue
            followed = any(moment <= one.start < moment + SETTLING_SECONDS for one in run.suspicions)
            acted.setdefault(action_type, []).append((run.truth.family_id, followed))
    rows = []
    for action_type in sorted(acted):
        families = FamilyRates([family for family, _ in acted[action_type]])
        rows.append(
            ActionSymptoms(
                action_type=action_type,
                families=families.count,
                actions=len(acted[action_type]),
                suspected=families.mean([float(followed) for _, followed in acted[action_type]]),
            )
        )
    return tuple(rows)
