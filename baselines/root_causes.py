"""Root-cause ranking on a campaign: how often a method names the service in which a fault sits, per application and type of fault.

In: a task. Out: `RootCauseModel` (the detector that notices faults; the rankers aren't trained), then `RootCauseReport` of two tasks:
*onset given* over all families, as published comparisons do it, and *onset detected* over the families that the split scores, where the
robust-deviation detector's first alarm within the fault says when; a fault that raises none counts as failed, for chance too.
Interventions are hidden in both.

Every figure is a mean over faults, with an interval by bootstrap over families. Lift is AC over the level of chance on the same faults; a
fault on a call has two right answers (`root_cause_cases`), and its level is higher.

Methods of RCAEval stand beside ours, with the onset given, where an interpreter has that package (`rcaeval_methods`).

Upstream: `root_cause_cases`, `root_cause_methods`, `ranking_scores`. Downstream: `root_cause_tables`, `catalogue` (`root-cause`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from otel_control_gym.baselines.detector_runs import FittedDetector, fit_detector, score_runs
from otel_control_gym.baselines.entity_series import FEATURES
from otel_control_gym.baselines.evaluations import Evaluation, Task
from otel_control_gym.baselines.family_rates import FamilyRates
from otel_control_gym.baselines.folds import folds_of
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.labelled_runs import LabelledRun, labelled_runs
from otel_control_gym.baselines.ranking_scores import accuracy_at, hop_distance, path_score, spreading_edges
from otel_control_gym.baselines.rcaeval_methods import rcaeval_interpreter, rcaeval_rankings
from otel_control_gym.baselines.root_cause_cases import AFTER_SECONDS, LeftOut, RootCauseCase, cases_of
from otel_control_gym.baselines.root_cause_methods import METHODS, RULES, Ranking

__all__ = (
    "CaseScore",
    "MethodScore",
    "RootCauseCell",
    "RootCauseModel",
    "RootCauseReport",
    "RootCauseTask",
    "evaluate",
    "features",
    "report_on",
    "score_case",
    "train",
    "train_on",
)

TaskName = Literal["onset given", "onset detected"]

_RANKS = (1, 2, 3, 4, 5)
_NOTICED_BY = "robust-deviation"
_CHANCE = "chance"


class RootCauseModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train root-cause` keeps: the detector that notices, fitted in every fold."""

    fitted: tuple[FittedDetector, ...]
    features: tuple[str, ...]  #: what is read


class CaseScore(msgspec.Struct, frozen=True, kw_only=True):
    """How well a method answered about one fault; None where there is nothing to score."""

    accuracies: tuple[float, ...]  #: AC@1 … AC@5
    called_end: float | None  #: AC@1 of a fault on a call, if its called end alone is right
    edge: float | None  #: AC@1 of the call itself, where the fault is on one and the method ranks calls
    edge_precision: float | None
    edge_recall: float | None
    path_hit: float | None
    hops: float | None  #: from the service that is ranked first to the nearest right one


class MethodScore(msgspec.Struct, frozen=True, kw_only=True):
    """A method's figures in a cell."""

    method: str
    floor: bool
    faults: int  #: that it was asked about: RCAEval's methods only those that its format can hold
    ac1: Interval
    ac3: Interval
    ac5: Interval
    avg5: Interval
    lift1: Interval  #: AC@1 over that of chance
    lift_avg5: Interval
    over_chance: Interval  #: difference of Avg@5; its `detectable` is the smallest that such a set would show
    called_end: Interval
    edge: Interval
    edge_precision: Interval
    edge_recall: Interval
    path_hit: Interval
    hops: Interval


class RootCauseCell(msgspec.Struct, frozen=True, kw_only=True):
    """Faults of an application (None: all) and a type (None: all)."""

    configuration: str | None
    fault_type: str | None
    families: int
    faults: int
    noticed: float  #: share of the faults that anything was asked about
    scores: tuple[MethodScore, ...]


class RootCauseTask(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and the figures."""

    task: TaskName
    families: int
    faults: int
    left_out: tuple[LeftOut, ...]
    cells: tuple[RootCauseCell, ...]  #: all, then by application, by type, by both


class RootCauseReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `ocg baseline evaluate root-cause` tells."""

    campaign: str
    split: str
    asked_after_seconds: int
    tasks: tuple[RootCauseTask, ...]


def train(task: Task) -> RootCauseModel:
    """Return the detector that notices faults, fitted on training families; the rankers learn nothing."""
    return train_on(labelled_runs(task.directory), task)


def train_on(runs: Sequence[LabelledRun], task: Task) -> RootCauseModel:
    """Return the detector, fitted on the training families among runs that were read already."""
    folds = folds_of(task.directory, task.split, {run.series.family_id for run in runs})
    return RootCauseModel(
        fitted=tuple(fit_detector(_NOTICED_BY, task.seeds[0], runs, fold) for fold in folds),
        features=(*FEATURES, "graph", "findings"),
    )


def features(model: RootCauseModel) -> Sequence[str]:
    """Return the names of what is read; `findings` are Coroot's."""
    return model.features


def evaluate(model: RootCauseModel, task: Task) -> Evaluation:
    """Return the figures of all methods as tables, and as `RootCauseReport` in `figures`.

    Raises: DatasetError: a file can't be read.
    """
    from otel_control_gym.baselines.root_cause_tables import root_cause_tables

    report = report_on(model, labelled_runs(task.directory), task)
    return Evaluation(
        baseline="root-cause",
        campaign=report.campaign,
        split=report.split,
        families=report.tasks[0].families,
        tables=root_cause_tables(report),
        figures=msgspec.to_builtins(report),
    )


def report_on(model: RootCauseModel, runs: Sequence[LabelledRun], task: Task) -> RootCauseReport:
    """Return the figures on runs that were read already."""
    scored = score_runs(model.fitted, runs)
    noticed = {
        detection.fault.action_id: None if detection.delay_s is None else detection.fault.onset + detection.delay_s
        for found in scored.runs
        for detection in found.alarms.detections
    }
    bucket = runs[0].series.bucket_seconds
    began = {fault: None if closed is None else closed - bucket for fault, closed in noticed.items()}
    tested = [runs[found.position] for found in scored.runs]
    interpreter = rcaeval_interpreter()
    return RootCauseReport(
        campaign=task.directory.name.removeprefix("campaign="),
        split=task.split,
        asked_after_seconds=AFTER_SECONDS,
        tasks=(_task("onset given", runs, None, interpreter), _task("onset detected", tested, began, None)),
    )


def score_case(case: RootCauseCase, ranking: Ranking | None) -> CaseScore:
    """Return how well a ranking answers; None is no ranking at all."""
    fault = case.fault
    if ranking is None:
        nothing = 0.0 if fault.kind == "edge" else None
        return CaseScore(
            accuracies=tuple(0.0 for _ in _RANKS),
            called_end=nothing,
            edge=None,
            edge_precision=None,
            edge_recall=None,
            path_hit=None,
            hops=None,
        )
    places = {service: place for place, service in enumerate(case.services)}
    answers = [places[end] for end in fault.ends]
    path = None
    if ranking.path is not None:
        truth = spreading_edges(fault.affected, fault.ends, case.edges)
        path = path_score(ranking.path, truth, case.entry, fault.ends)
    first = case.services[int(np.argmax(ranking.services))]
    told = bool(np.ptp(ranking.services) > 0)
    edge = None
    if fault.kind == "edge" and ranking.edges is not None:
        edge = accuracy_at(1, ranking.edges, [case.edges.index((fault.ends[0], fault.ends[1]))])
    return CaseScore(
        accuracies=tuple(accuracy_at(k, ranking.services, answers) for k in _RANKS),
        called_end=accuracy_at(1, ranking.services, [places[fault.named_service]]) if fault.kind == "edge" else None,
        edge=edge,
        edge_precision=None if path is None else path.edge_precision,
        edge_recall=None if path is None else path.edge_recall,
        path_hit=None if path is None else path.hit,
        hops=hop_distance(first, fault.ends, case.services, case.edges) if told else None,
    )


# --- parts ----------------------------------------------------------------------------------------------------------------


def _task(
    name: TaskName,
    runs: Sequence[LabelledRun],
    noticed: Mapping[str, float | None] | None,
    interpreter: Path | None,
) -> RootCauseTask:
    cases, left_out = cases_of(runs, noticed)
    scores: dict[str, list[CaseScore | None]] = {
        method: [score_case(case, None if case.question is None else rank(case.question)) for case in cases]
        for method, rank in METHODS.items()
    }
    if interpreter is not None:
        for method, answers in rcaeval_rankings(interpreter, [run.run for run in runs], cases).items():
            ranked = [answers.get(case.fault.action_id) for case in cases]
            scores[f"rcaeval-{method}"] = [
                None if ranking is None else score_case(case, ranking)
                for case, ranking in zip(cases, ranked, strict=True)
            ]
    return RootCauseTask(
        task=name,
        families=len({case.family_id for case in cases}),
        faults=len(cases),
        left_out=tuple(left_out),
        cells=tuple(_cell(configuration, fault, cases, scores) for configuration, fault in _cells(cases)),
    )


def _cells(cases: Sequence[RootCauseCase]) -> list[tuple[str | None, str | None]]:
    both = sorted({(case.configuration, case.fault.fault_type) for case in cases})
    return [
        (None, None),
        *((configuration, None) for configuration in sorted({configuration for configuration, _ in both})),
        *((None, fault_type) for fault_type in sorted({fault_type for _, fault_type in both})),
        *both,
    ]


def _cell(
    configuration: str | None,
    fault_type: str | None,
    cases: Sequence[RootCauseCase],
    scores: Mapping[str, Sequence[CaseScore | None]],
) -> RootCauseCell:
    chosen = [
        number
        for number, case in enumerate(cases)
        if configuration in (None, case.configuration) and fault_type in (None, case.fault.fault_type)
    ]
    names = [cases[number].family_id for number in chosen]
    by_chance = [scores[_CHANCE][number] for number in chosen]
    return RootCauseCell(
        configuration=configuration,
        fault_type=fault_type,
        families=len(set(names)),
        faults=len(chosen),
        noticed=float(np.mean([cases[number].question is not None for number in chosen])) if chosen else 0.0,
        scores=tuple(
            _method_score(method, [found[number] for number in chosen], by_chance, names)
            for method, found in scores.items()
        ),
    )


def _method_score(
    method: str,
    answered: Sequence[CaseScore | None],
    by_chance: Sequence[CaseScore | None],
    names: Sequence[str],
) -> MethodScore:
    """Return the figures of a method over the cases that it was asked about; those of chance are of the same."""
    asked = [number for number, one in enumerate(answered) if one is not None]
    scores = [one for one in answered if one is not None]
    levels = [one for number in asked if (one := by_chance[number]) is not None]
    families = FamilyRates([names[number] for number in asked])
    accuracy = np.array([one.accuracies for one in scores]).reshape(-1, len(_RANKS))
    level = np.array([one.accuracies for one in levels]).reshape(-1, len(_RANKS))
    return MethodScore(
        method=method,
        floor=method in RULES,
        faults=len(scores),
        ac1=families.mean(accuracy[:, 0].tolist()),
        ac3=families.mean(accuracy[:, 2].tolist()),
        ac5=families.mean(accuracy[:, 4].tolist()),
        avg5=families.mean(accuracy.mean(axis=1).tolist()),
        lift1=families.rate(accuracy[:, 0], level[:, 0]),
        lift_avg5=families.rate(accuracy.mean(axis=1), level.mean(axis=1)),
        over_chance=families.mean((accuracy.mean(axis=1) - level.mean(axis=1)).tolist()),
        called_end=families.mean([one.called_end for one in scores]),
        edge=families.mean([one.edge for one in scores]),
        edge_precision=families.mean([one.edge_precision for one in scores]),
        edge_recall=families.mean([one.edge_recall for one in scores]),
        path_hit=families.mean([one.path_hit for one in scores]),
        hops=families.mean([one.hops for one in scores]),
    )
