"""Results of episodes ➜ which policy did how well, with intervals: the numbers of an evaluation's tables.

In: an `EpisodeResult` of every policy in every family (a scenario from a seed). Out: `Scores`. All comparisons are paired by family: every
policy met the same faults under the same draws.

How sure a figure is:
- Of one scenario: seeds are drawn with replacement (n families). Over all scenarios: scenarios are drawn, whole, so that ten seeds of one
  don't pass for ten scenarios. Percentile bootstrap (scipy).
- The normalised score is (R - R_noop) / (R_oracle - R_noop) of a scenario's means, given only where the lower bound of the gap exceeds
  0: of a gap that may be noise no share can be had. The oracle searches a few steps ahead, so a score may exceed 1.
- Pairs of policies: a sign-flip permutation test of the paired differences over families, corrected by Holm over all pairs. It is about
  these scenarios; the smallest difference that would be found (80 % power, 5 % two-sided, uncorrected) stands beside it.
- Times to recovery are censored at the horizon: Kaplan-Meier, summed up by the mean restricted to the longest time that any policy was
  watched; over the families in which at least one policy missed the objective.

Pure. Upstream: `judgement`. Downstream: `pages`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from otel_control_gym.policies.evaluation.judgement import EpisodeResult

__all__ = ("Interval", "Pair", "PolicyScore", "ScenarioScore", "Scores", "holm", "restricted_mean", "scores_of")

Float = npt.NDArray[np.float64]

_RESAMPLES, _FLIPS, _SEED = 2000, 9999, 1
_DETECTABLE = 1.96 + 0.84  #: standard errors of a paired difference that 80 % power finds at 5 %, two-sided
NOOP, ORACLE = "noop", "oracle"


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """An estimate and its 95 % interval; equal ends where one value is all there is."""

    value: float
    low: float
    high: float
    n: int  #: what was drawn from: scenarios, or families of one


class PolicyScore(msgspec.Struct, frozen=True, kw_only=True):
    """A policy over all scenarios."""

    policy: str
    version: str
    information: str
    families: int
    mean_return: Interval
    over_noop: Interval | None  #: mean return less that of `noop`, in the same families; null without it
    score: Interval | None  #: normalised, over the scenarios that have one; null where none has
    recovery: Interval | None  #: restricted mean time [s]; null where nobody missed the objective
    recovered: int  #: of the families that `recovery` is about
    breached: int  #: of those: in which this policy missed the objective
    recovery_families: int
    violation_minutes: float  #: means of an episode
    cost: float
    unsafe_actions: float
    actions: float
    emergencies: int


class ScenarioScore(msgspec.Struct, frozen=True, kw_only=True):
    """A policy in one scenario, over its seeds."""

    scenario: str
    policy: str
    mean_return: Interval
    over_noop: Interval | None
    over_threshold: Interval | None  #: null without `threshold`
    score: Interval | None
    violation_minutes: float


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two policies in the same families: the first's return less the second's."""

    first: str
    second: str
    difference: Interval
    p_value: float
    p_holm: float
    detectable: float  #: smallest difference that the families can resolve


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation says."""

    policies: tuple[PolicyScore, ...]
    scenarios: tuple[ScenarioScore, ...]
    pairs: tuple[Pair, ...]
    restricted_to_s: float  #: of the restricted mean times to recovery


class _Table:
    """Figures of all results, by policy, scenario and seed."""

    def __init__(self, results: Sequence[EpisodeResult]) -> None:
        self.policies = tuple(dict.fromkeys(result.policy for result in results))
        self.scenarios = tuple(dict.fromkeys(result.scenario for result in results))
        self.by_policy: Mapping[str, list[EpisodeResult]] = {
            policy: sorted(
                (result for result in results if result.policy == policy),
                key=lambda result: (self.scenarios.index(result.scenario), result.seed),
            )
            for policy in self.policies
        }
        families = [[result.family_id for result in found] for found in self.by_policy.values()]
        assert all(found == families[0] for found in families), "every policy plays every family"

    def returns(self, policy: str, scenario: str | None = None) -> Float:
        """Return the total return in each family, of all or of one scenario."""
        found = self.by_policy[policy]
        return np.array([it.judgement.total_return for it in found if scenario is None or it.scenario == scenario])

    def scenario_means(self, policy: str) -> Float:
        """Return the mean return in each scenario."""
        return np.array([self.returns(policy, scenario).mean() for scenario in self.scenarios])


def scores_of(results: Sequence[EpisodeResult]) -> Scores:
    """Return the scores of an evaluation; policies and scenarios keep the order in which they come."""
    table = _Table(results)
    scenarios = [_scenario_score(table, scenario, policy) for scenario in table.scenarios for policy in table.policies]
    troubled = _troubled(table)
    longest = max((it.judgement.time_to_recovery_s for found in troubled.values() for it in found), default=0.0)
    return Scores(
        policies=tuple(_policy_score(table, policy, scenarios, troubled[policy], longest) for policy in table.policies),
        scenarios=tuple(scenarios),
        pairs=_pairs(table),
        restricted_to_s=longest,
    )


def restricted_mean(times: Float, observed: npt.NDArray[np.bool_], until: float) -> float:
    """Return the mean of min(T, `until`) by the Kaplan-Meier estimate, where an unobserved time is a lower bound.

    Beyond the last time that is known, the estimate stays where it is: a mean time can't be better than what was seen.
    """
    sample = stats.CensoredData(uncensored=times[observed], right=times[~observed])
    survival = stats.ecdf(sample).sf
    moments = np.concatenate([[0.0], np.minimum(survival.quantiles, until), [until]])
    heights = np.concatenate([[1.0], survival.probabilities])
    return float(np.sum(np.diff(moments) * heights))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down rule (Scand. J. Statist. 6, 1979)."""
    order = sorted(range(len(p_values)), key=lambda number: p_values[number])
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        least = max(least, min(1.0, p_values[number] * (len(p_values) - rank)))
        corrected[number] = least
    return corrected


# --- of one scenario ------------------------------------------------------------------------------------------------------


def _scenario_score(table: _Table, scenario: str, policy: str) -> ScenarioScore:
    returns = table.returns(policy, scenario)

    def over(other: str) -> Interval | None:
        return _mean(returns - table.returns(other, scenario)) if other in table.policies else None

    found = [it for it in table.by_policy[policy] if it.scenario == scenario]
    return ScenarioScore(
        scenario=scenario,
        policy=policy,
        mean_return=_mean(returns),
        over_noop=over(NOOP),
        over_threshold=over("threshold"),
        score=_normalised(table, scenario, returns),
        violation_minutes=_average(found, lambda it: it.judgement.violation_minutes),
    )


def _normalised(table: _Table, scenario: str, returns: Float) -> Interval | None:
    """Return the share of the gap between `noop` and the oracle that a policy made good, where there is a gap."""
    if not {NOOP, ORACLE} <= set(table.policies):
        return None
    nothing, best = table.returns(NOOP, scenario), table.returns(ORACLE, scenario)
    if _mean(best - nothing).low <= 0:
        return None

    def share(policy: Float, least: Float, most: Float) -> float:
        gap = float(most.mean() - least.mean())
        return float(policy.mean() - least.mean()) / gap if gap > 0 else math.nan

    return _bootstrapped(returns.size, lambda rows: share(returns[rows], nothing[rows], best[rows]))


# --- over all scenarios ---------------------------------------------------------------------------------------------------


def _policy_score(
    table: _Table,
    policy: str,
    scenarios: Sequence[ScenarioScore],
    troubled: Sequence[EpisodeResult],
    longest: float,
) -> PolicyScore:
    found = table.by_policy[policy]
    means = table.scenario_means(policy)
    normalised = [it.score.value for it in scenarios if it.policy == policy and it.score is not None]
    return PolicyScore(
        policy=policy,
        version=found[0].policy_version,
        information=found[0].policy_information,
        families=len(found),
        mean_return=_mean(means),
        over_noop=_mean(means - table.scenario_means(NOOP)) if NOOP in table.policies else None,
        score=_mean(np.array(normalised)) if normalised else None,
        recovery=_recovery(troubled, longest) if troubled else None,
        recovered=sum(it.judgement.recovered for it in troubled),
        breached=sum(it.judgement.breached for it in troubled),
        recovery_families=len(troubled),
        violation_minutes=_average(found, lambda it: it.judgement.violation_minutes),
        cost=_average(found, lambda it: it.judgement.cost),
        unsafe_actions=_average(found, lambda it: it.judgement.unsafe_actions),
        actions=_average(found, lambda it: it.judgement.actions),
        emergencies=sum(it.judgement.emergency_s is not None for it in found),
    )


def _troubled(table: _Table) -> dict[str, list[EpisodeResult]]:
    """Return each policy's results in the families in which at least one policy missed the objective."""
    missed = {it.family_id for found in table.by_policy.values() for it in found if it.judgement.breached}
    return {policy: [it for it in found if it.family_id in missed] for policy, found in table.by_policy.items()}


def _recovery(results: Sequence[EpisodeResult], until: float) -> Interval:
    """Return the restricted mean time to recovery; families are drawn."""
    times = np.array([it.judgement.time_to_recovery_s for it in results])
    observed = np.array([it.judgement.recovered for it in results])
    return _bootstrapped(len(results), lambda rows: restricted_mean(times[rows], observed[rows], until))


def _pairs(table: _Table) -> tuple[Pair, ...]:
    """Return all pairs of policies, tested over families and corrected for their number."""
    pairs = list(combinations(table.policies, 2))
    differences = [table.returns(first) - table.returns(second) for first, second in pairs]
    p_values = [_sign_flip(difference) for difference in differences]
    means = {policy: table.scenario_means(policy) for policy in table.policies}
    return tuple(
        Pair(
            first=first,
            second=second,
            difference=_mean(means[first] - means[second]),
            p_value=p_value,
            p_holm=corrected,
            detectable=_detectable(difference),
        )
        for (first, second), difference, p_value, corrected in zip(
            pairs, differences, p_values, holm(p_values), strict=True
        )
    )


def _sign_flip(differences: Float) -> float:
    """Return the two-sided p-value of a mean of paired differences, each of which could as well have had the other sign."""
    if differences.size < 2 or not np.any(differences):
        return 1.0
    found = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=_FLIPS, vectorized=True, rng=_SEED
    )
    return float(found.pvalue)


def _detectable(differences: Float) -> float:
    if differences.size < 2:
        return math.inf
    return float(_DETECTABLE * np.std(differences, ddof=1) / math.sqrt(differences.size))


# --- intervals ------------------------------------------------------------------------------------------------------------


def _mean(values: Float) -> Interval:
    """Return the mean of what is drawn from."""
    return _bootstrapped(values.size, lambda rows: float(values[rows].mean()))


def _bootstrapped(count: int, statistic: Callable[[npt.NDArray[np.int64]], float]) -> Interval:
    """Return a statistic of rows 0 to `count` - 1 with its percentile interval; one that can't be computed of a draw is left out."""
    rows = np.arange(count)
    value = statistic(rows)
    if count < 2:
        return Interval(value=value, low=value, high=value, n=count)
    found = stats.bootstrap(
        (rows,), statistic, n_resamples=_RESAMPLES, method="percentile", vectorized=False, rng=_SEED
    )
    low, high = np.nanquantile(found.bootstrap_distribution, [0.025, 0.975])
    return Interval(value=value, low=float(low), high=float(high), n=count)


def _average(results: Sequence[EpisodeResult], figure: Callable[[EpisodeResult], float]) -> float:
    return sum(figure(result) for result in results) / len(results)
