"""What `ocg baseline evaluate effect` says: average effects, how right models are about them, and off-policy estimates beside the truth.

In: trained effect models, a campaign with branches. Out: an `Evaluation`. Models are scored on families that they weren't trained on;
average effects are the truth of all branched decisions, no model is in them. With `predictions`, every foretold effect is written
beside its truth.

Upstream: `effect_model`. Downstream: `ocg baseline`, the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from otel_control_gym.baselines.branched_decisions import BranchedDecision, branched_decisions
from otel_control_gym.baselines.counterfactual_tables import HORIZONS, read_branches, write_table
from otel_control_gym.baselines.decision_states import decision_states
from otel_control_gym.baselines.effect_adapters import trained_models
from otel_control_gym.baselines.effect_model import MODELS, EffectBaseline, foretell
from otel_control_gym.baselines.effect_scores import EffectScores, best_constant, constant_choice, regret, score_effects
from otel_control_gym.baselines.evaluations import Evaluation, Table, Task
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.off_policy import ESTIMATORS, LEAST_EFFECTIVE, Estimate, LoggedDecisions, estimate
from otel_control_gym.baselines.off_policy_checks import check_against_branches, others_mean
from otel_control_gym.baselines.treatment_effects import AverageEffect, average_effects, family_mean

__all__ = ("score",)

Float = npt.NDArray[np.float64]
_DRAWN_LOGS = 200  #: of which off-policy estimates are checked


class _Scored(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Decisions of families that a fold's models weren't trained on."""

    decisions: list[BranchedDecision]
    foretold: Mapping[str, list[Float]]  #: by model
    constants: list[tuple[str, ...]]  #: the type that was best on training families, by horizon


def score(model: EffectBaseline, task: Task) -> Evaluation:
    """Return the tables and figures.

    Raises: DatasetError: there are no branches, or a file can't be read or written.
    """
    decisions = branched_decisions(read_branches(task.directory))
    averages = average_effects(decisions)
    scored = _scored(model, task, decisions)
    scores = {
        (name, steps): score_effects(scored.decisions, scored.foretold[name], horizon_steps=steps)
        for steps in HORIZONS
        for name in scored.foretold
    }
    floors = {
        (name, steps): found for steps in HORIZONS for name, found in _floors(scored, HORIZONS.index(steps)).items()
    }
    if task.predictions is not None:
        _write(task.predictions, scored)
    off_policy = _off_policy(scored)
    return Evaluation(
        baseline="effect",
        campaign=task.directory.name.removeprefix("campaign="),
        split=task.split,
        families=len({decision.family_id for decision in scored.decisions}),
        tables=(_averages_table(averages), _scores_table(scores), _regret_table(scores, floors), *off_policy[0]),
        figures={
            "average_effects": averages,
            "scores": {f"{name} {steps}": found for (name, steps), found in scores.items()},
            "regret_of_floors": {f"{name} {steps}": found for (name, steps), found in floors.items()},
            "off_policy": off_policy[1],
        },
    )


def _scored(model: EffectBaseline, task: Task, decisions: Sequence[BranchedDecision]) -> _Scored:
    others = trained_models(task)
    chosen: list[BranchedDecision] = []
    foretold: dict[str, list[Float]] = {name: [] for name in (*MODELS, *others)}
    constants: list[tuple[str, ...]] = []
    for fold in model.folds:
        mine = [decision for decision in decisions if decision.family_id in fold.fold.scored]
        learnt = [decision for decision in decisions if decision.family_id in fold.fold.train | fold.fold.validation]
        best = tuple(best_constant(learnt, position) for position in range(len(HORIZONS)))
        states = decision_states(task.directory, mine)
        chosen += mine
        constants += [best] * len(mine)
        for name in MODELS:
            foretold[name] += foretell(fold, states, name)
        for name, foretells in others.items():
            foretold[name] += [
                found
                for decision, state in zip(mine, states, strict=True)
                if (found := foretells(decision.family_id, state)) is not None
            ]
    whole = {name: found for name, found in foretold.items() if len(found) == len(chosen)}
    return _Scored(decisions=chosen, foretold=whole, constants=constants)


def _floors(scored: _Scored, at: int) -> dict[str, Interval]:
    """Return the regret of acting without a model."""
    reached = [
        (decision, constants[at])
        for decision, constants in zip(scored.decisions, scored.constants, strict=True)
        if np.isfinite(decision.rewards[:, :, at]).all()
    ]
    families = [decision.family_id for decision, _ in reached]
    regrets = {
        "always noop": [regret(decision, 0, at) for decision, _ in reached],
        "by chance": [
            float(np.mean([regret(decision, choice, at) for choice in range(len(decision.alternatives))]))
            for decision, _ in reached
        ],
        "best constant action": [regret(decision, constant_choice(decision, kind), at) for decision, kind in reached],
    }
    return {name: family_mean(families, values) for name, values in regrets.items()}


# --- tables ---------------------------------------------------------------------------------------------------------------


def _averages_table(averages: Sequence[AverageEffect]) -> Table:
    return Table(
        title="Average effects on the reward (difference to noop, same draws of chance)",
        columns=("action", "steps", "families", "decisions", "effect (95 %)", "smallest detectable", "share below 0"),
        rows=tuple(
            (
                found.action_type,
                found.horizon_steps,
                found.effect.families,
                found.decisions,
                found.effect.shown,
                found.effect.detectable,
                found.harmed,
            )
            for found in averages
        ),
        note="truth of branches over the states in which the policy might have acted; each family counts once",
    )


def _scores_table(scores: Mapping[tuple[str, int], EffectScores]) -> Table:
    return Table(
        title="Models of effects, on families that they didn't see",
        columns=(
            "model",
            "steps",
            "decisions",
            "signs settled",
            "sign right",
            "error",
            "noise",
            "error of no effect",
            "explained",
            "Kendall",
            "Spearman",
        ),
        rows=tuple(
            (
                name,
                steps,
                found.decisions,
                found.settled,
                found.sign.shown,
                found.error,
                found.noise,
                found.error_of_none,
                found.explained,
                found.kendall.shown,
                found.spearman.shown,
            )
            for (name, steps), found in scores.items()
        ),
        note="error, noise: root mean square, reward; order and sign by chance: 0 and 0.5; other baselines: as far as trained",
    )


def _regret_table(scores: Mapping[tuple[str, int], EffectScores], floors: Mapping[tuple[str, int], Interval]) -> Table:
    regrets = {key: found.regret for key, found in scores.items()} | dict(floors)
    ordered = sorted(regrets.items(), key=lambda item: item[0][1])
    return Table(
        title="Regret of acting on it: reward below the best alternative's",
        columns=("choice", "steps", "families", "regret (95 %)", "smallest detectable"),
        rows=tuple((name, steps, found.families, found.shown, found.detectable) for (name, steps), found in ordered),
        note="the best is picked on the same futures: all regrets hold the same luck, differences don't",
    )


def _write(path: Path, scored: _Scored) -> None:
    """Write every foretold effect beside its truth."""
    rows = [
        {
            "run_id": decision.run_id,
            "family_id": decision.family_id,
            "decision_step": decision.decision_step,
            "alternative_index": index,
            "action_type": item.action_type,
            "horizon_steps": steps,
            "model": name,
            "effect_true": float(decision.effects[index, :, position].mean()),
            "effect_foretold": float(guess[index, position]),
        }
        for name, guesses in scored.foretold.items()
        for decision, guess in zip(scored.decisions, guesses, strict=True)
        for index, item in enumerate(decision.alternatives)
        for position, steps in enumerate(HORIZONS)
    ]
    write_table(pa.Table.from_pylist(rows), path)


# --- off-policy -----------------------------------------------------------------------------------------------------------


def _off_policy(scored: _Scored) -> tuple[tuple[Table, ...], object]:
    """Return what the log alone says of `noop` always, and what logs drawn from the branches say of acting on the model."""
    at = len(HORIZONS) - 1
    reached = [
        (decision, guess[:, at])
        for decision, guess in zip(scored.decisions, scored.foretold[MODELS[0]], strict=True)
        if np.isfinite(decision.rewards[:, :, at]).all()
        and all(item.probability is not None for item in decision.alternatives)
    ]
    if not reached:
        return (), None
    decisions = [decision for decision, _ in reached]
    from_log = [_of_noop(decisions, at, estimator, [guess for _, guess in reached]) for estimator in ESTIMATORS]
    truth = family_mean([decision.family_id for decision in decisions], [float(one.worth[0, at]) for one in decisions])
    checks = check_against_branches(decisions, [guess for _, guess in reached], at=at, logs=_DRAWN_LOGS)
    tables = (
        Table(
            title=f"Always noop, estimated from what was logged ({HORIZONS[at]} steps)",
            columns=("estimator", "decisions", "effective sample size", "estimate (95 %)", "truth of branches"),
            rows=tuple(
                (
                    found.estimator,
                    found.decisions,
                    found.effective,
                    f"below {LEAST_EFFECTIVE:.0f}: none" if found.value is None else found.value.shown,
                    truth.shown,
                )
                for found in from_log
            ),
        ),
        Table(
            title=f"Acting on the ridge's choice, estimated from {_DRAWN_LOGS} logs that are drawn from the branches",
            columns=(
                "estimator",
                "effective sample size",
                "truth",
                "mean error",
                "its standard error",
                "spread of one log",
            ),
            rows=tuple(
                (found.estimator, found.effective, found.truth, found.bias, found.bias_error, found.spread)
                for found in checks
            ),
            note="an estimator without bias has a mean error within two of its standard errors",
        ),
    )
    return tables, {"from_log": from_log, "truth_of_noop": truth, "checks": checks}


def _of_noop(decisions: Sequence[BranchedDecision], at: int, estimator: str, foretold: Sequence[Float]) -> Estimate:
    """Return an estimate of `noop` always; what was logged is the first future of what the run did."""
    size = max(len(decision.alternatives) for decision in decisions)
    logged = LoggedDecisions(
        families=tuple(decision.family_id for decision in decisions),
        taken=np.array([decision.logged for decision in decisions], np.int64),
        probabilities=np.array(
            [_padded([item.probability or 0.0 for item in decision.alternatives], size) for decision in decisions]
        ),
        rewards=np.array([decision.rewards[decision.logged, 0, at] for decision in decisions]),
    )
    asked = np.zeros((len(decisions), size))
    asked[:, 0] = 1.0
    chosen = next(name for name in ESTIMATORS if name == estimator)
    if chosen != "dr":
        return estimate(logged, asked, chosen)
    base = others_mean(logged.families, logged.rewards)
    guesses = np.array([_padded(own + guess, size) for own, guess in zip(base, foretold, strict=True)])
    return estimate(logged, asked, chosen, foretold=guesses)


def _padded(values: Sequence[float] | Float, size: int) -> list[float]:
    return [*map(float, values), *[0.0] * (size - len(values))]
