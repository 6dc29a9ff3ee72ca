"""A real cluster as a stand: episode time is the wall clock, and the stand lives whether anybody looks or not.

In: how a cluster is reached; then a `RunConfig`, and moments to live until. Out: barriers. Everything else goes through the stand's own
interfaces, as on the twin, so actuators and collectors can't tell the difference, but for this:

- **Time doesn't stand still.** `now` is the moment up to which the episode has lived, on its grid; `clock` is what our clock shows, which
  has gone on. Waiting for what is late, and a policy that thinks, make the clock run ahead of `now`; the next step ends on the grid all the
  same, so a step's length never holds them. What the two were apart is recorded with each step (`ClockAdvanced`).
- **A barrier is never exact.** After a moment has passed, what was under way then (a scrape, an export) gets `SETTLE_SECONDS` to arrive.
  Each collector waits for its own source as long as it says, and no longer; what comes later is late, and counted as such.
- **The stand's clock is another one.** Its offset is measured at each reset, recorded, and refused above half a bucket.
- **It is shared.** Two Leases keep others away: the broker's (`lease_name`), and one on the stand itself (`tenancy`).

Upstream: `contexts`, `services`. Next: `known_state` for the reset, `facts` for what is recorded of it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Literal

import anyio
import msgspec

from otel_control_gym.engine.clock import SECOND, wall_now, wall_timer
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.events import GraphEdge, GraphNode
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.clock_offset import ClockOffset, measured_offset, prometheus_time
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.contexts import check_mark, endpoints_of
from otel_control_gym.stands.cluster.facts import gathered
from otel_control_gym.stands.cluster.known_state import Reset, restore
from otel_control_gym.stands.cluster.pod_account import endpoints_in_pod
from otel_control_gym.stands.cluster.services import with_services
from otel_control_gym.stands.cluster.tenancy import tenancy
from otel_control_gym.stands.declared_graph import declared_graph

__all__ = ("SETTLE_SECONDS", "ClusterStand", "found_endpoints", "opened_endpoints")

NAMESPACE = "otel-demo"  #: of the application, where nobody says another
SETTLE_SECONDS = 1.0  #: after a barrier's moment, for what was under way
SILENCE_SECONDS = 120.0  #: of the API server, after which the stand is lost
_GRID = SECOND // 1000  #: of `clock`: Prometheus' time stamps have no more
_LOGGER = logging.getLogger(__name__)

RemoveChaos = Callable[[Endpoints], Awaitable[Sequence[str]]]
"""Removes the gym's chaos objects from a stand, and returns what is left; it belongs to the actuators, which this room doesn't know."""


@asynccontextmanager
async def opened_endpoints(access: ClusterAccess) -> AsyncIterator[Endpoints]:
    """Yield where a cluster's interfaces are, none of them empty, if it may be touched.

    Raises:
        UsageError: the kubeconfig leads nowhere.
        StandError: the API server doesn't answer, or the namespace isn't marked as a gym's stand.
    """
    with found_endpoints(access) as endpoints:
        if not access.unmarked:
            await check_mark(endpoints)
        yield with_services(endpoints, access.way)


@contextmanager
def found_endpoints(access: ClusterAccess) -> Iterator[Endpoints]:
    """Yield what a kubeconfig, or the pod in which this runs, tells of a cluster, and the URLs that were given; nobody is asked.

    Raises: UsageError: the kubeconfig leads nowhere.
    """
    with _told(access) as endpoints:
        yield msgspec.structs.replace(
            endpoints,
            namespace=access.namespace or (endpoints.namespace if access.kubeconfig is not None else NAMESPACE),
            prometheus=access.prometheus.rstrip("/"),
            coroot=access.coroot.rstrip("/"),
            jaeger=access.jaeger.rstrip("/"),
            load_generator=access.load_generator.rstrip("/"),
            flagd=access.flagd.rstrip("/"),
            flagd_evaluation=access.flagd_evaluation.rstrip("/"),
            safekeeping=access.safekeeping,
        )


def _told(access: ClusterAccess) -> AbstractContextManager[Endpoints]:
    if access.kubeconfig is None:
        return endpoints_in_pod()
    return endpoints_of(access.kubeconfig, context=access.context)


class ClusterStand:
    """Implements `engine.protocols.Stand`.

    Raises: UsageError: the kubeconfig leads nowhere.
    """

    name: Literal["cluster"] = "cluster"

    def __init__(self, access: ClusterAccess, remove_chaos: RemoveChaos) -> None:
        self.access = access
        self._remove_chaos = remove_chaos
        with found_endpoints(access) as found:
            self.lease_name: str | None = f"{found.kubernetes.partition('://')[2]}/{found.namespace}"
        self._endpoints: Endpoints | None = None
        self._connection: Connection | None = None
        self._config: RunConfig | None = None
        self._facts: dict[str, str] = {}
        self._now = 0
        self._version = ""  # resourceVersion at the last barrier
        self._answered = 0.0  # when the API server answered last

    @property
    def now(self) -> int:
        """The moment up to which the episode has lived [ns]; 0 before the first reset."""
        return self._now

    @property
    def clock(self) -> int:
        """What our clock shows [ns], to the millisecond."""
        return max(self._now, wall_now() // _GRID * _GRID)

    @property
    def endpoints(self) -> Endpoints:
        """The stand's interfaces; valid from the end of `open`."""
        if self._endpoints is None:
            raise StandError("the cluster isn't open: it is reached inside `async with stand.open()`")
        return self._endpoints

    def surviving(self, recorded: Mapping[str, str]) -> Endpoints | None:
        """Return our interfaces, if a crashed run has recorded this API server and namespace; None: it was on another stand."""
        ours = self.endpoints
        same = (recorded.get("api_server"), recorded.get("namespace")) == (ours.kubernetes, ours.namespace)
        return ours if same else None

    def open(self) -> AbstractAsyncContextManager[None]:
        """Reach the cluster, and keep others away.

        Raises:
            UsageError: the kubeconfig leads nowhere.
            StandError: the API server doesn't answer, or the namespace isn't marked as a stand.
            StandTaken: another environment drives it.
        """
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with (
            opened_endpoints(self.access) as endpoints,
            Connection(endpoints) as connection,
            tenancy(connection),
        ):
            self._endpoints, self._connection = endpoints, connection
            try:
                yield
            finally:
                self._endpoints = self._connection = None

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:  # noqa: ARG002 - the collector there names its receiver
        """Bring the stand to its known state at the level that was asked for; the run begins with the next whole second.

        Raises: StandError: the state can't be reached, a service doesn't answer, or the clocks are too far apart.
        """
        connection = self._opened()
        await self._check_services(connection)
        offset = await self._measured(connection, config)
        done = await self.restore(config)
        self._facts = await gathered(connection, config, self.access, done, offset)
        self._config = config
        self._answered = wall_timer()
        self._now = (wall_now() // SECOND + 1) * SECOND
        await _sleep_until(self._now)

    async def restore(self, config: RunConfig, *, adopt: bool = False) -> Reset:
        """Bring the stand to its known state, and return what was done; `adopt`: take what is there as what is wanted.

        Raises: StandError: it can't be brought there.
        """
        connection, level = self._opened(), self.access.reset
        remove = partial(self._remove_chaos, self.endpoints)
        hold = self.access.hold_seconds
        return await restore(connection, config, level, remove_chaos=remove, adopt=adopt, hold_seconds=hold)

    def _opened(self) -> Connection:
        if self._connection is None:
            raise StandError("the cluster isn't open: reset it inside `async with stand.open()`")
        return self._connection

    async def _check_services(self, connection: Connection) -> None:
        """Refuse a stand without Prometheus; that its other services answer is seen where they are used."""
        _, answer = await prometheus_time(connection)
        if not answer.ok:
            url = connection.endpoints.prometheus
            raise StandError(
                f"{url}: Prometheus can't be read: {answer.problem}\n  is it up? --prometheus URL names another; `ocg doctor` tells"
            )

    async def _measured(self, connection: Connection, config: RunConfig) -> ClockOffset | None:
        offset, bucket = await measured_offset(connection), config.public.granularity.observation_bucket_seconds
        if offset is not None and offset.exceeds(bucket):
            raise StandError(f"{offset}: more than half a bucket of {bucket} s\n  synchronize both clocks (NTP)")
        return offset

    async def live(self, until: int) -> None:
        """Wait until our clock shows `until`."""
        await _sleep_until(until)
        self._now = until

    async def advance(self, until: int) -> Barrier:
        """Wait until `until`, and a moment longer, for what was under way.

        Raises: StandError: the API server hasn't answered for too long.
        """
        await _sleep_until(until)
        await _sleep_until(until + round(SETTLE_SECONDS * SECOND))
        self._now = until
        return Barrier(time=until, resource_version=await self._newest_version(), exact=False)

    async def _newest_version(self) -> str:
        """Return the resourceVersion that watches must have seen; the last known one where the server doesn't answer now.

        Raises: StandError: it hasn't answered for too long.
        """
        connection = self._opened()
        path = f"api/v1/namespaces/{self.endpoints.namespace}/pods"
        nobody = {"labelSelector": "otel-control-gym/none=none"}
        answer = await connection.kubernetes("GET", path, query=nobody)
        if answer.ok:
            self._answered = wall_timer()
            self._version = answer.text("metadata", "resourceVersion") or self._version
        elif wall_timer() - self._answered > SILENCE_SECONDS:
            raise StandError(
                f"{self.endpoints.kubernetes}: the API server hasn't answered for {SILENCE_SECONDS:g} s: {answer.problem}"
            )
        else:
            _LOGGER.warning("%s: no resourceVersion: %s", self.endpoints.kubernetes, answer.problem)
        return self._version

    def renew_randomness(self, seed: int) -> None:
        """A cluster's randomness is its own.

        Raises: StandError: always.
        """
        raise StandError(f"seed {seed}: a cluster isn't simulated, nothing there can be drawn anew")

    def graph(self) -> tuple[tuple[GraphNode, ...], tuple[GraphEdge, ...]]:
        """Return the declared graph in the configuration's order."""
        if self._config is None:
            raise StandError("the cluster has no configuration yet: call `reset` first")
        return declared_graph(self._config.public.services)

    def environment(self) -> dict[str, str]:
        """Return what the stand said of itself at the last reset."""
        return dict(self._facts)


async def _sleep_until(moment: int) -> None:
    while (left := moment - wall_now()) > 0:  # noqa: ASYNC110 - the wall clock tells nobody, and may be set
        await anyio.sleep(left / SECOND)
