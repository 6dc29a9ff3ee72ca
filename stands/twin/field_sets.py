"""The fields of an object as paths: what server-side apply compares, owns and hands back.

In: objects, or the `fieldsV1` of a managedFields entry. Out: `Leaves` (path ➜ value), sets of paths, `fieldsV1`, paths as text.

A path is made of the segments that `fieldsV1` itself uses: `f:replicas` for a field, `k:{"name":"cart"}` for the entry of a list that
is a map in disguise, `v:"x"` for a member of a set. Which lists are which is told by their names, as in `patches`; all others are
atomic, as are selectors and references: they have one owner as a whole. Custom resources declare no merge keys, so their lists are
atomic but for those of the metadata.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from otel_control_gym.stands.twin.objects import Object
from otel_control_gym.stands.twin.patches import MERGE_KEYS, SETS

__all__ = ("Leaves", "Path", "fields_of", "leaves", "list_keys", "paths_of", "remove", "segment", "shown")

Path = tuple[str, ...]
Leaves = dict[Path, Any]  #: a field's path -> its value; of an entry of a list: that it is there

_PRESENT = "."
_ATOMIC_MAPS = frozenset(
    (
        "configMapKeyRef",
        "fieldRef",
        "labelSelector",
        "nodeSelector",
        "resourceFieldRef",
        "secretKeyRef",
        "selector",
    )
)
_MORE_KEYS = {"containerPort": ("protocol",), "port": ("protocol",), "topologyKey": ("whenUnsatisfiable",)}
_DEFAULT_KEYS = {"protocol": "TCP"}
_UNOWNED = frozenset(
    (
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "name",
        "namespace",
        "resourceVersion",
        "selfLink",
        "uid",
    )
)  #: of the metadata: the server's


def leaves(item: Object, *, built_in: bool) -> Leaves:
    """Return the fields of an object that somebody can own, with their values."""
    found: Leaves = {}
    for key, value in item.items():
        if key == "metadata":
            owned = {name: entry for name, entry in value.items() if name not in _UNOWNED}
            for name, entry in owned.items():
                _walk(name, entry, ("f:metadata", f"f:{name}"), found, keyed=True)
        elif key not in ("apiVersion", "kind"):
            _walk(key, value, (f"f:{key}",), found, keyed=built_in)
    return found


def list_keys(name: str, entries: list[Any]) -> tuple[str, ...] | None:
    """Return the fields by which entries of a list are told apart, None if it has none (or an entry lacks them)."""
    key = MERGE_KEYS.get(name)
    if key is None or not entries or not all(isinstance(entry, dict) for entry in entries):
        return None
    if name == "ports" and any("containerPort" not in entry and "port" in entry for entry in entries):
        key = "port"  # of a Service
    keys = (key, *_MORE_KEYS.get(key, ()))
    complete = all(part in entry or part in _DEFAULT_KEYS for entry in entries for part in keys)
    return keys if complete else None


def segment(keys: tuple[str, ...], entry: Object) -> str:
    """Return the segment that names an entry of a list."""
    named = {key: entry.get(key, _DEFAULT_KEYS.get(key)) for key in sorted(keys)}
    return f"k:{msgspec.json.encode(named).decode()}"


def fields_of(paths: Iterable[Path]) -> Object:
    """Return paths as `fieldsV1`."""
    tree: Object = {}
    ordered = sorted(paths)
    for path in ordered:
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        if path[-1].startswith("k:"):
            node.setdefault(_PRESENT, {})
    return tree


def paths_of(fields: Any) -> dict[Path, None]:
    """Return the paths that a `fieldsV1` holds; what isn't one is left out."""
    found: dict[Path, None] = {}
    pending: list[tuple[Path, Any]] = [((), fields)]
    while pending:
        path, node = pending.pop()
        if not isinstance(node, dict):
            continue
        children = {part: child for part, child in node.items() if part != _PRESENT}
        if path and (not children or _PRESENT in node):
            found[path] = None
        pending += [((*path, part), child) for part, child in children.items()]
    return found


def remove(item: Object, path: Path) -> None:
    """Take a field (or an entry of a list) out of an object in place, and maps and lists that are empty then; nothing if it isn't there."""
    trail: list[tuple[Any, Any]] = []
    node: Any = item
    for part in path:
        key = _child(node, trail, part)
        if key is None:
            return
        trail.append((node, key))
        node = node[key]
    for parent, key in reversed(trail):
        del parent[key]
        if parent:
            return


def shown(path: Path) -> str:
    """Return a path as messages show it: `.spec.template.spec.containers[name="cart"].image`."""
    text = ""
    for part in path:
        kind, _, rest = part.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            named: Mapping[str, Any] = msgspec.json.decode(rest)
            text += f"[{','.join(f'{key}={msgspec.json.encode(value).decode()}' for key, value in named.items())}]"
        else:
            text += f"[={rest}]"
    return text


def _walk(name: str, value: Any, path: Path, found: Leaves, *, keyed: bool) -> None:
    if isinstance(value, dict) and value and name not in _ATOMIC_MAPS:
        for key, entry in value.items():
            _walk(key, entry, (*path, f"f:{key}"), found, keyed=keyed)
        return
    if isinstance(value, list) and value and keyed:
        keys = list_keys(name, value)
        if keys is not None:
            for entry in value:
                place = (*path, segment(keys, entry))
                found[place] = True
                for key, inner in entry.items():
                    _walk(key, inner, (*place, f"f:{key}"), found, keyed=keyed)
            return
        if name in SETS:
            found.update({(*path, f"v:{msgspec.json.encode(entry).decode()}"): True for entry in value})
            return
    found[path] = value


def _child(node: Any, trail: list[tuple[Any, Any]], part: str) -> Any:
    """Return the key or index of a segment in a node, None if there is none."""
    kind, _, rest = part.partition(":")
    if kind == "f":
        return rest if isinstance(node, dict) and rest in node else None
    if not isinstance(node, list):
        return None
    if kind == "v":
        value = msgspec.json.decode(rest)
        return node.index(value) if value in node else None
    name = next((key for _, key in reversed(trail) if isinstance(key, str)), "")
    keys = list_keys(name, node)
    if keys is None:
        return None
    return next((index for index, entry in enumerate(node) if segment(keys, entry) == part), None)
