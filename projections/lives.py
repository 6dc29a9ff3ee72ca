"""Life-cycle events of an action ➜ one record of its whole life.

In: `ActionRequested`, …, `ActionSettled` of one stream. Out: a `Life` per action, in the order of the requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from otel_control_gym.engine.errors import LogCorrupted
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionFailed,
    ActionForced,
    ActionLapsed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionResumed,
    ActionReverted,
    ActionSettled,
)

__all__ = ("ActionEvent", "Life", "Lives")

ActionEvent = (
    ActionRequested
    | ActionPrechecked
    | ActionApplied
    | ActionFailed
    | ActionPostchecked
    | ActionLapsed
    | ActionResumed
    | ActionForced
    | ActionReverted
    | ActionSettled
)


class Life(msgspec.Struct, kw_only=True):
    """What is known of an action; a stage that didn't come is None."""

    requested: ActionRequested
    prechecked: ActionPrechecked | None = None
    applied: ActionApplied | None = None
    failed: tuple[ActionFailed, ...] = ()
    postchecked: ActionPostchecked | None = None
    watched: tuple[ActionLapsed | ActionResumed, ...] = ()  #: what became of it while it was in force
    forced: tuple[ActionForced, ...] = ()
    reverted: ActionReverted | None = None
    settled: ActionSettled | None = None

    @property
    def error(self) -> str | None:
        """What went wrong, with the stage."""
        if self.failed:
            return "; ".join(f"{failure.stage}: {failure.error}" for failure in self.failed)
        if self.prechecked is not None and self.prechecked.verdict == "rejected":
            return f"precheck: {self.prechecked.reason}"
        return None


class Lives:
    """All actions of one stream."""

    def __init__(self) -> None:
        self._lives: dict[str, Life] = {}

    def take(self, event: ActionEvent) -> None:
        """Add an event to its action's life.

        Raises: LogCorrupted: the action was never requested, or requested twice.
        """
        if isinstance(event, ActionRequested):
            if event.action_id in self._lives:
                raise LogCorrupted(f"action {event.action_id!r} was requested twice")
            self._lives[event.action_id] = Life(requested=event)
            return
        life = self._lives.get(event.action_id)
        if life is None:
            raise LogCorrupted(f"{type(event).__name__} of action {event.action_id!r}, which was never requested")
        match event:
            case ActionPrechecked():
                life.prechecked = event
            case ActionApplied():
                life.applied = event if life.applied is None else _joined(life.applied, event)
            case ActionFailed():
                life.failed += (event,)
            case ActionPostchecked():
                life.postchecked = event
            case ActionLapsed() | ActionResumed():
                life.watched += (event,)
            case ActionForced():
                life.forced += (event,)
            case ActionReverted():
                life.reverted = event
            case ActionSettled():
                life.settled = event

    def all(self) -> Sequence[Life]:
        """Return the lives in the order of their requests."""
        return tuple(self._lives.values())


def _joined(first: ActionApplied, renewal: ActionApplied) -> ActionApplied:
    """Return one event for a fault that was renewed in replaced pods: the first moment, all objects."""
    return msgspec.structs.replace(first, objects=first.objects + renewal.objects)
