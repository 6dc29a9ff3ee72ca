"""Measuring a stand's band, and waiting until it lies in it for a minute: both in windows of the stand's own time.

In: a connection to a stand under its first load. Out: a `Band`, or the levels at which the stand was in it.
"""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.errors import StandError
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.cluster.availability import Patience
from otel_control_gym.stands.cluster.band import CALIBRATION_WINDOWS, WINDOW_SECONDS, Band, calibrated
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.service_levels import EntryMeter, Level, Reading, level_between
from otel_control_gym.stands.cluster.stand_time import wait_until

__all__ = ("measured_band", "wait_in_band")


async def measured_band(connection: Connection, config: RunConfig, patience: Patience) -> Band:
    """Look at a stand for nine windows, after one in which its users settle, and return its band.

    Raises: StandError: nothing is measured there, or so much fails that this is no state to come back to.
    """
    windows = _Windows(connection, config, patience)
    await windows.next()
    levels = [await windows.next() for _ in range(CALIBRATION_WINDOWS)]
    try:
        return calibrated(levels, rfc3339(windows.end))
    except ValueError as error:
        raise StandError(
            f"what error rate and latency are normal for {windows.service} can't be measured: {error}\n"
            "  `ocg doctor` says what is wrong"
        ) from error


async def wait_in_band(
    connection: Connection, config: RunConfig, band: Band, hold_seconds: float, patience: Patience
) -> tuple[Level, ...]:
    """Return the levels of as many windows in a row as fill `hold_seconds`, all of them in the band.

    Raises: StandError: they haven't begun within the patience, in the stand's time; says what was seen last.
    """
    limit = patience.seconds + hold_seconds
    windows = _Windows(connection, config, patience)
    inside: list[Level] = []
    missing, looked, seen = hold_seconds, 0, ""
    while looked * WINDOW_SECONDS + missing <= limit:
        level = await windows.next()
        looked += 1
        refusal = band.refusal(level)
        inside = [] if refusal else [*inside, level]
        seen = refusal or seen
        missing = hold_seconds - len(inside) * WINDOW_SECONDS
        if missing <= 0:
            return tuple(inside)
    raise StandError(
        f"within {limit:g} s of the stand's time {windows.service} wasn't in its band for {hold_seconds:g} s: {seen}\n"
        f"  the band: {band}; if the stand was changed on purpose, `ocg stand reset --adopt` measures it anew"
    )


class _Windows:
    """Windows one after the other, from the first question on."""

    def __init__(self, connection: Connection, config: RunConfig, patience: Patience) -> None:
        self._connection, self._look_seconds = connection, patience.look_seconds
        self._meter = EntryMeter(connection, config)
        self._before: Reading | None = None
        self.service = self._meter.service
        self.end = 0  #: of the last one, by the stand's clock [ns]

    async def next(self) -> Level:
        """Wait until the next one is over, and return its level."""
        if self._before is None:
            self.end = await wait_until(self._connection, look_seconds=self._look_seconds)
            self._before = await self._meter.read(self.end)
        self.end += WINDOW_SECONDS * SECOND
        await wait_until(self._connection, self.end, look_seconds=self._look_seconds)
        after = await self._meter.read(self.end)
        level = level_between(self._before, after)
        self._before = after
        return level
