"""Was it an action or a fault? A classification of pairs that are matched on service, moment and symptom; and what an action adds to a
fault.

In: a campaign with `matched.parquet` and `factorial.parquet`. Out: the baseline `cause`: a logistic regression per comparison and set
of inputs, scored on families that it didn't see, as balanced accuracy with intervals over families; one half is chance.

Inputs are the telemetry of the service and of the entry before the cause, soon after it, and later:

- *dynamics*: without what only echoes an actuator (replicas, restarts);
- *telemetry*: all of it;
- *with the action log*: and whether the policy asked for anything at that moment. That an action can be told by its own log isn't news:
  the row says how much of the answer the telemetry lacks.

Upstream: `contrasts`. Downstream: `catalogue`, the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from otel_control_gym.baselines.contrast_tables import CONTRASTED_FEATURES, read_factorial, read_matched
from otel_control_gym.baselines.contrasts import Cause, factorial_effects, matched_pairs
from otel_control_gym.baselines.evaluations import Evaluation, Table, Task
from otel_control_gym.baselines.folds import Fold, folds_of
from otel_control_gym.baselines.intervals import Interval, interval_of
from otel_control_gym.engine.errors import UsageError

__all__ = ("INPUTS", "CauseBaseline", "balanced_accuracy", "evaluate", "features", "train")

Float = npt.NDArray[np.float64]

INPUTS: tuple[str, ...] = ("dynamics", "telemetry", "with the action log")
_ECHOES = ("replicas_ready", "restarts")
_SPANS = ((0, 2), (2, 99))  #: steps after the cause: soon, later
_FEATURES = (*CONTRASTED_FEATURES, "slo_satisfaction")
_LARGE = ("memory_usage_bytes", "network_rx_bytes_per_s", "network_tx_bytes_per_s")
_LARGE_UNIT = 2.0**20  #: so that all inputs are numbers of like size before they are standardised


class _Key(NamedTuple):
    comparison: str
    inputs: str


class CauseBaseline(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train cause` keeps: classifiers by fold."""

    folds: tuple[tuple[Fold, Mapping[_Key, Any]], ...]


def train(task: Task) -> CauseBaseline:
    """Return the classifiers of each fold.

    Raises: UsageError: there is no such split, or too few pairs in training families. DatasetError: there are no contrasts.
    """
    pairs = matched_pairs(read_matched(task.directory))
    folds = folds_of(task.directory, task.split, {cause.family_id for found in pairs for cause in found.causes})
    fitted = []
    for fold in folds:
        models: dict[_Key, Any] = {}
        for found in pairs:
            learnt = [cause for cause in found.causes if cause.family_id in fold.train | fold.validation]
            if len(learnt) < 4:
                raise UsageError(
                    f"{found.comparison}: {len(learnt)} matched branches in training families: too few to learn from\n"
                    "  play more: `ocg campaign contrast --branches`, or use split `crossed`"
                )
            wanted = np.array([cause.is_action for cause in learnt])
            for inputs in INPUTS:
                model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
                models[_Key(found.comparison, inputs)] = model.fit(_rows(learnt, inputs), wanted)
        fitted.append((fold, models))
    return CauseBaseline(folds=tuple(fitted))


def evaluate(model: CauseBaseline, task: Task) -> Evaluation:
    """Return balanced accuracies on families that weren't trained on, and the effects of the factorial.

    Raises: DatasetError: there are no contrasts.
    """
    pairs = matched_pairs(read_matched(task.directory))
    effects = factorial_effects(read_factorial(task.directory))
    accuracies: dict[_Key, tuple[int, Interval]] = {}
    for found in pairs:
        for inputs in INPUTS:
            scored: list[Cause] = []
            guesses: list[bool] = []
            for fold, models in model.folds:
                mine = [cause for cause in found.causes if cause.family_id in fold.scored]
                if mine:
                    scored += mine
                    guesses += map(bool, models[_Key(found.comparison, inputs)].predict(_rows(mine, inputs)))
            accuracies[_Key(found.comparison, inputs)] = (len(scored), balanced_accuracy(scored, guesses))
    dropped = {found.comparison: found.dropped for found in pairs}
    families = {cause.family_id for found in pairs for cause in found.causes}
    return Evaluation(
        baseline="cause",
        campaign=task.directory.name.removeprefix("campaign="),
        split=task.split,
        families=len({family for fold, _ in model.folds for family in fold.scored & families}),
        tables=(
            Table(
                title="Action or fault? On pairs matched on service, moment and symptom",
                columns=("comparison", "inputs", "branches", "pairs too far apart", "balanced accuracy (95 %)"),
                rows=tuple(
                    (key.comparison, key.inputs, count, dropped[key.comparison], accuracy.shown)
                    for key, (count, accuracy) in accuracies.items()
                ),
                note="0.5 is chance",
            ),
            Table(
                title="Neither, action, fault, both: effects on the reward from the action's moment on",
                columns=("stratum", "contrast", "families", "effect (95 %)", "smallest detectable"),
                rows=tuple(
                    (item.stratum, item.contrast, item.effect.families, item.effect.shown, item.effect.detectable)
                    for item in effects
                ),
            ),
        ),
        figures={
            "balanced_accuracy": {f"{key.comparison}, {key.inputs}": found for key, (_, found) in accuracies.items()},
            "pairs_too_far_apart": dropped,
            "factorial": effects,
        },
    )


def features(model: CauseBaseline) -> Sequence[str]:  # noqa: ARG001
    """Return the names of what the fullest set of inputs holds."""
    return (*_columns(INPUTS[1]), "asked for at that moment")


def balanced_accuracy(causes: Sequence[Cause], guesses: Sequence[bool]) -> Interval:
    """Return the mean of the shares of actions and of faults that were told right, with its bootstrap interval over families."""
    families = sorted({cause.family_id for cause in causes})
    totals = np.zeros((2, len(families)))
    right = np.zeros((2, len(families)))
    for cause, guess in zip(causes, guesses, strict=True):
        place = int(cause.is_action), families.index(cause.family_id)
        totals[place] += 1
        right[place] += cause.is_action == guess

    def accuracy(weights: Float) -> Float:
        with np.errstate(invalid="ignore"):
            found: Float = ((weights @ right.T) / (weights @ totals.T)).mean(axis=-1)
        return found

    return interval_of(accuracy, len(families))


def _columns(inputs: str) -> list[str]:
    names = [name for name in _FEATURES if inputs != "dynamics" or name not in _ECHOES]
    return [
        f"{place} {name}: {part}"
        for place in ("target", "entry")
        for name in names
        for part in ("before", *(f"change, steps {first} on" for first, _ in _SPANS))
    ]


def _rows(causes: Sequence[Cause], inputs: str) -> Float:
    names = [name for name in _FEATURES if inputs != "dynamics" or name not in _ECHOES]
    rows = np.array(
        [
            [
                value / (_LARGE_UNIT if name in _LARGE else 1.0)
                for place in ("target", "entry")
                for name in names
                for value in (
                    cause.before(place, name),
                    *(cause.change(place, name, first, end) for first, end in _SPANS),
                )
            ]
            for cause in causes
        ]
    )
    rows = np.nan_to_num(rows)
    if inputs == INPUTS[2]:
        rows = np.column_stack([rows, [float(cause.is_action) for cause in causes]])
    return rows
