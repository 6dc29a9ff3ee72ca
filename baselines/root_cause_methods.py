"""Rankers of root causes: the telemetry around an onset ➜ a score for every service, and where a method has them, for edges and a path.

None is trained, so all families of a campaign can be asked about. How far a feature moved is measured in robust units: the distance of the
buckets after the onset from the median before it, over 1.4826 MAD of those before, at least a third of what counts as an effect
(`configs/effects/`).

- `robust_score`: the feature of a service that moved furthest (BARO's RobustScorer: Pham et al., FSE 2024, with MAD for its interquartile
  range).
- `random_walk`: how much a service moves together with what users see (correlation over the whole window), walked over the call graph
  towards callees, and less readily back to callers, as MonitorRank (Kim et al., SIGMETRICS 2013) and MicroRCA (Wu et al., NOMS 2020) do.
- `edge_aware`: what a caller sees of a call against what the callee says of itself. A callee that is slow by its own account explains its
  callers; a call that is slow or fails while the callee sees nothing lies between the two, or the callee is gone.
- `findings`: what Coroot told by then: the causes that it suggests, then the services that it names.
- plain rules: `error_rise`, `deepest_error`; and `chance`, which ties all.

Pure. Upstream: `root_cause_cases`. Downstream: `root_causes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.anomaly_detectors import SHARE_OF_EFFECT, practical_thresholds
from otel_control_gym.baselines.entity_series import FEATURES
from otel_control_gym.baselines.root_cause_cases import Question

__all__ = ("METHODS", "RULES", "Ranking", "movements")

Float = npt.NDArray[np.float64]

_MAD_TO_SIGMA = 1.4826
_BACKWARD = 0.2  #: of a step to a callee: MonitorRank's rho, between 0 and 1
_DAMPING = 0.85  #: PageRank's: how often a walk goes on rather than begins anew
_SYMPTOMS = [FEATURES.index(name) for name in ("error_ratio", "latency_mean_ms")]
_ERRORS, _RATE = FEATURES.index("error_ratio"), FEATURES.index("request_rate")
_OWN = [FEATURES.index(name) for name in ("cpu_usage_cores", "memory_usage_bytes", "cpu_throttled_ratio", "restarts")]
_SEVERITY = {"critical": 1.0, "warning": 0.5}
_LIMIT = 1e3  #: robust units; beyond it nothing more is said


class Ranking(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a method says; the higher the likelier."""

    services: Float  #: [S]
    edges: Float | None = None  #: [E]
    path: tuple[tuple[str, str], ...] | None = None  #: calls from the entry to the service that is ranked first


def movements(question: Question) -> Float:
    """Return how far each feature of each entity moved, [S + E, F], signed, in robust units; 0 where it wasn't seen on both sides.

    The value of the bucket after the onset that lies furthest out counts.
    """
    centre = _median(question.before)
    spread = _MAD_TO_SIGMA * _median(np.abs(question.before - centre))
    absolute, relative = practical_thresholds()
    unit = np.fmax(spread, SHARE_OF_EFFECT * np.fmax(absolute, relative * np.abs(centre)))
    moved = np.nan_to_num((question.after - centre) / unit)
    if not len(moved):
        return np.zeros(centre.shape)
    furthest = np.take_along_axis(moved, np.abs(moved).argmax(axis=0)[np.newaxis], axis=0)[0]
    return np.asarray(np.clip(furthest, -_LIMIT, _LIMIT))


def robust_score(question: Question) -> Ranking:
    """Rank services by the feature that moved furthest."""
    moved = np.abs(movements(question))[: len(question.services)]
    return Ranking(services=moved.max(axis=1, initial=0.0))


def random_walk(question: Question) -> Ranking:
    """Rank services by how often a walk from what users see comes by."""
    likeness = _likeness(question)
    count = len(question.services)
    steps = np.zeros((count, count))
    for source, target in _calls(question):
        steps[source, target] = max(steps[source, target], likeness[target])
        steps[target, source] = max(steps[target, source], _BACKWARD * likeness[source])
    for place in range(count):
        callees = [target for source, target in _calls(question) if source == place]
        steps[place, place] = max(0.0, likeness[place] - max((likeness[target] for target in callees), default=0.0))
    total = steps.sum(axis=1, keepdims=True)
    steps = np.divide(steps, total, out=np.full_like(steps, 1.0 / count), where=total > 0)
    start = likeness / likeness.sum() if likeness.sum() else np.full(count, 1.0 / count)
    visits = np.linalg.solve(np.eye(count) - _DAMPING * steps.T, (1 - _DAMPING) * start)
    return Ranking(services=visits, path=_path(question, visits, likeness[[target for _, target in _calls(question)]]))


def edge_aware(question: Question) -> Ranking:
    """Rank services by what they say of themselves, and by what their callers say that they don't."""
    plain = movements(question)
    moved = np.sign(plain) * np.log1p(np.abs(plain))
    count = len(question.services)
    own, calls = moved[:count], moved[count:]
    symptoms = np.maximum(own[:, _SYMPTOMS], 0.0).max(axis=1)
    seen = np.maximum(calls[:, _SYMPTOMS], 0.0).max(axis=1)  # by the caller
    worst_call = np.zeros(count)
    for place, (source, _) in enumerate(question.edges):
        if source in question.services:
            caller = question.services.index(source)
            worst_call[caller] = max(worst_call[caller], seen[place])
    resources = np.maximum(own[:, _OWN], 0.0).max(axis=1)
    services = np.maximum(symptoms - worst_call, 0.0) + resources
    edges = np.zeros(len(question.edges))
    blamed = np.zeros(count)
    for place, (source, target) in enumerate(question.edges):
        if source not in question.services or target not in question.services:
            continue
        callee = question.services.index(target)
        edges[place] = max(0.0, seen[place] - symptoms[callee])
        blamed[callee] = max(blamed[callee], edges[place])
    services = services + blamed
    weights = np.array([seen[place] for place in _inner(question)])
    return Ranking(services=services, edges=edges, path=_path(question, services, weights))


def findings(question: Question) -> Ranking:
    """Rank services by Coroot's word: a suggested cause before a service that is merely named."""
    scores = np.zeros(len(question.services))
    for finding in question.findings:
        weight = finding.confidence * _SEVERITY.get(finding.severity.lower(), 0.1)
        for place, service in enumerate(question.services):
            if service == finding.suggested_cause:
                scores[place] += 1.0 + weight
            elif service in finding.services:
                scores[place] += weight / max(1, len(finding.services))
    return Ranking(services=scores)


def error_rise(question: Question) -> Ranking:
    """Rank services by how much their failures per second rose."""
    return Ranking(services=_error_rise(question))


def deepest_error(question: Question) -> Ranking:
    """Rank services that fail more than before by how far from the entry they are; those that don't come last."""
    from scipy.sparse.csgraph import shortest_path

    count = len(question.services)
    graph = np.zeros((count, count))
    for source, target in _calls(question):
        graph[source, target] = 1.0
    depth = shortest_path(graph, unweighted=True, indices=question.services.index(question.entry))
    rise = np.nan_to_num(_mean(question.after) - _mean(question.before))[:count, _ERRORS]
    failing = rise > practical_thresholds()[0][_ERRORS]
    return Ranking(services=np.where(failing, 1.0 + np.where(np.isfinite(depth), depth, 0.0), 0.0))


def chance(question: Question) -> Ranking:
    """Rank all services the same."""
    return Ranking(services=np.zeros(len(question.services)))


METHODS: Mapping[str, Callable[[Question], Ranking]] = {
    "robust-score": robust_score,
    "random-walk": random_walk,
    "edge-aware": edge_aware,
    "coroot-findings": findings,
    "error-rise": error_rise,
    "deepest-error": deepest_error,
    "chance": chance,
}
"""Methods by name; the last three are floors."""
RULES: tuple[str, ...] = ("error-rise", "deepest-error", "chance")


# --- parts ----------------------------------------------------------------------------------------------------------------


def _likeness(question: Question) -> Float:
    """Return how closely a feature of each service moves with what users see, [S], 0 to 1: the largest correlation."""
    whole = np.concatenate([question.before, question.after])
    entry = question.services.index(question.entry)
    moved = movements(question)[entry]
    symptom = whole[:, entry, max(_SYMPTOMS, key=lambda feature: moved[feature])]
    found = np.zeros(len(question.services))
    for place in range(len(question.services)):
        found[place] = max(_correlation(symptom, whole[:, place, feature]) for feature in range(len(FEATURES)))
    return found


def _correlation(first: Float, second: Float) -> float:
    """Return the size of Pearson's correlation where both are known; 0 where one of them stands still."""
    from scipy.stats import pearsonr

    known = ~np.isnan(first) & ~np.isnan(second)
    here, there = first[known], second[known]
    if len(here) < 3 or np.ptp(here) < 1e-9 or np.ptp(there) < 1e-9:
        return 0.0
    return abs(float(pearsonr(here, there).statistic))


def _error_rise(question: Question) -> Float:
    def failures(values: Float) -> Float:
        return np.nan_to_num(_mean(values[:, :, _ERRORS] * values[:, :, _RATE]))

    rise: Float = (failures(question.after) - failures(question.before))[: len(question.services)]
    return np.maximum(rise, 0.0)


def _inner(question: Question) -> list[int]:
    """Return the edges between services, by position."""
    return [
        place
        for place, (source, target) in enumerate(question.edges)
        if source in question.services and target in question.services
    ]


def _calls(question: Question) -> list[tuple[int, int]]:
    """Return caller and callee of the edges between services, by position among the services."""
    return [
        (question.services.index(question.edges[place][0]), question.services.index(question.edges[place][1]))
        for place in _inner(question)
    ]


def _path(question: Question, scores: Float, weights: Float) -> tuple[tuple[str, str], ...]:
    """Return the calls from the entry to the service with the highest score, along the likeliest way; none if there is no way.

    `weights` says how odd each edge between services is: an odd one is a short step.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    count = len(question.services)
    lengths = np.zeros((count, count))
    for (source, target), weight in zip(_calls(question), weights, strict=True):
        lengths[source, target] = 1.0 / (1.0 + weight)
    start = question.services.index(question.entry)
    _, before = shortest_path(csr_array(lengths), indices=start, return_predecessors=True)
    place, path = int(np.argmax(scores)), []
    while place != start and before[place] >= 0:
        path.append((question.services[before[place]], question.services[place]))
        place = int(before[place])
    return tuple(reversed(path)) if place == start else ()


def _mean(values: Float) -> Float:
    """Return means along the first axis; NaN where nothing is known."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0.0).sum(axis=0)
    mean: Float = np.divide(total, count, out=np.full(values.shape[1:], np.nan), where=count > 0)
    return mean


def _median(values: Float) -> Float:
    known = ~np.isnan(values).all(axis=0)
    return np.where(known, np.nanmedian(np.where(known, values, 0.0), axis=0), np.nan)
