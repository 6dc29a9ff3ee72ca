"""Training cases ➜ what each action of the menu was worth at some of their moments, lived under the same randomness.

In: a case from a training seed. Out: what a policy could see at each moment, and what was earned over the next steps by `noop` and by each
action instead. The difference is the action's own, because nothing else differs: no passive model has to be trusted, and no policy's
habits are mistaken for effects. Between the moments the episode goes the way of the best action, so that states after a remedy are seen.

`explore_case` is called in a worker process. Upstream: `cases`. Downstream: `baselines.returns` fits what the planner asks.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import msgspec

from otel_control_gym.baselines.asked import Asked, asked_by
from otel_control_gym.baselines.returns import STEPS, PairedDecisions, paired_decisions
from otel_control_gym.baselines.states import state_of
from otel_control_gym.policies.evaluation.cases import Case
from otel_control_gym.policies.oracle import lived
from otel_control_gym.policies.scripted import NOOP

__all__ = ("MOMENTS", "Exploration", "explore_case")

MOMENTS = (2, 4, 7)  #: steps at which all actions are tried: before, soon after and well after most faults begin


class Exploration(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is given."""

    case: Case
    scratch: Path  #: data directory in which futures are lived, with a broker
    moments: tuple[int, ...] = MOMENTS


def explore_case(task: Exploration) -> PairedDecisions:
    """Return what actions were worth in a case.

    Raises: whatever an environment raises.
    """
    return anyio.run(_explore_case, task)


async def _explore_case(task: Exploration) -> PairedDecisions:
    from otel_control_gym.engine.assembly import make

    case, public = task.case, task.case.config.public
    step_seconds = public.granularity.control_step_seconds
    states, weighed, earned = [], [], []
    past: list[Asked] = []
    async with AsyncExitStack() as stack:
        env, futures = [
            await stack.enter_async_context(make(case.config, data_dir=task.scratch)) for _ in ("here", "there")
        ]
        observation = await env.reset(config=case.config)
        for step in range(max(task.moments) + 1):
            action = NOOP
            if step in task.moments:
                # the end of the last bucket: when the action is requested
                now = int(2 * observation.time[-1] - observation.time[-2])
                state = state_of(
                    observation, application=public.services.name, step_seconds=step_seconds, past=tuple(past)
                )
                point = await env.branch_point()
                options = [NOOP, *case.menu]
                returns = [(await lived(futures, point, option, STEPS)).earned for option in options]
                states.append(state)
                asked = [asked_by(option, requested=now, settings=public) for option in case.menu]
                weighed.append((None, *asked))
                earned.append(tuple(returns))
                best = returns.index(max(returns))
                action = options[best]
                if best:
                    past.append(asked[best - 1])
            observation, _, _, _ = await env.step(action)
        await env.discard_episode()
    return paired_decisions(case.family_id, states, weighed, earned)
