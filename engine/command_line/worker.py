"""`ocg worker`: plays runs of campaigns from the queue, on this machine, until it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.command_line.cluster_options import access_of
from otel_control_gym.engine.command_line.options import Options, command, with_options

__all__ = ("worker",)


@command
@with_options(access_of, "access", without=("reset",))
def worker(
    options: Options,
    access: ClusterAccess | None,
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign. [default: all]")] = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Leave when nothing is left to be taken.")] = False,
) -> None:
    """Take runs from the queue and play them, on an embedded twin or on one cluster; Ctrl-C gives back what is under way."""
    from otel_control_gym.engine.campaigns.worker_process import work
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    played = run_interruptibly(
        lambda: work(campaign, options.directory, options.nats, access=access, until_idle=until_idle)
    )
    options.output.answer({"played": played})
    if not options.json:
        options.output.console.print(f"{played} runs played")
