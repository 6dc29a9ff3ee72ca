"""Rules of metadata, which hold for every kind: names, labels, annotations, finalizers, owners.

In: a body of the right shape, and what it was before. Out: nothing, or an `ApiError` that names everything that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otel_control_gym.stands.twin.api_errors import invalid_fields
from otel_control_gym.stands.twin.deletion import FOREGROUND, ORPHAN
from otel_control_gym.stands.twin.field_errors import FieldError, forbidden_field, invalid_value, required
from otel_control_gym.stands.twin.objects import Kind, Object

__all__ = ("admit_metadata",)

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an "
    "alphanumeric character"
)
_KEY_RULE = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
_VALUE_RULE = (
    "a valid label must be an empty string or consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character"
)
_ANNOTATION_BYTES = 256 * 2**10
_STANDARD_FINALIZERS = (FOREGROUND, ORPHAN)


def admit_metadata(kind: Kind, item: Object, before: Object | None) -> None:
    """Check an object's metadata; `before`: as it is stored, None: it is new.

    Raises: ApiError: something about it breaks a rule.
    """
    metadata = item["metadata"]
    problems = [
        *(_name(metadata.get("name", "")) if before is None else ()),
        *_labels(metadata.get("labels", {})),
        *_annotations(metadata.get("annotations", {})),
        *_owners(metadata.get("ownerReferences", [])),
        *_finalizers(metadata, before),
    ]
    if problems:
        raise invalid_fields(kind, metadata.get("name", ""), problems)


def _name(name: str) -> Iterator[FieldError]:
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif len(name) > 253:
        yield FieldError("metadata.name", "Too long: may not be more than 253 bytes", "FieldValueTooLong")
    elif _SUBDOMAIN.fullmatch(name) is None:
        yield invalid_value("metadata.name", name, _NAME_RULE)


def _labels(labels: dict[str, str]) -> Iterator[FieldError]:
    for key, value in labels.items():
        yield from _key("metadata.labels", key)
        if len(value) > 63 or _LABEL_VALUE.fullmatch(value) is None:
            yield invalid_value("metadata.labels", value, _VALUE_RULE)


def _annotations(annotations: dict[str, str]) -> Iterator[FieldError]:
    for key in annotations:
        yield from _key("metadata.annotations", key.lower())
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > _ANNOTATION_BYTES:
        problem = f"Too long: may not be more than {_ANNOTATION_BYTES} bytes"
        yield FieldError("metadata.annotations", problem, "FieldValueTooLong")


def _key(field: str, key: str) -> Iterator[FieldError]:
    prefix, slash, name = key.rpartition("/")
    if slash and (len(prefix) > 253 or _SUBDOMAIN.fullmatch(prefix) is None):
        yield invalid_value(field, key, f"prefix part {_NAME_RULE}")
    if len(name) > 63 or _QUALIFIED.fullmatch(name) is None:
        yield invalid_value(field, key, _KEY_RULE)


def _owners(owners: list[Object]) -> Iterator[FieldError]:
    for index, owner in enumerate(owners):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                yield invalid_value(f"metadata.ownerReferences[{index}].{key}", "", "must not be empty")
    if sum(owner.get("controller", False) for owner in owners) > 1:
        yield invalid_value("metadata.ownerReferences", "object", "Only one reference can have Controller set to true")


def _finalizers(metadata: Object, before: Object | None) -> Iterator[FieldError]:
    earlier = before["metadata"].get("finalizers", []) if before is not None else []
    added = [finalizer for finalizer in metadata.get("finalizers", ()) if finalizer not in earlier]
    for finalizer in added:
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            yield invalid_value("metadata.finalizers", finalizer, detail)
    if added and before is not None and "deletionTimestamp" in before["metadata"]:
        found = ", ".join(f'"{finalizer}"' for finalizer in added)
        detail = "no new finalizers can be added if the object is being deleted, found new finalizers []string"
        yield forbidden_field("metadata.finalizers", f"{detail}{{{found}}}")
