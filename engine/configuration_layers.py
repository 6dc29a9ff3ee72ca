"""Files that extend others: documents put on top of each other, and who said what.

In: the documents of a file and of those that it extends. Out: one document, complete, and the way back from a key in it to the file and
key where it was written, so that an error found in the whole still points to the line that a person has to mend.

The rules: mappings are merged key by key, all the way down; `null` takes away what an extended file has; `edges` is a list of records that
are known by (source, target), so an edge changes its namesake in place or comes at the end, and one whose protocol is `null` goes; every
other list replaces the one below. `name` and `extends` are a file's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from otel_control_gym.engine.errors import ConfigurationError

__all__ = ("EXTENDS", "Layer", "Layers", "dotted")

EXTENDS = "extends"
_OWN = ("name", EXTENDS)
_EDGES = "edges"
_INDEX = re.compile(r"\[(\d+)\]\.?")

Keys = Sequence[str | int]


class Layer(msgspec.Struct, frozen=True):
    """One file's document as it was written."""

    label: str
    document: Any


class Layers:
    """A document made of layers, the file that was asked for first, the one that extends nothing last."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = tuple(layers)
        document = self._layers[-1].document
        for layer in reversed(self._layers[:-1]):
            document = _on_top(document, layer.document)
        self.document = document  #: what they make together

    @property
    def label(self) -> str:
        """The file that was asked for."""
        return self._layers[0].label

    def locate(self, keys: Keys) -> tuple[str, list[str | int]]:
        """Return the file that wrote what stands at a path of the document, and the path there.

        What nobody wrote (a missing key) is charged to the file that wrote the most of the way to it.
        """
        found: list[tuple[int, str, list[str | int]]] = []
        for layer in self._layers:
            place = self._translated(layer.document, keys)
            found.append((len(place), layer.label, place))
        depth, label, place = max(found, key=lambda one: one[0])  # the first of equals: the uppermost
        return label, [*place, *keys[depth:]]

    def relocated(self, error: ConfigurationError) -> ConfigurationError:
        """Return an error about the whole document as one about the file that wrote it."""
        label, keys = self.locate(_parsed(self.document, error.key))
        return ConfigurationError(
            file=label, key=dotted(keys), found=error.found, problem=error.problem, remedy=error.remedy
        )

    def _translated(self, document: Any, keys: Keys) -> list[str | int]:
        """Return as much of a path as a layer's document has, in its own numbering of edges."""
        place: list[str | int] = []
        for depth, key in enumerate(keys):
            own: str | int | None = key
            if depth == 1 and keys[0] == _EDGES and isinstance(key, int):
                own = _position(document, _ends(self.document[_EDGES][key]))
            if own is None:
                break
            try:
                document = document[own]
            except (KeyError, IndexError, TypeError):
                break
            place.append(own)
        return place


def dotted(keys: Keys) -> str:
    """Return a path as a person writes it: `services.cart.operations.GetCart.steps[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".") or "(the whole file)"


def _on_top(below: Any, above: Any) -> Any:
    """Return an extended document with the extending one on top."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above  # no mapping: what reads the document says so
    inherited = {key: value for key, value in below.items() if key not in _OWN}
    merged: dict[Any, Any] = {key: above[key] for key in _OWN if key in above}
    merged |= _merged({key: value for key, value in inherited.items() if key != _EDGES}, above)
    if isinstance(below.get(_EDGES), list) and isinstance(above.get(_EDGES), list):
        merged[_EDGES] = _merged_edges(below[_EDGES], above[_EDGES])
    elif _EDGES in below and _EDGES not in above:
        merged[_EDGES] = below[_EDGES]
    return merged


def _merged(below: dict[Any, Any], above: dict[Any, Any]) -> dict[Any, Any]:
    merged = dict(below)
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        elif value is None and key in merged:
            del merged[key]
        else:
            merged[key] = value
    return merged


def _merged_edges(below: list[Any], above: list[Any]) -> list[Any]:
    merged = list(below)
    for edge in above:
        place = _position(merged, _ends(edge))
        if place is None:
            merged.append(edge)
        else:
            merged[place] = _merged(merged[place], edge) if edge.get("protocol", "") is not None else None
    return [edge for edge in merged if edge is not None]


def _position(edges: Any, ends: tuple[Any, Any] | None) -> int | None:
    """Return which edge of a list joins two services, or None."""
    if isinstance(edges, list) and ends is not None:
        for place, edge in enumerate(edges):
            if _ends(edge) == ends:
                return place
    return None


def _ends(edge: Any) -> tuple[Any, Any] | None:
    return (edge.get("source"), edge.get("target")) if isinstance(edge, dict) else None


def _parsed(document: Any, path: str) -> list[str | int]:
    """Return a dotted path as keys; names hold dots and brackets themselves, so the document says where they end."""
    keys: list[str | int] = []
    while path:
        index = _INDEX.match(path)
        if isinstance(document, list) and index is not None:
            key: str | int = int(index[1])
            path = path[index.end() :]
        else:
            names = [str(name) for name in document] if isinstance(document, dict) else []
            begun = [name for name in names if path == name or path.startswith((f"{name}.", f"{name}["))]
            key = max(begun, key=len, default=path)
            path = path[len(key) :].removeprefix(".")
        keys.append(key)
        document = _child(document, key)
    return keys


def _child(document: Any, key: str | int) -> Any:
    try:
        return document[key]
    except (KeyError, IndexError, TypeError):
        return None
