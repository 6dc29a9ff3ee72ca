"""flagd's flags are the demo's, all off, in OFREP's and flagd-ui's shapes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from otel_control_gym.stands.twin.servers.flagd import FLAGS, FlagdServer
from otel_control_gym.stands.twin.servers.listening import listen

CONTEXT = {"context": {"targetingKey": "someone"}}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with listen(FlagdServer().application()) as url, aiohttp.ClientSession(url) as session:
        yield session


async def test_every_flag_evaluates_to_its_default(http: aiohttp.ClientSession) -> None:
    for key, (_, variants) in FLAGS.items():
        async with http.post(f"/ofrep/v1/evaluate/flags/{key}", json=CONTEXT) as response:
            assert response.status == 200
            found = json.loads(await response.read())
        assert found == {"key": key, "value": variants["off"], "reason": "STATIC", "variant": "off", "metadata": {}}
        assert not found["value"]


async def test_all_flags_at_once_come_with_a_tag(http: aiohttp.ClientSession) -> None:
    async with http.post("/ofrep/v1/evaluate/flags", json=CONTEXT) as response:
        found, tag = json.loads(await response.read()), response.headers["ETag"]
    assert [flag["key"] for flag in found["flags"]] == list(FLAGS)
    async with http.post("/ofrep/v1/evaluate/flags", json=CONTEXT, headers={"If-None-Match": tag}) as response:
        assert response.status == 304


async def test_an_unknown_flag_isn_t_found(http: aiohttp.ClientSession) -> None:
    async with http.post("/ofrep/v1/evaluate/flags/intlShippingSlowdown", json=CONTEXT) as response:
        assert response.status == 404
        assert json.loads(await response.read())["errorCode"] == "FLAG_NOT_FOUND"


@pytest.mark.parametrize("body", ["{", "[]", '{"context": 1}'])
async def test_a_context_that_is_none_is_refused(http: aiohttp.ClientSession, body: str) -> None:
    for path in ("/ofrep/v1/evaluate/flags", "/ofrep/v1/evaluate/flags/cartFailure"):
        async with http.post(path, data=body) as response:
            assert response.status == 400
            assert json.loads(await response.read())["errorCode"] == "INVALID_CONTEXT"


async def test_flagd_ui_reads_the_whole_flag_file(http: aiohttp.ClientSession) -> None:
    async with http.get("/feature/api/read") as response:
        flags = json.loads(await response.read())["flags"]
    assert flags.keys() == FLAGS.keys()
    assert {(flag["state"], flag["defaultVariant"]) for flag in flags.values()} == {("ENABLED", "off")}
    assert flags["paymentFailure"]["variants"]["90%"] == 0.95
