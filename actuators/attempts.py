"""An attempt: one action on its way, with all that the life cycle must remember of it between its stages. It decides nothing."""

from __future__ import annotations

from typing import Literal, TypeAlias

from otel_control_gym.actuators.entries import Entry
from otel_control_gym.actuators.journal import Status
from otel_control_gym.actuators.procedure import Check, Procedure
from otel_control_gym.actuators.resolution import Resolved
from otel_control_gym.engine.events import TouchedObject
from otel_control_gym.engine.protocols import ActionRecord, Request

__all__ = ("Attempt", "Stage")

Stage: TypeAlias = Literal["apply", "revert", "postcheck", "verify", "sustain"]


class Attempt:
    """One action on its way: its record, its procedure, and the moments at which it wants to go on."""

    def __init__(self, request: Request, resolved: Resolved, record: ActionRecord, procedure: Procedure) -> None:
        self.truth = request.truth
        self.entry: Entry = resolved.entry
        self.record = record
        self.procedure = procedure
        self.duration = resolved.duration_ns  #: null: stays until something else changes it
        self.due: dict[Stage, int] = {}
        self.tries = 0
        self.touched = False  #: something may have been changed on the stand
        self.doubtful = False  #: a write got no proper answer: it may have been carried out or not
        self.verdict: Status = "unverified"
        self.check: Check | None = None
        self.checked = False  #: the postcheck has given its last word
        self.looked = 0  # when it was last seen not to have come to what is waited for: effect, loss, removal
        self.lost: tuple[str, ...] = ()  # where it is known not to be in force any more
        self.lapsed = False  # it is in force nowhere
        self.revert_end = 0
        self.reverted_objects: tuple[TouchedObject, ...] = ()

    @property
    def settled(self) -> bool:
        """Return whether the final status is logged."""
        return self.record.settled is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """Return what the attempt writes."""
        return self.procedure.fields

    def next_due(self) -> int | None:
        """Return the next moment at which the attempt wants to go on."""
        return min(self.due.values(), default=None)
