"""What can be read of a simulation: counters as plain arrays, at the present moment.

In: rows of `state`. Out: frozen records of numpy arrays; reading changes nothing. Downstream: `telemetry`.

A pod is settled only when something happens to it. What it did since then follows from its rates, and is added here to what is settled,
without touching it: a run must not depend on how often somebody looked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.processor import PERIOD
from otel_control_gym.stands.twin.state import (
    ATTEMPTED,
    ATTEMPTS,
    ERROR,
    LOST,
    OK,
    REFUSED,
    STOPPED,
    TIMED_OUT,
    State,
)
from otel_control_gym.stands.twin.topology import Table

__all__ = (
    "Ending",
    "LoadCounters",
    "PodCounters",
    "SpanRow",
    "Statistics",
    "read_ending",
    "read_load",
    "read_only",
    "read_pods",
)

_SECOND: Final = 1e9


class SpanRow(msgspec.Struct, frozen=True, kw_only=True):
    """Whose spans a row of `span_counts` counts."""

    slot: int
    kind: int  #: `state.SERVER`, `CLIENT` or `INTERNAL`
    operation: int  #: row of `names.operations` (served, or called); INTERNAL: row of `names.flows`


class PodCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Counters and gauges of pods at `now`, one entry a slot [slots]."""

    cpu_seconds: npt.NDArray[np.float64]  #: stress included
    stress_seconds: npt.NDArray[np.float64]  #: of these, by stress threads
    cfs_periods: npt.NDArray[np.int64]  #: only of pods with a limit
    cfs_throttled_periods: npt.NDArray[np.int64]
    cfs_throttled_seconds: npt.NDArray[np.float64]
    cpu_limit_cores: npt.NDArray[np.float64]  #: 0: none
    rx_bytes: npt.NDArray[np.int64]
    tx_bytes: npt.NDArray[np.int64]
    memory_bytes: npt.NDArray[np.int64]  #: gauge; 0 once the pod is stopped
    in_flight: npt.NDArray[np.int64]  #: gauge: requests at the pod, queued ones included
    queued: npt.NDArray[np.int64]  #: gauge: requests that wait for a worker
    served: npt.NDArray[np.int64]  #: requests answered


class LoadCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What the users asked for and got, since the start."""

    users_target: int
    users_active: int  #: sessions in being: those that think, wait, or finish their last task
    scheduled: int  #: requests sent to the entry service
    served: int  #: answered without error
    failed: int  #: answered with an error, refused, lost or given up
    response_ms: float  #: sum over served and failed
    response_buckets: npt.NDArray[np.int64]  #: [17], not cumulative, bounds `recording.BOUNDS_MS`
    tasks_started: npt.NDArray[np.int64]  #: [flows]
    tasks_finished: npt.NDArray[np.int64]  #: [flows]


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A way in which calls over an edge ended."""

    edge: int
    row: int  #: where `ending_buckets` and `ending_seconds` have them
    failed: bool
    status: int  #: see `statuses`
    attempt: int  #: 0: the call's first


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """How much the kernel did and holds."""

    now: int
    hops: int  #: calls started
    events: int
    hops_in_flight: int
    sessions: int
    spans_seen: int  #: ends of hops and tasks of instrumented pods, sampled or not
    error_spans_seen: int
    bytes: int  #: size of the state


def read_pods(pods: Table, now: int, memory: npt.NDArray[np.int64]) -> PodCounters:
    """Return the counters of pods, what is in progress included."""
    elapsed = now - pods["last"]
    working = np.where(pods["throttled"] == 0, elapsed, 0)
    started = (pods["last"] + pods["phase"]) // PERIOD
    final = (now + pods["phase"] - 1) // PERIOD
    counting = (pods["limit"] > 0) & (working > 0) & (pods["demand"] > 0)
    periods = np.where(counting, final - np.maximum(started - 1, pods["last_period"]), 0)
    return PodCounters(
        cpu_seconds=(pods["cpu_ns"] + pods["demand"] * working) / _SECOND,
        stress_seconds=(pods["stress_ns"] + pods["stress_demand"] * working) / _SECOND,
        cfs_periods=pods["periods"] + periods,
        cfs_throttled_periods=pods["throttled_periods"].copy(),
        cfs_throttled_seconds=(pods["throttled_ns"] + elapsed - working) / _SECOND,
        cpu_limit_cores=pods["limit"].copy(),
        rx_bytes=pods["rx_bytes"].copy(),
        tx_bytes=pods["tx_bytes"].copy(),
        memory_bytes=np.where(pods["life"] == STOPPED, 0, memory),
        in_flight=pods["in_flight"].copy(),
        queued=pods["queued"].copy(),
        served=pods["served"].copy(),
    )


def read_ending(code: int, *, edge: int, row: int, statuses: Sequence[int]) -> Ending:
    """Return what a number of `State.endings` says."""
    rest, attempt = divmod(code - 1, ATTEMPTS)
    failed, column = divmod(rest, len(statuses))
    return Ending(edge=edge, row=row, failed=bool(failed), status=statuses[column], attempt=attempt)


def read_load(state: State, entry: Sequence[int]) -> LoadCounters:
    """Return what the users asked for and got, over the edges that start at the load generator."""
    world = state.world[0]
    counts = state.edge_counts[entry].sum(axis=0)
    return LoadCounters(
        users_target=int(world["users_target"]),
        users_active=int(world["sessions_used"]),
        scheduled=int(counts[ATTEMPTED]),
        served=int(counts[OK]),
        failed=int(counts[ERROR] + counts[REFUSED] + counts[LOST] + counts[TIMED_OUT]),
        response_ms=float(state.edge_sums_ns[entry, :, 0].sum() / 1e6),
        response_buckets=state.edge_buckets[entry, :, 0].sum(axis=(0, 1)),
        tasks_started=state.flow_tasks[:, 0].copy(),
        tasks_finished=state.flow_tasks[:, 1].copy(),
    )


def read_only(array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return a view that can't be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
