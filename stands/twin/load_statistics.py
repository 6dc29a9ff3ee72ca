"""The load generator's own books: what Locust would show of the users' requests.

In: the kernel's counters. Out: totals since the last reset, per request and together, with rates over the last ten seconds.

Locust keeps every response time rounded to some digits; the kernel keeps a histogram. So percentiles, smallest and largest times are
read off the histogram's bounds here (linear within a bucket), while counts, failures and means are exact.
"""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.recording import BOUNDS_MS
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.state import CLIENT

__all__ = ("LoadStatistics", "RequestStatistics")

_RATE_WINDOW = 10 * SECOND
_EDGES_MS = np.array([0, *BOUNDS_MS, BOUNDS_MS[-1]], np.float64)


class RequestStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """One line of Locust's table; times in milliseconds."""

    method: str
    name: str
    requests: int
    failures: int
    total_ms: float
    buckets: npt.NDArray[np.int64]  #: [17] by duration, failures included
    seconds: float  #: since the last reset
    current_rps: float
    current_failures_per_s: float
    content_length: float

    def percentile(self, share: float) -> float:
        """Return the response time that a share of the requests stays below."""
        if not self.requests:
            return 0.0
        reached = np.cumsum(self.buckets)
        bucket = int(np.searchsorted(reached, share * self.requests))
        before = int(reached[bucket - 1]) if bucket else 0
        within = (share * self.requests - before) / int(self.buckets[bucket])
        low, high = _EDGES_MS[bucket], _EDGES_MS[bucket + 1]
        return float(low + within * (high - low))

    @property
    def smallest_ms(self) -> float:
        """Return the lower bound of the first bucket that holds a request."""
        return float(_EDGES_MS[np.flatnonzero(self.buckets)[0]]) if self.requests else 0.0

    @property
    def largest_ms(self) -> float:
        """Return the upper bound of the last bucket that holds a request."""
        return float(_EDGES_MS[np.flatnonzero(self.buckets)[-1] + 1]) if self.requests else 0.0


class _Reading(msgspec.Struct, frozen=True):
    time: int
    buckets: npt.NDArray[np.int64]  #: [requests, 2 (ok, failed), 17]
    total_ms: npt.NDArray[np.float64]  #: [requests, 2]


class LoadStatistics:
    """Books of one run; `observe` now and then, so that there is a past to compute rates from."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        names = simulation.names
        self._operations = list(names.called[names.load_service])
        self._rows: dict[int, int] = {}  # row of the kernel's spans -> place of its operation
        self._seen = 0  # rows that were looked at
        self._base = self._read()
        self._past: deque[_Reading] = deque([self._base])

    def observe(self) -> None:
        """Note the counters as they are now."""
        self._past.append(self._read())
        while len(self._past) > 1 and self._past[1].time <= self._simulation.now - _RATE_WINDOW:
            self._past.popleft()

    def reset(self) -> None:
        """Count from now on."""
        self._base = self._read()

    def lines(self) -> tuple[list[RequestStatistics], RequestStatistics]:
        """Return a line per request that was ever made, and the line of all together."""
        now, names, config = self._read(), self._simulation.names, self._simulation.config
        lines: list[RequestStatistics] = []
        for row, operation in enumerate(self._operations):
            service, name = names.operations[operation]
            method, _, path = name.partition(" ")
            length = float(config.services[service].operations[name].response_bytes)
            line = self._line(now, [row], method if path else "GET", path or name, length)
            if line.requests:
                lines.append(line)
        everything = list(range(len(self._operations)))
        requests = sum(line.requests for line in lines)
        length = sum(line.requests * line.content_length for line in lines) / requests if requests else 0.0
        return lines, self._line(now, everything, "", "Aggregated", length)

    def _line(self, now: _Reading, rows: list[int], method: str, name: str, length: float) -> RequestStatistics:
        buckets = (now.buckets - self._base.buckets)[rows].sum(axis=0)
        recent = (now.buckets - self._past[0].buckets)[rows].sum(axis=(0, 2))
        elapsed = (now.time - self._past[0].time) / SECOND
        return RequestStatistics(
            method=method,
            name=name,
            requests=int(buckets.sum()),
            failures=int(buckets[1].sum()),
            total_ms=float((now.total_ms - self._base.total_ms)[rows].sum()),
            buckets=buckets.sum(axis=0),
            seconds=(now.time - self._base.time) / SECOND,
            current_rps=float(recent.sum()) / elapsed if elapsed else 0.0,
            current_failures_per_s=float(recent[1]) / elapsed if elapsed else 0.0,
            content_length=length,
        )

    def _read(self) -> _Reading:
        simulation = self._simulation
        names, rows = simulation.names, simulation.span_rows
        service = names.services[names.load_service]
        for row in range(self._seen, len(rows)):  # rows are only ever added
            if rows[row].kind == CLIENT and simulation.slots[rows[row].slot] == service:
                self._rows[row] = self._operations.index(rows[row].operation)
        self._seen = len(rows)
        own, places = list(self._rows), list(self._rows.values())
        buckets = np.zeros((len(self._operations), 2, len(BOUNDS_MS) + 1), np.int64)
        total = np.zeros((len(self._operations), 2))
        np.add.at(buckets, places, simulation.span_buckets[own])
        np.add.at(total, places, simulation.span_ms[own])
        return _Reading(simulation.now, buckets, total)
