"""The twin alone, as a server that runs along with the wall clock.

In: a `RunConfig`, a pace, where to listen. Out: a `ServedTwin` with its addresses, alive until the context is left; a kubeconfig beside it.

Nobody drives this twin: its virtual clock begins at the present time and follows the wall clock. The kernel still computes on the event
loop's thread, now in slices that are kept short, and the servers answer between them: a request waits for a slice or two, not for a step.
A twin that can't keep its pace (too many requests a second, too high a pace) gives up the time that it can't make up, and says how
much: its clock then lags behind, but nothing piles up.

The embedded stand (`stand.advance`) and this one share everything but who moves time. Next: `stand`, `run`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from otel_control_gym.engine.clock import SECOND, PacedClock, wall_now, wall_timer
from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.twin.credentials import issue_credentials
from otel_control_gym.stands.twin.kept_telemetry import KeptTelemetry
from otel_control_gym.stands.twin.kubeconfig import kubeconfig, kubeconfig_file
from otel_control_gym.stands.twin.push import OtlpPush
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.servers.listening import LOOPBACK
from otel_control_gym.stands.twin.spans import Export
from otel_control_gym.stands.twin.stand import Listening, TwinStand

__all__ = ("DEFAULT_PORT", "ServedTwin", "Status", "serve")

DEFAULT_PORT = 26_440  #: of the Kubernetes API; below the ports that systems hand out by themselves

_TICK_SECONDS = 0.02  #: between two slices of a twin that keeps up
_SLICE_SECONDS = 0.01  #: of wall time that a slice may take, as far as it can be foreseen
_YIELD_SECONDS = 0.001  #: between two slices of a twin that lags: time for the servers
_LONGEST_SLICE = 5 * SECOND
_SHORTEST_SLICE = SECOND // 1000
_PATIENCE_SECONDS = 5.0  #: of wall time that a twin tries to make up
_EXPORT_INTERVAL = 5 * SECOND  #: of its time, as an SDK's batches
_EXPORTS_WAITING = 16  #: for a slow receiver; more are lost
_BOOKMARK_INTERVAL = 60 * SECOND  #: of its time, as a real API server's
_READING_SECONDS = 1.0
_RATE_SECONDS = 10.0  #: of wall time over which rates are told


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How a served twin is doing."""

    now: int  #: its time [ns]
    requests_per_second: float  #: sent by the users, per second of its time, over the last seconds
    pods: int
    pods_ready: int
    pace: float  #: seconds of its time per second of wall time, over the last seconds
    lag_seconds: float  #: of its time that it gave up because it couldn't keep its pace
    exports_lost: int  #: OTLP requests that the receiver didn't take
    export_error: str  #: why the last of them was lost


class ServedTwin:
    """A twin that lives by the wall clock; made by `serve`."""

    def __init__(
        self,
        stand: TwinStand,
        config: RunConfig,
        clock: PacedClock,
        kubeconfig_path: Path,
        kept: KeptTelemetry,
    ) -> None:
        self.config = config
        self._kept = kept
        self.kubeconfig = kubeconfig_path
        self.pace = clock.factor
        self._stand = stand
        self._run = stand.run
        self._clock = clock
        self._slice = _SHORTEST_SLICE
        self._exports_lost = 0
        self._export_error = ""
        self._readings: deque[tuple[float, int, int]] = deque()  # wall seconds, twin's time, requests
        self._read()

    @property
    def endpoints(self) -> Endpoints:
        """Where its interfaces are, with the token and the authority's file of the Kubernetes API."""
        return self._stand.endpoints

    @property
    def run(self) -> TwinRun:
        """The simulated world, for tests and tools: its exact counters."""
        return self._run

    @property
    def now(self) -> int:
        """Its time [ns]."""
        return self._run.now

    def status(self) -> Status:
        """Return how it is doing."""
        pods = list(self._run.control_plane.pods())
        self._read()
        (first, time, requests), (last, now, more) = self._readings[0], self._readings[-1]
        return Status(
            now=now,
            requests_per_second=(more - requests) / (now - time) * SECOND if now > time else 0.0,
            pods=len(pods),
            pods_ready=sum(pod.ready for pod in pods),
            pace=(now - time) / SECOND / (last - first) if last > first else self.pace,
            lag_seconds=self._clock.conceded / SECOND,
            exports_lost=self._exports_lost,
            export_error=self._export_error,
        )

    def advance(self) -> bool:
        """Live for one slice, and return whether the clock is still ahead.

        What lies further back than its patience is conceded.
        """
        run, began = self._run, wall_timer()
        due = self._clock.now
        until = min(due, run.now + self._slice)
        while until > run.now and run.advance_once(until) and wall_timer() - began < _SLICE_SECONDS:
            pass
        took = wall_timer() - began
        if took > _SLICE_SECONDS:
            self._slice = max(_SHORTEST_SLICE, self._slice // 2)
        elif took < _SLICE_SECONDS / 4:
            self._slice = min(_LONGEST_SLICE, self._slice * 2)
        if due - run.now > _PATIENCE_SECONDS * SECOND * self.pace:
            self._clock.concede(run.now)
        return run.now < due

    async def live(self, exports: MemoryObjectSendStream[Export] | None) -> None:
        """Follow the wall clock, for ever; spans and logs are kept to be read, and go to `exports`, if there is one."""
        exported = bookmarked = self.now
        while True:
            lags = self.advance()
            if self.now - exported >= _EXPORT_INTERVAL:
                exported = self.now
                self._export(exports)
            if self.now - bookmarked >= _BOOKMARK_INTERVAL:
                bookmarked = self.now
                self._run.control_plane.bookmark()
            if wall_timer() - self._readings[-1][0] >= _READING_SECONDS:
                self._read()
            await anyio.sleep(_YIELD_SECONDS if lags else _TICK_SECONDS)

    async def push(self, exports: MemoryObjectReceiveStream[Export], outlet: OtlpPush) -> None:
        """Post what `live` exports, for ever; what the receiver doesn't take is lost and counted."""
        async for export in exports:
            try:
                await outlet.send(export)
            except StandError as error:
                self._lose(str(error))

    def _export(self, exports: MemoryObjectSendStream[Export] | None) -> None:
        made = list(self._run.take_exports())
        self._kept.take(made)
        if exports is None:
            return
        for export in made:
            try:
                exports.send_nowait(export)
            except anyio.WouldBlock:
                self._lose("the OTLP receiver is too slow")

    def _lose(self, reason: str) -> None:
        self._exports_lost += 1
        self._export_error = reason

    def _read(self) -> None:
        """Note where it is; rates are told from the oldest note that isn't too old."""
        wall = wall_timer()
        counters = self._run.simulation.load_counters()
        self._readings.append((wall, self._run.now, counters.scheduled))
        while len(self._readings) > 2 and self._readings[1][0] < wall - _RATE_SECONDS:
            self._readings.popleft()


@asynccontextmanager
async def serve(
    config: RunConfig,
    *,
    kubeconfig_path: Path,
    overwrite: bool = False,
    pace: float = 1.0,
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    otlp: str | None = None,
) -> AsyncIterator[ServedTwin]:
    """Serve a twin inside, from the present time on.

    Args:
        config: the run; its twin's epoch is replaced by the present, its scenario's interventions aren't played.
        kubeconfig_path: where the kubeconfig is written; removed at the end.
        overwrite: whether a file that isn't a twin's may be replaced there.
        pace: seconds of the twin's time per second of wall time, above 0.
        host: address to listen on.
        port: of the Kubernetes API; Prometheus, Coroot, load generator, flagd and Jaeger follow. 0: free ones.
        otlp: an OTLP/HTTP receiver's URL, e.g. `http://127.0.0.1:4318`, for spans and logs. None: nowhere.

    Raises:
        UsageError: the pace is none, or the kubeconfig can't be written there.
        StandError: an address can't be listened on.
    """
    if not 0 < pace < float("inf"):
        raise UsageError(
            f"pace = {pace:g}: must be a number above 0, seconds of the twin's time per second of wall time"
        )
    credentials = issue_credentials(host)
    kept = KeptTelemetry()
    stand = TwinStand(Listening(host=host, port=port, credentials=credentials), kept)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(stand.open())
        endpoints = msgspec.structs.replace(stand.endpoints, namespace=config.public.services.namespace)
        document = kubeconfig(endpoints, credentials, name=f"twin-{config.public.services.name}")
        stack.enter_context(kubeconfig_file(kubeconfig_path, document, overwrite=overwrite))
        twin = msgspec.structs.replace(config.twin, epoch_seconds=wall_now() // SECOND)
        config = msgspec.structs.replace(config, twin=twin)
        await stand.reset(config, otlp_endpoint=otlp or "")
        # To build a world takes some time, the first time of a machine many seconds: it lives through them at once.
        present = wall_now()
        while stand.run.advance_once(present):
            pass
        served = ServedTwin(stand, config, PacedClock(stand.now, pace), kubeconfig_path, kept)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        exports, exported = anyio.create_memory_object_stream[Export](_EXPORTS_WAITING)
        stack.enter_context(exports)
        stack.enter_context(exported)
        group = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(group.cancel_scope.cancel)
        if otlp is not None:
            group.start_soon(served.push, exported, OtlpPush(session, otlp))
        group.start_soon(served.live, exports if otlp is not None else None)
        yield served
