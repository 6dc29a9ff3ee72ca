"""The metrics server: what pods use, sampled every 15 seconds.

In: the processes' CPU time and memory, by `PodRuntime`. Out: for each pod its use over the last window.

CPU is the difference of two samples, so a new pod has none before the second one. It samples from the first autoscaler on, as nobody else
asks it, and some seconds before that one looks: what an autoscaler sees is never of the present.
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import HORIZONTAL_POD_AUTOSCALER, POD
from otel_control_gym.stands.twin.watches import Change

__all__ = ("MetricsServer", "PodMetrics")

_PERIOD_SECONDS = 15
_FIRST_SECONDS = 10  #: the first window: samples are 5 s old when the first autoscaler looks, every 15 s


class PodMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod used."""

    begin: int  #: of the window [ns]
    cpu_millicores: int  #: over the window
    memory_bytes: int


class MetricsServer:
    """Samples the pods whose containers run."""

    name = "metrics-server"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._cpu: dict[str, float] = {}  # UID -> CPU seconds at the last sample
        self._metrics: dict[str, PodMetrics] = {}
        self._sampled: int | None = None  # [ns]; None: not yet

    def observe(self, change: Change) -> None:
        """Begin with the first autoscaler."""
        if change.kind is HORIZONTAL_POD_AUTOSCALER and self._sampled is None:
            self._context.at(self._context.now, self.name, "")

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - one step only
        """Take a sample, and plan the next one as long as there is an autoscaler."""
        context, before, cpu = self._context, self._sampled, dict[str, float]()
        metrics: dict[str, PodMetrics] = {}
        for pod in context.store.objects(POD):
            uid = pod["metadata"]["uid"]
            if all("running" not in status["state"] for status in pod["status"].get("containerStatuses", ())):
                continue
            cpu[uid] = context.runtime.cpu_seconds(uid)
            if before is not None and uid in self._cpu:
                metrics[uid] = PodMetrics(
                    begin=before,
                    cpu_millicores=round((cpu[uid] - self._cpu[uid]) / ((context.now - before) / SECOND) * 1000),
                    memory_bytes=context.runtime.memory_bytes(uid),
                )
        self._cpu, self._metrics, self._sampled = cpu, metrics, context.now
        if context.store.objects(HORIZONTAL_POD_AUTOSCALER):
            after = _FIRST_SECONDS if before is None else _PERIOD_SECONDS
            context.at(context.now + after * SECOND, self.name, "")
        else:
            self._cpu, self._metrics, self._sampled = {}, {}, None

    def of_pod(self, uid: str) -> PodMetrics | None:
        """Return what a pod used in the newest window, or None: it wasn't there for two samples."""
        return self._metrics.get(uid)
