"""`ocg config show`: the configuration that a run would really use, every key spelt out."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.syntax import Syntax

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("app", "show")

app = typer.Typer(help="Look at configurations.", no_args_is_help=True)


def show(
    options: Options,
    scenario: Annotated[
        str,
        typer.Argument(help="Name of a scenario or service configuration, `synthetic:N[,seed]`, or a scenario file."),
    ] = "quickstart",
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    granularity: Annotated[str | None, typer.Option(help="Replace the granularity: a name or a file.")] = None,
    reward: Annotated[str | None, typer.Option(help="Replace the reward: a name or a file.")] = None,
    episode: Annotated[str | None, typer.Option(help="Replace the episode's end rules: a name or a file.")] = None,
    telemetry: Annotated[str | None, typer.Option(help="Replace the telemetry: a name or a file.")] = None,
    seed: Annotated[int | None, typer.Option(help="Replace the seed.")] = None,
) -> None:
    """Print the effective configuration of SCENARIO as YAML (--json: as JSON), checked, with the load as a curve."""
    import msgspec

    from otel_control_gym.engine.assembly import checked
    from otel_control_gym.engine.configuration import as_yaml, resolve
    from otel_control_gym.engine.randomization import randomized

    resolved = resolve(
        scenario,
        workload=workload,
        granularity=granularity,
        reward=reward,
        episode=episode,
        telemetry=telemetry,
        seed=seed,
    )
    config = randomized(checked(resolved))
    if options.json:
        options.output.answer(msgspec.to_builtins(config))
    elif options.output.console.is_terminal:
        options.output.console.print(Syntax(as_yaml(config), "yaml", theme="ansi_dark", background_color="default"))
    else:
        typer.echo(as_yaml(config), nl=False)


app.command("show")(command(show))
