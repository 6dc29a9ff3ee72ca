"""A campaign's single actions and faults get certificates, which are part of their runs from then on; futures leave nothing behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import otel_control_gym as ocg
from otel_control_gym.engine.assigned_tables import assign, has_assigned
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.branch_arms import Arm, play_arm
from otel_control_gym.engine.campaigns.certifying import _subjects, _timed, certify
from otel_control_gym.engine.campaigns.effects import Column, EffectSettings
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.running import run_campaign
from otel_control_gym.engine.configuration_files import load
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.rebuild import rebuild

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

CAMPAIGN: dict[str, Any] = {
    "name": "certified",
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"single_fault": 1},
    "actions": ["restart"],
    "interventions": ["network_partition"],
    "intensities": ["severe"],
    "length": {"short_seconds": 600, "long_seconds": [600, 600], "long_share": 0.0},
    "seed": 2,  # its fault begins 150 s after control does: time enough to compare with
    "bounds": None,
}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory in which a campaign of one fault and its sibling was played."""
    import anyio

    directory = tmp_path_factory.mktemp("certifying")
    file = directory / "certified.yaml"
    file.write_text(yaml.safe_dump(CAMPAIGN))

    async def play() -> None:
        async with open_broker(directory / "data") as broker:
            await run_campaign(load_plan(file), broker, data_dir=directory / "data", nats=None, workers=2)

    anyio.run(play)
    return directory / "data"


def certificates(data_dir: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for run in ocg.find_runs(data_dir):
        rows += ocg.open_run(run.path, truth=True).table("certificates").to_arrow().to_pylist()
    return rows


async def test_a_run_without_a_sibling_is_certified_by_its_own_past_and_comes_to_the_same_class(
    played: Path, tmp_path: Path
) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    shutil.copytree(played / "campaign=certified", both / "campaign=certified")
    (paired,) = await certify(both, "certified", branches=0)
    (treated,) = [run for run in ocg.find_runs(played) if run.run_id == paired.run_id]
    shutil.copytree(treated.path, alone / treated.path.relative_to(played))
    too_early = msgspec.structs.replace(_subjects(alone, "certified", None, 300)[0], step=1)
    settings, _ = load("effects", "default", EffectSettings)
    with pytest.raises(UsageError, match="30 s of control before its action are too few"):
        _timed(too_early, settings)

    (effect,) = await certify(alone, "certified", branches=0)
    found = effect.certificate
    assert (found.method, found.n_branches) == ("before_after", 0)
    assert found.effect_class == paired.certificate.effect_class == "visible"
    assert found.first_feature == paired.certificate.first_feature  # where first, windows of 30 s can't tell as finely
    assert found.effect is not None
    assert found.effect_low is not None
    assert found.effect_high is not None
    assert found.effect_low <= found.effect <= found.effect_high
    (row,) = certificates(alone)
    assert (row["method"], row["sibling_run_id"]) == ("before_after", None)
    assert ocg.validate(next(iter(ocg.find_runs(alone))).path) == []
    assert "| before after |" in (alone / "campaign=certified" / "certificates.md").read_text()


async def test_what_was_played_on_a_cluster_is_not_branched(played: Path, tmp_path: Path) -> None:
    (run,) = [
        run for run in ocg.find_runs(played) if ocg.open_run(run.path, truth=True).metadata["intervention_schedule"]
    ]
    copy = tmp_path / run.path.relative_to(played)
    shutil.copytree(run.path, copy)
    metadata = json.loads((copy / "metadata.json").read_text())
    (copy / "metadata.json").write_text(json.dumps(metadata | {"stand": "cluster"}))
    with pytest.raises(UsageError, match="nothing can be lived again: there are no branches"):
        await certify(tmp_path, "certified", branches=8)


async def test_a_campaign_is_certified_by_its_pairs_first_and_then_by_branches_and_its_runs_stay_valid(
    played: Path,
) -> None:
    told: list[str] = []
    paired = await certify(played, "certified", branches=0, on_certified=lambda effect, _total: told.append(effect.key))
    assert [effect.certificate.method for effect in paired] == ["pair"]
    assert told == ["single_fault-0000"]

    folder = played / "campaign=certified" / "service_config=small-core"
    before = sorted(path.name for path in folder.iterdir())
    (effect,) = await certify(played, "certified", branches=8, workers=2, seconds=30)
    assert sorted(path.name for path in folder.iterdir()) == before  # futures leave nothing
    found = effect.certificate
    assert (found.method, found.n_branches, found.effect_class) == ("branches", 8, "visible")
    assert found.delay_s is not None
    assert 0 < found.delay_s <= 30

    (row,) = certificates(played)
    assert (row["class"], row["first_feature"], row["effect"]) == ("visible", found.first_feature, found.effect)
    assert row["sibling_run_id"] in {run.run_id for run in ocg.find_runs(played)}
    assert [ocg.validate(run.path) for run in ocg.find_runs(played)] == [[], []]
    listed = json.loads((played / "campaign=certified" / "certificates.json").read_text())["certificates"]
    assert [entry["certificate"]["class"] for entry in listed] == ["visible"]
    page = (played / "campaign=certified" / "certificates.md").read_text()
    assert "| intervention | network_partition | severe | 1 | 0 | 0 | 1 of 1 |" in page

    again: list[str] = []
    same = await certify(played, "certified", branches=8, on_certified=lambda effect, _total: again.append(effect.key))
    assert (same, again) == ([effect], [])


def test_two_arms_of_one_number_differ_by_the_action_alone_and_two_numbers_by_chance(
    played: Path, tmp_path: Path
) -> None:
    run = next(
        found
        for found in ocg.find_runs(played)
        if not ocg.open_run(found.path, truth=True).metadata["intervention_schedule"]
    )
    arm = Arm(
        run=run.path,
        run_id=run.run_id,
        step=1,
        action={"type": "noop"},
        without_faults=False,
        branches=2,
        steps=1,
        features=("request_count", "replicas_ready", "slo_satisfaction"),
        scratch=tmp_path,
    )
    alone = play_arm(arm)
    placebo = play_arm(msgspec.structs.replace(arm, action={"type": "scale", "target": "cart", "replicas": 1}))
    scaled = play_arm(msgspec.structs.replace(arm, action={"type": "scale", "target": "cart", "replicas": 2}))
    assert [readings.values.tobytes() for readings in alone] == [readings.values.tobytes() for readings in placebo]
    assert alone[0].values.tobytes() != alone[1].values.tobytes()
    ready = alone[0].columns.index(Column("cart", "replicas_ready"))
    assert [readings.values[-1, ready] for readings in (*alone, *scaled)] == [1, 1, 2, 2]
    assert not ocg.find_runs(tmp_path)


async def test_a_rebuilt_run_keeps_its_certificate(played: Path, tmp_path: Path) -> None:
    run = next(run for run in ocg.find_runs(played) if (run.path / "certificates.parquet").exists())
    row = dict.fromkeys(field.name for field in ocg.open_run(run.path, truth=True).table("certificates").schema)
    action_id = ocg.open_run(run.path, truth=True).table("actions").to_arrow().column("action_id").to_pylist()[0]
    assign(run.path, "certificates", [row | {"action_id": action_id, "class": "none"}], run_id=run.run_id)
    rebuilt = rebuild(run.path, bucket_seconds=30, out=tmp_path / run.path.name)
    assert ocg.open_run(rebuilt, truth=True).table("certificates").count_rows() == 1
    assert ocg.validate(rebuilt) == []
    assert ocg.open_run(rebuilt).table("certificates").count_rows() == 0  # what an action did is truth
    (rebuilt / "certificates.parquet").write_bytes(b"")
    assert not has_assigned(rebuilt, "certificates")


async def test_a_discarded_episode_leaves_neither_dataset_nor_log_and_the_next_one_is_as_ever(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", workload="steady", seed=7)
    async with ocg.make(config, data_dir=tmp_path) as env:
        await env.reset()
        first, *_ = await env.step(ocg.Noop())
        await env.discard_episode()
        assert not env.run_dir.exists()
        await env.reset()
        second, *_ = await env.step(ocg.Noop())
        assert second.nodes.tobytes() == first.nodes.tobytes()
    assert [run.run_id for run in ocg.find_runs(tmp_path)] == [env.run_id]
    async with ocg.make(config, data_dir=tmp_path):
        pass  # nothing is there to be recovered
    assert [run.run_id for run in ocg.find_runs(tmp_path)] == [env.run_id]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("certified", {"branches": 3}, "3 branches: too few"),
        ("certified", {"workers": 0}, "workers = 0"),
        ("nothing", {}, "has no campaign 'nothing'"),
    ],
)
async def test_what_cant_be_certified_is_refused_in_a_sentence(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await certify(tmp_path, name, **options)
