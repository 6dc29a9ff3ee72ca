"""Whatever happens on the way to the API server, the same is told as without it, each trouble is a gap, and nobody is stormed.

Two collectors watch one cluster, one of them through a way that breaks. What needs no pause shorter than ours is tested on a single watch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from aiohttp import web

from otel_control_gym.collectors import KubernetesCollector
from otel_control_gym.collectors.kubernetes import WATCHED
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap, PodsTransitioned, RolloutsObserved
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.engine.settings import TwinSettings
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer
from otel_control_gym.stands.twin.servers.listening import listen
from tests.collectors.conftest import START, IdleMachines

if TYPE_CHECKING:
    from otel_control_gym.engine.settings import ServiceConfiguration

PODS = "/api/v1/namespaces/otel-demo/pods"


class Way:
    """Leads to a server, until it is cut, closed, or answers by itself."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.answers: list[Callable[[], web.Response]] = []  #: to the next watches of pods, instead of the server's
        self.closed = False
        self.asked = 0  #: watches of pods
        self._open: list[tuple[web.Request, anyio.CancelScope]] = []

    async def lead(self, request: web.Request) -> web.StreamResponse:
        watches = "watch" in request.query
        if watches and request.path == PODS:
            self.asked += 1
            if self.answers:
                return self.answers.pop(0)()
        if self.closed:
            _abort(request)
            return web.Response()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.upstream}{request.path_qs}", timeout=aiohttp.ClientTimeout()) as found,
        ):
            if not watches:
                return web.Response(body=await found.read(), status=found.status, content_type=found.content_type)
            response = web.StreamResponse(status=found.status)
            await response.prepare(request)
            with anyio.CancelScope() as scope:
                watch = (request, scope)
                self._open.append(watch)
                try:
                    async for chunk in found.content.iter_any():
                        await response.write(chunk)
                finally:  # one that has ended is watched anew, and counts once
                    self._open = [other for other in self._open if other is not watch]
        return response

    async def wait_watched(self) -> None:
        """Return when every collection is watched that was at the beginning."""
        await until(lambda: len(self._open) == len(WATCHED))

    def cut(self) -> None:
        """Break every watch that is open, in the middle."""
        for request, scope in self._open:
            _abort(request)
            scope.cancel()
        self._open = []


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


class Pair:
    """One cluster, watched directly and through a way that breaks."""

    def __init__(self, plane: ControlPlane, way: Way, direct: KubernetesCollector, broken: KubernetesCollector) -> None:
        self.plane, self.way, self.collectors = plane, way, (direct, broken)

    def pass_by(self, seconds: int) -> None:
        self.plane.run_due(self.plane.now + seconds * SECOND)
        self.plane.bookmark()

    async def told(self) -> tuple[dict[str, list[Any]], dict[str, list[Any]], list[str]]:
        """Drain both; return the rows of each by event type, and the gaps of the one whose way breaks."""
        now = self.plane.now
        rows: list[dict[str, list[Any]]] = []
        gaps: list[str] = []
        for collector in self.collectors:
            await collector.drain(Barrier(time=now, resource_version=self.plane.resource_version))
            found = [event for event, _ in collector.flush(now)]
            gaps = [event.reason for event in found if isinstance(event, CollectorGap)]
            rows.append({type(event).__name__: list(event.rows) for event in found if hasattr(event, "rows")})
            if collector is self.collectors[0]:
                assert gaps == []
        return rows[0], rows[1], gaps


@asynccontextmanager
async def both_watching(plane: ControlPlane) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(KubernetesServer(plane).open())
        way = Way(url)
        application = web.Application()
        application.router.add_get("/{path:.*}", way.lead)
        longer = await stack.enter_async_context(listen(application))
        stack.callback(way.cut)  # once nobody watches any more, else the server waits for its streams
        collectors = [KubernetesCollector(endpoints_at(place), now=plane.now) for place in (url, longer)]
        for collector in collectors:
            await stack.enter_async_context(collector.open())
        yield Pair(plane, way, *collectors)


def endpoints_at(url: str) -> Endpoints:
    return Endpoints(kubernetes=url, namespace="otel-demo", prometheus="", coroot="", load_generator="", flagd="")


async def patch_scale(pair: Pair, replicas: int) -> None:
    path = "/apis/apps/v1/namespaces/otel-demo/deployments/cart/scale"
    headers = {"Content-Type": "application/merge-patch+json"}
    async with (
        aiohttp.ClientSession() as session,
        session.patch(pair.way.upstream + path, json={"spec": {"replicas": replicas}}, headers=headers) as answer,
    ):
        assert answer.ok


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(15):
        while not condition():  # noqa: ASYNC110 - what happens behind a socket tells nobody
            await anyio.sleep(0.01)


async def test_what_breaks_in_the_middle_of_a_rollout_is_told_as_if_it_had_not(plane: ControlPlane) -> None:
    async with both_watching(plane) as pair:
        direct, broken, gaps = await pair.told()
        assert (direct == broken, gaps) == (True, [])
        await patch_scale(pair, 3)
        pair.pass_by(1)
        pair.way.cut()
        await pair.way.wait_watched()  # else it waits for a bookmark that went by
        pair.pass_by(30)
        direct, broken, gaps = await pair.told()
        assert direct[PodsTransitioned.__name__]
        assert direct[RolloutsObserved.__name__]
        assert direct == broken
        assert any(gap.startswith("Pod: watch interrupted (") for gap in gaps)
        pair.pass_by(5)
        assert (await pair.told())[2] == [], "it is told once"


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.json_response({"kind": "Status", "message": "too old", "code": 410}, status=410),
        lambda: web.Response(
            body=b'{"type":"ERROR","object":{"kind":"Status","message":"too old","code":410}}\n',
            content_type="application/json",
        ),
        lambda: web.json_response({"message": "Timeout: Too large resource version: 9, current: 3"}, status=504),
    ],
)
async def test_a_version_that_the_server_does_not_know_is_a_gap_and_the_end_is_the_same(
    answer: Callable[[], web.Response], plane: ControlPlane
) -> None:
    async with both_watching(plane) as pair:
        await pair.told()
        pair.way.answers = [answer]
        pair.way.cut()
        await pair.way.wait_watched()
        await patch_scale(pair, 3)
        pair.pass_by(30)
        direct, broken, gaps = await pair.told()
        last = [rows[PodsTransitioned.__name__][-1] for rows in (direct, broken)]
        assert (last[0].pod, last[0].ready) == (last[1].pod, last[1].ready)
        assert any(gap.startswith("Pod: watch expired, listed anew (") for gap in gaps)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_asked_when_it_wants_to_be(status: int, plane: ControlPlane) -> None:
    async with both_watching(plane) as pair:
        await pair.told()
        pair.way.answers = [lambda: web.Response(status=status, headers={"Retry-After": "1"})]
        asked = pair.way.asked
        pair.way.cut()
        await until(lambda: not pair.way.answers)
        with anyio.move_on_after(0.7):  # within the second for which it wants to be left alone
            await until(lambda: pair.way.asked > asked + 1)
        assert pair.way.asked == asked + 1
        await pair.way.wait_watched()
        pair.pass_by(5)
        direct, broken, gaps = await pair.told()
        assert direct == broken
        assert [gap for gap in gaps if gap.startswith("Pod: ")]


async def test_a_server_that_is_away_is_a_gap_and_is_not_stormed(plane: ControlPlane) -> None:
    async with both_watching(plane) as pair:
        await pair.told()
        pair.way.closed, asked = True, pair.way.asked
        pair.way.cut()
        await until(lambda: pair.way.asked > asked + 2)
        await anyio.sleep(0.3)  # in which a storm would show
        assert pair.way.asked < asked + 6
        await patch_scale(pair, 3)
        pair.pass_by(30)
        direct, broken, gaps = await pair.told()
        assert direct
        assert broken == {}
        assert any(gap.startswith("Pod: watch broken (") for gap in gaps)
        pair.way.closed = False
        await pair.way.wait_watched()
        late: list[str] = []
        with anyio.fail_after(15):
            while not late:
                pair.pass_by(1)
                _, rows, _ = await pair.told()
                late = [row.pod for row in rows.get(PodsTransitioned.__name__, ())]
        assert {row.pod for row in direct[PodsTransitioned.__name__]} <= set(late), "it came late, and came"


async def test_another_server_in_its_place_is_told_as_what_it_is(
    plane: ControlPlane, services: ServiceConfiguration
) -> None:
    async with both_watching(plane) as pair:
        first, _, _ = await pair.told()
        other = ControlPlane(services, TwinSettings(), seed=8, start=START, runtime=IdleMachines())
        other.install()
        async with KubernetesServer(other).open() as url:
            pair.way.upstream = url
            pair.way.answers = [
                lambda: web.json_response({"message": "Timeout: Too large resource version: 9, current: 3"}, status=504)
            ]
            pair.way.cut()
            try:
                await pair.way.wait_watched()
                other.run_due(other.now + SECOND)
                other.bookmark()
                barrier = Barrier(time=other.now, resource_version=other.resource_version)
                await pair.collectors[1].drain(barrier)
            finally:
                pair.way.closed = True
                pair.way.cut()
            found = [event for event, _ in pair.collectors[1].flush(other.now)]
            rows = [row for event in found if isinstance(event, PodsTransitioned) for row in event.rows]
            gone = {row.uid for row in rows if row.change == "deleted"}
            assert gone == {row.uid for row in first[PodsTransitioned.__name__]}
            assert {row.uid for row in rows if row.change == "added"}.isdisjoint(gone)
