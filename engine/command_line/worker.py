"""`ocg worker`: plays runs of campaigns from the queue, on this machine, until it is stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_control_gym.engine.command_line.cluster_options import (
    ClusterContext,
    Coroot,
    Flagd,
    FlagdEvaluation,
    InPod,
    Kubeconfig,
    LoadGenerator,
    Prometheus,
    Receive,
    Unmarked,
    Via,
    access_of,
)
from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("worker",)


@command
def worker(
    options: Options,
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign. [default: all]")] = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Leave when nothing is left to be taken.")] = False,
    kubeconfig: Kubeconfig = None,
    in_pod: InPod = False,
    context: ClusterContext = "",
    unmarked: Unmarked = False,
    via: Via = None,
    prometheus: Prometheus = "",
    coroot: Coroot = "",
    load_generator: LoadGenerator = "",
    flagd: Flagd = "",
    flagd_evaluation: FlagdEvaluation = "",
    receive: Receive = "",
) -> None:
    """Take runs from the queue and play them, on an embedded twin or on one cluster; Ctrl-C gives back what is under way."""
    from otel_control_gym.engine.campaigns.worker_process import work
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    access = access_of(
        kubeconfig,
        in_pod=in_pod,
        context=context,
        unmarked=unmarked,
        reset="soft",  # the campaign says how
        via=via,
        prometheus=prometheus,
        coroot=coroot,
        load_generator=load_generator,
        flagd=flagd,
        flagd_evaluation=flagd_evaluation,
        receive=receive,
    )
    played = run_interruptibly(
        lambda: work(campaign, options.directory, options.nats, access=access, until_idle=until_idle)
    )
    options.output.answer({"played": played})
    if not options.json:
        options.output.console.print(f"{played} runs played")
