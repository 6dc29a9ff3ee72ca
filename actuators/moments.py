"""When something happened, as well as it can be known: by the stand's own time stamps, else between two looks.

In: an RFC 3339 stamp of an object, the look before and this one. Out: a `Span`: the moment at which it was so at the latest, and how much
earlier it may have been. Stamps of Kubernetes are cut to whole seconds: what bears one happened within the second that follows.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from otel_control_gym.engine.clock import SECOND

__all__ = ("Span", "newest", "span_between")


class Span(msgspec.Struct, frozen=True):
    """It happened at `moment` [ns of episode time] at the latest, and at most `precision_ns` earlier."""

    moment: int
    precision_ns: int


def newest(stamps: Iterable[str]) -> str:
    """Return the newest of some stamps; empty if one of them is missing, or there is none."""
    found = list(stamps)
    return max(found, key=_ns) if found and all(found) else ""


def span_between(before: int, now: int, stamp: str = "") -> Span:
    """Return when something happened that wasn't so at `before` and is so `now`; a stamp outside of that says something else.

    A stamp of a cluster whose clock is ahead or behind falls outside, too: then the looks decide.
    """
    if stamp:
        begin = _ns(stamp)
        end = begin + SECOND
        if begin <= now and end > before:
            moment = min(end, now)
            return Span(moment, moment - max(begin, before))
    return Span(now, now - before)


def _ns(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp()) * SECOND
