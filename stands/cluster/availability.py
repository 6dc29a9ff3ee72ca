"""Waiting until a stand's Deployments are as they are wanted, with the reason when they don't become so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio
import msgspec

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.connection import Connection

__all__ = ("Patience", "wait_available")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long is waited for what takes its time, and how often is looked."""

    seconds: float = 600.0
    look_seconds: float = 2.0


async def wait_available(connection: Connection, patience: Patience) -> None:
    """Return when every Deployment of the stand has the pods that it wants, all available, and no others.

    Raises: StandError: that isn't so in time; says of which, and why.
    """
    path = f"apis/apps/v1/namespaces/{connection.endpoints.namespace}/deployments"
    deadline = wall_timer() + patience.seconds
    while True:
        answer = await connection.kubernetes("GET", path)
        if answer.ok:
            waiting = [reason for item in answer.items if (reason := _reason(item))]
            if not waiting:
                return
        else:
            waiting = [f"{path}: {answer.problem}"]
        if wall_timer() > deadline:
            shown = "; ".join(waiting[:5]) + (f"; and {len(waiting) - 5} more" if len(waiting) > 5 else "")
            raise StandError(
                f"after {patience.seconds:g} s the stand isn't available: {shown}\n  `ocg doctor` says why pods hang"
            )
        await anyio.sleep(patience.look_seconds)


def _reason(item: Mapping[str, Any]) -> str:
    """Return why a Deployment isn't as it is wanted; empty: it is."""
    status, wanted, name = item.get("status") or {}, item["spec"].get("replicas", 1), item["metadata"]["name"]
    if status.get("observedGeneration", 0) < item["metadata"]["generation"]:
        return f"{name}: its last change wasn't seen by the controller yet"
    counts = [status.get(key, 0) for key in ("updatedReplicas", "availableReplicas", "replicas")]
    if counts == [wanted] * 3:
        return ""
    return f"{name}: {counts[1]} of {wanted} available, {counts[0]} updated, {counts[2]} in all"
