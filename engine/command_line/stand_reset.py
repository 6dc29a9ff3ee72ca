"""`ocg stand reset`: a cluster is brought to its known state, outside of any run; at its third level by installing it anew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess, ResetLevel
from otel_control_gym.engine.command_line.cluster_options import OF_SPANS_AND_LOGS, access_of
from otel_control_gym.engine.command_line.confirmation import Yes, confirm
from otel_control_gym.engine.command_line.options import Options, command, with_options
from otel_control_gym.engine.command_line.stand_up import (
    Charts,
    Force,
    GymImage,
    Patience,
    PullSecret,
    Registry,
    teller,
    wish_of,
)
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from otel_control_gym.stands.cluster.installation import Wish
    from otel_control_gym.stands.cluster.known_state import Reset

__all__ = ("reset",)


@command
@with_options(access_of, "access", without=("reset", *OF_SPANS_AND_LOGS))
def reset(
    options: Options,
    access: ClusterAccess | None,
    level: Annotated[
        ResetLevel,
        typer.Option(
            help="soft: specs, flags, load; data: what holds state and its clients are restarted, too; reinstall: all of it is removed "
            "and installed again, with an administrator's kubeconfig and the options of `ocg stand up`."
        ),
    ] = "soft",
    config: Annotated[
        str, typer.Option("--config", metavar="NAME", help="What it runs: a service configuration or a scenario.")
    ] = "small-core",
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take specs and flags as they are for what is wanted from now on.")
    ] = False,
    charts: Charts = None,
    registry: Registry = "",
    pull_secret: PullSecret = "",
    gym_image: GymImage = "",
    patience: Patience = 15.0,
    yes: Yes = False,
    force: Force = False,
) -> int:
    """Bring a stand to its known state, as each run does before it begins; say what wasn't as it is wanted, and what was seen then."""
    import msgspec

    from otel_control_gym.engine.cluster_assembly import reset_cluster
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve

    if access is None:
        raise UsageError("which stand? --kubeconfig FILE leads to one, --in-pod is the one around this pod")
    access = msgspec.structs.replace(access, reset="soft" if level == "reinstall" else level)
    settings = resolve(config, workload=workload)
    if level == "reinstall":
        if access.kubeconfig is None:
            raise UsageError("--level reinstall takes an administrator's rights: --kubeconfig FILE, not --in-pod")
        confirm(options.output, f"the stand to which {access.kubeconfig} leads is removed and installed anew", yes=yes)
        wish = wish_of(
            config,
            registry,
            charts=charts,
            pull_secret=pull_secret,
            gym_image=gym_image,
            patience_seconds=patience * 60,
        )
        run_interruptibly(
            _reinstall, access.kubeconfig, access.context, wish, access.unmarked, force, teller(options.output)
        )

    async def do() -> Reset:
        return await reset_cluster(access, settings, adopt=adopt)

    done = msgspec.structs.replace(run_interruptibly(do), level=level)
    options.output.answer(msgspec.to_builtins(done))
    if not options.json:
        for title, names in (("removed", done.removed), ("restored", done.restored), ("restarted", done.restarted)):
            for name in names:
                options.output.console.print(f"{title:<10} {name}", markup=False)
        for line in done.verification.lines():
            options.output.console.print(f"seen       {line}", markup=False, soft_wrap=True)
        known = "what it is now counts as its known state" if done.adopted else "it is in its known state"
        options.output.console.print(f"level {done.level}, {done.wall_seconds:.1f} s: {known}", markup=False)
    return 0


async def _reinstall(
    kubeconfig: Path, context: str, wish: Wish, unmarked: bool, driven: bool, tell: Callable[[str], None]
) -> None:
    from otel_control_gym.stands.cluster.administration import open_administrator
    from otel_control_gym.stands.cluster.helm import open_helm
    from otel_control_gym.stands.cluster.parts import NAMESPACE
    from otel_control_gym.stands.cluster.reinstallation import reinstall

    helm = await open_helm(wish.pins.helm, kubeconfig=kubeconfig, context=context, tell=tell)
    async with open_administrator(kubeconfig, context=context, namespace=NAMESPACE) as administrator:
        await reinstall(administrator, helm, wish, tell, unmarked=unmarked, driven=driven)
