"""Results and scores ➜ what is kept of an evaluation: a table of episodes, the scores, a page and a picture.

In: settings, results, scores. Out: in the evaluation's directory `episodes.parquet` (a row per episode), `scores.json`, `evaluation.md` and
`evaluation.png`. The same results give the same bytes. Each file appears whole or not at all.

Blocking. Upstream: `scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.pages import rendered
from otel_control_gym.policies.evaluation.judgement import EpisodeResult
from otel_control_gym.policies.evaluation.scores import Interval, Scores
from otel_control_gym.policies.evaluation.settings import EvaluationSettings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ("COLUMNS", "EvaluationFiles", "episode_table", "shown", "write_pages")

_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#222222",
    "#999999",
    "#F0E442",
    "#7F3C8D",
)

COLUMNS: dict[str, tuple[str, str, str]] = {
    "evaluation": ("string", "", "set of scenarios"),
    "policy": ("string", "", "as it was named"),
    "policy_version": ("string", "", "as the policy says"),
    "policy_information": ("string", "", "public, or privileged: it knew more than its observations"),
    "scenario": ("string", "", "what was met"),
    "family_id": ("string", "", "scenario and seed: the same for all policies"),
    "service_config": ("string", "", "application"),
    "seed": ("int64", "", "of every exogenous draw"),
    "steps": ("int32", "", "control steps that were lived"),
    "done_reason": ("string", "", "horizon, unless the stand was lost"),
    "total_return": ("float64", "reward", "sum of the rewards, from an emergency on the worst"),
    "raw_return": ("float64", "reward", "sum of the rewards as they were"),
    "breached": ("bool", "", "the objective was missed at least once"),
    "recovered": ("bool", "", "it held for the goal's time after the first miss, or was never missed"),
    "time_to_recovery_s": ("float64", "s", "from the first miss; a lower bound where not recovered"),
    "violation_minutes": ("float64", "min", "time of the steps that missed the objective"),
    "cost": ("float64", "cost units", "requested or used, and a share of the limits"),
    "stability": ("float64", "1", "restarts, replicas and configurations changed"),
    "unsafe_actions": ("int32", "1", "actions that the precheck rejected"),
    "actions": ("int32", "1", "actions other than noop"),
    "emergency_s": ("float64", "s", "control time at which an emergency was reached; null: never"),
    "deeds": ("string", "", "JSON: [step, action, status] of each action other than noop"),
}
"""Column of `episodes.parquet` -> Arrow type, unit, meaning."""


class EvaluationFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where an evaluation's files are."""

    episodes: Path
    scores: Path
    page: Path
    plot: Path


def write_pages(
    directory: Path, settings: EvaluationSettings, results: Sequence[EpisodeResult], scores: Scores
) -> EvaluationFiles:
    """Write all files of an evaluation and return where they are.

    Raises: DatasetError: one can't be written.
    """
    import pyarrow.parquet as pq

    files = EvaluationFiles(
        episodes=directory / "episodes.parquet",
        scores=directory / "scores.json",
        page=directory / "evaluation.md",
        plot=directory / "evaluation.png",
    )
    table, page = episode_table(results), _page(settings, results, scores)
    content = msgspec.json.format(msgspec.json.encode({"evaluation": settings.name, **msgspec.to_builtins(scores)}))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _whole(files.episodes, lambda path: pq.write_table(table, path, compression="zstd"))
        _whole(files.scores, lambda path: path.write_bytes(content))
        _whole(files.page, lambda path: path.write_text(page, encoding="utf-8"))
        _whole(files.plot, lambda path: _plot(settings, scores, path))
    except OSError as error:
        raise DatasetError(f"{error.filename or directory} can't be written: {error.strerror or error}") from error
    return files


def episode_table(results: Sequence[EpisodeResult]) -> pa.Table:
    """Return results as rows of `episodes.parquet`, with unit and meaning in each field's metadata."""
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field(name, pa.type_for_alias(kind), metadata={"unit": unit, "description": meaning})
            for name, (kind, unit, meaning) in COLUMNS.items()
        ]
    )
    return pa.Table.from_pylist([_row(result) for result in results], schema=schema)


def shown(interval: Interval | None, digits: int = 2) -> str:
    """Return an interval as tables have it: 1.23 [0.98, 1.50]; a dash where there is none."""
    if interval is None:
        return "–"
    if interval.n < 2:
        return f"{interval.value:.{digits}f}"
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _row(result: EpisodeResult) -> dict[str, Any]:
    fields = msgspec.structs.asdict(result)
    judgement, deeds = fields.pop("judgement"), fields.pop("deeds")
    return {**fields, **msgspec.structs.asdict(judgement), "deeds": msgspec.json.encode(deeds).decode()}


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    write(temporary)
    temporary.rename(path)


def _page(settings: EvaluationSettings, results: Sequence[EpisodeResult], scores: Scores) -> str:
    by_scenario = {
        situation.name: [row for row in scores.scenarios if row.scenario == situation.name]
        for situation in settings.scenarios
    }
    values = {
        "settings": settings,
        "scores": scores,
        "by_scenario": {name: rows for name, rows in by_scenario.items() if rows},
        "seeds": len({result.seed for result in results}),
        "families": len({result.family_id for result in results}),
    }
    return rendered("otel_control_gym.policies.evaluation", "evaluation.md.j2", values, filters={"shown": shown})


def _plot(settings: EvaluationSettings, scores: Scores, path: Path) -> None:
    """Draw what each policy earned over `noop` in each scenario (without `noop`: its mean return), with intervals."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    policies = [row.policy for row in scores.policies]
    scenarios = list(dict.fromkeys(row.scenario for row in scores.scenarios))
    relative = all(row.over_noop is not None for row in scores.scenarios)
    shown_policies = [policy for policy in policies if not (relative and policy == "noop")] or policies
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 1.2 + 0.16 * len(scenarios) * (len(shown_policies) + 2)), layout="constrained")
        axes = figure.add_subplot()
        height = len(shown_policies) + 2
        for number, policy in enumerate(shown_policies):
            rows = {
                row.scenario: row.over_noop if relative else row.mean_return
                for row in scores.scenarios
                if row.policy == policy
            }
            found = [(place * height + number, rows[name]) for place, name in enumerate(scenarios)]
            for offset, interval in found:
                assert interval is not None
                axes.plot(
                    [interval.low, interval.high], [offset, offset], color=_COLOURS[number % len(_COLOURS)], lw=1.5
                )
            axes.scatter(
                [interval.value for _, interval in found if interval is not None],
                [offset for offset, _ in found],
                s=18,
                color=_COLOURS[number % len(_COLOURS)],
                label=policy,
                zorder=3,
            )
        axes.axvline(0.0, color="#222222", lw=0.8, visible=relative)
        axes.set_yticks([place * height + (len(shown_policies) - 1) / 2 for place in range(len(scenarios))], scenarios)
        axes.invert_yaxis()
        axes.grid(axis="x", color="#E6E6E6")
        axes.set_axisbelow(True)
        axes.set_xlabel(
            "return over noop, mean and 95 % interval over seeds"
            if relative
            else "return, mean and 95 % interval over seeds"
        )
        axes.set_title(f"Evaluation {settings.name}", loc="left")
        figure.legend(loc="outside right upper", frameon=False)
        figure.savefig(path, dpi=130, metadata={"Software": None})
