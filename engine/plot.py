"""A summary ➜ one picture of the run: reward, service level, the entry service, CPU, with what was injected and done.

A report on many runs shows a smaller one: reward, service level and what the affected service did.

In: `engine.summary.Summary`. Out: a file (PNG, SVG or PDF by its suffix). Faults are shaded from taking effect to being taken back;
actions are dashed lines, rejected and failed ones dotted. Numbers at the top lead to the list at the right. Colours are those of
Okabe and Ito, which people with colour-blindness can tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.summary import Happening, ServiceTrack, Summary, Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ("draw", "draw_example", "plot_example", "plot_summary")

SUFFIXES = (".pdf", ".png", ".svg")
NAMED_SERVICES = 6
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK, _FAINT, _FAULT, _ACTION = "#222222", "#BBBBBB", "#E69F00", "#0072B2"
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E6E6E6",
    "axes.axisbelow": True,
    "axes.labelcolor": _INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "ocg",
}


def plot_summary(summary: Summary, file: Path) -> None:
    """Draw a run into a file, which appears whole or not at all.

    Raises: UsageError: the suffix isn't one of a picture. OSError: the file can't be written.
    """
    if file.suffix not in SUFFIXES:
        raise UsageError(f"{file}: not a picture's name\n  use one of the suffixes {', '.join(SUFFIXES)}")
    _save(draw(summary), file, dots_per_inch=150)


def plot_example(summary: Summary, service: str, file: Path) -> None:
    """Draw a run as an example of its kind, with the service that was affected, into a PNG, which appears whole or not at all.

    Raises: OSError: the file can't be written.
    """
    _save(draw_example(summary, service), file, dots_per_inch=100)


def _save(figure: Figure, file: Path, *, dots_per_inch: int) -> None:
    import matplotlib as mpl

    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}")
    try:
        with mpl.rc_context(_STYLE):  # the salt of an SVG's ids is looked up when it is written
            figure.savefig(partial, format=file.suffix[1:], dpi=dots_per_inch, metadata=_metadata(file.suffix))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def draw(summary: Summary) -> Figure:
    """Return the run as a matplotlib figure."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    entry = summary.service(summary.entry)
    scaled = [service for service in summary.services if len(set(service.replicas_ready.known())) > 1]
    panels = 5 if scaled else 4
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 1.9 * panels + 0.9), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(panels, 1, sharex=True)
        _reward(axes[0], summary)
        _availability(axes[1], summary, entry)
        _latency(axes[2], summary, entry)
        _cpu(axes[3], summary)
        if scaled:
            _replicas(axes[4], scaled, summary.bucket_seconds)
        for axis in axes:
            _context(axis, summary)
        _numbers(axes[0], summary)
        _list(axes[0], summary)
        _time_axis(axes[-1], summary)
        figure.align_ylabels(list(axes))
        figure.suptitle(
            f"{summary.service_config} on the {summary.stand}, workload {summary.workload}, policy {summary.policy}\n"
            f"run {summary.run_id}: {summary.status}, reward {summary.reward_total:+.2f} during control",
            fontsize=10,
            x=0.01,
            ha="left",
        )
    return figure


def draw_example(summary: Summary, service: str) -> Figure:
    """Return reward, service level, and one service's latency, errors and CPU as a matplotlib figure."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    track = summary.service(service)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 5.8), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(4, 1, sharex=True)
        _reward(axes[0], summary)
        _objective(axes[1], summary)
        _service_latency(axes[2], track, summary.bucket_seconds)
        _service_ratios(axes[3], track, summary.bucket_seconds)
        for axis in axes:
            _context(axis, summary)
        _numbers(axes[0], summary)
        _list(axes[0], summary)
        _time_axis(axes[-1], summary)
        figure.align_ylabels(list(axes))
    return figure


# --- panels -----------------------------------------------------------------------------------------------------------------


def _reward(axis: Axes, summary: Summary) -> None:
    _steps(axis, summary.reward, summary.reward_bucket_seconds, colour=_COLOURS[0], fill=True)
    axis.axhline(0, color=_INK, linewidth=0.6)
    axis.set_ylabel(f"reward\nper {summary.reward_bucket_seconds:g} s")


def _availability(axis: Axes, summary: Summary, entry: ServiceTrack) -> None:
    errors = entry.error_ratio
    shown = Track(
        unit="%",
        seconds=errors.seconds,
        values=[None if value is None else 100 * (1 - value) for value in errors.values],
    )
    _steps(axis, shown, summary.bucket_seconds, colour=_COLOURS[2], label=f"{entry.service}: answered\nwithout error")
    objective = 100 * summary.availability_objective
    axis.axhline(objective, color=_COLOURS[1], linewidth=1, linestyle=(0, (4, 2)), label=f"objective {objective:g} %")
    lowest = min(objective - 1, *shown.known(), 100)
    axis.set_ylim(lowest - 0.05 * (100 - lowest), 100 + 0.05 * (100 - lowest))
    axis.set_ylabel("availability\n[%]")
    _legend(axis)


def _latency(axis: Axes, summary: Summary, entry: ServiceTrack) -> None:
    track, objective = entry.latency_p95_ms, summary.latency_objective_ms
    _steps(axis, track, summary.bucket_seconds, colour=_COLOURS[3], label=f"{entry.service}: 95th\npercentile")
    axis.axhline(objective, color=_COLOURS[1], linewidth=1, linestyle=(0, (4, 2)), label=f"objective {objective:g} ms")
    axis.set_ylim(0, max(1.15 * objective, *(1.05 * value for value in track.known()), 1))
    axis.set_ylabel("latency p95\n[ms]")
    _legend(axis)


def _objective(axis: Axes, summary: Summary) -> None:
    _steps(axis, summary.slo, summary.reward_bucket_seconds, colour=_COLOURS[2], label="share of the\ndemand served")
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel("service level")
    _legend(axis)


def _service_latency(axis: Axes, track: ServiceTrack, bucket_seconds: float) -> None:
    _steps(axis, track.latency_p95_ms, bucket_seconds, colour=_COLOURS[3], label=f"{track.service}:\n95th percentile")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("latency p95\n[ms]")
    _legend(axis)


def _service_ratios(axis: Axes, track: ServiceTrack, bucket_seconds: float) -> None:
    middle = bucket_seconds / 2
    _line(axis, track.error_ratio, middle, colour=_COLOURS[1], width=1.4, label=f"{track.service}: errors")
    _line(
        axis, track.cpu_saturation, middle, colour=_COLOURS[0], width=1.4, label=f"{track.service}: CPU\nof its limit"
    )
    axis.set_ylim(-5, 105)
    axis.set_ylabel("share\n[%]")
    _legend(axis)


def _cpu(axis: Axes, summary: Summary) -> None:
    middle = summary.bucket_seconds / 2
    ranked = sorted(
        summary.services, key=lambda service: (-max(service.cpu_saturation.known(), default=0.0), service.service)
    )
    named, others = ranked[:NAMED_SERVICES], ranked[NAMED_SERVICES:]
    for service in others:
        _line(axis, service.cpu_saturation, middle, colour=_FAINT, width=0.8)
    for service, colour in zip(named, _COLOURS, strict=False):
        _line(axis, service.cpu_saturation, middle, colour=colour, width=1.4, label=service.service)
    if others:
        axis.plot([], [], color=_FAINT, linewidth=0.8, label=f"{len(others)} others")
    axis.axhline(100, color=_INK, linewidth=0.6)
    axis.set_ylim(0, 110)
    axis.set_ylabel("CPU used\n[% of limit]")
    _legend(axis)


def _replicas(axis: Axes, services: Sequence[ServiceTrack], bucket_seconds: float) -> None:
    from matplotlib.ticker import MaxNLocator

    for service, colour in zip(services, _COLOURS, strict=False):
        _steps(axis, service.replicas_ready, bucket_seconds, colour=colour, label=service.service)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(bottom=0)
    axis.set_ylabel("replicas\nready")
    _legend(axis)


# --- what was injected and done ---------------------------------------------------------------------------------------------


def _context(axis: Axes, summary: Summary) -> None:
    """Shade faults, mark actions, and set control off from warm-up and cool-down."""
    end = summary.control_seconds / 60
    for edge in (0.0, end):
        axis.axvline(edge, color=_FAINT, linewidth=0.8, zorder=0)
    for happening in summary.actions:
        if happening.action_class == "intervention":
            start, stop = _span(happening, summary)
            axis.axvspan(start / 60, stop / 60, color=_FAULT, alpha=0.18, linewidth=0, zorder=0)
        else:
            style = (0, (4, 2)) if happening.status == "applied" else (0, (1, 2))
            axis.axvline(happening.seconds / 60, color=_ACTION, linewidth=1.1, linestyle=style, zorder=1)


def _span(happening: Happening, summary: Summary) -> tuple[float, float]:
    began = happening.effective_seconds
    if began is None:
        began = happening.seconds
    end = summary.control_seconds if happening.reverted_seconds is None else happening.reverted_seconds
    return began, max(began, end)


def _numbers(axis: Axes, summary: Summary) -> None:
    for number, happening in enumerate(summary.actions, start=1):
        fault = happening.action_class == "intervention"
        at = sum(_span(happening, summary)) / 2 if fault else happening.seconds
        axis.annotate(
            str(number),
            xy=(at / 60, 1.0),
            xycoords=axis.get_xaxis_transform(),
            xytext=(0, 14 if fault else 3),  # two rows, so that a fault and an action never share a place
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8,
            fontweight="bold",
            color="#A66F00" if fault else _ACTION,
        )


def _list(axis: Axes, summary: Summary) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    for number, happening in enumerate(summary.actions, start=1):
        text = f"{number}  {happening.action_type} {happening.target} {happening.settings()}".rstrip()
        if happening.status != "applied":
            text += f" ({happening.status})"
        if happening.action_class == "intervention":
            handles.append(Patch(color=_FAULT, alpha=0.35, linewidth=0, label=text))
        else:
            style = (0, (4, 2)) if happening.status == "applied" else (0, (1, 2))
            handles.append(Line2D([], [], color=_ACTION, linestyle=style, label=text))
    if handles:
        _legend(axis, handles)


# --- strokes ----------------------------------------------------------------------------------------------------------------


def _steps(
    axis: Axes, track: Track, bucket_seconds: float, *, colour: str, fill: bool = False, label: str | None = None
) -> None:
    """Draw a value per bucket over the bucket's whole width; a gap stays a gap."""
    values = [*_numbers_of(track), float("nan")]
    edges = [*_minutes(track.seconds), (track.seconds[-1] + bucket_seconds) / 60]
    axis.stairs(values[:-1], edges, baseline=0 if fill else None, color=colour, linewidth=1.3, fill=False, label=label)
    if fill:
        axis.stairs(values[:-1], edges, baseline=0, color=colour, alpha=0.25, fill=True)


def _line(axis: Axes, track: Track, offset: float, *, colour: str, width: float, label: str | None = None) -> None:
    values = [100 * value for value in _numbers_of(track)]
    axis.plot(_minutes([at + offset for at in track.seconds]), values, color=colour, linewidth=width, label=label)


def _minutes(seconds: Sequence[float]) -> list[float]:
    return [value / 60 for value in seconds]


def _numbers_of(track: Track) -> list[float]:
    return [float("nan") if value is None else value for value in track.values]


def _legend(axis: Axes, handles: list[Any] | None = None) -> None:
    known = {} if handles is None else {"handles": handles}
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1.05), frameon=False, fontsize=8, handlelength=1.6, **known)


def _time_axis(axis: Axes, summary: Summary) -> None:
    end = summary.reward.seconds[-1] + summary.reward_bucket_seconds
    axis.set_xlim(summary.reward.seconds[0] / 60, end / 60)
    axis.set_xlabel("minutes since control began (before 0: warm-up; after the second grey line: cool-down)")


def _metadata(suffix: str) -> dict[str, Any]:
    """Return file metadata without the time of drawing: the same run gives the same bytes."""
    return {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
