"""Branched decisions ➜ what was known there, once for every alternative: what a model foretells an effect from.

In: branched decisions, and the runs that they belong to. Out: per decision a `State` of A decisions, which differ by what is asked for
alone. Public rows are read, up to the decision; of the branches nothing but the alternatives.

Blocking. Upstream: `branched_decisions`, `windows`. Downstream: `effect_model`, and any model of rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from otel_control_gym.baselines.asked import asked_by
from otel_control_gym.baselines.branched_decisions import BranchedDecision
from otel_control_gym.baselines.states import State, selected, with_actions
from otel_control_gym.baselines.windows import RunWindows, run_windows
from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.events import RunDeclared
from otel_control_gym.engine.run_collections import open_runs
from otel_control_gym.engine.runs import Run
from otel_control_gym.engine.settings import RunSettings

__all__ = ("decision_states",)


def decision_states(directory: Path, decisions: Sequence[BranchedDecision]) -> list[State]:
    """Return the state of each decision, once for every alternative.

    Raises: DatasetError: a run or decision isn't there, or a file can't be read.
    """
    runs = {run.run_id: run for run in open_runs(directory)}
    windows: dict[str, RunWindows] = {}
    settings: dict[str, RunSettings] = {}
    found = []
    for decision in decisions:
        if decision.run_id not in runs:
            raise DatasetError(f"{directory} has branches of run {decision.run_id}, which isn't there\n  copy it, too")
        if decision.run_id not in windows:
            windows[decision.run_id] = run_windows(runs[decision.run_id])
            settings[decision.run_id] = _settings(runs[decision.run_id])
        found.append(_state(decision, windows[decision.run_id], settings[decision.run_id]))
    return found


def _state(decision: BranchedDecision, windows: RunWindows, settings: RunSettings) -> State:
    positions = [number for number, item in enumerate(windows.decisions) if item.action_id == decision.action_id]
    if not positions:
        raise DatasetError(f"run {decision.run_id} has no decision {decision.action_id}, of which there are branches")
    requested = windows.decisions[positions[0]].requested
    candidates = [
        None if item.action_type == "noop" else asked_by(item.action, requested=requested, settings=settings)
        for item in decision.alternatives
    ]
    return with_actions(selected(windows.state, positions[:1]), candidates)


def _settings(run: Run) -> RunSettings:
    return next(event.settings for event in (item.event for item in run.events()) if isinstance(event, RunDeclared))
