"""Who of an application is called how often: without calls there is nothing to disturb and nothing to help.

In: a service configuration. Out: calls per user request of every service and edge, by the flows' weights and the operations' steps. A call
whose repetition depends on the order counts for two lines. Pure.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from otel_control_gym.engine.settings import ServiceConfiguration

__all__ = ("Reach", "reach_of")

_LINES = 2.0  #: order lines of a checkout, in the mean of the demo's flows


class Reach(msgspec.Struct, frozen=True):
    """Calls per request of a user."""

    services: dict[str, float]
    edges: dict[tuple[str, str], float]


def reach_of(application: ServiceConfiguration) -> Reach:
    """Return how often services and edges are called per request at the entry."""
    services: defaultdict[str, float] = defaultdict(float)
    edges: defaultdict[tuple[str, str], float] = defaultdict(float)
    requests: defaultdict[str, float] = defaultdict(float)
    for flow in application.flows.values():
        repeats = 1 + sum(flow.additions) / 2
        for number, operation in enumerate(flow.requests):
            last = number == len(flow.requests) - 1
            requests[operation] += flow.weight * (1.0 if last else repeats)
    total = sum(requests.values()) or 1.0
    for operation, weight in requests.items():
        _visit(application, application.entry, operation, weight / total, services, edges, ())
    return Reach(dict(services), dict(edges))


def _visit(
    application: ServiceConfiguration,
    service: str,
    operation: str,
    weight: float,
    services: defaultdict[str, float],
    edges: defaultdict[tuple[str, str], float],
    path: tuple[tuple[str, str], ...],
) -> None:
    services[service] += weight
    if (
        service,
        operation,
    ) in path:  # a configuration's check refuses circles; this bounds a walk over one all the same
        return
    settings = application.services[service].operations.get(operation)
    for step in settings.steps if settings is not None else ():
        for call in step.calls:
            target, _, called = call.target.partition(":")
            share = weight * (_LINES if call.repeat == "per_line" else 1.0) * (1.0 - call.cache_hit_ratio)
            edges[service, target] += share
            _visit(application, target, called, share, services, edges, (*path, (service, operation)))
