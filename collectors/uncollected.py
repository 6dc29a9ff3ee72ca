"""Spans and logs that nobody can push to us: a source that says so, instead of one that is silently empty.

In: barriers. Out: a `CollectorGap` per step and source. So the tables' coverage of spans and logs is 0, and the metadata says why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio.lowlevel

from otel_control_gym.collectors.gaps import Gaps
from otel_control_gym.engine.events import Event
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import RunSettings

__all__ = ("Uncollected",)

_REASON = "not collected: no address is named to which the stand could send them"


class Uncollected:
    """Stands among the collectors where a receiver would."""

    source = "spans"
    endpoint = ""  #: nowhere

    def __init__(self) -> None:
        self._gaps: tuple[Gaps, ...] = ()

    def know(self, settings: RunSettings, *, since: int = 0) -> None:
        """Nothing is received, so nothing has to be understood."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """Do nothing."""
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        await anyio.lowlevel.checkpoint()
        yield

    async def drain(self, barrier: Barrier) -> None:
        """Note what is missing up to the barrier; the first one is the run's first moment."""
        await anyio.lowlevel.checkpoint()
        if not self._gaps:
            self._gaps = tuple(Gaps(source, barrier.time) for source in ("spans", "logs"))
        for gaps in self._gaps:
            if gaps.since < barrier.time:
                gaps.read_up_to(barrier.time, _REASON)

    def flush(self, now: int) -> Sequence[tuple[Event, bool]]:
        """Return the gaps."""
        return [(gap, False) for gaps in self._gaps for gap in gaps.flush(now)]

    def newest(self) -> Mapping[str, int]:
        """Nothing was told."""
        return {}
