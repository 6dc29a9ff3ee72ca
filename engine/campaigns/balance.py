"""A campaign's runs ➜ how balanced they are, and whether a model could cheat.

In: planned runs. Out: cross tables, and the bounds of the settings with what was found. A bound that doesn't hold fails the campaign: a
model that learns "who scales has a CPU fault" scores well and knows nothing.

Mutual information of action type and fault type is taken over the runs that have both, and compared with its own distribution when the
actions are dealt out to the runs anew (1,000 permutations, from the campaign's seed): above the 95th percentile the two are related.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from otel_control_gym.engine.campaigns.candidates import helps
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.plans import CampaignPlan, Factors, PlannedRun
from otel_control_gym.engine.randomness import derive_seed

__all__ = ("Balance", "Bound", "CrossTable", "balance_of")

_PERMUTATIONS = 1000
_PERCENTILE = 95
_NONE = "none"


class CrossTable(msgspec.Struct, frozen=True, kw_only=True):
    """How many families have which levels of two factors."""

    rows_are: str
    columns_are: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]  #: [rows][columns]


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A bound of science: what was found, what is asked for."""

    name: str
    found: float
    asked: float
    at_most: bool = False  #: the bound is an upper one
    holds: bool


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """The balance report of a campaign; families are counted, siblings are not."""

    families: int
    runs: int
    tables: tuple[CrossTable, ...]
    bounds: tuple[Bound, ...]

    @property
    def holds(self) -> bool:
        """Whether every bound holds."""
        return all(bound.holds for bound in self.bounds)


def balance_of(plan: CampaignPlan) -> Balance:
    """Return the balance of a plan; without bounds in its settings there are none to hold."""
    mains = [run for run in plan.runs if run.role == "main"]
    return Balance(
        families=len({run.family_id for run in mains}),
        runs=len(plan.runs),
        tables=tuple(
            _table(mains, rows, columns)
            for rows, columns in (
                ("stratum", "configuration"),
                ("stratum", "workload"),
                ("stratum", "length"),
                ("fault_type", "configuration"),
                ("fault_type", "workload"),
                ("fault_type", "length"),
                ("fault_type", "fault_intensity"),
                ("fault_type", "fault_duration"),
                ("fault_type", "fault_target"),
                ("fault_type", "action_type"),
                ("action_type", "configuration"),
                ("action_type", "workload"),
                ("action_type", "length"),
                ("action_type", "action_intensity"),
                ("action_type", "action_target"),
                ("stratum", "recovery_phase"),
                ("stratum", "policy"),
            )
        ),
        bounds=tuple(_bounds(plan, mains)),
    )


def _level(name: str) -> Callable[[PlannedRun], str]:
    if name == "stratum":
        return lambda run: run.stratum
    return lambda run: _text(getattr(run.factors, name))


def _text(level: object) -> str:
    return _NONE if level in (None, "") else str(level).lower() if isinstance(level, bool) else str(level)


def _table(runs: Sequence[PlannedRun], rows: str, columns: str) -> CrossTable:
    row_of, column_of = _level(rows), _level(columns)
    counts = Counter((row_of(run), column_of(run)) for run in runs)
    names = tuple(sorted({row for row, _ in counts}))
    others = tuple(sorted({column for _, column in counts}))
    return CrossTable(
        rows_are=rows,
        columns_are=columns,
        rows=names,
        columns=others,
        counts=tuple(tuple(counts[name, other] for other in others) for name in names),
    )


def _bounds(plan: CampaignPlan, mains: Sequence[PlannedRun]) -> list[Bound]:
    asked = plan.settings.bounds
    if asked is None:
        return []
    strata = Counter(run.stratum for run in mains)
    actions = {run.key: _actions_in(run) for run in mains}
    faults = {run.key: len(run.scenario.interventions) for run in mains}
    acting = [run for run in mains if actions[run.key]]
    both = [run for run in acting if faults[run.key]]
    known = [run.factors for run in both if run.factors.action_type is not None]
    calm = sum(actions[run.key] for run in mains if not faults[run.key])
    lonely = sum(faults[run.key] for run in mains if not actions[run.key])
    drawn = [run for run in acting if run.scenario.policy.name == "random"]
    found = [
        ("actions_without_incident", calm / max(1, sum(actions.values())), asked.actions_without_incident),
        ("faults_without_action", lonely / max(1, sum(faults.values())), asked.faults_without_action),
        ("wrong_remedies", sum(not _may_help(factors) for factors in known) / max(1, len(both)), asked.wrong_remedies),
        ("randomised", len(drawn) / max(1, len(acting)), asked.randomised),
        ("baseline_runs", float(strata["baseline"]), float(asked.baseline_runs)),
        ("normal_control_runs", float(strata["normal_control"]), float(asked.normal_control_runs)),
    ]
    bounds = [Bound(name=name, found=value, asked=least, holds=value >= least) for name, value, least in found]
    information, usual = _information(known, derive_seed(plan.settings.seed, "balance"))
    return [
        *bounds,
        Bound(
            name="mutual_information_of_action_and_fault",
            found=information,
            asked=usual,
            at_most=True,
            holds=information <= usual,
        ),
    ]


def _actions_in(run: PlannedRun) -> int:
    """Return how many actions a run has; of a policy that draws: how many moments it draws at."""
    policy = run.scenario.policy
    return len(policy.actions) + len(policy.decide_at_seconds)


def _may_help(factors: Factors) -> bool:
    return helps(factors.action_type or "", factors.fault_type or "", factors.persistence or "workload")


def _information(known: Sequence[Factors], seed: int) -> tuple[float, float]:
    """Return the mutual information [nats] of action and fault type, and the 95th percentile of what chance gives."""
    from sklearn.metrics import mutual_info_score

    if not known:
        return 0.0, 0.0
    faults = np.array([factors.fault_type for factors in known])
    actions = np.array([factors.action_type for factors in known])
    orders = (Draws(seed, f"permutation/{number}").shuffled("", actions) for number in range(_PERMUTATIONS))
    dealt = [mutual_info_score(faults, order) for order in orders]
    return float(mutual_info_score(faults, actions)), float(np.percentile(dealt, _PERCENTILE))
