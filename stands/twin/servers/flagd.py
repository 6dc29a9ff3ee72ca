"""flagd and flagd-ui of the demo: which feature flags there are, what they evaluate to, and how they are changed.

In: OFREP requests; reads and writes of flagd-ui. Out: evaluations; documents for `feature_flags`.

Both share a port here, as behind the demo's proxy: OFREP under `/ofrep/v1/`, flagd-ui's REST API under `/feature/api/` (the proxy's
prefix) and under `/api/` (as the Service has it), each path with the alias that the demo's own pages use. A write replaces the whole file
and is answered with `{}` before flagd has read it. While flagd has no ready pod every request is answered with 503, as the proxy does.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec
from aiohttp import web

from otel_control_gym.stands.twin.feature_flags import FeatureFlags, FlagError, InvalidFlags
from otel_control_gym.stands.twin.servers.listening import json_response

__all__ = ("FlagdServer",)

_STATUSES: Final = {"FLAG_NOT_FOUND": 404, "FLAG_DISABLED": 404, "PARSE_ERROR": 400}


class FlagdServer:
    """One flagd with its flag file; `attach` gives it the flags of a run."""

    def __init__(self) -> None:
        self._flags: FeatureFlags | None = None

    def attach(self, flags: FeatureFlags) -> None:
        """Serve these flags from now on."""
        self._flags = flags

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application()
        router = application.router
        router.add_post("/ofrep/v1/evaluate/flags", self._evaluate_all)
        router.add_post("/ofrep/v1/evaluate/flags/{key}", self._evaluate)
        for prefix in ("/feature/api", "/api"):
            for read in ("read", "read-file"):
                router.add_get(f"{prefix}/{read}", self._read)
            for write in ("write", "write-to-file"):
                router.add_post(f"{prefix}/{write}", self._write)
        return application

    async def _evaluate(self, request: web.Request) -> web.Response:
        key, flags = request.match_info["key"], self._serving()
        if not await _has_context(request):
            document = {"key": key, "errorCode": "INVALID_CONTEXT", "errorDetails": "Provided context is not valid"}
            return json_response(document, status=400)
        try:
            return json_response(_evaluation(flags, key))
        except FlagError as error:
            document = {"key": key, "errorCode": error.code, "errorDetails": error.details}
            return json_response(document, status=_STATUSES[error.code])

    async def _evaluate_all(self, request: web.Request) -> web.Response:
        flags = self._serving()
        if not await _has_context(request):
            document = {"errorCode": "INVALID_CONTEXT", "errorDetails": "Provided context is not valid"}
            return json_response(document, status=400)
        evaluations = []
        for key in flags.names():
            try:
                evaluations.append(_evaluation(flags, key))
            except FlagError as error:
                if error.code != "FLAG_DISABLED":  # those are left out
                    evaluations.append({"key": key, "errorCode": error.code, "errorDetails": error.details})
        answer = json_response({"flags": evaluations, "metadata": {}})
        assert isinstance(answer.body, bytes)
        answer.etag = hashlib.sha256(answer.body).hexdigest()
        wanted = request.if_none_match
        if wanted is not None and any(tag == answer.etag for tag in wanted):
            return web.Response(status=304)
        return answer

    async def _read(self, _: web.Request) -> web.Response:
        return json_response({"flags": self._serving().file["flags"]})

    async def _write(self, request: web.Request) -> web.Response:
        flags = self._serving()
        if request.content_type != "application/json":
            message = f"content type {request.content_type!r}: must be application/json"
            return json_response({"message": message}, status=415)
        try:
            body = msgspec.json.decode(await request.read())
        except msgspec.DecodeError as error:
            return json_response({"message": f"the body isn't JSON: {error}"}, status=400)
        if not isinstance(body, dict) or "data" not in body:
            message = 'the body must be an object that holds the whole flag document: {"data": {"flags": {...}}}'
            return json_response({"message": message}, status=400)
        try:
            flags.write(body["data"])
        except InvalidFlags as error:
            return json_response({"message": str(error)}, status=400)
        return json_response({})

    def _serving(self) -> FeatureFlags:
        if self._flags is None or not self._flags.serving:
            raise web.HTTPServiceUnavailable(text="no healthy upstream: flagd has no ready pod")
        return self._flags


def _evaluation(flags: FeatureFlags, key: str) -> dict[str, Any]:
    found = flags.evaluate(key)
    return {"key": key, "value": found.value, "reason": "STATIC", "variant": found.variant, "metadata": {}}


async def _has_context(request: web.Request) -> bool:
    """Return whether the body is empty or an object whose `context`, if there is one, is an object."""
    body = await request.read()
    if not body:
        return True
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(document, dict) and isinstance(document.get("context", {}), dict)
