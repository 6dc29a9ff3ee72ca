"""Objects as the tables that `kubectl get` prints: columns of each kind, cells with ages made by the server.

In: objects or lines of a watch, and the time. Out: `Table` documents (meta.k8s.io/v1), whose rows carry each object's metadata, the whole
object, or nothing, as the client asked.

What the cells show is in `kubernetes_printers`. A watch is translated line by line here, so a client that reads plain JSON pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from otel_control_gym.stands.twin.objects import Kind, Object
from otel_control_gym.stands.twin.servers.kubernetes_printers import CUSTOM, PRINTERS

__all__ = ("TableLines", "table")


def table(
    kind: Kind, items: Iterable[Object], now: int, *, version: str, include: str = "", columns: bool = True
) -> Object:
    """Return objects of a kind as a Table.

    Args:
        kind: of the objects.
        items: the objects.
        now: the server's time, which ages are counted to [ns].
        version: the resourceVersion of the whole.
        include: what a row holds of its object: None, Metadata (also if empty) or Object.
        columns: whether the columns are defined; in a watch they are so only once.
    """
    defined, cells = PRINTERS.get(kind, CUSTOM)
    definitions = [
        {
            "name": column.name,
            "type": column.type,
            "format": "name" if column.name == "Name" else "",
            "description": f"{column.name} of the {kind.kind}",
            "priority": column.priority,
        }
        for column in defined
    ]
    rows = [{"cells": cells(item, now), "object": _included(item, include)} for item in items]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }


class TableLines:
    """Translates the lines of one watch into events that hold tables of one row."""

    def __init__(self, kind: Kind, include: str, clock: Callable[[], int]) -> None:
        self._kind = kind
        self._include = include
        self._clock = clock
        self._begun = False

    def __call__(self, lines: bytes) -> bytes:
        """Return translated lines."""
        return b"".join(self._translate(msgspec.json.decode(line)) for line in lines.splitlines())

    def _translate(self, event: Object) -> bytes:
        if event["type"] == "ERROR":
            return msgspec.json.encode(event) + b"\n"
        item = event["object"]
        rows = () if event["type"] == "BOOKMARK" else (item,)
        version = item["metadata"]["resourceVersion"]
        shown = table(self._kind, rows, self._clock(), version=version, include=self._include, columns=not self._begun)
        if annotations := item["metadata"].get("annotations") if not rows else None:
            shown["metadata"]["annotations"] = annotations
        self._begun = True
        return msgspec.json.encode({"type": event["type"], "object": shown}) + b"\n"


def _included(item: Object, include: str) -> Object | None:
    if include == "None":
        return None
    if include == "Object":
        return item
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
