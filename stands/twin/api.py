"""The verbs of the Kubernetes API on the twin's objects: what a write means, before and apart from HTTP.

In: kind, namespace, name, bodies, patches, preconditions. Out: the object after the write, or an `ApiError`.

A write is checked against the stored object (resourceVersion, UID, immutable fields), goes through admission, and is stored; the
controllers hear of it and act later. With `dry_run` everything is done but the storing. A write that changes nothing is no write.
Upstream: `servers.kubernetes`. Downstream: `store`, `deletion`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import msgspec

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.admission_chain import admit_change, admit_deletion, admit_new
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.deletion import delete, release
from otel_control_gym.stands.twin.field_errors import FieldError
from otel_control_gym.stands.twin.objects import DEPLOYMENT, NAMESPACE, Kind, Object, timestamp
from otel_control_gym.stands.twin.patches import (
    PatchError,
    UnprocessablePatch,
    json_patch,
    merge_patch,
    strategic_merge_patch,
)
from otel_control_gym.stands.twin.schemas import WrongType, decode
from otel_control_gym.stands.twin.store import AlreadyExists, Conflict
from otel_control_gym.stands.twin.versions import as_served, as_stored, stored_kind

__all__ = ("JSON_PATCH", "MERGE_PATCH", "STRATEGIC_MERGE_PATCH", "Api")

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
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
    """

    def __init__(self, context: Context, *, validation: str = "Warn") -> None:
        self._context = context
        self._store = context.store
        self._validation = validation
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
        _check_type(kind, body)
        item = self._decoded(kind, body, _undecodable(kind))
        kind = stored_kind(kind)
        item["metadata"] = metadata = dict(item.get("metadata") or {})
        if metadata.get("namespace", namespace) != namespace:
            raise api_errors.bad_request(
                f"the namespace of the provided object does not match the namespace sent on the request ({namespace})"
            )
        metadata["namespace"] = namespace
        if self._store.get(NAMESPACE, "", namespace) is None:
            raise api_errors.not_found(NAMESPACE, namespace)
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"][:58] + self._store.new_suffix()
        item = admit_new(self._context, kind, item)
        if self._store.get(kind, namespace, metadata["name"]) is not None:
            raise api_errors.already_exists(kind, metadata["name"])
        if dry_run:
            created = {"creationTimestamp": timestamp(self._context.now)} | (
                {"generation": 1} if kind.generation else {}
            )
            return {**item, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata | created}
        try:
            return self._store.create(kind, item, self._context.now)
        except AlreadyExists:
            raise api_errors.already_exists(kind, metadata["name"]) from None

    def replace(
        self, kind: Kind, namespace: str, name: str, body: Object, *, dry_run: bool = False, status: bool = False
    ) -> Object:
        """Replace an object (or its status alone); without a resourceVersion whatever its version is.

        Raises: ApiError: not found, changed in between, or refused.
        """
        before = self.get(kind, namespace, name)
        _check_type(kind, body)
        body = self._decoded(kind, body, _undecodable(kind), before)
        kind = stored_kind(kind)
        given = body.get("metadata") or {}
        if given.get("name", name) != name:
            raise api_errors.bad_request(f"the name of the object ({given['name']}) does not match the name on the URL")
        self._check_identity(kind, before, given)
        item: Object = {"apiVersion": before["apiVersion"], "kind": before["kind"]}
        item["metadata"] = {key: value for key, value in before["metadata"].items() if key in _SERVER_SIDE}
        item["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"]
        for key in ("labels", "annotations", "ownerReferences", "finalizers"):
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
        item = self._decoded(kind, patched, _unfit(kind, name, patch), before)
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

        Raises: ApiError: not found, a precondition doesn't hold, or a propagation that isn't offered.
        """
        item, kind = self.get(kind, namespace, name), stored_kind(kind)
        for key, wanted in (options.get("preconditions") or {}).items():
            found = item["metadata"].get(key)
            if wanted is not None and wanted != found:
                why = f"Precondition failed: {key.upper()} in precondition: {wanted}, in object meta: {found}"
                raise api_errors.conflict(kind, name, why)
        if options.get("propagationPolicy") in ("Foreground", "Orphan"):
            problem = f'Unsupported value: "{options["propagationPolicy"]}": supported values: "Background"'
            raise api_errors.invalid(kind, name, "propagationPolicy", problem, reason="FieldValueNotSupported")
        grace = options.get("gracePeriodSeconds")
        if grace is not None and not isinstance(grace, int):
            raise api_errors.bad_request(f"gracePeriodSeconds is no integer: {grace!r}")
        admit_deletion(self._context, kind, item)
        return item if dry_run else delete(self._context, kind, item, grace=grace)

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
            raise api_errors.invalid(_SCALE, name, "spec.replicas", problem)
        item = copy.deepcopy(before)
        item["spec"]["replicas"] = replicas
        return scale_of(self._write(DEPLOYMENT, before, item, dry_run=dry_run))

    def patch_scale(self, namespace: str, name: str, patch: Any, content_type: str, *, dry_run: bool = False) -> Object:
        """Patch the scale sub-resource of a Deployment and return it.

        Raises: ApiError: as `write_scale`, or the patch is refused.
        """
        scale = apply_patch(_SCALE, name, self.scale(namespace, name), patch, content_type)
        return self.write_scale(namespace, name, scale, dry_run=dry_run)

    def _write(self, kind: Kind, before: Object, item: Object, *, dry_run: bool, status: bool = False) -> Object:
        if status:
            item = {**before, "metadata": item["metadata"], "status": item.get("status", {})}
        elif kind.status and "status" in before:
            item["status"] = before["status"]
        item = admit_change(self._context, kind, before, item)
        if dry_run:
            return item
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
            raise (refuse(str(error)) if kind.built_in else _wrong_type(kind, item, error)) from error
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


_SCALE = Kind(kind="Scale", plural="scales", group="autoscaling")


def scale_of(deployment: Object) -> Object:
    """Return the Scale of a Deployment."""
    metadata, labels = deployment["metadata"], deployment["spec"]["selector"].get("matchLabels", {})
    keys = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in keys},
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {
            "replicas": deployment.get("status", {}).get("replicas", 0),
            "selector": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        },
    }


def apply_patch(kind: Kind, name: str, document: Object, patch: Any, content_type: str) -> Object:
    """Return a document with a patch of a content type applied.

    Raises: ApiError: 415 for a type that the kind doesn't take, 400 for a malformed patch, 422 for one that doesn't fit.
    """
    accepted = (JSON_PATCH, MERGE_PATCH, *((STRATEGIC_MERGE_PATCH,) if kind.built_in else ()))
    if content_type not in accepted:
        raise api_errors.unsupported_media_type(content_type, accepted)
    if content_type != JSON_PATCH and not isinstance(patch, dict):
        raise api_errors.bad_request("the patch is no JSON object")
    try:
        if content_type == JSON_PATCH:
            result = json_patch(document, patch)
        elif content_type == MERGE_PATCH:
            result = merge_patch(document, patch)
        else:
            result = strategic_merge_patch(document, patch)
    except UnprocessablePatch as error:
        raise api_errors.invalid(kind, name, "patch", f"Invalid value: {error}") from error
    except PatchError as error:
        raise api_errors.bad_request(str(error)) from error
    if not isinstance(result, dict):
        raise api_errors.bad_request("the patch leaves no object")
    return result


def _undecodable(kind: Kind) -> Callable[[str], ApiError]:
    """Return how a body is refused that doesn't decode."""
    about = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
    return lambda problem: api_errors.bad_request(f"{about}: {problem}")


def _unfit(kind: Kind, name: str, patch: Any) -> Callable[[str], ApiError]:
    """Return how a patch is refused after which the object doesn't decode: 422, other than a whole body, as on the real server."""
    text = msgspec.json.encode(patch).decode()
    return lambda problem: api_errors.invalid(kind, name, "patch", f"Invalid value: {text}: {problem}")


def _wrong_type(kind: Kind, item: Object, error: WrongType) -> ApiError:
    """Return how the schema of a custom resource refuses a value of a wrong type."""
    wanted = {"int32": "integer", "int64": "integer", "bool": "boolean"}.get(error.wanted, error.wanted)
    problem = f'Invalid value: "{error.found}": {error.path} in body must be of type {wanted}: "{error.found}"'
    metadata = item.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    return api_errors.invalid_fields(kind, str(name), [FieldError(error.path, problem, "FieldValueTypeInvalid")])


def _check_type(kind: Kind, body: Object) -> None:
    """Compare the type that a body claims with the resource it was sent to."""
    found = (body.get("apiVersion", kind.api_version), body.get("kind", kind.kind))
    if found != (kind.api_version, kind.kind):
        raise ApiError(
            400,
            "BadRequest",
            f"the object provided is unrecognized: expected {kind.api_version} {kind.kind}, found {found[0]} {found[1]}",
        )
