"""What the life cycle asks of an action: check, apply, look, take back, look again.

One procedure per attempt; it keeps what it needs between the stages (the replicas before, the names of its objects). It writes no
event and knows no due moment: that is `lifecycle`. It raises `transport.CallError` where a call fails. An intervention's is `Watched`: it
can be asked, as long as it is in force, whether it still is.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from otel_control_gym.engine.events import InverseCall, TouchedObject

__all__ = ("Check", "Forced", "Precheck", "Procedure", "Reversal", "Standing", "Watched")


class Precheck(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict before anything is touched; an empty `rejection` passes."""

    rejection: str = ""
    evidence: dict[str, Any] = {}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One look at whether the change took effect. `some`: part of it did; `none`: nothing to be seen."""

    seen: Literal["all", "some", "none"]
    evidence: dict[str, Any]
    moment: str = ""  #: since when, as the stand's own objects say (whole seconds); empty: they don't
    more: bool = False  #: what was seen lets the next part of the change be made: `apply` makes it


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One look at what was in force: where it still is, and where it no longer is."""

    left: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    moment: str = (
        ""  #: when the newest of the lost ended, as the stand's own objects say; empty: they don't say it of all
    )
    reason: str = ""  #: why they were lost


class Forced(msgspec.Struct, frozen=True, kw_only=True):
    """What was done to an object that didn't go by itself."""

    step: Literal["annotation", "finalizers", "pods"]
    objects: tuple[TouchedObject, ...]
    error: str = ""  #: if it was refused


class Reversal(msgspec.Struct, frozen=True, kw_only=True):
    """One look at whether the stand is without the change again."""

    verified: bool
    evidence: dict[str, Any]
    forced: tuple[Forced, ...] = ()  #: done at this look


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


@runtime_checkable
class Watched(Procedure, Protocol):
    """A procedure whose change may end before it is taken back."""

    async def standing(self) -> Standing:
        """Look where the change is still in force; nothing is changed by that."""
        ...
