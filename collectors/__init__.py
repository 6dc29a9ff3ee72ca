"""Collectors: what a stand shows ➜ events. One module per source, and none knows another.

Here: Kubernetes watches, the load generator's account, Prometheus samples, OTLP spans and logs (pushed,
or read from Jaeger and pods), Coroot's findings; and
the distortion that can be wrapped around each of them. Not here: any
reckoning (projections), and the order of the log beyond one source (the episode).
"""

from __future__ import annotations

from otel_control_gym.collectors.coroot import CorootCollector
from otel_control_gym.collectors.distortion import DistortedCollector, distorted
from otel_control_gym.collectors.kubernetes import KubernetesCollector
from otel_control_gym.collectors.opening import make_collectors
from otel_control_gym.collectors.otlp import OtlpReceiver
from otel_control_gym.collectors.prometheus import PrometheusCollector
from otel_control_gym.collectors.retrieval import Retrieval
from otel_control_gym.collectors.workload import WorkloadCollector

__all__ = (
    "CorootCollector",
    "DistortedCollector",
    "KubernetesCollector",
    "OtlpReceiver",
    "PrometheusCollector",
    "Retrieval",
    "WorkloadCollector",
    "distorted",
    "make_collectors",
)
