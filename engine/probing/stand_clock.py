"""The clock by which a probe measures: Prometheus', which stamps the samples.

In: a connection. Out: moments, and waiting for one. By the machine's own clock a window would hold samples of another one; and a twin that
is served faster than we live has a Prometheus that is as fast.
"""

from __future__ import annotations

import anyio

from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.cluster.clock_offset import prometheus_time
from otel_control_gym.stands.cluster.connection import Connection

__all__ = ("PAUSE_SECONDS", "StandClock")

PAUSE_SECONDS = 1.0


class StandClock:
    """Asks Prometheus for its time; `pause_seconds` of ours lie between two looks of whoever waits."""

    def __init__(self, connection: Connection, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._connection = connection
        self._pause_seconds = pause_seconds

    async def now(self) -> int:
        """Return the stand's time [ns].

        Raises: StandError: nobody tells it.
        """
        found, answer = await prometheus_time(self._connection)
        if found is None:
            raise StandError(f"Prometheus doesn't tell its time any more: {answer.problem or answer.body}")
        return found

    async def pause(self) -> None:
        """Wait until it is worth looking again."""
        await anyio.sleep(self._pause_seconds)
