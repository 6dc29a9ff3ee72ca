"""`ocg evaluate`: let controllers play the same scenarios and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.command_line.cluster_options import access_of
from otel_control_gym.engine.command_line.options import Options, command, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from otel_control_gym.policies.evaluation import EpisodeResult, Scores

__all__ = ("evaluate",)

_DEFAULT = (
    "noop",
    "random",
    "threshold",
    "hpa",
    "calibrated-hpa",
    "restart-on-error",
    "rollback-on-bad-rollout",
    "mpc",
    "oracle",
)
_TUNED = ("calibrated-hpa", "mpc", "oracle")  # on twins, by much more than is played on a cluster


@command
@with_options(access_of, "access")
def evaluate(
    options: Options,
    access: ClusterAccess | None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="A controller: noop, random, threshold, hpa, calibrated-hpa, restart-on-error, rollback-on-bad-rollout, mpc, oracle, "
            "package.module:function, or nats:SUBJECT for another process. Again for each. "
            "[default: all of these; on a cluster those that needn't be tuned]"
        ),
    ] = None,
    scenarios: Annotated[str, typer.Option(help="Name of a packaged evaluation, or an evaluation file.")] = "default",
    seeds: Annotated[int, typer.Option(help="Seeds of each scenario; the same for every policy.")] = 5,
    workers: Annotated[
        int | None, typer.Option(help="Processes that play. [default: as many as there are processors]")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Directory of a trained model that mpc plans with. [default: one learnt from futures of training seeds]"
        ),
    ] = None,
) -> None:
    """Let controllers play the same scenarios from the same seeds, and compare what they earned; on a cluster one after the other."""
    import os

    import msgspec

    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.policies.evaluation import (
        evaluate as play,
    )
    from otel_control_gym.policies.evaluation import (
        evaluation_directory,
        load_evaluation,
        scores_of,
        write_pages,
    )

    settings, side = load_evaluation(scenarios), options.output.side
    if access is not None:  # results of twins stay where they are
        settings = msgspec.structs.replace(settings, name=f"{settings.name}-on-cluster")
    default = _DEFAULT if access is None else tuple(name for name in _DEFAULT if name not in _TUNED)
    names = tuple(policy) if policy else default

    def tell(what: str, done: int, total: int) -> None:
        side.print(f"{done} of {total}  {what}", highlight=False, markup=False)

    def tell_episode(result: EpisodeResult, done: int, total: int) -> None:
        tell(f"{result.policy} in {result.family_id}: {result.judgement.total_return:.2f}", done, total)

    def tell_futures(family_id: str, done: int, total: int) -> None:
        tell(f"futures of {family_id}, for mpc to learn from", done, total)

    results = run_interruptibly(
        lambda: play(
            settings,
            names,
            data_dir=options.directory,
            seeds=seeds,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            model=model,
            nats=options.nats,
            access=access,
            on_episode=tell_episode,
            on_explored=tell_futures,
        )
    )
    scores = scores_of(results)
    files = write_pages(evaluation_directory(options.directory, settings), settings, results, scores)
    options.output.answer(
        {
            "evaluation": settings.name,
            "seeds": seeds,
            "files": {name: str(path) for name, path in msgspec.structs.asdict(files).items()},
            **msgspec.to_builtins(scores),
        }
    )
    if not options.json:
        _tell(options.output.console, scores)
        options.output.console.print(f"page: {files.page}", markup=False, soft_wrap=True)


def _tell(console: Console, scores: Scores) -> None:
    from rich.table import Table

    from otel_control_gym.policies.evaluation import shown

    table = Table(
        "policy", *(("return", "over noop", "score", "recovery s", "recovered", "violation min", "cost", "unsafe"))
    )
    for row in scores.policies:
        table.add_row(
            row.policy,
            shown(row.mean_return),
            shown(row.over_noop),
            shown(row.score),
            shown(row.recovery, 0),
            f"{row.recovered} of {row.recovery_families}",
            f"{row.violation_minutes:.2f}",
            f"{row.cost:.3f}",
            f"{row.unsafe_actions:.2f}",
        )
    console.print(table)
    by_scenario = Table("return over noop", *(row.policy for row in scores.policies))
    for name in dict.fromkeys(row.scenario for row in scores.scenarios):
        cells = [shown(row.over_noop or row.mean_return) for row in scores.scenarios if row.scenario == name]
        by_scenario.add_row(name, *cells)
    console.print(by_scenario)
