"""The embedded stand: a simulated application behind the interfaces of a real one.

In: a `RunConfig`; then moments to live until. Out: barriers; everything else goes through HTTP: Kubernetes, Prometheus, Coroot, Locust and
flagd are served on the loopback, spans and logs are pushed by OTLP.

**Order within one moment.** `advance` goes from one due moment to the next: a scrape, a look of the kubelet at its containers, a refresh of
Coroot's detector, a task of the control plane. At each of them the kernel comes first (all its events up to and including that moment),
then the control plane (what is due, and what that entails), then the kubelet and the sampling of spans, then the detector, then the
scrapes. So a scrape at t shows what was served up to t, and what is asked for at t, after the barrier, shows in the next one. All grids
begin with the run; how an episode is cut into calls of `live` and `advance` changes nothing that they yield.

**What makes the barrier.** At `until` the spans and logs since the last barrier are posted and answered, and every watch gets a bookmark
with the newest resourceVersion. The kernel computes on the event loop's own thread, in slices of at most one scrape interval with a
checkpoint in between; so no request is handled while time moves, and what a handler sees is one moment.

Next: `servers` for the interfaces, `telemetry` for the series, `spans` for OTLP, `world` for pods and faults.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import aiohttp
import anyio.lowlevel
import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import GraphEdge, GraphNode
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import RunConfig, ServiceConfiguration, TwinSettings
from otel_control_gym.stands.declared_graph import declared_graph
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.credentials import Credentials
from otel_control_gym.stands.twin.images import image_of
from otel_control_gym.stands.twin.kept_telemetry import KeptTelemetry
from otel_control_gym.stands.twin.push import OtlpPush
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.runtime import PodRuntime
from otel_control_gym.stands.twin.servers import coroot, prometheus
from otel_control_gym.stands.twin.servers.coroot import CorootServer
from otel_control_gym.stands.twin.servers.flagd import FlagdServer
from otel_control_gym.stands.twin.servers.jaeger import JaegerServer
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer
from otel_control_gym.stands.twin.servers.kubernetes_proxy import ServiceProxy
from otel_control_gym.stands.twin.servers.listening import LOOPBACK, listen
from otel_control_gym.stands.twin.servers.load_generator import LoadGeneratorServer
from otel_control_gym.stands.twin.servers.prometheus import PrometheusServer
from otel_control_gym.stands.twin.spans import Export

__all__ = ("Listening", "TwinStand")

_CHAOS_MESH_VERSION = "2.8.3"
_KUBERNETES_VERSION = "v1.36.2"


class Listening(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Where a twin's servers listen, and who may reach its Kubernetes API."""

    host: str = LOOPBACK
    port: int = 0  #: of the Kubernetes API; the other interfaces follow, in the order of `Endpoints`. 0: any free ones
    credentials: Credentials | None = None  #: None: plain HTTP, for anybody who knows the port

    def place(self, number: int) -> dict[str, Any]:
        """Return where the interface of that number listens, as arguments of `listen`."""
        return {"host": self.host, "port": self.port + number if self.port else 0}


class TwinStand:
    """Implements `engine.protocols.Stand`."""

    name: Literal["twin"] = "twin"
    lease_name: str | None = None

    def __init__(self, listening: Listening = Listening(), kept: KeptTelemetry | None = None) -> None:
        """Listen there; with `kept`, whoever comes can read traces and logs of it, as from Jaeger and kubelets."""
        self._listening = listening
        self._kept = kept
        self._run: TwinRun | None = None
        self._endpoints: Endpoints | None = None
        self._session: aiohttp.ClientSession | None = None
        self._kubernetes: KubernetesServer | None = None
        self._prometheus = PrometheusServer(lambda: self.now)
        self._coroot = CorootServer()
        self._load_generator = LoadGeneratorServer()
        self._flagd = FlagdServer()
        self._push: OtlpPush | None = None

    @property
    def now(self) -> int:
        """Episode time in nanoseconds; 0 before the first reset."""
        return self._run.now if self._run is not None else 0

    @property
    def clock(self) -> int:
        """The same: between two calls of `live` time stands still."""
        return self.now

    @property
    def endpoints(self) -> Endpoints:
        """The stand's interfaces; valid from the end of `open`, the namespace from the first reset."""
        if self._endpoints is None:
            raise StandError("the twin isn't open: its servers run inside `async with stand.open()`")
        return self._endpoints

    @property
    def run(self) -> TwinRun:
        """The simulated world of the run in progress, for tests and tools: its exact counters."""
        if self._run is None:
            raise StandError("the twin has no world yet: call `reset` first")
        return self._run

    def open(self) -> AbstractAsyncContextManager[None]:
        """Serve all interfaces; stop on exit.

        Raises: StandError: an address can't be listened on.
        """
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        listening = self._listening
        async with AsyncExitStack() as stack:
            self._session = await stack.enter_async_context(aiohttp.ClientSession())
            self._kubernetes = KubernetesServer(
                _empty_cluster(), listening.credentials, ServiceProxy(lambda: self.endpoints), self._kept
            )
            self._endpoints = Endpoints(
                kubernetes=await stack.enter_async_context(self._kubernetes.open(**listening.place(0))),
                namespace="otel-demo",
                prometheus=await stack.enter_async_context(
                    listen(self._prometheus.application(), **listening.place(1))
                ),
                coroot=await stack.enter_async_context(listen(self._coroot.application(), **listening.place(2))),
                load_generator=await stack.enter_async_context(
                    listen(self._load_generator.application(), **listening.place(3))
                ),
                flagd=await stack.enter_async_context(listen(self._flagd.application(), **listening.place(4))),
            )
            if self._kept is not None:
                traces = listen(JaegerServer(self._kept, self._hand_on).application(), **listening.place(5))
                self._endpoints = msgspec.structs.replace(
                    self._endpoints, jaeger=await stack.enter_async_context(traces)
                )
            if listening.credentials is not None:
                folder = stack.enter_context(TemporaryDirectory(prefix="ocg-twin-"))
                authority = Path(folder) / "ca.crt"
                authority.write_bytes(listening.credentials.authority)
                self._endpoints = msgspec.structs.replace(
                    self._endpoints, kubernetes_token=listening.credentials.token, kubernetes_ca_file=str(authority)
                )
            try:
                yield
            finally:
                self._endpoints = None

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
        """Build the application anew as the configuration says, all pods ready, at the run's first moment.

        Raises: StandError: the twin isn't open.
        """
        if self._session is None or self._kubernetes is None:
            raise StandError("the twin isn't open: reset it inside `async with stand.open()`")
        run = TwinRun(config)
        self._kubernetes.control_plane = run.control_plane
        self._prometheus.attach(run.telemetry.series)
        self._coroot.attach(run.detector, seed=config.seed)
        self._load_generator.attach(run.simulation)
        self._flagd.attach(run.world.flags)
        run.at_scrape = self._load_generator.observe
        self._push = OtlpPush(self._session, otlp_endpoint)
        self._endpoints = msgspec.structs.replace(self.endpoints, namespace=config.public.services.namespace)
        self._run = run
        await anyio.lowlevel.checkpoint()

    async def _hand_on(self, export: Export) -> None:
        """Send what somebody else has made to where our own spans go, if they go anywhere; a receiver that isn't there is none's fault."""
        if self._push is not None and self._push.endpoint:
            with suppress(StandError):
                await self._push.send(export)

    async def live(self, until: int) -> None:
        """Live until `until`; spans and logs wait for the next `advance`, so that an export carries as many as it may."""
        run = self.run
        while run.advance_once(until):
            await anyio.lowlevel.checkpoint()

    async def advance(self, until: int) -> Barrier:
        """Live until `until`, then put out everything that is not out yet."""
        await self.live(until)
        run = self.run
        assert self._push is not None, "reset has made it"
        for export in run.take_exports():
            await self._push.send(export)
        run.control_plane.bookmark()
        # The watches' handlers get a turn to write the bookmark before the caller begins to wait for it.
        await anyio.lowlevel.checkpoint()
        return Barrier(time=run.now, resource_version=run.control_plane.resource_version)

    def renew_randomness(self, seed: int) -> None:
        """Draw from `seed` from this moment on; tasks that have begun end as they would have."""
        self.run.renew_randomness(seed)

    def graph(self) -> tuple[tuple[GraphNode, ...], tuple[GraphEdge, ...]]:
        """Return the declared graph in the configuration's order."""
        return declared_graph(self.run.config.public.services)

    def surviving(self, _recorded: Mapping[str, str], /) -> Endpoints | None:
        """An embedded twin dies with its process: nothing of a crashed run is left on it."""
        return None

    def environment(self) -> dict[str, str]:
        """Return what is emulated, and which model emulates it."""
        services = self.run.config.public.services
        return {
            "opentelemetry-demo": f"{services.demo_version} (emulated)",
            "opentelemetry-demo chart": f"{services.chart_version} (emulated, with the gym's overlay)",
            "chaos-mesh": f"{_CHAOS_MESH_VERSION} (emulated)",
            "kubernetes": f"{_KUBERNETES_VERSION} (emulated)",
            "prometheus": f"{prometheus.VERSION} (emulated)",
            "coroot": f"{coroot.VERSION} (emulated)",
            "collector_config": f"{_model_digest()} (emulated: chart {services.chart_version} with the gym's overlay)",
            "twin_model": _model_digest(),
            **{f"image {name}": f"{image_of(services, name)} (emulated, no digest)" for name in services.services},
        }


def _empty_cluster() -> ControlPlane:
    """Return what the Kubernetes API shows before the first reset: nothing."""
    nothing = ServiceConfiguration(
        name="none", demo_version="", chart_version="", entry="", services={}, edges=(), flows={}
    )
    nobody = cast("PodRuntime", None)  # there are no pods, so it is never asked
    return ControlPlane(nothing, TwinSettings(), seed=0, start=TwinSettings().epoch_seconds * SECOND, runtime=nobody)


@cache
def _model_digest() -> str:
    """Return a digest of the twin's sources."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
