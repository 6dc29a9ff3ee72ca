"""A branch point ➜ another future, lived.

In: an episode that has just begun, and the point of another run to bring it to. Out: the episode at that point, verified; and what came of
the decisions from there on. Upstream: `engine.branches` reads the point from a log. Downstream: `engine.env` offers it as `branch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from otel_control_gym.engine.branches import BranchPoint
from otel_control_gym.engine.episode import Decision, Episode
from otel_control_gym.engine.errors import BranchError
from otel_control_gym.engine.events import BranchTaken
from otel_control_gym.engine.settings import PlannedAction, RunConfig

if TYPE_CHECKING:
    from otel_control_gym.engine.assembly import Rooms
    from otel_control_gym.engine.env import Env

__all__ = ("Branch", "live_again", "play_out", "take_turn")


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """What another future came to."""

    run_id: str
    run_dir: Path  #: its dataset
    parent_run_id: str
    decision_step: int  #: the first one that was its own
    rewards: tuple[float, ...]  #: of each of its own steps
    statuses: tuple[
        str, ...
    ]  #: of each of its own actions when the next step began (`pending`: its evidence came later)
    seconds: int  #: how long those took
    done_reason: str | None  #: null: it was left before it was done

    @property
    def reward(self) -> float:
        """Sum of the rewards of its own steps."""
        return sum(self.rewards)


async def live_again(episode: Episode, rooms: Rooms, point: BranchPoint) -> None:
    """Decide as the other run did until its decision step is due, and compare.

    Raises: BranchError: the events until there aren't the same.
    """
    turns = list(point.branches)
    for step, past in enumerate(point.decisions):
        while turns and turns[0].decision_step <= step:
            await take_turn(episode, rooms, point.config, turns.pop(0))
        asked = past.request
        await episode.decide_and_live(
            Decision(
                action=rooms.asked_again(asked, point.config.public),
                actor=asked.actor,
                propensity=asked.propensity,
                alternatives=asked.alternatives,
                policy_version=asked.policy_version,
                policy_information=asked.policy_information,
            ),
            past.duration,
        )
    for turn in turns:
        await take_turn(episode, rooms, point.config, turn)
    if episode.log.content_digest() != point.digest:
        raise BranchError(
            f"run {point.run_id} can't be branched at step {point.step}: its past came out differently when it was lived again\n"
            "  only the version that made a run can rerun it, with the same libraries and CPU family: its metadata.json names them"
        )


async def take_turn(episode: Episode, rooms: Rooms, config: RunConfig, turn: BranchTaken) -> None:
    """Let an episode leave the other run's way here.

    Raises: ConfigurationError: an intervention can't be. BranchError: one lies in the past.
    """
    plan = None
    if turn.interventions is not None:
        planned = msgspec.convert(turn.interventions, tuple[PlannedAction, ...])
        late = [item for item in planned if item.at_seconds < episode.control_seconds]
        if late:
            raise BranchError(
                f"an intervention is planned at {late[0].at_seconds} s of control, but the branch begins at "
                f"{episode.control_seconds:g} s\n  plan it there or later"
            )
        scenario = msgspec.structs.replace(config.scenario, interventions=planned)
        plan = rooms.plan(msgspec.structs.replace(config, scenario=scenario))
    await episode.branch(turn, plan)


async def play_out(
    env: Env,
    actions: Sequence[msgspec.Struct | dict[str, Any]],
    *,
    parent: str,
    step: int,
    steps: int | None,
) -> Branch:
    """Do `actions`, one a step, then nothing, for `steps` steps or to the end; close the run, whose dataset is written then.

    Raises: what `Env.step` raises.
    """
    began = env.control_seconds
    rewards: list[float] = []
    statuses: list[str] = []
    done_reason: str | None = None
    run_id, run_dir = env.run_id or "", env.run_dir
    ahead = list(actions)
    while done_reason is None and (steps is None or len(rewards) < steps):
        _, reward, _, info = await env.step(ahead.pop(0) if ahead else {"type": "noop"})
        rewards.append(reward)
        statuses.append(info["action"].status if info["action"] is not None else "")
        done_reason = info["done_reason"]
    seconds = env.control_seconds - began
    await env.close_episode()
    return Branch(
        run_id=run_id,
        run_dir=run_dir,
        parent_run_id=parent,
        decision_step=step,
        rewards=tuple(rewards),
        statuses=tuple(statuses),
        seconds=round(seconds),
        done_reason=done_reason,
    )
