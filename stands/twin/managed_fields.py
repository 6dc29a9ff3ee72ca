"""Who owns which field: `metadata.managedFields`, kept through every write of a client, and server-side apply that builds on it.

In: an object before and after a write, who wrote it and how. Out: its managedFields; of an apply also the merged object, or the conflicts.

The rules are those of structured-merge-diff: who changes a field owns it, who had it loses it; an apply states what its manager wants,
takes over what nobody else has, shares what others want alike, and conflicts where it would change what another owns. A field that
an apply no longer names goes, unless somebody else owns it.

An object that no client has written yet carries no managedFields (the installation's and the controllers' writes keep none). What it
holds belongs, from the first write of a client on, to whom its label says it is managed by, else to `before-first-apply`, as on a
cluster that was upgraded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from otel_control_gym.stands.twin.field_sets import (
    Leaves,
    Path,
    fields_of,
    leaves,
    list_keys,
    paths_of,
    remove,
    segment,
)
from otel_control_gym.stands.twin.objects import Kind, Object
from otel_control_gym.stands.twin.patches import SETS

__all__ = ("ApplyConflict", "Manager", "applied", "managed_after")

_MANAGED_BY = "app.kubernetes.io/managed-by"
_UNKNOWN = "before-first-apply"


class Manager(msgspec.Struct, frozen=True, order=True):
    """Who writes fields, and how."""

    operation: Literal["Apply", "Update"]
    name: str
    api_version: str
    subresource: str = ""

    def __str__(self) -> str:
        """Return the manager as messages about conflicts name it."""
        text = msgspec.json.encode(self.name).decode()
        if self.subresource:
            text += f' with subresource "{self.subresource}"'
        return f"{text} using {self.api_version}" if self.operation == "Update" else text


class ApplyConflict(Exception):
    """Raised when an apply would change fields that others own."""

    def __init__(self, conflicts: tuple[tuple[Manager, Path], ...]) -> None:
        super().__init__(f"{len(conflicts)} conflicts")
        self.conflicts = conflicts


_Owners = dict[Manager, dict[Path, None]]


def managed_after(kind: Kind, before: Object | None, after: Object, manager: Manager, now: str) -> list[Object]:
    """Return the managedFields of an object after a write other than an apply.

    Args:
        kind: of the object.
        before: as it was; None: it is new.
        after: as it will be, with defaults; managedFields that its writer changed are taken as the state to start from.
        manager: who writes.
        now: the time stamp of what changes.
    """
    old = leaves(before, built_in=kind.built_in) if before is not None else {}
    new = leaves(after, built_in=kind.built_in)
    changed = [path for path, value in new.items() if path not in old or old[path] != value]
    gone = [path for path in old if path not in new]
    entries = _given(before, after)
    if not changed and not gone:
        return entries
    owners = _owners(entries) or _first_owners(kind, before, old)
    for paths in owners.values():
        for path in (*changed, *gone):
            paths.pop(path, None)
    owners.setdefault(manager, {}).update(dict.fromkeys(changed))
    return _entries(owners, entries, now, writer=manager)


def applied(
    kind: Kind, before: Object | None, wanted: Object, manager: Manager, now: str, *, force: bool
) -> tuple[Object, list[Object]]:
    """Return the object that an apply leaves, before defaults, and its managedFields.

    Args:
        kind: of the object.
        before: as it is; None: there is none yet.
        wanted: all that the manager wants to own.
        manager: who applies.
        now: the time stamp of what changes.
        force: take over what others own.

    Raises: ApplyConflict: others own fields that would change.
    """
    live = before or {}
    old = leaves(live, built_in=kind.built_in) if live else {}
    entries = live.get("metadata", {}).get("managedFields", [])
    owners = _owners(entries) or _first_owners(kind, before, old)
    claimed = dict.fromkeys(leaves(wanted, built_in=kind.built_in))
    others = {other: paths for other, paths in owners.items() if other != manager}
    merged: Object = _merge("", copy.deepcopy(live), wanted, keyed=kind.built_in)
    for path in sorted(_dropped(owners.get(manager, {}), claimed, others), key=len, reverse=True):
        remove(merged, path)
    new = leaves(merged, built_in=kind.built_in)
    changed = dict.fromkeys(path for path, value in new.items() if path not in old or old[path] != value)
    conflicts = tuple(
        (other, path)
        for other in sorted(others)
        for path in sorted(others[other])
        if path in claimed and path in changed
    )
    if conflicts and not force:
        raise ApplyConflict(conflicts)
    for paths in others.values():
        for path in [
            path for path in paths if (path in changed and path in claimed) or (path in old and path not in new)
        ]:
            del paths[path]
    return merged, _entries(others | {manager: claimed}, entries, now)


def _dropped(last: Iterable[Path], claimed: Iterable[Path], others: _Owners) -> Iterable[Path]:
    """Return what a manager applied last time and doesn't now, and nobody else owns (nor anything within)."""
    kept = dict.fromkeys(claimed)
    held = {path[:length] for paths in (*others.values(), kept) for path in paths for length in range(1, len(path) + 1)}
    return [path for path in last if path not in held]


def _merge(name: str, live: Any, wanted: Any, *, keyed: bool) -> Any:
    """Return a value with all that is wanted of it merged in."""
    if isinstance(live, dict) and isinstance(wanted, dict):
        result = dict(live)
        for key, value in wanted.items():
            result[key] = _merge(key, live.get(key), value, keyed=keyed or key == "metadata")
        return result
    if isinstance(live, list) and isinstance(wanted, list) and keyed:
        if name in SETS:
            return live + [entry for entry in wanted if entry not in live]
        keys = list_keys(name, [*live, *wanted])
        if keys is not None:
            return _merge_entries(keys, live, wanted)
    return copy.deepcopy(wanted)


def _merge_entries(keys: tuple[str, ...], live: list[Any], wanted: list[Any]) -> list[Any]:
    places = {segment(keys, entry): index for index, entry in enumerate(live)}
    result = list(live)
    for entry in wanted:
        index = places.get(segment(keys, entry))
        if index is None:
            result.append(copy.deepcopy(entry))
        else:
            result[index] = _merge("", live[index], entry, keyed=True)
    return result


def _given(before: Object | None, after: Object) -> list[Object]:
    """Return the entries to start from: those that the writer sends, if they are any, else those that there were."""
    stored: list[Object] = before["metadata"].get("managedFields", []) if before is not None else []
    sent = after["metadata"].get("managedFields")
    if before is None or not sent or sent == stored:
        return stored
    if sent == [{}]:  # the agreed sign for "forget who owns what"
        return []
    return sent if all(_sound(entry) for entry in sent) else stored


def _sound(entry: Object) -> bool:
    return bool(
        entry.get("operation") in ("Apply", "Update")
        and entry.get("fieldsType") == "FieldsV1"
        and isinstance(entry.get("fieldsV1"), dict)
        and entry.get("manager")
    )


def _owners(entries: Iterable[Object]) -> _Owners:
    return {_manager(entry): paths_of(entry["fieldsV1"]) for entry in entries}


def _manager(entry: Object) -> Manager:
    return Manager(entry["operation"], entry["manager"], entry.get("apiVersion", ""), entry.get("subresource", ""))


def _first_owners(kind: Kind, before: Object | None, old: Leaves) -> _Owners:
    """Return who owns an object that no client has written yet: all of it but its status."""
    if before is None:
        return {}
    name = before["metadata"].get("labels", {}).get(_MANAGED_BY, _UNKNOWN).lower()
    return {Manager("Update", name, kind.api_version): {path: None for path in old if path[0] != "f:status"}}


def _entries(owners: _Owners, before: Iterable[Object], now: str, writer: Manager | None = None) -> list[Object]:
    """Return owners as managedFields; who owns the same as before keeps its time stamp, who owns nothing is left out.

    `writer` has changed a value of what it owns, or taken a field away: that is a new time stamp as well.
    """
    known = {_manager(entry): entry for entry in before}
    result = []
    for manager, paths in owners.items():
        if not paths:
            continue
        fields = fields_of(paths)
        earlier = known.get(manager) if manager != writer else None
        entry = {
            "manager": manager.name,
            "operation": manager.operation,
            "apiVersion": manager.api_version,
            "time": earlier["time"] if earlier and earlier["fieldsV1"] == fields and "time" in earlier else now,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        result.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
    return sorted(result, key=lambda entry: (entry["operation"], entry["time"], _manager(entry)))
