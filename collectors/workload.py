"""The load generator's own account ➜ `WorkloadObserved`: how much was asked for, offered and served.

In: `GET /ocg/workload/readings` of the gym's locustfile, which keeps one reading per scrape interval; of a stock Locust
`/stats/requests`, which counts a request when it is finished, knows no mix and no past. Out: the readings since the last barrier (of
a stock Locust one, at the barrier). A restarted load generator shows as counters that fall.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from otel_control_gym.collectors.gaps import Gaps
from otel_control_gym.engine.events import Event, WorkloadObserved, WorkloadState
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.service_sessions import service_session

__all__ = ("WorkloadCollector",)

T = TypeVar("T")
_ANSWER_SECONDS = 30.0


class _Reading(msgspec.Struct):
    time: float  #: seconds since the epoch
    users_target: int
    users_active: int
    spawn_rate: float
    scheduled: int
    served: int
    failed: int
    state: str
    mix: dict[str, float] = {}
    rate_per_s: float | None = None


class _Readings(msgspec.Struct):
    readings: list[_Reading]


class _Entry(msgspec.Struct):
    name: str
    num_requests: int
    num_failures: int


class _Statistics(msgspec.Struct):
    stats: list[_Entry]
    state: str
    user_count: int


class WorkloadCollector:
    """Reads the load generator's account at each barrier."""

    source = "workload"

    def __init__(self, endpoints: Endpoints, *, now: int) -> None:
        self._endpoints = endpoints
        self._base = endpoints.load_generator
        self._gaps = Gaps(self.source, now)
        self._rows: list[WorkloadState] = []
        self._told: int | None = None  # time of the newest reading [ns]
        self._read_until = now - 1_000_000  #: [ns] readings have milliseconds; that of the first moment counts
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> AbstractAsyncContextManager[None]:
        """Open the connection."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        async with service_session(self._endpoints, self._base, _ANSWER_SECONDS) as self._session:
            yield

    async def drain(self, barrier: Barrier) -> None:
        """Take the readings up to the barrier."""
        try:
            rows = await self._read(barrier.time)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._gaps.read_up_to(barrier.time, f"no answer ({type(error).__name__})")
        except msgspec.MsgspecError as error:
            self._gaps.read_up_to(barrier.time, f"answer can't be read ({error})")
        else:
            self._rows += rows
            self._told = max((row.time for row in rows), default=self._told)
            self._gaps.read_up_to(barrier.time)

    async def _read(self, time: int) -> list[WorkloadState]:
        own = await self._get(f"ocg/workload/readings?since={self._read_until / 1e9:.6f}", _Readings)
        if own is not None:
            rows = [_state(reading) for reading in own.readings]
            rows = [row for row in rows if self._read_until < row.time <= time]
            self._read_until = max([self._read_until, *(row.time for row in rows)])
            return rows
        stock = await self._get("stats/requests", _Statistics)
        total = next((entry for entry in stock.stats if entry.name == "Aggregated"), None) if stock else None
        if stock is None or total is None:
            raise msgspec.ValidationError("neither /ocg/workload/readings nor the totals of /stats/requests are there")
        totals = WorkloadState(
            time=time,
            users_target=stock.user_count,
            users_active=stock.user_count,
            spawn_rate_per_s=0.0,
            scheduled=total.num_requests,
            served=total.num_requests,
            failed=total.num_failures,
            state=stock.state,
        )
        return [totals]

    async def _get(self, path: str, answer: type[T]) -> T | None:
        """Return an answer; None if the load generator has no such page."""
        assert self._session is not None, "drained outside of `open`"
        async with self._session.get(f"{self._base}/{path}") as response:
            if response.status == 404:
                return None
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=answer)

    def newest(self) -> Mapping[str, int]:
        """Return the time of the newest reading."""
        return {} if self._told is None else {self.source: self._told}

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return the readings since the last flush."""
        events: list[Event] = []
        if self._rows:
            events.append(WorkloadObserved(time=now, rows=tuple(self._rows)))
            self._rows = []
        events += self._gaps.flush(now)
        return [(event, False) for event in events]


def _state(reading: _Reading) -> WorkloadState:
    return WorkloadState(
        time=round(reading.time * 1000) * 1_000_000,
        users_target=reading.users_target,
        users_active=reading.users_active,
        spawn_rate_per_s=reading.spawn_rate,
        scheduled=reading.scheduled,
        served=reading.served,
        failed=reading.failed,
        state=reading.state,
        mix=dict(sorted(reading.mix.items())),
        rate_per_s=reading.rate_per_s,
    )
