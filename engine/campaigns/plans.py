"""A campaign's runs, planned: what each is, what it belongs to, in which order they are played."""

from __future__ import annotations

from typing import Literal

import msgspec

from otel_control_gym.engine.campaigns.settings import CampaignSettings, Stratum
from otel_control_gym.engine.settings import Scenario

__all__ = ("CampaignPlan", "Factors", "PlannedRun", "StandKind")

StandKind = Literal["twin", "cluster"]


class Factors(msgspec.Struct, frozen=True, kw_only=True):
    """The levels that a run was given of what the campaign crosses; null where a factor doesn't apply."""

    configuration: str
    workload: str
    length: Literal["short", "long"]
    fault_type: str | None = None
    fault_target: str | None = None
    fault_intensity: str | None = None
    fault_duration: str | None = None
    action_type: str | None = None
    action_target: str | None = None
    action_intensity: str | None = None
    recovery_phase: bool | None = None  #: the fault ends early enough for the system to recover
    persistence: str | None = None
    policy: str = "noop"


class PlannedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a campaign; its `key` is the same however often the campaign is planned."""

    key: str
    stratum: Stratum
    role: Literal["main", "sibling"]
    scenario: Scenario
    seed: int
    family_id: str
    pair_id: str | None  #: names a run and its sibling
    factors: Factors


class CampaignPlan(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of a campaign, in the order in which they are played: shuffled, so that ids and times say nothing."""

    settings: CampaignSettings
    digest: str  #: of the settings and all runs
    runs: tuple[PlannedRun, ...]

    @property
    def stand(self) -> StandKind:
        """What its runs are played on: an embedded twin each, or clusters."""
        return "twin" if self.settings.cluster is None else "cluster"
