"""A summary ➜ what a person wants to read: where the run is, what happened, how it went, what to try next."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from otel_control_gym.engine.command_line.progress import clock_text
from otel_control_gym.engine.summary import Happening, Summary, Track

__all__ = ("sparkline", "suggest", "tell")

_LEVELS = "▁▂▃▄▅▆▇█"
_STATUS_STYLES = {"applied": "green", "completed": "green", "rejected": "red", "failed": "red", "aborted": "red"}
SPARKLINE_CHARACTERS = 48
BUSY_SERVICES = 4


def tell(console: Console, summary: Summary, *, wall_seconds: float | None = None) -> None:
    """Print a run's summary."""
    _heading(console, summary, wall_seconds)
    _happenings(console, summary)
    _tracks(console, summary)


def suggest(console: Console, data_dir: Path | None) -> None:
    """Print what to try next with the newest run."""
    option = "" if data_dir is None else f" --data-dir {shlex.quote(str(data_dir))}"
    lines = (
        (f"show latest{option}", "the same again, with a plot"),
        (f"tail latest{option}", "the events, one line each"),
        (f"rebuild latest --bucket 30s{option}", "the dataset at another granularity, from the log"),
        (f"validate latest{option}", "does it keep the data contract?"),
    )
    width = max(len(line) for line, _ in lines)
    console.print("\n[bold]Next[/]")
    for line, why in lines:
        console.print(f"  {escape(f'{_program()} {line:<{width}}')}  [dim]{why}[/]")


def _program() -> str:
    """Return how this program is called here: by name where that finds it, else by its path."""
    called = Path(sys.argv[0])
    found = shutil.which(called.name)
    return called.name if found is not None and Path(found).samefile(called) else shlex.quote(str(called))


def sparkline(
    track: Track, start: float, end: float, *, lowest: float | None = None, highest: float | None = None
) -> str:
    """Return a track between two moments as bars of eight heights; a gap stays blank.

    Each bar is the mean of the buckets that begin in its share of the time, or the bucket that goes on there.
    """
    cells = _cells(track, start, end)
    known = [value for value in cells if value is not None]
    if not known:
        return " " * SPARKLINE_CHARACTERS
    low = min(known) if lowest is None else lowest
    high = max(known) if highest is None else highest
    scale = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        " " if value is None else _LEVELS[round((min(max(value, low), high) - low) * scale)] for value in cells
    )


def _cells(track: Track, start: float, end: float) -> list[float | None]:
    width = (end - start) / SPARKLINE_CHARACTERS
    groups: list[list[float | None]] = [[] for _ in range(SPARKLINE_CHARACTERS)]
    for at, value in zip(track.seconds, track.values, strict=True):
        if start <= at < end:
            groups[min(int((at - start) / width), SPARKLINE_CHARACTERS - 1)].append(value)
    cells: list[float | None] = []
    for group in groups:
        known = [value for value in group if value is not None]
        gone_on = cells[-1] if cells and not group else None
        cells.append(sum(known) / len(known) if known else gone_on)
    return cells


def _heading(console: Console, summary: Summary, wall_seconds: float | None) -> None:
    style = _STATUS_STYLES.get(summary.status, "yellow")
    reason = f" ({summary.done_reason})" if summary.done_reason else ""
    speed = ""
    if wall_seconds:
        speed = f" in {wall_seconds:.1f} s of wall time"
    console.print(
        f"[bold]Run {summary.run_id}[/] [{style}]{summary.status}[/]{reason}: "
        f"{clock_text(summary.control_seconds)} of control, {summary.decisions} decisions{speed}"
    )
    if summary.void_rule is not None:
        why = f": {escape(summary.void_reason)}" if summary.void_reason else ""
        console.print(f"  [yellow]void by {summary.void_rule}{why}; it shows nothing that was meant to be learnt[/]")
    console.print(f"  {escape(summary.path)}")
    console.print(
        f"  [dim]{summary.service_config} on the {summary.stand}, workload {summary.workload}, policy {summary.policy}, "
        f"seed {summary.seed}, digest {(summary.content_digest or '-')[:16]}[/]"
    )


def _happenings(console: Console, summary: Summary) -> None:
    console.print("\n[bold]What happened[/]")
    if not summary.actions:
        console.print("  nothing was injected, and nobody acted")
    rows = [
        (
            clock_text(happening.seconds),
            "fault" if happening.action_class == "intervention" else "action",
            f"{happening.action_type} {happening.target} {happening.settings()}".rstrip(),
            happening.status,
            _course(happening),
        )
        for happening in summary.actions
    ]
    times, kinds, deeds, statuses = (max((len(row[column]) for row in rows), default=0) for column in range(4))
    for time, kind, deed, status, course in rows:
        console.print(
            f"  {time:>{times}}  [{'magenta' if kind == 'fault' else 'cyan'}]{kind:<{kinds}}[/]  {escape(deed):<{deeds}}  "
            f"[{_STATUS_STYLES.get(status, 'yellow')}]{status:<{statuses}}[/]  {escape(course)}"
        )


def _course(happening: Happening) -> str:
    """Return when it took effect and ended, or why not."""
    if happening.error:
        return happening.error.partition("\n")[0]
    parts = []
    if happening.effective_seconds is not None:
        parts.append(f"effective after {happening.effective_seconds - happening.seconds:.1f} s")
    if happening.reverted_seconds is not None:
        parts.append(f"taken back at {clock_text(happening.reverted_seconds)}")
    return ", ".join(parts)


def _tracks(console: Console, summary: Summary) -> None:
    entry = summary.service(summary.entry)
    start, end = summary.reward.seconds[0], summary.reward.seconds[-1] + summary.reward_bucket_seconds
    console.print(f"\n[bold]How it went[/] [dim]from {clock_text(start)} (warm-up) to {clock_text(end)}[/]")
    errors = entry.error_ratio
    availability = Track(
        unit="1", seconds=errors.seconds, values=[None if value is None else 1 - value for value in errors.values]
    )
    worst_latency = max(entry.latency_p95_ms.known(), default=float("nan"))
    least = min(availability.known(), default=float("nan"))
    lines = [
        ("reward", sparkline(summary.reward, start, end), f"{summary.reward_total:+.2f} during control"),
        ("SLO", sparkline(summary.slo, start, end, lowest=0, highest=1), _met(summary)),
        (
            "availability",
            sparkline(availability, start, end, lowest=min(0.9, least), highest=1),
            f"{summary.entry}, lowest {least:.1%} (objective {summary.availability_objective:.0%})",
        ),
        (
            "latency p95",
            sparkline(entry.latency_p95_ms, start, end, lowest=0),
            f"{summary.entry}, highest {worst_latency:,.0f} ms (objective {summary.latency_objective_ms:g} ms)",
        ),
    ]
    for service, track in _busiest(summary):
        share = f"of its limit, highest {max(track.known()):.0%}"
        lines.append((f"CPU {service}", sparkline(track, start, end, lowest=0, highest=1), share))
    width = max(len(name) for name, _, _ in lines)
    for name, bars, note in lines:
        console.print(f"  {name:<{width}}  {bars}  [dim]{note}[/]")


def _met(summary: Summary) -> str:
    during = [
        value
        for at, value in zip(summary.slo.seconds, summary.slo.values, strict=True)
        if value is not None and 0 <= at < summary.control_seconds
    ]
    met = sum(value >= summary.availability_objective for value in during)
    return f"met in {met} of {len(during)} windows of {summary.reward_bucket_seconds:g} s during control"


def _busiest(summary: Summary) -> list[tuple[str, Track]]:
    ranked = [(max(service.cpu_saturation.known(), default=0.0), service) for service in summary.services]
    ranked.sort(key=lambda pair: (-pair[0], pair[1].service))
    return [(service.service, service.cpu_saturation) for highest, service in ranked[:BUSY_SERVICES] if highest > 0]
