"""The worker processes of a campaign that is played here: one on an embedded twin each, or one for each cluster.

In: a campaign's name, what its workers play on. Out: processes that are replaced when they die, and that end with whoever started them. A
worker of a cluster that gave its stand up isn't replaced.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL

import anyio
import anyio.abc

from otel_control_gym.engine.campaigns.worker_process import GIVEN_UP
from otel_control_gym.engine.cluster_access import ClusterAccess, packed

__all__ = ("Crew", "opened_crew")

_ENDING_SECONDS = 60.0  #: that workers have to end what they are at


class Crew:
    """Worker processes of this process."""

    def __init__(self, campaign: str, data_dir: Path, nats: str | None, places: Sequence[ClusterAccess | None]) -> None:
        self._command = [sys.executable, "-P", "-m", "otel_control_gym.engine.campaigns.worker_process", campaign]
        self._command += [str(data_dir), nats or "", str(os.getpid())]
        self._places = list(places)
        self.processes: list[anyio.abc.Process | None] = [None] * len(places)

    async def replace_dead(self) -> None:
        """Start a worker wherever there is none, but for stands that were given up."""
        for number, process in enumerate(self.processes):
            if process is None or process.returncode not in (None, GIVEN_UP):
                self.processes[number] = await self._start(self._places[number])

    @property
    def is_spent(self) -> bool:
        """Whether all stands were given up, so that nothing more is played here."""
        codes = [None if process is None else process.returncode for process in self.processes]
        return bool(codes) and all(code == GIVEN_UP for code in codes)

    async def _start(self, place: ClusterAccess | None) -> anyio.abc.Process:
        command = [*self._command, "" if place is None else packed(place)]
        return await anyio.open_process(command, stdin=DEVNULL, stdout=DEVNULL, stderr=None, start_new_session=True)

    async def end(self) -> None:
        """Tell all workers to end, and wait for them."""
        running = [process for process in self.processes if process is not None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in running:
            with anyio.move_on_after(_ENDING_SECONDS) as patience:
                await process.wait()
            if patience.cancelled_caught:
                process.kill()
            await process.aclose()


@asynccontextmanager
async def opened_crew(
    campaign: str, data_dir: Path, nats: str | None, places: Sequence[ClusterAccess | None]
) -> AsyncIterator[Crew]:
    """Yield a crew with a worker for each place (None: an embedded twin); on exit its processes are told to end, and awaited."""
    crew = Crew(campaign, data_dir, nats, places)
    try:
        yield crew
    finally:
        with anyio.CancelScope(shield=True):
            await crew.end()
