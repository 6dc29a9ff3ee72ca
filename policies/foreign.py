"""Somebody else's policy, by its entry point: what goes wrong in it is told as its own failure, and not as one of the gym's.

In: the function that an entry point names. Out: what makes a policy that can be played like ours. A policy in another process is
`policies.remote`'s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from otel_control_gym.engine.errors import OtelControlGymError, PolicyError
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.policies.scripted import Choice

__all__ = ("ForeignPolicy", "made_by")

_INFORMATION = ("public", "privileged")


class ForeignPolicy:
    """The policy of one episode; made by `made_by`."""

    def __init__(self, name: str, policy: Any) -> None:
        """Raises: PolicyError: `policy` has no `decide`, no `version`, or an `information` that there isn't."""
        lacking = [attribute for attribute in ("version", "information", "decide") if not hasattr(policy, attribute)]
        if lacking:
            raise PolicyError(
                f"policy {name!r}: {type(policy).__name__} has no {', '.join(f'`{attribute}`' for attribute in lacking)}\n"
                "  a policy has `version`, `information` ('public' or 'privileged') and `decide(observation, step, seconds)`"
            )
        if policy.information not in _INFORMATION:
            raise PolicyError(
                f"policy {name!r}: information = {policy.information!r}\n"
                "  'public' if it knows what it observes, 'privileged' if it knows more"
            )
        self.version: str = str(policy.version)
        self.information: Literal["public", "privileged"] = policy.information
        self._name, self._policy = name, policy

    async def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return what the policy decides, which may wait for something.

        Raises: PolicyError: it failed, or decided what is no `Choice`.
        """
        try:
            decided = self._policy.decide(observation, step, seconds)
            choice = await decided if inspect.isawaitable(decided) else decided
        except OtelControlGymError:
            raise
        except Exception as error:  # whatever somebody else's code raises
            raise PolicyError(
                f"policy {self._name!r} failed at step {step}: {type(error).__name__}: {error}\n"
                "  `--debug` shows where in its code"
            ) from error
        if not isinstance(choice, Choice):
            raise PolicyError(
                f"policy {self._name!r} decided {choice!r} at step {step}\n"
                "  `decide` returns `otel_control_gym.policies.Choice(action={'type': …})`"
            )
        return choice


def made_by(
    name: str, make: Callable[[RunSettings, Sequence[Mapping[str, Any]], int], Any]
) -> Callable[[RunSettings, Sequence[Mapping[str, Any]], int], ForeignPolicy]:
    """Return what makes the policies of an entry point, in the way of our own controllers."""

    def policy(settings: RunSettings, menu: Sequence[Mapping[str, Any]], seed: int) -> ForeignPolicy:
        try:
            made = make(settings, menu, seed)
        except OtelControlGymError:
            raise
        except Exception as error:  # whatever somebody else's code raises
            raise PolicyError(
                f"policy {name!r} can't be made: {type(error).__name__}: {error}\n"
                "  it is called with the run's settings, a menu of actions and a seed"
            ) from error
        return ForeignPolicy(name, made)

    return policy
