"""What is known at decisions, as arrays: the one form in which a table's past and a live observation reach a model.

In: buckets of features before a decision (of tables: `windows`; of an `Observation`: `state_of`). Out: a `State` of D decisions of one
application: means over the last L control steps, and what was asked for. Nothing after the decision is in it.

Pure. Downstream: `rows` makes model inputs of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import Asked, Before
from otel_control_gym.baselines.channels import EDGE_CHANNELS, EDGE_TARGETS, NODE_CHANNELS, NODE_TARGETS, per_step
from otel_control_gym.baselines.systems import System, system_of
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.observation import Observation

__all__ = (
    "EARNED",
    "LOOK_BACK_STEPS",
    "State",
    "advanced",
    "before_of",
    "joined",
    "repeated",
    "selected",
    "state_from_buckets",
    "state_of",
    "with_actions",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

EARNED: tuple[str, ...] = ("reward", "breach_s", "cost")
"""What is known of the last control step beside its telemetry: what it earned, seconds of breach, cost units."""
LOOK_BACK_STEPS = 10  #: control steps of history, L: as long as the longest horizon


class State(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """D decisions of one application; unknown cells are NaN."""

    system: System
    step_seconds: int  #: length of a control step
    time: Int  #: [D] of the decision, ns
    nodes: Float  #: [D, L, N, len(NODE_CHANNELS)] means over control steps, newest last
    edges: Float  #: [D, L, E, len(EDGE_CHANNELS)]
    offered: Float  #: [D, L] requests per second that users made
    users: Float  #: [D] how many the load generator was told to have
    earned: Float  #: [D, len(EARNED)] in the last step
    now: tuple[Asked | None, ...]  #: [D] what is asked for at the decision; None: nothing
    past: tuple[tuple[Asked, ...], ...]  #: [D] what was asked for before it, oldest first

    def __len__(self) -> int:
        return len(self.time)


def state_from_buckets(
    system: System,
    *,
    time: Int,
    nodes: Float,
    node_features: Sequence[str],
    edges: Float,
    edge_features: Sequence[str],
    offered: Float,
    users: Float,
    bucket_seconds: int,
    step_seconds: int,
    now: Sequence[Asked | None],
    past: Sequence[Sequence[Asked]],
    earned: Float | None = None,
) -> State:
    """Return the state of D decisions from the buckets before each.

    Args:
        system: the application.
        time: [D] of the decisions, ns.
        nodes: [D, T, N, F] the last T buckets that were over at the decision; T is L control steps.
        node_features: names along F.
        edges: [D, T, E, G], likewise.
        edge_features: names along G.
        offered: [D, T] requests per second that users made.
        users: [D, T] how many the load generator was told to have.
        bucket_seconds: width of a bucket.
        step_seconds: length of a control step, a multiple of it.
        now: [D] what is asked for at each decision.
        past: [D] what was asked for before it.
        earned: [D, len(EARNED)] in the step before it; None: not known.
    """
    width = step_seconds // bucket_seconds
    load = per_step(offered[..., np.newaxis, np.newaxis], ("offered_rate",), ("offered_rate",), width=width)
    return State(
        system=system,
        step_seconds=step_seconds,
        time=time,
        nodes=per_step(nodes, node_features, NODE_CHANNELS, width=width),
        edges=per_step(edges, edge_features, EDGE_CHANNELS, width=width),
        offered=load[..., 0, 0],
        users=users[:, -1],
        earned=np.full((len(time), len(EARNED)), np.nan) if earned is None else earned,
        now=tuple(now),
        past=tuple(tuple(asked) for asked in past),
    )


def state_of(
    observation: Observation,
    *,
    application: str,
    step_seconds: int,
    past: Sequence[Asked] = (),
    now: Asked | None = None,
) -> State:
    """Return the state (D = 1) of a live observation: the same numbers as of the run's tables later.

    Args:
        observation: what `reset`, `step` or `observe` returned.
        application: name of the service configuration.
        step_seconds: length of a control step.
        past: what the policy asked for so far.
        now: what it asks for now; `with_actions` weighs several.
    """
    width = int(observation.time[1] - observation.time[0]) // SECOND
    wanted = LOOK_BACK_STEPS * step_seconds // width
    return state_from_buckets(
        system_of(application, observation.graph.nodes, observation.graph.edges),
        time=np.array([observation.time[-1] + width * SECOND], np.int64),
        nodes=_last(observation.nodes, wanted)[np.newaxis],
        node_features=observation.node_features,
        edges=_last(observation.edges, wanted)[np.newaxis],
        edge_features=observation.edge_features,
        offered=_last(observation.offered_rate, wanted)[np.newaxis],
        users=_last(observation.users_target, wanted)[np.newaxis],
        bucket_seconds=width,
        step_seconds=step_seconds,
        now=(now,),
        past=(past,),
    )


def _last(buckets: Float, count: int) -> Float:
    """Return the last `count` buckets, the missing ones before them unknown."""
    missing = max(0, count - len(buckets))
    return np.concatenate([np.full((missing, *buckets.shape[1:]), np.nan), buckets[len(buckets) + missing - count :]])


def with_actions(state: State, candidates: Sequence[Asked | None]) -> State:
    """Return one decision (D = 1) as many as there are candidates, each asking for its own."""
    return msgspec.structs.replace(repeated(state, len(candidates)), now=tuple(candidates))


def selected(state: State, decisions: Sequence[int]) -> State:
    """Return some decisions of a state."""
    chosen = list(decisions)
    return msgspec.structs.replace(
        state,
        time=state.time[chosen],
        nodes=state.nodes[chosen],
        edges=state.edges[chosen],
        offered=state.offered[chosen],
        users=state.users[chosen],
        earned=state.earned[chosen],
        now=tuple(state.now[position] for position in chosen),
        past=tuple(state.past[position] for position in chosen),
    )


def joined(states: Sequence[State]) -> State:
    """Return decisions of several runs of one application as one state."""
    return msgspec.structs.replace(
        states[0],
        time=np.concatenate([state.time for state in states]),
        nodes=np.concatenate([state.nodes for state in states]),
        edges=np.concatenate([state.edges for state in states]),
        offered=np.concatenate([state.offered for state in states]),
        users=np.concatenate([state.users for state in states]),
        earned=np.concatenate([state.earned for state in states]),
        now=tuple(asked for state in states for asked in state.now),
        past=tuple(asked for state in states for asked in state.past),
    )


def repeated(state: State, times: int) -> State:
    """Return every decision `times` over, one whole round after the other."""
    return msgspec.structs.replace(
        state,
        time=np.tile(state.time, times),
        nodes=np.tile(state.nodes, (times, 1, 1, 1)),
        edges=np.tile(state.edges, (times, 1, 1, 1)),
        offered=np.tile(state.offered, (times, 1)),
        users=np.tile(state.users, times),
        earned=np.tile(state.earned, (times, 1)),
        now=state.now * times,
        past=state.past * times,
    )


def advanced(state: State, nodes: Float, edges: Float) -> State:
    """Return the state a control step later, if the dynamics were as foretold and nothing further is asked for.

    What isn't foretold (replicas, limits, load) stays as it was last known; what the step earned isn't known.

    Args:
        state: D decisions.
        nodes: [D, N, len(NODE_TARGETS)] dynamics of the step.
        edges: [D, E, len(EDGE_TARGETS)]
    """
    next_nodes, next_edges = state.nodes[:, -1].copy(), state.edges[:, -1].copy()
    next_nodes[..., : len(NODE_TARGETS)] = nodes
    next_edges[..., : len(EDGE_TARGETS)] = edges
    return msgspec.structs.replace(
        state,
        time=state.time + state.step_seconds * SECOND,
        nodes=np.concatenate([state.nodes[:, 1:], next_nodes[:, np.newaxis]], axis=1),
        edges=np.concatenate([state.edges[:, 1:], next_edges[:, np.newaxis]], axis=1),
        offered=np.concatenate([state.offered[:, 1:], state.offered[:, -1:]], axis=1),
        earned=np.full_like(state.earned, np.nan),
        now=(None,) * len(state),
        past=tuple(
            earlier if asked is None else (*earlier, asked)
            for asked, earlier in zip(state.now, state.past, strict=True)
        ),
    )


def before_of(state: State, decision: int) -> Before:
    """Return what the columns of actions need to know of one decision."""
    nodes = state.nodes[decision]
    at = {name: position for position, name in enumerate(NODE_CHANNELS)}
    return Before(
        pods=nodes[..., at["replicas_desired"]],
        ready=nodes[-1, :, at["replicas_ready"]],
        cpu_limit=nodes[..., at["cpu_limit_cores"]],
        memory_limit=nodes[-1, :, at["memory_limit_bytes"]],
        cpu=nodes[-1, :, at["cpu_usage_cores"]],
        offered=float(state.offered[decision, -1]),
        users=float(state.users[decision]),
    )
