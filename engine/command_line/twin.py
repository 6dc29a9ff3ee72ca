"""`ocg twin`: the embedded twin by itself, as a server for stock tools."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.command_line.options import Options, command

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rich.console import Console
    from rich.text import Text

    from otel_control_gym.stands.twin.serving import ServedTwin, Status

__all__ = ("app",)

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_STATUS_SECONDS = 1.0
_LAG_TOLD_SECONDS = 10.0  #: by how much the lag has to grow to be worth another line

app = typer.Typer(help="The twin by itself.", no_args_is_help=True)


@app.callback()
def _twin() -> None: ...  # so that `serve` stays a verb while it is the only one


def serve(
    options: Options,
    configuration: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A service configuration, or a scenario (default: small-core)."),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="NAME", help="The same, as an option.", show_default=False)
    ] = None,
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    granularity: Annotated[
        str | None, typer.Option(help="Replace the granularity, and with it the scrape interval: a name or a file.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every exogenous draw.")] = None,
    pace: Annotated[float, typer.Option(help="Seconds of the twin's time per second of wall time.")] = 1.0,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all of this machine's.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(
            min=0,
            max=65_530,
            help="Port of the Kubernetes API; Prometheus, Coroot, load generator, flagd and Jaeger follow. 0: free ones.",
        ),
    ] = 26_440,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Where the kubeconfig is written (default: twin/CONFIG.kubeconfig in the data directory).",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a kubeconfig there that no twin has written.")
    ] = False,
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Send spans and logs to this OTLP/HTTP receiver.")
    ] = None,
) -> int:
    """Serve the twin in wall-clock time, for kubectl, Prometheus and controllers of your own, until Ctrl-C (exit code 0)."""
    from otel_control_gym.engine.assembly import serve_twin
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.errors import UsageError

    if configuration is not None and config is not None and configuration != config:
        raise UsageError(f"two configurations are named, {configuration!r} and --config {config!r}: name one")
    if host not in _LOOPBACK:
        options.output.side.print(
            f"{host}: whoever reaches this machine reaches the twin; only its Kubernetes API asks for a token",
            style="yellow",
        )
    served = serve_twin(
        configuration or config or "small-core",
        workload=workload,
        granularity=granularity,
        seed=seed,
        pace=pace,
        host=host,
        port=port,
        kubeconfig=kubeconfig,
        overwrite=overwrite,
        otlp=otlp,
        data_dir=options.data_dir,
    )
    ready: list[ServedTwin] = []
    try:
        run_interruptibly(_serve, served, options, otlp, ready)
    except KeyboardInterrupt:
        if not ready:
            raise
        options.output.side.print("the twin has ended, and its kubeconfig is removed", style="dim")
    return 0


app.command("serve")(command(serve))


async def _serve(
    served: AbstractAsyncContextManager[ServedTwin], options: Options, otlp: str | None, ready: list[ServedTwin]
) -> None:
    """Serve until this is cancelled; `ready` gets the twin once it can be used."""
    output = options.output
    building = output.side.status("building the twin (its kernel is compiled the first time: some 15 s)")
    building.start()
    try:
        async with served as twin:
            building.stop()
            ready.append(twin)
            output.answer(_document(twin, otlp))
            sys.stdout.flush()  # whoever started this program by another one waits for it
            if not output.json:
                _tell(output.console, twin, otlp)
            await _follow(output.side, twin)
    finally:
        building.stop()


async def _follow(console: Console, twin: ServedTwin) -> None:
    """Tell how the twin is doing, for ever: on a terminal one line that changes, else a line when it falls behind."""
    import anyio
    from rich.live import Live

    told = 0.0
    with Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            await anyio.sleep(_STATUS_SECONDS)
            status = twin.status()
            if live is not None:
                live.update(_line(status), refresh=True)
            elif status.lag_seconds >= told + _LAG_TOLD_SECONDS:
                told = status.lag_seconds
                console.print(_line(status), soft_wrap=True)


def _line(status: Status) -> Text:
    from datetime import UTC, datetime

    from rich.text import Text

    line = Text.assemble(
        (datetime.fromtimestamp(status.now / SECOND, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"), "bold"),
        f"  {status.requests_per_second:.1f} requests/s  {status.pods_ready}/{status.pods} pods ready  pace {status.pace:.2f}",
        no_wrap=True,
        overflow="ellipsis",
    )
    if status.lag_seconds:
        line.append(f"  can't keep its pace: {status.lag_seconds:.0f} s given up", style="yellow")
    if status.exports_lost:
        line.append(f"  {status.exports_lost} OTLP exports lost: {status.export_error}", style="yellow")
    return line


def _document(twin: ServedTwin, otlp: str | None) -> dict[str, Any]:
    endpoints, public = twin.endpoints, twin.config.public
    return {
        "config": public.services.name,
        "workload": twin.config.workload.name,
        "seed": twin.config.seed,
        "pace": twin.pace,
        "time_ns": twin.now,
        "namespace": endpoints.namespace,
        "kubeconfig": str(twin.kubeconfig),
        "kubernetes": endpoints.kubernetes,
        "prometheus": endpoints.prometheus,
        "metrics": f"{endpoints.prometheus}/metrics",
        "coroot": endpoints.coroot,
        "load_generator": endpoints.load_generator,
        "flagd": endpoints.flagd,
        "jaeger": endpoints.jaeger,
        "otlp": otlp,
        "process": os.getpid(),
    }


def _tell(console: Console, twin: ServedTwin, otlp: str | None) -> None:
    from rich.table import Table

    endpoints, config = twin.endpoints, twin.config
    console.print(
        f"[bold]A twin of {config.public.services.name}[/], workload {config.workload.name}, seed {config.seed}, "
        f"{twin.pace:g} x wall-clock time"
    )
    table = Table(box=None, show_header=False, padding=(0, 2))
    rows = (
        ("Kubernetes", endpoints.kubernetes, "by the kubeconfig"),
        ("Prometheus", endpoints.prometheus, "selectors; /metrics to scrape"),
        ("Coroot", endpoints.coroot, ""),
        ("load generator", endpoints.load_generator, "as Locust's"),
        ("flagd", endpoints.flagd, ""),
        ("Jaeger", endpoints.jaeger, "query API, version 3"),
        *((("OTLP", otlp, "gets spans and logs"),) if otlp else ()),
    )
    for name, url, use in rows:
        table.add_row(f"[bold]{name}[/]", url, f"[dim]{use}[/]")
    console.print(table)
    console.print(f"\n  export KUBECONFIG={shlex.quote(str(twin.kubeconfig.absolute()))}\n  kubectl get pods\n")
    console.print("Ctrl-C ends it.", style="dim")
