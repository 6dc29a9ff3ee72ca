"""Changes of the offered load, through the load generator's REST API.

In: users and spawn rate, the rate of open arrivals, a mix. Out: POSTs, and the load generator's own account of what it offers.

`/swarm` answers HTTP 200 also when it does nothing (`success: false`), and a restarted load generator falls back to its own defaults:
so the answer is read, and the users are asked for afterwards. `/ocg/workload` comes from the gym's locustfile; a stock load
generator hasn't got it, there `/stats/requests` tells the users.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec

from otel_control_gym.actuators.postchecks import check_workload
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import CALL_SECONDS, Refused, decoded, receive
from otel_control_gym.engine.events import InverseCall, TouchedObject
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.engine.service_sessions import service_session

__all__ = ("LoadGenerator", "SetWorkloadProcedure", "open_load_generator")

_LIVE = ("running", "spawning")
_FORM = "application/x-www-form-urlencoded"

T = TypeVar("T")


class _Workload(msgspec.Struct, frozen=True):
    users_target: int
    users_active: int
    spawn_rate: float
    state: str
    mix: dict[str, float] = {}  #: flow -> share of tasks
    rate_per_s: float | None = None  #: of open arrivals; null: a closed loop


class _Statistics(msgspec.Struct, frozen=True):
    user_count: int
    state: str


class _Answer(msgspec.Struct, frozen=True):
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
        return decoded(f"{method} {path}", await receive(f"{method} {path}", call), answer)

    async def write(self, call: InverseCall) -> None:
        """Make a change; its answer says whether it was made.

        Raises: CallError: one of its three kinds; `Refused` also for an answer of 200 that says no.
        """
        body: dict[str, Any] = {"data": call.body} if call.content_type == _FORM else {"json": call.body}
        request = self._session.request(call.method, f"{self._url}/{call.path}", **body)
        name = f"{call.method} {call.path}"
        answer = decoded(name, await receive(name, request), _Answer)
        if not answer.success:
            raise Refused(f"{call.method} {call.path}: the load generator refused: {answer.message}", 200)


@asynccontextmanager
async def open_load_generator(endpoints: Endpoints) -> AsyncIterator[LoadGenerator]:
    """Open the session to a stand's load generator; closed on exit."""
    async with service_session(endpoints, endpoints.load_generator, CALL_SECONDS) as session:
        yield LoadGenerator(session, endpoints.load_generator)


class SetWorkloadProcedure:
    """Set users and spawn rate, rate, or mix; back: those that were."""

    fields = ("workload",)

    def __init__(self, load_generator: LoadGenerator, parameters: Mapping[str, Any]) -> None:
        self._load_generator = load_generator
        self._users: int | None = parameters.get("users")
        self._spawn_rate: float = parameters.get("spawn_rate_per_s", 20.0)
        self._rate: float | None = parameters.get("rate_per_s")
        self._mix: dict[str, float] | None = parameters.get("mix")
        self._before: _Workload | None = None
        self.begun = False

    @property
    def before(self) -> _Workload:
        """The load as the precheck saw it."""
        assert self._before is not None, "the precheck comes first"
        return self._before

    async def _read(self) -> _Workload:
        try:
            return await self._load_generator.call("GET", "ocg/workload", _Workload)
        except Refused as refusal:
            if refusal.status != 404:
                raise
        stock = await self._load_generator.call("GET", "stats/requests", _Statistics)
        return _Workload(stock.user_count, stock.user_count, self._spawn_rate, stock.state)

    async def precheck(self) -> Precheck:
        """Refuse when no load is running, and what this kind of load can't do."""
        self._before = before = await self._read()
        evidence = {"users_before": before.users_target, "state": before.state}
        if before.rate_per_s is not None:
            evidence["rate_before"] = before.rate_per_s
        rejection = ""
        if before.state not in _LIVE:
            rejection = f"the load generator is {before.state}, not running"
        elif self._rate is not None and before.rate_per_s is None:
            rejection = "the load is a closed loop of users: set users, not a rate"
        elif self._users is not None and before.rate_per_s is not None:
            rejection = "the load is open arrivals: set a rate, not users"
        elif self._mix is not None and not before.mix:
            rejection = "the load generator has no mix that could be set"
        elif unknown := [flow for flow in self._mix or {} if flow not in before.mix]:
            rejection = f"the load generator doesn't know {', '.join(unknown)}"
        elif self._mix is not None and sum(self._whole_mix().values()) <= 0:
            rejection = "the mix would have no weight left"
        return Precheck(rejection=rejection, evidence=evidence)

    def _whole_mix(self) -> dict[str, float]:
        """Return the weights of all flows: shares as they were, and those that are asked for, which count beside them."""
        return {**self.before.mix, **(self._mix or {})}

    def _calls(self, users: int | None, spawn_rate: float, rate: float | None, mix: Mapping[str, float] | None) -> Any:
        calls = []
        if users is not None:
            form = {"user_count": str(users), "spawn_rate": f"{spawn_rate:g}"}
            calls.append(InverseCall(api="load_generator", method="POST", path="swarm", content_type=_FORM, body=form))
        if rate is not None:
            form = {"rate_per_s": f"{rate:.12g}"}
            path = "ocg/rate"
            calls.append(InverseCall(api="load_generator", method="POST", path=path, content_type=_FORM, body=form))
        if mix is not None:
            calls.append(InverseCall(api="load_generator", method="POST", path="ocg/mix", body=dict(mix)))
        return tuple(calls)

    def inverse(self) -> tuple[InverseCall, ...]:
        """Ask for what was."""
        before = self.before
        calls: tuple[InverseCall, ...] = self._calls(
            None if self._users is None else before.users_target,
            before.spawn_rate or self._spawn_rate,
            None if self._rate is None else before.rate_per_s,
            None if self._mix is None else before.mix,
        )
        return calls

    async def apply(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Ask for what is wanted."""
        mix = None if self._mix is None else self._whole_mix()
        return await self._make(self._calls(self._users, self._spawn_rate, self._rate, mix))

    async def _make(self, calls: tuple[InverseCall, ...]) -> tuple[TouchedObject, ...]:
        touched = []
        for call in calls:
            await self._load_generator.write(call)
            self.begun = True
            touched.append(TouchedObject(kind="HTTP", name=f"{call.method} /{call.path}", uid=""))
        return tuple(touched)

    async def _check(self, users: int | None, rate: float | None, mix: Mapping[str, float] | None) -> Check:
        state = await self._read()
        found = {
            "users_target": state.users_target,
            "users_active": state.users_active,
            "rate_per_s": state.rate_per_s,
            "mix": state.mix,
        }
        wanted: dict[str, Any] = {} if users is None else {"users_target": users, "users_active": users}
        if rate is not None:
            wanted["rate_per_s"] = float(rate)
        if mix is not None:
            total = sum(mix.values())
            wanted["mix"] = {flow: weight / total for flow, weight in mix.items()}
        return check_workload(found, wanted)

    async def postcheck(self) -> Check:
        """Ask what load there is."""
        return await self._check(self._users, self._rate, None if self._mix is None else self._whole_mix())

    async def sustain(self, _now: int, /) -> tuple[TouchedObject, ...]:
        """Users stay by themselves."""
        return ()

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Ask for what was."""
        return await self._make(self.inverse())

    async def reverted(self, _now: int, /) -> Reversal:
        """The load is as it was; users or a rate that are by now a third number are somebody else's, such as a workload's curve."""
        before, now = self.before, await self._read()
        users = None if now.users_target not in (self._users, before.users_target) else before.users_target
        rate = None if now.rate_per_s not in (self._rate, before.rate_per_s) else before.rate_per_s
        check = await self._check(
            None if self._users is None else users,
            None if self._rate is None else rate,
            None if self._mix is None else before.mix,
        )
        return Reversal(verified=check.seen == "all", evidence=check.evidence)
