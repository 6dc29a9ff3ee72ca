"""What the stand's own clock shows, and waiting by it: a served twin at another pace is waited for in its time, not in ours.

In: a connection. Out: moments of Prometheus' clock, by which everything that is measured there is stamped.
"""

from __future__ import annotations

import anyio

from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.clock_offset import prometheus_time
from otel_control_gym.stands.cluster.connection import Connection

__all__ = ("wait_until",)

_STILL_SECONDS = 60.0  #: of ours, in which the stand's clock has to move


async def wait_until(connection: Connection, moment: int = 0, *, look_seconds: float) -> int:
    """Return what the stand's clock shows [ns], once that is `moment` or more; 0: now. It is looked at every `look_seconds`.

    Raises: StandError: nobody tells the stand's time, or it stands still, for a minute.
    """
    newest, moved = -1, wall_timer()
    while True:
        now, answer = await prometheus_time(connection)
        if now is not None and now >= moment:
            return now
        if now is not None and now > newest:
            newest, moved = now, wall_timer()
        elif wall_timer() - moved > _STILL_SECONDS:
            problem = answer.problem or "its clock stands still"
            url = connection.endpoints.prometheus
            raise StandError(f"{url}: Prometheus hasn't told the stand's time for {_STILL_SECONDS:g} s: {problem}")
        await anyio.sleep(look_seconds)
