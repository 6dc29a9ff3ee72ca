"""The baselines by name: training, keeping and scoring them, for `ocg baseline` and for notebooks.

A baseline is a module with the functions of `evaluations.Baseline`; to add one is a line in `BASELINES`. Modules are imported when asked
for.

    model = train_baseline("next-state", Task(directory=Path("data/campaign=mvp")))
    evaluation = evaluate_baseline("next-state", Task(directory=Path("data/campaign=mvp")))
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import msgspec

from otel_control_gym.baselines.evaluations import Baseline, Evaluation, Task
from otel_control_gym.baselines.model_files import ModelMetadata, load_model, metadata_of, save_model
from otel_control_gym.engine.errors import DatasetError, UsageError, nearest

__all__ = (
    "BASELINES",
    "EVALUATION_FILE",
    "PREDICTIONS_FILE",
    "Entry",
    "baseline",
    "evaluate_baseline",
    "kept_evaluation",
    "model_directory",
    "train_baseline",
)

EVALUATION_FILE = "evaluation.json"  #: of a model's directory
PREDICTIONS_FILE = "predictions.parquet"  #: likewise


class Entry(msgspec.Struct, frozen=True):
    """A baseline's name, what it does, and the module of this room that does it."""

    name: str
    summary: str
    module: str
    predicts: bool = False  #: it can write what it foretold


BASELINES: tuple[Entry, ...] = (
    Entry(
        "next-state",
        "what services and edges do after an action; with and without the action known",
        "next_state",
        predicts=True,
    ),
    Entry("forecast", "the same without actions, beside AutoETS, AutoARIMA and SeasonalNaive", "forecasting"),
    Entry(
        "effect",
        "what an action changes in the reward, beside the truth of branches; off-policy estimates",
        "effect_model",
        predicts=True,
    ),
    Entry("cause", "an action or a fault? On pairs that look alike; and what an action adds to a fault", "cause_model"),
    Entry("reward", "reward, breach of the SLO, time to recovery and cost after an action", "reward_model"),
    Entry("anomaly", "who notices faults, how late, and with how many false alarms", "anomalies", predicts=True),
    Entry("root-cause", "which service a fault sits in, with the onset given and with it detected", "root_causes"),
    Entry("streams", "which telemetry streams show faults: all, each alone, all but each", "stream_values"),
    Entry("returns", "by how much each action of a menu changes the return: what the planner asks", "returns"),
)
"""What can be trained and evaluated."""


def baseline(name: str) -> Baseline:
    """Return a baseline.

    Raises: UsageError: there is none of that name.
    """
    return cast("Baseline", import_module(f"otel_control_gym.baselines.{_entry(name).module}"))


def _entry(name: str) -> Entry:
    for entry in BASELINES:
        if entry.name == name:
            return entry
    raise UsageError(f"there is no baseline {name!r}\n  {nearest(name, [entry.name for entry in BASELINES])}")


def model_directory(name: str, task: Task, models: Path | None = None) -> Path:
    """Return where a model is kept: below `models`, or else in the campaign's own directory."""
    return (models or task.directory / "baselines") / name / task.split


def train_baseline(name: str, task: Task, *, models: Path | None = None) -> ModelMetadata:
    """Train a baseline, keep its model, and return what is kept about it.

    Raises: UsageError: there is no such baseline, campaign or split. DatasetError: a file can't be read.
    """
    chosen = baseline(name)
    model: Any = chosen.train(task)
    metadata = metadata_of(name, task, features=chosen.features(model))
    return save_model(model_directory(name, task, models), model, metadata)


def evaluate_baseline(name: str, task: Task, *, models: Path | None = None) -> Evaluation:
    """Score a baseline that was trained, and keep the scores, and what it foretold, beside its model.

    Raises:
        UsageError: there is no such baseline, campaign or split, or it wasn't trained, or it writes no predictions and is to.
        DatasetError: a file can't be read.
    """
    chosen, predicts = baseline(name), _entry(name).predicts
    if task.predictions is not None and not predicts:
        raise UsageError(
            f"{name} writes no predictions: its scores follow from the model and the runs\n  leave --predictions out"
        )
    directory = model_directory(name, task, models)
    if not directory.is_dir():
        raise UsageError(
            f"{name} wasn't trained on split {task.split!r} of {task.directory}\n  `ocg baseline train {name}` does"
        )
    model, _ = load_model(directory, task)
    if task.predictions is None and predicts:
        task = msgspec.structs.replace(task, predictions=directory / PREDICTIONS_FILE)
    evaluation = chosen.evaluate(model, task)
    draft = directory / f".{EVALUATION_FILE}"
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n")
    draft.replace(directory / EVALUATION_FILE)
    return evaluation


def kept_evaluation(name: str, directory: Path, splits: Sequence[str]) -> Evaluation | None:
    """Return the scores of a campaign's baseline that were kept, of the first of these splits that has any, or None.

    Raises: DatasetError: the file can't be read.
    """
    for split in splits:
        path = directory / "baselines" / name / split / EVALUATION_FILE
        if path.is_file():
            try:
                return msgspec.json.decode(path.read_bytes(), type=Evaluation)
            except (OSError, msgspec.MsgspecError) as error:
                raise DatasetError(
                    f"{path} can't be read: {error}\n  `ocg baseline evaluate {name} --split {split}` writes it anew"
                ) from error
    return None
