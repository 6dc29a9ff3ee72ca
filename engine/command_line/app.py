"""The tree of commands. Modules of commands are imported here, what they need only when one runs: `--help` must be quick."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_control_gym.engine.command_line import (
    act,
    actions,
    baseline,
    branch,
    campaign,
    config,
    doctor,
    env,
    evaluate,
    export,
    log,
    rebuild,
    report,
    run,
    runs,
    schema,
    show,
    stand,
    stand_reset,
    stand_status,
    stand_up,
    tail,
    twin,
    validate,
    worker,
)

__all__ = ("app",)

app = typer.Typer(
    name="ocg",
    help="A controlled gym for DevOps systems: run episodes, look at them, rebuild their datasets.",
    epilog="Exit codes: 0 done; 1 what was asked about is not so; 2 wrong input or environment; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ocg {version('otel-control-gym')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None: ...


app.command("run")(run.run)
app.command("rebuild")(rebuild.rebuild)
app.command("report")(report.report)
app.command("tail")(tail.tail)
app.command("runs")(runs.runs)
app.command("schema")(schema.schema)
app.command("show")(show.show)
app.command("validate")(validate.validate)
app.command("export")(export.export)
app.command("act")(act.act)
app.command("branch")(branch.branch)
app.command("doctor")(doctor.doctor)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(actions.app, name="actions")
app.command("worker")(worker.worker)
app.add_typer(baseline.app, name="baseline")
app.add_typer(campaign.app, name="campaign")
app.add_typer(config.app, name="config")
app.add_typer(env.app, name="env")
app.add_typer(log.app, name="log")
for name, verb in (
    ("up", stand_up.up),
    ("status", stand_status.status),
    ("reset", stand_reset.reset),
    ("images", stand_up.images),
    ("down", stand_status.down),
):
    stand.app.command(name)(verb)
app.add_typer(stand.app, name="stand")
app.add_typer(twin.app, name="twin")
