"""What bodies and patches of writes say, and how they are refused when they say nothing that an object can be made of.

In: kinds, documents, patches. Out: patched documents, Scale objects, or the `ApiError` that a malformed one is answered with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.field_errors import FieldError
from otel_control_gym.stands.twin.objects import Kind, Object
from otel_control_gym.stands.twin.patches import (
    PatchError,
    PatchTooLarge,
    UnprocessablePatch,
    json_patch,
    merge_patch,
    strategic_merge_patch,
)
from otel_control_gym.stands.twin.schemas import WrongType

__all__ = (
    "APPLY_PATCH",
    "JSON_PATCH",
    "MERGE_PATCH",
    "SCALE",
    "STRATEGIC_MERGE_PATCH",
    "apply_patch",
    "check_type",
    "scale_of",
    "shallow",
    "undecodable",
    "unfit",
    "wrong_type",
)

APPLY_PATCH = "application/apply-patch+yaml"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
_DEPTH = 100  #: of documents; the deepest of Kubernetes' own types has about 20
SCALE = Kind(kind="Scale", plural="scales", group="autoscaling")


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
    except PatchTooLarge as error:
        raise api_errors.too_large(str(error)) from error
    except UnprocessablePatch as error:
        raise api_errors.invalid(kind, name, "patch", f"Invalid value: {error}") from error
    except PatchError as error:
        raise api_errors.bad_request(str(error)) from error
    if not isinstance(result, dict):
        raise api_errors.bad_request("the patch leaves no object")
    if not shallow(result):
        raise api_errors.bad_request("the patch leads into a depth that no object has")
    return result


def shallow(document: Any) -> bool:
    """Return whether a document is no deeper than objects are; nothing behind the API need fear for its stack then."""
    level, depth = [document], 0
    while level and depth <= _DEPTH:
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        depth += 1
    return not level


def undecodable(kind: Kind) -> Callable[[str], ApiError]:
    """Return how a body is refused that doesn't decode."""
    about = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
    return lambda problem: api_errors.bad_request(f"{about}: {problem}")


def unfit(kind: Kind, name: str, patch: Any) -> Callable[[str], ApiError]:
    """Return how a patch is refused after which the object doesn't decode: 422, other than a whole body, as on the real server."""
    text = msgspec.json.encode(patch).decode()
    return lambda problem: api_errors.invalid(kind, name, "patch", f"Invalid value: {text}: {problem}")


def wrong_type(kind: Kind, item: Object, error: WrongType) -> ApiError:
    """Return how the schema of a custom resource refuses a value of a wrong type."""
    wanted = {"int32": "integer", "int64": "integer", "bool": "boolean"}.get(error.wanted, error.wanted)
    problem = f'Invalid value: "{error.found}": {error.path} in body must be of type {wanted}: "{error.found}"'
    metadata = item.get("metadata")
    name = metadata.get("name", "") if isinstance(metadata, dict) else ""
    return api_errors.invalid_fields(kind, str(name), [FieldError(error.path, problem, "FieldValueTypeInvalid")])


def check_type(kind: Kind, body: Object, *, required: bool = False) -> None:
    """Compare the type that a body claims with the resource it was sent to; `required`: it has to claim one.

    Raises: ApiError: it is another, or none.
    """
    for key in ("kind", "apiVersion"):
        if required and not body.get(key):
            raise api_errors.bad_request(f"{key} is missing: an apply says what it applies")
    found = (body.get("apiVersion", kind.api_version), body.get("kind", kind.kind))
    if found != (kind.api_version, kind.kind):
        raise ApiError(
            400,
            "BadRequest",
            f"the object provided is unrecognized: expected {kind.api_version} {kind.kind}, found {found[0]} {found[1]}",
        )
