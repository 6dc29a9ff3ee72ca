"""OTLP over HTTP: POST /v1/traces and /v1/logs.

In: requests in Protobuf or JSON, as they are or under gzip. Out: answers as the specification asks: in the encoding of the request, 200
with the response message, otherwise a google.rpc.Status. 503 says when to come again; senders give up on every other error. With a guard
it is HTTPS, and who doesn't show its token is answered 401 before anything of the body is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from aiohttp import web

from otel_control_gym.collectors.otlp_guard import REFUSAL, Guard
from otel_control_gym.collectors.otlp_intake import (
    LARGEST_BYTES,
    Code,
    Encoding,
    Intake,
    Refused,
    SignalName,
    decoded,
    status_message,
    unzipped,
)
from otel_control_gym.engine.errors import StandError

__all__ = ("serve_http",)

_MEDIA_TYPES: dict[str, Encoding] = {"application/x-protobuf": "protobuf", "application/json": "json"}
_SIGNALS: tuple[SignalName, ...] = ("traces", "logs")
_STATUSES: dict[Code, int] = {
    "invalid_argument": 400, "resource_exhausted": 413, "unimplemented": 415, "unavailable": 503, "unauthenticated": 401,
}  # fmt: skip
_RETRY_SECONDS = 1


@asynccontextmanager
async def serve_http(intake: Intake, host: str, port: int = 0, guard: Guard | None = None) -> AsyncIterator[str]:
    """Listen on a port (0: a free one), for everybody or for whom `guard` admits; the value is the base URL, without `/v1/...`.

    Raises: StandError: the address can't be listened on.
    """
    application = web.Application(client_max_size=LARGEST_BYTES)
    for name in _SIGNALS:
        application.router.add_post(f"/v1/{name}", _handler(intake, name, guard))
    # The library would unpack bodies itself, to any size, and answer in its own words if it can't.
    runner = web.AppRunner(application, access_log=None, auto_decompress=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, ssl_context=None if guard is None else guard.tls).start()
        except OSError as error:
            raise StandError(f"port {port} of {host} can't be listened on for OTLP over HTTP: {error}") from error
        scheme, shown = "http" if guard is None else "https", f"[{host}]" if ":" in host else host
        yield f"{scheme}://{shown}:{runner.addresses[0][1]}"
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def _handler(intake: Intake, name: SignalName, guard: Guard | None) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        encoding = _MEDIA_TYPES.get(request.content_type)
        try:
            if guard is not None and not guard.admits(request.headers.get("Authorization", "")):
                raise Refused("unauthenticated", REFUSAL)
            if encoding is None:
                raise Refused("unimplemented", f"Content-Type {request.content_type}: use {' or '.join(_MEDIA_TYPES)}")
            body = await _body(request)
            if encoding == "json":  # a millisecond a span: others go on meanwhile
                export = await anyio.to_thread.run_sync(decoded, name, body, encoding)
            else:
                export = decoded(name, body)
            return _answer(200, encoding, intake.take(name, export, len(body)))
        except Refused as refused:
            answer = _answer(_STATUSES[refused.code], encoding or "json", status_message(refused))
            if refused.code == "unavailable":
                answer.headers["Retry-After"] = str(_RETRY_SECONDS)
            elif refused.code == "unauthenticated":
                answer.headers["WWW-Authenticate"] = "Bearer"
            return answer

    return handle


async def _body(request: web.Request) -> bytes:
    packing = request.headers.get("Content-Encoding", "identity").lower()
    if packing not in ("identity", "gzip"):
        raise Refused("unimplemented", f"Content-Encoding {packing}: use gzip, or none")
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refused("resource_exhausted", f"the body has more than {LARGEST_BYTES} bytes") from error
    return unzipped(body) if packing == "gzip" else body


def _answer(status: int, encoding: Encoding, message: Any) -> web.Response:
    if encoding == "protobuf":
        return web.Response(status=status, body=message.SerializeToString(), content_type="application/x-protobuf")
    from google.protobuf import json_format

    text = json_format.MessageToJson(message, indent=None)
    return web.Response(status=status, text=text, content_type="application/json")
