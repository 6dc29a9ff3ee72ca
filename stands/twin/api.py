"""The verbs of the Kubernetes API on the twin's objects: what a write means, before and apart from HTTP.

In: kind, namespace, name, bodies, patches, preconditions. Out: the object after the write, or an `ApiError`.

A write is checked against the stored object (resourceVersion, UID, immutable fields), goes through admission, and is stored; the
controllers hear of it and act later. With `dry_run` everything is done but the storing. A write that changes nothing is no write.
Upstream: `servers.kubernetes`. Downstream: `store`, `deletion`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import msgspec

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.admission_chain import admit_change, admit_deletion, admit_new
from otel_control_gym.stands.twin.api_bodies import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    SCALE,
    STRATEGIC_MERGE_PATCH,
    apply_patch,
    check_type,
    scale_of,
    undecodable,
    unfit,
    wrong_type,
)
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.deletion import Propagation, delete, release
from otel_control_gym.stands.twin.field_sets import shown
from otel_control_gym.stands.twin.last_applied import KUBECTL, follow, foreign
from otel_control_gym.stands.twin.managed_fields import ApplyConflict, Manager, applied, managed_after
from otel_control_gym.stands.twin.objects import DEPLOYMENT, NAMESPACE, Kind, Object, timestamp
from otel_control_gym.stands.twin.schemas import WrongType, decode
from otel_control_gym.stands.twin.status_admission import admit_status
from otel_control_gym.stands.twin.store import Conflict
from otel_control_gym.stands.twin.versions import as_served, as_stored, stored_kind

__all__ = ("APPLY_PATCH", "JSON_PATCH", "MERGE_PATCH", "STRATEGIC_MERGE_PATCH", "Api")

_OBJECT_BYTES = 3 * 2**19  #: what etcd takes in one request
_STORE_BYTES = 2**28
_LONGEST_GRACE = 10**7  #: [s] about four months
_SERVER_SIDE = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)


class Api:
    """Reads and writes as a client may make them.

    Args:
        context: the cluster.
        validation: what becomes of fields that a kind doesn't have: they are dropped (Ignore), and told in `warnings` (Warn), or they
            make the write fail (Strict).
        manager: who writes, for `managedFields`.
    """

    def __init__(self, context: Context, *, validation: str = "Warn", manager: str = "unknown") -> None:
        self._context = context
        self._store = context.store
        self._validation = validation
        self._manager = manager
        self.warnings: list[str] = []

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Return an object as it is stored.

        Raises: ApiError: there is none.
        """
        item = self._store.get(stored_kind(kind), namespace, name)
        if item is None:
            raise api_errors.not_found(kind, name)
        return item

    def create(self, kind: Kind, namespace: str, body: Object, *, dry_run: bool = False) -> Object:
        """Store a new object.

        Raises: ApiError: its body or its name is refused.
        """
        check_type(kind, body)
        item = self._decoded(kind, body, undecodable(kind))
        kind = stored_kind(kind)
        metadata = dict(item.get("metadata") or {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:58] + self._store.new_suffix()
        item = self._admitted(kind, namespace, item | {"metadata": metadata})
        manager, now = Manager("Update", self._manager, kind.api_version), timestamp(self._context.now)
        return self._created(kind, item, managed_after(kind, None, item, manager, now), dry_run=dry_run)

    def _admitted(self, kind: Kind, namespace: str, item: Object) -> Object:
        """Return a new object with defaults, checked."""
        metadata = item["metadata"]
        if metadata.get("namespace", namespace) != namespace:
            raise api_errors.bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request ({namespace})"
            )
        if kind.namespaced:
            metadata["namespace"] = namespace
            if self._store.get(NAMESPACE, "", namespace) is None:
                raise api_errors.not_found(NAMESPACE, namespace)
        item = admit_new(self._context, kind, item)
        if self._store.get(kind, namespace, metadata["name"]) is not None:
            raise api_errors.already_exists(kind, metadata["name"])
        return item

    def _created(self, kind: Kind, item: Object, entries: list[Object], *, dry_run: bool) -> Object:
        """Store a new, admitted object, or say how it would be stored."""
        if self._store.size_bytes > _STORE_BYTES:
            name = item["metadata"]["name"]
            why = f"exceeded quota: all objects together hold at most {_STORE_BYTES} bytes"
            raise api_errors.forbidden(kind, name, f'{kind.resource} "{name}" is forbidden: {why}')
        item = item | {"metadata": item["metadata"] | {"managedFields": entries}}
        if dry_run:
            created: Object = {"creationTimestamp": timestamp(self._context.now)}
            if kind.generation:
                created["generation"] = 1
            return item | {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": item["metadata"] | created,
            }
        _check_size(item)
        return self._store.create(kind, item, self._context.now)

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Object, *, dry_run: bool = False, status: bool = False
    ) -> Object:
        """Replace an object (or its status alone); without a resourceVersion whatever its version is.

        Raises: ApiError: not found, changed in between, or refused.
        """
        before = self.get(kind, namespace, name)
        check_type(kind, body)
        body = self._decoded(kind, body, undecodable(kind), before)
        kind = stored_kind(kind)
        given = body.get("metadata") or {}
        if given.get("name", name) != name:
            raise api_errors.bad_request(f"the name of the object ({given['name']}) does not match the name on the URL")
        self._check_identity(kind, before, given)
        item: Object = {"apiVersion": before["apiVersion"], "kind": before["kind"]}
        item["metadata"] = {key: value for key, value in before["metadata"].items() if key in _SERVER_SIDE}
        item["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        for key in ("labels", "annotations", "ownerReferences", "finalizers", "managedFields"):
            if given.get(key):
                item["metadata"][key] = given[key]
        for key, value in body.items():
            if key not in ("apiVersion", "kind", "metadata"):
                item[key] = value
        return self._write(kind, before, item, dry_run=dry_run, status=status)

    def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Any,
        content_type: str,
        *,
        dry_run: bool = False,
        status: bool = False,
    ) -> Object:
        """Patch an object (or its status alone).

        Raises: ApiError: not found, changed in between, of a type that the kind doesn't take, or refused.
        """
        before = self.get(kind, namespace, name)
        patched = apply_patch(kind, name, as_served(kind, before), patch, content_type)
        item = self._decoded(kind, patched, unfit(kind, name, patch), before)
        kind = stored_kind(kind)
        given = item.get("metadata")
        if not isinstance(given, dict):
            raise api_errors.bad_request("the patch removes the object's metadata")
        self._check_identity(kind, before, given)
        kept = {key: before["metadata"][key] for key in _SERVER_SIDE if key in before["metadata"]}
        item["metadata"] = {key: value for key, value in given.items() if key not in _SERVER_SIDE} | kept
        item["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        item["apiVersion"], item["kind"] = before["apiVersion"], before["kind"]
        return self._write(kind, before, item, dry_run=dry_run, status=status)

    def delete(self, kind: Kind, namespace: str, name: str, options: Object, *, dry_run: bool = False) -> Object:
        """Delete an object; `options` as in DeleteOptions (gracePeriodSeconds, preconditions, propagationPolicy).

        Raises: ApiError: not found, a precondition doesn't hold, or an option is malformed.
        """
        item, kind = self.get(kind, namespace, name), stored_kind(kind)
        preconditions = options.get("preconditions") or {}
        if not isinstance(preconditions, dict):
            raise api_errors.bad_request("preconditions is no object")
        for key, wanted in preconditions.items():
            found = item["metadata"].get(key)
            if wanted is not None and wanted != found:
                why = f"Precondition failed: {key.upper()} in precondition: {wanted}, in object meta: {found}"
                raise api_errors.conflict(kind, name, why)
        propagation = _propagation(options)
        grace = options.get("gracePeriodSeconds")
        if grace is not None and (not isinstance(grace, int) or isinstance(grace, bool) or abs(grace) > _LONGEST_GRACE):
            raise api_errors.bad_request(f"gracePeriodSeconds is no integer that can be waited for: {grace!r}")
        admit_deletion(self._context, kind, item)
        return item if dry_run else delete(self._context, kind, item, grace=grace, propagation=propagation)

    def scale(self, namespace: str, name: str) -> Object:
        """Return the scale sub-resource of a Deployment."""
        return scale_of(self.get(DEPLOYMENT, namespace, name))

    def write_scale(self, namespace: str, name: str, scale: Object, *, dry_run: bool = False) -> Object:
        """Set a Deployment's size from a Scale object, and return the scale.

        Raises: ApiError: not found, another object or version, or no proper size.
        """
        before = self.get(DEPLOYMENT, namespace, name)
        self._check_identity(DEPLOYMENT, before, scale.get("metadata") or {})
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool):
            raise api_errors.bad_request(f"spec.replicas is no integer: {replicas!r}")
        if replicas < 0:
            problem = f"Invalid value: {replicas}: must be greater than or equal to 0"
            raise api_errors.invalid(SCALE, name, "spec.replicas", problem)
        item = copy.deepcopy(before)
        item["spec"]["replicas"] = replicas
        return scale_of(self._write(DEPLOYMENT, before, item, dry_run=dry_run, subresource="scale"))

    def patch_scale(self, namespace: str, name: str, patch: Any, content_type: str, *, dry_run: bool = False) -> Object:
        """Patch the scale sub-resource of a Deployment and return it.

        Raises: ApiError: as `write_scale`, or the patch is refused.
        """
        scale = apply_patch(SCALE, name, self.scale(namespace, name), patch, content_type)
        return self.write_scale(namespace, name, scale, dry_run=dry_run)

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        body: Any,
        *,
        force: bool = False,
        dry_run: bool = False,
        status: bool = False,
    ) -> tuple[Object, bool]:
        """Apply what the manager wants an object (or its status alone) to be; return the object, and whether it is new.

        Raises: ApiError: refused, or others own fields that would change (409).
        """
        if not isinstance(body, dict):
            raise api_errors.bad_request("the body of an apply is no object")
        check_type(kind, body, required=True)
        before = self._store.get(stored_kind(kind), namespace, name)
        wanted = self._decoded(kind, body, undecodable(kind), before)
        kind = stored_kind(kind)
        given = wanted["metadata"] = dict(wanted.get("metadata") or {})
        if given.get("managedFields"):
            raise api_errors.bad_request("metadata.managedFields must be nil")
        if given.get("name", name) != name:
            raise api_errors.bad_request(
                f"the name of the object ({given['name']}) does not match the name on the URL ({name})"
            )
        given["name"] = name
        if kind.status or status:
            wanted = {key: value for key, value in wanted.items() if (key == "status") is status or key == "metadata"}
        manager = Manager("Apply", self._manager, kind.api_version, "status" if status else "")
        now = timestamp(self._context.now)
        if before is None:
            if status or "create" not in kind.verbs:
                raise api_errors.not_found(kind, name)
            _, entries = applied(kind, None, wanted, manager, now, force=force)
            return self._created(kind, self._admitted(kind, namespace, wanted), entries, dry_run=dry_run), True
        self._check_identity(kind, before, given)
        try:
            item, entries = applied(kind, before, wanted, manager, now, force=force)
        except ApplyConflict as error:
            conflicts = error.conflicts if self._manager != KUBECTL else foreign(kind, before, error.conflicts)
            if conflicts:
                raise api_errors.apply_conflict([(str(other), shown(path)) for other, path in conflicts]) from error
            item, entries = applied(kind, before, wanted, manager, now, force=True)
        if self._manager == KUBECTL:
            follow(item, body)
        item["apiVersion"], item["kind"] = before["apiVersion"], before["kind"]
        return self._write(kind, before, item, dry_run=dry_run, status=status, entries=entries), False

    def _write(
        self,
        kind: Kind,
        before: Object,
        item: Object,
        *,
        dry_run: bool,
        status: bool = False,
        subresource: str = "",
        entries: list[Object] | None = None,
    ) -> Object:
        """Admit and store a change; `entries`: the managedFields, None: as follows from what has changed."""
        if status:
            subresource = "status"
            wanted = admit_status(kind, before["metadata"]["name"], item.get("status", {}))
            item = {**before, "metadata": item["metadata"], "status": wanted}
        elif kind.status and "status" in before:
            item["status"] = before["status"]
        item = admit_change(self._context, kind, before, item)
        if entries is None:
            manager = Manager("Update", self._manager, kind.api_version, subresource)
            entries = managed_after(kind, before, item, manager, timestamp(self._context.now))
        item["metadata"].pop("managedFields", None)
        if entries:
            item["metadata"]["managedFields"] = entries
        if dry_run:
            return item
        _check_size(item)
        try:
            return release(self._context, kind, item)
        except Conflict:
            raise api_errors.conflict(kind, before["metadata"]["name"]) from None

    def _decoded(
        self, kind: Kind, item: Object, refuse: Callable[[str], ApiError], before: Object | None = None
    ) -> Object:
        """Return an object as its kind's structure holds it, in the version that is stored."""
        try:
            decoded, unknown = decode(kind, item)
            stored = as_stored(kind, decoded, before)
            if stored is not decoded:
                stored, _ = decode(stored_kind(kind), stored)
        except WrongType as error:
            raise (refuse(str(error)) if kind.built_in else wrong_type(kind, item, error)) from error
        except ValueError as error:
            raise refuse(str(error)) from error
        problems = [f'unknown field "{path}"' for path in unknown]
        if problems and self._validation == "Strict":
            raise refuse(f"strict decoding error: {', '.join(problems)}")
        if self._validation == "Warn":
            self.warnings += problems
        return stored

    def _check_identity(self, kind: Kind, before: Object, given: Object) -> None:
        """Compare what the writer believes to write to (UID, resourceVersion) with what is there."""
        metadata = before["metadata"]
        if given.get("uid") not in (None, "", metadata["uid"]):
            why = f"Precondition failed: UID in precondition: {given['uid']}, in object meta: {metadata['uid']}"
            raise api_errors.conflict(kind, metadata["name"], why)
        if given.get("resourceVersion") not in (None, "", metadata["resourceVersion"]):
            raise api_errors.conflict(kind, metadata["name"])


def _check_size(item: Object) -> None:
    """Refuse an object that etcd wouldn't take."""
    size = len(msgspec.json.encode(item))
    if size > _OBJECT_BYTES:
        raise api_errors.too_large(f"the object has {size} bytes, the store takes {_OBJECT_BYTES} at most")


def _propagation(options: Object) -> Propagation:
    """Return what becomes of dependents.

    Raises: ApiError: the option is none of the policies.
    """
    asked = options.get("propagationPolicy")
    if asked is None:
        return "Orphan" if options.get("orphanDependents") is True else "Background"
    for policy in get_args(Propagation):
        if asked == policy:
            found: Propagation = policy
            return found
    supported = ", ".join(f'"{policy}"' for policy in ("Foreground", "Background", "Orphan", "nil"))
    problem = f'Unsupported value: "{asked}": supported values: {supported}'
    raise api_errors.invalid_options(
        "propagationPolicy", problem, reason="FieldValueNotSupported", options="DeleteOptions"
    )
