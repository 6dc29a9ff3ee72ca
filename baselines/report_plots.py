"""Figures with intervals ➜ pictures: points with whiskers along rows, and bars in groups.

In: names and intervals. Out: PNG bytes, the same for the same figures. Pure but for matplotlib, which is imported when a plot is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from otel_control_gym.baselines.intervals import Interval

__all__ = ("Row", "forest", "series")

_INK, _LINE = "#1c2430", "#b8c0cc"
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#5d6776",
)  #: told apart by the colour-blind


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a forest plot; `part` chooses the colour."""

    name: str
    part: str
    found: Interval


def forest(rows: Sequence[Row], *, axis: str, marks: Mapping[str, float]) -> bytes:
    """Return points with their 95 % intervals, one below the other; rows without a value are left out.

    Args:
        rows: from top to bottom.
        axis: what is shown.
        marks: vertical lines by their names, e.g. {"no difference": 1.0}.
    """
    from matplotlib.figure import Figure

    shown = [row for row in rows if row.found.value is not None]
    parts = list(dict.fromkeys(row.part for row in shown))
    figure = Figure(figsize=(8.2, 1.1 + 0.28 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(shown):
        found, colour = row.found, _COLOURS[parts.index(row.part) % len(_COLOURS)]
        faint = 0.35 if found.too_few else 1.0
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [place, place], color=colour, alpha=faint, linewidth=2)
        axes.plot([found.value or 0.0], [place], "o", color=colour, alpha=faint, markersize=5)
    for place, (name, value) in enumerate(marks.items()):
        axes.axvline(value, color=_INK, linewidth=0.8, linestyle="--")
        outwards = -1 if place == 0 and len(marks) > 1 else 1  # names of neighbours lean away from each other
        axes.annotate(
            name,
            (value, 1.0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            xytext=(3 * outwards, 2),
            fontsize=7,
            ha="right" if outwards < 0 else "left",
        )
    axes.set_yticks(range(len(shown)), [f"{row.name} (n = {row.found.families})" for row in shown], fontsize=8)
    axes.invert_yaxis()
    _finish(axes, parts, axis)
    return _png(figure)


def series(groups: Mapping[str, Mapping[str, Interval]], *, axis: str, levels: Mapping[str, float]) -> bytes:
    """Return points with intervals, in groups along the horizontal axis, a colour for each name within them.

    Args:
        groups: {group: {name: interval}}.
        axis: what is shown.
        levels: horizontal lines by their names.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for found in groups.values() for name in found))
    figure = Figure(figsize=(max(6.0, 1.2 + 0.9 * len(groups)), 3.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.7 / max(len(names), 1)
    for number, name in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        for place, found in enumerate(groups.values()):
            one = found.get(name)
            if one is None or one.value is None:
                continue
            at = place + (number - (len(names) - 1) / 2) * width
            faint = 0.35 if one.too_few else 1.0
            if one.low is not None and one.high is not None:
                axes.plot([at, at], [one.low, one.high], color=colour, alpha=faint, linewidth=2)
            axes.plot([at], [one.value], "o", color=colour, alpha=faint, markersize=5)
    for name, value in levels.items():
        axes.axhline(value, color=_INK, linewidth=0.8, linestyle="--")
        axes.annotate(name, (1.0, value), xycoords=("axes fraction", "data"), fontsize=7, ha="right", va="bottom")
    axes.set_xticks(range(len(groups)), list(groups), fontsize=8, rotation=20, ha="right")
    axes.set_ylabel(axis, fontsize=8)
    _finish(axes, names, "")
    return _png(figure)


def _finish(axes: Any, names: Sequence[str], label: str) -> None:
    from matplotlib.lines import Line2D

    axes.set_xlabel(label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(color=_LINE, linewidth=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        handles = [
            Line2D([], [], color=_COLOURS[place % len(_COLOURS)], marker="o", label=name)
            for place, name in enumerate(names)
        ]
        axes.figure.legend(handles=handles, fontsize=8, frameon=False, loc="outside upper right", ncols=len(handles))


def _png(figure: Any) -> bytes:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=120, metadata={"Software": None})
    return written.getvalue()
