"""Changes of the offered load, through the load generator's REST API.

In: users and spawn rate. Out: a POST to `/swarm`, and the load generator's own account of its users.

`/swarm` answers HTTP 200 also when it does nothing (`success: false`), and a restarted load generator falls back to its own defaults:
so the answer is read, and the users are asked for afterwards. `/ocg/workload` comes from the gym's locustfile; a stock load
generator hasn't got it, there `/stats/requests` tells the users.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
import msgspec

from otel_control_gym.actuators.actions import SetWorkload
from otel_control_gym.actuators.postchecks import check_users
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import CALL_SECONDS, Refused, receive
from otel_control_gym.engine.events import TouchedObject
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("LoadGenerator", "SetWorkloadProcedure", "open_load_generator")

_LIVE = ("running", "spawning")

T = TypeVar("T")


class _Workload(msgspec.Struct, frozen=True):
    users_target: int
    users_active: int
    spawn_rate: float
    state: str


class _Statistics(msgspec.Struct, frozen=True):
    user_count: int
    state: str


class _Swarm(msgspec.Struct, frozen=True):
    success: bool
    message: str = ""


class LoadGenerator:
    """Calls to the load generator's REST API at a URL."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url

    async def call(self, method: str, path: str, answer: type[T], *, form: Mapping[str, str] | None = None) -> T:
        """Call the load generator and return its answer as a struct; `path` has no leading slash.

        Raises: CallError: one of its three kinds.
        """
        call = self._session.request(method, f"{self._url}/{path}", data=form)
        return await receive(f"{method} {path}", call, answer)


@asynccontextmanager
async def open_load_generator(endpoints: Endpoints) -> AsyncIterator[LoadGenerator]:
    """Open the session to a stand's load generator; closed on exit."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=CALL_SECONDS)) as session:
        yield LoadGenerator(session, endpoints.load_generator)


class SetWorkloadProcedure:
    """Set users and spawn rate; back: those that were."""

    field = "workload"

    def __init__(self, load_generator: LoadGenerator, action: SetWorkload) -> None:
        self._load_generator = load_generator
        self._users = action.users
        self._spawn_rate = action.spawn_rate_per_s
        self._before: _Workload | None = None

    async def _read(self) -> _Workload:
        try:
            return await self._load_generator.call("GET", "ocg/workload", _Workload)
        except Refused as refusal:
            if refusal.status != 404:
                raise
        stock = await self._load_generator.call("GET", "stats/requests", _Statistics)
        return _Workload(stock.user_count, stock.user_count, self._spawn_rate, stock.state)

    async def precheck(self) -> Precheck:
        """Refuse when no load is running."""
        self._before = before = await self._read()
        rejection = "" if before.state in _LIVE else f"the load generator is {before.state}, not running"
        return Precheck(rejection=rejection, evidence={"users_before": before.users_target, "state": before.state})

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Ask for the users."""
        return await self._swarm(self._users, self._spawn_rate)

    async def _swarm(self, users: int, spawn_rate: float) -> tuple[TouchedObject, ...]:
        form = {"user_count": str(users), "spawn_rate": f"{spawn_rate:g}"}
        answer = await self._load_generator.call("POST", "swarm", _Swarm, form=form)
        if not answer.success:
            raise Refused(f"POST swarm: the load generator refused: {answer.message}", 200)
        return (TouchedObject(kind="HTTP", name="POST /swarm", uid=""),)

    async def postcheck(self) -> Check:
        """Ask how many users there are."""
        state = await self._read()
        return check_users(target=state.users_target, active=state.users_active, users=self._users)

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Users stay by themselves."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Ask for the users that were."""
        assert self._before is not None
        return await self._swarm(self._before.users_target, self._before.spawn_rate or self._spawn_rate)

    async def reverted(self) -> Reversal:
        """There are as many users as there were."""
        assert self._before is not None
        state = await self._read()
        users = self._before.users_target
        check = check_users(target=state.users_target, active=state.users_active, users=users)
        return Reversal(verified=check.seen == "all", evidence=check.evidence)
