"""Jaeger's query API, as far as somebody needs it who reads traces: version 3, of Jaeger 2.17 under the demo's base path.

In: HTTP requests. Out: OTLP in JSON as Jaeger writes it (ids in hex, enumerations as numbers); that nothing was found is a 404 there, and
so here. What isn't honoured is said: traces are looked for by service and time alone.

It takes spans, too (OTLP over HTTP, in Protobuf), for the collector, which a twin hasn't: keeps them, and hands them on to where the twin
sends its own.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.kept_telemetry import TRACES, KeptTelemetry
from otel_control_gym.stands.twin.servers.listening import json_response
from otel_control_gym.stands.twin.spans import Export

__all__ = ("JaegerServer",)

_PROTOBUF = "application/x-protobuf"
_BASE = "/jaeger/ui/api/v3"
_IDS = ("traceId", "spanId", "parentSpanId")
_KNOWN = ("service_name", "start_time_min", "start_time_max", "num_traces", "raw_traces")


class JaegerServer:
    """Serves what a twin has kept."""

    def __init__(self, kept: KeptTelemetry, hand_on: Callable[[Export], Awaitable[None]]) -> None:
        self._kept, self._hand_on = kept, hand_on

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application()
        application.router.add_get(f"{_BASE}/traces", self._traces)
        application.router.add_get(f"{_BASE}/services", self._services)
        application.router.add_post("/v1/traces", self._take)
        return application

    async def _take(self, request: web.Request) -> web.Response:
        if request.content_type != _PROTOBUF:
            return _refusal(415, f"a twin's collector takes {_PROTOBUF}")
        export = Export("traces", await request.read())
        try:
            self._kept.take([export])
        except DecodeError as error:
            return _refusal(400, f"is no ExportTraceServiceRequest: {error}")
        await self._hand_on(export)
        return web.Response(content_type=_PROTOBUF)

    async def _services(self, _: web.Request) -> web.Response:
        return json_response({"services": self._kept.services()})

    async def _traces(self, request: web.Request) -> web.Response:
        try:
            service, begin, end, most = _asked(request)
        except ValueError as error:
            return _refusal(400, str(error))
        if not 0 < most <= TRACES:
            return _refusal(500, "search depth must be greater than 0 and less than max traces")
        found = self._kept.find(service, begin, end, most)
        if not found:
            return _refusal(404, "No traces found")
        documents = [json_format.MessageToDict(resource, use_integers_for_enums=True) for resource in found]
        return json_response({"result": {"resourceSpans": [_with_hex_ids(document) for document in documents]}})


def _asked(request: web.Request) -> tuple[str, int, int, int]:
    """Return the service, the two times [ns] and how many traces.

    Raises: ValueError: a parameter is missing, malformed or not known here.
    """
    query = {name.removeprefix("query."): value for name, value in request.query.items()}
    unknown = [name for name in query if name not in _KNOWN]
    if unknown:
        raise ValueError(f"a twin's Jaeger doesn't know the parameter query.{unknown[0]}")
    if not (query.get("start_time_min") and query.get("start_time_max")):
        raise ValueError("query.start_time_min and query.start_time_max are required")
    begin, end = _moment(query["start_time_min"]), _moment(query["start_time_max"])
    return query.get("service_name", ""), begin, end, int(query.get("num_traces", "0"))


def _moment(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int(moment.timestamp()) * SECOND + moment.microsecond * 1000


def _refusal(status: int, message: str) -> web.Response:
    return json_response({"error": {"httpCode": status, "message": message}}, status=status)


def _with_hex_ids(document: dict[str, Any]) -> dict[str, Any]:
    for scope in document["scopeSpans"]:
        for span in scope["spans"]:
            for name in _IDS:
                if name in span:
                    span[name] = base64.b64decode(span[name]).hex()
    return document
