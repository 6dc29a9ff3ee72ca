"""Scraped series ➜ histories on Coroot's grid, read once per refresh: what everything else here is computed from.

In: the application's Prometheus (span metrics, service graph, kubelet, cluster receiver), the node agent's, and the cluster agent's word.
Out: histories of applications, pods and links.

- The grid is 15 s, or the scrape interval if that is longer. A point shows the newest sample since the point before.
- Growth follows Prometheus: a counter's first sample is no growth (so the first errors of a pod are missed), after a reset the value
  itself is.
- Requests to an application are counted at its own servers, where it has spans; else at its callers. So calls that never reached it
  don't count against it.
- 0.5 s, the latency objective's threshold, isn't a bound of the scraped histograms: the share is interpolated between 0.4 and 0.8 s.

Names of metrics are spelt out here once more, because a Coroot doesn't know who made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import msgspec
import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.coroot.cluster import Cluster
from otel_control_gym.stands.twin.coroot.history import History
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values

__all__ = (
    "ACTIVE",
    "AVAILABLE",
    "CPU",
    "CPU_LIMIT",
    "DESIRED",
    "FAILED",
    "FAILED_CONNECTS",
    "LINK_FAILED",
    "LINK_REQUESTS",
    "LINK_SECONDS",
    "MEMORY",
    "MEMORY_LIMIT",
    "POINT_SECONDS",
    "REQUESTS",
    "RESTARTS",
    "ROUND_TRIP",
    "SLOW",
    "Cache",
    "Link",
    "PodName",
)

POINT_SECONDS = 15
_LONGEST = 6 * 3600 * SECOND  #: the longest window of a burn rate
_HOUR = 3600 * SECOND

# Quantities of an application: requests that came since the last point, and gauges.
REQUESTS, FAILED, SLOW, DESIRED, AVAILABLE = range(5)
# Of a pod.
CPU, CPU_LIMIT, MEMORY, MEMORY_LIMIT, RESTARTS = range(5)
# Of a link: growth since the last point, then gauges.
LINK_REQUESTS, LINK_FAILED, LINK_SECONDS, FAILED_CONNECTS, ACTIVE, ROUND_TRIP = range(6)

Link = tuple[str, str]  #: (caller, callee)
PodName = tuple[str, str]  #: (workload, pod)

_ABOVE_THRESHOLD: Final = 0.75  #: share of the bucket from 0.4 to 0.8 s that is taken to lie above 0.5 s
_SPANS = "traces_span_metrics"
_EDGES = "traces_service_graph_request"
_POD_GAUGES = {
    "k8s_pod_cpu_usage": CPU,
    "k8s_container_cpu_limit": CPU_LIMIT,
    "k8s_pod_memory_working_set_bytes": MEMORY,
    "k8s_container_memory_limit_bytes": MEMORY_LIMIT,
    "k8s_container_restarts": RESTARTS,
}
_LINK_GAUGES = {"container_net_tcp_active_connections": ACTIVE, "container_net_latency_seconds": ROUND_TRIP}

K = TypeVar("K", Link, str)
Labels = Mapping[str, str]


class _Part(msgspec.Struct, Generic[K], frozen=True):
    """What a series tells of a thing: its value (a gauge's) or growth goes, times a weight, into quantities."""

    key: K
    gauge: bool
    weights: dict[int, float]


class Cache:
    """What has been read so far.

    Args:
        telemetry: the application's series.
        agent: the node agent's.
        observe: asks the cluster agent.
        start: the run's first moment [ns]: where the grid begins.
        scrape_seconds: of `telemetry`.
    """

    def __init__(
        self,
        telemetry: TimeSeries,
        agent: TimeSeries,
        observe: Callable[[], Cluster],
        *,
        start: int,
        scrape_seconds: int,
    ) -> None:
        self.step = max(POINT_SECONDS, scrape_seconds) * SECOND  #: between two points [ns]
        self.applications: History[str] = History(5, _LONGEST // self.step)
        self.pods: History[PodName] = History(5, _HOUR // self.step)
        self.links: History[Link] = History(6, _HOUR // self.step)
        self.cluster = observe()
        self.rolling_since: dict[str, int] = {}  #: workload -> when its rollout was first seen [ns]
        self.oom_kills: list[tuple[int, str, str]] = []  #: (when it was seen, workload, pod), in this order
        self.latest = start  #: the newest point [ns]
        self._observe = observe
        self._series = (telemetry, agent)
        self._known_kills: dict[tuple[str, str], None] = {}
        self._applications = _Reader(telemetry, 5, _application_part)
        self._pods = _Reader(telemetry, 5, _pod_part)
        self._links = _Reader(agent, 6, _link_part)

    def update(self, now: int) -> None:
        """Read what came since the last update."""
        scraped = min(series.latest or 0 for series in self._series)
        if times := list(range(self.latest + self.step, min(now, scraped) + 1, self.step)):
            self.applications.append(times, *self._applications.read(times, self.step))
            self.pods.append(times, *self._pods.read(times, self.step))
            self.links.append(times, *self._links.read(times, self.step))
            self.latest = times[-1]
        self._follow_cluster(self.latest)

    def _follow_cluster(self, now: int) -> None:
        """Ask the cluster agent; what it tells is dated with the newest point."""
        self.cluster = self._observe()
        self.rolling_since = {
            workload.name: self.rolling_since.get(workload.name, now)
            for workload in self.cluster.workloads
            if workload.rolling
        }
        for pod in self.cluster.instances:
            kill = (pod.name, pod.oom_killed)
            if pod.oom_killed and kill not in self._known_kills:
                self._known_kills[kill] = None
                self.oom_kills.append((now, pod.workload, pod.name))


class _Reader(Generic[K]):
    """Reads the series that tell of one kind of thing.

    Args:
        series: where they are.
        quantities: how many a thing has.
        describe: tells from a series' labels what it says of which thing, or None.
    """

    def __init__(self, series: TimeSeries, quantities: int, describe: Callable[[Labels], _Part[K] | None]) -> None:
        self._series = series
        self._quantities = quantities
        self._describe: Callable[[Labels], _Part[K] | None] = describe
        self._parts: dict[int, _Part[K]] = {}
        self._declared = self._removals = 0
        self._keys: list[K] = []
        self._numbers: Numbers = np.empty(0, np.int64)
        self._gauges = np.empty(0, np.bool_)
        self._targets: tuple[Numbers, Numbers, Values] = (self._numbers, self._numbers, np.empty(0))

    def read(self, times: Sequence[int], step: int) -> tuple[list[K], Values]:
        """Return the things and their quantities [things, quantities, times] at points that are `step` apart."""
        self._look_for_series()
        window = self._series.window(self._numbers, times[0] - 2 * step, times[-1])
        points = np.array([times[0] - step, *times])
        found = np.full((len(points), len(self._numbers)), np.nan)
        for part in np.unique(window.parts):  # what is scraped together is there, or gone, together
            rows, own = np.flatnonzero(window.parts == part), window.part_of == part
            newest = np.searchsorted(window.times[rows], points, side="right") - 1
            there = newest >= 0
            there[there] = window.times[rows[newest[there]]] > points[there] - step
            found[np.ix_(there, own)] = window.values[np.ix_(rows[newest[there]], own)]
        growth = np.diff(found, axis=0)
        growth = np.where(growth < 0, found[1:], growth)  # after a reset the value itself has grown
        told = np.where(self._gauges, found[1:], growth).T
        series, targets, weights = self._targets
        sums = np.zeros((len(self._keys) * self._quantities, len(times)))
        known = np.zeros(sums.shape, np.bool_)
        np.add.at(sums, targets, np.nan_to_num(told[series]) * weights[:, None])
        np.logical_or.at(known, targets, ~np.isnan(told[series]))
        sums[~known] = np.nan
        return self._keys, sums.reshape(len(self._keys), self._quantities, len(times))

    def _look_for_series(self) -> None:
        labels = self._series.labels
        declared, removals = self._series.declared, self._series.removals
        if (declared, removals) == (self._declared, self._removals):
            return
        if removals != self._removals:
            self._parts = {number: part for number, part in self._parts.items() if number in labels}
        for number in range(self._declared, declared):
            if number in labels and (part := self._describe(labels[number])) is not None:
                self._parts[number] = part
        self._declared, self._removals = declared, removals
        self._keys = list(dict.fromkeys(part.key for part in self._parts.values()))
        rows = {key: row for row, key in enumerate(self._keys)}
        self._numbers = np.array(list(self._parts), np.int64)
        self._gauges = np.array([part.gauge for part in self._parts.values()], np.bool_)
        entries = [
            (position, rows[part.key] * self._quantities + quantity, weight)
            for position, part in enumerate(self._parts.values())
            for quantity, weight in part.weights.items()
        ]
        self._targets = (
            np.array([entry[0] for entry in entries], np.int64),
            np.array([entry[1] for entry in entries], np.int64),
            np.array([entry[2] for entry in entries]),
        )


def _application_part(labels: Labels) -> _Part[str] | None:
    """Return what a series tells of an application: requests at its servers, or else at its callers, and its instances."""
    name = labels["__name__"]
    if name.startswith("k8s_deployment_"):
        quantity = {"k8s_deployment_desired": DESIRED, "k8s_deployment_available": AVAILABLE}.get(name)
        return None if quantity is None else _Part(labels["k8s_deployment_name"], True, {quantity: 1.0})
    if labels.get("span_kind") == "SPAN_KIND_SERVER":
        key, failed = labels["k8s_deployment_name"], labels["status_code"] == "STATUS_CODE_ERROR"
        requests, bucket, bounds = f"{_SPANS}_calls_total", f"{_SPANS}_duration_milliseconds_bucket", ("400", "800")
    elif labels.get("connection_type") == "virtual_node":
        key, failed = labels["server"], labels["failed"] == "true"
        requests, bucket, bounds = f"{_EDGES}_total", f"{_EDGES}_client_seconds_bucket", ("0.4", "0.8")
    else:
        return None
    if name == requests:
        return _Part(key, False, {REQUESTS: 1.0, FAILED: float(failed), SLOW: 1.0})
    if name == bucket and labels["le"] == bounds[0]:
        return _Part(key, False, {SLOW: -_ABOVE_THRESHOLD})
    if name == bucket and labels["le"] == bounds[1]:
        return _Part(key, False, {SLOW: _ABOVE_THRESHOLD - 1.0})
    return None


def _pod_part(labels: Labels) -> _Part[PodName] | None:
    quantity = _POD_GAUGES.get(labels["__name__"])
    if quantity is None:
        return None
    return _Part((labels["k8s_deployment_name"], labels["k8s_pod_name"]), True, {quantity: 1.0})


def _link_part(labels: Labels) -> _Part[Link] | None:
    name = labels["__name__"]
    key = (labels["app_id"].rpartition("/")[2], labels["destination"].rpartition(":")[0])
    if name in _LINK_GAUGES:
        return _Part(key, True, {_LINK_GAUGES[name]: 1.0})
    if name == "container_net_tcp_failed_connects_total":
        return _Part(key, False, {FAILED_CONNECTS: 1.0})
    if name.endswith("_duration_seconds_total_sum"):
        return _Part(key, False, {LINK_SECONDS: 1.0})
    status = labels["status"]
    failed = status == "failed" or status.startswith("5") or (status.startswith("grpc:") and status != "grpc:OK")
    return _Part(key, False, {LINK_REQUESTS: 1.0, LINK_FAILED: float(failed)})
