"""Public telemetry ⇄ its clean form: what the truth stream keeps of the telemetry that distortion changed.

In: an event of one family. Out: the same content as the event of the other. The clean family has types of its own, because the truth
stream holds telemetry of another kind already: spans, logs and Events that would tell a policy what was injected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from otel_control_gym.engine.events import (
    AutoscalersObserved,
    CleanAutoscalers,
    CleanFindings,
    CleanGap,
    CleanKubernetesEvents,
    CleanLogs,
    CleanPods,
    CleanRollouts,
    CleanRoutes,
    CleanSamples,
    CleanSeries,
    CleanSpans,
    CleanWorkload,
    CollectorGap,
    Event,
    FindingsObserved,
    KubernetesEventsObserved,
    LogsCollected,
    PodsTransitioned,
    RolloutsObserved,
    RoutesObserved,
    SamplesCollected,
    SeriesDeclared,
    SpansCollected,
    WorkloadObserved,
)

__all__ = ("CLEAN_FORMS", "clean_form", "public_form")

CLEAN_FORMS: Final[dict[type[Event], type[Event]]] = {
    SeriesDeclared: CleanSeries,
    SamplesCollected: CleanSamples,
    SpansCollected: CleanSpans,
    LogsCollected: CleanLogs,
    KubernetesEventsObserved: CleanKubernetesEvents,
    PodsTransitioned: CleanPods,
    RolloutsObserved: CleanRollouts,
    AutoscalersObserved: CleanAutoscalers,
    RoutesObserved: CleanRoutes,
    FindingsObserved: CleanFindings,
    WorkloadObserved: CleanWorkload,
    CollectorGap: CleanGap,
}
"""Telemetry event -> its clean form: all that distortion touches."""

_PUBLIC_FORMS: Final = {clean: public for public, clean in CLEAN_FORMS.items()}


def clean_form(event: Event) -> Event:
    """Return a telemetry event as the truth stream keeps it."""
    return _as(CLEAN_FORMS[type(event)], event)


def public_form(event: Event) -> Event:
    """Return a clean event as it would have stood in the public stream."""
    return _as(_PUBLIC_FORMS[type(event)], event)


def _as(kind: type[Event], event: Event) -> Event:
    make = cast("Callable[..., Event]", kind)
    return make(**{name: getattr(event, name) for name in event.__struct_fields__})
