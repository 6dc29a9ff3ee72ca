"""OTLP/HTTP receiver: spans and logs that are pushed to the gym.

In: POST /v1/traces and /v1/logs, protobuf. Out: `SpansCollected` and `LogsCollected`, public and truth. An export is answered
once it is in the buffer; rows are made of it when the episode drains, a resource at a time, so that a large export holds nobody up.

A stand whose pushes are answered before a barrier (the twin) has nothing left to send at the barrier. Elsewhere what comes later is in
the next flush: that isn't a gap, a span counts by its own end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
from aiohttp import web

from otel_control_gym.collectors.spans import Directory, log_rows, span_rows
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import Event, LogRow, LogsCollected, Span, SpansCollected
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("OtlpReceiver",)

_PROTOBUF = "application/x-protobuf"
_LARGEST = 64 * 2**20  #: bytes of a body, as the specification advises


class OtlpReceiver:
    """Receives spans and logs; among the collectors it stands for both sources."""

    source = "spans"

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self._endpoint = ""
        self._directory = Directory(None)
        self._trace_exports: list[Any] = []
        self._log_exports: list[Any] = []
        self._spans: dict[bool, list[Span]] = {False: [], True: []}
        self._logs: dict[bool, list[LogRow]] = {False: [], True: []}

    @property
    def endpoint(self) -> str:
        """Base URL for exporters, without `/v1/...`; there is one while the receiver is open."""
        if not self._endpoint:
            raise StandError("the OTLP receiver isn't open: it has no endpoint yet")
        return self._endpoint

    def know(self, services: ServiceConfiguration) -> None:
        """Take in the application, so that peers can be told by RPC service."""
        self._directory = Directory(services)

    def open(self) -> AbstractAsyncContextManager[None]:
        """Listen on a free port."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        application = web.Application(client_max_size=_LARGEST)
        application.router.add_post("/v1/traces", self._take_traces)
        application.router.add_post("/v1/logs", self._take_logs)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, 0)
            await site.start()
            port = runner.addresses[0][1]
            self._endpoint = f"http://{self._host}:{port}"
            yield
        finally:
            self._endpoint = ""
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _take_traces(self, request: web.Request) -> web.Response:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

        return await self._take(request, service.ExportTraceServiceRequest(), self._trace_exports)

    async def _take_logs(self, request: web.Request) -> web.Response:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as service

        return await self._take(request, service.ExportLogsServiceRequest(), self._log_exports)

    async def _take(self, request: web.Request, message: Any, buffer: list[Any]) -> web.Response:
        from google.protobuf.message import DecodeError

        if request.content_type != _PROTOBUF:
            return _refusal(415, f"Content-Type {request.content_type}: only {_PROTOBUF} is supported")
        if request.headers.get("Content-Encoding", "identity") not in ("identity", "gzip"):
            return _refusal(415, f"Content-Encoding {request.headers['Content-Encoding']}: only gzip is supported")
        try:
            message.ParseFromString(await request.read())
        except DecodeError as error:
            return _refusal(400, f"the body can't be decoded: {error}")
        buffer.append(message)
        return web.Response(body=b"", content_type=_PROTOBUF)  # an empty message: all was accepted

    async def drain(self, barrier: Barrier) -> None:  # noqa: ARG002
        """Make rows of what has arrived."""
        exports, self._trace_exports = self._trace_exports, []
        for resource in [resource for export in exports for resource in export.resource_spans]:
            for truth, spans in zip((False, True), span_rows(resource, self._directory), strict=True):
                self._spans[truth] += spans
            await anyio.lowlevel.checkpoint()
        exports, self._log_exports = self._log_exports, []
        for resource in [resource for export in exports for resource in export.resource_logs]:
            for truth, logs in zip((False, True), log_rows(resource), strict=True):
                self._logs[truth] += logs
            await anyio.lowlevel.checkpoint()

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return spans, then logs, each public first; rows by time."""
        events: list[tuple[Event, bool]] = []
        for truth, spans in self._spans.items():
            if spans:
                rows = tuple(sorted(spans, key=lambda row: (row.time, row.trace_id, row.span_id)))
                events.append((SpansCollected(time=now, rows=rows), truth))
        for truth, logs in self._logs.items():
            if logs:
                lines = tuple(
                    sorted(logs, key=lambda row: (row.time, row.service, row.trace_id, row.span_id, row.body))
                )
                events.append((LogsCollected(time=now, rows=lines), truth))
        self._spans, self._logs = {False: [], True: []}, {False: [], True: []}
        return events


def _refusal(status: int, message: str) -> web.Response:
    """Return an error as the specification asks: a google.rpc.Status in protobuf, of which field 2 is the message."""
    text = message.encode()[:120]  # below 128 bytes, so that its length is one byte
    return web.Response(status=status, body=b"\x12" + bytes([len(text)]) + text, content_type=_PROTOBUF)
