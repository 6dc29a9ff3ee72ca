"""`ocg campaign run`: play a campaign, on embedded twins here or on clusters, and say what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.command_line.cluster_options import stands_of
from otel_control_gym.engine.command_line.options import NOT_SO, Options, command, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from otel_control_gym.engine.campaigns.estimates import Estimate
    from otel_control_gym.engine.campaigns.plans import CampaignPlan
    from otel_control_gym.engine.campaigns.running import CampaignResult

__all__ = ("play", "run", "tell_estimate")


@command
@with_options(stands_of, "stands", without=("reset",))
def run(
    options: Options,
    stands: tuple[ClusterAccess, ...],
    campaign: Annotated[str, typer.Argument(help="Name of a packaged campaign, or a campaign file.")] = "mvp",
    workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes here; 0: others do the work. [default: as many as there are processors; one on each cluster]"
        ),
    ] = None,
    only: Annotated[
        int | None,
        typer.Option(metavar="N", help="At most N families of each stratum, balanced or not: to try it out."),
    ] = None,
) -> int:
    """Play a campaign, or what is left of it, and write its report (exit code 1: a run couldn't be played)."""
    import os

    import msgspec

    from otel_control_gym.engine.campaigns.files import load_plan
    from otel_control_gym.engine.campaigns.report import write_report
    from otel_control_gym.engine.campaigns.running import campaign_directory
    from otel_control_gym.engine.errors import UsageError

    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers}: must be 0 or more")
    if workers is not None and stands:
        raise UsageError(f"--workers {workers}: on clusters there is one worker on each\n  leave --workers out")
    found = load_plan(campaign, only=only)
    result, estimate = play(
        found, options, workers=workers if workers is not None else os.cpu_count() or 1, stands=stands
    )
    written = write_report(campaign_directory(options.directory, result.campaign))
    options.output.answer({**msgspec.structs.asdict(result), "estimate": estimate, "report": str(written.html)})
    if not options.json:
        _tell(options.output.console, result)
        options.output.console.print(f"report: {written.html}", markup=False)
    return 0 if result.completed == result.planned else NOT_SO


def play(
    plan: CampaignPlan, options: Options, *, workers: int, stands: Sequence[ClusterAccess] = ()
) -> tuple[CampaignResult, Estimate | None]:
    """Play what isn't played yet of a plan, with its progress on standard error; return what became of it, and what it was to cost.

    Raises: what `run_campaign` raises. KeyboardInterrupt: Ctrl-C; what was under way was ended in order.
    """
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.campaigns.estimates import estimate_of
    from otel_control_gym.engine.campaigns.files import granularity_of
    from otel_control_gym.engine.campaigns.running import run_campaign
    from otel_control_gym.engine.command_line.campaign_progress import CampaignProgress
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    side = options.output.side
    estimate = estimate_of(plan, granularity_of(plan.settings), len(stands)) if stands else None
    if estimate is not None:
        tell_estimate(side, estimate)
    with CampaignProgress(side, len(plan.runs)) as progress:

        async def played() -> CampaignResult:
            async with configured_broker(options.directory, options.nats) as broker:
                return await run_campaign(
                    plan,
                    broker,
                    data_dir=options.directory,
                    nats=options.nats,
                    workers=workers,
                    stands=stands,
                    on_state=progress.show,
                )

        return run_interruptibly(played), estimate


def tell_estimate(console: Console, estimate: Estimate) -> None:
    """Tell what a campaign on clusters costs."""
    shared = "on one stand" if estimate.stands == 1 else f"on {estimate.stands} stands"
    console.print(
        f"[bold]estimate[/]  {estimate.runs} runs of {estimate.minutes_per_run:.1f} min, each with a reset ({estimate.reset}) of "
        f"{estimate.reset_seconds} s: {estimate.hours:.1f} h {shared}",
        soft_wrap=True,
    )
    console.print(
        "  a worker plays in real time and holds the lease of its stand: as many workers as stands, one run at a time on each\n"
        "  no run has a sibling: effects are measured before and after, `ocg campaign certify NAME --branches 0`",
        markup=False,
        soft_wrap=True,
    )


def _tell(console: Console, result: CampaignResult) -> None:
    console.print(
        f"[bold]{result.campaign}[/]  {result.completed} of {result.planned} runs completed, {result.failed} failed, "
        f"{result.retried} retried; {result.episode_seconds / 3600:.1f} h of control in {result.wall_seconds:.0f} s, "
        f"{result.size_bytes / 2**20:.0f} MiB"
    )
    for stand, reason in result.left_out.items():
        console.print(f"  stand {stand} was left out: {reason}", style="red", markup=False, soft_wrap=True)
