"""The planner does what its model foretells most of, and only if that is clearly more than doing nothing brings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from otel_control_gym.engine.observation import Observation
from otel_control_gym.policies.planner import ModelPredictivePolicy

MENU = (
    {"type": "scale", "target": "frontend", "replicas": 3},
    {"type": "restart", "target": "cart"},
)


class Told:
    """A model that says what it is told to."""

    version, horizon_steps = "told", 5

    def __init__(self, *returns: float) -> None:
        self._returns = np.array(returns)

    def returns(self, observation: Observation, actions: Sequence[dict[str, Any]]) -> Any:
        """Return what was said, of `noop` first."""
        assert [action["type"] for action in actions] == ["noop", "scale", "restart"]
        return self._returns

    def note(self, observation: Observation, action: dict[str, Any]) -> None:
        """Remember what was done."""
        self.noted = [*getattr(self, "noted", []), action]


def deed(sight: Callable[..., Any], *returns: float) -> str:
    policy = ModelPredictivePolicy(MENU, Told(*returns), margin=0.5)
    return str(policy.decide(sight(), 0, 0).action["type"])


def test_the_best_action_is_done(sight: Callable[..., Any]) -> None:
    assert deed(sight, 1.0, 2.0, 4.0) == "restart"
    assert deed(sight, 1.0, 3.0, 2.0) == "scale"


def test_what_gains_less_than_the_margin_is_left(sight: Callable[..., Any]) -> None:
    assert deed(sight, 1.0, 1.4, 0.9) == "noop"


def test_an_action_of_which_nothing_can_be_foretold_is_left(sight: Callable[..., Any]) -> None:
    assert deed(sight, 1.0, np.nan, 1.0) == "noop"
    assert deed(sight, np.nan, 9.0, 9.0) == "noop"


def test_after_an_action_it_waits_until_the_effect_can_be_seen(sight: Callable[..., Any]) -> None:
    model = Told(0.0, 1.0, 0.0)
    policy = ModelPredictivePolicy(MENU, model, margin=0.5, pause_steps=2)
    done = [policy.decide(sight(), step, 30 * step).action["type"] for step in range(6)]
    assert done == ["scale", "noop", "noop", "scale", "noop", "noop"]
    assert model.noted == [MENU[0], MENU[0]]
