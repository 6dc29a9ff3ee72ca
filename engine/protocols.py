"""What a stand, a collector and the actuators must offer; the episode drives all of them through these and nothing else.

One tick: the episode takes the next due moment, lets the stand `advance` to it, lets every collector `drain` up to the barrier,
then applies what is due while time stands still. At the end of a step every collector `flush`es, and its events are appended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from otel_control_gym.engine.events import Actor, Event, GraphEdge, GraphNode
from otel_control_gym.engine.settings import RunConfig

if TYPE_CHECKING:
    import aiohttp

__all__ = (
    "ActionRecord",
    "Actuators",
    "Append",
    "Barrier",
    "Collector",
    "Credentials",
    "Endpoints",
    "Request",
    "Stand",
    "WorkloadDriver",
)


class Credentials(Protocol):
    """What an API server lets us in for, where that is more than a token for ever: what expires, certificates, a proxy on the way."""

    def session(self, seconds: float | None = None) -> aiohttp.ClientSession:
        """Return a session for calls to the API server and to nothing else (each bears our token); whoever asked closes it.

        An answer may take `seconds`; null: what each call says for itself.
        Its calls bear the credentials of their own moment, and wait where there would be too many at a time.
        """
        ...


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stand's interfaces are; URLs without a trailing slash."""

    kubernetes: str
    namespace: str
    prometheus: str
    coroot: str
    load_generator: str
    flagd: str  #: flagd-ui's, whose API is at `feature/api`, or (on its own Service) at `api`
    jaeger: str = ""  #: its root, with the query API at `jaeger/ui/api`; empty: there is none
    flagd_evaluation: str = ""  #: flagd's own, whose API is at `ofrep/v1`; empty: the same as `flagd`
    kubernetes_token: str = ""
    kubernetes_ca_file: str = ""
    kubernetes_credentials: Credentials | None = None  #: if any, they count, and not the token and the file
    safekeeping: str = ""
    """Namespace in which inverses are kept for a janitor, which no policy reads; empty: the stand dies with the gym and needs none."""


class Barrier(msgspec.Struct, frozen=True, kw_only=True):
    """What the stand has emitted up to `time`; a collector that has drained up to it has missed nothing.

    `resource_version` is what every watch must have seen, by event or bookmark. `exact` is False on a cluster, where lag is waited for
    within bounds and recorded.
    """

    time: int
    resource_version: str
    exact: bool = True


class Stand(Protocol):
    """A world to act on: the twin or a cluster. Entered as an async context manager by whoever opens the episode."""

    @property
    def name(self) -> Literal["twin", "cluster"]:
        """Which kind of world this is."""
        ...

    @property
    def lease_name(self) -> str | None:
        """Name under which one environment at a time may drive it; null: it is its process's own, nobody else reaches it."""
        ...

    @property
    def now(self) -> int:
        """Episode time in nanoseconds: the moment that the stand was last let live until."""
        ...

    @property
    def clock(self) -> int:
        """What the stand's clock shows, in nanoseconds: `now`, or later where time doesn't stand still between two calls of `live`."""
        ...

    @property
    def endpoints(self) -> Endpoints:
        """The stand's interfaces; valid from the end of `open`."""
        ...

    def surviving(self, recorded: Mapping[str, str]) -> Endpoints | None:
        """Return the interfaces of the stand that a crashed run recorded (`environment`), if it is this one and lives; once it is open.

        None: that stand died with its process, or is another.
        """
        ...

    def open(self) -> AbstractAsyncContextManager[None]:
        """Start what the stand needs (servers, tunnels); stop all of it on exit."""
        ...

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
        """Bring the stand to the configuration's known state, at the run's first moment; spans and logs go to `otlp_endpoint`.

        Raises: StandError: the state can't be reached.
        """
        ...

    async def live(self, until: int) -> None:
        """Let the stand live until `until`; what it emits may wait for the next `advance`."""
        ...

    async def advance(self, until: int) -> Barrier:
        """Let the stand live until `until` and return when everything that it emitted up to then is out."""
        ...

    def renew_randomness(self, seed: int) -> None:
        """Draw from `seed` from this moment on whatever is exogenous; names and ids go on as they were.

        Raises: StandError: the world isn't simulated.
        """
        ...

    def graph(self) -> tuple[tuple[GraphNode, ...], tuple[GraphEdge, ...]]:
        """Return the declared graph: nodes and edges in the order of the observation's axes."""
        ...

    def environment(self) -> dict[str, str]:
        """Return versions and identities of the stand for `EnvironmentRecorded`."""
        ...


class Collector(Protocol):
    """Reads one outside source and turns it into events. Entered with `open`; knows no other collector."""

    source: str  #: as in `CollectorGap.source`

    def open(self) -> AbstractAsyncContextManager[None]:
        """Connect and start reading."""
        ...

    async def drain(self, barrier: Barrier) -> None:
        """Return when everything up to the barrier is in this collector's buffer, or a gap that says why not."""
        ...

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return the events since the last flush as (event, truth) and empty the buffer; `now` becomes their `time`."""
        ...

    def newest(self) -> Mapping[str, int]:
        """Return up to when each of its sources has told [ns]; one that has told nothing is left out.

        Of samples, spans, log records and readings that is the time of the newest, of what is watched or polled the last look.
        """
        ...


class Append(Protocol):
    """Writes an event to the log and returns its sequence once it is durable."""

    async def __call__(self, event: Event, *, truth: bool = False) -> int:
        """Append one event; `truth` chooses the stream."""
        ...


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants what, and what they knew: the input of `Actuators.perform`."""

    action: msgspec.Struct  #: an action of the catalogue, e.g. `Scale`
    actor: Actor
    truth: bool = False  #: intervention: its life goes to the truth stream
    decision_step: int | None = None
    decision_log_sequence: int | None = None
    propensity: float | None = None
    alternatives: tuple[dict[str, Any], ...] | None = None
    policy_version: str = ""
    policy_information: Literal["public", "privileged"] = "public"


class ActionRecord(msgspec.Struct, kw_only=True):
    """One attempt as `info["action"]` and `info["settled"]` show it; times are episode nanoseconds, null until they happened."""

    action_id: str
    action: dict[str, Any]
    status: Literal["pending", "rejected", "failed", "applied", "partial", "unverified"] = "pending"
    reason: str = ""
    requested: int
    applied: int | None = None
    effective: int | None = None
    reverted: int | None = None
    settled: int | None = None
    revert_failed: bool = False  #: the stand was still seen changed after the revert
    truth: bool = False


class Actuators(Protocol):
    """Performs actions and interventions on a stand, and keeps those that are in force."""

    async def perform(self, request: Request, now: int) -> ActionRecord:
        """Log the request, check, apply; postchecks follow as due moments. Never raises for what the stand does."""
        ...

    def due(self) -> int | None:
        """Return the next moment at which a postcheck, retry or revert wants to run, or None."""
        ...

    async def run_due(self, now: int) -> list[ActionRecord]:
        """Do everything that is due at `now`, in order of (due time, action id); return the records that settled."""
        ...

    def in_force(self, *, truth: bool) -> list[ActionRecord]:
        """Return what was applied and not yet taken back."""
        ...

    async def close(self, now: int) -> list[ActionRecord]:
        """Revert every intervention and timed action; return the records that settled.

        A revert that the stand needs time for (a chaos object's controller) stays due for the cool-down.
        """
        ...

    async def settle(self, now: int) -> list[ActionRecord]:
        """Settle what is still open with what was last seen, before the run ends; return the records."""
        ...


class WorkloadDriver(Protocol):
    """Changes the offered load as the run's workload says, through the load generator."""

    def begin(self, now: int) -> None:
        """Control begins: the times of the workload's curve count from here."""
        ...

    def due(self) -> int | None:
        """Return the moment of the next change, or None."""
        ...

    async def run_due(self, now: int) -> None:
        """Make the changes that are due at `now`. Never raises for what the load generator does."""
        ...
