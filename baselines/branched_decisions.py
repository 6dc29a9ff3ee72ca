"""Branches of decisions ➜ what each alternative was worth there, beside doing nothing.

In: rows of `counterfactuals.parquet`. Out: `BranchedDecision`s, with the rewards of A alternatives in B futures over the horizons. The
futures of a number share their draws, so the difference to `noop` within a number is an effect with most of chance taken out.

Pure. Upstream: `counterfactual_tables`. Downstream: `treatment_effects`, `effect_scores`, `effect_model`, `off_policy`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.counterfactual_tables import HORIZONS, CounterfactualBranch

__all__ = ("Alternative", "BranchedDecision", "branched_decisions")

Float = npt.NDArray[np.float64]


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done at a decision, in branches."""

    action: dict[str, Any]
    is_logged: bool
    probability: float | None  #: with which the policy would have done it

    @property
    def action_type(self) -> str:
        """The type of the action."""
        return str(self.action["type"])


class BranchedDecision(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A decision of a run, and what A alternatives came to in B futures each."""

    run_id: str
    family_id: str
    stratum: str
    service_config: str
    decision_step: int
    action_id: str
    time_us: int
    alternatives: tuple[Alternative, ...]  #: [A] the first is noop
    rewards: Float  #: [A, B, len(HORIZONS)] sums; NaN where a branch was shorter

    @property
    def effects(self) -> Float:
        """Differences to noop under the same draws, [A, B, len(HORIZONS)]."""
        return self.rewards - self.rewards[:1]

    @property
    def worth(self) -> Float:
        """Mean reward of each alternative over its futures, [A, len(HORIZONS)]."""
        mean: Float = self.rewards.mean(axis=1)
        return mean

    @property
    def logged(self) -> int:
        """Which alternative the run itself took."""
        return next(number for number, item in enumerate(self.alternatives) if item.is_logged)


def branched_decisions(branches: Iterable[CounterfactualBranch]) -> list[BranchedDecision]:
    """Return the decisions of branches, by run and step.

    Futures that some alternative of a decision lacks are left out, so that all are compared under the same draws.
    """
    ordered = sorted(branches, key=lambda row: (row.run_id, row.decision_step, row.alternative_index, row.number))
    return [_decision(list(rows)) for _, rows in groupby(ordered, key=lambda row: (row.run_id, row.decision_step))]


def _decision(rows: list[CounterfactualBranch]) -> BranchedDecision:
    by_alternative = [list(found) for _, found in groupby(rows, key=lambda row: row.alternative_index)]
    shared = set.intersection(*({row.number for row in found} for found in by_alternative))
    rewards = np.array(
        [[row.rewards for row in found if row.number in shared] for found in by_alternative], dtype=np.float64
    ).reshape(len(by_alternative), len(shared), len(HORIZONS))
    first = rows[0]
    return BranchedDecision(
        run_id=first.run_id,
        family_id=first.family_id,
        stratum=first.stratum,
        service_config=first.service_config,
        decision_step=first.decision_step,
        action_id=first.action_id,
        time_us=first.time_us,
        alternatives=tuple(
            Alternative(
                action=json.loads(found[0].alternative),
                is_logged=found[0].is_logged,
                probability=found[0].probability,
            )
            for found in by_alternative
        ),
        rewards=rewards,
    )
