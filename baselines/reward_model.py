"""The reward model: what the next control steps will earn, given the state and an action; and its heads, breach, recovery and cost.

In: a campaign's windows, or a live state with candidate actions. Out: for the next 1, 3 and 10 control steps the sum of rewards, the
probability that the SLO is breached in them, for how many seconds, and what the resources cost. As everywhere in this room each model has
a twin that doesn't know the action, equal in all else. The difference of an action's reward to `noop`'s is the model's word on its
effect.

Models learn by how much the next steps differ from *the same again*: what the last one earned, as often as there are steps ahead. Where
that isn't known (a live observation doesn't tell it) what the application usually earns stands in for it. As in `next_state` a forecast of
decisions at which nothing is asked for comes first, and then what that misses where something is (`corrections`).

`returns` foretells rewards, too, but for planning alone: over one horizon, of what was lived under the same randomness where there are such
decisions. This model is the one to score: with its twin, its heads and its calibration.

How soon a breach will be over is told by the seconds of breach that are foretold: the order of these is compared with the order of the
true times, of which some are cut off by the run's end.

Upstream: `reward_rows`. Downstream: `reward_scores`, controllers that plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import Asked
from otel_control_gym.baselines.corrections import Corrected, fit_correction, fit_forecast
from otel_control_gym.baselines.evaluations import Evaluation, Task
from otel_control_gym.baselines.folds import Fold, folds_of
from otel_control_gym.baselines.next_state import TWINS, Twin
from otel_control_gym.baselines.regressors import MODEL_CLASSES, Loss, ModelClass
from otel_control_gym.baselines.reward_rows import (
    OF_A_CORRECTION,
    decision_action_names,
    decision_actions,
    decision_names,
    decision_rows,
)
from otel_control_gym.baselines.rows import node_rows
from otel_control_gym.baselines.states import State, with_actions
from otel_control_gym.baselines.windows import (
    HORIZON_STEPS,
    REWARD_COMPONENTS,
    CampaignWindows,
    RunWindows,
    load_windows,
)

__all__ = (
    "HEADS",
    "Judgement",
    "RewardFold",
    "RewardKey",
    "RewardModel",
    "decision_panel",
    "evaluate",
    "features",
    "judge",
    "train",
    "train_on",
    "wanted_of",
)

Float = npt.NDArray[np.float64]

HEADS: tuple[str, ...] = ("reward", "breach", "breach_s", "cost")
"""Sum of rewards; whether the SLO is breached (0 or 1; foretold: its probability); seconds of breach; cost units."""
_LOSSES: tuple[Loss, ...] = ("absolute_error", "squared_error", "absolute_error", "absolute_error")
"""Of the heads: medians, but of a breach its mean, which is a probability."""
_LEAST = np.array([0.01, 0.01, 1.0, 0.001])
"""Differences of the heads below which nobody cares."""


class Judgement(NamedTuple):
    """What is foretold of each candidate, [K]."""

    reward: Float  #: sum over the steps
    breach_probability: Float
    breach_s: Float
    cost: Float


class RewardKey(NamedTuple):
    """Which of a fold's models."""

    twin: Twin
    model_class: ModelClass
    horizon: int  #: control steps


class RewardFold(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All models of a fold."""

    fold: Fold
    models: Mapping[RewardKey, Corrected]
    usual: Mapping[str, Float]  #: application -> [len(EARNED)] what a step earned on average; "": anywhere


class RewardModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train reward` keeps."""

    step_seconds: int
    columns: tuple[str, ...]
    folds: tuple[RewardFold, ...]


class DecisionPanel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All decisions of some runs: R rows."""

    inputs: Float  #: [R, P]
    earned: Float  #: [R, len(EARNED)] in the last step
    actions: Mapping[int, Float]  #: horizon in steps -> [R, A]
    wanted: Mapping[int, Float]  #: horizon in steps -> [R, len(HEADS)]
    run: npt.NDArray[np.int64]  #: [R] position of the run
    decision: npt.NDArray[np.int64]  #: [R]
    configuration: tuple[str, ...]  #: [R]
    asked: npt.NDArray[np.bool_]  #: [R] whether something is asked for


def train(task: Task) -> RewardModel:
    """Return the models of a campaign's split.

    Raises: UsageError: there is no such campaign or split, or nothing to train on. DatasetError: a file can't be read.
    """
    windows = load_windows(task.directory)
    families = {run.family_id for run in windows.runs}
    return train_on(windows, folds_of(task.directory, task.split, families), seeds=task.seeds)


def train_on(windows: CampaignWindows, folds: Sequence[Fold], *, seeds: Sequence[int]) -> RewardModel:
    """Return the models of some folds of windows that are there already."""
    panel = decision_panel(windows.runs)
    family = np.array([windows.runs[number].family_id for number in panel.run])
    names = decision_names(node_rows(windows.runs[0].state))
    read = np.array([position for position, name in enumerate(names) if name in OF_A_CORRECTION])
    fitted = []
    for fold in folds:
        mine = np.isin(family, sorted(fold.train | fold.validation))
        usual = _usual(panel.configuration, panel.earned, mine)
        quiet, acted = mine & ~panel.asked, mine & panel.asked
        models: dict[RewardKey, Corrected] = {}
        for horizon in HORIZON_STEPS:
            start = again(panel.configuration, panel.earned, usual, horizon, windows.step_seconds)
            change = panel.wanted[horizon] - start
            for model_class in MODEL_CLASSES:
                forecast = fit_forecast(
                    panel.inputs[quiet],
                    _chosen(panel.configuration, quiet),
                    change[quiet],
                    np.isin(family[quiet], sorted(fold.validation)),
                    means=np.zeros((0, len(HEADS)), np.int64),
                    least=_LEAST,
                    losses=_LOSSES,
                    model_class=model_class,
                    seeds=seeds,
                )
                for twin in TWINS:
                    models[RewardKey(twin, model_class, horizon)] = fit_correction(
                        forecast,
                        panel.inputs[acted],
                        panel.actions[horizon][acted] if twin == "action" else None,
                        _chosen(panel.configuration, acted),
                        change[acted],
                        family[acted].tolist(),
                        np.ones(int(acted.sum()), np.int64),
                        read=read,
                        seeds=seeds,
                        means=True,
                    )
        fitted.append(RewardFold(fold=fold, models=models, usual=usual))
    return RewardModel(step_seconds=windows.step_seconds, columns=names, folds=tuple(fitted))


def evaluate(model: RewardModel, task: Task) -> Evaluation:
    """Return the scores on families that weren't trained on.

    Raises: UsageError: there is no such campaign. DatasetError: a file can't be read.
    """
    from otel_control_gym.baselines.reward_scores import score

    return score(model, load_windows(task.directory), task)


def features(model: RewardModel) -> Sequence[str]:
    """Return the names of what the models read."""
    return [*model.columns, *decision_action_names()]


def judge(
    models: RewardFold,
    state: State,
    candidates: Sequence[Asked | None],
    *,
    horizon: int = 3,
    twin: Twin = "action",
    model_class: ModelClass = "boosted",
) -> Judgement:
    """Return what each candidate would bring in the next `horizon` control steps, all of them weighed at once.

    Args:
        models: of a fold; of a model trained on a split of the campaign there is one.
        state: of the decision (D = 1), as `states.state_of` makes it of an observation.
        candidates: what could be asked for; None: `noop`.
        horizon: 1, 3 or 10.
        twin: the passive one gives every candidate the same.
        model_class: which.
    """
    several = with_actions(state, candidates)
    rows = node_rows(several)
    names = (state.system.name,) * len(candidates)
    asked = np.array([one is not None for one in several.now], np.int64)
    change = models.models[RewardKey(twin, model_class, horizon)].predict(
        decision_rows(several, rows),
        decision_actions(several, rows, horizon * state.step_seconds) if twin == "action" else None,
        names,
        asked if twin == "action" else np.zeros_like(asked),
    )
    start = again(names, several.earned, models.usual, horizon, state.step_seconds)
    return Judgement(*as_heads(start + change, horizon * state.step_seconds).T)


def again(
    configurations: Sequence[str], earned: Float, usual: Mapping[str, Float], horizon: int, step_seconds: int
) -> Float:
    """Return the heads, [R, len(HEADS)], if every step is as the last one was; where that isn't known, as a step usually is."""
    step = np.where(np.isfinite(earned), earned, [usual.get(name, usual[""]) for name in configurations])
    reward, breach_s, cost = step.T
    return np.stack(
        [reward * horizon, np.clip(breach_s / step_seconds, 0.0, 1.0), breach_s * horizon, cost * horizon], axis=-1
    )


def as_heads(foretold: Float, horizon_s: int) -> Float:
    """Return what was foretold, [..., len(HEADS)], within what can be."""
    most = {"breach": 1.0, "breach_s": float(horizon_s)}
    columns = [
        foretold[..., number] if name == "reward" else np.clip(foretold[..., number], 0.0, most.get(name))
        for number, name in enumerate(HEADS)
    ]
    return np.stack(columns, axis=-1)


def decision_panel(runs: Sequence[RunWindows]) -> DecisionPanel:
    """Return all decisions of runs as rows."""
    inputs, wanted = [], {horizon: [wanted_of(run, horizon) for run in runs] for horizon in HORIZON_STEPS}
    actions: dict[int, list[Float]] = {horizon: [] for horizon in HORIZON_STEPS}
    for run in runs:
        rows = node_rows(run.state)
        inputs.append(decision_rows(run.state, rows))
        for horizon in HORIZON_STEPS:
            actions[horizon].append(decision_actions(run.state, rows, horizon * run.state.step_seconds))
    lengths = [len(run.decisions) for run in runs]
    return DecisionPanel(
        inputs=np.concatenate(inputs),
        earned=np.concatenate([run.state.earned for run in runs]),
        actions={horizon: np.concatenate(parts) for horizon, parts in actions.items()},
        wanted={horizon: np.concatenate(parts) for horizon, parts in wanted.items()},
        run=np.repeat(np.arange(len(runs)), lengths),
        decision=np.concatenate([np.arange(length) for length in lengths]),
        configuration=tuple(
            run.configuration for run, length in zip(runs, lengths, strict=True) for _ in range(length)
        ),
        asked=np.array([now is not None for run in runs for now in run.state.now], bool),
    )


def wanted_of(run: RunWindows, horizon: int) -> Float:
    """Return what the steps after each decision brought, [D, len(HEADS)]; NaN where the run is over before."""
    component = {name: run.components[:, :horizon, number] for number, name in enumerate(REWARD_COMPONENTS)}
    breach = component["recovery_time"].sum(axis=1)
    return np.stack(
        [
            run.rewards[:, :horizon].sum(axis=1),
            np.where(np.isnan(breach), np.nan, breach > 0),
            breach,
            component["resource_cost"].sum(axis=1),
        ],
        axis=-1,
    )


def _usual(configurations: Sequence[str], earned: Float, rows: npt.NDArray[np.bool_]) -> dict[str, Float]:
    names = np.array(configurations)
    found = {name: np.nanmean(earned[rows & (names == name)], axis=0) for name in sorted(set(names[rows].tolist()))}
    return {"": np.nanmean(earned[rows], axis=0), **found}


def _chosen(names: Sequence[str], rows: npt.NDArray[np.bool_]) -> list[str]:
    return [name for name, chosen in zip(names, rows, strict=True) if chosen]
