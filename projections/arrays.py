"""A state ➜ the numbers and rows of one observation.

In: a state, the moment of the observation, window and bucket. Out: `ObservationArrays`: the last window / bucket whole buckets before the
moment, always as many; those before the run's start are masked. `engine.observation` adds what isn't a fold of the log's telemetry.

Every number is computed by `projections.features`, as the tables' are: the observation is the table's cells, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.events import Finding, GraphObserved, KubernetesEvent
from otel_control_gym.projections.demand import demand
from otel_control_gym.projections.features import edge_features, node_features
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.happenings import Happening, happenings
from otel_control_gym.projections.log_patterns import LogPattern
from otel_control_gym.projections.schemas import EDGE_NUMBERS, NODE_NUMBERS
from otel_control_gym.projections.trace_summaries import TraceSummary

__all__ = ("ObservationArrays", "observation_arrays")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


class ObservationArrays(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What the public log says about a window of T buckets, N nodes and E edges; F and G columns of the feature tables."""

    time: npt.NDArray[np.int64]  #: [T] start of each bucket, ns
    node_names: tuple[str, ...]  #: [N]
    node_features: tuple[str, ...]  #: [F]
    nodes: Float  #: [T, N, F]; NaN where unknown
    node_mask: Bool  #: [T, N, F] known
    edge_names: tuple[tuple[str, str, str], ...]  #: [E] source, target, protocol
    edge_features: tuple[str, ...]  #: [G]
    edges: Float  #: [T, E, G]; NaN where unknown
    edge_mask: Bool  #: [T, E, G] known
    offered_rate: Float  #: [T] requests per second that users made; NaN where the load generator wasn't read
    users_target: Float  #: [T] users that the load generator was told to have at the bucket's end; NaN likewise
    events: tuple[Happening, ...]  #: public, in the window, by time
    log_patterns: tuple[LogPattern, ...]  #: of the log windows that overlap, the first whole, the last as far as it is
    traces: tuple[TraceSummary, ...]  #: of the trace windows that overlap, likewise
    kubernetes_events: tuple[KubernetesEvent, ...]
    findings: tuple[Finding, ...]
    graph: GraphObserved


def observation_arrays(state: RunState, end: int, *, window_seconds: int, bucket_seconds: int) -> ObservationArrays:
    """Return the observation of the last `window_seconds` before `end` [ns]; a bucket that isn't over at `end` is left out.

    Raises: ConfigurationError: the bucket is finer than the scrape interval, or the window is no multiple of the bucket.
    """
    if window_seconds < bucket_seconds or window_seconds % bucket_seconds:
        raise ConfigurationError(
            file="observe",
            key="window",
            found=window_seconds,
            problem=f"no multiple of the bucket of {bucket_seconds} s",
            remedy=f"use {bucket_seconds} or a multiple of it",
        )
    length = window_seconds // bucket_seconds
    known = state.buckets(bucket_seconds, end=end)
    shown = Buckets(max(0, known.count - length), min(length, known.count), known.width)
    early = length - shown.count
    telemetry = state.telemetry()
    nodes = _stack(node_features(telemetry, shown), NODE_NUMBERS, early)
    edges = _stack(edge_features(telemetry, shown), EDGE_NUMBERS, early)
    asked = demand(state, shown)
    step = bucket_seconds * SECOND
    last = state.origin + known.count * step
    start = last - window_seconds * SECOND
    begun = max(start, state.origin)
    granularity = state.settings.granularity
    return ObservationArrays(
        time=np.arange(start, last, step, dtype=np.int64),
        node_names=tuple(node.id for node in state.graph.nodes),
        node_features=NODE_NUMBERS,
        nodes=nodes,
        node_mask=~np.isnan(nodes),
        edge_names=tuple((edge.source, edge.target, edge.protocol) for edge in state.graph.edges),
        edge_features=EDGE_NUMBERS,
        edges=edges,
        edge_mask=~np.isnan(edges),
        offered_rate=np.concatenate([np.full(early, np.nan), asked.scheduled / asked.seconds]),
        users_target=np.array(
            [np.nan] * early + [np.nan if row is None else row.users_target for row in asked.readings]
        ),
        events=tuple(happenings(state, start, end, truth=False)),
        log_patterns=tuple(
            state.log_windows.between(begun, end, state.origin, granularity.log_pattern_window_seconds * SECOND)
        ),
        traces=tuple(
            state.trace_windows.between(begun, end, state.origin, granularity.trace_aggregation_seconds * SECOND)
        ),
        kubernetes_events=tuple(state.kubernetes_events.between(start, end)),
        findings=tuple(told.finding for told in state.findings.between(start, end)),
        graph=state.graph,
    )


def _stack(columns: Mapping[str, Float], names: tuple[str, ...], early: int) -> Float:
    known = np.stack([columns[name] for name in names], axis=-1)
    if early == 0:
        return known
    return np.concatenate([np.full((early, *known.shape[1:]), np.nan), known])
