"""What the stand does wrong becomes data: an honest status, never an exception, and never `applied` without evidence."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from otel_control_gym.actuators import CpuPressure, Scale, SetWorkload, open_actuators
from otel_control_gym.actuators.lifecycle import Lifecycle
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import ActionFailed, Event
from otel_control_gym.engine.protocols import Endpoints, Request
from otel_control_gym.engine.settings import RunSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CART: dict[str, Any] = {
    "metadata": {"name": "cart", "uid": "u1", "resourceVersion": "5", "generation": 1},
    "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "cart"}]}}},
    "status": {
        "observedGeneration": 1,
        "replicas": 2,
        "updatedReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
    },
}
POD = {
    "metadata": {"name": "cart-1", "uid": "p1", "resourceVersion": "5"},
    "spec": {"containers": [{"name": "cart", "resources": {"limits": {"cpu": "500m"}}}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [{"name": "cart"}]},
}


def status(code: int, message: str, **headers: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message, "code": code}, status=code, headers=headers)


class Server:
    """A server that answers as a test says; `writes` are the methods and paths of everything but GET."""

    def __init__(self, answer: Handler) -> None:
        self._answer = answer
        self.writes: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            self.writes.append(f"{request.method} {request.path.rsplit('/', 2)[-1]}")
        return await self._answer(request)


class Run:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.events: list[Event] = []
        self.actuators: Lifecycle
        self.now = 1000 * SECOND

    async def append(self, event: Event, *, truth: bool = False) -> int:
        self.events.append(event)
        return len(self.events)

    async def perform(self, action: Any) -> Any:
        return await self.actuators.perform(Request(action=action, actor="human"), self.now)

    async def live(self, seconds: int) -> None:
        end = self.now + seconds * SECOND
        while (due := self.actuators.due()) is not None and due <= end:
            self.now = max(self.now, due)
            await self.actuators.run_due(self.now)
        self.now = end


@asynccontextmanager
async def facing(answer: Handler, settings: RunSettings) -> AsyncIterator[Run]:
    server = Server(answer)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        endpoints = Endpoints(
            kubernetes=url, namespace="otel-demo", prometheus=url, coroot=url, load_generator=url, flagd=url
        )
        run = Run(server)
        async with open_actuators(endpoints, settings, run.append, seed=1, run_id="RUN") as run.actuators:
            yield run
    finally:
        await runner.cleanup()


async def test_a_server_that_says_yes_and_does_nothing_is_never_believed(settings: RunSettings) -> None:
    async def lying(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(CART)
        return web.json_response(CART | {"spec": {"replicas": 4}})

    async with facing(lying, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
        assert record.applied is not None
        await run.live(300)
    assert (record.status, record.effective) == ("unverified", None)
    assert "spec.replicas is 2, not 4" in record.reason


async def test_a_scaling_that_gets_stuck_half_way_is_partial(settings: RunSettings) -> None:
    stuck = CART | {
        "metadata": {**CART["metadata"], "generation": 2},
        "spec": {"replicas": 4},
        "status": {"observedGeneration": 2, "replicas": 4, "availableReplicas": 3},
    }
    written = False

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        written = written or request.method != "GET"
        return web.json_response(stuck if written else CART)

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
        await run.live(300)
    assert record.status == "partial"


async def test_status_from_before_the_write_is_no_evidence(settings: RunSettings) -> None:
    stale = CART | {"metadata": {**CART["metadata"], "generation": 2}}  # the controller has observed generation 1 only
    written = False

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        written = written or request.method != "GET"
        return web.json_response(stale if written else CART)

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=2))
        await run.live(300)
    assert record.status == "unverified"


async def test_a_refusal_fails_at_once_and_is_not_repeated(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(CART) if request.method == "GET" else status(403, "you may not")

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
        assert (record.status, run.server.writes) == ("failed", ["PATCH scale"])
        assert "you may not" in record.reason
        assert run.actuators.due() is None


async def test_a_busy_server_is_asked_again_after_the_time_it_asks_for(settings: RunSettings) -> None:
    answers = [status(429, "later", **{"Retry-After": "7"})]

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(CART)
        return answers.pop() if answers else web.json_response(CART)

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=2))
        assert record.applied is None
        assert run.actuators.due() == run.now + 7 * SECOND
        await run.live(20)
    assert record.applied == record.requested + 7 * SECOND
    assert record.status == "applied"


async def test_a_server_that_stays_busy_is_given_up(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response(CART) if request.method == "GET" else status(429, "never")

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
        await run.live(60)
        assert run.server.writes == ["PATCH scale"] * 4
    assert record.status == "failed"


async def test_a_lost_answer_is_followed_by_a_revert(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(CART)
        if json.loads(await request.read())["spec"]["replicas"] == 4:
            assert request.transport is not None
            request.transport.close()
        return web.json_response(CART)

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
        await run.live(60)
        assert run.server.writes == ["PATCH scale"] * 5
    assert (record.status, record.revert_failed) == ("failed", False)
    assert [event.stage for event in run.events if isinstance(event, ActionFailed)] == ["apply"]


async def test_an_unreachable_stand_fails_in_the_precheck(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
        assert (record.status, run.server.writes) == ("failed", [])


async def test_an_unknown_deployment_is_rejected(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return status(404, "not found")

    async with facing(answer, settings) as run:
        record = await run.perform(Scale("cart", replicas=4))
    assert record.status == "rejected"


CONDITIONS = [{"type": "AllInjected", "status": "True"}]
RECORD: dict[str, Any] = {"id": "otel-demo/cart-1/cart", "phase": "Injected", "injectedCount": 1}


@pytest.mark.parametrize(
    ("chaos_status", "expected"),
    [
        ({"conditions": CONDITIONS, "experiment": {"containerRecords": [RECORD]}, "instances": {RECORD["id"]: {"uid": "s"}}}, "applied"),
        ({"conditions": CONDITIONS, "experiment": {"containerRecords": [RECORD]}}, "unverified"),
        (
            {
                "conditions": CONDITIONS,
                "experiment": {"containerRecords": [RECORD | {"injectedCount": 0}]},
                "instances": {RECORD["id"]: {"uid": "s"}},
            },
            "unverified",
        ),
        ({"conditions": CONDITIONS, "experiment": {}}, "unverified"),
        ({}, "unverified"),
    ],
)  # fmt: skip
async def test_injection_is_believed_by_records_and_stressors_not_by_the_condition(
    settings: RunSettings, chaos_status: dict[str, Any], expected: str
) -> None:
    deleted = False

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal deleted
        deleted = deleted or request.method == "DELETE"
        if request.path.endswith("/pods"):
            return web.json_response({"items": [POD]})
        if deleted and request.method == "GET":
            return status(404, "gone")
        return web.json_response({"metadata": {"name": "x", "uid": "c1"}, "status": chaos_status})

    async with facing(answer, settings) as run:
        record = await run.perform(CpuPressure("cart", duration_seconds=100))
        await run.live(120)
    assert (record.status, record.revert_failed) == (expected, False)


async def test_a_fault_that_can_not_be_removed_is_said_so(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/pods"):
            return web.json_response({"items": [POD]})
        return web.json_response({"metadata": {"name": "x", "uid": "c1"}})

    async with facing(answer, settings) as run:
        record = await run.perform(CpuPressure("cart", duration_seconds=20))
        await run.live(120)
    assert record.revert_failed
    assert record.settled is not None


async def test_a_load_generator_that_answers_200_and_refuses_has_refused(settings: RunSettings) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            return web.json_response({"success": False, "message": "no"})
        return web.json_response({"users_target": 10, "users_active": 10, "spawn_rate": 1, "state": "running"})

    async with facing(answer, settings) as run:
        record = await run.perform(SetWorkload(users=50))
    assert (record.status, "refused: no" in record.reason) == ("failed", True)


async def test_users_are_believed_when_they_are_there_also_of_a_stock_locust(settings: RunSettings) -> None:
    users = 10

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal users
        if request.path == "/ocg/workload":
            return web.Response(status=404, text="404: Not Found")
        if request.method == "POST":
            users = int((await request.post())["user_count"])  # type: ignore[arg-type]
            return web.json_response({"success": True, "message": "Swarming started"})
        return web.json_response({"user_count": users, "state": "running"})

    async with facing(answer, settings) as run:
        record = await run.perform(SetWorkload(users=50, duration_seconds=30))
        await run.live(20)
        assert users == 50
        await run.live(20)
    assert (record.status, users, record.revert_failed) == ("applied", 10, False)
