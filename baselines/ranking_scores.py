"""A ranking and the right answers ➜ how good it is: hits among the first k, by chance too, and how far off in the call graph.

AC@k is 1 if a right answer is among the first k; Avg@5 is the mean of AC@1 … AC@5 (as RCAEval has them). Services with the same score stand
in no order: AC@k is then the probability of a hit if their order is drawn, so a method that says nothing gets exactly what chance gets.

Paths: the calls along which a fault should spread are those between services on which it should show. Edge precision and recall compare a
path with them; a path hits if it ends at a right answer and leaves them nowhere. Hop distance: calls, in any direction, between the service
that is ranked first and the nearest right answer. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ("PathScore", "accuracy_at", "hop_distance", "path_score", "spreading_edges")

Float = npt.NDArray[np.float64]


class PathScore(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a path lies where the fault should spread; None where there is nothing to compare."""

    edge_precision: float | None
    edge_recall: float | None
    hit: float


def accuracy_at(k: int, scores: Float, answers: Collection[int]) -> float:
    """Return the probability that one of the answers is among the first k of the scores [S], ties drawn."""
    from scipy.stats import hypergeom

    right = np.zeros(len(scores), bool)
    right[sorted(answers)] = True
    if not right.any():
        return 0.0
    best = scores[right].max()
    above = int((scores > best).sum())
    places = k - above
    tied = scores == best
    if places <= 0:
        return 0.0
    drawn = min(places, int(tied.sum()))
    return float(1.0 - hypergeom.pmf(0, int(tied.sum()), int((tied & right).sum()), drawn))


def spreading_edges(
    affected: Collection[str], ends: Sequence[str], edges: Sequence[tuple[str, str]]
) -> frozenset[tuple[str, str]]:
    """Return the calls along which a fault should show: between services that it should reach, and the faulty call itself."""
    reached = {*affected, *ends}
    return frozenset((source, target) for source, target in edges if source in reached and target in reached)


def path_score(
    path: Sequence[tuple[str, str]], truth: Collection[tuple[str, str]], entry: str, answers: Collection[str]
) -> PathScore:
    """Return how well a path from the entry matches the calls along which the fault should spread."""
    common = sum(edge in truth for edge in path)
    last = path[-1][1] if path else entry
    return PathScore(
        edge_precision=common / len(path) if path else None,
        edge_recall=common / len(truth) if truth else None,
        hit=float(last in answers and common == len(path)),
    )


def hop_distance(
    first: str, answers: Collection[str], services: Sequence[str], edges: Sequence[tuple[str, str]]
) -> float | None:
    """Return how many calls lie between a service and the nearest answer; None if no way leads there."""
    from scipy.sparse.csgraph import shortest_path

    places = {service: place for place, service in enumerate(services)}
    graph = np.zeros((len(services), len(services)))
    for source, target in edges:
        if source in places and target in places:
            graph[places[source], places[target]] = 1.0
    away = shortest_path(graph, directed=False, unweighted=True, indices=places[first])
    nearest = min(float(away[places[answer]]) for answer in answers)
    return nearest if np.isfinite(nearest) else None
