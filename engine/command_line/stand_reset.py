"""`ocg stand reset`: a cluster is brought to its known state, outside of any run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess, ResetLevel
from otel_control_gym.engine.command_line.cluster_options import access_of
from otel_control_gym.engine.command_line.options import Options, with_options
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.stands.cluster.known_state import Reset

__all__ = ("reset",)


@with_options(access_of, "access", without=("reset", "receive"))
def reset(
    options: Options,
    access: ClusterAccess | None,
    level: Annotated[
        ResetLevel,
        typer.Option(help="soft: specs, flags, load; data: what holds state and its clients are restarted, too."),
    ] = "soft",
    config: Annotated[
        str, typer.Option("--config", metavar="NAME", help="What it runs: a service configuration or a scenario.")
    ] = "small-core",
    workload: Annotated[str | None, typer.Option(help="Replace the workload: a name or a file.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take specs and flags as they are for what is wanted from now on.")
    ] = False,
) -> int:
    """Bring a stand to its known state, as each run does before it begins; say what wasn't as it is wanted."""
    import msgspec

    from otel_control_gym.engine.cluster_assembly import reset_cluster
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.configuration import resolve

    if access is None:
        raise UsageError("which stand? --kubeconfig FILE leads to one, --in-pod is the one around this pod")
    leveled = msgspec.structs.replace(access, reset=level)
    settings = resolve(config, workload=workload)

    async def do() -> Reset:
        return await reset_cluster(leveled, settings, adopt=adopt)

    done = run_interruptibly(do)
    options.output.answer(msgspec.to_builtins(done))
    if not options.json:
        for title, names in (("removed", done.removed), ("restored", done.restored), ("restarted", done.restarted)):
            for name in names:
                options.output.console.print(f"{title:<10} {name}", markup=False)
        known = "what it is now counts as its known state" if done.adopted else "it is in its known state"
        options.output.console.print(f"level {done.level}, {done.wall_seconds:.1f} s: {known}", markup=False)
    return 0
