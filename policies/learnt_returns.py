"""A trained model ➜ what the planner asks: what each action of a menu would earn, from a live observation.

In: the directory of a model, what is public of the run. Out: a `ReturnModel` of `policies.planner`. Two baselines can be planned with:
`reward` (one model of state and action, over ten control steps) and `returns` (a passive one, and what actions add to it, over six). What
the policy asked for so far goes into the state as the tables have it: a model sees live what it saw in training.

Blocking to load; then pure but for the memory of what was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import Asked, asked_by
from otel_control_gym.baselines.model_files import load_model
from otel_control_gym.baselines.returns import STEPS, ReturnModel, foretold_gains, foretold_return
from otel_control_gym.baselines.reward_model import RewardModel, judge
from otel_control_gym.baselines.states import State, state_of
from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunSettings

__all__ = ("LearntReturns", "load_return_model")


Float = npt.NDArray[np.float64]
Foretell = Callable[[State, Sequence[Asked | None]], Float]

_REWARD_STEPS = 10  #: of the horizons of `reward` the longest: some remedies take minutes to pay


class LearntReturns:
    """Foretells returns over the steps that a model was trained for."""

    def __init__(self, foretell: Foretell, settings: RunSettings, *, version: str, horizon_steps: int) -> None:
        self.version, self.horizon_steps = version, horizon_steps
        self._foretell, self._settings = foretell, settings
        self._past: list[Asked] = []

    def returns(self, observation: Observation, actions: Sequence[dict[str, Any]]) -> Float:
        """Return what each action is foretold to earn, [A]."""
        now = self._now(observation)
        state = state_of(
            observation,
            application=self._settings.services.name,
            step_seconds=self._settings.granularity.control_step_seconds,
            past=self._past,
        )
        candidates = [
            None if action["type"] == "noop" else asked_by(action, requested=now, settings=self._settings)
            for action in actions
        ]
        return self._foretell(state, candidates)

    def note(self, observation: Observation, action: dict[str, Any]) -> None:
        """Remember what was asked for after an observation."""
        self._past.append(asked_by(action, requested=self._now(observation), settings=self._settings))

    @staticmethod
    def _now(observation: Observation) -> int:
        """Return the moment of an observation [ns]: the end of its last bucket."""
        return int(2 * observation.time[-1] - observation.time[-2])


def load_return_model(directory: Path, settings: RunSettings) -> LearntReturns:
    """Return the model in a directory.

    Raises: DatasetError: there is none, it was changed, it is of something else, or of another control step.
    """
    model, metadata = load_model(directory)
    foretell: Foretell
    match model:
        case RewardModel():
            fold = model.folds[0]
            foretell, steps = (
                lambda state, actions: judge(fold, state, actions, horizon=_REWARD_STEPS).reward,
                _REWARD_STEPS,
            )
        case ReturnModel():
            foretell, steps = lambda state, actions: _together(model, state, actions), STEPS
        case _:
            raise DatasetError(
                f"{directory} holds a model of {metadata.baseline}, which can't be planned with\n"
                "  `ocg baseline train returns` (or reward) makes one that can"
            )
    if model.step_seconds != settings.granularity.control_step_seconds:
        raise DatasetError(
            f"{directory}: trained on control steps of {model.step_seconds} s, not of {settings.granularity.control_step_seconds} s\n"
            "  train it on a campaign with the same granularity"
        )
    version = f"{metadata.baseline}-{metadata.campaign}-{metadata.model_sha256[:12]}"
    return LearntReturns(foretell, settings, version=version, horizon_steps=steps)


def _together(model: ReturnModel, state: State, actions: Sequence[Asked | None]) -> Float:
    return np.asarray(foretold_return(model, state)[0] + foretold_gains(model, state, actions))
