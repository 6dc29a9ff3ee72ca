"""A scrape: what the twin's parts show at one moment becomes one row of samples.

In: the moment (the kernel has come to it, the control plane has done what was due). Out: a row in `TimeSeries`.

Five sources stand side by side: the collector's connectors (spans by name, spans by edge), the kubelet with cAdvisor, the cluster
receiver and the Kafka receiver; a sixth, Coroot's node agent, where the edges come from it. Each keeps the numbers of its series and
yields values in the same order; only when series appear or end does anything happen per series. Upstream: `stand` calls `housekeep` and
`scrape` on their grids. Downstream: `servers.prometheus`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from otel_control_gym.stands.twin.connectors import ServiceGraph, SpanMetrics
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.conventions import PodIdentity
from otel_control_gym.stands.twin.kafka_metrics import KafkaMetrics
from otel_control_gym.stands.twin.kubelet_metrics import HOUSEKEEPING_SECONDS, ClusterMetrics, KubeletMetrics
from otel_control_gym.stands.twin.node_agent import AgentMetrics
from otel_control_gym.stands.twin.scheduler import NODE_NAME
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values
from otel_control_gym.stands.twin.world import World

__all__ = ("HOUSEKEEPING_SECONDS", "Telemetry")


class _Source(Protocol):
    numbers: Numbers  #: of the series that `read` gave values for, in the same order

    def read(self, now: int) -> Values: ...


class Telemetry:
    """The scraped series of one run."""

    def __init__(self, world: World, control_plane: ControlPlane) -> None:
        self.series = TimeSeries()
        self._world = world
        config = world.simulation.config
        self._kubelet = KubeletMetrics(world, self.identity, self.series)
        self._sources: tuple[_Source, ...] = (
            SpanMetrics(world, self.identity, self.series),
            ServiceGraph(world, self.series),
            self._kubelet,
            ClusterMetrics(control_plane, self.series),
            KafkaMetrics(world, self.series),
            *((AgentMetrics(world, self.series),) if config.edge_source == "node_agent" else ()),
        )
        self._parts: tuple[Numbers, ...] = ()
        self._numbers: Numbers = np.empty(0, np.int64)

    def identity(self, slot: int) -> PodIdentity:
        """Return whose pod a slot is; a pod's name is its Deployment's with two suffixes, and the twin has one node."""
        container = self._world.containers[slot]
        return PodIdentity(
            uid=container.uid,
            name=container.name,
            service=container.service,
            deployment=container.name.rsplit("-", 2)[0],
            node=NODE_NAME,
        )

    def housekeep(self) -> None:
        """Let the kubelet look at its containers."""
        self._kubelet.housekeep()

    @property
    def sources(self) -> int:
        """How many sources are scraped."""
        return len(self._sources)

    def scrape_source(self, now: int, position: int) -> None:
        """Store what one source shows now, which is scraped at times of its own."""
        source = self._sources[position]
        values = source.read(now)
        self.series.append(now, source.numbers, values, part=position + 1)

    def scrape(self, now: int) -> None:
        """Store what all sources show now."""
        values = np.concatenate([source.read(now) for source in self._sources])
        parts = tuple(source.numbers for source in self._sources)
        if len(parts) != len(self._parts) or any(new is not old for new, old in zip(parts, self._parts, strict=True)):
            self._parts = parts
            self._numbers = np.concatenate(parts)
        self.series.append(now, self._numbers, values)
