"""A branch has its parent's past, event by event, and a future of its own; what differs is caused by what was done differently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.codec import encode
from otel_control_gym.engine.events import (
    ActionRequested,
    BranchTaken,
    ClockAdvanced,
    EnvironmentRecorded,
    Recorded,
    WorkloadObserved,
)
from otel_control_gym.engine.settings import RunConfig

_ODD = (EnvironmentRecorded, BranchTaken)
_SCALE = {"type": "scale", "target": "frontend", "replicas": 2}
_PRESSURE = {"type": "cpu_pressure", "target": "frontend", "intensity": "severe", "duration_seconds": 60}


def short(seed: int = 7, **scenario: Any) -> RunConfig:
    """A run of 120 s control time, 4 steps, under a light load."""
    config = ocg.resolve("small-core", workload="steady", seed=seed)
    return msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, horizon_seconds=120),
        workload=msgspec.structs.replace(config.workload, users=60),
        scenario=msgspec.structs.replace(config.scenario, **scenario),
    )


def planned(at_seconds: int, action: dict[str, Any]) -> ocg.PlannedAction:
    return ocg.PlannedAction(at_seconds=at_seconds, action=action)


async def lived(directory: Path, *actions: dict[str, Any], config: RunConfig | None = None) -> Path:
    """Play actions, one a step, and then nothing; return the run's directory."""
    async with ocg.make(config or short(), data_dir=directory) as env:
        await env.reset()
        done, ahead = False, list(actions)
        while not done:
            *_, done, _ = await env.step(ahead.pop(0) if ahead else ocg.Noop())
    return env.run_dir


def metadata(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metadata.json").read_text())
    return found


def history(run: Path) -> list[Recorded]:
    return [entry for entry in read_archive(run / "event_log.zst") if not isinstance(entry.event, _ODD)]


def until_step(run: Path, step: int) -> list[bytes]:
    """Return a log up to the end of the step before `step`."""
    entries = history(run)
    end = next(
        number
        for number, entry in enumerate(entries)
        if isinstance(entry.event, ClockAdvanced) and entry.event.decision_step == step - 1
    )
    return [encode(entry.event) for entry in entries[: end + 1]]


async def test_a_branch_that_decides_as_its_parent_did_has_its_parents_digest(tmp_path: Path) -> None:
    parent = await lived(tmp_path, {"type": "noop"}, _SCALE)
    async with ocg.open_branch(parent, at=1, data_dir=tmp_path, actor="model") as env:
        for action in (_SCALE, {"type": "noop"}, {"type": "noop"}):
            await env.step(action)
    assert env.run_dir != parent
    assert metadata(env.run_dir)["content_digest"] == metadata(parent)["content_digest"]
    assert ocg.validate(env.run_dir) == []


async def test_another_decision_changes_nothing_before_it_and_the_metadata_says_where_it_comes_from(
    tmp_path: Path,
) -> None:
    parent = await lived(tmp_path)
    async with ocg.open_branch(parent, at=2, pair_id="p1", data_dir=tmp_path) as env:
        seen = await env.observe()
        await env.step(_SCALE)
    branch = env.run_dir
    assert seen.nodes.shape[0] == 30
    assert until_step(branch, 2) == until_step(parent, 2)
    assert [encode(entry.event) for entry in history(branch)] != [encode(entry.event) for entry in history(parent)]
    about, above = metadata(branch), metadata(parent)
    assert about["parent_run_id"] == above["run_id"]
    assert (about["branch_step"], about["randomness"], about["pair_id"]) == (2, "same", "p1")
    assert about["family_id"] == above["family_id"]
    assert above["parent_run_id"] is None


async def test_fresh_randomness_begins_at_the_branch_and_its_number_decides_which(tmp_path: Path) -> None:
    parent = await lived(tmp_path)
    offered = []
    for number in (0, 0, 1):
        async with ocg.open_branch(parent, at=2, randomness="fresh", number=number, data_dir=tmp_path) as env:
            await env.step(ocg.Noop())
        assert until_step(env.run_dir, 2) == until_step(parent, 2)
        offered.append(scheduled(env.run_dir))
    assert offered[0] == offered[1]
    assert offered[0] != offered[2]
    own = scheduled(parent)
    assert own[: len(offered[0])] != offered[0]


def scheduled(run: Path) -> list[int]:
    """Return how many requests users had made, reading by reading."""
    return [
        row.scheduled for entry in history(run) if isinstance(entry.event, WorkloadObserved) for row in entry.event.rows
    ]


async def test_fresh_futures_make_no_id_or_name_twice(tmp_path: Path) -> None:
    parent = await lived(tmp_path, {"type": "restart", "target": "cart"})
    async with ocg.open_branch(parent, at=1, randomness="fresh", data_dir=tmp_path) as env:
        await env.step({"type": "restart", "target": "cart"})
        await env.step(ocg.Noop())
    spans = pq.read_table(env.run_dir / "spans.parquet", columns=["trace_id", "span_id"]).to_pylist()
    assert len({(row["trace_id"], row["span_id"]) for row in spans}) == len(spans) > 100
    assert ocg.validate(env.run_dir) == []


async def test_an_episode_asks_what_if_and_goes_on_undisturbed(tmp_path: Path) -> None:
    plain = await lived(tmp_path / "plain")
    async with ocg.make(short(), data_dir=tmp_path / "asking") as env:
        await env.reset()
        await env.step(ocg.Noop())
        other = await env.branch(_SCALE, steps=2)
        earlier = await env.branch(_SCALE, at=0)
        done = False
        while not done:
            *_, done, _ = await env.step(ocg.Noop())
    assert metadata(env.run_dir)["content_digest"] == metadata(plain)["content_digest"]
    assert other.parent_run_id == earlier.parent_run_id == env.run_id
    assert (other.decision_step, len(other.rewards), other.done_reason) == (1, 2, None)
    assert (earlier.decision_step, len(earlier.rewards), earlier.done_reason) == (0, 4, "horizon")
    actions = pq.read_table(other.run_dir / "actions.parquet").to_pylist()
    assert [row["action_type"] for row in actions] == ["noop", "scale", "noop"]
    assert ocg.validate(other.run_dir) == []


async def test_a_branch_keeps_the_scripts_faults_drops_them_or_has_others(tmp_path: Path) -> None:
    config = short(interventions=(planned(30, _PRESSURE),))
    parent = await lived(tmp_path, config=config)
    delay = {"type": "network_delay", "target": "frontend->cart", "intensity": "mild", "duration_seconds": 30}
    found = []
    for interventions in (None, (), (planned(60, delay),)):
        async with ocg.open_branch(parent, at=1, interventions=interventions, data_dir=tmp_path) as env:
            for _ in range(3):
                await env.step(ocg.Noop())
        labels = pq.read_table(env.run_dir / "labels.parquet").to_pylist()
        found.append([row["fault_type"] for row in labels if row["is_fault"]])
        if interventions is None:
            assert metadata(env.run_dir)["content_digest"] == metadata(parent)["content_digest"]
    assert found == [["cpu_pressure"], [], ["network_delay"]]


async def test_a_branch_of_a_fresh_branch_lives_the_fresh_past_again(tmp_path: Path) -> None:
    parent = await lived(tmp_path)
    async with ocg.open_branch(parent, at=1, randomness="fresh", data_dir=tmp_path) as env:
        for _ in range(3):
            await env.step(ocg.Noop())
    child = env.run_dir
    async with ocg.open_branch(child, at=2, data_dir=tmp_path) as env:
        for _ in range(2):
            await env.step(ocg.Noop())
    assert metadata(env.run_dir)["content_digest"] == metadata(child)["content_digest"]
    assert metadata(env.run_dir)["parent_run_id"] == metadata(child)["run_id"]


async def test_what_cannot_be_branched_is_refused_with_the_reason(tmp_path: Path) -> None:
    parent = await lived(tmp_path)
    with pytest.raises(ocg.BranchError, match="no decision step 9: it has had 4"):
        async with ocg.open_branch(parent, at=9, data_dir=tmp_path):
            pass
    with pytest.raises(ocg.BranchError, match="planned at 10 s of control, but the branch begins at 60"):
        async with ocg.open_branch(parent, at=2, interventions=(planned(10, _PRESSURE),), data_dir=tmp_path):
            pass
    with pytest.raises(ocg.UsageError, match="steps count from 0"):
        async with ocg.open_branch(parent, at=-1, data_dir=tmp_path):
            pass


async def test_a_past_that_comes_out_differently_is_not_branched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version of the twin would do other things: here, one whose pods start later."""
    parent = await lived(tmp_path, {"type": "restart", "target": "cart"})
    monkeypatch.setattr("otel_control_gym.stands.twin.controller._JITTER", 0.5)
    with pytest.raises(ocg.BranchError, match="came out differently"):
        async with ocg.open_branch(parent, at=2, data_dir=tmp_path):
            pass
    runs = ocg.find_runs(tmp_path)
    assert [run.status for run in runs] == ["completed", "aborted"]


async def test_decisions_keep_what_their_policy_said_of_them(tmp_path: Path) -> None:
    weighed = [{"action": {"type": "noop"}, "probability": 0.75}, {"action": _SCALE, "probability": 0.25}]
    async with ocg.make(short(), data_dir=tmp_path, actor="baseline", policy_version="v1") as env:
        await env.reset()
        await env.step(_SCALE, propensity=0.25, alternatives=weighed)
        await env.step(ocg.Noop(), 60)
    async with ocg.open_branch(env.run_dir, at=2, data_dir=tmp_path, actor="model", policy_version="v2") as other:
        await other.step(ocg.Noop())
    asked = [entry.event for entry in history(other.run_dir) if isinstance(entry.event, ActionRequested)]
    assert [(event.actor, event.policy_version, event.propensity) for event in asked] == [
        ("baseline", "v1", 0.25),
        ("baseline", "v1", None),
        ("model", "v2", None),
    ]


def test_the_command_line_branches_a_run_and_compares(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from otel_control_gym.engine.command_line.app import app

    story = tmp_path / "story.yaml"
    story.write_text(json.dumps({"name": "story", "horizon_seconds": 120}))
    common = ["--json", "--data-dir", str(tmp_path)]
    runner = CliRunner()
    parent = json.loads(runner.invoke(app, ["run", str(story), *common]).stdout)
    same = json.loads(runner.invoke(app, ["branch", "latest", "--at", "2", *common]).stdout)
    assert same["parent_run_id"] == parent["run_id"]
    assert same["reward"] == pytest.approx(same["parent_reward"])
    assert len(same["rewards"]) == 2
    scale = ["--action", "scale target=frontend replicas=3", "--steps", "1"]
    other = json.loads(runner.invoke(app, ["branch", parent["run_id"], "--at", "1", *scale, *common]).stdout)
    assert len(other["rewards"]) == 1
    assert other["reward"] < other["parent_reward"], "pods cost, and there was nothing to gain"
    wrong = runner.invoke(app, ["branch", parent["run_id"], "--at", "7", "--data-dir", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "no decision step 7: it has had 4" in wrong.stderr
