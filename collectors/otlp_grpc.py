"""OTLP over gRPC: the Export methods of TraceService and LogsService.

In: requests, as they are or under gzip. Out: response messages, or a status: INVALID_ARGUMENT for what can't be decoded, UNAVAILABLE with
the time to wait (google.rpc.RetryInfo) where there is no room. The library itself answers RESOURCE_EXHAUSTED, without that time, to a
message that is too large, and UNIMPLEMENTED to another signal or compression; senders give up on both, as they should. With a guard it is
gRPC over TLS, and who doesn't show its token in the metadata is answered UNAUTHENTICATED.

grpcio takes a tenth of a second to be imported: this module imports it when a server is started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from otel_control_gym.collectors.otlp_guard import REFUSAL, Guard
from otel_control_gym.collectors.otlp_intake import (
    LARGEST_BYTES,
    Intake,
    Refused,
    SignalName,
    decoded,
    signal,
    status_message,
)
from otel_control_gym.engine.errors import StandError

if TYPE_CHECKING:
    import grpc.aio

__all__ = ("serve_grpc",)

_SIGNALS: tuple[SignalName, ...] = ("traces", "logs")
_GRACE_SECONDS = 0.5  #: for answers that are under way when the server stops
_RETRY_SECONDS = 1
_DETAILS = "grpc-status-details-bin"  #: metadata key under which a google.rpc.Status travels


@asynccontextmanager
async def serve_grpc(intake: Intake, host: str, port: int = 0, guard: Guard | None = None) -> AsyncIterator[str]:
    """Listen on a port (0: a free one), for everybody or for whom `guard` admits; the value is the target, `host:port`.

    Raises: StandError: the address can't be listened on.
    """
    import grpc.aio

    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", LARGEST_BYTES),
            ("grpc.so_reuseport", 0),  # another receiver on the same port would take half of the exports
        ]
    )
    handlers = [
        grpc.method_handlers_generic_handler(
            signal(name).service,
            {
                "Export": grpc.unary_unary_rpc_method_handler(
                    _export(intake, name, guard), response_serializer=lambda response: response.SerializeToString()
                )
            },
        )
        for name in _SIGNALS
    ]
    server.add_generic_rpc_handlers(handlers)
    name = f"[{host}]" if ":" in host else host
    try:
        if guard is None:
            bound = server.add_insecure_port(f"{name}:{port}")
        else:
            own = grpc.ssl_server_credentials([(guard.key, guard.certificate)])
            bound = server.add_secure_port(f"{name}:{port}", own)
    except RuntimeError as error:
        raise StandError(f"port {port} of {host} can't be listened on for OTLP over gRPC: {error}") from error
    await server.start()
    try:
        yield f"{name}:{bound}"
    finally:
        with anyio.CancelScope(shield=True):  # bounded by the grace
            await server.stop(_GRACE_SECONDS)


def _export(
    intake: Intake, name: SignalName, guard: Guard | None
) -> Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[Any]]:
    async def export(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        import grpc

        try:
            if guard is not None and not guard.admits(_authorization(context)):
                raise Refused("unauthenticated", REFUSAL)
            return intake.take(name, decoded(name, body), len(body))
        except Refused as refused:
            status = status_message(refused)
            if refused.code == "unavailable":
                from google.rpc.error_details_pb2 import RetryInfo

                status.details.add().Pack(RetryInfo(retry_delay={"seconds": _RETRY_SECONDS}))
            code = grpc.StatusCode[refused.code.upper()]
            await context.abort(code, str(refused), ((_DETAILS, status.SerializeToString()),))
            raise AssertionError("abort raises") from refused

    return export


def _authorization(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return what a call shows to be let in, or an empty text."""
    shown = (value for key, value in context.invocation_metadata() or () if key == "authorization")
    return next((value for value in shown if isinstance(value, str)), "")
