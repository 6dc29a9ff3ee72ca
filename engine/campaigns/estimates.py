"""How long a campaign on clusters takes: real time, one run at a time on each stand, and a reset after each.

In: a plan, its granularity, how many stands. Out: an `Estimate`. Pure.
"""

from __future__ import annotations

import heapq

import msgspec

from otel_control_gym.engine.campaigns.plans import CampaignPlan
from otel_control_gym.engine.cluster_access import ResetLevel
from otel_control_gym.engine.settings import Granularity

__all__ = ("Estimate", "estimate_of")


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a campaign costs."""

    stands: int
    runs: int
    reset: ResetLevel
    reset_seconds: int  #: of each run
    minutes_per_run: float  #: in the mean: warm-up, control, cool-down and reset
    stand_hours: float  #: of all stands together
    hours: float  #: until the last stand has played its last run


def estimate_of(plan: CampaignPlan, granularity: Granularity, stands: int) -> Estimate | None:
    """Return what a plan costs on a number of stands, each of which takes the next run when it is free; None for the embedded twin.

    Failed runs aren't reckoned with, nor what is around a campaign: installing, and the first reset.
    """
    cluster = plan.settings.cluster
    if cluster is None:
        return None
    around = granularity.warmup_seconds + granularity.cooldown_seconds + cluster.reset_seconds
    each = [run.scenario.horizon_seconds + around for run in plan.runs]
    free_at = [0] * stands
    for seconds in each:
        heapq.heapreplace(free_at, free_at[0] + seconds)
    return Estimate(
        stands=stands,
        runs=len(each),
        reset=cluster.reset,
        reset_seconds=cluster.reset_seconds,
        minutes_per_run=round(sum(each) / max(1, len(each)) / 60, 2),
        stand_hours=round(sum(each) / 3600, 2),
        hours=round(max(free_at) / 3600, 2),
    )
