"""One question to an API server, by the client of each room: tests of what both have to get right ask it by either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from otel_control_gym.actuators import kubernetes_client as calls
from otel_control_gym.collectors import kubernetes_client as reads
from otel_control_gym.engine.protocols import Endpoints

__all__ = ("Ask", "ask_by_call", "ask_by_read")

Ask = Callable[[Endpoints], Awaitable[dict[str, Any]]]


async def ask_by_call(endpoints: Endpoints) -> dict[str, Any]:
    """Ask for the version as actuators call."""
    async with calls.open_kubernetes(endpoints) as kubernetes:
        return await kubernetes.call("GET", "version", dict)


async def ask_by_read(endpoints: Endpoints) -> dict[str, Any]:
    """Ask for the version as collectors read."""
    async with reads.open_kubernetes(endpoints) as kubernetes, await kubernetes.get("version") as response:
        answer: dict[str, Any] = await response.json()
        return answer
