"""What a stand is made of: its namespaces, its Helm releases with their values, what each is to bring into being.

In: which application, on what kind of nodes, from which registry. Out: data; `installation` and `removal` act on it, the first in this
order, the second in the opposite one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

__all__ = (
    "CHAOS_MESH",
    "COROOT",
    "CRD_GROUPS",
    "NAMESPACE",
    "NAMESPACES",
    "SYSTEM",
    "Nodes",
    "Release",
    "nodes_of",
    "releases",
    "workloads_of",
)

NAMESPACE = "otel-demo"  #: of the application, which is there to be broken
SYSTEM = "ocg-system"  #: of the gym's side: janitor, Leases, the way back from changes
CHAOS_MESH = "chaos-mesh"
COROOT = "coroot"
NAMESPACES = (NAMESPACE, SYSTEM, CHAOS_MESH, COROOT)
CRD_GROUPS = {"chaos-mesh.org": CHAOS_MESH, "coroot.com": COROOT}  #: group of CRDs -> the namespace of what serves it

_NESTED = ("kind://", "k3s://k3d")


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """What about a cluster's nodes decides which values are right."""

    k3s: bool = False  #: whose container runtime listens elsewhere
    nested: bool = False  #: nodes are containers, in which Coroot's node agent doesn't work


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A Helm release of a stand."""

    name: str
    chart: str  #: as pins.yaml names it
    namespace: str
    values: tuple[str, ...]  #: files of `deploy/`, the later ones count more
    checked: bool = True  #: keeps its chart's schema


def nodes_of(items: Iterable[Mapping[str, Any]]) -> Nodes:
    """Return what a list of Node objects tells."""
    listed = list(items)
    versions = [str(node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "")) for node in listed]
    providers = [str(node.get("spec", {}).get("providerID", "")) for node in listed]
    return Nodes(
        k3s=any("+k3s" in version for version in versions),
        nested=any(provider.startswith(_NESTED) for provider in providers),
    )


def releases(config: str, nodes: Nodes) -> tuple[Release, ...]:
    """Return the releases of a stand that runs a service configuration, in the order in which they are installed."""
    chaos = ("helm/chaos-mesh.yaml", *(("helm/chaos-mesh-k3s.yaml",) if nodes.k3s else ()))
    coroot = ("helm/coroot.yaml", *(("helm/coroot-nested.yaml",) if nodes.nested else ()))
    demo = ("helm/demo.yaml", f"helm/demo-{config}.yaml", f"helm/probes-{config}.yaml", "helm/receiver.yaml")
    return (
        Release(name="chaos-mesh", chart="chaos-mesh", namespace=CHAOS_MESH, values=chaos),
        Release(
            name="coroot-operator", chart="coroot-operator", namespace=COROOT, values=("helm/coroot-operator.yaml",)
        ),
        Release(name="coroot", chart="coroot-ce", namespace=COROOT, values=coroot),
        Release(name="otel-demo", chart="opentelemetry-demo", namespace=NAMESPACE, values=demo, checked=False),
    )


def workloads_of(services: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the workloads that have to be there before a stand is up, by namespace; more of them may be."""
    return {
        NAMESPACE: (*services, "jaeger", "otel-collector", "prometheus"),
        SYSTEM: ("janitor", "gym"),
        CHAOS_MESH: ("chaos-controller-manager", "chaos-daemon"),
        COROOT: (
            "coroot-operator",
            "coroot-coroot",
            "coroot-prometheus",
            "coroot-clickhouse-shard-0",
            "coroot-clickhouse-keeper",
            "coroot-cluster-agent",
            "coroot-node-agent",
        ),
    }
