"""Retired event versions ➜ current ones: why an old log stays readable.

In: the tag and the body of a message as they were written. Out: the tag and the body that today's codec reads. Each
function lifts one retired version to the next (`action.applied.1` ➜ `action.applied.2`) until the tag is a current one.
A tag that is neither current nor retired comes from another or a newer program and is refused: a guess would be a wrong
dataset.

Nothing is retired yet. When a version is, its function goes in here, and a log that holds it is kept in `tests/logs/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from otel_control_gym.engine.errors import LogError, nearest
from otel_control_gym.engine.events import EVENT_TYPES, type_tag

__all__ = ("RETIRED", "Upcaster", "upcast")

Upcaster = Callable[[bytes], tuple[str, bytes]]
"""Takes a body of the retired version, returns the next version's tag and body."""

RETIRED: Mapping[str, Upcaster] = {}
"""Retired tag -> its upcaster."""

_CURRENT = frozenset(type_tag(kind) for kind in EVENT_TYPES)


def upcast(tag: str, body: bytes, retired: Mapping[str, Upcaster] = RETIRED) -> tuple[str, bytes]:
    """Return tag and body in the current version of the event's type.

    Raises: LogError: the tag is neither current nor retired.
    """
    while tag not in _CURRENT:
        if tag not in retired:
            raise LogError(_refusal(tag))
        tag, body = retired[tag](body)
    return tag, body


def _refusal(tag: str) -> str:
    name, _, version = tag.rpartition(".")
    known = [int(current.rpartition(".")[2]) for current in _CURRENT if current.rpartition(".")[0] == name]
    if known and version.isdigit() and int(version) > max(known):
        return (
            f"event type {tag!r}: this program reads {name!r} up to version {max(known)}\n"
            "  upgrade otel-control-gym to read this log"
        )
    return f"event type {tag!r} is unknown: the log was written by another program\n  {nearest(tag, _CURRENT)}"
