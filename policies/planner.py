"""Model-predictive control: foretell what each action would earn, do the best one if it beats doing nothing, look again.

In: an observation, a menu, and a model that foretells returns. Out: a `Choice`, public: nothing is known but what was observed. The model
is anything that fulfils `ReturnModel`; what is learnt from campaigns is brought into that form by `baselines`.

A model errs, and an action costs (churn, replicas, a rollout's risk). So an action is done only if it is foretold to earn more than
`noop` by a margin, and after one the planner waits until its effect can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.observation import Observation
from otel_control_gym.policies.scripted import NOOP, Choice

__all__ = ("ModelPredictivePolicy", "ReturnModel")


class ReturnModel(Protocol):
    """Foretells what follows from each of some actions."""

    version: str  #: identifies the model in the log
    horizon_steps: int  #: how far it looks

    def returns(self, observation: Observation, actions: Sequence[dict[str, Any]]) -> npt.NDArray[np.float64]:
        """Return the reward that each action is foretold to earn over the horizon if nothing is done after it, [A]; NaN: can't say."""
        ...

    def note(self, observation: Observation, action: dict[str, Any]) -> None:
        """Remember what was asked for after an observation; `noop` isn't told."""
        ...


class ModelPredictivePolicy:
    """Does what its model expects the most of."""

    information: Literal["public", "privileged"] = "public"

    def __init__(
        self, menu: Sequence[dict[str, Any]], model: ReturnModel, *, margin: float = 0.3, pause_steps: int = 2
    ) -> None:
        """`margin`: reward over the model's horizon by which an action must beat `noop`; `pause_steps`: between two actions."""
        self.version = f"mpc-1-{model.version}"
        self._menu, self._model = tuple(menu), model
        self._margin, self._pause = margin, pause_steps
        self._acted: int | None = None

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:  # noqa: ARG002
        """Return the action with the highest foretold return, or `noop`."""
        if not self._menu or (self._acted is not None and step - self._acted <= self._pause):
            return Choice(action=NOOP)
        foretold = self._model.returns(observation, (NOOP, *self._menu))
        gains = np.nan_to_num(foretold[1:] - foretold[0], nan=-np.inf)
        best = int(np.argmax(gains))
        if not gains[best] > self._margin:
            return Choice(action=NOOP)
        self._acted = step
        self._model.note(observation, self._menu[best])
        return Choice(action=self._menu[best])
