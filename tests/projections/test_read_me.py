"""A run's directory can be understood by who has nothing else: its README.md names every file and key, and tells no truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_control_gym.engine.events import Recorded
from otel_control_gym.projections import write_dataset
from otel_control_gym.projections.documents import METADATA_KEYS
from otel_control_gym.projections.read_me import read_me
from otel_control_gym.projections.rewards import COMPONENTS
from otel_control_gym.projections.schemas import FILES, STANDINGS


@pytest.fixture(scope="module")
def run(eventful: list[Recorded], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data") / "run_01TEST"
    write_dataset(eventful, directory)
    return directory


@pytest.fixture(scope="module")
def metadata(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metadata.json").read_text())
    return content


def test_it_explains_every_file_every_key_and_every_component_of_the_reward(run: Path) -> None:
    page = (run / "README.md").read_text()
    explained = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    for name in {*FILES, "event_log.zst", *METADATA_KEYS, *COMPONENTS} - {"README.md"}:
        assert name in explained, name
    for standing, meaning in STANDINGS.items():
        assert f"| {standing} | {meaning} |" in page


def test_it_states_the_objective_of_this_very_run(metadata: dict[str, Any]) -> None:
    objective = metadata["effective_configuration"]["reward"]["objective"] | {"latency_ms": 321.5, "service": "till"}
    metadata = metadata | {
        "effective_configuration": {"reward": {"objective": objective, "weights": {"stability": -7}}}
    }
    page = read_me(metadata)
    assert "at `till`, 0.99 of the demand" in page
    assert "within 321.5 ms" in page
    assert "| `stability` | 1 | -7 |" in page


@pytest.mark.parametrize(
    ("distortion", "clean", "words"),
    [(None, False, "nothing was degraded"), ({}, False, "was degraded"), ({}, True, "what it was before")],
)
def test_it_says_whether_the_telemetry_was_degraded(
    metadata: dict[str, Any], distortion: dict[str, Any] | None, clean: bool, words: str
) -> None:
    assert words in read_me(metadata | {"distortion": distortion, "clean": clean})


def test_it_says_nothing_that_is_truth_or_may_be_assigned_later(metadata: dict[str, Any]) -> None:
    other = dict.fromkeys(metadata["ground_truth"]["metadata"], "something else")
    other |= {"status": "void", "void_rule": "oom-before-onset", "split_ids": {"iid": "test"}}
    assert read_me(metadata | other) == read_me(metadata)
