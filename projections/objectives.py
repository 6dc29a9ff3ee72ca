"""Demand and latency ➜ how well users were served, and whether an episode's rules say that it is over.

In: a state and a range of buckets. Out: `Service` per bucket, and the rules `reached_goal` and `reached_emergency`. All of it is public: a
rule that knew when a fault began would tell the policy. Distorted telemetry is judged as it is seen.

Availability is what was answered well / what users asked for. A closed loop whose users all wait asks for nothing new, so open
requests count as asked for, but for those that may still be answered in time (as many as arrive within the latency objective): a
system that hangs has failed its users, not rested.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Emergency, Goal, TelemetrySource
from otel_control_gym.projections.demand import demand
from otel_control_gym.projections.features import fast_share
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets

__all__ = ("ServiceLevel", "judged_until", "reached_emergency", "reached_goal", "service_level")

_JUDGED: Final[tuple[TelemetrySource, ...]] = (
    "metrics",
    "workload",
    "kubernetes",
)  #: what rewards and rules are made of

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class ServiceLevel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """How users were served in T buckets, each [T]; NaN where it isn't known."""

    availability: Float  #: share of the demand that was answered without error, 0 to 1; 1 without demand
    fast: Float  #: share of the entry's answers within the latency objective, 0 to 1; 1 without answers
    breached: Bool  #: known to miss the objective
    kept: Bool  #: known to meet it


def service_level(state: RunState, buckets: Buckets) -> ServiceLevel:
    """Return the service level of each bucket, at the objective's service."""
    objective = state.settings.reward.objective
    asked = demand(state, buckets)
    young = np.minimum(asked.open_after, asked.scheduled / asked.seconds * objective.latency_ms / 1000)
    due = np.maximum(asked.scheduled + asked.open_before - young, asked.served)
    good = asked.served - asked.failed
    availability = np.divide(good, due, out=np.where(np.isnan(due), np.nan, 1.0), where=due > 0)
    names = [node.id for node in state.graph.nodes]
    fast = np.full(buckets.count, np.nan)
    if objective.service in names:
        fast = fast_share(state.telemetry(), buckets, names.index(objective.service), objective.latency_ms)
    fast = np.where(np.isnan(fast) & (asked.served == 0), 1.0, fast)
    return ServiceLevel(
        availability=availability,
        fast=fast,
        breached=(availability < objective.availability) | (fast < objective.latency_share),
        kept=(availability >= objective.availability) & (fast >= objective.latency_share),
    )


def judged_until(state: RunState, now: int) -> int:
    """Return up to which moment [ns] a run is judged at `now`: where telemetry is delayed, as many whole reward buckets earlier as it takes
    to arrive. So a step is paid for what is known, if later, and not for what isn't there yet.
    """
    delays = state.settings.telemetry.distortion.delays
    late = max(
        (delays[source].seconds + delays[source].random_seconds for source in _JUDGED if source in delays), default=0
    )
    bucket = state.settings.granularity.reward_bucket_seconds
    return now - math.ceil(late / bucket) * bucket * SECOND


def reached_goal(state: RunState, goal: Goal, *, start: int, now: int) -> bool:
    """Return whether the objective has held for the goal's time up to `now`, after a breach since `start` [ns]."""
    level = service_level(state, _reward_buckets(state, start, now))
    held = _length(state, goal.hold_seconds)
    return bool(level.kept.size > held and level.kept[-held:].all() and level.breached[:-held].any())


def reached_emergency(state: RunState, emergency: Emergency, *, start: int, now: int) -> bool:
    """Return whether availability has been below the emergency's floor for its time up to `now`, within [start, now] [ns]."""
    level = service_level(state, _reward_buckets(state, start, now))
    lasted = _length(state, emergency.for_seconds)
    return bool(
        level.availability.size >= lasted and (level.availability[-lasted:] < emergency.availability_below).all()
    )


def _reward_buckets(state: RunState, start: int, now: int) -> Buckets:
    end = judged_until(state, now)
    return state.buckets(state.settings.granularity.reward_bucket_seconds, start=start, end=end)


def _length(state: RunState, seconds: int) -> int:
    """Return how many reward buckets a time takes, rounded up."""
    return max(1, -(-seconds // state.settings.granularity.reward_bucket_seconds))
