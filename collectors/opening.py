"""Puts the collectors of a run together, in the order in which a flush publishes them."""

from __future__ import annotations

from otel_control_gym.collectors.coroot import CorootCollector
from otel_control_gym.collectors.kubernetes import KubernetesCollector
from otel_control_gym.collectors.otlp import OtlpReceiver
from otel_control_gym.collectors.prometheus import PrometheusCollector
from otel_control_gym.collectors.retrieval import Retrieval
from otel_control_gym.collectors.workload import WorkloadCollector
from otel_control_gym.engine.protocols import Collector, Endpoints
from otel_control_gym.engine.settings import RunSettings

__all__ = ("make_collectors",)


def make_collectors(
    endpoints: Endpoints, settings: RunSettings, now: int, receiver: OtlpReceiver | Retrieval
) -> tuple[Collector, ...]:
    """Return Kubernetes, workload, metrics, spans with logs, findings.

    `receiver` is open already, because the stand was told its endpoint when it was reset; all others still have to be opened. `now`
    is the run's first moment.
    """
    receiver.know(settings, since=now)
    interval = settings.granularity.scrape_interval_seconds
    return (
        KubernetesCollector(endpoints, now=now),
        WorkloadCollector(endpoints, now=now),
        PrometheusCollector(endpoints, settings.metrics, scrape_interval_seconds=interval, now=now),
        receiver,
        CorootCollector(endpoints, now=now),
    )
