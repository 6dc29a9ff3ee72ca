"""A `RootCauseReport` as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from otel_control_gym.baselines.anomaly_tables import shown_interval
from otel_control_gym.baselines.evaluations import Cell, Table

if TYPE_CHECKING:
    from otel_control_gym.baselines.root_causes import RootCauseCell, RootCauseReport, RootCauseTask

__all__ = ("root_cause_tables",)


def root_cause_tables(report: RootCauseReport) -> tuple[Table, ...]:
    """Return both tasks in full for all faults, then by application and type of fault."""
    return tuple(
        table for task in report.tasks if task.cells for table in (_whole(task, report), _paths(task), *_parts(task))
    )


def _whole(task: RootCauseTask, report: RootCauseReport) -> Table:
    cell = task.cells[0]
    rows: list[tuple[Cell, ...]] = [
        (
            score.method,
            score.faults,
            shown_interval(score.ac1),
            shown_interval(score.ac3),
            shown_interval(score.ac5),
            shown_interval(score.avg5),
            shown_interval(score.lift1, 1),
            shown_interval(score.lift_avg5, 1),
            score.over_chance.detectable,
        )
        for score in cell.scores
    ]
    return Table(
        title=f"Root causes, {task.task}: {cell.faults} faults of {cell.families} families, {cell.noticed:.0%} asked about, "
        f"{len(task.left_out)} left out",
        columns=("method", "faults", "AC@1", "AC@3", "AC@5", "Avg@5", "lift of AC@1", "lift of Avg@5", "detectable"),
        rows=tuple(rows),
        note=f"asked {report.asked_after_seconds} s after the onset; of a call either end is right; detectable: the smallest difference "
        "of Avg@5 to chance that four of five such sets would show",
    )


def _paths(task: RootCauseTask) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            score.method,
            shown_interval(score.called_end),
            shown_interval(score.edge),
            shown_interval(score.edge_precision),
            shown_interval(score.edge_recall),
            shown_interval(score.path_hit),
            shown_interval(score.hops),
        )
        for score in task.cells[0].scores
    ]
    return Table(
        title=f"On the call graph, {task.task}",
        columns=(
            "method",
            "AC@1 called end",
            "AC@1 of calls",
            "edge precision",
            "edge recall",
            "path hit",
            "hops from the answer",
        ),
        rows=tuple(rows),
        note="called end, calls: faults on calls alone; a dash where the method says nothing of it",
    )


def _parts(task: RootCauseTask) -> list[Table]:
    parts = task.cells[1:]
    return [
        _part(task, "by application", ("application",), [cell for cell in parts if cell.fault_type is None]),
        _part(task, "by type of fault", ("fault",), [cell for cell in parts if cell.configuration is None]),
        _part(
            task,
            "by application and type of fault",
            ("application", "fault"),
            [cell for cell in parts if cell.configuration is not None and cell.fault_type is not None],
        ),
    ]


def _part(task: RootCauseTask, title: str, keys: Sequence[str], cells: Sequence[RootCauseCell]) -> Table:
    names = [score.method for score in cells[0].scores] if cells else []
    rows: list[tuple[Cell, ...]] = []
    for cell in cells:
        of = {"application": cell.configuration, "fault": cell.fault_type}
        scores = {score.method: score for score in cell.scores}
        rows.append(
            (
                *(of[key] for key in keys),
                cell.families,
                *(_brief(scores[name].ac1.value, scores[name].avg5.value) for name in names),
                "too few" if cell.families and scores[names[0]].avg5.too_few else "",
            )
        )
    return Table(
        title=f"Root causes, {task.task}, {title}: AC@1 / Avg@5",
        columns=(*keys, "families", *names, ""),
        rows=tuple(rows),
    )


def _brief(first: float | None, five: float | None) -> str:
    return "–" if first is None or five is None else f"{first:.2f} / {five:.2f}"
