"""flagd-ui and flagd may be at two addresses, and flagd-ui's paths may lack the prefix that the demo's proxy gives them."""

from __future__ import annotations

from aiohttp import web

from otel_control_gym.actuators.flags import open_flags
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.twin.servers.listening import listen


async def test_flags_are_written_and_evaluated_where_each_is() -> None:
    asked: list[str] = []

    def serving(name: str, *paths: str) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            asked.append(f"{name} {request.method} {request.path}")
            return web.json_response({"flags": {}, "variant": "on"})

        application = web.Application()
        for path in paths:
            application.router.add_route("*", path, answer)
        return application

    bare = serving("ui", "/api/read", "/api/write")  # as flagd-ui's own Service
    async with listen(bare) as ui, listen(serving("flagd", "/ofrep/v1/evaluate/flags/a")) as flagd:
        endpoints = Endpoints(
            kubernetes="", namespace="", prometheus="", coroot="", load_generator="", flagd=ui, flagd_evaluation=flagd
        )
        async with open_flags(endpoints) as flags:
            assert await flags.document() == {"flags": {}, "variant": "on"}
            await flags.call("POST", "feature/api/write", dict, body={"data": {}})  # as an inverse in a log names it
            assert await flags.evaluate("a") == "on"
    assert asked == ["ui GET /api/read", "ui POST /api/write", "flagd POST /ofrep/v1/evaluate/flags/a"]
