"""`ocg stand status` and `ocg stand down`: what of a stand is there, and its removal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from otel_control_gym.engine.command_line.confirmation import Yes, confirm
from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.command_line.stand import Context, Unmarked
from otel_control_gym.engine.command_line.stand_up import (
    Administrated,
    Configured,
    Force,
    report_of,
    tell_states,
    teller,
)

if TYPE_CHECKING:
    from otel_control_gym.stands.cluster.doctor import Wanted
    from otel_control_gym.stands.cluster.findings import Diagnosis
    from otel_control_gym.stands.cluster.inspection import PartState

__all__ = ("down", "status")


@command
def status(
    options: Options, kubeconfig: Administrated, context: Context = "", config: Configured = "small-core"
) -> int:
    """Say what of a stand is installed and ready, why the rest isn't, and what `ocg doctor` says (exit code 1: not all is)."""
    from rich.text import Text

    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve
    from otel_control_gym.engine.deployment import accesses, informing_accesses, installer_accesses
    from otel_control_gym.stands.cluster.doctor import Wanted
    from otel_control_gym.stands.cluster.parts import NAMESPACE
    from otel_control_gym.stands.cluster.pins import pins

    settings = resolve(config).public
    wanted = Wanted(
        settings=settings,
        pins=pins(),
        operating=accesses(NAMESPACE),
        informing=informing_accesses(),
        installing=installer_accesses(),
    )
    states, diagnosis = run_interruptibly(_look, kubeconfig, context, wanted)
    complete = all(state.complete for state in states) and diagnosis.healthy
    options.output.answer({"ready": complete, "parts": report_of(states), "findings": diagnosis.findings})
    if not options.json:
        tell_states(options.output, states)
        for finding in diagnosis.findings:
            options.output.console.print(Text(f"{finding.status:<11}{finding.check}: {finding.found}"))
        if any(finding.remedy for finding in diagnosis.findings):
            options.output.side.print(f"ocg doctor --kubeconfig {kubeconfig} has the remedies", soft_wrap=True)
    return 0 if complete else NOT_SO


async def _look(kubeconfig: Path, context: str, wanted: Wanted) -> tuple[tuple[PartState, ...], Diagnosis]:
    from otel_control_gym.stands.cluster.administration import open_administrator
    from otel_control_gym.stands.cluster.doctor import examine
    from otel_control_gym.stands.cluster.helm import open_helm
    from otel_control_gym.stands.cluster.inspection import inspect_stand
    from otel_control_gym.stands.cluster.parts import NAMESPACE, nodes_of, releases, workloads_of

    services = wanted.settings.services
    helm = await open_helm(wanted.pins.helm, kubeconfig=kubeconfig, context=context)
    async with open_administrator(kubeconfig, context=context, namespace=NAMESPACE) as administrator:
        nodes = nodes_of((await administrator.kubernetes("GET", "api/v1/nodes")).items)
        charts = releases(services.name, nodes)
        expected = workloads_of(services.services)
        states = await inspect_stand(administrator, await helm.releases(), charts, wanted.pins, expected)
        return states, await examine(administrator, wanted)


@command
def down(
    options: Options,
    kubeconfig: Administrated,
    context: Context = "",
    unmarked: Unmarked = False,
    yes: Yes = False,
    force: Force = False,
) -> int:
    """Remove a stand and prove that nothing of it is left (exit code 1: something is)."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    confirm(options.output, f"the stand to which {kubeconfig} leads is removed, with everything in it", yes=yes)
    left = run_interruptibly(_remove, kubeconfig, context, unmarked, force, teller(options.output))
    options.output.answer({"removed": not left, "left": list(left)})
    if not options.json:
        for line in left:
            options.output.console.print(f"left  {line}", markup=False)
        options.output.console.print("[red]not all is gone[/]; ocg stand down goes on" if left else "nothing is left")
    return NOT_SO if left else 0


async def _remove(
    kubeconfig: Path, context: str, unmarked: bool, driven: bool, tell: Callable[[str], None]
) -> tuple[str, ...]:
    from otel_control_gym.stands.cluster.administration import open_administrator
    from otel_control_gym.stands.cluster.helm import open_helm
    from otel_control_gym.stands.cluster.parts import NAMESPACE
    from otel_control_gym.stands.cluster.pins import pins
    from otel_control_gym.stands.cluster.removal import remove

    helm = await open_helm(pins().helm, kubeconfig=kubeconfig, context=context, tell=tell)
    async with open_administrator(kubeconfig, context=context, namespace=NAMESPACE) as administrator:
        return await remove(administrator, helm, tell, unmarked=unmarked, driven=driven)
