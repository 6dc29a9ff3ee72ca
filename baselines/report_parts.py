"""What a section of the report is made of: a question, answers in sentences, tables, pictures, figures for programs.

Pure. Upstream: `report_sections` and its like fill it. Downstream: `report` writes pages of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from otel_control_gym.baselines.evaluations import Table
from otel_control_gym.baselines.headline import Ratio
from otel_control_gym.baselines.intervals import Interval

__all__ = ("Picture", "Section", "interval", "ratio", "said")


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """A plot."""

    name: str  #: of its file, without ending
    caption: str
    png: bytes

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One question and what the campaign says about it."""

    key: str  #: of its figures, and of its place on the page
    question: str
    answers: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    details: tuple[Table, ...] = ()  #: folded away
    pictures: tuple[Picture, ...] = ()
    figures: Mapping[str, Any] = {}
    wanting: tuple[str, ...] = ()  #: commands that make what this section lacks; empty: nothing is lacking


def interval(found: Mapping[str, Any]) -> Interval:
    """Return an interval that was kept in figures."""
    return msgspec.convert(found, Interval)


def ratio(found: Mapping[str, Any]) -> Ratio:
    """Return a ratio that was kept in figures."""
    return msgspec.convert(found, Ratio)


def said(found: Ratio) -> str:
    """Return a ratio in words: `0.91 (0.85 to 0.97)`, or that there are too few families."""
    if found.too_few or found.ratio is None:
        return f"too few families ({found.families})"
    if found.low is None or found.high is None:
        return f"{found.ratio:.3f}"
    return f"{found.ratio:.3f} ({found.low:.3f} to {found.high:.3f})"
