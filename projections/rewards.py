"""A state ➜ rewards: named components with units, and their weighted sum, per reward bucket.

In: the public part of a state. Out: one row per reward bucket with all raw components, those of weight 0 included, so that a run can be
scored anew. `COMPONENTS` is the list of them with unit, range and meaning.

Built against gaming: demand that isn't served fails; cost charges what is requested or used, whichever is more, and a share of the
limits, of the other version's pods too, and of one replica at least: what users hardly miss saves nothing by being switched off; churn
costs; nothing here looks at the truth stream. A bucket in which a weighted component isn't known has no value: a
gap in the telemetry is no reward and no penalty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import RolloutStatus
from otel_control_gym.projections.features import node_usage
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.objectives import ServiceLevel, judged_until, service_level

__all__ = ("COMPONENTS", "Component", "RewardRow", "StepReward", "reward_rows", "step_reward")

Float = npt.NDArray[np.float64]
LIMIT_SHARE = 0.1
"""Of what limits exceed the charge by: a limit reserves nothing, but the node must be able to give it."""
CANARY_SUFFIX = "-canary"  #: of the Deployment that holds a service's other version (`shift_traffic`)
GIB = 2**30


class Component(msgspec.Struct, frozen=True):
    """What a component measures in a reward bucket."""

    unit: str
    lowest: float
    highest: float
    meaning: str


COMPONENTS: Mapping[str, Component] = {
    "slo_satisfaction": Component(
        "1", 0, 1, "share of the demand answered without error and within the latency objective"
    ),
    "error_budget_burn": Component(
        "1", 0, math.inf, "share of failures / share that the availability objective allows"
    ),
    "recovery_time": Component("s", 0, math.inf, "time of the bucket in which the objective was breached"),
    "resource_cost": Component("cost units", 0, math.inf, "core-hours and GiB-hours requested or used, priced"),
    "stability": Component(
        "1", 0, math.inf, "container restarts, replicas added or removed, configurations rolled out"
    ),
    "unsafe_action": Component("1", 0, math.inf, "actions of the policy that the precheck rejected"),
}


class RewardRow(msgspec.Struct, frozen=True, kw_only=True):
    """The reward of a bucket; a component that isn't known is absent, and `value` is null while a weighted one is."""

    time: int  #: start of the bucket
    value: float | None
    components: dict[str, float]


class StepReward(msgspec.Struct, frozen=True, kw_only=True):
    """The reward of a step: the weighted total, and each raw component summed over its buckets."""

    value: float
    components: dict[str, float]


def reward_rows(state: RunState, *, start: int | None = None, end: int | None = None) -> list[RewardRow]:
    """Return the rewards of the whole reward buckets of [start, end) [ns], by default of all that is known."""
    seconds = state.settings.granularity.reward_bucket_seconds
    buckets = state.buckets(seconds, start=start, end=end)
    if buckets.count == 0:
        return []
    level = service_level(state, buckets)
    used = node_usage(state.telemetry(), buckets)
    columns: dict[str, Float] = {
        "slo_satisfaction": level.availability * level.fast,
        "error_budget_burn": _burn(state, level),
        "recovery_time": np.where(level.breached | level.kept, level.breached * float(seconds), np.nan),
        "resource_cost": _cost(state, buckets, seconds, used),
        "stability": _churn(state, buckets, seconds, used),
        "unsafe_action": _rejections(state, buckets, seconds),
    }
    weights = state.settings.reward.weights
    rows = []
    for position in range(buckets.count):
        raw = {name: float(columns[name][position]) for name in COMPONENTS}
        known = {name: value for name, value in raw.items() if not math.isnan(value)}
        scored = [name for name in COMPONENTS if weights.get(name, 0.0) != 0.0]
        complete = all(name in known for name in scored)
        rows.append(
            RewardRow(
                time=state.origin + (buckets.first + position) * seconds * SECOND,
                value=sum(weights[name] * known[name] for name in scored) if complete else None,
                components=known,
            )
        )
    return rows


def step_reward(state: RunState, since: int, until: int) -> StepReward:
    """Return the reward of the buckets that end in (since, until] [ns]; buckets without a value add nothing to it.

    Where telemetry is delayed it is that of as many buckets further back (`objectives.judged_until`).
    """
    rows = _ending_in(state, judged_until(state, since), judged_until(state, until))
    return StepReward(
        value=float(sum(row.value for row in rows if row.value is not None)),
        components={name: sum(row.components.get(name, 0.0) for row in rows) for name in COMPONENTS},
    )


def _ending_in(state: RunState, since: int, until: int) -> list[RewardRow]:
    length = state.settings.granularity.reward_bucket_seconds * SECOND
    first = max(0, (since - state.origin) // length)  # the bucket that `since` lies in ends after it
    return reward_rows(state, start=state.origin + first * length, end=until)


def _burn(state: RunState, level: ServiceLevel) -> Float:
    return (1.0 - level.availability) / max(1e-9, 1.0 - state.settings.reward.objective.availability)


def _cost(state: RunState, buckets: Buckets, seconds: int, used: Mapping[str, Float]) -> Float:
    """Core-hours and GiB-hours: requests as they stood at the scrapes of the bucket, usage as measured in it."""
    cores = np.nan_to_num(used["cpu_usage_cores"])
    memory = np.nan_to_num(used["memory_usage_bytes"]) / GIB
    deployments = _deployments(state)
    reserved = np.zeros((4, *cores.shape))
    for position, node in enumerate(state.graph.nodes):
        names = (node.deployment, f"{node.deployment}{CANARY_SUFFIX}")
        present = [_reserved(state, deployments[name], buckets) for name in names if name in deployments]
        if present:
            reserved[:, :, position] = np.sum(present, axis=0)
        owed = state.settings.services.services.get(node.id)
        if node.deployment in deployments and owed is not None and owed.replicas > 0:
            one = _reserved(state, deployments[node.deployment], buckets, replicas=1)
            reserved[:, :, position] = np.maximum(reserved[:, :, position], one)
    cpu = _charge(reserved[0], reserved[1], cores)
    ram = _charge(reserved[2] / GIB, reserved[3] / GIB, memory)
    prices = state.settings.reward
    hourly = cpu.sum(axis=1) * prices.cpu_core_hour_price + ram.sum(axis=1) * prices.memory_gib_hour_price
    return np.asarray(hourly * seconds / 3600)


def _charge(requested: Float, limit: Float, used: Float) -> Float:
    charged = np.maximum(requested, used)
    return charged + LIMIT_SHARE * np.maximum(limit - charged, 0.0)


def _deployments(state: RunState) -> dict[str, list[RolloutStatus]]:
    found: dict[str, list[RolloutStatus]] = {}
    for row in state.rollouts.all():
        if row.kind == "Deployment":
            found.setdefault(row.name, []).append(row)
    return found


def _reserved(
    state: RunState, rows: Sequence[RolloutStatus], buckets: Buckets, *, replicas: int | None = None
) -> Float:
    """Return requests and limits of CPU and memory, [4, T]: of all replicas together, or of so many; means over the bucket's finest edges.

    What changes at an edge changes after its scrape, and belongs to the bucket that begins there: a row never shows the next action.
    """
    times = np.array([row.time for row in rows], np.int64)
    edges = buckets.first * buckets.width + 1 + np.arange(buckets.count * buckets.width)
    at = np.searchsorted(times, state.origin + edges * state.samples.interval, side="left")
    seen, place = np.unique(at, return_inverse=True)  # few of all rows, where the buckets are those of a step
    amounts = np.array([_amounts(rows[number - 1], replicas) if number else [0.0] * 4 for number in seen.tolist()])
    return np.asarray(amounts[place].reshape(buckets.count, buckets.width, 4).mean(axis=1).T)


def _amounts(row: RolloutStatus, replicas: int | None) -> list[float]:
    each = (row.cpu_request_cores, row.cpu_limit_cores, row.memory_request_bytes, row.memory_limit_bytes)
    desired = 0 if row.change == "deleted" else row.replicas_desired
    return [(desired if replicas is None else replicas) * float(amount or 0) for amount in each]


def _churn(state: RunState, buckets: Buckets, seconds: int, used: Mapping[str, Float]) -> Float:
    restarts = np.nan_to_num(used["restarts"]).sum(axis=1)
    changes: list[tuple[int, float]] = []
    for rows in _deployments(state).values():
        for before, after in pairwise(rows):
            replicas = abs(after.replicas_desired - before.replicas_desired)
            changes.append((after.time, replicas + float(after.revision != before.revision)))
    return np.asarray(restarts + _sum_in(state, buckets, seconds, changes))


def _rejections(state: RunState, buckets: Buckets, seconds: int) -> Float:
    rejected = [
        (life.prechecked.time, 1.0)
        for life in state.lives.all()
        if life.prechecked is not None and life.prechecked.verdict == "rejected"
    ]
    return _sum_in(state, buckets, seconds, rejected)


def _sum_in(state: RunState, buckets: Buckets, seconds: int, moments: Sequence[tuple[int, float]]) -> Float:
    sums = np.zeros(buckets.count)
    for time, amount in sorted(moments):
        position = (time - state.origin) // (seconds * SECOND) - buckets.first
        if 0 <= position < buckets.count:
            sums[position] += amount
    return sums
