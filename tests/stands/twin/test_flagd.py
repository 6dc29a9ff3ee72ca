"""flagd evaluates the demo's flags, flagd-ui changes them, and the application feels it: as long as flagd has a pod."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.objects import POD
from otel_control_gym.stands.twin.stand import TwinStand
from otel_control_gym.stands.twin.state import ERROR, OK

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig, Receiver

CONTEXT = {"context": {"targetingKey": "someone"}}


@pytest.fixture
async def running(stand: TwinStand, receiver: Receiver, make_config: MakeConfig) -> TwinStand:
    await stand.reset(make_config(190), otlp_endpoint=receiver.url)
    return stand


@pytest.fixture
async def http(running: TwinStand) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(running.endpoints.flagd) as session:
        yield session


async def live(stand: TwinStand, seconds: int) -> None:
    await stand.advance(stand.now + seconds * SECOND)


async def evaluate(http: aiohttp.ClientSession, flag: str) -> Any:
    async with http.post(f"/ofrep/v1/evaluate/flags/{flag}", json=CONTEXT) as response:
        return json.loads(await response.read()) | {"status": response.status}


async def document(http: aiohttp.ClientSession) -> dict[str, Any]:
    async with http.get("/feature/api/read") as response:
        assert response.status == 200
        found: dict[str, Any] = json.loads(await response.read())
        return found


async def turn(http: aiohttp.ClientSession, flag: str, variant: str, path: str = "/feature/api/write") -> None:
    """Write the whole document with one flag at another variant."""
    whole = await document(http)
    whole["flags"][flag]["defaultVariant"] = variant
    async with http.post(path, json={"data": whole}) as response:
        assert (response.status, json.loads(await response.read())) == (200, {})


def charges(stand: TwinStand) -> tuple[int, int]:
    """Return how many charges succeeded and failed so far."""
    ends = [(edge[0], edge[1]) for edge in stand.run.simulation.names.edges]
    counts = stand.run.simulation.edge_counts[ends.index(("checkout", "payment"))]
    return int(counts[OK]), int(counts[ERROR])


async def restart(stand: TwinStand, service: str) -> None:
    """Delete a service's pod and wait until there is another one."""
    plane = stand.run.control_plane
    (pod,) = [pod for pod in plane.pods() if pod.service == service]
    path = f"/api/v1/namespaces/otel-demo/{POD.plural}/{pod.name}"
    async with aiohttp.ClientSession(stand.endpoints.kubernetes) as session, session.delete(path) as response:
        assert response.status == 200
    await live(stand, 60)


async def test_every_flag_evaluates_to_its_default(running: TwinStand, http: aiohttp.ClientSession) -> None:
    flags = running.run.simulation.config.flags
    assert len(flags) == 15
    for key, flag in flags.items():
        expected: dict[str, Any] = {
            "key": key,
            "value": flag.variants["off"],
            "reason": "STATIC",
            "variant": "off",
            "metadata": {},
        }
        assert await evaluate(http, key) == expected | {"status": 200}


async def test_all_flags_at_once_come_with_a_tag_that_a_write_changes(
    running: TwinStand, http: aiohttp.ClientSession
) -> None:
    async with http.post("/ofrep/v1/evaluate/flags", json=CONTEXT) as response:
        found, tag = json.loads(await response.read()), response.headers["ETag"]
    assert [flag["key"] for flag in found["flags"]] == list(running.run.simulation.config.flags)
    unchanged = {"If-None-Match": tag}
    async with http.post("/ofrep/v1/evaluate/flags", json=CONTEXT, headers=unchanged) as response:
        assert response.status == 304
    await turn(http, "adFailure", "on")
    await live(running, 1)
    async with http.post("/ofrep/v1/evaluate/flags", json=CONTEXT, headers=unchanged) as response:
        assert response.status == 200


async def test_an_unknown_flag_isn_t_found(http: aiohttp.ClientSession) -> None:
    found = await evaluate(http, "intlShippingSlowdown")
    assert (found["status"], found["errorCode"]) == (404, "FLAG_NOT_FOUND")


@pytest.mark.parametrize("body", ["{", "[]", '{"context": 1}'])
async def test_a_context_that_is_none_is_refused(http: aiohttp.ClientSession, body: str) -> None:
    for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/cartFailure"):
        async with http.post(path, data=body) as response:
            assert response.status == 400
            assert json.loads(await response.read())["errorCode"] == "INVALID_CONTEXT"


async def test_flagd_ui_reads_the_whole_flag_file_under_all_its_names(http: aiohttp.ClientSession) -> None:
    whole = await document(http)
    assert {(flag["state"], flag["defaultVariant"]) for flag in whole["flags"].values()} == {("ENABLED", "off")}
    assert whole["flags"]["paymentFailure"]["variants"]["90%"] == 0.95
    for path in ("/feature/api/read-file", "/api/read", "/api/read-file"):
        async with http.get(path) as response:
            assert json.loads(await response.read()) == whole


@pytest.mark.parametrize(
    "path", ["/feature/api/write", "/feature/api/write-to-file", "/api/write", "/api/write-to-file"]
)
async def test_a_write_is_read_at_once_and_in_force_a_moment_later(
    running: TwinStand, http: aiohttp.ClientSession, path: str
) -> None:
    await turn(http, "paymentFailure", "50%", path)
    assert (await document(http))["flags"]["paymentFailure"]["defaultVariant"] == "50%"
    assert (await evaluate(http, "paymentFailure"))["variant"] == "off", "flagd hasn't looked yet"
    await live(running, 1)
    found = await evaluate(http, "paymentFailure")
    assert (found["value"], found["variant"]) == (0.5, "50%")


async def test_half_of_the_charges_fail_while_the_flag_says_so(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await live(running, 60)
    assert charges(running)[1] == 0
    await turn(http, "paymentFailure", "50%")
    before = charges(running)[0]
    await live(running, 240)
    good, bad = charges(running)[0] - before, charges(running)[1]
    assert bad / (good + bad) == pytest.approx(0.5, abs=2 / (good + bad) ** 0.5)
    await turn(http, "paymentFailure", "off")
    await live(running, 2)
    before = charges(running)[1]
    await live(running, 60)
    assert charges(running)[1] == before


async def test_a_new_pod_of_flagd_forgets_what_was_written(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await turn(http, "paymentFailure", "100%")
    await live(running, 60)
    assert (await evaluate(http, "paymentFailure"))["variant"] == "100%"
    await restart(running, "flagd")
    assert (await evaluate(http, "paymentFailure"))["variant"] == "off"
    bad = charges(running)[1]
    await live(running, 60)
    assert charges(running)[1] == bad > 0


async def test_without_flagd_everybody_falls_back_to_off(running: TwinStand, http: aiohttp.ClientSession) -> None:
    await turn(http, "paymentFailure", "100%")
    await live(running, 60)
    async with aiohttp.ClientSession(running.endpoints.kubernetes) as session:
        path = "/apis/apps/v1/namespaces/otel-demo/deployments/flagd/scale"
        async with session.patch(
            path,
            data=json.dumps({"spec": {"replicas": 0}}),
            headers={"Content-Type": "application/merge-patch+json"},
        ) as response:
            assert response.status == 200
    await live(running, 30)
    good, bad = charges(running)
    await live(running, 60)
    assert charges(running)[0] > good
    assert charges(running)[1] == bad > 0
    async with http.get("/feature/api/read") as response:
        assert response.status == 503


async def test_cart_s_pods_and_no_others_say_that_they_aren_t_ready(
    running: TwinStand, http: aiohttp.ClientSession
) -> None:
    world = running.run.world
    pods = {pod.service: pod.uid for pod in running.run.control_plane.pods()}
    assert world.answers_probe(pods["cart"])
    for variant, answers in (("on", False), ("off", True)):
        await turn(http, "failedReadinessProbe", variant)
        await live(running, 1)
        assert world.answers_probe(pods["cart"]) is answers
        assert world.answers_probe(pods["frontend"])


async def test_the_kubelet_takes_cart_out_of_its_endpoints_while_its_probe_fails(
    running: TwinStand, http: aiohttp.ClientSession
) -> None:
    await live(running, 30)

    def ready() -> list[bool]:
        return [pod.ready for pod in running.run.control_plane.pods() if pod.service == "cart"]

    assert ready() == [True]
    await turn(http, "failedReadinessProbe", "on")
    await live(running, 20)
    assert ready() == [False]
    await turn(http, "failedReadinessProbe", "off")
    await live(running, 20)
    assert ready() == [True]


def flag(**changes: Any) -> dict[str, Any]:
    good = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
    return {"data": {"flags": {"cartFailure": good | changes}}}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "whole flag document"),
        ({"flags": {}}, "whole flag document"),
        ({"data": []}, "data = []"),
        ({"data": {"flags": 1}}, "data.flags = 1"),
        ({"data": {"flags": {"cartFailure": 1}}}, "data.flags.cartFailure = 1"),
        (flag(state="on"), "ENABLED or DISABLED"),
        (flag(variants={}), "variants"),
        (flag(variants={"on": None}), "variants.on"),
        (flag(defaultVariant=True), "defaultVariant"),
        (flag(targeting={"if": [True, "on", "off"]}), "targeting"),
    ],
)
async def test_what_isn_t_a_flag_document_is_refused_and_changes_nothing(
    http: aiohttp.ClientSession, body: Any, says: str
) -> None:
    before = await document(http)
    async with http.post("/feature/api/write", json=body) as response:
        assert response.status == 400
        assert says in json.loads(await response.read())["message"]
    assert await document(http) == before


async def test_a_body_that_isn_t_json_is_refused(http: aiohttp.ClientSession) -> None:
    async with http.post("/feature/api/write", data="{", headers={"Content-Type": "application/json"}) as response:
        assert response.status == 400
    async with http.post("/feature/api/write", data="{}", headers={"Content-Type": "text/plain"}) as response:
        assert response.status == 415


@pytest.mark.parametrize(
    ("change", "code"),
    [({"state": "DISABLED"}, "FLAG_DISABLED"), ({"defaultVariant": "maybe"}, "PARSE_ERROR"), (None, "FLAG_NOT_FOUND")],
)
async def test_a_flag_that_can_t_be_evaluated_is_off_in_the_code(
    running: TwinStand, http: aiohttp.ClientSession, change: dict[str, str] | None, code: str
) -> None:
    await turn(http, "paymentFailure", "100%")
    await live(running, 30)
    whole = await document(http)
    if change is None:
        del whole["flags"]["paymentFailure"]
    else:
        whole["flags"]["paymentFailure"] |= change
    async with http.post("/feature/api/write", json={"data": whole}) as response:
        assert response.status == 200
    await live(running, 2)
    found = await evaluate(http, "paymentFailure")
    assert (found["status"] // 100, found["errorCode"]) == (4, code)
    bad = charges(running)[1]
    await live(running, 60)
    assert charges(running)[1] == bad > 0


async def test_before_a_run_there_is_no_flagd(stand: TwinStand) -> None:
    async with aiohttp.ClientSession(stand.endpoints.flagd) as session, session.get("/api/read") as response:
        assert response.status == 503
