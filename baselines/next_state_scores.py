"""Scores of next-state models: tables, the headline, and the file from which anybody can reckon it again.

In: models, a campaign's windows. Out: an `Evaluation`. Every fold's models foretell the families that they didn't see; errors are put
together over the folds. Tables give the macro-average of scaled errors (`intervals`) by horizon and feature group, for all models and the
trivial ones; the headline is `headline`'s, on the predictions at decisions with an action.

Upstream: `next_state`. Downstream: `ocg baseline evaluate`, reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats

from otel_control_gym.baselines.channels import GROUPS, shown
from otel_control_gym.baselines.effect_cells import CellKey, Group, read_cells
from otel_control_gym.baselines.evaluations import Cell, Evaluation, Table, Task
from otel_control_gym.baselines.headline import PREDICTIONS_SCHEMA, Ratio, action_conditioned_over_passive, ratios_by
from otel_control_gym.baselines.intervals import Interval, family_scores, mean_interval
from otel_control_gym.baselines.next_state import (
    TWINS,
    FoldModels,
    Key,
    NextStateModel,
    Twin,
    roll_out,
)
from otel_control_gym.baselines.panels import KINDS, TARGETS, Kind, Panel, kept_decisions, panels_of, reach_of
from otel_control_gym.baselines.regressors import MODEL_CLASSES, ModelClass
from otel_control_gym.baselines.states import joined, selected
from otel_control_gym.baselines.windows import HORIZON_STEPS, CampaignWindows, RunWindows
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import UsageError

__all__ = ("PRIMARY", "score")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

PRIMARY: tuple[ModelClass, str] = ("boosted", "direct")
"""The pair of twins that the headline is about; the others stand beside it. It was chosen on runs of an earlier `mvp`, so a headline on
that campaign isn't quite fresh."""
_STRATA: Mapping[str, tuple[str, ...] | None] = {"randomised": ("randomised",), "all": None}


class _Scored(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """R rows of a panel at one horizon, foretold by all models, in the features' units; unknown, or not foretold: NaN."""

    horizon: int
    runs: Sequence[RunWindows]
    panel: Panel
    scales: Float  #: [R, T]
    foretold: Mapping[str, Float]  #: model's name -> [R, T]
    by_seed: Mapping[str, Float]  #: model's name -> [seeds, R, T], of what is seeded

    @property
    def truth(self) -> Float:
        """What came, [R, T]."""
        return self.panel.following[self.horizon]

    @property
    def acted(self) -> Bool:
        """Whether an action was asked for at the decision, or could have been by chance, [R]."""
        asked = [set(_acted(run)) for run in self.runs]
        return np.array([d in asked[r] for r, d in zip(self.panel.run, self.panel.decision, strict=True)], bool)

    def per_row(self, values: Sequence[str]) -> list[str]:
        """Return a value of each run for every row."""
        return [values[number] for number in self.panel.run]


def name_of(model_class: ModelClass, twin: Twin, method: str) -> str:
    """Return how tables name a model."""
    return f"{model_class} {method}, {'action known' if twin == 'action' else 'passive'}"


def score(model: NextStateModel, windows: CampaignWindows, task: Task) -> Evaluation:
    """Return the scores of a model's folds on the families that they didn't see; writes `task.predictions`.

    Raises: DatasetError: a file of effect cells can't be read. UsageError: no family of the campaign is to be scored.
    """
    scored = [part for models in model.folds for part in _score_fold(models, windows)]
    if not scored:
        raise UsageError(
            f"no run of {windows.campaign!r} is on the test side of split {task.split!r}\n  play more of it"
        )
    cells = read_cells([windows.directory, *sorted(windows.directory.glob("service_config=*/run_*"))])
    predictions = _predictions(scored, cells, windows.step_seconds)
    if task.predictions is not None:
        draft = task.predictions.with_name(f".{task.predictions.name}")
        pq.write_table(predictions, draft, compression="zstd")
        draft.replace(task.predictions)
    tables, errors = _error_tables(scored, windows.step_seconds)
    headline_tables, figures = _headline(predictions)
    return Evaluation(
        baseline="next-state",
        campaign=windows.campaign,
        split=task.split,
        families=len({run.family_id for part in scored for run in part.runs}),
        tables=(*headline_tables, *tables, _seed_table(scored, windows.step_seconds)),
        figures=figures | {"errors": errors},
    )


# --- what is foretold -----------------------------------------------------------------------------------------------------


def _score_fold(models: FoldModels, windows: CampaignWindows) -> list[_Scored]:
    runs = windows.of(models.fold.scored)
    if not any(kept_decisions(run) for run in runs):
        return []
    panels = panels_of(runs, HORIZON_STEPS)
    rolled = {
        name_of(model_class, twin, "rolled"): _rolled(models, panels, runs, twin, model_class)
        for model_class in MODEL_CLASSES
        for twin in TWINS
    }
    found = []
    for kind in KINDS:
        for horizon in HORIZON_STEPS:
            stepwise = {name: by_key[kind, horizon] for name, by_key in rolled.items()}
            found.append(_score_panel(models, panels[kind], runs, horizon, stepwise))
    return found


def _score_panel(
    models: FoldModels, panel: Panel, runs: Sequence[RunWindows], horizon: int, rolled: Mapping[str, Float]
) -> _Scored:
    names = TARGETS[panel.kind]
    foretold: dict[str, Float] = _trivial(panel, runs, horizon)
    by_seed: dict[str, Float] = {}
    for model_class in MODEL_CLASSES:
        for twin in TWINS:
            changes = models.models[Key(panel.kind, twin, model_class, horizon)].predict_by_seed(
                panel.inputs,
                panel.actions[horizon] if twin == "action" else None,
                panel.entity,
                reach_of(panel.actions[horizon], panel.kind),
            )
            name = name_of(model_class, twin, "direct")
            foretold[name] = shown(panel.current + changes.mean(axis=0), names)
            if len(changes) > 1:
                by_seed[name] = np.stack([shown(panel.current + change, names) for change in changes])
    scales = models.scales[panel.kind, horizon]
    configurations = [runs[number].configuration for number in panel.run]
    return _Scored(
        horizon=horizon,
        runs=runs,
        panel=panel,
        scales=np.stack([scales.of(configurations, panel.entity, feature) for feature in names], axis=-1),
        foretold={**foretold, **rolled},
        by_seed=by_seed,
    )


def _trivial(panel: Panel, runs: Sequence[RunWindows], horizon: int) -> dict[str, Float]:
    """Return what needs no training; the season, and what the constant is the mean of, is the look back."""
    names = TARGETS[panel.kind]
    position = {run.run_id: {name: n for n, name in enumerate(_entities(run, panel.kind))} for run in runs}
    place = [position[runs[r].run_id][e] for r, e in zip(panel.run, panel.entity, strict=True)]
    history = np.stack(
        [
            (runs[r].state.nodes if panel.kind == "node" else runs[r].state.edges)[d, :, e, : len(names)]
            for r, d, e in zip(panel.run, panel.decision, place, strict=True)
        ]
    )  # [R, L, T]
    known = np.isfinite(history)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, history, 0.0).sum(axis=1) / known.sum(axis=1)
    return {
        "persistence": history[:, -1],
        "seasonal naive": history[:, (horizon - 1) % history.shape[1]],
        "constant": mean,
    }


def _entities(run: RunWindows, kind: Kind) -> tuple[str, ...]:
    return run.state.system.nodes if kind == "node" else run.state.system.edge_ids


def _acted(run: RunWindows) -> list[int]:
    """Return the decisions whose forecasts go into the file: with an action, or drawn by chance."""
    return [
        position
        for position, (decision, now) in enumerate(zip(run.decisions, run.state.now, strict=True))
        if now is not None or decision.randomised
    ]


def _rolled(
    models: FoldModels, panels: Mapping[Kind, Panel], runs: Sequence[RunWindows], twin: Twin, model_class: ModelClass
) -> dict[tuple[Kind, int], Float]:
    """Return what is foretold step by step, [R, T] by kind and horizon; at other decisions than `_acted` NaN."""
    found = {
        (kind, horizon): np.full((len(panel), len(TARGETS[kind])), np.nan)
        for kind, panel in panels.items()
        for horizon in HORIZON_STEPS
    }
    rows = {
        kind: {(r, d): n for n, (r, d) in reversed(list(enumerate(zip(panel.run, panel.decision, strict=True))))}
        for kind, panel in panels.items()
    }  # first row of each decision
    by_system: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for number, run in enumerate(runs):
        by_system.setdefault((run.configuration, *run.state.system.nodes, *run.state.system.edge_ids), []).extend(
            (number, decision) for decision in _acted(run)
        )
    for decisions in by_system.values():
        if decisions:
            state = joined([selected(runs[number].state, [decision]) for number, decision in decisions])
            steps = roll_out(models, state, steps=max(HORIZON_STEPS), twin=twin, model_class=model_class)
            for horizon in HORIZON_STEPS:
                for kind, values in zip(KINDS, steps[horizon - 1], strict=True):
                    for key, block in zip(decisions, values, strict=True):
                        first = rows[kind][key]
                        found[kind, horizon][first : first + len(block)] = block
    return found


# --- the file and the headline --------------------------------------------------------------------------------------------


def _predictions(scored: Sequence[_Scored], cells: Mapping[CellKey, Group], step_seconds: int) -> pa.Table:
    """Return the file of predictions: all rows at decisions with an action, or where one could have been drawn."""
    columns: dict[str, list[Any]] = {name: [] for name in PREDICTIONS_SCHEMA.names}
    for part in scored:
        for model_class in MODEL_CLASSES:
            for method in ("direct", "rolled"):
                _add_predictions(columns, part, model_class, method, cells, step_seconds)
    return pa.table(
        {
            field.name: pa.array(columns[field.name], pa.int64()).cast(field.type)
            if pa.types.is_timestamp(field.type)
            else pa.array(columns[field.name], field.type)
            for field in PREDICTIONS_SCHEMA
        },
        schema=PREDICTIONS_SCHEMA,
    )


def _add_predictions(
    columns: dict[str, list[Any]],
    part: _Scored,
    model_class: ModelClass,
    method: str,
    cells: Mapping[CellKey, Group],
    step_seconds: int,
) -> None:
    panel, horizon_s = part.panel, part.horizon * step_seconds
    known, passive = (part.foretold[name_of(model_class, twin, method)] for twin in TWINS)
    for row in np.flatnonzero(part.acted):
        run = part.runs[panel.run[row]]
        decision = run.decisions[panel.decision[row]]
        for target, feature in enumerate(TARGETS[panel.kind]):
            truth = part.truth[row, target]
            if not np.isfinite(truth):
                continue
            key = CellKey(run.run_id, decision.action_id, panel.entity[row], feature, horizon_s)
            values = {
                "run_id": run.run_id,
                "family_id": run.family_id,
                "configuration": run.configuration,
                "stratum": run.stratum,
                "action_id": decision.action_id,
                "action_type": decision.action_type,
                "time": (decision.requested + (horizon_s - step_seconds) * SECOND) // 1000,
                "horizon_s": horizon_s,
                "kind": panel.kind,
                "entity": panel.entity[row],
                "feature": feature,
                "model": model_class,
                "method": method,
                "y_true": truth,
                "y_ac": known[row, target],
                "y_passive": passive[row, target],
                "y_persistence": part.foretold["persistence"][row, target],
                "scale": part.scales[row, target],
                "group": cells.get(key, "undecided"),
            }
            for name, value in values.items():
                columns[name].append(value)


def _headline(predictions: pa.Table) -> tuple[list[Table], dict[str, Any]]:
    """Return the headline as tables and as figures with stable keys."""
    rows: list[tuple[Cell, ...]] = []
    figures: dict[str, Any] = {}
    for stratum, strata in _STRATA.items():
        for model_class in MODEL_CLASSES:
            for method in ("direct", "rolled"):
                found = action_conditioned_over_passive(predictions, model=model_class, method=method, strata=strata)
                rows += [
                    (stratum, f"{model_class} {method}", group, *_ratio_cells(one)) for group, one in found.items()
                ]
                figures[f"{stratum}/{model_class}/{method}"] = found
    columns = ("stratum", "model", "cells", "AC / passive", "families", "predictions", "smallest difference found")
    tables = [
        Table(
            title="Error of the action-conditioned model over its passive twin's",
            columns=columns,
            rows=tuple(rows),
            note=f"Below 1: knowing the action helps. The headline is of {PRIMARY[0]}, {PRIMARY[1]}; 95 % intervals over families.",
        )
    ]
    parts: dict[str, Any] = {}
    for column in ("feature_group", "configuration", "action_type", "horizon_s", "kind"):
        parts[column] = {
            stratum: ratios_by(predictions, column, model=PRIMARY[0], method=PRIMARY[1], strata=strata)
            for stratum, strata in _STRATA.items()
        }
        tables.append(
            Table(
                title=f"The same of {PRIMARY[0]}, {PRIMARY[1]}, by {column}",
                columns=(columns[0], column, *columns[2:]),
                rows=tuple(
                    (stratum, level, group, *_ratio_cells(one))
                    for stratum, levels in parts[column].items()
                    for level, groups in levels.items()
                    for group, one in groups.items()
                ),
            )
        )
    first = figures[f"randomised/{PRIMARY[0]}/{PRIMARY[1]}"]
    return tables, {"action_conditioned_over_passive": first, "ratios": figures, "ratios_by": parts}


def _ratio_cells(found: Ratio) -> tuple[Cell, ...]:
    interval = Interval(
        value=found.ratio, low=found.low, high=found.high, families=found.families, detectable=found.detectable
    )
    return interval.shown, found.families, found.cells, found.detectable


# --- tables of errors -----------------------------------------------------------------------------------------------------


def _error_tables(scored: Sequence[_Scored], step_seconds: int) -> tuple[list[Table], dict[str, Any]]:
    """Return the macro-averages of scaled errors: after an action, and without one."""
    names = list(scored[0].foretold)
    tables, figures = [], {}
    for title, after in (("after an action", True), ("without an action", False)):
        models = [name for name in names if after or " rolled" not in name]
        rows: list[tuple[Cell, ...]] = []
        for kind in KINDS:
            for group, features in GROUPS.items():
                if not set(features) & set(TARGETS[kind]):
                    continue
                for horizon in HORIZON_STEPS:
                    parts = [part for part in scored if part.panel.kind == kind and part.horizon == horizon]
                    intervals = _errors(parts, models, features, after)
                    rows += [
                        (kind, group, horizon, horizon * step_seconds, model, one.shown, one.families, one.detectable)
                        for model, one in intervals.items()
                    ]
                    figures[f"{title}/{kind}/{group}/{horizon}"] = intervals
        tables.append(
            Table(
                title=f"Scaled absolute error {title}",
                columns=("of", "features", "steps", "s", "model", "error", "families", "smallest difference found"),
                rows=tuple(rows),
                note="1 is persistence on training families; macro-averages over entities and features, 95 % intervals over families.",
            )
        )
    return tables, figures


def _errors(
    parts: Sequence[_Scored], models: Sequence[str], features: Sequence[str], after: bool
) -> dict[str, Interval]:
    families: list[str] = []
    cells: list[tuple[str, ...]] = []
    named: list[str] = []
    errors: list[Float] = []
    for part in parts:
        chosen = part.acted == after
        for target, feature in enumerate(TARGETS[part.panel.kind]):
            if feature not in features:
                continue
            found = np.stack([np.abs(part.foretold[name][:, target] - part.truth[:, target]) for name in models])
            scaled = found / part.scales[:, target]
            kept = chosen & np.isfinite(scaled).all(axis=0)
            rows = np.flatnonzero(kept)
            runs = [part.runs[part.panel.run[row]] for row in rows]
            families += [run.family_id for run in runs]
            cells += [(run.configuration, part.panel.entity[row]) for run, row in zip(runs, rows, strict=True)]
            named += [feature] * len(rows)
            errors.append(scaled[:, kept])
    scores = family_scores(families, cells, named, np.concatenate(errors, axis=1))
    return {name: mean_interval(scores, number) for number, name in enumerate(models)}


def _seed_table(scored: Sequence[_Scored], step_seconds: int) -> Table:
    """Return how much the seeds matter: the mean error of each seed's model, all entities and features alike."""
    rows: list[tuple[Cell, ...]] = []
    for name in scored[0].by_seed:
        for horizon in HORIZON_STEPS:
            parts = [part for part in scored if part.horizon == horizon]
            each = np.concatenate(
                [
                    (np.abs(part.by_seed[name] - part.truth) / part.scales).reshape(len(part.by_seed[name]), -1)
                    for part in parts
                ],
                axis=1,
            )
            means = np.nanmean(each, axis=1)
            low, high = stats.t.interval(0.95, len(means) - 1, loc=means.mean(), scale=stats.sem(means))
            rows.append(
                (name, horizon, horizon * step_seconds, float(means.mean()), float(low), float(high), len(means))
            )
    return Table(
        title="Error by seed",
        columns=("model", "steps", "s", "mean over seeds", "low", "high", "seeds"),
        rows=tuple(rows),
        note="95 % intervals of the mean over seeds (Student's t); all windows.",
    )
