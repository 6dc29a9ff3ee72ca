"""The application's map as an eBPF agent sees it: who has talked to whom in the past minute, how often, and whether connections failed.

In: the kernel's edge counters, once per minute of the run. Out: one `Link` per declared edge.

Coroot refreshes its cache once per minute, so between two readings its answers stand still. Its edges know nothing of failed requests:
`critical` means that connections were refused (nobody listened) at the last point, `unknown` that there was no traffic.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import ATTEMPTED, REFUSED

__all__ = ("REFRESH_SECONDS", "Link", "ServiceMap")

REFRESH_SECONDS = 60


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """Traffic of an edge in the last minute."""

    source: str
    target: str
    status: Literal["unknown", "ok", "critical"]
    requests_per_second: float
    failed_per_second: float
    latency_ms: float  #: mean as the caller sees it


class ServiceMap:
    """Readings of one run's edges."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._time = simulation.now
        self._reading = self._read()
        self._links: tuple[Link, ...] = self._compare(self._reading, 0.0)

    @property
    def links(self) -> tuple[Link, ...]:
        """Return all declared edges, as of the last reading."""
        return self._links

    def refresh(self) -> None:
        """Take a reading and compare it with the one before."""
        before, now = self._reading, self._simulation.now
        self._links, self._reading = self._compare(before, (now - self._time) / SECOND), self._read()
        self._time = now

    def _read(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Return [edges, 5]: attempted, refused, finished, failed, seconds."""
        simulation = self._simulation
        finished = simulation.edge_buckets[:, :, 0].sum(axis=2)
        return np.column_stack(
            [
                simulation.edge_counts[:, ATTEMPTED],
                simulation.edge_counts[:, REFUSED],
                finished.sum(axis=1),
                finished[:, 1],
                simulation.edge_seconds[:, :, 0].sum(axis=1),
            ]
        ).astype(np.float64)

    def _compare(self, before: np.ndarray[tuple[int, int], np.dtype[np.float64]], elapsed: float) -> tuple[Link, ...]:
        growth = self._read() - before
        links = []
        for (source, target, _), (attempted, refused, finished, failed, seconds) in zip(
            self._simulation.names.edges, growth.tolist(), strict=True
        ):
            links.append(
                Link(
                    source=source,
                    target=target,
                    status="critical" if refused else "ok" if attempted else "unknown",
                    requests_per_second=finished / elapsed if elapsed else 0.0,
                    failed_per_second=failed / elapsed if elapsed else 0.0,
                    latency_ms=seconds / finished * 1000 if finished else 0.0,
                )
            )
        return tuple(links)
