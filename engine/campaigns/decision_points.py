"""A campaign's runs ➜ the decisions at which they are branched, and what is done there instead.

In: the runs, and how many alternatives are wanted. Out: `DecisionPoint`s: per run of the wanted strata, each decision at which
something was done or something else might have been. Alternatives are `noop`, what was done, and others that the policy weighed, drawn
by chance under a key of the family's, so that they don't depend on how the run went.

Blocking. Downstream: `counterfactuals` plays them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.running import campaign_directory
from otel_control_gym.engine.campaigns.settings import STRATA
from otel_control_gym.engine.errors import UsageError, nearest
from otel_control_gym.engine.runs import Run, find_runs, open_run

__all__ = ("NOOP", "Alternative", "DecisionPoint", "alternatives_of", "decision_points")

NOOP: dict[str, Any] = {"type": "noop"}


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Something that may be done at a decision."""

    action: dict[str, Any]  #: as `env.step` takes it
    is_logged: bool = False  #: the run did it
    probability: float | None = None  #: with which the policy would have done it; null: it doesn't say


class DecisionPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A moment in a run at which it is branched."""

    run: Run
    stratum: str
    step: int
    steps: int  #: for how many the branches are lived
    step_seconds: int
    action_id: str
    time_us: int
    alternatives: tuple[Alternative, ...]  #: the first is noop

    @property
    def key(self) -> str:
        """What it is called in file names and in `pair_id`."""
        return f"{self.run.run_id}-{self.step}"

    @property
    def logged(self) -> Alternative:
        """What the run did there."""
        return next(alternative for alternative in self.alternatives if alternative.is_logged)


def decision_points(
    data_dir: Path, campaign: str, *, strata: Sequence[str], alternatives: int, horizon: int, only: int | None
) -> list[DecisionPoint]:
    """Return the decisions of a campaign's completed runs, by run.

    Args:
        data_dir: holds the campaign.
        campaign: its name.
        strata: of which runs.
        alternatives: how many at each decision, at most; noop and what was done are always among them.
        horizon: for how many control steps branches are lived, at most to the end of control.
        only: at most so many runs of each stratum.

    Raises: UsageError: there is no such campaign or stratum, or no decision in it. DatasetError: a run can't be read.
    """
    for stratum in strata:
        if stratum not in STRATA:
            raise UsageError(f"--stratum {stratum}: there is no such stratum\n  {nearest(stratum, STRATA)}")
    if not campaign_directory(data_dir, campaign).is_dir():
        raise UsageError(f"{data_dir} has no campaign {campaign!r}\n  `ocg campaign run {campaign}` plays it")
    found: list[DecisionPoint] = []
    taken = dict.fromkeys(strata, 0)
    for run in _main_runs(data_dir, campaign):
        stratum = str(run.metadata["stratum"])
        if stratum not in taken or (only is not None and taken[stratum] >= only):
            continue
        points = _points(run, stratum, alternatives, horizon)
        taken[stratum] += bool(points)
        found += points
    if not found:
        raise UsageError(
            f"campaign {campaign!r} has no run with a decision in {', '.join(strata)}\n"
            f"  its file says how many there are: strata.{strata[0]}"
        )
    return found


def _main_runs(data_dir: Path, campaign: str) -> Iterable[Run]:
    for found in find_runs(data_dir):
        if found.campaign == campaign and found.status == "completed":
            run = open_run(found.path, truth=True)
            key = str(run.metadata["scenario_id"])
            if run.metadata["parent_run_id"] is None and not key.endswith("-sibling"):
                yield run


def _points(run: Run, stratum: str, alternatives: int, horizon: int) -> list[DecisionPoint]:
    step_seconds = int(run.metadata["granularity_config"]["control_step_seconds"])
    steps = int(run.metadata["effective_configuration"]["scenario"]["horizon_seconds"]) // step_seconds
    rows = [
        row
        for row in run.table("actions").to_arrow().to_pylist()
        if row["decision_step"] is not None and row["action_class"] == "action" and row["decision_step"] < steps
    ]
    points = []
    for row in sorted(rows, key=lambda row: int(row["decision_step"])):
        step = int(row["decision_step"])
        weighed = [] if row["alternatives"] is None else json.loads(row["alternatives"])
        if row["action_type"] == "noop" and len(weighed) < 2:
            continue
        points.append(
            DecisionPoint(
                run=run,
                stratum=stratum,
                step=step,
                steps=min(horizon, steps - step),
                step_seconds=step_seconds,
                action_id=row["action_id"],
                time_us=_microseconds(row["requested"]),
                alternatives=alternatives_of(
                    row, weighed, Draws(int(run.family_id, 16), f"counterfactual/{step}"), alternatives
                ),
            )
        )
    return points


def alternatives_of(
    row: Mapping[str, Any], weighed: Sequence[Mapping[str, Any]], draws: Draws, count: int
) -> tuple[Alternative, ...]:
    """Return `count` alternatives at a decision (fewer where there aren't as many): noop, what was done, others of those weighed.

    Args:
        row: of `actions.parquet`.
        weighed: its `alternatives`: each an action and its probability.
        draws: decides which others.
        count: at least 2.
    """
    from otel_control_gym.actuators import replayed

    parameters = json.loads(row["parameters"])
    options = [
        Alternative(
            action=dict(option["action"]),
            is_logged=_is(option["action"], row, parameters),
            probability=option["probability"],
        )
        for option in weighed
    ]
    if not any(option.is_logged for option in options):
        action = replayed(row["action_type"], row["target"] or "", parameters, row["duration_s"])
        options.insert(0, Alternative(action=action, is_logged=True, probability=row["propensity"]))
    if not any(option.action["type"] == "noop" for option in options):
        options.insert(0, Alternative(action=NOOP))
    first = [option for option in options if option.action["type"] == "noop"][:1]
    second = [option for option in options if option.is_logged and option not in first]
    rest = draws.shuffled("alternatives", [option for option in options if option not in (*first, *second)])
    return (*first, *second, *rest)[: max(count, len(first) + len(second))]


def _is(action: Mapping[str, Any], row: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Return whether an action that was weighed is the one that a row tells of; a row says more than was asked for."""
    said = {name: value for name, value in action.items() if name in parameters}
    return (
        action["type"] == row["action_type"]
        and str(action.get("target", "")) == str(row["target"] or "")
        and all(parameters[name] == value for name, value in said.items())
    )


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
