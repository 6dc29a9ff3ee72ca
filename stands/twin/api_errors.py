"""What the API refuses, as the API server says it: HTTP code, reason, message, details ➜ a Status object.

In: facts about a request and an object. Out: an `ApiError` whose `status` is the body of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_control_gym.stands.twin.field_errors import FieldError
from otel_control_gym.stands.twin.objects import Kind, Object

__all__ = (
    "ApiError",
    "already_exists",
    "apply_conflict",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "invalid",
    "invalid_fields",
    "invalid_options",
    "method_not_allowed",
    "no_processes",
    "no_such_path",
    "not_found",
    "timed_out",
    "too_large",
    "too_new",
    "unsupported_media_type",
)


class ApiError(Exception):
    """Raised when a request is refused; the server answers with `status`."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            **({"details": details} if details else {}),
            "code": code,
        }


def bad_request(message: str) -> ApiError:
    """Malformed body, selector or parameter."""
    return ApiError(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, message: str) -> ApiError:
    """An admission webhook or a rule denies it."""
    return ApiError(403, "Forbidden", message, _details(kind, name))


def no_such_path() -> ApiError:
    """Nothing is served at that path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def not_found(kind: Kind, name: str) -> ApiError:
    """There is no such object."""
    return ApiError(404, "NotFound", f'{kind.resource} "{name}" not found', _details(kind, name))


def no_processes(subresource: str) -> ApiError:
    """Return what is said to whoever wants to look into a container: there are no real processes."""
    message = f"a twin's containers aren't processes, so there is no {subresource} of them"
    if subresource == "log":
        message += "; logs leave an embedded twin by OTLP, a served one keeps them"
    return ApiError(404, "NotFound", message, {})


def method_not_allowed() -> ApiError:
    """The resource doesn't know this verb."""
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def already_exists(kind: Kind, name: str) -> ApiError:
    """An object of that name is there."""
    return ApiError(409, "AlreadyExists", f'{kind.resource} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str = "") -> ApiError:
    """The object is another, or newer, than the writer believed."""
    why = why or ("the object has been modified; please apply your changes to the latest version and try again")
    return ApiError(
        409, "Conflict", f'Operation cannot be fulfilled on {kind.resource} "{name}": {why}', _details(kind, name)
    )


def apply_conflict(conflicts: Sequence[tuple[str, str]]) -> ApiError:
    """An apply would change what others own: (manager, path) of each field."""
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": path}
        for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        told = f"1 conflict: conflict with {conflicts[0][0]}: {conflicts[0][1]}"
    else:
        by_manager: dict[str, list[str]] = {}
        for manager, path in conflicts:
            by_manager.setdefault(manager, []).append(f"- {path}")
        lines = [
            line for manager in sorted(by_manager) for line in (f"conflicts with {manager}:", *by_manager[manager])
        ]
        told = f"{len(conflicts)} conflicts: " + "\n".join(lines)
    return ApiError(409, "Conflict", f"Apply failed with {told}", {"causes": causes})


def expired(message: str) -> ApiError:
    """The history doesn't reach back that far."""
    return ApiError(410, "Expired", message)


def too_large(why: str) -> ApiError:
    """The body is longer than the server reads, or asks for something that would be."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {why}")


def timed_out() -> ApiError:
    """The request didn't come to its end."""
    message = "Timeout: request did not complete within the allotted timeout"
    return ApiError(504, "Timeout", message, {})


def unsupported_media_type(found: str, accepted: tuple[str, ...]) -> ApiError:
    """The body is of a type that the resource doesn't take."""
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", f"{message} (found {found!r})" if found else message)


def invalid(kind: Kind, name: str, field: str, problem: str, *, reason: str = "FieldValueInvalid") -> ApiError:
    """The object breaks a rule; `problem` begins with what is wrong, e.g. `Invalid value: -1: must be ...`."""
    return invalid_fields(kind, name, [FieldError(field, problem, reason)])


def invalid_fields(kind: Kind, name: str, errors: Sequence[FieldError]) -> ApiError:
    """The object breaks rules, all of which are told."""
    told = [f"{error.field}: {error.problem}" for error in errors]
    all_told = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    message = f'{kind.qualified} "{name}" is invalid: {all_told}'
    causes = [{"reason": error.reason, "message": error.problem, "field": error.field} for error in errors]
    details = {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.kind, "causes": causes}
    return ApiError(422, "Invalid", message, details)


def invalid_options(field: str, problem: str, *, reason: str, options: str = "ListOptions") -> ApiError:
    """A parameter of the request breaks a rule; `options`: what the API calls the parameters of its verb."""
    kind = Kind(kind=options, plural=options.lower(), group="meta.k8s.io")
    return invalid(kind, "", field, problem, reason=reason)


def too_new(asked: int, newest: int) -> ApiError:
    """The resourceVersion asked for hasn't been reached."""
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    message = f"Timeout: Too large resource version: {asked}, current: {newest}"
    return ApiError(504, "Timeout", message, {"causes": causes, "retryAfterSeconds": 1})


def _details(kind: Kind, name: str) -> Object:
    return {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.plural}
