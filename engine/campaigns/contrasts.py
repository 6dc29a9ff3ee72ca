"""A campaign that was played ➜ contrasts of actions and faults, from branches of its runs.

In: a data directory with the campaign's runs. Out: in the campaign's directory

- `factorial.parquet`: runs with a fault and an action, lived again to just before the fault, and then with neither, the action, the
  fault and both, each under the same draws of chance. Rewards are summed from the action's moment on.
- `matched.parquet`: runs with nothing (`baseline`), branched at a moment drawn by chance, once with an action and once with a fault at
  the same service and moment that show alike. *scale-down or cpu_pressure*: a service was scaled to 3 before; either it is scaled down,
  or its CPU is taken away, each in several strengths (so that branches can be matched on the symptom): what two pods or one of three
  do more fills them by a tenth or two, so faults of such a size are played, not the words' (`mild` is half of the limit).
  *bad rollout or bad_config*: the policy rolls out a wrong address of a dependency, or somebody else does.

Upstream: `branch_arms`. Downstream: `baselines.contrasts`, `baselines.cause_model`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_process
import anyio.to_thread
import msgspec
import numpy as np

from otel_control_gym.baselines.contrast_tables import (
    ARMS,
    CONTRASTED_FEATURES,
    FACTORIAL_FILE,
    FACTORIAL_SCHEMA,
    MATCHED_FILE,
    MATCHED_SCHEMA,
    FactorialArm,
    FactorialBranch,
    MatchedCell,
    write_rows,
)
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_messages
from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.branches import find_branch_point
from otel_control_gym.engine.campaigns.branch_arms import Arm, Future, check_branchable, play_futures
from otel_control_gym.engine.campaigns.candidates import Candidates
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.readings import SATISFACTION
from otel_control_gym.engine.campaigns.running import campaign_directory
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.runs import Run, find_runs, open_run
from otel_control_gym.engine.settings import PlannedAction, ServiceConfiguration

__all__ = ("play_contrasts",)

_FACTORIAL_STRATA = ("fault_with_recovery", "wrong_remedy")
_MATCHED_STRATUM = "baseline"
_MEASURED_STEPS = 10  #: from the action on, in the factorial
_BEFORE, _AFTER = 3, 6  #: steps before and after a cause, in matched branches
_NOOP: dict[str, Any] = {"type": "noop"}
_WRONG_PORT = 1  #: where nobody listens, as the intervention has it
_TAKEN = (0.05, 0.1, 0.2, 0.3)  #: of a container's CPU limit, by pressure


class _Planned(msgspec.Struct, frozen=True, kw_only=True):
    """An arm to be played, and what its futures are turned into."""

    arm: Arm
    family_id: str
    factorial: tuple[FactorialArm, str, str, str, str, int] | None = None
    #: arm, stratum, fault type, action type, target, steps before the action
    matched: tuple[str, Literal["action", "fault"], str, str, str] | None = None
    #: comparison, cause, strength, target, entry


async def play_contrasts(
    data_dir: Path,
    campaign: str,
    *,
    branches: int = 2,
    workers: int = 1,
    only: int | None = None,
    on_played: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Path, Path]:
    """Play both contrasts of a campaign's runs; return where the two files are.

    Args:
        data_dir: holds the campaign.
        campaign: its name.
        branches: draws of chance for each arm.
        workers: processes that play.
        only: at most so many runs of each stratum.
        on_played: is told how many arms are played, and how many there are.

    Raises: UsageError: there is no such campaign, or no run to be branched. BranchError: a run can't be.
    """
    if branches < 1 or workers < 1 or (only is not None and only < 1):
        raise UsageError(f"branches = {branches}, workers = {workers}, only = {only}: each must be at least 1")
    directory = campaign_directory(data_dir, campaign)
    with tempfile.TemporaryDirectory(prefix="ocg-contrast-") as scratch:
        planned = await anyio.to_thread.run_sync(_planned, data_dir, campaign, branches, only, Path(scratch))
        limiter = anyio.CapacityLimiter(workers)
        found: dict[int, list[Future]] = {}

        async def play(position: int) -> None:
            found[position] = await anyio.to_process.run_sync(
                play_futures, planned[position].arm, cancellable=True, limiter=limiter
            )
            on_played(len(found), len(planned))

        async with configured_broker(Path(scratch), None), anyio.create_task_group() as tasks:
            for position in range(len(planned)):
                tasks.start_soon(play, position)
    factorial = [
        row for position, item in enumerate(planned) if item.factorial for row in _factorial_rows(item, found[position])
    ]
    matched = [
        row for position, item in enumerate(planned) if item.matched for row in _matched_rows(item, found[position])
    ]
    await anyio.to_thread.run_sync(write_rows, factorial, FACTORIAL_SCHEMA, directory / FACTORIAL_FILE)
    await anyio.to_thread.run_sync(write_rows, matched, MATCHED_SCHEMA, directory / MATCHED_FILE)
    return directory / FACTORIAL_FILE, directory / MATCHED_FILE


def _planned(data_dir: Path, campaign: str, branches: int, only: int | None, scratch: Path) -> list[_Planned]:
    runs = [
        open_run(found.path, truth=True)
        for found in find_runs(data_dir)
        if found.campaign == campaign and found.status == "completed"
    ]
    check_branchable(campaign, runs)
    planned: list[_Planned] = []
    for stratum in (*_FACTORIAL_STRATA, _MATCHED_STRATUM):
        of_stratum = [
            run for run in runs if run.metadata["stratum"] == stratum and run.metadata["parent_run_id"] is None
        ]
        for run in of_stratum[:only]:
            make = _matched_arms if stratum == _MATCHED_STRATUM else _factorial_arms
            planned += make(run, branches, scratch)
    if not planned:
        raise UsageError(
            f"campaign {campaign!r} has no run of {', '.join((*_FACTORIAL_STRATA, _MATCHED_STRATUM))} in {data_dir}\n"
            "  its file says how many: strata"
        )
    return planned


def _arm(run: Run, step: int, steps: int, branches: int, scratch: Path, **what: Any) -> Arm:
    return Arm(
        run=run.path,
        run_id=run.run_id,
        step=step,
        action=what.get("action", _NOOP),
        without_faults=what.get("faults") is not None,
        faults=what.get("faults") or (),
        later=what.get("later", {}),
        branches=branches,
        steps=steps,
        features=(*CONTRASTED_FEATURES, SATISFACTION),
        scratch=scratch,
        first=0,
    )


# --- neither, action, fault, both -----------------------------------------------------------------------------------------


def _factorial_arms(run: Run, branches: int, scratch: Path) -> list[_Planned]:
    scenario = run.metadata["effective_configuration"]["scenario"]
    step_seconds = int(run.metadata["granularity_config"]["control_step_seconds"])
    fault, remedy = scenario["interventions"][0], scenario["policy"]["actions"][0]
    step = int(fault["at_seconds"]) // step_seconds
    delay = int(remedy["at_seconds"]) // step_seconds - step
    steps = min(delay + _MEASURED_STEPS, int(scenario["horizon_seconds"]) // step_seconds - step)
    action = dict(remedy["action"])
    planned = []
    for arm in ARMS:
        acts = {"later": {delay: action}} if arm in ("action", "both") else {}
        faults = None if arm in ("fault", "both") else ()
        planned.append(
            _Planned(
                arm=_arm(run, step, steps, branches, scratch, faults=faults, **acts),
                family_id=run.family_id,
                factorial=(
                    arm,
                    str(run.metadata["stratum"]),
                    str(fault["action"]["type"]),
                    str(action["type"]),
                    str(action.get("target", "")),
                    delay,
                ),
            )
        )
    return planned


def _factorial_rows(item: _Planned, futures: Sequence[Future]) -> list[FactorialBranch]:
    assert item.factorial is not None
    arm, stratum, fault_type, action_type, target, delay = item.factorial
    return [
        FactorialBranch(
            run_id=item.arm.run_id,
            number=future.number,
            arm=arm,
            family_id=item.family_id,
            stratum=stratum,
            fault_type=fault_type,
            action_type=action_type,
            target=target,
            reward=float(sum(future.rewards[delay:])),
        )
        for future in futures
    ]


# --- matched causes -------------------------------------------------------------------------------------------------------


def _matched_arms(run: Run, branches: int, scratch: Path) -> list[_Planned]:
    config = find_branch_point(read_messages(run.path / ARCHIVE_NAME), run.run_id, 0).config
    step_seconds = config.public.granularity.control_step_seconds
    draws = Draws(int(run.family_id, 16), "contrast")
    steps = config.scenario.horizon_seconds // step_seconds
    step = draws.between("moment", 1, max(1, min(6, steps - _BEFORE - _AFTER)), 1)
    moment = (step + _BEFORE) * step_seconds
    candidates = Candidates(config.public.services, config.workload)
    entry = config.public.reward.objective.service
    left = config.scenario.horizon_seconds - moment
    arms: list[tuple[str, Literal["action", "fault"], str, str, dict[str, Any]]] = []
    targets = [item["target"] for item in candidates.faults("cpu_pressure")]
    if targets:
        target = draws.choice("scaled", targets)
        up = {"type": "scale", "target": target, "replicas": 3}
        arms += [
            (
                "scale-down or cpu_pressure",
                "action",
                f"to {replicas}",
                target,
                {
                    "action": up,
                    "faults": (),
                    "later": {_BEFORE: {"type": "scale", "target": target, "replicas": replicas}},
                },
            )
            for replicas in (2, 1)
        ]
        arms += [
            (
                "scale-down or cpu_pressure",
                "fault",
                f"{share:.0%} of the limit",
                target,
                {
                    "action": up,
                    "faults": _fault(_pressure(target, share, config.public.services), moment, left),
                },
            )
            for share in _TAKEN
        ]
    edges = [item["target"] for item in candidates.faults("bad_config")]
    if edges:
        edge = draws.choice("misdirected", edges)
        source, _, called = edge.partition("->")
        variable = f"{called.upper().replace('-', '_')}_ADDR"
        wrong = {"type": "rollout_config", "target": source, "env": {variable: f"{called}:{_WRONG_PORT}"}}
        mistake = _fault({"type": "bad_config", "target": edge, "mistake": "address"}, moment, left)
        arms += [
            ("bad rollout or bad_config", "action", "address", source, {"faults": (), "later": {_BEFORE: wrong}}),
            ("bad rollout or bad_config", "fault", "address", source, {"faults": mistake}),
        ]
    return [
        _Planned(
            arm=_arm(run, step, _BEFORE + _AFTER, branches, scratch, **what),
            family_id=run.family_id,
            matched=(comparison, cause, strength, target, entry),
        )
        for comparison, cause, strength, target, what in arms
    ]


def _pressure(target: str, share: float, application: ServiceConfiguration) -> dict[str, Any]:
    limit = application.services[target].cpu_limit_cores or 1.0
    workers = max(1, math.ceil(limit))
    return {
        "type": "cpu_pressure",
        "target": target,
        "workers": workers,
        "load_percent": max(1, round(100 * share * limit / workers)),
    }


def _fault(action: dict[str, Any], moment: int, left: int) -> tuple[PlannedAction, ...]:
    return (PlannedAction(at_seconds=moment, action=action | {"duration_seconds": left}),)


def _matched_rows(item: _Planned, futures: Sequence[Future]) -> list[MatchedCell]:
    assert item.matched is not None
    comparison, cause, strength, target, entry = item.matched
    places: tuple[tuple[Literal["target", "entry"], str], ...] = (("target", target), ("entry", entry))
    rows = []
    for future in futures:
        columns = future.readings.columns
        values = future.readings.values.reshape(item.arm.steps, -1, len(columns))
        for place, service in places:
            for position, column in enumerate(columns):
                if column.entity == service:
                    rows += [
                        MatchedCell(
                            run_id=item.arm.run_id,
                            comparison=comparison,
                            number=future.number,
                            cause=cause,
                            strength=strength,
                            place=place,
                            feature=column.feature,
                            step=step - _BEFORE,
                            family_id=item.family_id,
                            target=target,
                            value=float(np.nanmean(values[step, :, position])),
                        )
                        for step in range(item.arm.steps)
                        if np.isfinite(values[step, :, position]).any()
                    ]
    return rows
