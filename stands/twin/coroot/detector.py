"""The whole detector as it runs beside an application: refreshed once a minute, standing still in between.

In: the application's series, the node agent's, the cluster agent; then `refresh` on the run's grid. Out: links, inspections, incidents and
alerts as of the last refresh. It is given nothing else, so it can be wrong: late, blind to what is small or short, blaming the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.alerts import AlertBook
from otel_control_gym.stands.twin.coroot.cache import LINK_FAILED, LINK_REQUESTS, LINK_SECONDS, Cache
from otel_control_gym.stands.twin.coroot.cluster import Cluster
from otel_control_gym.stands.twin.coroot.incidents import IncidentBook
from otel_control_gym.stands.twin.coroot.inspections import Inspection, inspect, link_states
from otel_control_gym.stands.twin.time_series import TimeSeries

__all__ = ("REFRESH_SECONDS", "WINDOW_SECONDS", "Detector", "LinkState")

REFRESH_SECONDS = 60  #: cache and watchers run no more often, whatever the scrape interval is
WINDOW_SECONDS = 3600  #: of an inspection, unless a window is asked for
_LONGEST_SECONDS = 6 * 3600


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls whom, at the newest point."""

    source: str
    target: str
    status: Literal["unknown", "ok", "info", "warning", "critical"]
    reason: str
    requests_per_second: float
    failed_per_second: float
    latency_ms: float  #: mean as the caller sees it


class Detector:
    """One project of a Coroot.

    Args:
        telemetry: the application's series, as scraped.
        agent: the node agent's.
        observe: asks the cluster agent.
        start: the run's first moment [ns].
        scrape_seconds: of `telemetry`.
        seed: decides keys and ids.
    """

    def __init__(
        self,
        telemetry: TimeSeries,
        agent: TimeSeries,
        observe: Callable[[], Cluster],
        *,
        start: int,
        scrape_seconds: int,
        seed: int,
    ) -> None:
        self.cache = Cache(telemetry, agent, observe, start=start, scrape_seconds=scrape_seconds)
        self.incidents = IncidentBook(seed)
        self.alerts = AlertBook(seed)
        self.refreshed = start  #: [ns]
        self.inspections: dict[str, Inspection] = {}
        self.links: tuple[LinkState, ...] = ()
        self._take_stock()

    def refresh(self, now: int) -> None:
        """Read what is new, and judge."""
        self.cache.update(now)
        self.refreshed = now
        cache = self.cache
        applications = cache.applications.view(cache.latest - _LONGEST_SECONDS * SECOND, cache.latest)
        existing = [workload.name for workload in cache.cluster.workloads]
        self.incidents.update(now, applications, cache.step, existing)
        self._take_stock()
        self.alerts.update(now, self.inspections)

    def inspect(self, start: int, end: int) -> dict[str, Inspection]:
        """Return the inspections over another window [ns] than the last hour, as far as the cache reaches."""
        return inspect(self.cache, self.incidents.open, start, min(end, self.cache.latest))

    def _take_stock(self) -> None:
        latest = self.cache.latest
        self.inspections = self.inspect(latest - WINDOW_SECONDS * SECOND, latest)
        self.links = self._read_links()

    def _read_links(self) -> tuple[LinkState, ...]:
        cache = self.cache
        view = cache.links.view(cache.latest - WINDOW_SECONDS * SECOND, cache.latest)
        seconds = cache.step / SECOND
        found = []
        states = link_states(view, cache.cluster)
        for row, ((source, target), (status, reason)) in enumerate(zip(view.keys, states, strict=True)):
            last = view.values[row, :, -1] if len(view.times) else [0.0] * 6
            requests, failed, spent = (
                max(float(last[quantity]), 0.0) for quantity in (LINK_REQUESTS, LINK_FAILED, LINK_SECONDS)
            )
            found.append(
                LinkState(
                    source=source,
                    target=target,
                    status=status,
                    reason=reason,
                    requests_per_second=requests / seconds,
                    failed_per_second=failed / seconds,
                    latency_ms=spent / requests * 1000 if requests else 0.0,
                )
            )
        return tuple(found)
