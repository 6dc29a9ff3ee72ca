"""What kubelet, cAdvisor and the cluster receiver tell of pods, containers and deployments.

In: the kernel's processor, memory and network counters; the control plane's objects. Out: gauges and counters as series.

The kubelet looks at its containers every ten seconds only (here on a grid that begins with the run). Prometheus scrapes more often, and
then gets the same figure again: so these series have a resolution of ten seconds whatever the scrape interval is. The cluster
receiver watches the API and is always up to date. A pod's own counters go on when its container restarts, the container's (CFS) begin anew.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.conventions import PodIdentity, series_labels
from otel_control_gym.stands.twin.time_series import Numbers, TimeSeries, Values
from otel_control_gym.stands.twin.world import World

__all__ = ("HOUSEKEEPING_SECONDS", "ClusterMetrics", "KubeletMetrics")

HOUSEKEEPING_SECONDS = 10
_CADVISOR_JOB = "kubernetes-nodes-cadvisor"
_KUBELET = 5  #: series of a pod
_CADVISOR = 3  #: more, if it has a CPU limit


class KubeletMetrics:
    """kubeletstats' `k8s_pod_*` and cAdvisor's `container_cpu_cfs_*`, as of the last housekeeping."""

    def __init__(self, world: World, identity: Callable[[int], PodIdentity], series: TimeSeries) -> None:
        self.numbers: Numbers = np.empty(0, np.int64)
        self._world = world
        self._identity = identity
        self._series = series
        self._blocks: dict[int, list[int]] = {}  # home slot -> its series
        self._values: Values = np.empty(0)
        self._cpu_before = np.empty(0)  # by home slot; NaN before the first look

    def housekeep(self) -> None:
        """Look at the containers of all pods; series of pods that are gone end, without a last sample."""
        world = self._world
        running = [
            slot for slot, container in enumerate(world.containers) if container.home == slot and not container.gone
        ]
        if running != list(self._blocks):
            self._follow(running)
        containers = [world.containers[home] for home in self._blocks]
        homes = np.array(list(self._blocks), np.int64)
        current = np.array([container.slot for container in containers], np.int64)
        runs = np.array([slot for container in containers for slot in container.slots], np.int64)
        first = np.cumsum([0, *(len(container.slots) for container in containers)])[:-1]
        counters = world.simulation.pod_counters()
        cpu = _per_pod(counters.cpu_seconds, runs, first)
        looks = np.stack(
            [
                cpu,
                self._usage(homes, cpu),
                counters.memory_bytes[current],
                _per_pod(counters.rx_bytes, runs, first),
                _per_pod(counters.tx_bytes, runs, first),
                counters.cfs_periods[current],
                counters.cfs_throttled_periods[current],
                counters.cfs_throttled_seconds[current],
            ],
            axis=1,
        )
        widths = np.array([len(block) for block in self._blocks.values()], np.int64)
        self._values = looks[np.arange(looks.shape[1]) < widths[:, None]]

    def _usage(self, homes: Numbers, cpu: Values) -> Values:
        """Return the mean cores since the last look, 0 at the first."""
        known = len(self._cpu_before)
        if known < len(self._world.containers):
            self._cpu_before = np.append(self._cpu_before, np.full(len(self._world.containers) - known, np.nan))
        usage: Values = np.nan_to_num((cpu - self._cpu_before[homes]) / HOUSEKEEPING_SECONDS)
        self._cpu_before[homes] = cpu
        return usage

    def read(self, now: int) -> Values:
        """Return the values of `numbers`; pods that came or went make it another object."""
        containers = self._world.containers
        if any(containers[slot].gone for slot in self._blocks):
            kept = np.concatenate(
                [np.full(len(block), not containers[slot].gone) for slot, block in self._blocks.items()]
            )
            self._values = self._values[kept]
            self._end([slot for slot in self._blocks if containers[slot].gone], now)
        return self._values

    def _follow(self, running: list[int]) -> None:
        still = dict.fromkeys(running)
        self._end([slot for slot in self._blocks if slot not in still], self._world.simulation.now)
        for slot in running:
            if slot not in self._blocks:
                self._blocks[slot] = self._declare(slot)
        self._number()

    def _end(self, slots: list[int], now: int) -> None:
        for slot in slots:
            self._series.end(self._blocks.pop(slot), now)
        self._number()

    def _number(self) -> None:
        self.numbers = np.array([number for block in self._blocks.values() for number in block], np.int64)

    def _declare(self, slot: int) -> list[int]:
        pod, config = self._identity(slot), self._world.simulation.config
        labels = series_labels(pod, config.namespace) | {"k8s_node_name": pod.node}
        network = labels | {"__name__": "k8s_pod_network_io_bytes_total", "interface": "eth0"}
        items = [
            labels | {"__name__": "k8s_pod_cpu_time_seconds_total"},
            labels | {"__name__": "k8s_pod_cpu_usage"},
            labels | {"__name__": "k8s_pod_memory_working_set_bytes"},
            network | {"direction": "receive"},
            network | {"direction": "transmit"},
        ]
        assert len(items) == _KUBELET
        if self._world.containers[slot].resources.cpu_limit_cores is not None:
            scraped = {
                "job": _CADVISOR_JOB,
                "instance": pod.node,
                "namespace": config.namespace,
                "pod": pod.name,
                "container": pod.service,
            }
            names = ("periods_total", "throttled_periods_total", "throttled_seconds_total")
            items += [scraped | {"__name__": f"container_cpu_cfs_{name}"} for name in names]
            assert len(items) == _KUBELET + _CADVISOR
        return [self._series.declare(item) for item in items]


class ClusterMetrics:
    """k8s_cluster's `k8s_container_*`, `k8s_deployment_*` and `k8s_hpa_*`, made anew when some object changed."""

    def __init__(self, control_plane: ControlPlane, series: TimeSeries) -> None:
        self.numbers: Numbers = np.empty(0, np.int64)
        self._control_plane = control_plane
        self._series = series
        self._version = ""
        self._values: Values = np.empty(0)
        self._known: dict[tuple[str, str], int] = {}  # (metric, uid or deployment) -> number

    def read(self, now: int) -> Values:
        """Return the values of `numbers`; objects that came or went make it another object."""
        if self._version != self._control_plane.resource_version:
            self._version = self._control_plane.resource_version
            self._observe(now)
        return self._values

    def _observe(self, now: int) -> None:
        found: dict[tuple[str, str], tuple[dict[str, str], float]] = {}
        namespace = {"k8s_namespace_name": self._control_plane.namespace}
        for pod in self._control_plane.pods():
            labels = namespace | {
                "k8s_pod_name": pod.name,
                "k8s_container_name": pod.service,
                "k8s_deployment_name": pod.deployment,
            }
            gauges: dict[str, float | None] = {
                "cpu_request": pod.resources.cpu_request_cores,
                "cpu_limit": pod.resources.cpu_limit_cores,
                "memory_request_bytes": pod.resources.memory_request_bytes or None,
                "memory_limit_bytes": pod.resources.memory_limit_bytes,
            }
            if pod.started or pod.restarts:
                gauges |= {"restarts": pod.restarts, "ready": pod.ready}
            for name, value in gauges.items():
                if value is not None:
                    found[f"k8s_container_{name}", pod.uid] = labels, float(value)
        for deployment in self._control_plane.deployments():
            labels = namespace | {"k8s_deployment_name": deployment.name}
            found["k8s_deployment_desired", deployment.name] = labels, float(deployment.desired)
            found["k8s_deployment_available", deployment.name] = labels, float(deployment.available)
        for autoscaler in self._control_plane.autoscalers():
            labels = namespace | {"k8s_hpa_name": autoscaler.name}
            sizes = {
                "current_replicas": autoscaler.current,
                "desired_replicas": autoscaler.desired,
                "min_replicas": autoscaler.least,
                "max_replicas": autoscaler.most,
            }
            for name, size in sizes.items():
                found[f"k8s_hpa_{name}", autoscaler.name] = labels, float(size)
        if list(found) != list(self._known):
            self._series.end([number for key, number in self._known.items() if key not in found], now)
            self._known = {
                key: self._known[key] if key in self._known else self._series.declare({"__name__": key[0]} | labels)
                for key, (labels, _) in found.items()
            }
            self.numbers = np.array(list(self._known.values()), np.int64)
        self._values = np.array([value for _, value in found.values()])


def _per_pod(counter: npt.NDArray[np.generic], runs: Numbers, first: Numbers) -> Values:
    """Return a counter summed over the runs of each pod's container."""
    return np.add.reduceat(counter[runs].astype(np.float64), first) if len(first) else np.empty(0)
