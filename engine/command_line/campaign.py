"""`ocg campaign`: plan, play, watch and stop campaigns; what is made of their data is in `campaign_data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line import campaign_contrast, campaign_counterfactual, campaign_data
from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

if TYPE_CHECKING:
    from rich.console import Console

    from otel_control_gym.engine.campaigns.balance import Balance
    from otel_control_gym.engine.campaigns.record import CampaignState

__all__ = ("app",)

app = typer.Typer(help="Campaigns: hundreds of labelled runs from one file.", no_args_is_help=True)
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
def plan(options: Options, campaign: _Name, only: _Only = None) -> int:
    """Show the runs that follow from a campaign file, and whether they are balanced (exit code 1: they aren't)."""
    from otel_control_gym.engine.campaigns.balance import balance_of
    from otel_control_gym.engine.campaigns.files import load_plan

    found = load_plan(campaign, only=only)
    balance = balance_of(found)
    hours = sum(run.scenario.horizon_seconds for run in found.runs) / 3600
    options.output.answer(
        {
            "campaign": found.settings.name,
            "digest": found.digest,
            "runs": len(found.runs),
            "families": balance.families,
            "control_hours": round(hours, 2),
            "balance": balance,
        }
    )
    if not options.json:
        console = options.output.console
        console.print(
            f"[bold]{found.settings.name}[/]  {balance.families} families, {len(found.runs)} runs, {hours:.1f} h of control"
        )
        _tell_balance(console, balance)
    return 0 if balance.holds else NOT_SO


@app.command("run")
@command
def run(
    options: Options,
    campaign: _Name = "mvp",
    workers: Annotated[
        int | None,
        typer.Option(help="Worker processes here; 0: others do the work. [default: as many as there are processors]"),
    ] = None,
    only: _Only = None,
) -> int:
    """Play a campaign, or what is left of it, and write its report (exit code 1: a run couldn't be played)."""
    import os

    import msgspec

    from otel_control_gym.engine.campaigns.files import load_plan
    from otel_control_gym.engine.campaigns.report import write_report
    from otel_control_gym.engine.campaigns.running import campaign_directory
    from otel_control_gym.engine.command_line.campaign_progress import CampaignProgress
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.errors import UsageError

    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers}: must be 0 or more")
    found = load_plan(campaign, only=only)
    count = workers if workers is not None else os.cpu_count() or 1
    with CampaignProgress(options.output.side, len(found.runs)) as progress:
        result = run_interruptibly(lambda: _play(found, options, count, progress.show))
    written = write_report(campaign_directory(options.directory, result.campaign))
    options.output.answer({**msgspec.structs.asdict(result), "report": str(written.html)})
    if not options.json:
        options.output.console.print(
            f"[bold]{result.campaign}[/]  {result.completed} of {result.planned} runs completed, {result.failed} failed, "
            f"{result.retried} retried; {result.episode_seconds / 3600:.1f} h of control in {result.wall_seconds:.0f} s, "
            f"{result.size_bytes / 2**20:.0f} MiB"
        )
        options.output.console.print(f"report: {written.html}", markup=False)
    return 0 if result.completed == result.planned else NOT_SO


async def _play(plan: Any, options: Options, workers: int, show: Any) -> Any:
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.campaigns.running import run_campaign

    async with configured_broker(options.directory, options.nats) as broker:
        return await run_campaign(
            plan, broker, data_dir=options.directory, nats=options.nats, workers=workers, on_state=show
        )


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
    """Measure what each single action and fault of a campaign did, in futures with it and without."""
    import os

    from otel_control_gym.engine.campaigns.certifying import certify as certify_campaign
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
    classes = ("visible", "masked", "none")
    counts = {name: sum(effect.certificate.effect_class == name for effect in found) for name in classes}
    page = options.directory / f"campaign={campaign}" / "certificates.md"
    options.output.answer({"campaign": campaign, "counts": counts, "path": str(page), "certificates": found})
    if not options.json:
        options.output.console.print(
            f"{', '.join(f'{count} {name}' for name, count in counts.items())}: {page}", soft_wrap=True
        )


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
    from otel_control_gym.engine.command_line.campaign_progress import CampaignProgress
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    plan = load_plan(campaign, only=only)
    with CampaignProgress(options.output.side, len(plan.runs)) as progress:
        run_interruptibly(lambda: _play(plan, options, workers, progress.show))
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
