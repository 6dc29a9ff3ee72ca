"""A control for leaks: the same windows with other decisions' actions, so that an action says nothing of what follows it any more.

Actions are permuted within (policy, configuration, time bin): who acts when and where stays as it was, which action it was doesn't. A
model that knows these actions has to lose what it had over its passive twin; if it doesn't, its columns told it something else than the
action. Pure.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from otel_control_gym.baselines.asked import Asked
from otel_control_gym.baselines.states import LOOK_BACK_STEPS
from otel_control_gym.baselines.windows import CampaignWindows, RunWindows
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.clock import SECOND

__all__ = ("TIME_BIN_SECONDS", "with_shuffled_actions")

TIME_BIN_SECONDS = 300


def with_shuffled_actions(windows: CampaignWindows, *, seed: int) -> CampaignWindows:
    """Return windows in which actions were permuted; `noop` takes part where it was drawn by chance."""
    places: defaultdict[tuple[str, str, int], list[tuple[int, int]]] = defaultdict(list)
    for number, run in enumerate(windows.runs):
        for position, decision in enumerate(run.decisions):
            if run.state.now[position] is not None or decision.randomised:
                since = (decision.requested - run.decisions[0].requested) // SECOND
                places[decision.policy, run.configuration, since // TIME_BIN_SECONDS].append((number, position))
    nows: list[list[Asked | None]] = [list(run.state.now) for run in windows.runs]
    draws = Draws(seed, "shuffled actions")
    for key in sorted(places):
        taken = draws.shuffled("/".join(map(str, key)), places[key])
        moved = [windows.runs[number].state.now[position] for number, position in taken]
        for (number, position), asked in zip(places[key], moved, strict=True):
            nows[number][position] = asked
    return msgspec.structs.replace(
        windows, runs=tuple(_with(run, now) for run, now in zip(windows.runs, nows, strict=True))
    )


def _with(run: RunWindows, now: list[Asked | None]) -> RunWindows:
    """Return a run in which other things were asked for, and were asked for before."""
    moments = [decision.requested for decision in run.decisions]
    asked = [
        None if one is None else msgspec.structs.replace(one, requested=moment)
        for one, moment in zip(now, moments, strict=True)
    ]
    look_back = LOOK_BACK_STEPS * run.state.step_seconds * SECOND
    past = tuple(
        tuple(one for one in asked[:position] if one is not None and moment - one.requested <= look_back)
        for position, moment in enumerate(moments)
    )
    return msgspec.structs.replace(run, state=msgspec.structs.replace(run.state, now=tuple(asked), past=past))
