"""What an evaluation file says (`configs/evaluations/`): frozen records without behaviour."""

from __future__ import annotations

from typing import Any

import msgspec

from otel_control_gym.engine.settings import PlannedAction

__all__ = ("EvaluationSettings", "Search", "Situation")


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base: immutable, named fields only, a misspelt key is an error."""


class Situation(_Record, frozen=True, kw_only=True):
    """A scenario that controllers meet: an application under a load, and what is injected. With a seed it is a family."""

    name: str
    description: str = ""
    services: str = "small-core"
    workload: str = "steady"
    interventions: tuple[PlannedAction, ...] = ()


class Search(_Record, frozen=True, kw_only=True):
    """How the oracle searches (`policies.oracle`), in control steps."""

    first: int = 3
    every: int = 5
    look_ahead: int = 6


class EvaluationSettings(_Record, frozen=True, kw_only=True):
    """A set of scenarios, and what all episodes in them have in common."""

    name: str
    description: str = ""
    scenarios: tuple[Situation, ...]
    menu: tuple[
        dict[str, Any], ...
    ]  #: what may be chosen by those who choose from a list; an application must have all targets
    horizon_seconds: int = 480
    granularity: str = "default"
    reward: str = "default"
    episode: str = "evaluation"
    search: Search = Search()
