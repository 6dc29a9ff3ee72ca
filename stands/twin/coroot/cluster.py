"""What the cluster agent tells of Kubernetes: deployments, pods, nodes. The language between the agent and the detector."""

from __future__ import annotations

import msgspec

__all__ = ("Cluster", "Instance", "Node", "Workload")


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A Deployment."""

    name: str
    runtime: str  #: what its process is, for the icon
    version: str  #: image tag
    desired: int
    available: int
    rolling: bool  #: pods of another template than the newest exist, or newest ones are still to be made


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A pod."""

    name: str
    workload: str
    node: str
    running: bool
    oom_killed: str = (
        ""  #: time stamp of the last container that was killed for its memory, as kube-state-metrics tells it
    )


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A node and its capacity."""

    name: str
    cores: float
    memory_bytes: int
    kernel: str


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster at one moment, each part by name."""

    namespace: str
    workloads: tuple[Workload, ...]
    instances: tuple[Instance, ...]
    nodes: tuple[Node, ...]
