"""Next states: what services and edges do in the control steps after a decision, by models that know the action and by twins that don't.

In: a campaign's windows. Out: for every fold two model classes (`regressors`), each as a pair of twins: one forecast of what goes on by
itself, and a correction each for rows that an action reaches (`corrections`), of the same rows, columns, candidates to tune over and
seeds, but for the columns of the action. The passive twin is even told which rows those are. Foretold are the dynamics (`channels`) 1, 3
and 10 control steps ahead: *direct*, by a model of that horizon, or *rolled out*, by the model of one step fed with what it foretold.
Beside them stand persistence, a seasonal naive forecast and a constant.

What is foretold is the change against the last step on the scale of `channels.seen`; errors are reckoned in the features' units and
scaled by persistence's error on training families (`scaling`).

Upstream: `panels`, `corrections`. Downstream: `next_state_scores`, `headline`, controllers that plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.channels import least, seen, shown
from otel_control_gym.baselines.corrections import Corrected, fit_correction, fit_forecast
from otel_control_gym.baselines.evaluations import Evaluation, Task
from otel_control_gym.baselines.folds import Fold, folds_of
from otel_control_gym.baselines.panels import KINDS, REACHES, TARGETS, Kind, Panel, action_names, panels_of, reach_of
from otel_control_gym.baselines.regressors import MODEL_CLASSES, ModelClass
from otel_control_gym.baselines.rows import Rows, action_blocks, edge_actions, edge_rows, node_rows
from otel_control_gym.baselines.scaling import Scales, fit_scales
from otel_control_gym.baselines.states import State, advanced
from otel_control_gym.baselines.windows import HORIZON_STEPS, CampaignWindows, RunWindows, load_windows

__all__ = (
    "OF_A_CORRECTION",
    "TWINS",
    "FoldModels",
    "Foretold",
    "NextStateModel",
    "Twin",
    "evaluate",
    "features",
    "foretell",
    "roll_out",
    "train",
    "train_on",
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Twin: TypeAlias = Literal["action", "passive"]

OF_A_CORRECTION: frozenset[str] = frozenset(
    [
        *(f"{feature}: now" for feature in ("request_rate", "error_ratio", "latency_mean_ms", "memory_usage_bytes")),
        *(f"{share}: now" for share in ("fullness", "ready_share", "memory_fullness")),
        "replicas_ready: now",
        "target fullness: now",
        "target ready_share: now",
        "hops from the entry",
        "offered: now",
    ]
)
"""Columns on which it may depend what an action does."""
LAGS_OF_A_LEVEL: tuple[str, ...] = ("change of 3 steps", "change of the look back", "change of the smoothed")
"""Means over earlier steps, less the last one, from which a forecast may start."""
TWINS: tuple[Twin, ...] = ("action", "passive")
"""The model that knows the action, and the one that doesn't."""


class Foretold(NamedTuple):
    """Dynamics of a control step, in the features' units."""

    nodes: Float  #: [D, N, len(NODE_TARGETS)]
    edges: Float  #: [D, E, len(EDGE_TARGETS)]


class Key(NamedTuple):
    """Which of a fold's models."""

    kind: Kind
    twin: Twin
    model_class: ModelClass
    horizon: int  #: control steps


class FoldModels(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All models of a fold."""

    fold: Fold
    models: Mapping[Key, Corrected]
    scales: Mapping[tuple[Kind, int], Scales]  #: by kind and horizon


class NextStateModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train next-state` keeps."""

    step_seconds: int
    columns: Mapping[Kind, tuple[str, ...]]
    folds: tuple[FoldModels, ...]


def train(task: Task) -> NextStateModel:
    """Return the models of a campaign's split.

    Raises: UsageError: there is no such campaign or split, or nothing to train on. DatasetError: a file can't be read.
    """
    windows = load_windows(task.directory)
    families = {run.family_id for run in windows.runs}
    return train_on(windows, folds_of(task.directory, task.split, families), seeds=task.seeds)


def train_on(
    windows: CampaignWindows,
    folds: Sequence[Fold],
    *,
    seeds: Sequence[int],
    twins: Sequence[Twin] = TWINS,
    model_classes: Sequence[ModelClass] = MODEL_CLASSES,
    horizons: Sequence[int] = HORIZON_STEPS,
) -> NextStateModel:
    """Return the models of some folds of windows that are there already."""
    panels = panels_of(windows.runs, horizons)
    families = np.array([run.family_id for run in windows.runs])
    fitted = []
    for fold in folds:
        models: dict[Key, Corrected] = {}
        scales: dict[tuple[Kind, int], Scales] = {}
        for kind, panel in panels.items():
            mine = rows_of(panel, windows.runs, fold.train | fold.validation)
            held = rows_of(panel, windows.runs, fold.validation)
            quiet = mine & ~panel.asked
            read = np.array([position for position, name in enumerate(panel.columns) if name in OF_A_CORRECTION])
            means = np.array(
                [[panel.columns.index(f"{name}: {lag}") for name in TARGETS[kind]] for lag in LAGS_OF_A_LEVEL]
            )
            for horizon in horizons:
                wanted = changes(panel, horizon)
                scales[kind, horizon] = _scales(panel, windows.runs, horizon, rows_of(panel, windows.runs, fold.train))
                reach = reach_of(panel.actions[horizon], kind)
                reached = mine & (reach > 0)
                for model_class in model_classes:
                    forecast = fit_forecast(
                        panel.inputs[quiet],
                        identities(panel, quiet),
                        wanted[quiet],
                        held[quiet],
                        means=means,
                        least=least(TARGETS[kind]),
                        losses=["absolute_error"] * len(TARGETS[kind]),
                        model_class=model_class,
                        seeds=seeds,
                    )
                    for twin in twins:
                        models[Key(kind, twin, model_class, horizon)] = fit_correction(
                            forecast,
                            panel.inputs[reached],
                            panel.actions[horizon][reached] if twin == "action" else None,
                            identities(panel, reached),
                            wanted[reached],
                            families[panel.run[reached]].tolist(),
                            reach[reached],
                            read=read,
                            seeds=seeds,
                            ways=len(REACHES),
                        )
        fitted.append(FoldModels(fold=fold, models=models, scales=scales))
    return NextStateModel(
        step_seconds=windows.step_seconds,
        columns={kind: panels[kind].columns for kind in KINDS},
        folds=tuple(fitted),
    )


def evaluate(model: NextStateModel, task: Task) -> Evaluation:
    """Return the scores on families that weren't trained on; writes `task.predictions`.

    Raises: UsageError: there is no such campaign. DatasetError: a file can't be read or written.
    """
    from otel_control_gym.baselines.next_state_scores import score

    return score(model, load_windows(task.directory), task)


def features(model: NextStateModel) -> Sequence[str]:
    """Return the names of what the models read."""
    return [f"{kind} {name}" for kind, columns in model.columns.items() for name in (*columns, *action_names(kind))]


def foretell(
    models: FoldModels, state: State, *, horizon: int, twin: Twin = "action", model_class: ModelClass = "boosted"
) -> Foretold:
    """Return the dynamics of the control step that ends `horizon` steps after each decision, foretold directly."""
    return _foretell(models, state, horizon, twin, model_class, action_blocks(state, horizon * state.step_seconds))


def roll_out(
    models: FoldModels, state: State, *, steps: int, twin: Twin = "action", model_class: ModelClass = "boosted"
) -> list[Foretold]:
    """Return the dynamics of each of the next steps, each foretold from those before it."""
    found = []
    for _ in range(steps):
        next_step = foretell(models, state, horizon=1, twin=twin, model_class=model_class)
        found.append(next_step)
        state = advanced(state, *next_step)
    return found


def _foretell(
    models: FoldModels, state: State, horizon: int, twin: Twin, model_class: ModelClass, blocks: Float
) -> Foretold:
    by_kind: dict[Kind, tuple[Rows, Float]] = {
        "node": (node_rows(state), blocks),
        "edge": (edge_rows(state), edge_actions(blocks, state.system)),
    }
    found = []
    for kind, (rows, actions) in by_kind.items():
        decisions, entities, width = rows.inputs.shape
        asked = actions.reshape(decisions * entities, -1)
        change = models.models[Key(kind, twin, model_class, horizon)].predict(
            rows.inputs.reshape(-1, width),
            asked if twin == "action" else None,
            rows.entities * decisions,
            reach_of(asked, kind),
        )
        found.append(shown(rows.current + change.reshape(rows.current.shape), TARGETS[kind]))
    return Foretold(*found)


def rows_of(panel: Panel, runs: Sequence[RunWindows], families: frozenset[str]) -> Bool:
    """Return which rows of a panel belong to runs of these families, [R]."""
    inside = np.array([run.family_id in families for run in runs], bool)
    return inside[panel.run]


def identities(panel: Panel, rows: Bool) -> tuple[str, ...]:
    """Return what rows are rows of."""
    return tuple(entity for entity, chosen in zip(panel.entity, rows, strict=True) if chosen)


def changes(panel: Panel, horizon: int) -> Float:
    """Return what is to be foretold, [R, T]: the change against the last step, as models see it."""
    return seen(panel.following[horizon], TARGETS[panel.kind]) - panel.current


def _scales(panel: Panel, runs: Sequence[RunWindows], horizon: int, rows: Bool) -> Scales:
    names = TARGETS[panel.kind]
    errors = np.abs(shown(panel.current[rows], names) - panel.following[horizon][rows])
    configurations = [runs[number].configuration for number in panel.run[rows]]
    return fit_scales(configurations, identities(panel, rows), names, errors)
