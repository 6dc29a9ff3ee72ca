"""A campaign that was played ➜ an effect certificate for every run with a single action or a single fault.

In: a data directory with the campaign's runs. Out: `certificates.parquet` in each of those runs' directories, `certificates.json` and
`certificates.md` beside the runs. Branches are played in processes of their own, in a data directory that is dropped afterwards, so they
need no broker but the one there. What is certified with as many branches already isn't done again.

With 0 branches a run is compared with its sibling, which there is anyway: one pair under the same randomness, no test, labelled `pair`. One
that has none, as on a cluster, is compared with its own time before the action: `before_after`.

Upstream: `running` plays the runs. Downstream: `certificate_summaries`, `certificate_tables`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_process
import anyio.to_thread
import msgspec

from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.assigned_tables import assign, has_assigned
from otel_control_gym.engine.campaigns.before_after import LEAST_WINDOWS, compare_times
from otel_control_gym.engine.campaigns.branch_arms import Arm, check_branchable, play_arm
from otel_control_gym.engine.campaigns.certificate_summaries import CertifiedEffect
from otel_control_gym.engine.campaigns.certificate_tables import write_tables
from otel_control_gym.engine.campaigns.certificates import Certificate, Method, Place, certificate_of
from otel_control_gym.engine.campaigns.design import SIBLING
from otel_control_gym.engine.campaigns.effects import (
    LEAST_BRANCHES,
    Effects,
    EffectSettings,
    Readings,
    compare_branches,
    compare_pair,
)
from otel_control_gym.engine.campaigns.readings import recorded_readings
from otel_control_gym.engine.campaigns.running import campaign_directory
from otel_control_gym.engine.configuration_files import load
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.runs import Run, find_runs, open_run

__all__ = ("MEASURED_SECONDS", "certify")

MEASURED_SECONDS = 300  #: after the decision; the longest that is to be foretold

_TABLE = "certificates"


class _Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose one action or intervention is to be certified."""

    run: Run
    sibling: Run | None  #: none on a cluster
    key: str
    step: int
    steps: int
    action: dict[str, Any]  #: as it was asked for
    is_fault: bool
    action_id: str
    targets: tuple[str, ...]
    applied_s: float  #: after the decision

    @property
    def seconds(self) -> int:
        """How long it is measured."""
        return self.steps * int(self.run.metadata["granularity_config"]["control_step_seconds"])


async def certify(
    data_dir: Path,
    campaign: str,
    *,
    branches: int = LEAST_BRANCHES,
    workers: int = 1,
    only: int | None = None,
    seconds: int = MEASURED_SECONDS,
    on_certified: Callable[[CertifiedEffect, int], None] = lambda _certified, _total: None,
) -> list[CertifiedEffect]:
    """Certify the single actions and faults of a campaign; return all its certificates, by kind and intensity.

    Args:
        branches: futures with, and as many without; 0: compare each run with its sibling, or with its own past if it has none.
        workers: processes that play futures.
        only: at most so many runs of each stratum.
        seconds: how long after the decision effects are looked for.
        on_certified: is told of each certificate, and how many there are to be.

    Raises: UsageError: there is no such campaign, or a number is out of bounds. BranchError: a run can't be branched.
    """
    if branches and branches < LEAST_BRANCHES:
        raise UsageError(
            f"{branches} branches: too few for a test over thousands of cells\n"
            f"  use {LEAST_BRANCHES} or more, or 0 for the difference between each run and its sibling"
        )
    if workers < 1 or seconds < 1 or (only is not None and only < 1):
        raise UsageError(f"workers = {workers}, seconds = {seconds}, only = {only}: each must be at least 1")
    settings, _ = await anyio.to_thread.run_sync(load, "effects", "default", EffectSettings)
    subjects = await anyio.to_thread.run_sync(_subjects, data_dir, campaign, only, seconds)
    if branches:
        check_branchable(campaign, (subject.run for subject in subjects))
    todo = [subject for subject in subjects if not await anyio.to_thread.run_sync(_is_certified, subject, branches)]
    with tempfile.TemporaryDirectory(prefix="ocg-certify-") as scratch:
        limiter = anyio.CapacityLimiter(workers)

        async def certify_one(subject: _Subject) -> None:
            effects = await _branched(subject, settings, branches, Path(scratch), limiter)
            await anyio.to_thread.run_sync(_give, subject, effects, settings, branches)
            on_certified(await anyio.to_thread.run_sync(_certified, subject), len(todo))

        if branches:
            async with configured_broker(Path(scratch), None):
                for group in _in_groups(todo, workers):
                    async with anyio.create_task_group() as tasks:
                        for subject in group:
                            tasks.start_soon(certify_one, subject)
        else:
            for subject in todo:
                compare = _timed if subject.sibling is None else _paired
                effects = await anyio.to_thread.run_sync(compare, subject, settings)
                await anyio.to_thread.run_sync(_give, subject, effects, settings, branches)
                on_certified(await anyio.to_thread.run_sync(_certified, subject), len(todo))
    found = [await anyio.to_thread.run_sync(_certified, subject) for subject in subjects]
    directory = campaign_directory(data_dir, campaign)
    return await anyio.to_thread.run_sync(write_tables, directory, found, settings.meant_masked)


def _in_groups(subjects: Sequence[_Subject], size: int) -> Iterator[Sequence[_Subject]]:
    """Yield a few at a time, so that an interruption loses little."""
    for first in range(0, len(subjects), size):
        yield subjects[first : first + size]


# --- what is to be certified ----------------------------------------------------------------------------------------------


def _subjects(data_dir: Path, campaign: str, only: int | None, seconds: int) -> list[_Subject]:
    directory = campaign_directory(data_dir, campaign)
    if not directory.is_dir():
        raise UsageError(f"{data_dir} has no campaign {campaign!r}\n  `ocg campaign run {campaign}` plays it")
    runs = [
        open_run(found.path, truth=True)
        for found in find_runs(data_dir)
        if found.campaign == campaign and found.status == "completed"
    ]
    by_key = {str(run.metadata["scenario_id"]): run for run in runs}
    subjects: list[_Subject] = []
    for stratum in ("single_action", "single_fault"):
        keys = sorted(
            key for key, run in by_key.items() if run.metadata["stratum"] == stratum and not key.endswith(SIBLING)
        )
        subjects += [_subject(by_key[key], by_key.get(f"{key}{SIBLING}"), key, seconds) for key in keys[:only]]
    if not subjects:
        raise UsageError(
            f"campaign {campaign!r} has no run with a single action or fault\n"
            "  its file says how many: strata.single_action, strata.single_fault"
        )
    return subjects


def _subject(run: Run, sibling: Run | None, key: str, seconds: int) -> _Subject:
    metadata = run.metadata
    scenario, step_seconds = (
        metadata["effective_configuration"]["scenario"],
        metadata["granularity_config"]["control_step_seconds"],
    )
    is_fault = bool(scenario["interventions"])
    planned = (scenario["interventions"] or scenario["policy"]["actions"])[0]
    step = int(planned["at_seconds"]) // step_seconds
    left = int(scenario["horizon_seconds"]) // step_seconds - step
    rows = run.table("actions").to_arrow().to_pylist()
    row = next(
        row
        for row in rows
        if (row["action_class"] == "intervention" if is_fault else row["action_type"] != "noop")
        and row["parent_action_id"] is None
    )
    moment = _decision_time(run, step)
    applied = row["applied"] or row["requested"]
    return _Subject(
        run=run,
        sibling=sibling,
        key=key,
        step=step,
        steps=min(left, -(-seconds // step_seconds)),
        action=dict(planned["action"]),
        is_fault=is_fault,
        action_id=row["action_id"],
        targets=_targets(row, run),
        applied_s=(applied - moment).total_seconds(),
    )


def _decision_time(run: Run, step: int) -> datetime:
    granularity = run.metadata["granularity_config"]
    seconds = granularity["warmup_seconds"] + step * granularity["control_step_seconds"]
    return datetime.fromisoformat(run.run_start) + timedelta(seconds=seconds)


def _targets(row: dict[str, Any], run: Run) -> tuple[str, ...]:
    """Return the services or the edge that an action is done to: those of a group are all of its services."""
    if row["target_edge"] is not None:
        return (str(row["target_edge"]),)
    if row["target_kind"] == "group":
        return tuple(node["id"] for node in run.graph["nodes"] if node["optional_group"] == row["target"])
    if row["target_service"] is not None:
        return (str(row["target_service"]),)
    if row["target_kind"] == "workload":
        return tuple(node["id"] for node in run.graph["nodes"] if node["kind"] == "workload")
    return ()


def _is_certified(subject: _Subject, branches: int) -> bool:
    if not has_assigned(subject.run.path, _TABLE):
        return False
    found: list[int] = subject.run.table(_TABLE).to_arrow().column("n_branches").to_pylist()
    return bool(found) and min(found) >= branches


# --- effects --------------------------------------------------------------------------------------------------------------


async def _branched(
    subject: _Subject, settings: EffectSettings, branches: int, scratch: Path, limiter: anyio.CapacityLimiter
) -> Effects:
    """Play both arms, each in a process, and compare them."""
    noop: dict[str, Any] = {"type": "noop"}
    arms = [
        Arm(
            run=subject.run.path,
            run_id=subject.run.run_id,
            step=subject.step,
            action=subject.action if treated and not subject.is_fault else noop,
            without_faults=subject.is_fault and not treated,
            branches=branches,
            steps=subject.steps,
            features=tuple(settings.features),
            scratch=scratch,
        )
        for treated in (True, False)
    ]
    found: dict[int, list[Readings]] = {}

    async def play(number: int) -> None:
        found[number] = await anyio.to_process.run_sync(play_arm, arms[number], cancellable=True, limiter=limiter)

    async with anyio.create_task_group() as tasks:
        for number in range(len(arms)):
            tasks.start_soon(play, number)
    seconds = subject.seconds // subject.steps
    return await anyio.to_thread.run_sync(
        lambda: compare_branches(found[0], found[1], settings, window_seconds=seconds)
    )


def _paired(subject: _Subject, settings: EffectSettings) -> Effects:
    assert subject.sibling is not None
    start, features = _decision_time(subject.run, subject.step), tuple(settings.features)
    treated, control = (
        recorded_readings(run, start=start, seconds=subject.seconds, features=features, entry=_entry(subject.run))
        for run in (subject.run, subject.sibling)
    )
    return compare_pair(treated, control, settings, window_seconds=subject.seconds // subject.steps)


def _timed(subject: _Subject, settings: EffectSettings) -> Effects:
    """Compare a run with its own control time before the action.

    Raises: UsageError: that was too short.
    """
    window = subject.seconds // subject.steps
    before = subject.step * window
    if subject.step < LEAST_WINDOWS:
        raise UsageError(
            f"{subject.key}: {before} s of control before its action are too few to compare with, and it has no sibling\n"
            f"  {LEAST_WINDOWS * window} s are needed: see cluster.before_seconds in the campaign's file"
        )
    both = recorded_readings(
        subject.run,
        start=_decision_time(subject.run, 0),
        seconds=before + subject.seconds,
        features=tuple(settings.features),
        entry=_entry(subject.run),
    )
    edge = before // both.bucket_seconds
    earlier, later = (
        msgspec.structs.replace(both, values=values) for values in (both.values[:edge], both.values[edge:])
    )
    return compare_times(earlier, later, settings, window_seconds=window)


def _entry(run: Run) -> str:
    return str(run.metadata["effective_configuration"]["reward"]["objective"]["service"])


# --- what is written ------------------------------------------------------------------------------------------------------


def _give(subject: _Subject, effects: Effects, settings: EffectSettings, branches: int) -> None:
    """Write the certificate into the run's directory."""
    graph, entry = subject.run.graph, _entry(subject.run)
    edges = tuple((edge["source"], edge["target"]) for edge in graph["edges"])
    users = {node["id"] for node in graph["nodes"] if node["kind"] == "workload"}
    place = Place(
        targets=subject.targets,
        edges=edges,
        entry=entry,
        callers=tuple(source for source, target in edges if target == entry and source in users),
    )
    method: Method = "branches" if branches else "before_after" if subject.sibling is None else "pair"
    certificate = certificate_of(effects, place, settings, applied_s=subject.applied_s, method=method)
    row = msgspec.to_builtins(certificate) | {
        "action_id": subject.action_id,
        "sibling_run_id": None if subject.sibling is None else subject.sibling.run_id,
    }
    assign(subject.run.path, _TABLE, [row], run_id=subject.run.run_id)


def _certified(subject: _Subject) -> CertifiedEffect:
    """Return the certificate that a run has, and what it is of."""
    row = subject.run.table(_TABLE).to_arrow().to_pylist()[0]
    action = subject.action
    return CertifiedEffect(
        key=subject.key,
        run_id=subject.run.run_id,
        action_class="intervention" if subject.is_fault else "action",
        kind=str(action["type"]),
        target=str(action.get("target", action.get("flag", ""))),
        intensity=str(action.get("intensity") or ""),
        configuration=subject.run.service_config,
        workload=str(subject.run.metadata["workload_profile"]),
        certificate=msgspec.convert(row, Certificate),  # its other columns are of the run
    )
