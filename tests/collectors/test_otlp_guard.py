"""A guarded receiver takes spans and logs over TLS, from whoever shows its token, and nothing of anybody else's is ever seen."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import aiohttp
import anyio.to_thread
import grpc
import grpc.aio
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.collectors.otlp_guard import read_guard
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import SpansCollected
from otel_control_gym.engine.protocols import Barrier
from tests.receiver_guard import TOKEN, MadeGuard, made_guard

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
STRANGERS = ("", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é")


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> MadeGuard:
    return made_guard(tmp_path_factory.mktemp("guard"))


def guarded(guard: MadeGuard) -> OtlpReceiver:
    return OtlpReceiver(grpc=True, guard=read_guard(guard.files))


@pytest.fixture
def span() -> ReadableSpan:
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "cart"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    with provider.get_tracer("test").start_as_current_span("GetCart"):
        pass
    return memory.get_finished_spans()[0]


def one_span(number: int) -> bytes:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes([1] * 16), end_time_unix_nano=9)
    span.span_id = number.to_bytes(8)
    return bytes(request.SerializeToString())


async def operations(receiver: OtlpReceiver) -> list[Any]:
    await receiver.drain(Barrier(time=1, resource_version=""))
    return [row.span_id for event, _ in receiver.flush(1) if isinstance(event, SpansCollected) for row in event.rows]


def trusting(guard: MadeGuard) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(guard.authority))


async def post(receiver: OtlpReceiver, guard: MadeGuard, body: bytes, authorization: str) -> tuple[int, bytes, str]:
    headers = {"Content-Type": "application/x-protobuf"} | ({"Authorization": authorization} if authorization else {})
    url = f"{receiver.endpoint}/v1/traces"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers, ssl=trusting(guard)) as answer,
    ):
        return answer.status, await answer.read(), answer.headers.get("WWW-Authenticate", "")


async def call(receiver: OtlpReceiver, guard: MadeGuard, body: bytes, authorization: str) -> None:
    credentials = grpc.ssl_channel_credentials(guard.authority.read_bytes())
    metadata = (("authorization", authorization),) if authorization else ()
    async with grpc.aio.secure_channel(receiver.grpc_endpoint, credentials) as channel:
        await channel.unary_unary(TRACES)(body, timeout=20, metadata=metadata)


@pytest.mark.parametrize("over", ["http", "grpc"])
async def test_an_exporter_of_the_sdk_gets_in_with_authority_and_token(
    over: str, guard: MadeGuard, span: ReadableSpan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in (
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):  # of this machine: the library prefers it to what it is given
        monkeypatch.delenv(bundle, raising=False)
    receiver, shown = guarded(guard), {"authorization": f"Bearer {TOKEN}"}
    async with receiver.open():
        assert receiver.endpoint.startswith("https://")
        exporter: Any = (
            HttpSpans(f"{receiver.endpoint}/v1/traces", certificate_file=str(guard.authority), headers=shown)
            if over == "http"
            else GrpcSpans(
                receiver.grpc_endpoint,
                credentials=grpc.ssl_channel_credentials(guard.authority.read_bytes()),
                headers=shown,
            )
        )
        assert (await anyio.to_thread.run_sync(exporter.export, [span])).name == "SUCCESS"
        await anyio.to_thread.run_sync(exporter.shutdown)
        assert len(await operations(receiver)) == 1


async def test_a_request_without_the_token_is_answered_401_and_counted_nowhere(guard: MadeGuard) -> None:
    receiver = guarded(guard)
    async with receiver.open():
        for stranger in STRANGERS:
            status, answer, wanted = await post(receiver, guard, one_span(1), stranger)
            assert (status, wanted, Status.FromString(answer).code) == (401, "Bearer", 16), stranger
        # Not even what is wrong with the body is told to a stranger.
        assert (await post(receiver, guard, b"\xff\xff", ""))[0] == 401
        assert (await post(receiver, guard, one_span(2), f"bearer {TOKEN}"))[0] == 200
        assert await operations(receiver) == [(2).to_bytes(8).hex()]


async def test_a_call_without_the_token_is_answered_unauthenticated_and_counted_nowhere(guard: MadeGuard) -> None:
    receiver = guarded(guard)
    async with receiver.open():
        for stranger in (item for item in STRANGERS if item.isascii()):  # the client lets nothing else through
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(receiver, guard, one_span(1), stranger)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, stranger
            details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
            assert Status.FromString(details).code == 16
        await call(receiver, guard, one_span(2), f"Bearer {TOKEN}")
        assert await operations(receiver) == [(2).to_bytes(8).hex()]


async def test_nobody_gets_in_without_tls_or_trusts_another_s_certificate(guard: MadeGuard, tmp_path: Path) -> None:
    stranger = made_guard(tmp_path)
    receiver = guarded(guard)
    async with receiver.open():
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await post(receiver, stranger, one_span(1), f"Bearer {TOKEN}")
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.post(f"http{receiver.endpoint.removeprefix('https')}/v1/traces", data=one_span(1))
        async with grpc.aio.insecure_channel(receiver.grpc_endpoint) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await channel.unary_unary(TRACES)(
                    one_span(1), timeout=5, metadata=(("authorization", f"Bearer {TOKEN}"),)
                )
        assert await operations(receiver) == []


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("token", "", "token: holds no token"),
        ("token", "two words", "token: holds no token"),
        ("tls.crt", "no certificate", "are no certificate with its key"),
        ("tls.key", "", "are no certificate with its key"),
        ("tls.key", None, "tls.key: can't be read: No such file"),
    ],
)
def test_files_that_guard_nothing_are_refused_by_name(
    file: str, content: str | None, says: str, tmp_path: Path
) -> None:
    made = made_guard(tmp_path)
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(UsageError, match=says):
        read_guard(made.files)
