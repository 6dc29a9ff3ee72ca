"""How far the stand's clock is from ours: what is measured there is stamped there, and put into rows by our time.

In: a connection. Out: an offset with its uncertainty. Prometheus tells its time to the millisecond, and stamps what it scrapes. Where it
doesn't answer the API server's `Date` has whole seconds: enough to see that something is wrong, not to correct by.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from otel_control_gym.engine.clock import SECOND, wall_now
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.services import PROMETHEUS

__all__ = ("ClockOffset", "measured_offset", "prometheus_offset", "prometheus_time", "server_offset")


class ClockOffset(msgspec.Struct, frozen=True, kw_only=True):
    """What the other clock shows less what ours does [s], give or take `slack_seconds`."""

    whose: str
    seconds: float
    slack_seconds: float

    def __str__(self) -> str:
        direction = "ahead of" if self.seconds > 0 else "behind"
        return f"{self.whose} is {abs(self.seconds):.3f} s {direction} ours, give or take {self.slack_seconds:.3f} s"

    def exceeds(self, bucket_seconds: float) -> bool:
        """Return whether it is so large that samples would be in the wrong rows: more than half a bucket."""
        return abs(self.seconds) > bucket_seconds / 2 + self.slack_seconds


async def measured_offset(connection: Connection) -> ClockOffset | None:
    """Compare the clocks; None: nobody tells the stand's time."""
    return await prometheus_offset(connection) or await server_offset(connection)


async def prometheus_offset(connection: Connection) -> ClockOffset | None:
    """Compare Prometheus' clock with ours; None: it tells no time."""
    before = wall_now()
    now, _ = await prometheus_time(connection)
    return None if now is None else _offset("Prometheus'", now, before, wall_now())


async def server_offset(connection: Connection) -> ClockOffset | None:
    """Compare the API server's clock with ours, to a second; None: it tells no time."""
    before = wall_now()
    head = (await connection.kubernetes("GET", "version")).date
    if not head:
        return None
    now = round(parsedate_to_datetime(head).replace(tzinfo=UTC).timestamp()) * SECOND
    return _offset("the API server's", now, before, wall_now(), coarse=1.0)


def _offset(whose: str, now: int, before: int, after: int, *, coarse: float = 0.0) -> ClockOffset:
    return ClockOffset(
        whose=whose,
        seconds=(now - (before + after) // 2) / SECOND,
        slack_seconds=(after - before) / 2 / SECOND + coarse,
    )


async def prometheus_time(connection: Connection) -> tuple[int | None, Answer]:
    """Return what Prometheus' clock shows [ns], and its answer; None: it tells no time."""
    url = connection.endpoints.prometheus
    answer = await connection.service(url, PROMETHEUS, "api/v1/query", query={"query": "time()"})
    return _told(answer), answer


def _told(answer: Answer) -> int | None:
    result = answer.find("data", "result")
    if not answer.ok or not isinstance(result, list) or len(result) != 2:
        return None
    try:
        return round(float(result[1]) * SECOND)
    except (TypeError, ValueError):
        return None
