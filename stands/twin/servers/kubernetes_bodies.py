"""Bodies of requests: JSON, YAML or Protocol Buffers ➜ one JSON document, or a refusal.

In: a request. Out: what its body holds, bounded in size and depth, so that nothing behind this module can be led into the depth.

YAML is read where Kubernetes reads it (whole objects, server-side apply). Its anchors are refused: a few lines of them can stand for a
document of any size. Everything a YAML document can hold that JSON can't becomes what JSON has for it.
"""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import yaml
from aiohttp import web

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.api_bodies import (
    APPLY_PATCH,
    JSON_PATCH,
    MERGE_PATCH,
    STRATEGIC_MERGE_PATCH,
    shallow,
)
from otel_control_gym.stands.twin.servers import kubernetes_protobuf
from otel_control_gym.stands.twin.servers.kubernetes_negotiation import JSON, PROTOBUF, YAML

__all__ = ("BODY_LIMIT", "body")

BODY_LIMIT = 3 * 2**20
_BODY_SECONDS = 60.0  #: that a client may take to send one, as the real server's request time-out
_YAML_DEPTH = 100
_OBJECT_TYPES = (JSON, YAML, PROTOBUF)
_PATCH_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)
# libyaml's parser, if PyYAML was built with it, is ten times as fast and reads the same.
_LOADER: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


async def body(request: web.Request) -> Any:
    """Return what the body holds, None if there is none.

    Raises: ApiError: 400, it is malformed. 415, it is of a type that isn't read here. 504, it doesn't end.
            `HTTPRequestEntityTooLarge`: it is too long.
    """
    content_type = request.content_type if "Content-Type" in request.headers else JSON
    accepted = _PATCH_TYPES if request.method == "PATCH" else _OBJECT_TYPES
    with anyio.move_on_after(_BODY_SECONDS) as limit:
        raw = await request.read()
    if limit.cancelled_caught:
        raise api_errors.timed_out()
    if not raw:
        return None
    if content_type not in accepted:
        raise api_errors.unsupported_media_type(content_type, accepted)
    try:
        found = _decoded(raw, content_type)
        if isinstance(found, dict | list) and not shallow(found):
            raise ValueError("exceeded max depth")
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())  # errors of YAML have several lines
        raise api_errors.bad_request(f"the object provided is unrecognized: {told}") from error
    return found


def _decoded(raw: bytes, content_type: str) -> Any:
    if raw.startswith(kubernetes_protobuf.MAGIC):
        item = kubernetes_protobuf.decode(raw)
        if item is None:
            raise api_errors.unsupported_media_type(PROTOBUF, (JSON,))
        return item
    if content_type not in (YAML, APPLY_PATCH):
        return msgspec.json.decode(raw)
    try:
        return msgspec.json.decode(raw)  # what clients send as YAML is JSON more often than not
    except (ValueError, RecursionError):
        return _yaml(raw)


def _yaml(raw: bytes) -> Any:
    """Return a YAML document as JSON has it.

    Raises: ValueError, TypeError, YAMLError, RecursionError: it is malformed, or nothing that JSON could hold.
    """
    depth = 0
    for event in yaml.parse(raw, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("YAML aliases aren't read here")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _YAML_DEPTH:
            raise ValueError("exceeded max depth")
    document = yaml.load(raw, Loader=_LOADER)
    return msgspec.json.decode(msgspec.json.encode(document))
