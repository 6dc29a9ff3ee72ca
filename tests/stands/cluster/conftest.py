"""A cluster that is well, and the same one with something wrong: a twin behind a server that answers some questions otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import aiohttp
import msgspec
import pytest
from aiohttp import web

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.deployment import accesses, installer_accesses
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.doctor import Wanted, diagnose
from otel_control_gym.stands.cluster.findings import Finding
from otel_control_gym.stands.cluster.pins import pins
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


@pytest.fixture
async def cluster() -> AsyncIterator[Open]:
    """Return what opens a cluster: a twin that has lived for half a minute."""

    async def take(_: web.Request) -> web.Response:
        return web.Response(content_type="application/x-protobuf")

    sink = web.Application(client_max_size=2**26)
    sink.router.add_post("/{path:.*}", take)
    twin = TwinStand()
    config = msgspec.structs.replace(CONFIG, workload=msgspec.structs.replace(CONFIG.workload, users=20))
    async with listen(sink) as otlp, twin.open():
        await twin.reset(config, otlp_endpoint=otlp)
        await twin.advance(twin.now + 30 * SECOND)

        @asynccontextmanager
        async def opened(change: Change | None) -> AsyncIterator[Endpoints]:
            endpoints = msgspec.structs.replace(twin.endpoints, namespace=NAMESPACE)
            if change is None:
                yield endpoints
                return
            async with (
                _altered(endpoints.kubernetes, change) as kubernetes,
                _altered(endpoints.prometheus, change) as prometheus,
                _altered(endpoints.load_generator, change) as load_generator,
            ):
                yield msgspec.structs.replace(
                    endpoints, kubernetes=kubernetes, prometheus=prometheus, load_generator=load_generator
                )

        yield opened


@pytest.fixture
def examine(cluster: Open, monkeypatch: pytest.MonkeyPatch) -> Examination:
    """Return what examines the cluster, at the twin's own time."""

    async def examined(
        change: Change | None = None, *, check: str = "", places: Mapping[str, str] | None = None
    ) -> list[Finding]:
        async with cluster(change) as endpoints:
            endpoints = msgspec.structs.replace(endpoints, **(places or {}))
            async with aiohttp.ClientSession() as session:
                url = f"{endpoints.prometheus}/api/v1/query"
                async with session.get(url, params={"query": "time()"}) as response:
                    now = round(float((await response.json())["data"]["result"][1]) * SECOND)
            for module in ("control_checks", "telemetry_checks"):
                monkeypatch.setattr(f"otel_control_gym.stands.cluster.{module}.wall_now", lambda: now)
            wanted = Wanted(
                settings=CONFIG.public,
                pins=pins(),
                operating=accesses(NAMESPACE) if check in ("", "operating") else (),
                installing=installer_accesses() if check in ("", "installing") else (),
            )
            found = (await diagnose(endpoints, wanted)).findings
        return [finding for finding in found if finding.check == check or not check]

    return examined
