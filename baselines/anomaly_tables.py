"""An `AnomalyReport` as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from otel_control_gym.baselines.evaluations import Cell, Table
from otel_control_gym.baselines.intervals import Interval

if TYPE_CHECKING:
    from otel_control_gym.baselines.anomalies import AnomalyCell, AnomalyReport

__all__ = ("anomaly_tables", "shown_interval")


def shown_interval(interval: Interval, digits: int = 2) -> str:
    """Return a figure with its interval; of too few families marked so, and without one."""
    if interval.value is None:
        return "–"
    value = f"{interval.value:.{digits}f}"
    if interval.too_few:
        return f"{value} too few"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def anomaly_tables(report: AnomalyReport) -> tuple[Table, ...]:
    """Return the figures of all families in full, those of parts as one figure per detector."""
    whole, *parts = report.cells
    return (
        _ranking(whole, report),
        _alarms(whole, report),
        _part("By application", ("application",), [cell for cell in parts if cell.fault_type is None]),
        _part("By type of fault", ("fault",), [cell for cell in parts if cell.configuration is None]),
        _part(
            "By application and type of fault",
            ("application", "fault"),
            [cell for cell in parts if cell.configuration is not None and cell.fault_type is not None],
        ),
    )


def _ranking(cell: AnomalyCell, report: AnomalyReport) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            score.detector,
            score.seeds,
            shown_interval(score.auc_pr),
            shown_interval(score.vus_pr),
            score.vus_pr_between_seeds,
            shown_interval(score.vus_pr_over_random),
            score.vus_pr_over_random.detectable,
            score.point_adjusted_f1,
            score.random_point_adjusted_f1,
        )
        for score in cell.scores
    ]
    share = 0.0 if cell.anomalous_share is None else cell.anomalous_share
    return Table(
        title=f"Scores over time: {cell.families} families, {cell.faults} faults, {share:.0%} of the buckets anomalous",
        columns=(
            "detector",
            "seeds",
            "AUC-PR",
            "VUS-PR",
            "SD between seeds",
            "over random",
            "detectable",
            "point-adjusted F1",
            "of random",
        ),
        rows=tuple(rows),
        note=f"split {report.split}; buffers up to {report.longest_buffer_seconds} s; detectable: the smallest difference to random "
        "that four of five such sets would show; point-adjusted F1 means nothing without random's beside it",
    )


def _alarms(cell: AnomalyCell, report: AnomalyReport) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            score.detector,
            shown_interval(score.found),
            None if score.median_delay_s is None else f"{score.median_delay_s:.0f}",
            shown_interval(score.calm_alarms, 1),
            shown_interval(score.benign_alarms, 1),
            shown_interval(score.bystander_alarms, 1),
            score.calm_share_alarmed,
        )
        for score in cell.scores
    ]
    hours = cell.hours
    return Table(
        title=f"Alarms: {hours['calm']:.1f} h calm, {hours['benign']:.1f} h after actions, {hours['fault']:.1f} h of faults",
        columns=(
            "detector",
            "faults found",
            "median delay s",
            "false/h calm",
            "false/h after actions",
            "false/h bystanders",
            "calm time alarmed",
        ),
        rows=tuple(rows),
        note=f"thresholds: at most {report.alarms_per_hour_on_train:g} event an hour in calm windows of train families",
    )


def _part(title: str, keys: Sequence[str], cells: Sequence[AnomalyCell]) -> Table:
    names = [score.detector for score in cells[0].scores if score.detector != "constant"] if cells else []
    rows: list[tuple[Cell, ...]] = []
    for cell in cells:
        of = {"application": cell.configuration, "fault": cell.fault_type}
        scores = {score.detector: score for score in cell.scores}
        rows.append(
            (
                *(of[key] for key in keys),
                cell.families,
                cell.faults,
                *(shown_interval(scores[name].vus_pr) for name in names),
            )
        )
    return Table(title=f"{title}: VUS-PR", columns=(*keys, "families", "faults", *names), rows=tuple(rows))
