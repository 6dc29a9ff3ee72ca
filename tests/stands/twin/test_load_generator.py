"""The load generator's REST API changes the load, and its books agree with the kernel's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.stand import TwinStand

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig, Receiver


@pytest.fixture
async def http(stand: TwinStand) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(stand.endpoints.load_generator) as session:
        yield session


@pytest.fixture
async def running(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> TwinStand:
    await stand.reset(make_config(40), otlp_endpoint=receiver.url)
    return stand


async def live(stand: TwinStand, seconds: int) -> None:
    await stand.advance(stand.now + seconds * SECOND)


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as response:
        assert response.status == 200
        return json.loads(await response.read())


async def swarm(http: aiohttp.ClientSession, **form: str) -> Any:
    async with http.post("/swarm", data=form) as response:
        assert response.status == 200
        return json.loads(await response.read())


async def test_before_a_run_there_is_no_load_generator(stand: TwinStand, http: aiohttp.ClientSession) -> None:
    async with http.get("/ocg/workload") as response:
        assert response.status == 503


async def test_the_workload_account_is_the_kernels(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await live(running, 60)
    found = await get(http, "/ocg/workload")
    counters = running.run.simulation.load_counters()
    assert found["users_target"] == found["users_active"] == 40
    assert found["scheduled"] == counters.scheduled > 100
    assert found["served"] == counters.served + counters.failed
    assert found["failed"] == counters.failed == 0
    assert found["spawn_rate"] == 50.0
    assert found["state"] == "running"
    assert sum(found["mix"].values()) == pytest.approx(1.0)
    assert found["mix"]["browse_product"] == pytest.approx(10 / 21)


async def test_the_account_has_a_reading_for_every_scrape_interval(
    running: TwinStand, http: aiohttp.ClientSession
) -> None:
    start = running.now
    await live(running, 60)
    interval = running.run.config.public.granularity.scrape_interval_seconds
    readings = (await get(http, f"/ocg/workload/readings?since={(start + 30 * SECOND) / 1e9}"))["readings"]
    offsets = [reading["time"] - start / 1e9 for reading in readings]
    assert offsets == list(range(30 + interval, 61, interval))
    assert [reading["scheduled"] for reading in readings] == sorted(reading["scheduled"] for reading in readings)
    assert readings[-1] == {"time": running.now / 1e9} | await get(http, "/ocg/workload")


async def test_a_swarm_resizes_the_running_test(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await live(running, 30)
    before = (await get(http, "/ocg/workload"))["scheduled"]
    answer = await swarm(http, user_count="120", spawn_rate="20")
    assert answer == {"success": True, "message": "Swarming started", "host": "http://frontend:8080"}
    assert (await get(http, "/ocg/workload"))["state"] == "spawning"
    await live(running, 2)
    assert 40 < (await get(http, "/ocg/workload"))["users_active"] < 120
    await live(running, 28)
    found = await get(http, "/ocg/workload")
    assert (found["users_active"], found["spawn_rate"]) == (120, 20.0)
    assert found["scheduled"] - before > 2 * before


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"user_count": "10"},
        {"user_count": "ten", "spawn_rate": "1"},
        {"user_count": "-1", "spawn_rate": "1"},
        {"user_count": "10", "spawn_rate": "0"},
        {"user_count": "10", "spawn_rate": "nan"},
    ],
)
async def test_a_bad_swarm_is_told_so_with_status_200_and_changes_nothing(
    running: TwinStand, http: aiohttp.ClientSession, form: dict[str, str]
) -> None:
    answer = await swarm(http, **form)
    assert answer["success"] is False
    assert answer["message"]
    assert (await get(http, "/ocg/workload"))["users_target"] == 40


async def test_a_stopped_test_ends_and_can_be_started_anew(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await live(running, 30)
    assert (await get(http, "/stop"))["success"] is True
    await live(running, 10)
    assert (await get(http, "/ocg/workload"))["state"] == "stopped"
    scheduled = running.run.simulation.load_counters().scheduled
    await live(running, 30)
    assert running.run.simulation.load_counters().scheduled == scheduled
    await swarm(http, user_count="5", spawn_rate="5")
    await live(running, 30)
    found = await get(http, "/stats/requests")
    assert (found["state"], found["user_count"]) == ("running", 5)
    assert found["stats"][-1]["num_requests"] == running.run.simulation.load_counters().scheduled - scheduled


async def test_statistics_have_a_line_per_request_and_one_of_all(
    running: TwinStand, http: aiohttp.ClientSession
) -> None:
    await live(running, 120)
    found = await get(http, "/stats/requests")
    *lines, total = found["stats"]
    counters = running.run.simulation.load_counters()
    assert total["name"] == "Aggregated"
    assert total["num_requests"] == sum(line["num_requests"] for line in lines) == counters.served
    assert {(line["method"], line["name"]) for line in lines} >= {
        ("GET", "/api/products/{productId}"),
        ("POST", "/api/checkout"),
    }
    assert total["avg_response_time"] == pytest.approx(counters.response_ms / counters.served)
    assert total["min_response_time"] <= total["median_response_time"] <= total["response_time_percentile_0.95"]
    assert total["response_time_percentile_0.99"] <= total["max_response_time"]
    assert total["current_rps"] == pytest.approx(total["total_rps"], rel=0.6)
    assert found["total_rps"] == total["current_rps"]
    assert found["fail_ratio"] == 0
    assert found["errors"] == []


async def test_a_reset_of_the_statistics_starts_them_anew(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await live(running, 60)
    async with http.get("/stats/reset") as response:
        assert await response.text() == "ok"
    assert (await get(http, "/stats/requests"))["stats"][-1]["num_requests"] == 0
    await live(running, 60)
    assert (await get(http, "/stats/requests"))["stats"][-1]["num_requests"] > 0
    assert (await get(http, "/ocg/workload"))["scheduled"] > 400  # the account of the run goes on


async def test_failures_are_listed_with_their_error(running: TwinStand, http: aiohttp.ClientSession) -> None:
    world = running.run.world
    world.stop_container(next(item for item in world.containers if item.service == "product-catalog").uid)
    await live(running, 30)
    found = await get(http, "/stats/requests")
    assert found["fail_ratio"] > 0.3
    assert sum(error["occurrences"] for error in found["errors"]) == found["stats"][-1]["num_failures"]


async def test_a_mix_changes_what_users_do(running: TwinStand, http: aiohttp.ClientSession) -> None:
    flows = running.run.simulation.names.flows
    before = running.run.simulation.load_counters().tasks_started
    only = dict.fromkeys(flows, 0.0) | {"index": 1.0}
    async with http.post("/ocg/mix", json=only) as response:
        assert response.status == 200
    await live(running, 60)
    started = running.run.simulation.load_counters().tasks_started - before
    assert started[flows.index("index")] == started.sum() > 100
    assert (await get(http, "/ocg/workload"))["mix"]["index"] == 1.0


@pytest.mark.parametrize("body", ['{"sleep": 1}', '{"index": -1}', "[]", "{", '{"index": "much"}'])
async def test_a_bad_mix_is_refused(running: TwinStand, http: aiohttp.ClientSession, body: str) -> None:
    async with http.post("/ocg/mix", data=body) as response:
        assert response.status == 400
        assert json.loads(await response.read())["success"] is False
    assert running.run.simulation.mix["index"] == 1


async def test_open_arrivals_have_no_users_to_swarm(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig, http: aiohttp.ClientSession
) -> None:
    await stand.reset(make_config(arrivals_per_s=20.0), otlp_endpoint=receiver.url)
    await live(stand, 30)
    answer = await swarm(http, user_count="10", spawn_rate="1")
    assert answer["success"] is False
    assert "open arrivals" in answer["message"]
    await get(http, "/stop")
    await live(stand, 10)
    assert (await get(http, "/ocg/workload"))["state"] == "stopped"


async def test_open_arrivals_change_their_rate_while_they_run(
    stand: TwinStand, receiver: Receiver, make_config: MakeConfig, http: aiohttp.ClientSession
) -> None:
    await stand.reset(make_config(arrivals_per_s=5.0), otlp_endpoint=receiver.url)
    started = []
    for rate in ("5", "20", "0", "5"):
        async with http.post("/ocg/rate", data={"rate_per_s": rate}) as response:
            assert response.status == 200
        before = int(stand.run.simulation.load_counters().tasks_started.sum())
        await live(stand, 60)
        started.append(int(stand.run.simulation.load_counters().tasks_started.sum()) - before)
    assert started == [pytest.approx(300, abs=70), pytest.approx(1200, abs=140), 0, pytest.approx(300, abs=70)]
    assert (await get(http, "/ocg/workload"))["state"] == "running"


@pytest.mark.parametrize("rate", ["", "-1", "many", "nan", "inf"])
async def test_a_bad_rate_is_refused_and_a_closed_loop_has_none(
    running: TwinStand, http: aiohttp.ClientSession, rate: str
) -> None:
    for wanted in (rate, "5"):
        async with http.post("/ocg/rate", data={"rate_per_s": wanted}) as response:
            assert response.status == 400
            assert json.loads(await response.read())["message"]
