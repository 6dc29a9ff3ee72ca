"""Which form of an answer a Kubernetes client wants: its Accept header ➜ plain objects, a table, or aggregated discovery.

In: the header's text. Out: a `Form`, or a 406. A client lists what it can read, best first; forms that aren't offered here (Protocol
Buffers) are passed over, and an `as=` that nobody knows makes its entry unusable, as on the real server.
"""

from __future__ import annotations

from typing import Literal

from otel_control_gym.stands.twin.api_errors import ApiError

__all__ = ("DISCOVERY", "JSON", "PROTOBUF", "YAML", "Form", "form")

Form = Literal["object", "table", "discovery"]

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"  #: named in the answer, or clients take it for legacy
_ANY = ("*/*", "application/*", JSON)


def form(accept: str, offered: tuple[Form, ...]) -> Form:
    """Return the first of the client's wishes that is offered.

    Raises: ApiError: 406, there is none.
    """
    for entry in (accept or "*/*").split(","):
        media, *rest = (part.strip() for part in entry.split(";"))
        if media not in _ANY:
            continue
        parameters = dict(part.partition("=")[::2] for part in rest)
        wanted = _named(parameters)
        if wanted in offered:
            return wanted
    message = f"only the following media types are accepted: {JSON}"
    raise ApiError(406, "NotAcceptable", message, {})


def _named(parameters: dict[str, str]) -> Form | None:
    match parameters.get("as"), parameters.get("g"), parameters.get("v"):
        case None, _, _:
            return "object"
        case "Table", "meta.k8s.io", "v1":
            return "table"
        case "APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2":
            return "discovery"
        case _:
            return None
