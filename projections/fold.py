"""The fold: events, in the order of the log ➜ everything that tables, observations and rewards are computed of.

In: `Recorded` events of one run. Out: a `RunState`. Live, the episode steps it with every public event it appends; offline, `dataset`
steps it with a log from disk. Both then ask the same functions.

What is public and what is truth never meet: events of the truth stream go to `state.truth`, which no observation, reward or ending
looks at. The state is changed in place, because it holds the run's samples; for the same entries it is the same, however they were cut.

Next: `projections.arrays` (observation), `projections.rewards`, `projections.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError, LogCorrupted
from otel_control_gym.engine.events import (
    EVENT_TYPES,
    ActionApplied,
    ActionFailed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionReverted,
    ActionSettled,
    ClockAdvanced,
    CollectorGap,
    EnvironmentRecorded,
    Event,
    Finding,
    FindingsObserved,
    GraphObserved,
    KubernetesEvent,
    KubernetesEventsObserved,
    LogRow,
    LogsCollected,
    PhaseEntered,
    PodsTransitioned,
    PodTransition,
    Recorded,
    RolloutsObserved,
    RolloutStatus,
    RunAborted,
    RunDeclared,
    RunEnded,
    SamplesCollected,
    SeriesDeclared,
    Span,
    SpansCollected,
    TruthDeclared,
    WorkloadObserved,
    WorkloadState,
)
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.projections.client_spans import EdgeSpans
from otel_control_gym.projections.covers import coverage_masks
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.lives import Lives
from otel_control_gym.projections.quantities import Telemetry
from otel_control_gym.projections.samples import Samples
from otel_control_gym.projections.series import SeriesIndex
from otel_control_gym.projections.timelines import Timeline

__all__ = ("RunState", "Truth", "fold", "initial", "step")


class Truth:
    """What the truth stream holds: known in hindsight only."""

    def __init__(self) -> None:
        self.sequence = 0
        self.declared: TruthDeclared | None = None
        self.lives = Lives()
        self.kubernetes_events: Timeline[KubernetesEvent] = Timeline(_kubernetes_key)
        self.spans: Timeline[Span] = Timeline(_span_key)
        self.logs: Timeline[LogRow] = Timeline(_log_key)


class RunState:
    """What a log's prefix says about its run.

    Before `RunDeclared` it holds nothing; `settings`, `origin`, `samples` and `series` exist from then on.
    """

    def __init__(self) -> None:
        self.sequence = 0  #: of the last public event
        self.declared: RunDeclared | None = None
        self.environment: EnvironmentRecorded | None = None
        self.graph = GraphObserved(time=0, nodes=(), edges=())
        self.phases: list[PhaseEntered] = []
        self.known_until = 0  #: [ns] all telemetry before this moment is here
        self.ended: RunEnded | RunAborted | None = None
        self.lives = Lives()
        self.spans: Timeline[Span] = Timeline(_span_key)
        self.logs: Timeline[LogRow] = Timeline(_log_key)
        self.kubernetes_events: Timeline[KubernetesEvent] = Timeline(_kubernetes_key)
        self.pods: Timeline[PodTransition] = Timeline(lambda row: (row.service, row.pod))
        self.rollouts: Timeline[RolloutStatus] = Timeline(_rollout_key)
        self.findings: Timeline[Finding] = Timeline(lambda row: (row.key,))
        self.workload: Timeline[WorkloadState] = Timeline(lambda row: (row.state,))
        self.gaps: list[CollectorGap] = []
        self.owners: dict[str, str] = {}  #: UID ➜ UID of its owner
        self.truth = Truth()
        self._deployments: dict[str, RolloutStatus] = {}
        self._samples: Samples | None = None
        self._series: SeriesIndex | None = None

    # --- what was declared -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> RunSettings:
        """The run's public settings.

        Raises: LogCorrupted: the log doesn't begin with `RunDeclared`.
        """
        return self._declaration().settings

    @property
    def origin(self) -> int:
        """The run's start [ns]: edge 0 of all buckets."""
        return self._declaration().time

    def _declaration(self) -> RunDeclared:
        if self.declared is None:
            raise LogCorrupted("the log doesn't begin with RunDeclared")
        return self.declared

    @property
    def samples(self) -> Samples:
        """The run's samples on the finest grid."""
        self._declaration()
        assert self._samples is not None
        return self._samples

    @property
    def series(self) -> SeriesIndex:
        """The run's series."""
        self._declaration()
        assert self._series is not None
        return self._series

    # --- what is computed ------------------------------------------------------------------------------------------------

    def telemetry(self) -> Telemetry:
        """Return what feature columns are computed of."""
        spans = self.settings.metrics.edge_spans
        covered = coverage_masks(self.settings.services, self.graph)
        if spans is None:
            return Telemetry(self.samples, self.series, covered)
        missed = [(gap.start, gap.end) for gap in self.gaps if gap.source == "spans"]
        edges = {(edge.source, edge.target): position for position, edge in enumerate(self.graph.edges)}
        read = EdgeSpans(spans, self.spans, edges, covered["edge", ""], missed)
        return Telemetry(self.samples, self.series, covered, read)

    def buckets(self, bucket_seconds: int, *, start: int | None = None, end: int | None = None) -> Buckets:
        """Return the whole buckets of [start, end), by default of all that is known.

        Raises: ConfigurationError: the bucket is finer than the scrape interval, or no multiple of it.
        """
        width = self._width(bucket_seconds)
        length = bucket_seconds * SECOND
        first = 0 if start is None else -((self.origin - start) // length)
        last = ((self.known_until if end is None else end) - self.origin) // length
        return Buckets(first, max(0, last - first), width)

    def _width(self, bucket_seconds: int) -> int:
        scrape = self.settings.granularity.scrape_interval_seconds
        if bucket_seconds >= scrape and bucket_seconds % scrape == 0:
            return bucket_seconds // scrape
        raise ConfigurationError(
            file="granularity",
            key="observation_bucket_seconds",
            found=bucket_seconds,
            problem=f"{'finer than' if bucket_seconds < scrape else 'no multiple of'} scrape_interval_seconds = {scrape}",
            remedy=f"use {scrape} or a multiple of it: the log holds no samples in between",
        )

    def deployments(self) -> tuple[RolloutStatus, ...]:
        """Return the latest status of every Deployment that exists, by name."""
        return tuple(self._deployments[name] for name in sorted(self._deployments))

    # --- the step --------------------------------------------------------------------------------------------------------

    def take(self, entry: Recorded) -> None:
        """Take in the next entry of the log; see `step`."""
        if entry.truth:
            self.truth.sequence = entry.seq
            _TRUTH_HANDLERS.get(type(entry.event), _refuse_truth)(self, entry.event)
        else:
            self.sequence = entry.seq
            _HANDLERS[type(entry.event)](self, entry.event)

    def _declare(self, event: RunDeclared) -> None:
        if self.declared is not None:
            raise LogCorrupted("the log declares its run twice")
        self.declared = event
        self.known_until = event.time
        self._samples = Samples(event.time, event.settings.granularity.scrape_interval_seconds * SECOND)
        self._series = SeriesIndex(event.settings.metrics)

    def _environment(self, event: EnvironmentRecorded) -> None:
        self.environment = event

    def _graph(self, event: GraphObserved) -> None:
        self.graph = event
        self.series.place(event.nodes, event.edges)

    def _phase(self, event: PhaseEntered) -> None:
        self.phases.append(event)

    def _clock(self, event: ClockAdvanced) -> None:
        self.known_until = max(self.known_until, event.time)

    def _end(self, event: RunEnded | RunAborted) -> None:
        self.ended = event

    def _declare_series(self, event: SeriesDeclared) -> None:
        for row in event.rows:
            self.samples.declare(row.series, counter=self.series.declare(row))

    def _rollouts(self, event: RolloutsObserved) -> None:
        self.rollouts.extend(event.rows)
        for row in event.rows:
            if row.owner_uid:
                self.owners[row.uid] = row.owner_uid
            if row.kind == "Deployment" and row.change == "deleted":
                self._deployments.pop(row.name, None)
            elif row.kind == "Deployment":
                self._deployments[row.name] = row

    def _pods(self, event: PodsTransitioned) -> None:
        self.pods.extend(event.rows)
        for row in event.rows:
            if row.owner_uid:
                self.owners[row.uid] = row.owner_uid


def _span_key(row: Span) -> tuple[str, str]:
    return (row.trace_id, row.span_id)


def _log_key(row: LogRow) -> tuple[str, str, str, str, str]:
    return (row.service, row.severity, row.body, row.trace_id, row.span_id)


def _kubernetes_key(row: KubernetesEvent) -> tuple[str, ...]:
    return (row.object_kind, row.object_name, row.reason, row.message, f"{row.count:09d}")


def _rollout_key(row: RolloutStatus) -> tuple[str, ...]:
    return (row.kind, row.name, f"{row.generation:09d}", f"{row.observed_generation:09d}", row.change)


def _take_truth(state: RunState, event: TruthDeclared) -> None:
    state.truth.declared = event


def _refuse_truth(_state: RunState, event: Event) -> None:
    raise LogCorrupted(f"{type(event).__name__} in the truth stream, where it doesn't belong")


def _refuse_public(_state: RunState, event: Event) -> None:
    raise LogCorrupted(f"{type(event).__name__} in the public stream: it would tell a policy the truth")


_LIFE_CYCLE: tuple[type[Event], ...] = (
    ActionRequested,
    ActionPrechecked,
    ActionApplied,
    ActionFailed,
    ActionPostchecked,
    ActionReverted,
    ActionSettled,
)
_HANDLERS: dict[type[Event], Callable[[RunState, Any], None]] = {
    RunDeclared: RunState._declare,
    EnvironmentRecorded: RunState._environment,
    GraphObserved: RunState._graph,
    PhaseEntered: RunState._phase,
    ClockAdvanced: RunState._clock,
    RunEnded: RunState._end,
    RunAborted: RunState._end,
    **{kind: lambda state, event: state.lives.take(event) for kind in _LIFE_CYCLE},
    SeriesDeclared: RunState._declare_series,
    SamplesCollected: lambda state, event: state.samples.add(event),
    SpansCollected: lambda state, event: state.spans.extend(event.rows),
    LogsCollected: lambda state, event: state.logs.extend(event.rows),
    KubernetesEventsObserved: lambda state, event: state.kubernetes_events.extend(event.rows),
    PodsTransitioned: RunState._pods,
    RolloutsObserved: RunState._rollouts,
    FindingsObserved: lambda state, event: state.findings.extend(event.rows),
    WorkloadObserved: lambda state, event: state.workload.extend(event.rows),
    CollectorGap: lambda state, event: state.gaps.append(event),
    TruthDeclared: _refuse_public,
}
_TRUTH_HANDLERS: dict[type[Event], Callable[[RunState, Any], None]] = {
    TruthDeclared: _take_truth,
    **{kind: lambda state, event: state.truth.lives.take(event) for kind in _LIFE_CYCLE},
    KubernetesEventsObserved: lambda state, event: state.truth.kubernetes_events.extend(event.rows),
    SpansCollected: lambda state, event: state.truth.spans.extend(event.rows),
    LogsCollected: lambda state, event: state.truth.logs.extend(event.rows),
}
assert tuple(_HANDLERS) == EVENT_TYPES, "every event has a place in the fold, in the order of the catalogue"


def initial() -> RunState:
    """Return the state of an empty log."""
    return RunState()


def step(state: RunState, entry: Recorded) -> RunState:
    """Take the next entry into the state, in place, and return it.

    Raises: LogCorrupted: the entry contradicts what the log said before.
    """
    state.take(entry)
    return state


def fold(entries: Iterable[Recorded]) -> RunState:
    """Return the state of a log."""
    state = initial()
    for entry in entries:
        step(state, entry)
    return state
