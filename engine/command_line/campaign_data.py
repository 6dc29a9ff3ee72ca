"""`ocg campaign report` and `ocg campaign rebuild`: what is made of a campaign's data when it has been played."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

__all__ = ("rebuild", "report")

_Known = Annotated[str, typer.Argument(help="Name of a campaign that was run here.")]


@command
def report(options: Options, campaign: _Known) -> int:
    """Write a campaign's report, HTML and Markdown, into its directory (exit code 1: a run is missing or isn't valid)."""
    from otel_control_gym.engine.campaigns.report import write_report
    from otel_control_gym.engine.campaigns.running import campaign_directory

    written = write_report(campaign_directory(options.directory, campaign))
    options.output.answer(written)
    if not options.json:
        options.output.console.print(f"report: {written.html}", markup=False)
        if written.missing or written.invalid:
            options.output.console.print(
                f"  {written.missing} runs are missing, {written.invalid} aren't valid: it names them"
            )
    return NOT_SO if written.missing or written.invalid else 0


@command
def rebuild(
    options: Options,
    campaign: _Known,
    bucket: Annotated[
        list[str],
        typer.Option(
            metavar="WIDTH", help="Width of an observation bucket, e.g. 30s or 1m; given again, another dataset."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to make `granularity=WIDTH/campaign=…`. [default: the data directory]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes. [default: as many as there are processors]", min=1)
    ] = None,
) -> int:
    """Rebuild all runs of a campaign at another granularity; goes on where it was cut off (exit code 1: a run couldn't be)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from otel_control_gym.engine.campaigns.rebuilding import rebuild_campaign
    from otel_control_gym.engine.campaigns.running import campaign_directory, run_directories
    from otel_control_gym.engine.command_line.rebuild import parse_bucket

    directory = campaign_directory(options.directory, campaign)
    columns = (TextColumn("rebuilding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    side = options.output.side
    with Progress(*columns, console=side, transient=True, disable=not side.is_terminal) as shown:
        task = shown.add_task("", total=len(run_directories(directory)))
        result = rebuild_campaign(
            directory,
            [parse_bucket(width) for width in bucket],
            out=out or options.directory,
            processes=workers,
            progress=lambda _: shown.advance(task),
        )
    options.output.answer(result)
    if not options.json:
        console = options.output.console
        console.print(
            f"[bold]{result.campaign}[/]  {result.rebuilt} runs rebuilt, {result.kept} were there, {len(result.failed)} failed; "
            f"{result.wall_seconds:.0f} s on {result.processes} processes"
        )
        for path in result.paths:
            console.print(f"  {path}", markup=False)
        for path, reason in result.failed.items():
            console.print(f"  {path}: {reason}", markup=False)
    return NOT_SO if result.failed else 0
