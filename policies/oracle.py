"""The best future of a few, lived before it is chosen: what a controller could at most have gained with the actions of a menu.

In: an environment whose episode is in progress, and a second one to live futures in. Out: at each of its moments, the action whose future,
under the same randomness, earned the most over the next `look_ahead` steps, `noop` after it. It knows everything that will happen, so it is
privileged and says so; it acts through `env.step` like everybody else.

A search over k steps at a few moments is no proof of optimality: sequences of actions are found only as far as each pays by itself, and
what pays later than `look_ahead` isn't seen. No future leaves a dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from otel_control_gym.engine.branches import BranchPoint
from otel_control_gym.engine.env import Env
from otel_control_gym.engine.observation import Observation
from otel_control_gym.policies.scripted import NOOP, Choice

__all__ = ("Lived", "Oracle", "lived")


class Lived(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a future."""

    earned: float  #: sum of the rewards
    missed: bool  #: the objective was missed in one of its steps


class Oracle:
    """Chooses from `menu` what turned out best, in every `every`-th step from `first` on that has `look_ahead` steps left.

    Args:
        env: the environment that it plays in.
        futures: another environment of the same application, open, without an episode that matters.
        menu: actions in the JSON form that `parse_action` reads; `noop` is always among the candidates, and the only one where the
            objective will be met without doing anything.
        first: step of the first search.
        every: steps from one search to the next.
        look_ahead: steps over which a future is judged, the action's own included.
    """

    information: Literal["public", "privileged"] = "privileged"

    def __init__(
        self,
        env: Env,
        futures: Env,
        menu: Sequence[dict[str, Any]],
        *,
        first: int = 3,
        every: int = 4,
        look_ahead: int = 5,
    ) -> None:
        self.version = f"oracle-1-{every}-{look_ahead}"
        self._env, self._futures = env, futures
        self._menu = tuple(menu)
        self._first, self._every, self._look_ahead = first, every, look_ahead

    async def decide(self, observation: Observation, step: int, seconds: int) -> Choice:  # noqa: ARG002
        """Return the best of the menu at a moment of search (of equals the first, `noop` before all), `noop` in between.

        Raises: BranchError: the episode can't be lived again. What `Env.step` raises.
        """
        public = self._env.config.public
        left = public.horizon_seconds // public.granularity.control_step_seconds - step
        if step < self._first or (step - self._first) % self._every or left < self._look_ahead:
            return Choice(action=NOOP)
        point = await self._env.branch_point()
        nothing = await lived(self._futures, point, NOOP, self._look_ahead)
        if not nothing.missed:
            return Choice(action=NOOP)
        best, earned = NOOP, nothing.earned
        for action in self._menu:
            future = await lived(self._futures, point, action, self._look_ahead)
            if future.earned > earned:
                best, earned = action, future.earned
        return Choice(action=best)


async def lived(futures: Env, point: BranchPoint, action: dict[str, Any], steps: int) -> Lived:
    """Return what a future brings that begins with an action at a point and does nothing after it; no trace of it is left.

    Raises: BranchError: the past can't be lived again. What `Env.step` raises.
    """
    await futures.resume(point)
    earned, missed = 0.0, False
    for number in range(steps):
        _, reward, done, info = await futures.step(action if number == 0 else NOOP)
        earned, missed = earned + reward, missed or info["reward_components"]["recovery_time"] > 0
        if done:
            break
    await futures.discard_episode()
    return Lived(earned=earned, missed=missed)
