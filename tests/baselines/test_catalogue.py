"""A model is kept with what it is, and loaded only if it still is that."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from otel_control_gym.baselines.catalogue import BASELINES, baseline
from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.model_files import load_model, metadata_of, save_model
from otel_control_gym.engine.errors import DatasetError, UsageError


@pytest.fixture
def task(tmp_path: Path) -> Task:
    directory = tmp_path / "campaign=tiny"
    (directory / "splits").mkdir(parents=True)
    _split(directory, "one")
    return Task(directory=directory, seeds=(0,))


def _split(directory: Path, digest: str) -> None:
    body = {"parts": {"train": ["a"], "validation": [], "test": ["b"]}, "digest": digest}
    (directory / "splits" / "iid.json").write_bytes(msgspec.json.encode(body))


def test_every_entry_is_a_module_with_the_functions_of_a_baseline() -> None:
    for entry in BASELINES:
        module = baseline(entry.name)
        assert all(callable(getattr(module, name)) for name in ("train", "evaluate", "features"))


def test_a_name_that_there_is_not_is_told_its_nearest() -> None:
    with pytest.raises(UsageError, match="no baseline 'next-stat'"):
        baseline("next-stat")


def test_a_model_comes_back_with_what_was_kept_about_it(task: Task, tmp_path: Path) -> None:
    kept = save_model(tmp_path / "model", {"answer": 42}, metadata_of("next-state", task, features=("a", "b")))
    model, metadata = load_model(tmp_path / "model", task)
    assert model == {"answer": 42}
    assert metadata == kept
    assert metadata.split_digest == "one"
    assert metadata.features == ("a", "b")
    assert len(metadata.model_sha256) == 64


def test_a_model_file_that_was_changed_is_not_loaded(task: Task, tmp_path: Path) -> None:
    save_model(tmp_path / "model", [1], metadata_of("next-state", task, features=()))
    with (tmp_path / "model" / "model.joblib").open("ab") as file:
        file.write(b"!")
    with pytest.raises(DatasetError, match="isn't what its metadata says"):
        load_model(tmp_path / "model", task)


def test_a_model_of_another_version_of_the_split_is_not_scored(task: Task, tmp_path: Path) -> None:
    save_model(tmp_path / "model", [1], metadata_of("next-state", task, features=()))
    _split(task.directory, "two")
    with pytest.raises(UsageError, match="another version of split 'iid'"):
        load_model(tmp_path / "model", task)
