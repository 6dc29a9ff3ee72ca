"""`ocg show`: what happened in a run, in words, sparklines and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("show",)


@command
def show(
    options: Options,
    run: Annotated[
        str, typer.Argument(help="Directory of a run, its id or the beginning of it, or latest.")
    ] = "latest",
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the plot goes: .png, .svg or .pdf. [default: plots/ in the data directory]"
        ),
    ] = None,
) -> None:
    """Tell what happened in a run, and draw it."""
    from otel_control_gym.engine.command_line.telling import tell
    from otel_control_gym.engine.plot import plot_summary
    from otel_control_gym.engine.runs import open_run
    from otel_control_gym.engine.summary import summarise

    summary = summarise(open_run(run, options.directory).path)
    file = plot or options.directory / "plots" / f"run_{summary.run_id}.png"
    plot_summary(summary, file)
    options.output.answer({"summary": summary, "reward": summary.reward_total, "plot": str(file)})
    if not options.json:
        tell(options.output.console, summary)
        options.output.console.print(f"\n[bold]Plot[/]  {file}")
