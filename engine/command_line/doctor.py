"""`ocg doctor`: can episodes run on what a kubeconfig leads to? Each finding with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.command_line.stand import Context

if TYPE_CHECKING:
    from otel_control_gym.engine.command_line.output import Output
    from otel_control_gym.stands.cluster.findings import Diagnosis

__all__ = ("doctor",)

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta"}
_URL = "by the API server's proxy"


@command
def doctor(
    options: Options,
    kubeconfig: Annotated[Path, typer.Option(metavar="FILE", envvar="KUBECONFIG", help="That leads to the stand.")],
    context: Context = "",
    config: Annotated[
        str, typer.Option("--config", metavar="NAME", help="What it is to run: a service configuration or a scenario.")
    ] = "small-core",
    granularity: Annotated[
        str | None, typer.Option(help="Replace the granularity, whose bucket says how far apart clocks may be.")
    ] = None,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Where gyms keep Leases and inverses.")] = "ocg-system",
    prometheus: Annotated[str, typer.Option(metavar="URL", help=f"Where Prometheus is. [default: {_URL}]")] = "",
    coroot: Annotated[str, typer.Option(metavar="URL", help=f"Where Coroot is. [default: {_URL}]")] = "",
    load_generator: Annotated[str, typer.Option(metavar="URL", help=f"Where Locust is. [default: {_URL}]")] = "",
    flagd: Annotated[str, typer.Option(metavar="URL", help=f"Where flagd-ui is. [default: {_URL}]")] = "",
) -> int:
    """Look at a stand and change nothing; say what is wrong and what to do about it (exit code 1: something failed)."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.deployment import accesses, installer_accesses
    from otel_control_gym.stands.cluster.contexts import endpoints_of
    from otel_control_gym.stands.cluster.doctor import Wanted, diagnose
    from otel_control_gym.stands.cluster.pins import pins

    settings = resolve(config, granularity=granularity).public
    urls = {"prometheus": prometheus, "coroot": coroot, "load_generator": load_generator, "flagd": flagd}
    with endpoints_of(kubeconfig, context=context, **urls) as endpoints:
        wanted = Wanted(
            settings=settings,
            pins=pins(),
            operating=accesses(endpoints.namespace, namespace),
            installing=installer_accesses(),
            safekeeping=namespace,
        )
        diagnosis = run_interruptibly(diagnose, endpoints, wanted)
    options.output.answer({"healthy": diagnosis.healthy, "findings": diagnosis.findings})
    if not options.json:
        _tell(options.output, diagnosis)
    return 0 if diagnosis.healthy else NOT_SO


def _tell(output: Output, diagnosis: Diagnosis) -> None:
    from rich.text import Text

    for finding in diagnosis.findings:
        line = Text.assemble(
            (f"{finding.status:<9}", _STYLES[finding.status]), (f"{finding.check}: ", "bold"), finding.found
        )
        output.console.print(line)
        if finding.remedy:
            output.console.print(Text(f"{' ':9}{finding.remedy}", "dim"))
    count = sum(finding.status == "failed" for finding in diagnosis.findings)
    output.console.print(
        "episodes can run here" if diagnosis.healthy else f"[red]no episode can run here: {count} failed[/]"
    )
