"""A run's graph ➜ what models know of an application: who is there, who calls whom, how far things are.

In: nodes and edges of `graph.json`, or of an observation. Out: a `System`. Calls go from source to target; load travels with them, trouble
against them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import shortest_path

__all__ = ("System", "system_of")

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


class System(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An application of N services and E edges."""

    name: str  #: the service configuration
    nodes: tuple[str, ...]  #: [N], in the order of observations
    kinds: tuple[str, ...]  #: [N] service, workload, dependency
    groups: tuple[str, ...]  #: [N] optional group, empty: none
    edges: tuple[tuple[str, str], ...]  #: [E] source and target
    sources: Int  #: [E] position of the source in `nodes`
    targets: Int  #: [E]
    hops: Float  #: [N, N] calls from one to the other along the graph, inf: no path
    entry: int  #: position of the service that users call

    @property
    def edge_ids(self) -> tuple[str, ...]:
        """How tables of scores name the edges."""
        return tuple(f"{source}->{target}" for source, target in self.edges)


def system_of(name: str, nodes: Iterable[Any], edges: Iterable[Any]) -> System:
    """Return the system that a graph describes; its nodes and edges may be mappings (`graph.json`) or records (an observation's graph)."""
    found = [_fields(node) for node in nodes]
    ids = tuple(node["id"] for node in found)
    kinds = tuple(str(node["kind"]) for node in found)
    position = {node: number for number, node in enumerate(ids)}
    calls = tuple((edge["source"], edge["target"]) for edge in map(_fields, edges))
    sources = np.array([position[source] for source, _ in calls], np.int64)
    targets = np.array([position[target] for _, target in calls], np.int64)
    matrix = np.zeros((len(ids), len(ids)))
    matrix[sources, targets] = 1.0
    called = [target for source, target in zip(sources, targets, strict=True) if kinds[source] == "workload"]
    return System(
        name=name,
        nodes=ids,
        kinds=kinds,
        groups=tuple(node.get("optional_group") or "" for node in found),
        edges=calls,
        sources=sources,
        targets=targets,
        hops=shortest_path(matrix, unweighted=True),
        entry=int(called[0]) if called else 0,
    )


def _fields(item: Any) -> Mapping[str, Any]:
    return item if isinstance(item, Mapping) else msgspec.structs.asdict(item)
