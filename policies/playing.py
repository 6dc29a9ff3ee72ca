"""One episode, played by a policy: decide, step, until it is done.

In: an environment that was reset, its first observation, and a policy. Out: a `Beat` after each step for whoever watches, and what it
all came to.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import msgspec

from otel_control_gym.engine.env import Env, Info
from otel_control_gym.engine.observation import Observation
from otel_control_gym.policies.scripted import Policy, WaitingPolicy

__all__ = ("Beat", "Played", "play")


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is over."""

    step: int  #: from 0
    seconds: int  #: of control, at the end of the step
    reward: float
    reward_total: float
    observation: Observation
    info: Info


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What an episode came to."""

    run_id: str
    steps: int
    seconds: int  #: of control
    reward: float  #: sum over all steps
    done_reason: str


async def play(
    env: Env,
    policy: Policy | WaitingPolicy,
    observation: Observation,
    *,
    on_step: Callable[[Beat], None] = lambda _: None,
) -> Played:
    """Let the policy act from `observation` (of `Env.reset`) until the episode is done.

    `on_step` is called after each step; it must not block.

    Raises: what `Env.step` raises.
    """
    control_step = env.config.public.granularity.control_step_seconds
    step, total, done = 0, 0.0, False
    while not done:
        decided = policy.decide(observation, step, step * control_step)
        choice = await decided if inspect.isawaitable(decided) else decided
        observation, reward, done, info = await env.step(
            choice.action, propensity=choice.propensity, alternatives=choice.alternatives
        )
        step, total = step + 1, total + reward
        on_step(
            Beat(
                step=step - 1,
                seconds=step * control_step,
                reward=reward,
                reward_total=total,
                observation=observation,
                info=info,
            )
        )
    return Played(
        run_id=info["run_id"],
        steps=step,
        seconds=step * control_step,
        reward=total,
        done_reason=info["done_reason"] or "closed",
    )
