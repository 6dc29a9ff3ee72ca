"""Futures of one run, with an action or without it, played to be measured.

In: a run, a decision step, what is done there, how many futures. Out: their readings. No future leaves a dataset: it is dropped as soon as
it was observed. The numbers of the futures lie beyond those that anybody else gives theirs, so that no branch that classified an effect is
ever one on which a prediction of it is scored.

`play_arm` is called in a worker process (`certifying`), and opens an environment of its own there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import numpy as np

from otel_control_gym.engine.archive import ARCHIVE_NAME, read_messages
from otel_control_gym.engine.branches import find_branch_point
from otel_control_gym.engine.campaigns.effects import Readings
from otel_control_gym.engine.campaigns.readings import SATISFACTION, observed_readings

__all__ = ("FIRST_NUMBER", "Arm", "play_arm")

FIRST_NUMBER = 1_000_000  #: of the fresh futures that classify; those that are scored have smaller ones


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


def play_arm(arm: Arm) -> list[Readings]:
    """Return the readings of each future, by number.

    Raises: BranchError: the run can't be branched there. Whatever an environment raises.
    """
    return anyio.run(_play_arm, arm)


async def _play_arm(arm: Arm) -> list[Readings]:
    from otel_control_gym.engine.assembly import make

    point = await anyio.to_thread.run_sync(
        lambda: find_branch_point(read_messages(arm.run / ARCHIVE_NAME), arm.run_id, arm.step)
    )
    public = point.config.public
    seconds, reward = public.granularity.control_step_seconds, public.granularity.reward_bucket_seconds
    found: list[Readings] = []
    async with make(point.config, data_dir=arm.scratch) as env:
        for number in range(arm.branches):
            interventions = () if arm.without_faults else None
            await env.resume(point, randomness="fresh", number=FIRST_NUMBER + number, interventions=interventions)
            satisfaction: list[float | None] = []
            done = False
            while len(satisfaction) < arm.steps and not done:
                _, _, done, info = await env.step({"type": "noop"} if satisfaction else arm.action)
                total = info["reward_components"].get(SATISFACTION)
                whole = total is not None and seconds % reward == 0
                satisfaction.append(total / (seconds // reward) if whole and total is not None else None)
            observation = await env.observe(window=len(satisfaction) * seconds)
            readings = observed_readings(
                observation, satisfaction, features=arm.features, entry=public.reward.objective.service
            )
            found.append(_padded(readings, arm.steps * seconds))
            await env.discard_episode()
    return found


def _padded(readings: Readings, seconds: int) -> Readings:
    """Return readings that reach to the end: nothing is known of the time after an episode was done."""
    missing = seconds // readings.bucket_seconds - len(readings.values)
    values = np.pad(readings.values, ((0, missing), (0, 0)), constant_values=np.nan)
    return msgspec.structs.replace(readings, values=values)
