"""Anomaly detection on a campaign: who notices faults, how late, and how often somebody is woken for nothing.

In: a task. Out: `AnomalyModel`, detectors with their thresholds; then `AnomalyReport`, figures per application, per fault type and for both
together, each for every detector beside the floors. Interventions are hidden: detectors read public rows, labels are for scoring alone.

- AUC-PR and VUS-PR (`range_precision`) of the application's score; the level of chance is the share of anomalous buckets. In a cell of one
  fault type, buckets of other faults are left out.
- Alarms (`alarms`) at the threshold that train families fixed: share of faults found, median delay, false events per hour.
- Point-adjusted F1, with a random score's beside it, for comparison with the literature alone.

Families are drawn for the intervals, by bootstrap; a seeded detector's figure is the mean over its seeds. A cell of fewer than 12 families
is marked `too few`: its figures are shown, nothing follows from them.

Upstream: `detector_runs`. Downstream: `anomaly_tables`, `catalogue` (`anomaly`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.alarms import AlarmCounts, Detection
from otel_control_gym.baselines.detector_runs import (
    ALARMS_PER_HOUR,
    DETECTORS,
    FLOORS,
    FittedDetector,
    Scored,
    fit_detector,
    is_seeded,
    score_runs,
)
from otel_control_gym.baselines.detector_scores import write_scores
from otel_control_gym.baselines.entity_series import FEATURES
from otel_control_gym.baselines.evaluations import Evaluation, Task
from otel_control_gym.baselines.family_rates import FamilyRates, interval_if_enough
from otel_control_gym.baselines.fault_windows import BucketKind
from otel_control_gym.baselines.folds import folds_of
from otel_control_gym.baselines.intervals import Interval
from otel_control_gym.baselines.labelled_runs import LabelledRun, labelled_runs
from otel_control_gym.baselines.range_precision import Areas, PrecisionSums, precision_sums
from otel_control_gym.engine.errors import UsageError

__all__ = (
    "AnomalyCell",
    "AnomalyModel",
    "AnomalyReport",
    "DetectorScore",
    "evaluate",
    "features",
    "report_on",
    "scores_of",
    "train",
    "train_on",
)

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_CHANCE = "random"
LONGEST_BUFFER_SECONDS = 120  #: L: half a minute to a minute too early or too late is no failure


class DetectorScore(msgspec.Struct, frozen=True, kw_only=True):
    """A detector's figures in a cell; rates are per hour of windows of that kind."""

    detector: str
    floor: bool
    seeds: int
    auc_pr: Interval
    vus_pr: Interval
    vus_pr_over_random: Interval  #: difference on the same families
    vus_pr_between_seeds: float | None  #: standard deviation
    found: Interval  #: share of the faults
    median_delay_s: float | None
    calm_alarms: Interval
    benign_alarms: Interval
    bystander_alarms: Interval  #: in fault windows, of entities on which nothing should show
    calm_share_alarmed: float | None  #: of the time
    point_adjusted_f1: float | None
    random_point_adjusted_f1: float | None


class AnomalyCell(msgspec.Struct, frozen=True, kw_only=True):
    """The families of an application (None: all) in which there is a fault of a type (None: all, with or without one)."""

    configuration: str | None
    fault_type: str | None
    families: int
    faults: int
    anomalous_share: float | None  #: of the buckets: what AUC-PR comes to by chance
    hours: dict[str, float]  #: by kind of window
    scores: tuple[DetectorScore, ...]


class AnomalyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `ocg baseline evaluate anomaly` tells."""

    campaign: str
    split: str
    runs: int  #: tested
    test_families: int
    bucket_seconds: int
    longest_buffer_seconds: int
    alarms_per_hour_on_train: float
    cells: tuple[AnomalyCell, ...]  #: all, then by application, by fault type, by both


class AnomalyModel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What `ocg baseline train anomaly` keeps: every detector, of every seed, fitted in every fold."""

    fitted: tuple[FittedDetector, ...]
    features: tuple[str, ...]  #: what is read


def train(task: Task) -> AnomalyModel:
    """Return all detectors, fitted on training families."""
    return train_on(labelled_runs(task.directory), task)


def train_on(runs: Sequence[LabelledRun], task: Task) -> AnomalyModel:
    """Return all detectors, fitted on the training families among runs that were read already.

    Raises: UsageError: there is no such split, or it leaves nothing to fit.
    """
    folds = folds_of(task.directory, task.split, {run.series.family_id for run in runs})
    for fold in folds:
        if not any(run.series.family_id in fold.train and run.calm.any() for run in runs):
            raise UsageError(
                f"{task.directory}: split {task.split!r} leaves no calm windows to fit detectors on\n  play more of the campaign"
            )
    return AnomalyModel(
        fitted=tuple(
            fit_detector(name, seed, runs, fold)
            for name in DETECTORS
            for seed in (task.seeds if is_seeded(name) else task.seeds[:1])
            for fold in folds
        ),
        features=(*FEATURES, "finding_severity"),
    )


def features(model: AnomalyModel) -> Sequence[str]:
    """Return the names of what the detectors read."""
    return model.features


def evaluate(model: AnomalyModel, task: Task) -> Evaluation:
    """Return the figures of all detectors as tables, and as `AnomalyReport` in `figures`."""
    from otel_control_gym.baselines.anomaly_tables import anomaly_tables

    runs = labelled_runs(task.directory)
    scored = scores_of(model, runs)
    report = report_on(scored, runs, task)
    if task.predictions is not None:
        write_scores(task.predictions, runs, [each for found in scored.values() for each in found])
    return Evaluation(
        baseline="anomaly",
        campaign=report.campaign,
        split=report.split,
        families=report.test_families,
        tables=anomaly_tables(report),
        figures=msgspec.to_builtins(report),
    )


def scores_of(model: AnomalyModel, runs: Sequence[LabelledRun]) -> dict[str, list[Scored]]:
    """Return what every detector says of the runs that its folds score, by name, one for each seed."""
    kept: dict[tuple[str, int], list[FittedDetector]] = {}
    for one in model.fitted:
        kept.setdefault((one.name, one.seed), []).append(one)
    scored: dict[str, list[Scored]] = {}
    for (name, _), fitted in kept.items():
        scored.setdefault(name, []).append(score_runs(fitted, runs))
    return scored


def report_on(scored: dict[str, list[Scored]], runs: Sequence[LabelledRun], task: Task) -> AnomalyReport:
    """Return the figures of what detectors said of runs that were read already; `random` must be among them.

    Raises: UsageError: no run was scored.
    """
    tested = [runs[found.position] for found in next(iter(scored.values()))[0].runs]
    if not tested:
        raise UsageError(f"{task.directory}: no run is on the test side of split {task.split!r}\n  use --split crossed")
    return AnomalyReport(
        campaign=task.directory.name.removeprefix("campaign="),
        split=task.split,
        runs=len(tested),
        test_families=len({run.series.family_id for run in tested}),
        bucket_seconds=runs[0].series.bucket_seconds,
        longest_buffer_seconds=LONGEST_BUFFER_SECONDS,
        alarms_per_hour_on_train=ALARMS_PER_HOUR,
        cells=tuple(_cell(configuration, fault_type, tested, scored) for configuration, fault_type in _cells(tested)),
    )


def _cells(runs: Sequence[LabelledRun]) -> list[tuple[str | None, str | None]]:
    configurations = sorted({run.series.configuration for run in runs})
    both = sorted({(run.series.configuration, fault.fault_type) for run in runs for fault in run.truth.faults})
    return [
        (None, None),
        *((configuration, None) for configuration in configurations),
        *((None, fault_type) for fault_type in sorted({fault_type for _, fault_type in both})),
        *both,
    ]


def _cell(
    configuration: str | None,
    fault_type: str | None,
    runs: Sequence[LabelledRun],
    scored: dict[str, list[Scored]],
) -> AnomalyCell:
    of_application = [
        (number, run) for number, run in enumerate(runs) if configuration in (None, run.series.configuration)
    ]
    with_fault = {
        run.series.family_id
        for _, run in of_application
        if fault_type is None or any(fault.fault_type == fault_type for fault in run.truth.faults)
    }
    chosen = [(number, run) for number, run in of_application if run.series.family_id in with_fault]
    cell = _Cell([number for number, _ in chosen], [run for _, run in chosen], fault_type)
    chance = cell.curves(scored[_CHANCE])
    return AnomalyCell(
        configuration=configuration,
        fault_type=fault_type,
        families=len(cell.families),
        faults=cell.faults,
        anomalous_share=cell.anomalous_share,
        hours=cell.hours,
        scores=tuple(cell.score(name, found, chance, scored[_CHANCE]) for name, found in scored.items()),
    )


class _Cell:
    """Runs of a cell, and which of their buckets count."""

    def __init__(self, numbers: Sequence[int], runs: Sequence[LabelledRun], fault_type: str | None) -> None:
        self._numbers, self._runs, self._fault_type = numbers, runs, fault_type
        self.families = sorted({run.series.family_id for run in runs})
        places = {family: place for place, family in enumerate(self.families)}
        self._rates = FamilyRates([run.series.family_id for run in runs])
        self._groups = np.array([places[run.series.family_id] for run in runs], np.int64)
        self._labels, self._counted = [], []
        for run in runs:
            label = _in_force(run, fault_type)
            self._labels.append(label)
            other = (run.kinds == BucketKind.FAULT) & ~label
            self._counted.append((run.kinds != BucketKind.WARM_UP) & ~other)

    @property
    def faults(self) -> int:
        """How many."""
        return sum(self._is_meant(fault.fault_type) for run in self._runs for fault in run.truth.faults)

    @property
    def anomalous_share(self) -> float | None:
        """Of the buckets that count."""
        counted = sum(int(chosen.sum()) for chosen in self._counted)
        return sum(int(label.sum()) for label in self._labels) / counted if counted else None

    @property
    def hours(self) -> dict[str, float]:
        """How long windows of each kind are together."""
        return {
            kind.name.lower(): sum(int((run.kinds == kind).sum()) * run.series.bucket_seconds for run in self._runs)
            / 3600
            for kind in BucketKind
        }

    def curves(self, scored: Sequence[Scored]) -> _Curves:
        """Return a detector's curves, of families."""
        longest = LONGEST_BUFFER_SECONDS // self._runs[0].series.bucket_seconds
        labels = [label[chosen] for label, chosen in zip(self._labels, self._counted, strict=True)]
        return _Curves(
            [
                precision_sums(
                    [found.runs[number].score[kept] for number, kept in zip(self._numbers, self._counted, strict=True)],
                    labels,
                    longest,
                ).by_group(self._groups, len(self.families))
                for found in scored
            ]
        )

    def score(self, name: str, scored: Sequence[Scored], chance: _Curves, random: Sequence[Scored]) -> DetectorScore:
        """Return a detector's figures."""
        curves = chance if name == _CHANCE else self.curves(scored)
        count = len(self.families)
        alarms = [[found.runs[number].alarms for number in self._numbers] for found in scored]
        delays = [
            detection.delay_s
            for of_seed in alarms
            for run in of_seed
            for detection in run.detections
            if detection.delay_s is not None and self._is_meant(detection.fault.fault_type)
        ]
        hours = sum(run.calm_hours for run in alarms[0])
        return DetectorScore(
            detector=name,
            floor=name in FLOORS,
            seeds=len(scored),
            auc_pr=interval_if_enough(lambda weights: curves.areas(weights).auc_pr, count),
            vus_pr=interval_if_enough(lambda weights: curves.areas(weights).vus_pr, count),
            vus_pr_over_random=interval_if_enough(
                lambda weights: curves.areas(weights).vus_pr - chance.areas(weights).vus_pr, count
            ),
            vus_pr_between_seeds=curves.between_seeds(count),
            found=self._rate(
                [[sum(each.delay_s is not None for each in self._meant(run)) for run in of_seed] for of_seed in alarms],
                [len(self._meant(run)) for run in alarms[0]],
            ),
            median_delay_s=float(np.median(delays)) if delays else None,
            calm_alarms=self._rate(
                [[run.calm_events for run in of_seed] for of_seed in alarms], [run.calm_hours for run in alarms[0]]
            ),
            benign_alarms=self._rate(
                [[run.benign_events for run in of_seed] for of_seed in alarms], [run.benign_hours for run in alarms[0]]
            ),
            bystander_alarms=self._rate(
                [[run.bystander_events for run in of_seed] for of_seed in alarms],
                [run.fault_hours for run in alarms[0]],
            ),
            calm_share_alarmed=float(np.mean([sum(run.alarmed_calm_hours for run in each) for each in alarms])) / hours
            if hours
            else None,
            point_adjusted_f1=self._point_adjusted(scored),
            random_point_adjusted_f1=self._point_adjusted(random),
        )

    def _is_meant(self, fault_type: str) -> bool:
        return self._fault_type in (None, fault_type)

    def _meant(self, run: AlarmCounts) -> list[Detection]:
        return [each for each in run.detections if self._is_meant(each.fault.fault_type)]

    def _rate(self, events: Sequence[Sequence[int]], over: Sequence[float]) -> Interval:
        """Return events, the mean over seeds, per unit of what they are counted over."""
        return self._rates.rate(np.mean(np.array(events, np.float64), axis=0), over)

    def _point_adjusted(self, scored: Sequence[Scored]) -> float | None:
        scores = []
        for found in scored:
            hits, alarmed, positive = np.sum([found.runs[number].point_adjusted for number in self._numbers], axis=0)
            if positive:
                scores.append(2 * hits / (alarmed + positive))
        return float(np.mean(scores)) if scores else None


def _in_force(run: LabelledRun, fault_type: str | None) -> Bool:
    """Return in which buckets a fault of a type is in force [T]."""
    starts = run.series.starts
    label = np.zeros(run.series.buckets, bool)
    for fault in run.truth.faults:
        if fault_type in (None, fault.fault_type):
            label |= (starts + run.series.bucket_seconds > fault.onset) & (starts < fault.end)
    in_force: Bool = label & (run.kinds == BucketKind.FAULT)
    return in_force


class _Curves:
    """Areas under a detector's curves, the mean over its seeds; those of the last weights are kept, since several figures ask for them."""

    def __init__(self, by_seed: Sequence[PrecisionSums]) -> None:
        self._by_seed = by_seed
        self._last: tuple[bytes, Areas] | None = None

    def areas(self, weights: Float) -> Areas:
        """Return the areas for each row of weights, [R]."""
        key = weights.tobytes()
        if self._last is None or self._last[0] != key:
            found = [each.weighted(weights) for each in self._by_seed]
            self._last = key, Areas(*(np.mean(values, axis=0) for values in zip(*found, strict=True)))
        return self._last[1]

    def between_seeds(self, families: int) -> float | None:
        """Return the standard deviation of VUS-PR between seeds; None with one seed."""
        values = [float(each.weighted(np.ones((1, families))).vus_pr[0]) for each in self._by_seed]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None
