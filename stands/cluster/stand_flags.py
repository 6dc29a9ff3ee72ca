"""Feature flags of a stand as they are wanted: read from flagd-ui, restored there, and evaluated by flagd.

flagd-ui answers before it writes, so what counts is what flagd evaluates afterwards. It replaces the whole document, so that is read right
before.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.services import FLAGD_UI

__all__ = ("read_flags", "restore_flags")

_PREFIXES = ("feature/", "")  #: behind the demo's proxy, and on flagd-ui's own Service
_NOT_FOUND = 404


async def read_flags(connection: Connection) -> dict[str, str]:
    """Return the default variant of each flag; nothing, where no flags can be read (the interventions on flags are rejected then)."""
    _, answer = await _document(connection)
    flags = answer.find("flags")
    return {} if not isinstance(flags, dict) else {name: str(flag["defaultVariant"]) for name, flag in flags.items()}


async def restore_flags(connection: Connection, wanted: Mapping[str, str], patience: Patience) -> list[str]:
    """Write flags that aren't as they are wanted, and wait until flagd says so; return which.

    Raises: StandError: they can't be read or written any more.
    """
    if not wanted:
        return []
    prefix, answer = await _document(connection)
    flags = answer.find("flags")
    if not answer.ok or not isinstance(flags, dict):
        raise StandError(
            f"{connection.endpoints.flagd}: flags can't be read: {answer.problem}\n  --flagd URL names another"
        )
    changed = [name for name, flag in flags.items() if name in wanted and flag["defaultVariant"] != wanted[name]]
    if not changed:
        return []
    assert isinstance(answer.body, dict)
    restored = {
        name: {**flag, "defaultVariant": wanted.get(name, flag["defaultVariant"])} for name, flag in flags.items()
    }
    document = {**answer.body, "flags": restored}
    written = await connection.post(f"{connection.endpoints.flagd}/{prefix}api/write", body={"data": document})
    if not written.ok:
        raise StandError(f"{connection.endpoints.flagd}: flags can't be written: {written.problem}")
    deadline = wall_timer() + patience.seconds
    while left := [name for name in changed if await _evaluated(connection, name) != wanted[name]]:
        if wall_timer() > deadline:
            raise StandError(
                f"after {patience.seconds:g} s flagd doesn't evaluate {', '.join(left)} as they are wanted"
            )
        await anyio.sleep(patience.look_seconds)
    return [f"flag {name}" for name in changed]


async def _document(connection: Connection) -> tuple[str, Answer]:
    for prefix in _PREFIXES:
        answer = await connection.service(connection.endpoints.flagd, FLAGD_UI, f"{prefix}api/read")
        if answer.status != _NOT_FOUND:
            break
    return prefix, answer


async def _evaluated(connection: Connection, flag: str) -> str:
    base = connection.endpoints.flagd_evaluation or connection.endpoints.flagd
    return (await connection.post(f"{base}/ofrep/v1/evaluate/flags/{flag}", body={"context": {}})).text("variant")
