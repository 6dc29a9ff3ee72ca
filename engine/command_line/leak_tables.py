"""What `ocg campaign leaks` found, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from otel_control_gym.engine.campaigns.leak_reports import LeakReport

__all__ = ("tell_leaks",)

_COLOURS = {"at chance": "green", "leaks": "red", "too few runs": "yellow", "by nature": "dim"}


def tell_leaks(console: Console, report: LeakReport) -> None:
    """Print a report."""
    zero = report.test == "zero_strength"
    table = Table(title=f"{report.campaign}: {report.runs} runs of {report.families} families", title_justify="left")
    for name in ("label", "channel"):
        table.add_column(name)
    for name in ("AUC", "upper bound") if zero else ("accuracy", "chance", "p"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for channel in report.channels:
        figures = (channel.found, channel.bound) if zero else (channel.found, channel.chance, channel.bound)
        colour = _COLOURS[channel.verdict]
        table.add_row(
            channel.label,
            channel.channel.replace("_", " "),
            *(f"{figure:.3f}" for figure in figures),
            f"[{colour}]{channel.verdict}[/]",
        )
    console.print(table)
    if report.identical_public_logs is not None:
        pairs = report.identical_public_logs + len(report.different_public_logs)
        console.print(f"  identical public logs: {report.identical_public_logs} of {pairs} pairs")
    for word, keys in report.giveaways.items():
        console.print(f"  [red]{word!r}[/] stands in public records of {len(keys)} runs, e.g. {keys[0]}")
