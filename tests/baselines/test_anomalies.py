"""Figures of detectors: what is at chance reads as chance, labels of scored runs change no score, few families are called few."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score
from sklearn.utils import check_random_state

from otel_control_gym.baselines.anomalies import AnomalyModel, AnomalyReport, report_on, scores_of
from otel_control_gym.baselines.anomaly_tables import anomaly_tables
from otel_control_gym.baselines.detector_runs import ALARMS_PER_HOUR, Scored, fit_detector, score_runs
from otel_control_gym.baselines.detector_scores import write_scores
from otel_control_gym.baselines.entity_series import FEATURES, EntitySeries
from otel_control_gym.baselines.evaluations import Task
from otel_control_gym.baselines.fault_windows import Fault, RunTruth
from otel_control_gym.baselines.folds import Fold, folds_of
from otel_control_gym.baselines.labelled_runs import LabelledRun
from otel_control_gym.engine.runs import Run

SERVICES = ("frontend", "cart")
TASK = Task(directory=Path("campaign=numbers"), split="crossed")


def labelled(number: int) -> LabelledRun:
    """Return a run of 20 minutes; in every other family cart is slow for three minutes."""
    values = np.zeros((120, 2, len(FEATURES)))
    values[:, :, FEATURES.index("latency_mean_ms")] = 50 + check_random_state(number).uniform(-10, 10, size=(120, 2))
    faults: tuple[Fault, ...] = ()
    if number % 2:
        values[60:78, 1, FEATURES.index("latency_mean_ms")] += 200
        faults = (
            Fault(
                action_id=f"a{number}",
                fault_type="cpu_pressure",
                kind="service",
                target="cart",
                ends=("cart",),
                named_service="cart",
                intensity="visible",
                onset=600.0,
                end=780.0,
                affected=("cart",),
            ),
        )
    run_id, family_id = f"R{number:02}", f"f{number:02}"
    return LabelledRun(
        run=Run(
            run_id=run_id,
            status="completed",
            path=Path(run_id),
            campaign="numbers",
            service_config="shop",
            done_reason="horizon",
            stand="twin",
            run_start="2026-01-05T00:00:00Z",
            run_end="2026-01-05T00:20:00Z",
            content_digest="",
            contract_version=2,
            family_id=family_id,
            coverage={},
            truth=True,
        ),
        series=EntitySeries(
            run_id=run_id,
            family_id=family_id,
            configuration="shop" if number < 16 else "bank",
            bucket_seconds=10,
            warmup_buckets=6,
            seconds=1200.0,
            services=SERVICES,
            edges=(),
            values=values,
            suspicions=np.zeros((120, 2)),
        ),
        truth=RunTruth(run_id=run_id, family_id=family_id, stratum="single_fault", faults=faults, actions=()),
    )


@pytest.fixture(scope="module")
def runs() -> list[LabelledRun]:
    return [labelled(number) for number in range(20)]


@pytest.fixture(scope="module")
def model(runs: list[LabelledRun]) -> AnomalyModel:
    folds = folds_of(TASK.directory, TASK.split, {run.series.family_id for run in runs})
    fitted = [
        fit_detector(name, seed, runs, fold)
        for name, seeds in (("robust-deviation", (0,)), ("random", (0, 1)), ("constant", (0,)))
        for seed in seeds
        for fold in folds
    ]
    return AnomalyModel(fitted=tuple(fitted), features=FEATURES)


@pytest.fixture(scope="module")
def scored(model: AnomalyModel, runs: list[LabelledRun]) -> dict[str, list[Scored]]:
    return scores_of(model, runs)


@pytest.fixture(scope="module")
def report(scored: dict[str, list[Scored]], runs: list[LabelledRun]) -> AnomalyReport:
    return report_on(scored, runs, TASK)


def test_every_family_is_scored_once_by_what_never_saw_it(model: AnomalyModel, runs: list[LabelledRun]) -> None:
    scored = score_runs([one for one in model.fitted if one.name == "robust-deviation"], runs)
    assert [found.position for found in scored.runs] == list(range(len(runs)))
    assert all(not one.fold.scored & (one.fold.train | one.fold.validation) for one in model.fitted)


def test_what_is_plain_is_found_and_chance_reads_as_chance(report: AnomalyReport) -> None:
    whole = report.cells[0]
    scores = {score.detector: score for score in whole.scores}
    assert (whole.families, whole.faults) == (20, 10)
    assert scores["robust-deviation"].auc_pr.value == pytest.approx(1.0, abs=0.03)  # 250 thresholds of 2,280 scores
    assert scores["robust-deviation"].found.value == 1.0
    assert scores["robust-deviation"].median_delay_s == 10.0
    assert scores["random"].auc_pr.value == pytest.approx(whole.anomalous_share, abs=0.05)
    assert scores["constant"].auc_pr.value == pytest.approx(whole.anomalous_share)
    assert scores["random"].vus_pr_over_random.value == 0.0
    over = scores["robust-deviation"].vus_pr_over_random
    assert over.low is not None
    assert over.low > 0.5


def test_a_random_score_looks_good_after_point_adjustment(report: AnomalyReport) -> None:
    scores = {score.detector: score for score in report.cells[0].scores}
    random = scores["random"]
    assert random.point_adjusted_f1 == random.random_point_adjusted_f1
    assert random.point_adjusted_f1 is not None
    assert random.auc_pr.value is not None
    assert random.point_adjusted_f1 > 2 * random.auc_pr.value


def test_thresholds_bear_what_they_should_on_train(model: AnomalyModel, runs: list[LabelledRun]) -> None:
    for one in model.fitted:
        known = [run for run in runs if run.series.family_id in one.fold.train | one.fold.validation]
        found = score_runs([msgspec.structs.replace(one, fold=_scoring(one.fold, known))], known)
        events = sum(run.alarms.calm_events for run in found.runs)
        assert events <= ALARMS_PER_HOUR * sum(run.alarms.calm_hours for run in found.runs)


def _scoring(fold: Fold, runs: Sequence[LabelledRun]) -> Fold:
    return msgspec.structs.replace(fold, scored=frozenset(run.series.family_id for run in runs))


def test_labels_of_scored_runs_change_no_score_and_no_threshold(runs: list[LabelledRun]) -> None:
    """Truth of the scored families is taken away: what detectors learnt and say stays the same."""
    (fold, *_) = folds_of(TASK.directory, TASK.split, {run.series.family_id for run in runs})
    blind = [
        msgspec.structs.replace(run, truth=msgspec.structs.replace(run.truth, faults=()))
        if run.series.family_id in fold.scored
        else run
        for run in runs
    ]
    seen, unseen = (fit_detector("robust-deviation", 0, known, fold) for known in (runs, blind))
    assert seen.threshold == unseen.threshold
    for here, there in zip(score_runs([seen], runs).runs, score_runs([unseen], blind).runs, strict=True):
        assert np.array_equal(here.score, there.score)


def test_fewer_than_twelve_families_get_a_figure_and_no_interval(report: AnomalyReport) -> None:
    cells = {(cell.configuration, cell.fault_type): cell for cell in report.cells}
    small = cells["bank", None]
    (robust, *_) = small.scores
    assert small.families == 4
    assert robust.vus_pr.value is not None
    assert robust.vus_pr.low is None
    by_application = {row[0]: row for row in anomaly_tables(report)[2].rows}
    assert "too few" in str(by_application["bank"][3])
    assert "too few" not in str(by_application["shop"][3])


def test_what_was_scored_is_written_so_that_anybody_can_score_again(
    scored: dict[str, list[Scored]], report: AnomalyReport, runs: list[LabelledRun], tmp_path: Path
) -> None:
    file = tmp_path / "scores.parquet"
    write_scores(file, runs, [each for found in scored.values() for each in found])
    rows = pq.read_table(file).to_pandas()
    robust = rows[(rows["detector"] == "robust-deviation") & (rows["kind"] != "warm_up")]
    again = average_precision_score(robust["kind"] == "fault", robust["score"])
    assert again == pytest.approx(report.cells[0].scores[0].auc_pr.value, abs=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scores.parquet"]
