"""A campaign on clusters: strata of its own without siblings, time to compare with, and an estimate of what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from typer.testing import CliRunner

import otel_control_gym as ocg
from otel_control_gym.engine.campaigns.balance import balance_of
from otel_control_gym.engine.campaigns.estimates import estimate_of
from otel_control_gym.engine.campaigns.files import configurations, granularity_of, load_plan
from otel_control_gym.engine.command_line.app import app

GRANULARITY = granularity_of(load_plan("cluster").settings)
AROUND = GRANULARITY.warmup_seconds + GRANULARITY.cooldown_seconds


def test_the_packaged_campaign_is_balanced_and_holds_no_run_twice() -> None:
    plan = load_plan("cluster")
    assert [bound for bound in balance_of(plan).bounds if not bound.holds] == []
    assert {run.role for run in plan.runs} == {"main"}
    assert {run.pair_id for run in plan.runs} == {None}
    assert len({run.family_id for run in plan.runs}) == len(plan.runs) >= 120
    assert {config.public.stand for config in configurations(plan, plan.runs[:3])} == {"cluster"}


def test_every_run_leaves_time_to_compare_with_before_anything_is_done() -> None:
    plan = load_plan("cluster")
    assert plan.settings.cluster is not None
    for run in plan.runs:
        script = run.scenario.policy
        moments = [
            *(planned.at_seconds for planned in (*run.scenario.interventions, *script.actions)),
            *script.decide_at_seconds,
        ]
        assert all(moment >= plan.settings.cluster.before_seconds for moment in moments)


def test_one_stand_plays_run_after_run_each_with_its_reset() -> None:
    plan = load_plan("cluster")
    estimate = estimate_of(plan, GRANULARITY, 1)
    assert estimate is not None
    assert plan.settings.cluster is not None
    lived = sum(run.scenario.horizon_seconds + AROUND + plan.settings.cluster.reset_seconds for run in plan.runs)
    assert estimate.hours == estimate.stand_hours == pytest.approx(lived / 3600, abs=0.01)


@pytest.mark.parametrize("stands", [2, 3, 7, 200])
def test_stands_share_the_runs_and_none_waits_while_there_are_any(stands: int) -> None:
    plan = load_plan("cluster")
    estimate = estimate_of(plan, GRANULARITY, stands)
    assert estimate is not None
    longest = max(run.scenario.horizon_seconds for run in plan.runs) + AROUND + estimate.reset_seconds
    assert estimate.stand_hours / stands <= estimate.hours + 0.01
    assert estimate.hours <= estimate.stand_hours / stands + longest / 3600 + 0.01


def test_a_campaign_on_the_twin_has_no_estimate() -> None:
    assert estimate_of(load_plan("leaks", only=1), GRANULARITY, 1) is None


def test_the_command_prints_the_estimate_for_a_number_of_stands() -> None:
    told = CliRunner().invoke(app, ["campaign", "plan", "cluster", "--stands", "3", "--json"])
    assert told.exit_code == 0
    plan = load_plan("cluster")
    assert json.loads(told.stdout)["estimate"] == msgspec.to_builtins(estimate_of(plan, GRANULARITY, 3))
    shown = CliRunner().invoke(app, ["campaign", "plan", "cluster", "--stands", "3"])
    assert "h on 3 stands" in shown.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"cluster": {"reset_seconds": 90, "before_seconds": 300}},
            r"cluster.before_seconds = 300: runs of 720 s have up to 240 s",
        ),
        (
            {"cluster": {"reset_seconds": 90, "before_seconds": 90}},
            r"cluster.before_seconds = 90.*120 s are the least to compare with",
        ),
        ({"cluster": {"reset_seconds": -1, "before_seconds": 180}}, r"cluster.reset_seconds = -1: below 0"),
        (
            {"configurations": ["small-core", "medium-store"]},
            r"configurations = .*a stand has one application installed",
        ),
        (
            {"cluster": {"reset": "reinstall", "reset_seconds": 90, "before_seconds": 180}},
            r"cluster.reset = 'reinstall': a run can't install its stand anew",
        ),
        ({"cluster": {"reset": "hard", "reset_seconds": 9, "before_seconds": 180}}, r"cluster.reset"),
    ],
)
def test_a_stand_that_cannot_be_is_refused_with_its_place(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    document = {
        "name": "odd",
        "configurations": ["small-core"],
        "workloads": ["steady"],
        "strata": {"baseline": 1},
        "actions": ["scale"],
        "interventions": ["pod_kill"],
        "length": {"short_seconds": 720, "long_seconds": [720, 720], "long_share": 0.0},
        "cluster": {"reset_seconds": 90, "before_seconds": 180},
    }
    file = tmp_path / "odd.yaml"
    file.write_text(yaml.safe_dump(document | changes))
    with pytest.raises(ocg.ConfigurationError, match=rf"(?s){words}"):
        load_plan(file)
