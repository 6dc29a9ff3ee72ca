"""The gym's locustfile speaks the twin's words, makes the demo's requests and counts them; and a real Locust runs it, where one is found.

`OCG_TEST_LOCUST` names the program, if it isn't on the PATH: it needs an environment of its own, with a Locust and nothing else.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import msgspec
import pytest
from aiohttp import web

from otel_control_gym.actuators.workload import SetWorkloadProcedure, open_load_generator
from otel_control_gym.collectors.workload import WorkloadCollector
from otel_control_gym.engine.clock import SECOND, wall_now
from otel_control_gym.engine.configuration import resolve
from otel_control_gym.engine.deployment import PACKAGED
from otel_control_gym.engine.events import WorkloadObserved
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.load import set_load, wait_load
from otel_control_gym.stands.cluster.locust import load_values
from otel_control_gym.stands.twin.servers.listening import listen

FOLDER = Path(__file__).parents[2] / "deploy" / "load-generator"
LOCUST = os.environ.get("OCG_TEST_LOCUST") or shutil.which("locust")


def module(name: str) -> Any:
    """Return a module of the load generator, which isn't installed."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


offered, shop = module("offered_load"), module("shop_requests")


def a_load(seed: int = 7) -> Any:
    flows = {
        "browse": offered.Flow(3.0, ["GET /api/products/{productId}"], (0, 0)),
        "buy": offered.Flow(1.0, ["GET /api/products/{productId}", "POST /api/cart", "POST /api/checkout"], (2, 4)),
    }
    return offered.OfferedLoad(flows, offered.random.Random(seed))


@pytest.mark.parametrize("name", PACKAGED)
def test_every_request_of_every_configuration_can_be_made(name: str) -> None:
    about = shop.drawn(offered.random.Random(7))
    for flow in resolve(name).public.services.flows.values():
        for operation in flow.requests:
            wanted = shop.asked(operation, user="somebody", **about)
            if wanted is not None:
                method, _, path = operation.partition(" ")
                assert (wanted.method, wanted.path.partition("/api/")[1]) == (method, path.partition("/api/")[1])
    with pytest.raises(KeyError, match="no operation 'GET /nowhere'"):
        shop.asked("GET /nowhere", user="somebody", **about)


def test_flows_come_as_often_as_their_weights_say_and_a_mix_changes_that() -> None:
    load = a_load()
    load.set_mix({"buy": 1, "browse": 0})
    assert {load.next_flow() for _ in range(50)} == {"buy"}
    load.set_mix({})  # what isn't named gets the configuration's
    found = Counter(load.next_flow() for _ in range(4000))
    assert abs(found["browse"] / 4000 - 0.75) < 4 * (0.75 * 0.25 / 4000) ** 0.5
    assert load.account(users_target=1, users_active=1, state="running")["mix"] == {"browse": 0.75, "buy": 0.25}


@pytest.mark.parametrize(
    "weights", [{"nobody": 1}, {"buy": -1}, {"buy": 0, "browse": 0}, {"buy": "1"}, {"buy": True}, [], None]
)
def test_a_mix_that_is_none_is_refused_and_the_old_one_stays(weights: Any) -> None:
    load = a_load()
    with pytest.raises(offered.Refusal):
        load.set_mix(weights)
    assert load.mix == {"browse": 3.0, "buy": 1.0}


def test_open_arrivals_come_at_their_rate() -> None:
    load = a_load()
    load.set_profile({"arrivals": "open", "rate_per_s": 5.0})
    gaps = [load.gap_seconds() for _ in range(4000)]
    assert abs(sum(gaps) / 4000 - 0.2) < 4 * 0.2 / 4000**0.5  # exponential: mean and deviation are the same
    load.set_rate("0")
    assert load.gap_seconds() == float("inf")


def test_a_closed_loop_has_no_rate_and_its_account_tells_none() -> None:
    load = a_load()
    with pytest.raises(offered.Refusal, match="closed loop"):
        load.set_rate("5")
    assert "rate_per_s" not in load.account(users_target=1, users_active=1, state="running")


def test_a_curve_gives_the_last_level_that_is_due_and_each_once() -> None:
    load = a_load()
    load.set_profile({"curve": [[0, 10], [30, 20], [60, 5]]})
    assert [load.due_level(seconds) for seconds in (0.1, 10.0, 70.0, 80.0)] == [10, None, 5, None]


@pytest.mark.parametrize(
    "profile",
    [
        {"arrivals": "sometimes"},
        {"arrivals": "closed", "rate_per_s": 1},
        {"think_seconds": [5, 1]},
        {"think_seconds": [1]},
        {"curve": [[10, 1], [5, 1]]},
        {"curve": [[10, -1]]},
        {"arrivals": "open", "rate_per_s": "many"},
        {"users": 5},
        [],
    ],
)
def test_a_profile_that_is_none_changes_nothing(profile: Any) -> None:
    load = a_load()
    load.set_profile({"think_seconds": [2, 3], "curve": [[5, 1]]})
    with pytest.raises(offered.Refusal):
        load.set_profile(profile)
    assert (load.think_seconds, load.rate_per_s, load.curve) == ((2.0, 3.0), None, [(5.0, 1.0)])


def test_readings_are_those_after_a_moment() -> None:
    load = a_load()
    for time in (1.0, 2.0, 3.0):
        load.note(time, {"scheduled": time})
    assert [reading["time"] for reading in load.readings(1.0)] == [2.0, 3.0]


# --- with a real Locust -------------------------------------------------------------------------------------------------------------


class Shop:
    """What the load is offered to: counts what comes."""

    def __init__(self) -> None:
        self.seen = Counter[str]()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/api/data/":
            self.seen["GET /api/data/"] += 1
            raise web.HTTPPermanentRedirect(f"/api/data?{request.query_string}")
        kind = "/".join(request.path.split("/")[:3])
        self.seen[f"{request.method} {kind}"] += 1
        if request.method == "POST":
            await request.json()
        return web.json_response({}, status=500 if kind == "/api/recommendations" else 200)


@asynccontextmanager
async def locust(home: Path, program: str) -> AsyncIterator[tuple[Endpoints, Shop]]:
    """Run a real Locust with our file against a shop."""
    shop_ = Shop()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", shop_.answer)
    file = home / "flows.json"
    _, flows = load_values(resolve("medium-store").public.services)["mountedConfigMaps"]
    file.write_text(flows["data"]["flows.json"])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    async with listen(application) as host:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "OCG_FLOWS": str(file),
            "OCG_READING_SECONDS": "0.5",
            "LOCUST_HOST": host,
            "LOCUST_AUTOSTART": "true",
            "LOCUST_USERS": "5",
            "LOCUST_SPAWN_RATE": "50",
            "LOCUST_WEB_HOST": "127.0.0.1",
            "LOCUST_WEB_PORT": port,
            "FLAGD_OFREP_PORT": "1",
        }
        words = [program, "--skip-log-setup", "--locustfile", str(FOLDER / "locustfile.py")]
        async with await anyio.open_process(words, env=environment, stdout=None, stderr=None, cwd=home) as process:
            try:
                yield (
                    Endpoints(
                        kubernetes="", namespace="", prometheus="", coroot="", flagd="",
                        load_generator=f"http://127.0.0.1:{port}",
                    ),
                    shop_,
                )  # fmt: skip
            finally:
                process.terminate()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so, half a minute at most."""
    with anyio.fail_after(30):
        while True:
            if await condition():
                return
            await anyio.sleep(0.2)


@pytest.mark.skipif(
    LOCUST is None, reason="no locust is on the PATH, and OCG_TEST_LOCUST names none: no real one runs our file"
)
async def test_a_real_locust_is_steered_and_read_as_the_twins(tmp_path: Path) -> None:
    assert LOCUST is not None
    begun = wall_now()
    async with (
        locust(tmp_path, LOCUST) as (endpoints, shop_),
        open_load_generator(endpoints) as generator,
        aiohttp.ClientSession(endpoints.load_generator, raise_for_status=True) as session,
    ):
        collector = WorkloadCollector(endpoints, now=begun)

        async def up() -> bool:
            try:
                told = await generator.call("GET", "ocg/workload", dict)
            except Exception:  # noqa: BLE001 - it isn't there yet, in one way or another
                return False
            return bool(told["users_active"] == 5)

        await until(up)
        action = SetWorkloadProcedure(generator, {"users": 12, "spawn_rate_per_s": 50.0, "mix": {"checkout": 9.0}})
        assert (await action.precheck()).rejection == ""
        await action.apply(0)

        async def applied() -> bool:
            return (await action.postcheck()).seen == "all"

        await until(applied)
        await action.revert()

        async def reverted() -> bool:
            return (await action.reverted(0)).verified

        await until(reverted)

        async def told_of_five() -> bool:
            async with session.get("/ocg/workload/readings", params={"since": str(begun / SECOND)}) as answer:
                return any(row["users_target"] == 5 for row in (await answer.json())["readings"])

        await until(told_of_five)
        rate = SetWorkloadProcedure(generator, {"rate_per_s": 3.0})
        assert "closed loop" in (await rate.precheck()).rejection

        profile = {"arrivals": "open", "rate_per_s": 20.0}
        await session.post("/ocg/profile", json=profile)
        assert (await rate.precheck()).rejection == ""
        users = SetWorkloadProcedure(generator, {"users": 3})
        assert "open arrivals" in (await users.precheck()).rejection
        before = sum(shop_.seen.values())

        async def came() -> bool:
            return sum(shop_.seen.values()) > before + 40

        await until(came)
        await session.post("/ocg/rate", data={"rate_per_s": "0"})

        async def quiet() -> bool:
            told = await generator.call("GET", "ocg/workload", dict)
            return bool(told["users_active"] == 0 and told["scheduled"] == sum(shop_.seen.values()))

        await until(quiet)
        await anyio.sleep(1.0)  # for one more reading
        async with collector.open():
            await collector.drain(Barrier(time=wall_now() + SECOND, resource_version=""))
        events = [event for event, _ in collector.flush(wall_now()) if isinstance(event, WorkloadObserved)]
        rows = [row for event in events for row in event.rows]
        last = rows[-1]
        assert last.scheduled == sum(shop_.seen.values()), "what was offered is what came, redirects included"
        assert last.failed == shop_.seen["GET /api/recommendations"]
        assert last.served <= last.scheduled
        assert [row.scheduled for row in rows] == sorted(row.scheduled for row in rows)
        assert {row.users_target for row in rows} >= {0, 5}
        assert shop_.seen["GET /api/data/"] == shop_.seen["GET /api/data"]

        steady = resolve("medium-store").workload
        few = msgspec.structs.replace(resolve("medium-store"), workload=msgspec.structs.replace(steady, users=7))
        async with Connection(endpoints) as connection:
            await set_load(connection, few)
            await wait_load(connection, few, Patience())
        told = await generator.call("GET", "ocg/workload", dict)
        assert told["users_active"] == 7
        assert "rate_per_s" not in told, "what a run finds open is a closed loop again"
