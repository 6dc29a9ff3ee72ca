"""OTLP receiver: spans and logs that are pushed to the gym.

In: exports over HTTP, and over gRPC where it was asked for. Out: `SpansCollected` and `LogsCollected`, public and truth. An export is
answered once it is in the buffer; rows are made of it when the episode drains.

A stand whose pushes are answered before a barrier (the twin) has nothing left to send at the barrier. Elsewhere what comes later is in
the next flush: that isn't a gap, a span counts by its own end. But there a time in which nothing came at all is one: an application under
load always has spans, so its way to us is broken.

Next: `otlp_http` and `otlp_grpc` listen, `otlp_guard` admits, `otlp_intake` keeps, `otlp_rows` makes events. Where nobody can push:
`retrieval`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from otel_control_gym.collectors.gaps import SILENCE, Gaps
from otel_control_gym.collectors.otlp_guard import Guard
from otel_control_gym.collectors.otlp_http import serve_http
from otel_control_gym.collectors.otlp_intake import Intake
from otel_control_gym.collectors.otlp_rows import SpansAndLogs
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import Event
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import RunSettings

__all__ = ("OtlpReceiver",)


class OtlpReceiver:
    """Receives spans and logs; among the collectors it stands for both sources.

    Args:
        host: address to listen on.
        port: for HTTP; 0: a free one.
        grpc: whether to listen for gRPC, too. It costs a tenth of a second, and the twin doesn't speak it.
        grpc_port: for gRPC; 0: a free one.
        guard: TLS and token for both; None: in the clear, for whoever reaches the address.
        intake: where exports wait (default: one of its own).
    """

    source = "spans"

    def __init__(
        self,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        grpc: bool = False,
        grpc_port: int = 0,
        guard: Guard | None = None,
        intake: Intake | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._grpc, self._grpc_port = grpc, grpc_port
        self._guard = guard
        self._endpoint = self._grpc_endpoint = ""
        self._intake = intake or Intake()
        self._rows = SpansAndLogs()
        self._gaps: dict[str, Gaps] = {}

    @property
    def endpoint(self) -> str:
        """Base URL for HTTP exporters, without `/v1/...`; there is one while the receiver is open."""
        return self._opened(self._endpoint)

    @property
    def grpc_endpoint(self) -> str:
        """`host:port` for gRPC exporters; there is one while a receiver that was made with `grpc` is open."""
        return self._opened(self._grpc_endpoint)

    @staticmethod
    def _opened(endpoint: str) -> str:
        if not endpoint:
            raise StandError("the OTLP receiver doesn't listen: it has no such endpoint yet")
        return endpoint

    def know(self, settings: RunSettings, *, since: int = 0) -> None:
        """Take in the application, so that peers can be told by RPC service, and the share of the traces that is wanted.

        What ended before `since` [ns] isn't the run's: a stand that lives on its own has sent it while it was being reset.
        """
        self._rows.know(settings, since=since)

    def open(self) -> AbstractAsyncContextManager[None]:
        """Listen.

        Raises: StandError: the address can't be listened on.
        """
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            self._endpoint = await stack.enter_async_context(
                serve_http(self._intake, self._host, self._port, self._guard)
            )
            if self._grpc:
                from otel_control_gym.collectors.otlp_grpc import serve_grpc

                self._grpc_endpoint = await stack.enter_async_context(
                    serve_grpc(self._intake, self._host, self._grpc_port, self._guard)
                )
            try:
                yield
            finally:
                self._endpoint = self._grpc_endpoint = ""

    async def drain(self, barrier: Barrier) -> None:
        """Make rows of what has arrived."""
        spans, logs = self._intake.release()
        for source, arrived in (("spans", spans), ("logs", logs)):
            # Made at the first barrier, the run's first moment.
            gaps = self._gaps.setdefault(source, Gaps(source, barrier.time))
            if barrier.exact or arrived:
                gaps.read_up_to(barrier.time)
            elif barrier.time - gaps.since >= SILENCE:
                gaps.read_up_to(barrier.time, "nothing was received")
        await self._rows.take(spans, logs)

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return spans, then logs, each public first, then gaps; rows by time."""
        return [*self._rows.flush(now), *((gap, False) for gaps in self._gaps.values() for gap in gaps.flush(now))]

    def newest(self) -> Mapping[str, int]:
        """Return the times of the newest span and log record that a policy may see."""
        return self._rows.newest()
