"""Time: episode time in integer nanoseconds since the Unix epoch, and the only module that reads the machine's clock.

In: a wish to know or to wait for a moment. Out: a moment. On the twin the clock is virtual, and, if paced, the wall clock only
delays; on a cluster episode time *is* the wall clock. Run ids are made here too, because they hold the wall time of their making.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import anyio

__all__ = ("SECOND", "Pace", "PacedClock", "date_time", "new_run_id", "rfc3339", "seconds", "wall_now", "wall_timer")

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
    return f"{date_time(whole)}.{rest // 1000:06d}Z"


@lru_cache(maxsize=1 << 10)
def date_time(second: int) -> str:
    """Return a second of episode time as `2026-01-05T00:00:30`, in UTC; while a clock stands still it is asked for many times."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


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


class PacedClock:
    """A virtual clock that runs along with the wall clock, `factor` × as fast: what time a world in wall-clock time should have come to.

    `Pace` holds a fast world back; this one says how far a world has to go, and what becomes of a world that is too slow: it concedes what
    it can't make up, so that its debt doesn't grow without bound.

    Args:
        start: what it shows first [ns].
        factor: nanoseconds per nanosecond of the wall clock, above 0.
        timer: a monotonic time in seconds.
    """

    def __init__(self, start: int, factor: float, timer: Callable[[], float] = wall_timer) -> None:
        self.factor = factor
        self.conceded = 0  #: nanoseconds of this clock that were given up so far
        self._timer = timer
        self._start, self._began = start, timer()

    @property
    def now(self) -> int:
        """What the clock shows [ns]."""
        return self._start + round((self._timer() - self._began) * SECOND * self.factor)

    def concede(self, reached: int) -> None:
        """Go on from `reached`, which lies behind: the time in between is never lived through."""
        now = self.now
        self.conceded += now - reached
        self._start -= now - reached
