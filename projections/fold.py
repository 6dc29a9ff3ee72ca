"""The fold: events, in the order of the log ➜ everything that tables, observations and rewards are computed of.

In: `Recorded` events of one run. Out: a `RunState`. Live, the episode steps it with every public event it appends; offline, `dataset`
steps it with a log from disk. Both then ask the same functions.

What is public and what is truth never meet: events of the truth stream go to `state.truth`, which no observation, reward or ending
looks at. The state is changed in place, because it holds the run's samples; for the same entries it is the same, however they were cut.

Telemetry may come late by the configured lag, and lands where it belongs; what is later changes nothing that is settled
(`projections.lateness`). An entry that a broker delivers once more is passed over.

Next: `projections.arrays` (observation), `projections.rewards`, `projections.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import numpy as np
from msgspec.structs import replace

from otel_control_gym.engine.clean_telemetry import CLEAN_FORMS, public_form
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import ConfigurationError, LogCorrupted
from otel_control_gym.engine.events import (
    EVENT_TYPES,
    ActionApplied,
    ActionFailed,
    ActionForced,
    ActionLapsed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionResumed,
    ActionReverted,
    ActionSettled,
    AutoscalersObserved,
    AutoscalerStatus,
    BranchTaken,
    ClockAdvanced,
    CollectorGap,
    EnvironmentRecorded,
    Event,
    FindingsObserved,
    GraphObserved,
    KubernetesEvent,
    KubernetesEventsObserved,
    LogRow,
    LogsCollected,
    ObjectsWritten,
    PhaseEntered,
    PodsTransitioned,
    PodTransition,
    Recorded,
    RolloutsObserved,
    RolloutStatus,
    RoutesObserved,
    RouteStatus,
    RunAborted,
    RunDeclared,
    RunEnded,
    RunIdentified,
    SamplesCollected,
    SeriesDeclared,
    Span,
    SpansCollected,
    TruthDeclared,
    WorkloadObserved,
)
from otel_control_gym.engine.settings import Granularity, RunIdentity, RunSettings
from otel_control_gym.projections.client_spans import EdgeSpans
from otel_control_gym.projections.covers import coverage_masks
from otel_control_gym.projections.delays import Delays
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.lateness import Lateness
from otel_control_gym.projections.lives import Lives
from otel_control_gym.projections.log_counts import LogCounts
from otel_control_gym.projections.log_patterns import summarize_logs
from otel_control_gym.projections.polls import FindingPolls
from otel_control_gym.projections.quantities import Telemetry
from otel_control_gym.projections.readings import Readings
from otel_control_gym.projections.samples import Samples
from otel_control_gym.projections.series import SeriesIndex
from otel_control_gym.projections.signals import Signals
from otel_control_gym.projections.timelines import Timeline
from otel_control_gym.projections.trace_summaries import summarize_spans
from otel_control_gym.projections.unread import unread
from otel_control_gym.projections.visibility import Visibility
from otel_control_gym.projections.windows import Windows

__all__ = ("RunState", "Truth", "fold", "initial", "step")

_UNDECLARED = "the log doesn't begin with RunDeclared"


class Truth:
    """What the truth stream holds: known in hindsight only."""

    def __init__(self) -> None:
        self.sequence = 0
        self.holds_clean = False  #: telemetry as it was before distortion
        self.declared: TruthDeclared | None = None
        self.identity = RunIdentity()
        self.branches: list[BranchTaken] = []
        self.lives = Lives()
        self.written: list[ObjectsWritten] = []
        self.kubernetes_events: Timeline[KubernetesEvent] = Timeline(_kubernetes_key)
        self.spans: Timeline[Span] = Timeline(_span_key)
        self.logs: Timeline[LogRow] = Timeline(_log_key)


class RunState:
    """What a log's prefix says about its run.

    A `clean` state takes telemetry as the stand showed it, which the truth stream keeps, instead of the public stream's distorted one.
    Before `RunDeclared` it holds nothing; `settings`, `origin`, `samples` and `series` exist from then on.
    """

    def __init__(self, *, clean: bool = False) -> None:
        self.clean = clean
        self.sequence = 0  #: of the last public event
        self.declared: RunDeclared | None = None
        self.environment: EnvironmentRecorded | None = None
        self.graph = GraphObserved(time=0, nodes=(), edges=())
        self.phases: list[PhaseEntered] = []
        self.delays = Delays()
        self.known_until = 0  #: [ns] all telemetry before this moment is here
        self.ended: RunEnded | RunAborted | None = None
        self.lives = Lives()
        self.spans: Timeline[Span] = Timeline(_span_key)
        self.trace_windows = Windows(self.spans, summarize_spans)
        self.logs: Timeline[LogRow] = Timeline(_log_key)
        self.log_windows = Windows(self.logs, summarize_logs)
        self.kubernetes_events: Timeline[KubernetesEvent] = Timeline(_kubernetes_key)
        self.pods: Timeline[PodTransition] = Timeline(lambda row: (row.service, row.pod))
        self.rollouts: Timeline[RolloutStatus] = Timeline(_rollout_key)
        self.autoscalers: Timeline[AutoscalerStatus] = Timeline(lambda row: (row.name,))
        self.routes: Timeline[RouteStatus] = Timeline(lambda row: (row.name,))
        self.findings = FindingPolls()
        self.workload = Readings()
        self.gaps: list[CollectorGap] = []
        self.lateness = Lateness()
        self.owners: dict[str, str] = {}  #: UID ➜ UID of its owner
        self.truth = Truth()
        self._deployments: dict[str, RolloutStatus] = {}
        self._samples: Samples | None = None
        self._series: SeriesIndex | None = None
        self._log_counts: LogCounts | None = None
        self._granularity: Granularity | None = None

    # --- what was declared -----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> RunSettings:
        """The run's public settings; of a state that `at` returned, with the other granularity.

        Raises: LogCorrupted: the log doesn't begin with `RunDeclared`.
        """
        declared = self.declaration.settings
        return declared if self._granularity is None else replace(declared, granularity=self._granularity)

    @property
    def origin(self) -> int:
        """The run's start [ns]: edge 0 of all buckets."""
        return self.declaration.time

    @property
    def visibility(self) -> Visibility:
        """What of the application the folded telemetry shows."""
        return Visibility(self.settings, clean=self.clean)

    @property
    def declaration(self) -> RunDeclared:
        """What the run declared about itself.

        Raises: LogCorrupted: the log doesn't begin with `RunDeclared`.
        """
        if self.declared is None:
            raise LogCorrupted(_UNDECLARED)
        return self.declared

    @property
    def samples(self) -> Samples:
        """The run's samples on the finest grid."""
        if self._samples is None:
            raise LogCorrupted(_UNDECLARED)
        return self._samples

    @property
    def series(self) -> SeriesIndex:
        """The run's series."""
        if self._series is None:
            raise LogCorrupted(_UNDECLARED)
        return self._series

    # --- what is computed ------------------------------------------------------------------------------------------------

    def telemetry(self) -> Telemetry:
        """Return what feature columns are computed of."""
        metrics, signals = self.settings.metrics, self._signals()
        covered = coverage_masks(self.settings.services, self.graph, self.visibility)
        lost_nodes = unread(self.gaps, [node.id for node in self.graph.nodes])
        lost_edges = unread(self.gaps, [edge.source for edge in self.graph.edges])
        read = None
        if metrics.edge_spans is not None:
            missed = [(gap.start, gap.end) for gap in self.gaps if gap.source == "spans"]
            edges = {(edge.source, edge.target): position for position, edge in enumerate(self.graph.edges)}
            read = EdgeSpans(metrics.edge_spans, self.spans, edges, covered["edge", ""], missed)
        return Telemetry(self.samples, self.series, covered, signals, read, lost_nodes, lost_edges)

    def _signals(self) -> Signals:
        application = self.settings.services
        logging = {
            name for name, service in application.services.items() if service.instrumented and service.sends_logs
        }
        seen = np.array([self.visibility.shows_service(node.id) for node in self.graph.nodes], bool)
        assert self._log_counts is not None
        return Signals(
            origin=self.origin,
            interval=self.samples.interval,
            nodes=tuple(node.id for node in self.graph.nodes),
            logs=self._log_counts,
            logging=np.array([node.id in logging for node in self.graph.nodes], bool) & seen,
            seen=seen,
            polls=self.findings,
            gaps=self.gaps,
        )

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

    def at(self, granularity: Granularity) -> RunState:
        """Return this state as tables of another granularity are made of it; everything that was folded is shared."""
        view = copy(self)
        view._granularity = granularity
        return view

    def deployments(self) -> tuple[RolloutStatus, ...]:
        """Return the latest status of every Deployment that exists, by name."""
        return tuple(self._deployments[name] for name in sorted(self._deployments))

    # --- the step --------------------------------------------------------------------------------------------------------

    def take(self, entry: Recorded) -> None:
        """Take in the next entry of the log; see `step`."""
        stream: RunState | Truth = self.truth if entry.truth else self
        if entry.seq <= stream.sequence:
            return  # delivered once more
        stream.sequence = entry.seq
        if entry.truth:
            _TRUTH_HANDLERS.get(type(entry.event), _refuse_truth)(self, entry.event)
        else:
            if not (self.clean and type(entry.event) in CLEAN_FORMS):
                _HANDLERS[type(entry.event)](self, entry.event)

    def _declare(self, event: RunDeclared) -> None:
        if self.declared is not None:
            raise LogCorrupted("the log declares its run twice")
        self.declared = event
        self.known_until = event.time
        self._samples = Samples(event.time, event.settings.granularity.scrape_interval_seconds * SECOND)
        self._series = SeriesIndex(self.visibility.metric_map())
        self._log_counts = LogCounts(event.time, self._samples.interval)

    def _environment(self, event: EnvironmentRecorded) -> None:
        self.environment = event

    def _graph(self, event: GraphObserved) -> None:
        self.graph = event
        self.series.place(event.nodes, event.edges)
        assert self._log_counts is not None, "a graph is observed after its run was declared"
        self._log_counts.place(node.id for node in event.nodes)

    def _phase(self, event: PhaseEntered) -> None:
        self.phases.append(event)

    def _clock(self, event: ClockAdvanced) -> None:
        self.known_until = max(self.known_until, event.time)
        self.delays.note(event)
        self.lateness.settle(self.known_until - self.settings.telemetry.lag_seconds * SECOND)
        self.samples.settle(self.lateness.settled)

    def _end(self, event: RunEnded | RunAborted) -> None:
        self.ended = event

    def _declare_series(self, event: SeriesDeclared) -> None:
        for row in event.rows:
            self.samples.declare(row.series, counter=self.series.declare(row))

    def _add_samples(self, event: SamplesCollected) -> None:
        self.lateness.note("metrics", event.time, self.samples.add(event).tolist())

    def _rollouts(self, event: RolloutsObserved) -> None:
        self.rollouts.extend(self.lateness.put_off(event.rows))
        for row in event.rows:
            if row.owner_uid:
                self.owners[row.uid] = row.owner_uid
            if row.kind == "Deployment" and row.change == "deleted":
                self._deployments.pop(row.name, None)
            elif row.kind == "Deployment":
                self._deployments[row.name] = row

    def _logs(self, event: LogsCollected) -> None:
        rows = self.lateness.in_time("logs", event)
        self.logs.extend(rows)
        assert self._log_counts is not None
        self._log_counts.add(rows)

    def _poll(self, event: FindingsObserved) -> None:
        self.findings.take(event.rows, max(event.time, self.lateness.settled))

    def _gap(self, event: CollectorGap) -> None:
        self.gaps.append(event)
        if event.source == "findings":
            self.findings.fail(max(event.end, self.lateness.settled))

    def _pods(self, event: PodsTransitioned) -> None:
        self.pods.extend(self.lateness.put_off(event.rows))
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
    return (row.kind, row.name)  # of one object at one moment in the order of the log, which is that of its versions


def _take_truth(state: RunState, event: TruthDeclared) -> None:
    state.truth.declared = event


def _take_clean(state: RunState, event: Event) -> None:
    state.truth.holds_clean = True
    if state.clean:
        public = public_form(event)
        _HANDLERS[type(public)](state, public)


def _identify(state: RunState, event: RunIdentified) -> None:
    state.truth.identity = event.identity


def _branch(state: RunState, event: BranchTaken) -> None:
    state.truth.branches.append(event)


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
    ActionLapsed,
    ActionResumed,
    ActionForced,
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
    SamplesCollected: RunState._add_samples,
    SpansCollected: lambda state, event: state.spans.extend(state.lateness.in_time("spans", event)),
    LogsCollected: RunState._logs,
    KubernetesEventsObserved: lambda state, event: state.kubernetes_events.extend(
        state.lateness.in_time("kubernetes", event)
    ),
    PodsTransitioned: RunState._pods,
    RolloutsObserved: RunState._rollouts,
    AutoscalersObserved: lambda state, event: state.autoscalers.extend(state.lateness.put_off(event.rows)),
    RoutesObserved: lambda state, event: state.routes.extend(state.lateness.put_off(event.rows)),
    FindingsObserved: RunState._poll,
    WorkloadObserved: lambda state, event: state.workload.extend(state.lateness.in_time("workload", event)),
    CollectorGap: RunState._gap,
    TruthDeclared: _refuse_public,
    **dict.fromkeys(CLEAN_FORMS.values(), _refuse_public),
    RunIdentified: _refuse_public,
    ObjectsWritten: _refuse_public,
    BranchTaken: _refuse_public,
}
_TRUTH_HANDLERS: dict[type[Event], Callable[[RunState, Any], None]] = {
    TruthDeclared: _take_truth,
    RunIdentified: _identify,
    ObjectsWritten: lambda state, event: state.truth.written.append(event),
    BranchTaken: _branch,
    **{kind: lambda state, event: state.truth.lives.take(event) for kind in _LIFE_CYCLE},
    KubernetesEventsObserved: lambda state, event: state.truth.kubernetes_events.extend(event.rows),
    SpansCollected: lambda state, event: state.truth.spans.extend(event.rows),
    LogsCollected: lambda state, event: state.truth.logs.extend(event.rows),
    **dict.fromkeys(CLEAN_FORMS.values(), _take_clean),
}
assert tuple(_HANDLERS) == EVENT_TYPES, "every event has a place in the fold, in the order of the catalogue"


def initial(*, clean: bool = False) -> RunState:
    """Return the state of an empty log; `clean`: it will take telemetry as it was before distortion."""
    return RunState(clean=clean)


def step(state: RunState, entry: Recorded) -> RunState:
    """Take the next entry into the state, in place, and return it.

    Raises: LogCorrupted: the entry contradicts what the log said before.
    """
    state.take(entry)
    return state


def fold(entries: Iterable[Recorded], *, clean: bool = False) -> RunState:
    """Return the state of a log, of its public telemetry or of the clean one that its truth stream may hold."""
    state = initial(clean=clean)
    for entry in entries:
        step(state, entry)
    return state
