"""A whole twin and its actuators, with a proxy between them that a test can make lie, refuse, or fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

import otel_control_gym as ocg
from otel_control_gym.actuators import open_actuators, parse_action
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import Event, type_tag
from otel_control_gym.engine.protocols import ActionRecord, Endpoints, Request
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.stand import TwinStand

Forward = Callable[..., Awaitable[web.Response]]


def _quiet() -> RunConfig:
    config = ocg.resolve("small-core", workload="steady", seed=7)
    return msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=10))


@pytest.fixture
def quiet() -> RunConfig:
    """Return a configuration of a twin with few users."""
    return _quiet()


class Call:
    """A request on its way to the stand."""

    def __init__(self, request: web.Request, forward: Forward) -> None:
        self.request = request
        self._forward = forward
        self.reads = request.method == "GET" or request.path.startswith("/ofrep/")
        self.writes = not self.reads and request.query.get("dryRun") != "All"

    async def forward(self, **query: str) -> web.Response:
        """Pass it on, with more in its query."""
        return await self._forward(self.request, **query)


Behaviour = Callable[[Call], Awaitable[web.StreamResponse]]


async def honest(call: Call) -> web.StreamResponse:
    """Pass everything on."""
    return await call.forward()


class Proxy:
    """Stands before one of a stand's interfaces; `behaviour` decides what becomes of each request."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session, self._url = session, url
        self.behaviour: Behaviour = honest
        self.written: list[str] = []

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, self._forward)
        if call.writes:
            self.written.append(f"{request.method} {request.path}")
        return await self.behaviour(call)

    async def _forward(self, request: web.Request, **query: str) -> web.Response:
        headers = {key: value for key, value in request.headers.items() if key.lower() in ("content-type", "accept")}
        call = self._session.request(
            request.method,
            self._url + request.path,
            params={**request.query, **query},
            data=await request.read(),
            headers=headers,
        )
        async with call as answer:
            return web.Response(
                status=answer.status, body=await answer.read(), content_type=answer.content_type or None
            )


def _let_be(_event: Event) -> None: ...


class Twin:
    """A twin, its actuators behind proxies, and what they wrote."""

    def __init__(self, stand: TwinStand, config: RunConfig) -> None:
        self.stand, self.config = stand, config
        self.log: list[tuple[Event, bool]] = []
        self.proxies: tuple[Proxy, ...] = ()
        self.before_append: Callable[[Event], None] = _let_be
        self.after_append: Callable[[Event], None] = _let_be
        self.endpoints: Endpoints
        self.actuators: Lifecycle

    @property
    def now(self) -> int:
        return self.stand.now

    def behave(self, behaviour: Behaviour) -> None:
        for proxy in self.proxies:
            proxy.behaviour = behaviour

    @property
    def written(self) -> list[str]:
        return [line for proxy in self.proxies for line in proxy.written]

    def forget(self) -> None:
        """Forget what was written so far."""
        for proxy in self.proxies:
            proxy.written.clear()

    async def kubectl(
        self, method: str, path: str, body: Any, *, content_type: str = "application/merge-patch+json"
    ) -> Any:
        """Do something behind the actuators' back; `path` is relative to the namespace, of apps/v1."""
        namespace = self.config.public.services.namespace
        url = f"{self.stand.endpoints.kubernetes}/apis/apps/v1/namespaces/{namespace}/{path}"
        headers = {"Content-Type": content_type, "User-Agent": "kubectl/v1.33"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body, headers=headers) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return await answer.json()

    async def append(self, event: Event, *, truth: bool = False) -> int:
        self.before_append(event)
        self.log.append((event, truth))
        self.after_append(event)
        return len(self.log)

    async def perform(self, action: Any, *, truth: bool = False) -> ActionRecord:
        if isinstance(action, dict):
            action = parse_action(action)
        return await self.actuators.perform(Request(action=action, actor="human", truth=truth), self.now)

    async def live(self, seconds: float) -> None:
        """Let time pass, and do what is due on the way."""
        end = self.now + round(seconds * SECOND)
        while True:
            due = self.actuators.due()
            moment = end if due is None else max(self.now, min(due, end))
            await self.stand.advance(moment)
            while (due := self.actuators.due()) is not None and due <= moment:
                await self.actuators.run_due(moment)
            if moment == end:
                return

    async def perform_and_settle(self, action: Any) -> ActionRecord:
        """Perform an action, and live until it has settled."""
        record = await self.perform(action)
        for _ in range(60):
            if record.settled is not None:
                return record
            await self.live(10)
        raise AssertionError(f"{action} doesn't settle")

    def life(self, action_id: str) -> list[str]:
        own = [event for event, _ in self.log if getattr(event, "action_id", None) == action_id]
        return [type_tag(event).split(".")[1] for event in own if type_tag(event).startswith("action.")]


async def _take(_: web.Request) -> web.Response:
    return web.Response(content_type="application/x-protobuf")


OpenTwin = Callable[..., AbstractAsyncContextManager[Twin]]


@pytest.fixture
def open_twin() -> OpenTwin:
    """Return what opens a twin with actuators behind proxies that are honest until told otherwise."""
    return _open_twin


@asynccontextmanager
async def _open_twin(config: RunConfig | None = None) -> AsyncIterator[Twin]:
    config = config or _quiet()
    sink = web.Application(client_max_size=2**26)
    sink.router.add_post("/{path:.*}", _take)
    stand = TwinStand()
    async with AsyncExitStack() as stack:
        otlp = await stack.enter_async_context(listen(sink))
        await stack.enter_async_context(stand.open())
        await stand.reset(config, otlp_endpoint=otlp)
        twin = Twin(stand, config)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        real = stand.endpoints
        proxies = [Proxy(session, url) for url in (real.kubernetes, real.load_generator, real.flagd)]
        urls = [await stack.enter_async_context(listen(proxy.application())) for proxy in proxies]
        twin.proxies = tuple(proxies)
        twin.endpoints = msgspec.structs.replace(real, kubernetes=urls[0], load_generator=urls[1], flagd=urls[2])
        twin.actuators = await stack.enter_async_context(
            open_actuators(twin.endpoints, config.public, twin.append, seed=config.seed, run_id="RUN")
        )
        await twin.live(20)
        yield twin
