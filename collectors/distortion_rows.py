"""Distortion of rows: spans, logs, pods, rollouts, Events, findings, readings of the workload ➜ those that are seen, when they arrive.

In: a collector's rows. Out: rows for the log. In this order: hidden services' rows go, single rows are lost, what happens while a source is
silent is lost, the rest waits until it has arrived.

What a watch or a list shows is a state and not a stream: after a silence Kubernetes is listed anew, and of each object the last state is
told, as of then; findings that were missed are told by the next poll. Upstream: `distortion`. Beside it: `distortion_samples`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from otel_control_gym.collectors.distortion_draws import Stretches, text_key
from otel_control_gym.collectors.distortion_transit import Transit
from otel_control_gym.engine.events import (
    AutoscalerStatus,
    Event,
    Finding,
    FindingsObserved,
    KubernetesEvent,
    LogRow,
    PodTransition,
    RolloutStatus,
    RouteStatus,
    Row,
    Span,
)
from otel_control_gym.engine.randomness import draw_uniform
from otel_control_gym.engine.settings import Distortion, Hidden

__all__ = ("PollDistortion", "RowDistortion", "is_hidden", "is_lost")

_LOST: Final = text_key("row lost")


def is_hidden(row: Row, hidden: Hidden, services: Iterable[str]) -> bool:
    """Return whether a row tells of what is hidden; `services` are all of the application."""
    gone = hidden.services
    match row:
        case Span():
            return row.service in gone or row.peer in gone or f"{row.service}->{row.peer}" in hidden.edges
        case LogRow() | PodTransition() | RolloutStatus():
            return row.service in gone
        case AutoscalerStatus():
            return _owner(row.deployment, services) in gone
        case RouteStatus():
            return _owner(row.parent, services) in gone
        case KubernetesEvent():
            return _owner(row.object_name, services) in gone
        case Finding():
            ends = [end for edge in row.edges for end in edge.split("->")]
            return any(name in gone for name in (*row.services, *ends)) or any(
                edge in hidden.edges for edge in row.edges
            )
        case _:
            return False


def is_lost(row: Row, distortion: Distortion, key: int) -> bool:
    """Return whether a single span or log record is lost; its content decides, wherever it stands."""
    match row:
        case Span():
            share, content = distortion.row_losses.get("spans", 0.0), f"{row.trace_id} {row.span_id}"
        case LogRow():
            share = distortion.row_losses.get("logs", 0.0)
            content = f"{row.time} {row.service} {row.trace_id} {row.span_id} {row.body}"
        case _:
            return False
    return share > 0 and draw_uniform(key, _LOST, text_key(content)) < share


class RowDistortion:
    """The way of one event type's rows; `seen` says of which rows anything is seen at all."""

    def __init__(
        self, kind: type[Event], seen: Callable[[Any], bool], silence: Stretches | None, transit: Transit
    ) -> None:
        self._kind, self._seen, self._silence, self._transit = kind, seen, silence, transit
        self._missed: dict[
            int, dict[tuple[str, ...], tuple[Any, Any]]
        ] = {}  # end of the silence -> first and last state
        self._waiting: list[tuple[int, Any]] = []

    def take(self, event: Any) -> None:
        """Take in the rows of an event of the collector's."""
        for row in event.rows:
            if not self._seen(row):
                continue
            stretch = self._silence.at(row.time) if self._silence is not None else None
            if stretch is None:
                self._send(row)
            elif (identity := _identity(row)) is not None:
                missed = self._missed.setdefault(stretch[1], {})
                first, _ = missed.pop(identity, (row, row))
                missed[identity] = (first, row)

    def release(self, now: int) -> list[Event]:
        """Return an event with what has arrived by `now`, if anything has."""
        for end in sorted(end for end in self._missed if end <= now):
            for first, last in self._missed.pop(end).values():
                if not (getattr(first, "change", "") == "added" and getattr(last, "change", "") == "deleted"):
                    self._send(msgspec.structs.replace(last, time=end))
        here = [row for arrival, row in self._waiting if arrival <= now]
        self._waiting = [(arrival, row) for arrival, row in self._waiting if arrival > now]
        if not here:
            return []
        rows = tuple(sorted(here, key=lambda row: row.time)) if self._silence is not None else tuple(here)
        kind: Any = self._kind
        return [kind(time=now, rows=rows)]

    def _send(self, row: Any) -> None:
        self._waiting.append((int(self._transit.arrivals(np.array([row.time], np.int64))[0]), row))


class PollDistortion:
    """The way of findings: a poll is seen as a whole or not at all."""

    def __init__(self, seen: Callable[[Any], bool], silence: Stretches | None, transit: Transit) -> None:
        self._seen, self._silence, self._transit = seen, silence, transit
        self._missed: dict[str, Finding] = {}
        self._waiting: list[tuple[int, tuple[Finding, ...]]] = []

    def take(self, event: FindingsObserved) -> None:
        """Take in a poll."""
        rows = [row for row in event.rows if self._seen(row)]
        if self._silence is not None and self._silence.at(event.time) is not None:
            self._missed |= {row.key: row for row in rows}
            return
        told = {row.key for row in rows}
        earlier = [row for key, row in self._missed.items() if key not in told]
        self._missed = {}
        arrival = int(self._transit.arrivals(np.array([event.time], np.int64))[0])
        self._waiting.append((arrival, (*earlier, *rows)))

    def release(self, now: int) -> list[Event]:
        """Return the polls that have arrived by `now`."""
        here = [(arrival, rows) for arrival, rows in self._waiting if arrival <= now]
        self._waiting = [(arrival, rows) for arrival, rows in self._waiting if arrival > now]
        return [FindingsObserved(time=arrival, rows=rows) for arrival, rows in here]


def _identity(row: Row) -> tuple[str, ...] | None:
    """Return what names the object that a row shows a state of, or None: a row that shows no lasting thing is lost for good."""
    match row:
        case PodTransition() | RolloutStatus() | AutoscalerStatus() | RouteStatus():
            return (row.uid,)
        case KubernetesEvent():
            return (row.object_uid, row.reason, row.message)
        case _:
            return None


def _owner(name: str, services: Iterable[str]) -> str:
    """Return the service whose object has this name: a Deployment, or what is named after it."""
    found: Sequence[str] = [service for service in services if name == service or name.startswith(f"{service}-")]
    return max(found, key=len, default="")
