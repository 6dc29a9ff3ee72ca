"""What Coroot's cluster agent sees of Kubernetes: the control plane's objects ➜ `coroot.cluster.Cluster`.

In: Deployments, Pods and the Node of the application's namespace. Out: a snapshot, the same one until an object changes. Chaos objects,
which a cluster agent doesn't watch, are not asked for.
"""

from __future__ import annotations

from otel_control_gym.stands.twin import manifests
from otel_control_gym.stands.twin.control_plane import ControlPlane
from otel_control_gym.stands.twin.coroot.cluster import Cluster, Instance, Node, Workload
from otel_control_gym.stands.twin.objects import DEPLOYMENT, NODE, POD, Object
from otel_control_gym.stands.twin.quantities import parse

__all__ = ("ClusterAgent",)


class ClusterAgent:
    """The agent of one run."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self._control_plane = control_plane
        self._version = ""
        self._cluster: Cluster | None = None

    def observe(self) -> Cluster:
        """Return the cluster as it is now."""
        plane = self._control_plane
        if self._cluster is None or self._version != plane.resource_version:
            self._version = plane.resource_version
            store, namespace = plane.store, plane.namespace
            self._cluster = Cluster(
                namespace=namespace,
                workloads=tuple(self._workload(item) for item in store.objects(DEPLOYMENT, namespace)),
                instances=tuple(_instance(item) for item in store.objects(POD, namespace)),
                nodes=tuple(_node(item) for item in store.objects(NODE)),
            )
        return self._cluster

    def _workload(self, item: Object) -> Workload:
        name, status, desired = item["metadata"]["name"], item.get("status", {}), item["spec"]["replicas"]
        services = self._control_plane.services.services
        updated = status.get("updatedReplicas", 0)
        image = item["spec"]["template"]["spec"]["containers"][0]["image"]
        return Workload(
            name=name,
            runtime=services[name].runtime if name in services else "",
            version=image.rpartition(":")[2],
            desired=desired,
            available=status.get("availableReplicas", 0),
            rolling=updated < desired or status.get("replicas", 0) > max(updated, desired),
        )


def _instance(pod: Object) -> Instance:
    containers = pod.get("status", {}).get("containerStatuses", ())
    killed = [
        state["terminated"]["finishedAt"]
        for container in containers
        for state in (container["state"], container.get("lastState", {}))
        if state.get("terminated", {}).get("reason") == "OOMKilled"
    ]
    return Instance(
        name=pod["metadata"]["name"],
        workload=pod["metadata"].get("labels", {}).get(manifests.NAME_LABEL, ""),
        node=pod["spec"].get("nodeName", ""),
        running=any("running" in container["state"] for container in containers),
        oom_killed=max(killed, default=""),
    )


def _node(item: Object) -> Node:
    status = item.get("status", {})
    capacity = status.get("capacity", {})
    return Node(
        name=item["metadata"]["name"],
        cores=float(parse(capacity.get("cpu", "0"))),
        memory_bytes=int(parse(capacity.get("memory", "0"))),
        kernel=status.get("nodeInfo", {}).get("kernelVersion", ""),
    )
