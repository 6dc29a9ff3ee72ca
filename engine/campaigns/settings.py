"""What a campaign file says (`configs/campaigns/`): frozen records without behaviour; `engine.campaigns.design` makes runs of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from otel_control_gym.engine.cluster_access import ResetLevel
from otel_control_gym.engine.settings import Intensity, Randomization

__all__ = ("STRATA", "BalanceBounds", "CampaignSettings", "ClusterStand", "Length", "Stratum")

Stratum = Literal[
    "baseline",
    "normal_control",
    "single_action",
    "single_fault",
    "fault_with_recovery",
    "wrong_remedy",
    "multi_action",
    "multi_fault",
    "randomised",
    "zero_strength",
]

STRATA: tuple[Stratum, ...] = Stratum.__args__  # type: ignore[attr-defined]
"""What a run is for:

- baseline: nothing is done, nothing fails; normal_control: an operator at work, nothing fails
- single_action, single_fault: one of them alone, each with a sibling of the same seed in which it is missing
- fault_with_recovery, wrong_remedy: a fault and an action that helps against it, or one that can't
- multi_action, multi_fault: two of a kind
- randomised: a fault or none, and a public policy that draws type, target and strength of one action: what effects are estimated on
- zero_strength: a fault whose objects are made and whose effect is nil; its sibling is untouched: nobody may tell them apart
"""


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: immutable, named fields only, a misspelt key is an error."""


class Length(_Record, frozen=True, kw_only=True):
    """How long control lasts: most runs `short_seconds`, a share of them drawn from `long_seconds`."""

    short_seconds: int = 600
    long_seconds: tuple[int, int] = (2700, 3600)
    long_share: float = 0.2


class BalanceBounds(_Record, frozen=True, kw_only=True):
    """Beyond these a campaign fails: a model could tell what happens from what is usually done."""

    actions_without_incident: float = 0.4  #: at least this share of the actions are in runs without a fault
    faults_without_action: float = 0.3  #: at least this share of the faults meet no action
    wrong_remedies: float = 0.1  #: at least this share of the runs with a fault and an action have one that can't help
    randomised: float = 1 / 3  #: at least this share of the runs with actions have a public policy that draws them
    baseline_runs: int = 20
    normal_control_runs: int = 20


class ClusterStand(_Record, frozen=True, kw_only=True):
    """A campaign on clusters: one run at a time on each, in real time. No run has a sibling, none can be branched: what is done is compared
    with the time before it.
    """

    reset: ResetLevel = "data"
    reset_seconds: int  #: what it takes to bring the stand back and to see that it is well
    before_seconds: int  #: of control before anything is done, at least: what effects are measured against


class CampaignSettings(_Record, frozen=True, kw_only=True):
    """A campaign: which strata, crossed with which factors, from which seed.

    A run's draws depend on the campaign's seed, its stratum and its number in it, and on nothing else: a campaign with larger numbers has
    the runs of the smaller one among its own.
    """

    name: str
    description: str = ""
    seed: int = 1
    configurations: tuple[str, ...]
    workloads: tuple[str, ...]
    granularity: str = "default"
    reward: str = "default"
    episode: str = "open_ended"
    telemetry: str = "default"
    strata: dict[Stratum, int]  #: stratum -> families, siblings not counted
    actions: tuple[str, ...]  #: types, as in the catalogue
    interventions: tuple[str, ...]
    intensities: tuple[Intensity, ...] = ("mild", "visible", "severe")
    length: Length = Length()
    randomize: Randomization | None = None  #: of every run; null: the configuration's
    cluster: ClusterStand | None = None  #: null: on the embedded twin
    bounds: BalanceBounds | None = BalanceBounds()  #: null: the campaign is for something else, e.g. a leak test
