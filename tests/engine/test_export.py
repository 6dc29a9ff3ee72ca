"""Runs of the embedded stand in other tools' formats: what is written, what is refused, and that nothing is half there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

import otel_control_gym as ocg
from otel_control_gym.engine.command_line.app import app
from otel_control_gym.engine.settings import PlannedAction, RunConfig
from otel_control_gym.projections.adapters import FORMATS

ACTIONS: tuple[tuple[dict[str, Any], int, float | None], ...] = (
    ({"type": "noop"}, 30, 0.5),
    ({"type": "scale", "target": "frontend", "intensity": "visible"}, 60, 0.25),
    ({"type": "restart", "target": "cart"}, 30, None),
)


def configuration(name: str = "exported") -> RunConfig:
    """A run of 120 s under a light load, in which the cart's calls get slow."""
    config = ocg.resolve("small-core", workload="steady", seed=7)
    fault = PlannedAction(
        at_seconds=30,
        action={"type": "network_delay", "target": "frontend->cart", "latency_ms": 300, "duration_seconds": 60},
    )
    return msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, horizon_seconds=120),
        workload=msgspec.structs.replace(config.workload, users=60),
        scenario=msgspec.structs.replace(config.scenario, name=name, interventions=(fault,)),
    )


Step = tuple[ocg.Observation, float]


def live(config: RunConfig, seed: int, actions: Any, data_dir: Path) -> tuple[list[Step], Path]:
    """Return what a policy that plays `actions` [(action, dt, propensity)] is shown and earns, and the run's directory."""
    with ocg.synchronous(ocg.make(config, data_dir=data_dir)) as env:
        steps = [(env.reset(seed=seed), 0.0)]
        for action, dt, propensity in actions:
            weighed = (
                None
                if propensity is None
                else [{**action, "probability": propensity}, {"type": "other", "probability": 1 - propensity}]
            )
            observation, reward, *_ = env.step(action, dt, propensity=propensity, alternatives=weighed)
            steps.append((observation, reward))
    return steps, env.run_dir


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def episode(data_dir: Path) -> tuple[list[Step], Path]:
    return live(configuration(), 11, ACTIONS, data_dir)


@pytest.fixture
def run(episode: tuple[list[Step], Path]) -> Path:
    return episode[1]


def answer(*arguments: str | Path) -> tuple[int, Any, str]:
    """Return the exit code, the document and what was said beside it."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments), "--json"])
    return result.exit_code, json.loads(result.stdout), result.stderr


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# --- Minari -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def minari_dataset(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import minari

    monkeypatch.chdir(tmp_path)
    ocg.export(run, "minari", out="minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return minari.load_dataset("ocg/small-core-v0")


def test_minari_loads_the_episode_as_the_policy_lived_it(minari_dataset: Any, episode: tuple[list[Step], Path]) -> None:
    (loaded,), steps = list(minari_dataset), episode[0]
    assert minari_dataset.total_steps == len(ACTIONS) == len(loaded.rewards)
    for position, (observation, _) in enumerate(steps):
        for name, values, mask in (
            ("nodes", observation.nodes, observation.node_mask),
            ("edges", observation.edges, observation.edge_mask),
        ):
            stored = loaded.observations[name][position]
            assert np.array_equal(loaded.infos[f"{name[:-1]}_mask"][position], mask)
            assert np.array_equal(stored[mask], values[mask])
            assert not stored[~mask].any()
        assert loaded.infos["log_sequence"][position] == observation.log_sequence
    assert loaded.rewards.tolist() == [reward for _, reward in steps[1:]]
    assert loaded.truncations.tolist() == [False, False, True]
    assert not loaded.terminations.any()


def test_minaris_spaces_hold_what_is_stored(minari_dataset: Any) -> None:
    (loaded,) = minari_dataset
    for step in range(len(loaded)):
        assert minari_dataset.observation_space.contains(
            {name: values[step] for name, values in loaded.observations.items()}
        )
        assert minari_dataset.action_space.contains({name: values[step] for name, values in loaded.actions.items()})


def test_propensity_alternatives_and_family_stand_with_the_step_that_they_are_about(
    minari_dataset: Any, run: Path
) -> None:
    (loaded,) = minari_dataset
    chances = loaded.infos["propensity"].tolist()
    assert np.isnan([chances[0], chances[3]]).all()
    assert chances[1:3] == [0.5, 0.25]
    weighed: list[Any] = [json.loads(text) if text else None for text in loaded.infos["alternatives"]]
    assert weighed[0] is weighed[3] is None
    assert weighed[2][0] == {**ACTIONS[1][0], "probability": 0.25}
    assert loaded.infos["dt_s"].tolist() == [0, 30, 60, 30]
    family = json.loads((run / "metadata.json").read_text())["family_id"]
    assert {text.decode() for text in loaded.infos["family_id"]} == {family}


def test_seed_configuration_and_actions_replay_to_the_same_observations(minari_dataset: Any, tmp_path: Path) -> None:
    """Everything that is needed comes out of the dataset, and bit for bit the same numbers come out of the stand."""
    (loaded,) = minari_dataset
    (about,) = minari_dataset.storage.get_episode_metadata([0])
    assert about["options"]["replays"]
    config = msgspec.convert(minari_dataset.storage.metadata["run_configs"][about["options"]["run_id"]], type=RunConfig)
    actions = [
        (json.loads(text), int(seconds), None)
        for text, seconds in zip(loaded.infos["action"][1:], loaded.infos["dt_s"][1:], strict=True)
    ]
    assert actions[1][0] == {"type": "scale", "target": "frontend", "intensity": "visible"}
    steps, _ = live(config, about["seed"], actions, tmp_path / "again")
    for position, (observation, _) in enumerate(steps):
        assert np.array_equal(
            np.where(observation.node_mask, observation.nodes, 0), loaded.observations["nodes"][position]
        )
        assert np.array_equal(
            np.where(observation.edge_mask, observation.edges, 0), loaded.observations["edges"][position]
        )
    assert [reward for _, reward in steps[1:]] == loaded.rewards.tolist()


def test_several_runs_are_several_episodes_in_the_order_of_their_ids(
    run: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import minari

    _, second = live(configuration(), 12, ACTIONS[:1], data_dir)
    done = ocg.export([second, run], "minari", out=tmp_path / "both")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "both"))
    dataset = minari.load_dataset("ocg/small-core-v0")
    about = list(dataset.storage.get_episode_metadata([0, 1]))
    assert [item["seed"] for item in about] == [11, 12]
    assert [item["options"]["run_id"] for item in about] == list(done.runs)
    assert dataset.total_steps == len(ACTIONS) + 1
    shutil.rmtree(second)


# --- all formats ------------------------------------------------------------------------------------------------------------


PLAIN = ("chronograph", "causal-graph", "minari")


@pytest.mark.parametrize("name", PLAIN)
def test_the_same_run_gives_the_same_bytes(name: str, run: Path, tmp_path: Path) -> None:
    first, second = (ocg.export(run, name, out=tmp_path / label).path for label in ("a", "b"))
    assert contents(first) == contents(second) != {}


@pytest.mark.parametrize("name", PLAIN)
def test_the_command_names_every_file_and_what_was_left_out(name: str, run: Path, tmp_path: Path) -> None:
    code, document, _ = answer(run, "--to", name, "--out", tmp_path / "out")
    assert code == 0
    assert document["files"] == list(contents(tmp_path / "out"))
    assert document["path"] == str(tmp_path / "out")
    assert [item["what"] for item in document["left_out"]] == [omission.what for omission in FORMATS[name].left_out]
    assert document["runs"] == [run.name.removeprefix("run_")]


@pytest.mark.parametrize("name", PLAIN)
def test_truth_is_in_the_answer_key_alone(name: str, run: Path, tmp_path: Path) -> None:
    """No file but the format's answer key names the kind of the fault or its label; hdf5 is searched as bytes."""
    action_id = json.loads((run / "metadata.json").read_text())["intervention_schedule"][0]["action_id"]
    keys = {Path(file.path).name.replace("run_<run_id>", run.name) for file in FORMATS[name].files if file.truth}
    told = {
        Path(path).name
        for path, content in contents(ocg.export(run, name, out=tmp_path / "out").path).items()
        if b"network_delay" in content or action_id.encode() in content
    }
    assert told <= keys


def test_wide_buckets_are_folded_again_from_the_log(run: Path, tmp_path: Path) -> None:
    fine = ocg.export(run, "chronograph", out=tmp_path / "fine", bucket_seconds=5)
    about = json.loads(next(fine.path.glob("*/about.json")).read_text())
    own = json.loads(next(ocg.export(run, "chronograph", out=tmp_path / "own").path.glob("*/about.json")).read_text())
    assert (about["step_seconds"], own["step_seconds"]) == (5, 10)
    assert about["steps"] == 2 * own["steps"]
    # For RCAEval it happens unasked; what is left to refuse is the short calm before the fault.
    with pytest.raises(ocg.NotExportable, match="18 samples of 5 s without a fault before it, 60 are needed"):
        ocg.export(run, "rcaeval", out=tmp_path / "rcaeval")


def test_a_directory_of_runs_is_all_of_them_and_each_is_taken_once(run: Path, data_dir: Path, tmp_path: Path) -> None:
    campaign = run.parents[1]
    for reference in (campaign, data_dir, [campaign, run]):
        done = ocg.export(reference, "causal-graph", out=tmp_path / f"out-{len(list(tmp_path.iterdir()))}")
        assert done.runs == (run.name.removeprefix("run_"),)


def test_a_run_that_a_format_cannot_take_is_skipped_with_the_reason_where_others_can(run: Path, tmp_path: Path) -> None:
    void = tmp_path / "runs" / "run_VOID"
    shutil.copytree(run, void)
    path = void / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "void", "run_id": "VOID"}))
    done = ocg.export([run, void], "chronograph", out=tmp_path / "out")
    assert [skipped.run_id for skipped in done.skipped] == ["VOID"]
    assert "void" in done.skipped[0].reason
    with pytest.raises(ocg.NotExportable, match="VOID: it is void"):
        ocg.export(void, "chronograph", out=tmp_path / "none")


def test_a_refusal_leaves_nothing_behind(run: Path, tmp_path: Path) -> None:
    code, document, said = answer(run, "--to", "rcaeval", "--out", tmp_path / "out")
    assert code == 2
    assert document["error"]["type"] == "NotExportable"
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "chronogram"), "did you mean 'chronograph'?"),
        (("--to", "minari", "--bucket", "5s"), "the buckets in which the policy saw them"),
        (("--to", "chronograph", "--bucket", "7s"), "no multiple of scrape_interval_seconds = 5"),
    ],
)
def test_a_wrong_request_is_answered_with_what_would_be_right(
    arguments: tuple[str, ...], message: str, run: Path, tmp_path: Path
) -> None:
    code, document, _ = answer(run, *arguments, "--out", tmp_path / "out")
    assert code == 2
    assert message in document["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_is_not_written_into(run: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ocg.UsageError, match="isn't empty"):
        ocg.export(run, "chronograph", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ocg.UsageError, match="no run is in it"):
        ocg.export(tmp_path, "chronograph", out=tmp_path / "out")
