"""Passive forecasts where nobody acts, beside AutoETS, AutoARIMA and SeasonalNaive: does the twin without the action hold its own?

In: a campaign's windows. Out: the passive models of `next_state`, and their scores on *windows without action*: none asked for within the
look back or the longest horizon. The classical methods are fitted, series by series, to all that the run had shown by then, which is at
least as much as the passive models see, and they see nothing of what lies ahead either.

Fitting them takes a while, so a few windows are drawn: one of every run, `_ENTITIES` of its services, every feature; and all methods are
scored on the very same. A passive model that is much worse than the best of them is no fair opponent for one that knows the action.

Upstream: `next_state`. Downstream: `ocg baseline evaluate`, reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.channels import NODE_TARGETS
from otel_control_gym.baselines.evaluations import Cell, Evaluation, Table, Task
from otel_control_gym.baselines.folds import folds_of
from otel_control_gym.baselines.intervals import FamilyScores, Interval, family_scores, mean_interval, ratio_interval
from otel_control_gym.baselines.next_state import FoldModels, NextStateModel, features, foretell, train_on
from otel_control_gym.baselines.regressors import MODEL_CLASSES
from otel_control_gym.baselines.states import LOOK_BACK_STEPS, selected
from otel_control_gym.baselines.windows import HORIZON_STEPS, CampaignWindows, RunWindows, load_windows
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.randomness import derive_seed, draw_bits

__all__ = ("CLASSICAL", "evaluate", "features", "quiet_window", "score", "train")

Float = npt.NDArray[np.float64]

CLASSICAL: tuple[str, ...] = ("AutoETS", "AutoARIMA", "SeasonalNaive")
_SEASON_STEPS = LOOK_BACK_STEPS  #: of SeasonalNaive; a run of ten minutes shows no longer one
_LEAST_STEPS = 12  #: of a series that classical methods are fitted to
_ENTITIES = 3  #: services of a run whose series are foretold


class _Window(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A service's series before a quiet decision, and what came."""

    run: RunWindows
    decision: int
    node: int
    target: int
    series: Float  #: [steps] whole
    following: Float  #: [longest horizon]


def train(task: Task) -> NextStateModel:
    """Return the passive models of a campaign's split.

    Raises: UsageError: there is no such campaign or split, or nothing to train on. DatasetError: a file can't be read.
    """
    windows = load_windows(task.directory)
    folds = folds_of(task.directory, task.split, {run.family_id for run in windows.runs})
    return train_on(windows, folds, seeds=task.seeds, twins=("passive",))


def evaluate(model: NextStateModel, task: Task) -> Evaluation:
    """Return the scores on families that weren't trained on.

    Raises: UsageError: there is no such campaign, or `statsforecast` isn't installed. DatasetError: a file can't be read.
    """
    return score(model, load_windows(task.directory), task)


def score(model: NextStateModel, windows: CampaignWindows, task: Task) -> Evaluation:
    """Return the scores of a model's folds on quiet windows of families that they didn't see.

    Raises: UsageError: there is no quiet window, or `statsforecast` isn't installed.
    """
    found = [(models, _windows_of(windows.of(models.fold.scored))) for models in model.folds]
    everything = [window for _, quiet in found for window in quiet]
    if not everything:
        raise UsageError(f"{windows.campaign!r} has no window without action that is to be scored\n  play more of it")
    foretold = _classical(everything)
    for name in ("persistence", *(f"{model_class}, passive" for model_class in MODEL_CLASSES)):
        foretold[name] = np.concatenate([_own(name, models, quiet) for models, quiet in found])
    scales = np.concatenate([_scales(models, quiet) for models, quiet in found])
    truth = np.stack([window.following[[steps - 1 for steps in HORIZON_STEPS]] for window in everything])
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, Any] = {}
    for position, steps in enumerate(HORIZON_STEPS):
        errors = {
            name: np.abs(values[:, position] - truth[:, position]) / scales[:, position]
            for name, values in foretold.items()
        }
        scores, names = _scores(everything, errors)
        means = {name: mean_interval(scores, number) for number, name in enumerate(names)}
        best = CLASSICAL[int(np.argmin([_value(means[name]) for name in CLASSICAL]))]
        rows += [_row(steps, windows.step_seconds, name, interval, len(everything)) for name, interval in means.items()]
        figures[str(steps)] = {"errors": means, "best_classical": best, "passive_over_best_classical": {}}
        for model_class in MODEL_CLASSES:
            ratio = ratio_interval(scores, names.index(f"{model_class}, passive"), names.index(best))
            rows.append(_row(steps, windows.step_seconds, f"{model_class}, passive / {best}", ratio, len(everything)))
            figures[str(steps)]["passive_over_best_classical"][model_class] = ratio
    return Evaluation(
        baseline="forecast",
        campaign=windows.campaign,
        split=task.split,
        families=len({window.run.family_id for window in everything}),
        tables=(
            Table(
                title="Scaled absolute error of passive forecasts on windows without action",
                columns=("steps", "s", "model", "error", "families", "series", "smallest difference found"),
                rows=tuple(rows),
                note="1 is persistence on training families. A passive model is to be at most 1.05 times the best classical one.",
            ),
        ),
        figures={"horizons": figures},
    )


def _value(interval: Interval) -> float:
    return np.inf if interval.value is None else interval.value


def quiet_window(run: RunWindows) -> int | None:
    """Return a decision of a run with enough before and behind it and no action near it, drawn by the run's family; None: there is none."""
    steps = max(HORIZON_STEPS)
    quiet = [
        position
        for position in range(len(run.decisions))
        if position + LOOK_BACK_STEPS >= _LEAST_STEPS
        and np.isfinite(run.nodes[position, steps - 1]).any()
        and not run.state.past[position]
        and all(asked is None for asked in run.state.now[position : position + steps])
    ]
    return quiet[draw_bits(derive_seed(0, f"quiet window/{run.run_id}")) % len(quiet)] if quiet else None


def _windows_of(runs: Sequence[RunWindows]) -> list[_Window]:
    found = []
    for run in runs:
        decision = quiet_window(run)
        if decision is None:
            continue
        # Every step's mean is the newest of the decision at its end: before the first decision, its look back.
        series = np.concatenate([run.state.nodes[0], run.state.nodes[1 : decision + 1, -1]])  # [steps, N, C]
        services = range(len(run.state.system.nodes))
        drawn = sorted(services, key=lambda node: draw_bits(derive_seed(0, f"series/{run.run_id}"), node))
        for node in drawn[:_ENTITIES]:
            for target in range(len(NODE_TARGETS)):
                window = _Window(
                    run=run,
                    decision=decision,
                    node=node,
                    target=target,
                    series=_whole(series[:, node, target]),
                    following=run.nodes[decision, :, node, target],
                )
                if len(window.series) >= _LEAST_STEPS and np.isfinite(window.following).all():
                    found.append(window)
    return found


def _whole(series: Float) -> Float:
    """Return the stretch of known values that ends a series."""
    unknown = np.flatnonzero(~np.isfinite(series))
    return series[unknown[-1] + 1 :] if len(unknown) else series


def _classical(windows: Sequence[_Window]) -> dict[str, Float]:
    """Return what each classical method foretells of each window, [windows, horizons].

    Raises: UsageError: `statsforecast` isn't installed.
    """
    try:
        from statsforecast.models import AutoARIMA, AutoETS, Naive, SeasonalNaive
    except ImportError as error:
        raise UsageError(
            "statsforecast isn't installed, against which passive forecasts are scored\n  pip install 'otel-control-gym[baselines]'"
        ) from error
    steps = max(HORIZON_STEPS)
    at = [horizon - 1 for horizon in HORIZON_STEPS]
    methods = {"AutoETS": AutoETS(), "AutoARIMA": AutoARIMA(), "SeasonalNaive": SeasonalNaive(_SEASON_STEPS)}
    found = {}
    for name, method in methods.items():
        rows = []
        for window in windows:
            chosen = Naive() if np.ptp(window.series) == 0 else method  # of a constant nothing is to be estimated
            rows.append(np.maximum(chosen.forecast(y=window.series, h=steps)["mean"][at], 0.0))
        found[name] = np.stack(rows)
    return found


def _own(name: str, models: FoldModels, windows: Sequence[_Window]) -> Float:
    """Return what persistence, or one of our models, foretells of windows, [windows, horizons]."""
    rows: list[list[float]] = []
    known: dict[tuple[str, int], Float] = {}
    for window in windows:
        if name == "persistence":
            rows.append([float(window.series[-1])] * len(HORIZON_STEPS))
            continue
        key = (window.run.run_id, window.decision)
        if key not in known:
            state = selected(window.run.state, [window.decision])
            known[key] = np.stack(
                [
                    foretell(models, state, horizon=steps, twin="passive", model_class=_class_of(name)).nodes[0]
                    for steps in HORIZON_STEPS
                ]
            )
        rows.append(known[key][:, window.node, window.target].tolist())
    return np.array(rows).reshape(len(windows), len(HORIZON_STEPS))


def _class_of(name: str) -> Any:
    return name.split(",")[0]


def _scales(models: FoldModels, windows: Sequence[_Window]) -> Float:
    rows = [
        [
            models.scales["node", steps].of(
                [window.run.configuration], [window.run.state.system.nodes[window.node]], NODE_TARGETS[window.target]
            )[0]
            for steps in HORIZON_STEPS
        ]
        for window in windows
    ]
    return np.array(rows).reshape(len(windows), len(HORIZON_STEPS))


def _scores(windows: Sequence[_Window], errors: Mapping[str, Float]) -> tuple[FamilyScores, list[str]]:
    names = list(errors)
    return (
        family_scores(
            [window.run.family_id for window in windows],
            [(window.run.configuration, window.run.state.system.nodes[window.node]) for window in windows],
            [NODE_TARGETS[window.target] for window in windows],
            np.stack([errors[name] for name in names]),
        ),
        names,
    )


def _row(steps: int, step_seconds: int, name: str, interval: Interval, series: int) -> tuple[Cell, ...]:
    return steps, steps * step_seconds, name, interval.shown, interval.families, series, interval.detectable
