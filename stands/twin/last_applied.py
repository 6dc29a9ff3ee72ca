"""From client-side to server-side apply: the annotation in which kubectl keeps what it applied last.

In: an object, the conflicts of an apply by kubectl. Out: the conflicts that are left, the annotation brought up to date.

Who has applied a manifest with `kubectl apply` and now does so with `--server-side` would meet himself as another manager. So what the
annotation says and the object still holds is kubectl's own and no conflict; and as long as the annotation is there it follows the
applies, for those who go back.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.stands.twin.field_sets import Path, leaves
from otel_control_gym.stands.twin.managed_fields import Manager
from otel_control_gym.stands.twin.objects import Kind, Object

__all__ = ("KUBECTL", "follow", "foreign")

KUBECTL = "kubectl"  #: the manager for whom this holds
_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"


def foreign(kind: Kind, live: Object, conflicts: tuple[tuple[Manager, Path], ...]) -> tuple[tuple[Manager, Path], ...]:
    """Return the conflicts about fields that kubectl hasn't applied itself, or that have changed since."""
    text = live["metadata"].get("annotations", {}).get(_ANNOTATION, "")
    try:
        last = msgspec.json.decode(text, type=Object)
        applied = leaves(last | {"metadata": dict(last.get("metadata") or {})}, built_in=kind.built_in)
    except (ValueError, TypeError, RecursionError):
        return conflicts  # anybody may write annotations
    found = leaves(live, built_in=kind.built_in)
    own = {path for path, value in applied.items() if path in found and found[path] == value}
    return tuple((manager, path) for manager, path in conflicts if path not in own)


def follow(item: Object, body: Object) -> None:
    """Write what was applied into the annotation of an object that is about to be stored, if it has one."""
    annotations = item["metadata"].get("annotations", {})
    if _ANNOTATION in annotations:
        annotations[_ANNOTATION] = msgspec.json.encode(body, order="sorted").decode() + "\n"
