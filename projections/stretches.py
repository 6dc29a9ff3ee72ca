"""When an action or intervention was in force: from when to when, and when it wasn't meanwhile.

In: a life. Out: its stretch, and the gaps in it. A fault that lapsed (its pods were replaced, somebody undid it) and didn't come back
has ended then, whatever was taken back later. One that did come back has a gap. While some of its places still had it the gap is partial.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.events import ActionLapsed, ActionResumed
from otel_control_gym.projections.lives import Life

__all__ = ("Gap", "Stretch", "gaps_of", "stretch_of")


class Gap(msgspec.Struct, frozen=True):
    """A time in which it wasn't in force, or (`partial`) not in all of its places. `end` null: to the log's end."""

    start: int
    end: int | None
    partial: bool
    reason: str

    def as_mapping(self) -> dict[str, Any]:
        """Return the gap as tables have it: times in RFC 3339."""
        end = None if self.end is None else rfc3339(self.end)
        return {"start": rfc3339(self.start), "end": end, "partial": self.partial, "reason": self.reason}


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """From when to when; null: not seen. A precision says how much earlier it may have been; null: not said."""

    start: int | None = None
    start_precision_ns: int | None = None
    end: int | None = None
    end_precision_ns: int | None = None


def stretch_of(life: Life) -> Stretch:
    """Return when the stand showed it, and when it no longer did, for good."""
    looked, back = life.postchecked, life.reverted
    stretch = Stretch()
    if looked is not None:
        stretch = Stretch(start=looked.effective_time, start_precision_ns=looked.precision_ns)
    lapse = _final_lapse(life)
    if lapse is not None:
        return msgspec.structs.replace(stretch, end=lapse.end_time, end_precision_ns=lapse.precision_ns)
    if back is not None and back.verified:
        return msgspec.structs.replace(stretch, end=back.time, end_precision_ns=back.precision_ns)
    return stretch


def gaps_of(life: Life) -> list[Gap]:
    """Return the gaps, in order; what lapsed for good is the end and no gap."""
    final, end = _final_lapse(life), stretch_of(life).end
    found: list[Gap] = []
    opened: Gap | None = None
    for event in life.watched:
        match event:
            case ActionLapsed(left=left) if opened is not None and opened.partial == bool(left):
                continue  # more places of the same gap
            case ActionLapsed(end_time=moment):
                following = None if event is final else Gap(moment, None, bool(event.left), event.reason)
            case ActionResumed(resumed_time=moment):
                following = None
        if opened is not None:
            found.append(msgspec.structs.replace(opened, end=max(moment, opened.start)))
        if event is final:
            return _lasting(found)
        opened = following
    if opened is not None:
        found.append(msgspec.structs.replace(opened, end=end))
    return _lasting(found)


def _lasting(gaps: list[Gap]) -> list[Gap]:
    return [gap for gap in gaps if gap.end is None or gap.end > gap.start]


def _final_lapse(life: Life) -> ActionLapsed | None:
    """Return after which lapse it was in force nowhere any more."""
    last = life.watched[-1] if life.watched else None
    if not isinstance(last, ActionLapsed) or last.left:
        return None
    final = last
    for event in reversed(life.watched):  # more of it may have been lost after nothing was left
        if not isinstance(event, ActionLapsed) or event.left:
            break
        final = event
    return final
