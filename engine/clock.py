"""Time: episode time in integer nanoseconds since the Unix epoch, and the only module that reads the machine's clock.

In: a wish to know or to wait for a moment. Out: a moment. On the twin the clock is virtual, and, if paced, the wall clock only
delays; on a cluster episode time *is* the wall clock. Run ids are made here too, because they hold the wall time of their making.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

import anyio

__all__ = ("SECOND", "Pace", "new_run_id", "rfc3339", "seconds", "wall_now", "wall_timer")

SECOND = 1_000_000_000  #: nanoseconds
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def wall_now() -> int:
    """Return the machine's time in nanoseconds since the epoch."""
    return time.time_ns()


def wall_timer() -> float:
    """Return a monotonic time in seconds, for measuring how long something took."""
    return time.perf_counter()


def seconds(value: float) -> int:
    """Return a number of seconds in nanoseconds, rounded to the microsecond."""
    return round(value * 1_000_000) * 1_000


def rfc3339(moment: int) -> str:
    """Return an episode time as RFC 3339 in UTC with microseconds, e.g. `2026-01-05T00:00:30.000000Z`."""
    whole, rest = divmod(moment, SECOND)
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest // 1000:06d}Z"


def new_run_id() -> str:
    """Return a new time-ordered id: 48 bits of milliseconds and 80 random bits in Crockford's base 32 (the layout of a ULID)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))


class Pace:
    """Holds a virtual clock back to `factor` × real time; with factor 0 it never waits.

    `wait_for(moment)` returns when the wall clock has come as far from the first call as `moment` is from the first moment.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._origin: tuple[int, float] | None = None

    async def wait_for(self, moment: int) -> None:
        """Wait until the wall clock allows episode time to be `moment` [ns]."""
        if self.factor <= 0:
            return
        if self._origin is None:
            self._origin = (moment, time.perf_counter())
        first, began = self._origin
        wait = began + (moment - first) / SECOND / self.factor - time.perf_counter()
        if wait > 0:
            await anyio.sleep(wait)
