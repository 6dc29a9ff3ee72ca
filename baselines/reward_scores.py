"""Scores of reward models: how far off the reward is, how well calibrated a breach is, which breach ends first, what cost is missed by.

In: models, a campaign's windows. Out: an `Evaluation`. Every fold's models judge the families that they didn't see. Beside them stand
*the same again* (the last step's reward, for every step ahead) and *the usual* (the mean over the training families of the application).
Upstream: `reward_model`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from otel_control_gym.baselines.evaluations import Cell, Evaluation, Table, Task
from otel_control_gym.baselines.intervals import Interval, family_scores, interval_of, mean_interval, ratio_interval
from otel_control_gym.baselines.next_state import TWINS
from otel_control_gym.baselines.regressors import MODEL_CLASSES
from otel_control_gym.baselines.reward_model import (
    HEADS,
    DecisionPanel,
    RewardFold,
    RewardKey,
    RewardModel,
    again,
    as_heads,
    decision_panel,
)
from otel_control_gym.baselines.states import EARNED
from otel_control_gym.baselines.windows import HORIZON_STEPS, CampaignWindows, RunWindows
from otel_control_gym.engine.errors import UsageError

__all__ = ("concordance", "score")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_AGAIN, _USUAL = "the same again", "the usual"
_UNKNOWN = np.full(len(EARNED), np.nan)
_BINS = 10  #: of the calibration
_SUBSETS = ("all decisions", "with an action", "randomised decisions")


class _Judged(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """R decisions at one horizon, judged by all models."""

    runs: Sequence[RunWindows]
    panel: DecisionPanel
    horizon: int
    judged: Mapping[str, Float]  #: model's name -> [R, len(HEADS)]


def score(model: RewardModel, windows: CampaignWindows, task: Task) -> Evaluation:
    """Return the scores of a model's folds on the families that they didn't see.

    Raises: UsageError: no family of the campaign is to be scored.
    """
    parts = [part for models in model.folds for part in _judge_fold(models, windows)]
    if not parts:
        raise UsageError(
            f"no run of {windows.campaign!r} is on the test side of split {task.split!r}\n  play more of it"
        )
    errors, error_figures = _error_table(parts, model.step_seconds)
    breaches, breach_figures = _breach_table(parts, model.step_seconds)
    recovery, recovery_figures = _recovery_table(parts, model.step_seconds)
    return Evaluation(
        baseline="reward",
        campaign=windows.campaign,
        split=task.split,
        families=len({run.family_id for part in parts for run in part.runs}),
        tables=(errors, breaches, _calibration_table(parts, model.step_seconds), recovery),
        figures={"errors": error_figures, "breach": breach_figures, "recovery": recovery_figures},
    )


def concordance(foretold: Float, times: Float, ended: Bool) -> float:
    """Return Harrell's C: of the pairs whose order is known, the share that is foretold in that order; ties count half.

    A pair's order is known if the shorter time ended, and wasn't cut off (Harrell et al., JAMA 1982). NaN without such pairs.
    """
    shorter = (times[:, np.newaxis] < times[np.newaxis]) & ended[:, np.newaxis]
    right = foretold[:, np.newaxis] < foretold[np.newaxis]
    tied = foretold[:, np.newaxis] == foretold[np.newaxis]
    count = shorter.sum()
    return float((shorter & right).sum() + (shorter & tied).sum() / 2) / count if count else float("nan")


def _judge_fold(models: RewardFold, windows: CampaignWindows) -> list[_Judged]:
    runs = windows.of(models.fold.scored)
    if not runs:
        return []
    panel = decision_panel(runs)
    learnt = decision_panel(windows.of(models.fold.train))
    found = []
    for horizon in HORIZON_STEPS:
        start = again(panel.configuration, panel.earned, models.usual, horizon, windows.step_seconds)
        judged = {
            f"{model_class}, {'action known' if twin == 'action' else 'passive'}": as_heads(
                start
                + models.models[RewardKey(twin, model_class, horizon)].predict(
                    panel.inputs,
                    panel.actions[horizon] if twin == "action" else None,
                    panel.configuration,
                    panel.asked.astype(np.int64),
                ),
                horizon * windows.step_seconds,
            )
            for model_class in MODEL_CLASSES
            for twin in TWINS
        }
        judged[_AGAIN] = again(panel.configuration, panel.earned, {"": _UNKNOWN}, horizon, windows.step_seconds)
        judged[_USUAL] = _usual(panel, learnt, horizon)
        found.append(_Judged(runs=runs, panel=panel, horizon=horizon, judged=judged))
    return found


def _usual(panel: DecisionPanel, learnt: DecisionPanel, horizon: int) -> Float:
    """Return the means over the training decisions of the application; of one that training didn't see, over all."""
    wanted, names = learnt.wanted[horizon], np.array(learnt.configuration)
    everywhere = np.nanmean(wanted, axis=0)
    means = {name: np.nanmean(wanted[names == name], axis=0) for name in sorted(set(learnt.configuration))}
    usual: Float = np.stack([np.asarray(means.get(name, everywhere)) for name in panel.configuration])
    return usual


def _subset(part: _Judged, name: str) -> Bool:
    pairs = zip(part.panel.run, part.panel.decision, strict=True)
    if name == "with an action":
        return np.array([part.runs[r].state.now[d] is not None for r, d in pairs], bool)
    if name == "randomised decisions":
        return np.array([part.runs[r].decisions[d].randomised for r, d in pairs], bool)
    return np.ones(len(part.panel.run), bool)


def _scores(parts: Sequence[_Judged], subset: str, head: str, *, squared: bool = False) -> tuple[list[str], Any, int]:
    """Return the models, their absolute (squared) errors by family, and how many decisions these are of."""
    number, names = HEADS.index(head), list(parts[0].judged)
    families: list[str] = []
    cells: list[tuple[str, ...]] = []
    errors = []
    for part in parts:
        wanted = part.panel.wanted[part.horizon][:, number]
        found = np.stack([np.abs(part.judged[name][:, number] - wanted) for name in names])
        kept = _subset(part, subset) & np.isfinite(found).all(axis=0)
        rows = np.flatnonzero(kept)
        families += [part.runs[part.panel.run[row]].family_id for row in rows]
        cells += [(part.panel.configuration[row],) for row in rows]
        errors.append(found[:, kept] ** 2 if squared else found[:, kept])
    joined = np.concatenate(errors, axis=1)
    return names, family_scores(families, cells, [head] * len(families), joined), joined.shape[1]


def _of_horizon(parts: Sequence[_Judged], horizon: int) -> list[_Judged]:
    return [part for part in parts if part.horizon == horizon]


def _error_table(parts: Sequence[_Judged], step_seconds: int) -> tuple[Table, dict[str, Any]]:
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, Any] = {}
    for head in ("reward", "cost", "breach_s"):
        for subset in _SUBSETS:
            for horizon in HORIZON_STEPS:
                names, scores, count = _scores(_of_horizon(parts, horizon), subset, head)
                for number, name in enumerate(names):
                    interval = mean_interval(scores, number)
                    rows.append(
                        (
                            head,
                            subset,
                            horizon * step_seconds,
                            name,
                            interval.shown,
                            interval.families,
                            count,
                            interval.detectable,
                        )
                    )
                    figures[f"{head}/{subset}/{horizon}/{name}"] = interval
                for model_class in MODEL_CLASSES:
                    pair = [names.index(f"{model_class}, {twin}") for twin in ("action known", "passive")]
                    ratio = ratio_interval(scores, *pair)
                    name = f"{model_class}: action known / passive"
                    rows.append(
                        (
                            head,
                            subset,
                            horizon * step_seconds,
                            name,
                            ratio.shown,
                            ratio.families,
                            count,
                            ratio.detectable,
                        )
                    )
                    figures[f"{head}/{subset}/{horizon}/{name}"] = ratio
    columns = (
        "of",
        "decisions",
        "s",
        "model",
        "mean absolute error",
        "families",
        "decisions scored",
        "smallest difference found",
    )
    return Table(title="Reward, cost and seconds of breach", columns=columns, rows=tuple(rows)), figures


def _breach_table(parts: Sequence[_Judged], step_seconds: int) -> tuple[Table, dict[str, Any]]:
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, Any] = {}
    for subset in _SUBSETS:
        for horizon in HORIZON_STEPS:
            here = _of_horizon(parts, horizon)
            names, scores, count = _scores(here, subset, "breach", squared=True)
            for number, name in enumerate(names):
                brier = mean_interval(scores, number)
                foretold, came = _breaches(here, subset, name)
                area = float(roc_auc_score(came, foretold)) if 0 < came.sum() < len(came) else None
                off = _calibration_error(foretold, came)
                rows.append((subset, horizon * step_seconds, name, brier.shown, area, off, brier.families, count))
                figures[f"{subset}/{horizon}/{name}"] = {"brier": brier, "auc": area, "calibration_error": off}
    columns = ("decisions", "s", "model", "Brier score", "AUC", "calibration error", "families", "decisions scored")
    note = (
        f"Calibration error: mean distance of foretold and true share over {_BINS} bins, weighed with what is in them."
    )
    return Table(title="Will the SLO be breached?", columns=columns, rows=tuple(rows), note=note), figures


def _breaches(parts: Sequence[_Judged], subset: str, name: str) -> tuple[Float, Float]:
    number = HEADS.index("breach")
    foretold, came = [], []
    for part in parts:
        wanted = part.panel.wanted[part.horizon][:, number]
        kept = _subset(part, subset) & np.isfinite(wanted) & np.isfinite(part.judged[name][:, number])
        foretold.append(part.judged[name][kept, number])
        came.append(wanted[kept])
    return np.concatenate(foretold), np.concatenate(came)


def _bins(foretold: Float) -> npt.NDArray[np.int64]:
    return np.minimum((foretold * _BINS).astype(np.int64), _BINS - 1)


def _calibration_error(foretold: Float, came: Float) -> float | None:
    if not len(foretold):
        return None
    bins = _bins(foretold)
    gaps = [
        (bins == number).mean() * abs(foretold[bins == number].mean() - came[bins == number].mean())
        for number in sorted(set(bins.tolist()))
    ]
    return float(sum(gaps))


def _calibration_table(parts: Sequence[_Judged], step_seconds: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for horizon in HORIZON_STEPS:
        foretold, came = _breaches(_of_horizon(parts, horizon), _SUBSETS[0], "boosted, action known")
        bins = _bins(foretold)
        for number in range(_BINS):
            inside = bins == number
            if inside.any():
                rows.append(
                    (
                        horizon * step_seconds,
                        f"{number / _BINS:.1f} to {(number + 1) / _BINS:.1f}",
                        int(inside.sum()),
                        float(foretold[inside].mean()),
                        float(came[inside].mean()),
                    )
                )
    columns = ("s", "foretold", "decisions", "mean foretold", "share that came")
    return Table(title="Calibration of a breach (boosted, action known)", columns=columns, rows=tuple(rows))


def _recovery_table(parts: Sequence[_Judged], step_seconds: int) -> tuple[Table, dict[str, Any]]:
    """Return in which order breaches end, foretold by the seconds of breach in the longest horizon."""
    here = _of_horizon(parts, max(HORIZON_STEPS))
    number = HEADS.index("breach_s")
    family: list[str] = []
    times: list[float] = []
    ended: list[bool] = []
    foretold: dict[str, list[float]] = {name: [] for name in here[0].judged}
    for part in here:
        for row, (r, d) in enumerate(zip(part.panel.run, part.panel.decision, strict=True)):
            run = part.runs[r]
            if run.breached[d]:
                family.append(run.family_id)
                times.append(float(run.recovery_steps[d] * step_seconds))
                ended.append(bool(run.recovered[d]))
                for name, judged in part.judged.items():
                    foretold[name].append(float(judged[row, number]))
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, Any] = {}
    for name, values in foretold.items():
        interval = _concordance_interval(family, np.array(values), np.array(times), np.array(ended, bool))
        rows.append((name, interval.shown, interval.families, len(times), len(times) - sum(ended)))
        figures[name] = interval
    columns = ("model", "concordance", "families", "decisions in breach", "cut off")
    note = (
        "Harrell's C of time to recovery: 0.5 is chance. Times that the run's end cut off count as at least that long."
    )
    return Table(title="Which breach is over first?", columns=columns, rows=tuple(rows), note=note), figures


def _concordance_interval(family: Sequence[str], foretold: Float, times: Float, ended: Bool) -> Interval:
    names = sorted(set(family))
    rows = [np.flatnonzero(np.array(family) == name) for name in names]

    def statistic(weights: Float) -> Float:
        found = []
        for counts in weights:
            chosen = np.concatenate([np.tile(own, int(count)) for own, count in zip(rows, counts, strict=True)])
            found.append(concordance(foretold[chosen], times[chosen], ended[chosen]))
        return np.array(found)

    return interval_of(statistic, len(names))
