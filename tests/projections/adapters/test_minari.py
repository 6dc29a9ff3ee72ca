"""What a Minari dataset says of an episode beside its numbers, and which episodes can't be in one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.errors import NotExportable
from otel_control_gym.engine.events import ActionRequested
from otel_control_gym.projections.adapters.action_encoding import encoding_of
from otel_control_gym.projections.adapters.minari import RecordedEpisode, write_minari
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.trajectories import Trajectory

STEPS, WINDOW = 2, 4


def decision(number: int) -> Life:
    return Life(
        requested=ActionRequested(
            time=number,
            action_id=f"a{number}",
            actor="model",
            action_class="action",
            action_type="scale",
            target_kind="service",
            target="cart",
            parameters={"replicas": number},
            decision_step=number,
        )
    )


def episode(run_id: str = "R1", *, stand: str = "twin", **different: Any) -> RecordedEpisode:
    trajectory = Trajectory(
        node_names=("cart", "frontend"),
        node_features=("request_rate",),
        edge_names=(("frontend", "cart", "grpc"),),
        edge_features=("request_rate",),
        nodes=np.full((STEPS + 1, WINDOW, 2, 1), np.nan),
        edges=np.ones((STEPS + 1, WINDOW, 1, 1)),
        times=np.arange(STEPS + 1),
        sequences=np.arange(STEPS + 1),
        lives=tuple(decision(number) for number in range(STEPS)),
        rewards=np.ones(STEPS),
        components={"slo": np.ones(STEPS)},
        terminated=False,
        truncated=True,
        done_reason="horizon",
        by_others=(),
    )
    return RecordedEpisode(
        run_id=run_id,
        seed=3,
        family_id="F1",
        scenario_id="S1",
        service_config="small-core",
        policy="random",
        stand=stand,
        run_config={"seed": 3},
        trajectory=msgspec.structs.replace(trajectory, **different),
        actions=tuple({"type": "scale", "target": "cart", "replicas": number} for number in range(STEPS)),
    )


def written(directory: Path, *episodes: RecordedEpisode) -> Any:
    """Return the dataset as Minari reads it."""
    from minari import MinariDataset

    dataset_id = write_minari(episodes, encoding_of(ocg.action_schema(), ("cart",)), directory)
    return MinariDataset(directory / dataset_id / "data")


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_only_the_last_step_ends_an_episode(end: str, tmp_path: Path) -> None:
    (loaded,) = written(tmp_path, episode(terminated=end == "terminated", truncated=end == "truncated"))
    assert loaded.terminations.tolist() == [False, end == "terminated"]
    assert loaded.truncations.tolist() == [False, end == "truncated"]


def test_an_episode_that_cannot_be_lived_again_says_so(tmp_path: Path) -> None:
    dataset = written(tmp_path, episode("R1"), episode("R2", by_others=("by-hand",)), episode("R3", stand="cluster"))
    about = dataset.storage.get_episode_metadata([0, 1, 2])
    assert [bool(item["options"]["replays"]) for item in about] == [True, False, False]


def test_unknown_cells_are_zero_and_masked(tmp_path: Path) -> None:
    (loaded,) = written(tmp_path, episode())
    assert not loaded.observations["nodes"].any()
    assert not loaded.infos["node_mask"].any()
    assert loaded.infos["edge_mask"].all()


def test_episodes_of_other_shape_or_names_are_refused(tmp_path: Path) -> None:
    wider = episode("R2", nodes=np.zeros((STEPS + 1, WINDOW + 1, 2, 1)))
    renamed = episode("R3", node_names=("basket", "frontend"))
    for other in (wider, renamed):
        with pytest.raises(NotExportable, match=f"R1 and {other.run_id}: their observations have other"):
            written(tmp_path / other.run_id, episode(), other)
    assert list(tmp_path.iterdir()) == []


def test_without_the_library_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari.data_collector", None)
    with pytest.raises(NotExportable, match=r"pip install 'otel-control-gym\[minari\]'"):
        write_minari([episode()], encoding_of(ocg.action_schema(), ("cart",)), tmp_path)
