"""Futures of one run, with an action or without it, played to be measured.

In: a run, a decision step, what is done there, how many futures. Out: their readings and rewards. No future leaves a dataset: it is
dropped as soon as it was observed. The numbers of the futures that classify lie beyond those that anybody else gives theirs, so that no
branch that classified an effect is ever one on which a prediction of it is scored.

`play_arm` and `play_futures` are called in a worker process (`certifying`, `counterfactuals`), and open an environment of their own
there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec
import numpy as np

from otel_control_gym.engine.archive import ARCHIVE_NAME, read_messages
from otel_control_gym.engine.branches import BranchPoint, find_branch_point
from otel_control_gym.engine.campaigns.effects import Readings
from otel_control_gym.engine.campaigns.readings import SATISFACTION, observed_readings
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.runs import Run
from otel_control_gym.engine.settings import PlannedAction

if TYPE_CHECKING:
    from otel_control_gym.engine.env import Env

__all__ = ("FIRST_NUMBER", "Arm", "Future", "check_branchable", "play_arm", "play_futures")

FIRST_NUMBER = 1_000_000  #: of the fresh futures that classify; those that are scored have smaller ones


def check_branchable(campaign: str, runs: Iterable[Run]) -> None:
    """Refuse runs that have no futures to be played.

    Raises: UsageError: they were played on a cluster.
    """
    if any(run.stand == "cluster" for run in runs):
        raise UsageError(
            f"campaign {campaign!r} was played on clusters, where nothing can be lived again: there are no branches\n"
            f"  `ocg campaign certify {campaign} --branches 0` measures effects before and after"
        )


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """Futures that differ by chance alone."""

    run: Path
    run_id: str
    step: int
    action: dict[str, Any]  #: what is decided at that step
    without_faults: bool  #: leave out the interventions that the script has from there on
    branches: int
    steps: int  #: how long each is lived
    features: tuple[str, ...]
    scratch: Path  #: data directory in which they are played, with a broker
    first: int = FIRST_NUMBER  #: number of the first of them
    later: dict[int, dict[str, Any]] = {}  #: what is done at further steps, counted from that one
    faults: tuple[PlannedAction, ...] = ()  #: planned in the place of the script's; needs `without_faults`


class Future(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What came of one."""

    number: int  #: futures of one number, of several arms, share their randomness
    readings: Readings
    rewards: tuple[float, ...]  #: of each step until it was done
    status: str  #: of the arm's action when it was last heard of
    done_reason: str | None


def play_arm(arm: Arm) -> list[Readings]:
    """Return the readings of each future, by number.

    Raises: BranchError: the run can't be branched there. Whatever an environment raises.
    """
    return [future.readings for future in play_futures(arm)]


def play_futures(arm: Arm) -> list[Future]:
    """Return what came of each future, by number.

    Raises: BranchError: the run can't be branched there. Whatever an environment raises.
    """
    return anyio.run(_play_futures, arm)


async def _play_futures(arm: Arm) -> list[Future]:
    from otel_control_gym.engine.assembly import make

    point = await anyio.to_thread.run_sync(
        lambda: find_branch_point(read_messages(arm.run / ARCHIVE_NAME), arm.run_id, arm.step)
    )
    async with make(point.config, data_dir=arm.scratch) as env:
        return [await _play(env, point, arm, arm.first + number) for number in range(arm.branches)]


async def _play(env: Env, point: BranchPoint, arm: Arm, number: int) -> Future:
    public = point.config.public
    seconds, reward_seconds = public.granularity.control_step_seconds, public.granularity.reward_bucket_seconds
    interventions = arm.faults if arm.without_faults else None
    await env.resume(point, randomness="fresh", number=number, interventions=interventions)
    satisfaction: list[float | None] = []
    rewards: list[float] = []
    action_id, status, done_reason = "", "", None
    while len(rewards) < arm.steps and done_reason is None:
        planned = {0: arm.action, **arm.later}
        _, reward, _, info = await env.step(planned.get(len(rewards), {"type": "noop"}))
        asked = info["action"]
        if asked is not None and not rewards:
            action_id, status = asked.action_id, asked.status
        status = next((record.status for record in info["settled"] if record.action_id == action_id), status)
        total = info["reward_components"].get(SATISFACTION)
        whole = total is not None and seconds % reward_seconds == 0
        satisfaction.append(total / (seconds // reward_seconds) if whole and total is not None else None)
        rewards.append(reward)
        done_reason = info["done_reason"]
    observation = await env.observe(window=len(rewards) * seconds)
    readings = observed_readings(
        observation, satisfaction, features=arm.features, entry=public.reward.objective.service
    )
    await env.discard_episode()
    return Future(
        number=number,
        readings=_padded(readings, arm.steps * seconds),
        rewards=tuple(rewards),
        status=status,
        done_reason=done_reason,
    )


def _padded(readings: Readings, seconds: int) -> Readings:
    """Return readings that reach to the end: nothing is known of the time after an episode was done."""
    missing = seconds // readings.bucket_seconds - len(readings.values)
    values = np.pad(readings.values, ((0, missing), (0, 0)), constant_values=np.nan)
    return msgspec.structs.replace(readings, values=values)
