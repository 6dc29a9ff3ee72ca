"""Campaigns: from a design to hundreds of labelled runs.

`settings` and `files` say what a campaign is; `reach`, `candidates`, `design` make runs of it (pure: the same file gives the same runs);
`splits` and `balance` say which belong together and whether a model could cheat. Playing a run is `policies`' and `engine.env`'s business.
"""

from __future__ import annotations

from otel_control_gym.engine.campaigns.design import make_plan
from otel_control_gym.engine.campaigns.plans import CampaignPlan, PlannedRun
from otel_control_gym.engine.campaigns.settings import CampaignSettings, Stratum

__all__ = ("CampaignPlan", "CampaignSettings", "PlannedRun", "Stratum", "make_plan")
