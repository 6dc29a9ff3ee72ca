"""`ocg campaign`: plan, watch and stop campaigns; `campaign_run` plays them, what is made of their data is in `campaign_data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line import (
    campaign_contrast,
    campaign_counterfactual,
    campaign_data,
    campaign_run,
)
from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

if TYPE_CHECKING:
    from rich.console import Console

    from otel_control_gym.engine.campaigns.balance import Balance
    from otel_control_gym.engine.campaigns.record import CampaignState

__all__ = ("app",)

app = typer.Typer(help="Campaigns: hundreds of labelled runs from one file.", no_args_is_help=True)
app.command("run")(campaign_run.run)
app.command("report")(campaign_data.report)
app.command("rebuild")(campaign_data.rebuild)
app.command("counterfactual")(campaign_counterfactual.counterfactual)
app.command("contrast")(campaign_contrast.contrast)

_Name = Annotated[str, typer.Argument(help="Name of a packaged campaign, or a campaign file.")]
_Known = Annotated[str, typer.Argument(help="Name of a campaign that was run here.")]
_Only = Annotated[
    int | None, typer.Option(metavar="N", help="At most N families of each stratum, balanced or not: to try it out.")
]


@app.command("plan")
@command
def plan(
    options: Options,
    campaign: _Name,
    only: _Only = None,
    stands: Annotated[
        int, typer.Option(metavar="N", help="Clusters to share the runs, for the estimate of a campaign on clusters.")
    ] = 1,
) -> int:
    """Show the runs that follow from a campaign file, whether they are balanced (exit code 1: they aren't), and what they cost."""
    from otel_control_gym.engine.campaigns.balance import balance_of
    from otel_control_gym.engine.campaigns.estimates import estimate_of
    from otel_control_gym.engine.campaigns.files import granularity_of, load_plan
    from otel_control_gym.engine.errors import UsageError

    if stands < 1:
        raise UsageError(f"--stands {stands}: must be at least 1")
    found = load_plan(campaign, only=only)
    balance = balance_of(found)
    estimate = estimate_of(found, granularity_of(found.settings), stands)
    hours = sum(run.scenario.horizon_seconds for run in found.runs) / 3600
    options.output.answer(
        {
            "campaign": found.settings.name,
            "digest": found.digest,
            "runs": len(found.runs),
            "families": balance.families,
            "control_hours": round(hours, 2),
            "balance": balance,
            "estimate": estimate,
        }
    )
    if not options.json:
        console = options.output.console
        console.print(
            f"[bold]{found.settings.name}[/]  {balance.families} families, {len(found.runs)} runs, {hours:.1f} h of control"
        )
        _tell_balance(console, balance)
        if estimate is not None:
            campaign_run.tell_estimate(console, estimate)
    return 0 if balance.holds else NOT_SO


@app.command("certify")
@command
def certify(
    options: Options,
    campaign: _Known,
    branches: Annotated[
        int,
        typer.Option(
            metavar="K", help="Futures with each action, and K without. 0: the difference to its sibling, untested."
        ),
    ] = 8,
    workers: Annotated[
        int | None, typer.Option(help="Processes that play futures. [default: as many as there are processors]")
    ] = None,
    only: Annotated[int | None, typer.Option(metavar="N", help="At most N runs of each stratum.")] = None,
    seconds: Annotated[int, typer.Option(help="How long after the action effects are looked for.")] = 300,
) -> None:
    """Measure what each single action and fault of a campaign did, in futures with it and without, and write its report anew."""
    import os

    from otel_control_gym.engine.campaigns.certificate_summaries import CLASSES
    from otel_control_gym.engine.campaigns.certifying import certify as certify_campaign
    from otel_control_gym.engine.campaigns.report import write_report
    from otel_control_gym.engine.campaigns.running import campaign_directory
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    side = options.output.side
    done: list[str] = []

    def tell(certified: Any, total: int) -> None:
        done.append(certified.key)
        side.print(
            f"{len(done)} of {total}  {certified.kind} {certified.target} {certified.intensity}: "
            f"{certified.certificate.effect_class}",
            highlight=False,
            markup=False,
        )

    found = run_interruptibly(
        lambda: certify_campaign(
            options.directory,
            campaign,
            branches=branches,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            only=only,
            seconds=seconds,
            on_certified=tell,
        )
    )
    counts = {name: sum(effect.certificate.effect_class == name for effect in found) for name in CLASSES}
    directory = campaign_directory(options.directory, campaign)
    page, written = directory / "certificates.md", write_report(directory)
    options.output.answer(
        {
            "campaign": campaign,
            "counts": counts,
            "path": str(page),
            "report": str(written.html),
            "certificates": found,
        }
    )
    if not options.json:
        options.output.console.print(
            f"{', '.join(f'{count} {name}' for name, count in counts.items())}: {page}", soft_wrap=True
        )
        options.output.console.print(f"report: {written.html}", markup=False, soft_wrap=True)


@app.command("status")
@command
def status(options: Options, campaign: _Known) -> int:
    """Tell how far a campaign is (exit code 1: it isn't complete)."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    state = run_interruptibly(lambda: _state(options, campaign))
    _tell_state(options, campaign, state)
    return 0 if state.count("completed") == len(state.keys) else NOT_SO


@app.command("cancel")
@command
def cancel(options: Options, campaign: _Known) -> None:
    """Call a campaign off: what is under way ends, nothing else begins; `ocg campaign run` takes it up again."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    _tell_state(options, campaign, run_interruptibly(lambda: _cancelled(options, campaign)))


@app.command("leaks")
@command
def leaks(
    options: Options,
    campaign: Annotated[str, typer.Argument(help="Campaign of zero-strength runs, or a file of one.")] = "leaks",
    workers: Annotated[
        int | None, typer.Option(help="Worker processes here. [default: as many as there are processors]")
    ] = None,
    only: _Only = None,
    before_onset: Annotated[
        str | None,
        typer.Option(
            metavar="CAMPAIGN",
            help="Instead: what can be foretold in a campaign that was run here, before anything is done.",
        ),
    ] = None,
) -> int:
    """Play zero-strength runs and try to tell them from untouched ones (exit code 1: not shown to be free of leaks)."""
    import os

    from otel_control_gym.engine.campaigns.leak_reports import write_report
    from otel_control_gym.engine.campaigns.leaks import before_onset_report, zero_strength_report
    from otel_control_gym.engine.campaigns.running import campaign_directory
    from otel_control_gym.engine.command_line.leak_tables import tell_leaks
    from otel_control_gym.engine.errors import UsageError

    count = workers if workers is not None else os.cpu_count() or 1
    if count < 1:
        raise UsageError(f"--workers {count}: must be at least 1")
    if before_onset is not None:
        directory = campaign_directory(options.directory, before_onset)
        report = before_onset_report(directory, count)
    else:
        directory = campaign_directory(options.directory, _play_leaks(options, campaign, only, count))
        report = zero_strength_report(directory, count)
    written = write_report(report, directory)
    options.output.answer(report)
    if not options.json:
        tell_leaks(options.output.console, report)
        options.output.console.print(f"  {written[1]}", soft_wrap=True)
    return 0 if report.holds else NOT_SO


def _play_leaks(options: Options, campaign: str, only: int | None, workers: int) -> str:
    """Play what isn't played yet of a campaign, and return its name."""
    from otel_control_gym.engine.campaigns.files import load_plan

    plan = load_plan(campaign, only=only)
    campaign_run.play(plan, options, workers=workers)
    return plan.settings.name


async def _state(options: Options, campaign: str) -> CampaignState:
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.campaigns.record import CampaignRecord
    from otel_control_gym.engine.jetstream import JetStream

    async with configured_broker(options.directory, options.nats) as broker, JetStream(broker) as jetstream:
        return (await CampaignRecord.open(jetstream, campaign)).state


async def _cancelled(options: Options, campaign: str) -> CampaignState:
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.campaigns.running import cancel as call_off

    async with configured_broker(options.directory, options.nats) as broker:
        return await call_off(broker, campaign)


def _tell_state(options: Options, campaign: str, state: CampaignState) -> None:
    strata: dict[str, dict[str, int]] = {}
    for found in state.keys.values():
        counts = strata.setdefault(found.stratum, {"planned": 0, "completed": 0, "failed": 0})
        counts["planned"] += 1
        if found.status in counts:
            counts[found.status] += 1
    reasons = {key: found.reasons[-1] for key, found in state.keys.items() if found.status == "failed"}
    options.output.answer(
        {
            "campaign": campaign,
            "cancelled": state.cancelled,
            "planned": len(state.keys),
            "completed": state.count("completed"),
            "running": state.count("running"),
            "failed": state.count("failed"),
            "retried": state.retried,
            "strata": strata,
            "failures": reasons,
            "stands_in_trouble": {name: trouble.reason for name, trouble in state.troubles.items()},
        }
    )
    if options.json:
        return
    console = options.output.console
    called_off = ", called off" if state.cancelled else ""
    console.print(
        f"[bold]{campaign}[/]  {state.count('completed')} of {len(state.keys)} runs completed, {state.count('running')} running, "
        f"{state.count('failed')} failed, {state.retried} retried{called_off}"
    )
    for stratum, counts in sorted(strata.items()):
        console.print(f"  {stratum:<20} {counts['completed']:4} of {counts['planned']:4}")
    for key, reason in sorted(reasons.items()):
        console.print(f"  [red]{key}[/]: {reason}", soft_wrap=True)
    for name, trouble in sorted(state.troubles.items()):
        verdict = "was left out" if trouble.left_out else "can't be played on now"
        console.print(f"  stand {name} {verdict}: {trouble.reason}", markup=False, soft_wrap=True)


def _tell_balance(console: Console, balance: Balance) -> None:
    from rich.table import Table

    for name in ("stratum", "fault_type"):
        table = next(item for item in balance.tables if item.rows_are == name)
        shown = Table(
            table.rows_are, *table.columns, title=f"{table.rows_are} x {table.columns_are}", title_justify="left"
        )
        for row, counts in zip(table.rows, table.counts, strict=True):
            shown.add_row(row, *map(str, counts))
        console.print(shown)
    for bound in balance.bounds:
        verdict = "[green]holds[/]" if bound.holds else "[red]doesn't hold[/]"
        console.print(
            f"  {bound.name.replace('_', ' '):<42} {bound.found:7.3f}  "
            f"at {'most' if bound.at_most else 'least'} {bound.asked:7.3f}  {verdict}"
        )
