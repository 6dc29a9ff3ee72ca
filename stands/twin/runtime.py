"""What the twin's control plane asks of the simulated machines: the line between Kubernetes objects and physics.

The control plane (`control_plane`) owns objects and their timing: when a container starts, is ready, gets traffic, is told to stop.
The world (`world`) owns what happens to requests. Pods are known by their UID on both sides; all calls happen while the kernel
stands still, and take effect at the current moment.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ("ContainerExit", "NetworkRule", "PodProcess", "PodResources", "PodRuntime")


class PodResources(msgspec.Struct, frozen=True, kw_only=True):
    """Requests and limits of a pod's container; null limit: unlimited."""

    cpu_request_cores: float
    cpu_limit_cores: float | None
    memory_request_bytes: int
    memory_limit_bytes: int | None


class PodProcess(msgspec.Struct, frozen=True, kw_only=True):
    """What a pod's spec makes of its process: which build it is, and what of its environment is wrong."""

    version: str = ""  #: key of `Service.versions`; empty: the build that the configuration describes
    canary: bool = False  #: a pod of the second backend of a traffic split
    unreachable: tuple[str, ...] = ()  #: services whose address in its environment is wrong


class NetworkRule(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to packets on their way out of a pod; several rules of one pod and peer add up as netem's and iptables' do."""

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0  #: share of packets (0..1); TCP sends them again
    blocked: bool = False  #: all are dropped (a partition): connections hang, new ones time out


class ContainerExit(msgspec.Struct, frozen=True, kw_only=True):
    """A container that ended without being told to."""

    uid: str  #: of its pod
    at: int  #: [ns]
    exit_code: int
    reason: str  #: as `state.terminated` has it


class PodRuntime(Protocol):
    """The kubelet's, kube-proxy's and chaos daemon's view of the simulated machines."""

    def start_container(
        self, uid: str, service: str, name: str, resources: PodResources, process: PodProcess = PodProcess()
    ) -> None:
        """The container runs from now on (start-up work included); it isn't sent any traffic yet.

        After an exit the same pod may start again: a cold process with the pod's address, place in the endpoints and network rules.
        """
        ...

    def take_exits(self) -> tuple[ContainerExit, ...]:
        """Return the containers that ended by themselves since the last call, in the order of their ends."""
        ...

    def start_seconds(self, service: str, process: PodProcess = PodProcess()) -> float:
        """Return how long a service's process takes from container start to serving; infinity: it never does."""
        ...

    def answers_probe(self, uid: str) -> bool:
        """Return whether a process that serves says that it is ready (a flag can make it say otherwise)."""
        ...

    def cpu_seconds(self, uid: str) -> float:
        """Return the CPU time that the pod's containers have used so far, as the kubelet reports it to the metrics server."""
        ...

    def memory_bytes(self, uid: str) -> int:
        """Return the pod's working set, as the kubelet reports it to the metrics server."""
        ...

    def kill_container(self, uid: str, exit_code: int = 137) -> None:
        """Kill the pod's process from outside (SIGKILL: 137); the end is heard of through `take_exits`, as Error."""
        ...

    def set_split(self, service: str, canary_share: float | None) -> None:
        """Send this share of new connections and per-request calls to a service's canary pods; None: to any pod alike."""
        ...

    def set_endpoint(self, uid: str, *, ready: bool) -> None:
        """Put the pod into, or take it out of, the endpoints that new connections are spread over. Open connections stay."""
        ...

    def begin_termination(self, uid: str) -> None:
        """SIGTERM: a process that drains closes its connections (clients reconnect elsewhere) and finishes what is in flight."""
        ...

    def in_flight(self, uid: str) -> int:
        """Return how many requests the pod holds, waiting ones included."""
        ...

    def stop_container(self, uid: str) -> None:
        """The pod is gone, whether its container still ran or not; what it still held is lost and fails at its callers."""
        ...

    def set_cpu_stress(self, uid: str, chaos: str, *, workers: int, load: float) -> None:
        """Run `workers` busy threads at `load` (0..1 of a core each) in the pod's CPU quota; load 0 removes those of `chaos`."""
        ...

    def set_memory_stress(self, uid: str, chaos: str, *, size_bytes: int, ramp_seconds: float) -> None:
        """Fill memory in the pod's container, linearly within `ramp_seconds`; size 0 frees that of `chaos`."""
        ...

    def set_network_rule(
        self, uid: str, chaos: str, *, peers: tuple[str, ...] | None, rule: NetworkRule | None
    ) -> None:
        """Do this to what the pod sends towards the peers' pod IPs (None: all); rule None removes that of `chaos`."""
        ...
