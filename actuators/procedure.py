"""What the life cycle asks of an action: check, apply, look, take back, look again.

One procedure per attempt; it keeps what it needs between the stages (the replicas before, the names of its objects). It writes no
event and knows no due moment: that is `lifecycle`. It raises `transport.CallError` where a call fails.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import msgspec

from otel_control_gym.engine.events import InverseCall, TouchedObject

__all__ = ("Check", "Precheck", "Procedure", "Reversal")


class Precheck(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict before anything is touched; an empty `rejection` passes."""

    rejection: str = ""
    evidence: dict[str, Any] = {}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One look at whether the change took effect. `some`: part of it did; `none`: nothing to be seen."""

    seen: Literal["all", "some", "none"]
    evidence: dict[str, Any]


class Reversal(msgspec.Struct, frozen=True, kw_only=True):
    """One look at whether the stand is without the change again."""

    verified: bool
    evidence: dict[str, Any]


class Procedure(Protocol):
    """An attempt's dealings with the stand. Every stage can be repeated: calls are absolute, objects have fixed names."""

    @property
    def fields(self) -> tuple[str, ...]:
        """What it writes, e.g. `scale:checkout`: two attempts that share a field exclude each other."""
        ...

    @property
    def begun(self) -> bool:
        """Whether some of the writes of the last `apply` were answered: if a later one is refused, they must be taken back."""
        ...

    async def precheck(self) -> Precheck:
        """Look whether the action may be applied, and remember what the way back needs."""
        ...

    def inverse(self) -> tuple[InverseCall, ...]:
        """Return the calls that take the change back, in their order; known once the precheck has passed."""
        ...

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make the change; return what was written."""
        ...

    async def postcheck(self) -> Check:
        """Look for the evidence that the catalogue names."""
        ...

    async def sustain(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Bring the change to pods that replaced its targets; return the objects made, empty if nothing was needed."""
        ...

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Take the change back; also right after an `apply` whose answer was lost."""
        ...

    async def reverted(self, now: int, /) -> Reversal:
        """Look whether the change is gone."""
        ...
