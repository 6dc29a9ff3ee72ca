"""One run of the twin: kernel, control plane and telemetry, moved through time together.

In: a `RunConfig`; moments. Out: series, spans, objects, all of them functions of configuration, seed and what was asked of the stand.

`advance_once` is the twin's clockwork: it goes to the next moment at which something is due, and does there what is due, in the order
that `stand` explains. No I/O, no waiting; `stand` is next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.twin.cluster_agent import ClusterAgent
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.coroot.detector import REFRESH_SECONDS, Detector
from otel_control_gym.stands.twin.node_agent import SCRAPE_SECONDS, NodeAgent
from otel_control_gym.stands.twin.sampling import SpanSampler
from otel_control_gym.stands.twin.simulation import Simulation
from otel_control_gym.stands.twin.spans import Export, SpanExporter
from otel_control_gym.stands.twin.telemetry import HOUSEKEEPING_SECONDS, Telemetry
from otel_control_gym.stands.twin.topology import Table
from otel_control_gym.stands.twin.world import World

__all__ = ("TwinRun", "scrape_phases")


class TwinRun:
    """The world of one run; at its first moment when it is made, all pods ready, first scrape done."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        public, twin = config.public, config.twin
        self.start = twin.epoch_seconds * SECOND
        self.simulation = Simulation(
            public.services,
            config.workload,
            derive_seed(config.seed, "kernel"),
            self.start,
            span_error_preference=twin.error_span_preference,
            node_cores=twin.node_cores,
        )
        self.world = World(self.simulation)
        self.control_plane = ControlPlane(
            public.services,
            twin,
            seed=derive_seed(config.seed, "control plane"),
            start=self.start,
            runtime=self.world,
        )
        self.control_plane.install()
        self.world.warm_up()
        self.telemetry = Telemetry(self.world, self.control_plane)
        self._agent = NodeAgent(self.world, seed=derive_seed(config.seed, "node agent"))
        self.detector = Detector(
            self.telemetry.series,
            self._agent.series,
            ClusterAgent(self.control_plane).observe,
            start=self.start,
            scrape_seconds=public.granularity.scrape_interval_seconds,
            seed=config.seed,
        )
        self.at_scrape: Callable[[], None] | None = None  #: called at each scrape, after it
        self._sampler = SpanSampler(
            self.simulation,
            budget_per_600s=twin.span_budget_per_600s,
            error_preference=twin.error_span_preference,
        )
        self._exporter = SpanExporter(self.simulation, self.telemetry.identity)
        self._spans: list[Table] = []
        self._kept = 0  # spans since the start
        self._scrape_interval = public.granularity.scrape_interval_seconds * SECOND
        self._housekeeping_interval = HOUSEKEEPING_SECONDS * SECOND
        self._agent_interval = SCRAPE_SECONDS * SECOND
        self._refresh_interval = REFRESH_SECONDS * SECOND
        self._next_scrape = self.start + self._scrape_interval
        phases = scrape_phases(config, self.telemetry.sources) if twin.scrape_phases else ()
        self._next_of_source = [self._next_scrape + phase for phase in phases]
        self._next_housekeeping = self.start + self._housekeeping_interval
        self._next_agent_scrape = self.start + self._agent_interval
        self._next_refresh = self.start + self._refresh_interval
        self.telemetry.housekeep()
        if phases:
            for source in range(self.telemetry.sources):
                self.telemetry.scrape_source(self.start, source)
        else:
            self.telemetry.scrape(self.start)
        self._agent.scrape(self.start)

    @property
    def now(self) -> int:
        """Episode time in nanoseconds."""
        return self.simulation.now

    def renew_randomness(self, seed: int) -> None:
        """Draw from `seed` from now on: tasks, work, network, delays of the control plane, probes. What was drawn before stays."""
        self.simulation.renew_randomness(derive_seed(seed, "kernel"))
        self.control_plane.renew_randomness(derive_seed(seed, "control plane"))
        self._agent.renew_randomness(derive_seed(seed, "node agent"))

    def advance_once(self, until: int) -> bool:
        """Go to the next due moment, at most `until`, and do what is due there; return whether `until` is still ahead."""
        self.world.follow_flags()
        due = self.control_plane.due()
        moment = min(until, self._next_scrape, self._next_housekeeping, self._next_agent_scrape, self._next_refresh)
        moment = min([moment, *self._next_of_source])
        if due is not None:
            moment = max(self.now, min(moment, due))
        if not self.simulation.run(moment):
            moment = self.now  # a container was killed: the kubelet comes first
        self.control_plane.run_due(moment)
        if moment == self._next_housekeeping:
            self._next_housekeeping += self._housekeeping_interval
            self.telemetry.housekeep()
            self._drain_spans()
            self._sampler.update(self._kept)
        if moment == self._next_refresh:
            self._next_refresh += self._refresh_interval
            self.detector.refresh(moment)
        if moment == self._next_agent_scrape:
            self._next_agent_scrape += self._agent_interval
            self._agent.scrape(moment)
        for source, due_at in enumerate(self._next_of_source):
            if moment == due_at:
                self._next_of_source[source] += self._scrape_interval
                self.telemetry.scrape_source(moment, source)
        if moment == self._next_scrape:
            self._next_scrape += self._scrape_interval
            if not self._next_of_source:
                self.telemetry.scrape(moment)
            if self.at_scrape is not None:
                self.at_scrape()
        return moment < until

    def take_exports(self) -> Iterator[Export]:
        """Return OTLP export requests with the spans and logs since the last call."""
        self._drain_spans()
        spans = np.concatenate(self._spans)
        self._spans.clear()
        return self._exporter.export(spans)

    def _drain_spans(self) -> None:
        spans = self.simulation.take_spans()
        self._kept += len(spans)
        self._spans.append(spans)


def scrape_phases(config: RunConfig, sources: int) -> tuple[int, ...]:
    """Return how long after the edges of buckets each source is scraped [ns]: whole milliseconds, more than 0, less than an interval."""
    interval_ms = config.public.granularity.scrape_interval_seconds * 1000
    seed = derive_seed(config.seed, "scrape phases")
    return tuple(
        (1 + int(draw_uniform(seed, source) * (interval_ms - 1))) * SECOND // 1000 for source in range(sources)
    )
