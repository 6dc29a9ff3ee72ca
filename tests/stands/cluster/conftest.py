"""A cluster that is well, and the same one with something wrong: a twin behind a server that answers some questions otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.utils import formatdate
from typing import Any, Protocol

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.deployment import accesses, informing_accesses, installer_accesses
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.doctor import Wanted, diagnose
from otel_control_gym.stands.cluster.findings import Finding
from otel_control_gym.stands.cluster.pins import pins
from otel_control_gym.stands.twin.servers.kubernetes_reviews import REVIEWS, reviewed
from otel_control_gym.stands.twin.servers.listening import listen
from otel_control_gym.stands.twin.stand import TwinStand

CONFIG = ocg.resolve("small-core", workload="steady", seed=7)
NAMESPACE = "otel-demo"

Change = Callable[[str, str, Any], Any]
"""(method, path, what the cluster answers) -> what it shall answer instead: a document, or `web.Response`; None: as it is."""


class Examination(Protocol):
    """Examines a cluster and returns the findings of one check, or all of them."""

    async def __call__(
        self, change: Change | None = None, *, check: str = "", places: Mapping[str, str] | None = None
    ) -> list[Finding]: ...


@asynccontextmanager
async def _altered(url: str, change: Change) -> AsyncIterator[str]:
    """Serve what another server serves, but for what is changed."""

    async def answer(request: web.Request) -> web.StreamResponse:
        sent = session.request(
            request.method, f"{url}{request.path_qs}", data=await request.read(), headers=_kept(request)
        )
        async with sent as response:
            found, status = await response.read(), response.status
        try:
            document = msgspec.json.decode(found)
        except msgspec.DecodeError:
            document = None
        changed = change(request.method, request.path, document)
        if isinstance(changed, web.Response):
            return changed
        if changed is not None:
            return web.Response(body=msgspec.json.encode(changed), content_type="application/json")
        return web.Response(body=found, status=status, content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with aiohttp.ClientSession() as session, listen(application) as altered:
        yield altered


def _kept(request: web.Request) -> dict[str, str]:
    return {name: value for name, value in request.headers.items() if name in ("Content-Type", "Authorization")}


Open = Callable[[Change | None], AbstractAsyncContextManager[Endpoints]]


@asynccontextmanager
async def _twin() -> AsyncIterator[Endpoints]:
    """Open a twin that has lived for half a minute."""

    async def take(_: web.Request) -> web.Response:
        return web.Response(content_type="application/x-protobuf")

    sink = web.Application(client_max_size=2**26)
    sink.router.add_post("/{path:.*}", take)
    twin = TwinStand()
    config = msgspec.structs.replace(CONFIG, workload=msgspec.structs.replace(CONFIG.workload, users=20))
    async with listen(sink) as otlp, twin.open():
        await twin.reset(config, otlp_endpoint=otlp)
        await twin.advance(twin.now + 30 * SECOND)
        yield msgspec.structs.replace(twin.endpoints, namespace=NAMESPACE)


@pytest.fixture
async def cluster() -> AsyncIterator[Open]:
    """Return what opens a cluster: a twin."""
    async with _twin() as endpoints:

        @asynccontextmanager
        async def opened(change: Change | None) -> AsyncIterator[Endpoints]:
            if change is None:
                yield endpoints
                return
            async with _altered(endpoints.kubernetes, change) as kubernetes:
                yield msgspec.structs.replace(endpoints, kubernetes=kubernetes)

        yield opened


SERVICES = ("kubernetes", "prometheus", "coroot", "load_generator", "flagd")
Answers = dict[tuple[str, str, str], tuple[int, bytes]]
"""What a cluster has answered: (service, method, path) -> status, body."""


def _place(request: web.Request) -> str:
    """Return what is asked for: a path, and whether Prometheus is asked for series or for its time."""
    path = f"/{request.match_info['path']}"
    return f"{path}?series" if request.query.get("query", "").startswith("{") else path


def _wanted(check: str = "") -> Wanted:
    return Wanted(
        settings=CONFIG.public,
        pins=pins(),
        operating=accesses(NAMESPACE) if check in ("", "operating") else (),
        informing=informing_accesses() if check in ("", "informing") else (),
        installing=installer_accesses() if check in ("", "installing") else (),
    )


async def _record() -> Answers:
    """Return what a twin answers to everything that a doctor may ask."""
    answers: Answers = {}
    async with _twin() as endpoints, aiohttp.ClientSession() as session:

        async def answer(request: web.Request) -> web.Response:
            service, path = request.match_info["service"], _place(request)
            url = f"{getattr(endpoints, service)}/{request.match_info['path']}"
            body = await request.read()
            async with session.request(
                request.method, url, params=request.query, data=body, headers=_kept(request)
            ) as found:
                answers[service, request.method, path] = (found.status, await found.read())
            status, text = answers[service, request.method, path]
            return web.Response(status=status, body=text, content_type="application/json")

        async with _serving(answer) as places:
            await diagnose(msgspec.structs.replace(endpoints, **places), _wanted())
            async with session.get(f"{places['load_generator']}/stats/requests") as response:
                assert response.ok
    return answers


@asynccontextmanager
async def _serving(answer: Handler) -> AsyncIterator[dict[str, str]]:
    """Serve all interfaces of a cluster from one place; yield where each is."""
    application = web.Application()
    application.router.add_route("*", "/{service}/{path:.*}", answer)
    async with listen(application) as url:
        yield {service: f"{url}/{service}" for service in SERVICES}


@pytest.fixture(scope="module")
def answers() -> Answers:
    """Return what a twin answers; it is made once, and asked once."""
    return anyio.run(_record)


@pytest.fixture
def examine(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Examination:
    """Return what examines a cluster that answers as the twin did, but for what is changed, at the twin's time."""
    _, told = answers["prometheus", "GET", "/api/v1/query"]
    now = round(float(msgspec.json.decode(told)["data"]["result"][1]) * SECOND)
    for module in ("clock_offset", "control_checks"):
        monkeypatch.setattr(f"otel_control_gym.stands.cluster.{module}.wall_now", lambda: now)

    async def examined(
        change: Change | None = None, *, check: str = "", places: Mapping[str, str] | None = None
    ) -> list[Finding]:
        async def answer(request: web.Request) -> web.StreamResponse:
            path = _place(request)
            status, body = answers[request.match_info["service"], request.method, path]
            document = msgspec.json.decode(body)
            if path == REVIEWS:
                document = reviewed(await request.json())
            altered = None if change is None else change(request.method, path, document)
            if isinstance(altered, web.StreamResponse):
                return altered
            found = document if altered is None else altered
            date = {"Date": formatdate(now / SECOND, usegmt=True)}
            return web.json_response(found, status=status if altered is None else 200, headers=date)

        async with _serving(answer) as served:
            at = served | dict(places or {})
            endpoints = Endpoints(
                kubernetes=at["kubernetes"],
                namespace=NAMESPACE,
                prometheus=at["prometheus"],
                coroot=at["coroot"],
                load_generator=at["load_generator"],
                flagd=at["flagd"],
            )
            found = (await diagnose(endpoints, _wanted(check))).findings
        return [finding for finding in found if finding.check == check or not check]

    return examined
