"""`ocg doctor`: can episodes run on what a kubeconfig leads to? Each finding with its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.command_line.cluster_options import access_of, url_option
from otel_control_gym.engine.command_line.options import NOT_SO, Options, command, with_options
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.engine.command_line.output import Output
    from otel_control_gym.engine.settings import RunSettings
    from otel_control_gym.stands.cluster.findings import Diagnosis

__all__ = ("doctor",)

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "unknown": "magenta"}
_PANEL = "Trying it"
_FROM_THE_SHELL = Annotated[
    Path | None, typer.Option(metavar="FILE", envvar="KUBECONFIG", help="That leads to the stand.")
]
"""A doctor leaves a stand as it was, so the kubeconfig that a shell exports will do."""


@command
@with_options(
    access_of,
    "access",
    without=("unmarked", "reset", "hold", "flagd_evaluation"),
    instead={"kubeconfig": _FROM_THE_SHELL},
)
def doctor(
    options: Options,
    access: ClusterAccess | None,
    config: Annotated[
        str, typer.Option("--config", metavar="NAME", help="What it is to run: a service configuration or a scenario.")
    ] = "small-core",
    granularity: Annotated[
        str | None, typer.Option(help="Replace the granularity, whose bucket says how far apart clocks may be.")
    ] = None,
    namespace: Annotated[str, typer.Option(metavar="NAME", help="Where gyms keep Leases and inverses.")] = "ocg-system",
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Change the stand, too, for some three minutes: send a span round, delay one edge by nothing and by 50 ms, measure, "
            "take it back.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    edge: Annotated[
        str,
        typer.Option(
            metavar="SOURCE->TARGET",
            help="The edge to delay. [default: where a delay is seen best]",
            rich_help_panel=_PANEL,
        ),
    ] = "",
    collector: Annotated[str, url_option("the collector's OTLP over HTTP", "--collector", panel=_PANEL)] = "",
) -> int:
    """Look at a stand and change nothing (but with --probe); say what is wrong and what to do about it (exit code 1: something failed)."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve

    if access is None:
        raise UsageError("which stand? --kubeconfig FILE leads to one, --in-pod is the one around this pod")
    given = {"edge": edge, "collector": collector, "receive": access.receive}
    if not probe and (names := [name for name, text in given.items() if text]):
        raise UsageError(f"--{names[0]} is for what is tried: add --probe")
    access = msgspec.structs.replace(access, safekeeping=namespace)
    settings = resolve(config, granularity=granularity).public
    diagnosis = run_interruptibly(
        _diagnose, access, settings, options.output, (edge, collector.rstrip("/")) if probe else None
    )
    options.output.answer({"healthy": diagnosis.healthy, "findings": diagnosis.findings})
    if not options.json:
        _tell(options.output, diagnosis)
    return 0 if diagnosis.healthy else NOT_SO


async def _diagnose(
    access: ClusterAccess, settings: RunSettings, output: Output, tried: tuple[str, str] | None
) -> Diagnosis:
    """Look, and then try what is to be `tried`: an edge (empty: any), by a collector (empty: by the access' way)."""
    from otel_control_gym.engine.deployment import accesses, informing_accesses, installer_accesses
    from otel_control_gym.engine.probing import Probe, probe
    from otel_control_gym.stands.cluster.doctor import Wanted, diagnose
    from otel_control_gym.stands.cluster.findings import Diagnosis, unknown
    from otel_control_gym.stands.cluster.pins import pins
    from otel_control_gym.stands.cluster.services import COLLECTOR, service_url, with_services
    from otel_control_gym.stands.cluster.stand import found_endpoints

    with found_endpoints(access) as found, output.side.status("looking at the stand") as status:
        endpoints = with_services(found, access.way)
        wanted = Wanted(
            settings=settings,
            pins=pins(),
            operating=accesses(endpoints.namespace, access.safekeeping),
            informing=informing_accesses(),
            installing=installer_accesses(),
            safekeeping=access.safekeeping,
        )
        diagnosis = await diagnose(endpoints, wanted)
        if tried is None:
            return diagnosis
        if not diagnosis.healthy:
            untried = unknown("probe", "not tried on a stand on which something failed", "first what failed")
            return Diagnosis(findings=(*diagnosis.findings, untried))
        edge, collector = tried
        wanted_probe = Probe(
            edge=edge,
            collector=collector or service_url(endpoints, COLLECTOR, access.way),
            receive=access.receive,
            guard=access.receive_guard,
        )
        more = await probe(endpoints, settings, wanted_probe, status.update)
        return Diagnosis(findings=(*diagnosis.findings, *more))


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
