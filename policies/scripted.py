"""What a policy is, and the simplest one: a list of actions with their moments.

In: an observation, the number of the step and the episode's time. Out: an action in its JSON form. Deciders are pure: the loop that
asks them (`policies.playing`) does the acting.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import PlannedAction, PolicySettings

__all__ = ("NOOP", "Policy", "ScriptedPolicy", "policy_of")

NOOP: dict[str, Any] = {"type": "noop"}


class Policy(Protocol):
    """Decides what to do at the start of a step."""

    def decide(self, observation: Observation, step: int, seconds: int) -> dict[str, Any]:
        """Return the action of control step `step` (from 0), `seconds` after control began, in its JSON form."""
        ...


class ScriptedPolicy:
    """Acts at the moments that its script names and lets everything else be; it looks at nothing."""

    def __init__(self, actions: Iterable[PlannedAction]) -> None:
        self._actions = {planned.at_seconds: planned.action for planned in actions}

    def decide(self, observation: Observation, step: int, seconds: int) -> dict[str, Any]:
        """Return the action planned for this moment, or `noop`."""
        return self._actions.get(seconds, NOOP)


def policy_of(settings: PolicySettings) -> ScriptedPolicy:
    """Return the policy that a scenario names; `noop` is a script without actions."""
    return ScriptedPolicy(settings.actions)
