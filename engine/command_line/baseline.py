"""`ocg baseline`: train models on a campaign's runs and score them on families that they didn't see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid

from otel_control_gym.engine.command_line.options import Options, command

if TYPE_CHECKING:
    from otel_control_gym.baselines.evaluations import Cell, Task

__all__ = ("app",)

app = typer.Typer(help="Train models on a campaign's runs, and score them.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="next-state, forecast, reward, …; `ocg baseline list` tells them all.")]
_Campaign = Annotated[str, typer.Option(help="Name of a campaign that was run here.")]
_Split = Annotated[
    str,
    typer.Option(help="A split of the campaign, or `crossed`: every family is scored by a model that never saw it."),
]
_Seeds = Annotated[int, typer.Option(help="How many seeds for what is drawn.", min=1)]
_Models = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where models are kept. [default: the campaign's directory]")
]


@app.command("list")
@command
def list_baselines(options: Options) -> None:
    """List the baselines."""
    from otel_control_gym.baselines.catalogue import BASELINES

    options.output.answer({"baselines": [{"name": entry.name, "summary": entry.summary} for entry in BASELINES]})
    if not options.json:
        for entry in BASELINES:
            options.output.console.print(f"{entry.name:12} {entry.summary}", markup=False)


@app.command("train")
@command
def train(
    options: Options,
    name: _Name,
    campaign: _Campaign = "mvp",
    split: _Split = "iid",
    seeds: _Seeds = 5,
    models: _Models = None,
) -> None:
    """Train a baseline on the training families of a campaign."""
    from otel_control_gym.baselines.catalogue import model_directory, train_baseline

    task = _task(options, campaign, split, seeds)
    metadata = train_baseline(name, task, models=models)
    options.output.answer(metadata)
    if not options.json:
        options.output.console.print(f"{name}: {model_directory(name, task, models)}", markup=False)


@app.command("evaluate")
@command
def evaluate(
    options: Options,
    name: _Name,
    campaign: _Campaign = "mvp",
    split: _Split = "iid",
    seeds: _Seeds = 5,
    models: _Models = None,
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what was foretold, as Parquet, for anybody to score again."),
    ] = None,
) -> None:
    """Score a trained baseline on families that it wasn't trained on."""
    from otel_control_gym.baselines.catalogue import evaluate_baseline

    evaluation = evaluate_baseline(name, _task(options, campaign, split, seeds, predictions), models=models)
    options.output.answer(evaluation)
    if options.json:
        return
    console = options.output.console
    for table in evaluation.tables:
        grid = Grid(*table.columns, title=table.title, title_justify="left", caption=table.note or None)
        for row in table.rows:
            grid.add_row(*map(_shown, row))
        console.print(grid)


def _task(options: Options, campaign: str, split: str, seeds: int, predictions: Path | None = None) -> Task:
    from otel_control_gym.baselines.evaluations import Task
    from otel_control_gym.engine.campaigns.running import campaign_directory

    directory = campaign_directory(options.directory, campaign)
    return Task(directory=directory, split=split, seeds=tuple(range(seeds)), predictions=predictions)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "–"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
