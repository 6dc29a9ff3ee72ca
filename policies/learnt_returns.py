"""A trained model of returns ➜ what the planner asks: what each action of a menu would earn, from a live observation.

In: the directory of a model (`ocg baseline train returns`), what is public of the run. Out: a `ReturnModel` of `policies.planner`. What the
policy asked for so far is read from its own actions, as the tables have them: a model sees live what it saw in training.

Blocking to load; then pure but for the memory of what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import Asked, asked_by
from otel_control_gym.baselines.model_files import load_model
from otel_control_gym.baselines.returns import STEPS, ReturnModel, foretold_gains, foretold_return
from otel_control_gym.baselines.states import state_of
from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunSettings

__all__ = ("LearntReturns", "load_return_model")


class LearntReturns:
    """Foretells returns over the steps that the model was trained for."""

    horizon_steps = STEPS

    def __init__(self, model: ReturnModel, settings: RunSettings, version: str) -> None:
        self.version = version
        self._model, self._settings = model, settings
        self._past: list[Asked] = []

    def returns(self, observation: Observation, actions: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
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
        return foretold_return(self._model, state)[0] + foretold_gains(self._model, state, candidates)

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
    if not isinstance(model, ReturnModel):
        raise DatasetError(
            f"{directory} holds a model of {metadata.baseline}, which can't be planned with\n  `ocg baseline train returns` makes one"
        )
    if model.step_seconds != settings.granularity.control_step_seconds:
        raise DatasetError(
            f"{directory}: trained on control steps of {model.step_seconds} s, not of {settings.granularity.control_step_seconds} s\n"
            "  train it on a campaign with the same granularity"
        )
    return LearntReturns(model, settings, f"{metadata.campaign}-{metadata.model_sha256[:12]}")
