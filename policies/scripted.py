"""What a policy is, and the simplest one: a list of actions with their moments.

In: an observation, the number of the step and the episode's time. Out: a `Choice`. Deciders are pure but for what they remember of the
episode: the loop that asks them (`policies.playing`) does the acting.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Protocol

import msgspec

from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import PlannedAction

__all__ = ("NOOP", "Choice", "Policy", "ScriptedPolicy", "WaitingPolicy")

NOOP: dict[str, Any] = {"type": "noop"}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What is done now, and how likely it was.

    `alternatives` are all that could have been chosen, each with its `probability`, the chosen one among them; null where the policy can't
    say.
    """

    action: dict[str, Any]
    propensity: float | None = None
    alternatives: tuple[dict[str, Any], ...] | None = None


class Policy(Protocol):
    """Decides what to do at the start of a step; made anew for every episode."""

    version: str  #: identifies it in the log
    information: Literal["public", "privileged"]  #: whether it knows more than its observations

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return the choice for control step `step` (from 0), `seconds` after control began."""
        ...


class WaitingPolicy(Protocol):
    """A policy whose decision takes waiting for: it asks another process, or lives futures."""

    version: str
    information: Literal["public", "privileged"]

    async def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return what `Policy.decide` would."""
        ...


class ScriptedPolicy:
    """Acts at the moments that its script names and lets everything else be; it looks at nothing."""

    def __init__(
        self,
        actions: Iterable[PlannedAction],
        *,
        version: str = "scripted",
        information: Literal["public", "privileged"] = "public",
    ) -> None:
        self.version = version
        self.information: Literal["public", "privileged"] = information
        self._actions = {planned.at_seconds: planned.action for planned in actions}

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return the action planned for this moment, or `noop`."""
        return Choice(action=self._actions.get(seconds, NOOP))
