"""The public log of a run ➜ what its policy saw, did and earned, step by step.

In: the public entries of a log, in order. Out: a `Trajectory`: T steps between T + 1 observations. An observation is the fold of the log
up to the event that closed its step, so it is the one that the policy was shown, also where telemetry came in late; a table, which is the
fold of the whole log, may know more. Next: `projections.adapters.minari`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.events import ActionRequested, ClockAdvanced, PhaseEntered, Recorded, RunAborted
from otel_control_gym.projections.arrays import ObservationArrays, observation_arrays
from otel_control_gym.projections.fold import RunState, initial, step
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.rewards import step_reward

__all__ = ("Trajectory", "trajectory")

CENSORED = ("horizon", "closed")
"""Reasons for an end that say nothing about the value of the last state, as an aborted run's don't either."""


class Trajectory(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """T control steps of one run; W buckets a window, N nodes, E edges, F and G columns of the feature tables."""

    node_names: tuple[str, ...]  #: [N]
    node_features: tuple[str, ...]  #: [F]
    edge_names: tuple[tuple[str, str, str], ...]  #: [E] source, target, protocol
    edge_features: tuple[str, ...]  #: [G]
    nodes: npt.NDArray[np.float64]  #: [T + 1, W, N, F]; NaN where unknown
    edges: npt.NDArray[np.float64]  #: [T + 1, W, E, G]; NaN where unknown
    times: npt.NDArray[np.int64]  #: [T + 1] moment of each observation, ns
    sequences: npt.NDArray[np.int64]  #: [T + 1] position in the public log of which the observation is the fold
    lives: tuple[Life, ...]  #: [T] the decision of each step and what became of it
    rewards: npt.NDArray[np.float64]  #: [T]
    components: dict[str, npt.NDArray[np.float64]]  #: raw reward component ➜ [T]
    terminated: bool  #: the last state's value is what it is: goal, emergency, reset_required, stand_lost
    truncated: bool  #: the last state's value is unknown: the horizon, or the run broke off
    done_reason: str
    by_others: tuple[str, ...]  #: ids of public actions that weren't a step's decision: a human's, during the run


class _Moment(msgspec.Struct, frozen=True):
    time: int
    sequence: int
    arrays: ObservationArrays


def trajectory(entries: Iterable[Recorded]) -> Trajectory | None:
    """Return the control phase of a log as a trajectory; None if no step of it was lived to its end.

    Raises: LogCorrupted: the log contradicts itself.
    """
    state = initial()
    moments: list[_Moment] = []
    decided: list[str] = []  # ids, by decision step
    rewards: list[float] = []
    components: list[dict[str, float]] = []
    for entry in entries:
        step(state, entry)
        event = entry.event
        if isinstance(event, PhaseEntered) and event.phase == "control":
            moments.append(_seen(state, event.time))
        elif isinstance(event, ActionRequested) and event.decision_step is not None:
            decided.append(event.action_id)
        elif isinstance(event, ClockAdvanced) and event.decision_step is not None:
            earned = step_reward(state, event.since, event.time)
            rewards.append(earned.value)
            components.append(earned.components)
            moments.append(_seen(state, event.time))
    if not rewards:
        return None
    lives = {life.requested.action_id: life for life in state.lives.all()}
    first, reason = moments[0].arrays, "the log has no end" if state.ended is None else state.ended.reason
    over = state.ended is not None and not isinstance(state.ended, RunAborted) and reason not in CENSORED
    return Trajectory(
        node_names=first.node_names,
        node_features=first.node_features,
        edge_names=first.edge_names,
        edge_features=first.edge_features,
        nodes=np.stack([moment.arrays.nodes for moment in moments]),
        edges=np.stack([moment.arrays.edges for moment in moments]),
        times=np.array([moment.time for moment in moments], np.int64),
        sequences=np.array([moment.sequence for moment in moments], np.int64),
        lives=tuple(lives[action_id] for action_id in decided[: len(rewards)]),
        rewards=np.array(rewards),
        components={name: np.array([found[name] for found in components]) for name in components[0]},
        terminated=over,
        truncated=not over,
        done_reason=reason,
        by_others=tuple(action_id for action_id, life in lives.items() if life.requested.decision_step is None),
    )


def _seen(state: RunState, now: int) -> _Moment:
    granularity = state.settings.granularity
    arrays = observation_arrays(
        state,
        now,
        window_seconds=granularity.observation_window_seconds,
        bucket_seconds=granularity.observation_bucket_seconds,
    )
    return _Moment(now, state.sequence, arrays)
