"""The twin's services answer through its Kubernetes API as they answer at their own addresses."""

from __future__ import annotations

import aiohttp
import pytest

import otel_control_gym as ocg
from otel_control_gym.stands.twin.stand import TwinStand

CONFIG = ocg.resolve("small-core", workload="steady", seed=7)
SERVICES = "api/v1/namespaces/otel-demo/services"


async def test_services_answer_through_the_api_server_as_they_do_themselves() -> None:
    twin = TwinStand()
    async with twin.open(), aiohttp.ClientSession() as session:
        await twin.reset(CONFIG, otlp_endpoint="")
        places = twin.endpoints
        for base, service, path in (
            (
                places.prometheus,
                "otel-demo/services/prometheus:9090",
                "api/v1/query?query=up%7Bjob%3D%22a%22%7D&time=1",
            ),
            (places.prometheus, "otel-demo/services/prometheus:9090", "api/v1/query?query=rate("),  # refused
            (places.load_generator, "otel-demo/services/load-generator:8089", "ocg/workload"),
            (places.flagd, "otel-demo/services/flagd:4000", "api/read"),
            (places.coroot, "coroot/services/coroot-coroot:8080", "api/user"),
        ):
            proxied = f"{places.kubernetes}/api/v1/namespaces/{service}/proxy/{path}"
            async with session.get(f"{base}/{path}") as direct, session.get(proxied) as through:
                assert (through.status, await through.read()) == (direct.status, await direct.read()), path
                assert through.content_type == direct.content_type


async def test_what_is_posted_arrives() -> None:
    twin = TwinStand()
    async with twin.open(), aiohttp.ClientSession() as session:
        await twin.reset(CONFIG, otlp_endpoint="")
        base = f"{twin.endpoints.kubernetes}/{SERVICES}"
        form = {"user_count": "7", "spawn_rate": "5"}
        async with session.post(f"{base}/load-generator:8089/proxy/swarm", data=form) as answer:
            assert (await answer.json())["success"] is True
        async with session.get(f"{twin.endpoints.load_generator}/ocg/workload") as answer:
            assert (await answer.json())["users_target"] == 7
        evaluation = f"{base}/flagd:8016/proxy/ofrep/v1/evaluate/flags/cartFailure"
        async with session.post(evaluation, json={"context": {}}) as answer:
            assert (await answer.json())["variant"] == "off"


@pytest.mark.parametrize("service", ["nobody:80", "prometheus:1", "prometheus"])
async def test_a_service_that_is_not_there_is_not_found(service: str) -> None:
    twin = TwinStand()
    async with twin.open(), aiohttp.ClientSession() as session:
        await twin.reset(CONFIG, otlp_endpoint="")
        async with session.get(f"{twin.endpoints.kubernetes}/{SERVICES}/{service}/proxy/x") as answer:
            assert answer.status == 404
            assert (await answer.json())["reason"] == "NotFound"
