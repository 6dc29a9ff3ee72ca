"""flagd and flagd-ui of the demo: which feature flags there are and what they evaluate to.

In: OFREP requests, and the read of flagd-ui. Out: the demo's flags (2.2.0), all enabled and at their default.

No flag can be changed here; the physics behind the flags comes with the intervention `feature_flag`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from aiohttp import web

from otel_control_gym.stands.twin.servers.listening import json_response

__all__ = ("FLAGS", "FlagdServer")

_SWITCH: dict[str, Any] = {"off": False, "on": True}
_SHARES = {"off": 0, "10%": 0.1, "25%": 0.25, "50%": 0.5, "75%": 0.75, "90%": 0.95, "100%": 1}

#: Flag -> (description, variants); `off` is every default.
FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llmInaccurateResponse": ("LLM returns an inaccurate product summary for product ID L9ECAV7KIM", _SWITCH),
    "llmRateLimitError": ("LLM intermittently returns a rate limit error", _SWITCH),
    "productCatalogFailure": ("Fail product catalog service on a specific product", _SWITCH),
    "recommendationCacheFailure": ("Fail recommendation service cache", _SWITCH),
    "adManualGc": ("Triggers full manual garbage collections in the ad service", _SWITCH),
    "adHighCpu": ("Triggers high cpu load in the ad service", _SWITCH),
    "adFailure": ("Fail ad service", _SWITCH),
    "kafkaQueueProblems": (
        "Overloads Kafka queue while simultaneously introducing a consumer side delay",
        {"on": 100, "off": 0},
    ),
    "cartFailure": ("Fail cart service", _SWITCH),
    "paymentFailure": ("Fail payment service charge requests n%", _SHARES),
    "paymentUnreachable": ("Payment service is unavailable", _SWITCH),
    "loadGeneratorFloodHomepage": ("Flood the frontend with a large amount of requests.", {"on": 100, "off": 0}),
    "imageSlowLoad": ("slow loading images in the frontend", {"10sec": 10000, "5sec": 5000, "off": 0}),
    "failedReadinessProbe": ("readiness probe failure for cart service", _SWITCH),
    "emailMemoryLeak": (
        "Memory leak in the email service.",
        {"off": 0, "1x": 1, "10x": 10, "100x": 100, "1000x": 1000, "10000x": 10000},
    ),
}


class FlagdServer:
    """One flagd with its flag file."""

    def application(self) -> web.Application:
        """Return the aiohttp application; OFREP and flagd-ui share the port, as behind the demo's proxy."""
        application = web.Application()
        application.router.add_post("/ofrep/v1/evaluate/flags", self._evaluate_all)
        application.router.add_post("/ofrep/v1/evaluate/flags/{key}", self._evaluate)
        application.router.add_get("/feature/api/read", self._read)
        return application

    async def _evaluate(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if not await _has_context(request):
            document = {"key": key, "errorCode": "INVALID_CONTEXT", "errorDetails": "Provided context is not valid"}
            return json_response(document, status=400)
        if key not in FLAGS:
            details = f"flag `{key}` does not exist"
            return json_response({"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details}, status=404)
        return json_response(_evaluation(key))

    async def _evaluate_all(self, request: web.Request) -> web.Response:
        if not await _has_context(request):
            document = {"errorCode": "INVALID_CONTEXT", "errorDetails": "Provided context is not valid"}
            return json_response(document, status=400)
        answer = json_response({"flags": [_evaluation(key) for key in FLAGS], "metadata": {}})
        assert isinstance(answer.body, bytes)
        answer.etag = hashlib.sha256(answer.body).hexdigest()
        wanted = request.if_none_match
        if wanted is not None and any(tag == answer.etag for tag in wanted):
            return web.Response(status=304)
        return answer

    async def _read(self, _: web.Request) -> web.Response:
        flags = {
            key: {"description": text, "state": "ENABLED", "variants": variants, "defaultVariant": "off"}
            for key, (text, variants) in FLAGS.items()
        }
        return json_response({"flags": flags})


def _evaluation(key: str) -> dict[str, Any]:
    return {"key": key, "value": FLAGS[key][1]["off"], "reason": "STATIC", "variant": "off", "metadata": {}}


async def _has_context(request: web.Request) -> bool:
    """Return whether the body is empty or an object whose `context`, if there is one, is an object."""
    body = await request.read()
    if not body:
        return True
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return False
    return isinstance(document, dict) and isinstance(document.get("context", {}), dict)
