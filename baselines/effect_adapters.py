"""What other baselines of the room imply about effects: their word for an alternative, minus their word for `noop`.

In: a task, under whose split a reward model or a next-state model was trained, and decisions as states. Out: effects that they
foretell, each by the model of a fold that never saw the decision's family; what wasn't trained is left out.

- *reward model*: the difference of the rewards that it foretells.
- *next-state model*: it foretells no reward. Its error ratio of the entry service at a horizon stands for the share of demand that fails
  over all of it: the effect is the number of steps times the difference, sign turned. Slowness and cost aren't in that.

Blocking. Upstream: `reward_model`, `next_state`. Downstream: `effect_tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.channels import NODE_TARGETS
from otel_control_gym.baselines.counterfactual_tables import HORIZONS
from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.model_files import load_model
from otel_control_gym.baselines.next_state import foretell
from otel_control_gym.baselines.regressors import MODEL_CLASSES, ModelClass
from otel_control_gym.baselines.reward_model import judge
from otel_control_gym.baselines.states import State, selected

__all__ = ("Foretells", "trained_models")

Float = npt.NDArray[np.float64]
Foretells: TypeAlias = Callable[[str, State], Float | None]
"""Takes a family and the state of its decision, and returns the effects, [A, len(HORIZONS)]; None: no fold scores that family."""


def trained_models(task: Task) -> Mapping[str, Foretells]:
    """Return what foretells effects, by name.

    Raises: DatasetError: a model's file was changed. UsageError: the split has changed since it was trained.
    """
    found: dict[str, Foretells] = {}
    for name, by_rewards in (("reward", True), ("next-state", False)):
        directory = task.directory / "baselines" / name / task.split
        if directory.is_dir():
            model = _loaded(directory, task)
            for model_class in MODEL_CLASSES:
                found[f"{name}, {model_class}"] = _foretells(model, model_class, by_rewards=by_rewards)
    return found


def _loaded(directory: Path, task: Task) -> Any:
    model, _ = load_model(directory, task)
    return model


def _foretells(model: Any, model_class: ModelClass, *, by_rewards: bool) -> Foretells:
    def effects(family: str, state: State) -> Float | None:
        fold = next((one for one in model.folds if family in one.fold.scored), None)
        if fold is None:
            return None
        values = [(_rewards if by_rewards else _satisfied)(fold, state, steps, model_class) for steps in HORIZONS]
        worth = np.stack(values, axis=-1)
        found: Float = worth - worth[:1]
        return found

    return effects


def _rewards(fold: Any, state: State, steps: int, model_class: ModelClass) -> Float:
    return judge(fold, selected(state, [0]), state.now, horizon=steps, model_class=model_class).reward


def _satisfied(fold: Any, state: State, steps: int, model_class: ModelClass) -> Float:
    """Return the demand that is answered without error over a horizon, in control steps."""
    nodes = foretell(fold, state, horizon=steps, model_class=model_class).nodes
    answered: Float = steps * (1.0 - nodes[:, state.system.entry, NODE_TARGETS.index("error_ratio")])
    return answered
