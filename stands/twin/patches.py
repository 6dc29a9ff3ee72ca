"""The three kinds of patch: merge (RFC 7386), strategic merge, JSON patch (RFC 6902).

In: a document and a patch. Out: a new document, the old one untouched, or a `PatchError`.

A strategic merge patch knows which lists are maps in disguise: `containers` are merged by name, `ports` by containerPort, and so on;
every other list is replaced. `$patch: delete` removes an entry or a map, `$patch: replace` replaces one, `$retainKeys` keeps the
named keys alone, `$deleteFromPrimitiveList/x` takes values out of a list, `$setElementOrder/x` is accepted and only orders.
"""

from __future__ import annotations

import copy
from typing import Any

import msgspec

__all__ = (
    "MERGE_KEYS",
    "SETS",
    "PatchError",
    "PatchTooLarge",
    "UnprocessablePatch",
    "json_patch",
    "merge_patch",
    "strategic_merge_patch",
)

MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "conditions": "type",
    "topologySpreadConstraints": "topologyKey",
    "hostAliases": "ip",
    "ownerReferences": "uid",
}
SETS = ("finalizers",)
_MAX_OPERATIONS = 10_000
_MAX_COPIED_BYTES = 3 * 2**20


class PatchError(Exception):
    """Raised when a patch is malformed."""


class PatchTooLarge(PatchError):
    """Raised when a JSON patch copies more than a document may hold."""


class UnprocessablePatch(PatchError):
    """Raised when a well-formed JSON patch doesn't fit the document."""


def merge_patch(document: Any, patch: Any) -> Any:
    """Return the document with an RFC 7386 patch merged in: null deletes, lists are replaced."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge_patch(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return the document with a strategic merge patch merged in.

    Raises: PatchError: an entry of a merged list lacks its key, or a directive is unknown.
    """
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise PatchError(f"unknown $patch directive: {directive}")
    result = dict(document)
    if "$retainKeys" in patch:
        if not isinstance(patch["$retainKeys"], list):
            raise PatchError("$retainKeys is no list")
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$"):
            _apply_directive(result, key, value)
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            before = result.get(key)
            result[key] = strategic_merge_patch(before if isinstance(before, dict) else {}, value)
        elif isinstance(value, list):
            earlier = result.get(key)
            result[key] = _merge_list(key, earlier if isinstance(earlier, list) else [], value)
        else:
            result[key] = value
    return result


def json_patch(document: Any, operations: Any) -> Any:
    """Return the document after the operations of an RFC 6902 patch.

    Raises: PatchError: malformed. UnprocessablePatch: a path isn't there, or a test fails. PatchTooLarge: it copies too much.
    """
    if not isinstance(operations, list):
        raise PatchError("a JSON patch is a list of operations")
    if len(operations) > _MAX_OPERATIONS:
        raise PatchError(f"the allowed maximum operations in a JSON patch is {_MAX_OPERATIONS}")
    result, copied = copy.deepcopy(document), 0
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise PatchError(f"not an operation of a JSON patch: {operation}")
        if operation.get("op") == "copy":
            # Each copy may double the document: a few operations could ask for any size.
            copied += len(msgspec.json.encode(_look(result, _pointer(operation.get("from")))))
            if copied > _MAX_COPIED_BYTES:
                raise PatchTooLarge(
                    f"Unable to complete the copy, the accumulated size increase of copy is {copied}, "
                    f"exceeding the limit {_MAX_COPIED_BYTES}"
                )
        try:
            result = _operate(result, operation)
        except RecursionError as error:
            raise PatchError("the patch leads into a depth that no object has") from error
    return result


def _apply_directive(result: dict[str, Any], key: str, value: Any) -> None:
    name = key.partition("/")[2]
    if key.startswith("$deleteFromPrimitiveList/"):
        earlier = result.get(name)
        if not isinstance(value, list) or (earlier is not None and not isinstance(earlier, list)):
            raise PatchError(f"{key} and what it takes from are no lists")
        if earlier is not None:
            result[name] = [item for item in earlier if item not in value]
    elif key not in ("$patch", "$retainKeys") and not key.startswith("$setElementOrder/"):
        raise PatchError(f"unknown directive: {key}")


def _merge_list(name: str, before: list[Any], patch: list[Any]) -> list[Any]:
    if name in SETS:
        return before + [item for item in patch if item not in before]
    merge_key = MERGE_KEYS.get(name)
    if merge_key is None or not all(isinstance(item, dict) for item in (*before, *patch)):
        return copy.deepcopy(patch)
    if any("containerPort" not in item and "port" in item for item in (*before, *patch)) and name == "ports":
        merge_key = "port"  # of a Service
    if any(item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if item.get("$patch") != "replace"]
    result = list(before)
    for item in patch:
        if merge_key not in item:
            raise PatchError(f"map: {item} does not contain declared merge key: {merge_key}")
        index = next((i for i, entry in enumerate(result) if entry.get(merge_key) == item[merge_key]), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(strategic_merge_patch({}, item))
        else:
            result[index] = strategic_merge_patch(result[index], item)
    return result


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    name, path = operation.get("op"), _pointer(operation["path"])
    match name:
        case "add":
            return _add(document, path, _value(operation))
        case "remove":
            _take(document, path)
        case "replace":
            if not path:
                return _value(operation)
            _look(document, path)
            parent, key = _look(document, path[:-1]), path[-1]
            parent[_index(parent, key) if isinstance(parent, list) else key] = _value(operation)
        case "test":
            if _look(document, path) != _value(operation):
                raise UnprocessablePatch(f"testing value {operation['path']} failed")
        case "move":
            return _add(document, path, _take(document, _pointer(operation.get("from"))))
        case "copy":
            return _add(document, path, copy.deepcopy(_look(document, _pointer(operation.get("from")))))
        case _:
            raise PatchError(f"unknown operation of a JSON patch: {name}")
    return document


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise PatchError(f"operation lacks its value: {operation}")
    return operation["value"]


def _pointer(text: Any) -> list[str]:
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise PatchError(f"not a JSON pointer: {text}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _look(document: Any, path: list[str]) -> Any:
    for key in path:
        if isinstance(document, list):
            document = document[_index(document, key)]
        elif isinstance(document, dict) and key in document:
            document = document[key]
        else:
            raise UnprocessablePatch(f"missing path: {key}")
    return document


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, key = _look(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if key == "-" else _index(parent, key, last=len(parent)), value)
    elif isinstance(parent, dict):
        parent[key] = value
    else:
        raise UnprocessablePatch(f"missing path: {key}")
    return document


def _take(document: Any, path: list[str]) -> Any:
    if not path:
        raise PatchError("the whole document can't be removed")
    _look(document, path)
    parent, key = _look(document, path[:-1]), path[-1]
    return parent.pop(_index(parent, key) if isinstance(parent, list) else key)


def _index(items: list[Any], key: str, last: int | None = None) -> int:
    bound = len(items) - 1 if last is None else last
    if not (key.isascii() and key.isdigit() and len(key) < 10) or int(key) > bound:
        raise UnprocessablePatch(f"missing index: {key}")
    return int(key)
