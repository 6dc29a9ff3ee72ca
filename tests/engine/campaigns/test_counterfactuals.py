"""Decisions of a campaign get paired branches: the same draws for every alternative, none played twice, no scored one classifies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

import otel_control_gym as ocg
from otel_control_gym.baselines.branched_decisions import branched_decisions
from otel_control_gym.baselines.counterfactual_tables import CELLS_FILE, read_branches
from otel_control_gym.baselines.effect_cells import EFFECT_CELLS_FILE
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.branch_arms import FIRST_NUMBER
from otel_control_gym.engine.campaigns.contrasts import play_contrasts
from otel_control_gym.engine.campaigns.counterfactuals import DecisionPlayed, play_counterfactuals
from otel_control_gym.engine.campaigns.decision_points import NOOP, alternatives_of
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.running import campaign_directory, run_campaign
from otel_control_gym.engine.errors import UsageError

CAMPAIGN: dict[str, Any] = {
    "name": "branched",
    "seed": 3,
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"randomised": 1},
    "actions": ["scale", "restart"],
    "interventions": ["pod_kill"],
    "intensities": ["visible"],
    "length": {"short_seconds": 300, "long_seconds": [300, 300], "long_share": 0.0},
    "bounds": None,
}
MENU = [
    {"action": {"type": "noop"}, "probability": 0.25},
    {"action": {"type": "scale", "target": "cart", "intensity": "visible"}, "probability": 0.25},
    {"action": {"type": "restart", "target": "cart"}, "probability": 0.25},
    {"action": {"type": "delete_pod", "target": "ad", "intensity": "mild"}, "probability": 0.25},
]


def row(action_type: str, target: str | None, **parameters: Any) -> dict[str, Any]:
    return {
        "action_type": action_type,
        "target": target,
        "parameters": json.dumps(parameters),
        "duration_s": None,
        "propensity": 0.25,
    }


def test_noop_and_what_was_done_are_always_among_the_alternatives_and_the_rest_is_drawn() -> None:
    logged = row("scale", "cart", intensity="visible", replicas=3)
    two = alternatives_of(logged, MENU, Draws(1, "a"), 2)
    assert [(item.action["type"], item.is_logged, item.probability) for item in two] == [
        ("noop", False, 0.25),
        ("scale", True, 0.25),
    ]
    assert two[1].action == MENU[1]["action"]  # as it was on the menu, not as it was resolved
    others = {alternatives_of(logged, MENU, Draws(seed, "a"), 3)[2].action["type"] for seed in range(20)}
    assert others == {"restart", "delete_pod"}
    assert len(alternatives_of(logged, MENU, Draws(1, "a"), 99)) == len(MENU)
    still = alternatives_of(row("noop", None), MENU, Draws(1, "a"), 3)
    assert [item.is_logged for item in still] == [True, False, False]


def test_what_a_script_did_is_compared_with_noop_alone() -> None:
    found = alternatives_of(row("scale", "cart", intensity="visible", replicas=3), [], Draws(1, "a"), 4)
    assert [(item.action, item.is_logged) for item in found] == [
        (NOOP, False),
        ({"type": "scale", "target": "cart", "intensity": "visible"}, True),
    ]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with a campaign of one run, whose policy drew once."""
    directory = tmp_path_factory.mktemp("counterfactuals")
    file = directory / "branched.yaml"
    file.write_text(yaml.safe_dump(CAMPAIGN))

    async def play() -> None:
        async with open_broker(directory / "data") as broker:
            await run_campaign(load_plan(file), broker, data_dir=directory / "data", nats=None, workers=1)

    anyio.run(play)
    return directory / "data"


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_decision_is_branched_once_and_again_only_when_more_is_asked_for(data_dir: Path) -> None:
    directory = campaign_directory(data_dir, "branched")
    told: list[DecisionPlayed] = []

    async def play(**options: Any) -> None:
        await play_counterfactuals(
            data_dir, "branched", workers=2, on_played=lambda found, _total: told.append(found), **options
        )

    await play(alternatives=3, branches=1, horizon=2)
    runs = [run.run_id for run in ocg.find_runs(data_dir)]
    assert len(runs) == 1  # branches leave no runs
    rows = read_branches(directory)
    assert {(row.number, row.stratum, row.horizon_s) for row in rows} == {(0, "randomised", 60)}
    assert [row.alternative_index for row in rows] == [0, 1, 2]
    assert len({row.pair_id for row in rows}) == 1
    assert all(row.number < FIRST_NUMBER for row in rows)
    assert [(row.reward_1 is None, row.reward_3 is None) for row in rows] == [(False, True)] * 3
    (decision,) = branched_decisions(rows)
    assert decision.action_id == next(item.action_id for item in rows if item.is_logged)

    cells = pq.read_table(directory / CELLS_FILE)
    assert set(cells["horizon_s"].to_pylist()) == {30, 60}
    assert {"node", "edge"} == set(cells["kind"].to_pylist())
    # The futures of a pair differ by the alternative alone: what nobody did anything to is the same to the bit.
    demand = cells.filter(pc.equal(cells["feature"].cast("string"), "request_rate"))
    assert demand.num_rows
    groups = pq.read_table(directory / EFFECT_CELLS_FILE).to_pylist()
    acted = decision.alternatives[decision.logged].action_type != "noop"
    assert bool(groups) == acted
    assert {item["n_branches"] for item in groups} <= {8}
    assert {item["action_id"] for item in groups} <= {decision.action_id}
    assert "slo_satisfaction" not in {item["feature"] for item in groups}

    files = {path.name: path.read_bytes() for path in directory.glob("*.parquet")}
    await play(alternatives=2, branches=1, horizon=2)
    assert {path.name: path.read_bytes() for path in directory.glob("*.parquet")} == files
    assert len(told) == 1  # it was there


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_campaign_without_faults_and_actions_to_contrast_is_refused(data_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"no run of fault_with_recovery, wrong_remedy, baseline"):
        await play_contrasts(data_dir, "branched")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strata": ("randomized",)}, "no such stratum\n  did you mean 'randomised'"),
        ({"alternatives": 1}, "alternatives at least 2"),
        ({"branches": FIRST_NUMBER + 1}, "beyond are those that classify"),
        ({}, "has no campaign 'nothing'"),
    ],
)
async def test_what_cant_be_branched_is_refused_in_a_sentence(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await play_counterfactuals(tmp_path, "nothing", **options)
