"""Rows of all sources ➜ what happened, as one list of moments.

In: a state. Out: `Happening`s, sorted: Kubernetes events, the lives of pods, rollouts, autoscalers and routes, what polls of Coroot told,
changes of the workload, phases and gaps. The observation shows those of its window, public ones only; `events.parquet` has all: what
became of interventions, too, and which versions of Kubernetes objects actions wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise
from typing import Literal, TypeVar

import msgspec

from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import (
    ActionForced,
    ActionLapsed,
    ActionResumed,
    AutoscalerStatus,
    KubernetesEvent,
    PodTransition,
    RolloutStatus,
    RouteStatus,
    WorkloadState,
)
from otel_control_gym.projections.causes import Causes
from otel_control_gym.projections.changes import (
    Change,
    autoscaler_change,
    pod_change,
    rollout_change,
    route_change,
)
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.polls import Told

__all__ = ("Happening", "happenings")

RowT = TypeVar("RowT", PodTransition, RolloutStatus, AutoscalerStatus, RouteStatus)


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `events.parquet` without its run."""

    time: int
    source: str
    type: str
    reason: str = ""
    object: str = ""
    message: str = ""
    count: int = 1
    visibility: Literal["public", "truth"] = "public"
    caused_by_action_id: str | None = None


def happenings(state: RunState, start: int, end: int, *, truth: bool) -> list[Happening]:
    """Return what happened in [start, end), sorted by time, source and object; with `truth`, also what a policy couldn't see.

    What happens to one object at one moment stays in the order in which it happened: that a pod was deleted comes last.

    Public rows name public actions as their cause and no others: an intervention's id in a public row would give it away.
    """
    causes = Causes(state.owners, state.lives.all())
    found = list(
        chain(
            (_kubernetes(row, causes) for row in state.kubernetes_events.between(start, end)),
            _objects(state, (start, end), causes),
            (_finding(told) for told in state.findings.between(start, end)),
            _workload(state, start, end),
            _run(state, start, end),
        )
    )
    if truth:
        causes = Causes(state.owners, (*state.lives.all(), *state.truth.lives.all()))
        hidden = state.truth.kubernetes_events.between(start, end)
        found += [msgspec.structs.replace(_kubernetes(row, causes), visibility="truth") for row in hidden]
        found += [row for row in (*_script(state), *_hidden_actions(state)) if start <= row.time < end]
    return sorted(found, key=_order)


def _order(row: Happening) -> tuple[int, str, str]:
    return (row.time, row.source, row.object)


def _hidden_actions(state: RunState) -> Iterator[Happening]:
    """Yield what became of interventions while they were in force, what was forced, and what every action wrote."""
    for life in state.truth.lives.all():
        for event in (*life.watched, *life.forced):
            yield _fate(event)
    for written in state.truth.written:
        for item in written.objects:
            yield Happening(
                time=written.time,
                source="actions",
                type="wrote",
                reason=item.method,
                object=f"{item.kind}/{item.name}",
                message=f"uid={item.uid} resource_version={item.version_before or '-'}..{item.version_after or '-'}",
                visibility="truth",
                caused_by_action_id=written.action_id,
            )


def _fate(event: ActionLapsed | ActionResumed | ActionForced) -> Happening:
    """Return what became of an intervention."""
    match event:
        case ActionLapsed():
            time, kind, reason = event.end_time, "lapsed", event.reason
            places, message = event.lost, f"left: {', '.join(event.left) or 'none'}"
        case ActionResumed():
            time, kind, reason, places, message = event.resumed_time, "resumed", "", event.places, ""
        case ActionForced():
            time, kind, reason, message = event.time, "forced", event.step, event.error
            places = tuple(f"{item.kind}/{item.name}" for item in event.objects)
    return Happening(
        time=time,
        source="actions",
        type=kind,
        reason=reason,
        object=",".join(places),
        message=message,
        visibility="truth",
        caused_by_action_id=event.action_id,
    )


def _kubernetes(row: KubernetesEvent, causes: Causes) -> Happening:
    return Happening(
        time=row.time,
        source="kubernetes",
        type=row.type,
        reason=row.reason,
        object=f"{row.object_kind}/{row.object_name}",
        message=row.message,
        count=row.count,
        caused_by_action_id=causes.of(row.object_uid, row.time),
    )


def _objects(state: RunState, bounds: tuple[int, int], causes: Causes) -> Iterator[Happening]:
    """Yield what happened to pods, Deployments and ReplicaSets, autoscalers, and routes."""
    yield from _changed(state.pods.all(), pod_change, "pods", lambda row: f"Pod/{row.pod}", bounds, causes)
    yield from _changed(
        state.rollouts.all(), rollout_change, "rollouts", lambda row: f"{row.kind}/{row.name}", bounds, causes
    )
    yield from _changed(
        state.autoscalers.all(),
        autoscaler_change,
        "autoscalers",
        lambda row: f"HorizontalPodAutoscaler/{row.name}",
        bounds,
        causes,
    )
    yield from _changed(state.routes.all(), route_change, "routes", lambda row: f"HTTPRoute/{row.name}", bounds, causes)


def _changed(
    rows: Iterable[RowT],
    change: Callable[[RowT | None, RowT], Change],
    source: str,
    kind: Callable[[RowT], str],
    bounds: tuple[int, int],
    causes: Causes,
) -> Iterator[Happening]:
    """Yield what happened to the objects of a kind in [start, end), each row told by the one before it."""
    latest: dict[str, RowT] = {}
    start, end = bounds
    for row in rows:
        if row.time >= end:
            return
        if row.time >= start:
            told = change(latest.get(row.uid), row)
            yield Happening(
                time=row.time,
                source=source,
                type=told.type,
                reason=told.reason,
                object=kind(row),
                message=told.message,
                caused_by_action_id=causes.of(row.uid, row.time),
            )
        latest[row.uid] = row


def _finding(told: Told) -> Happening:
    """Return what a poll told, at the moment of the poll: when it began, and ended, by Coroot's account is in the text."""
    row = told.finding
    until = "" if row.resolved is None else f" until {rfc3339(row.resolved)}"
    cause = f" cause={row.suggested_cause}" if row.suggested_cause else ""
    return Happening(
        time=told.time,
        source="findings",
        type=told.change,
        reason=row.symptom,
        object=f"{row.source}/{','.join((*row.services, *row.edges))}",
        message=f"{row.severity}: {row.text} (since {rfc3339(row.time)}{until}, confidence={row.confidence:.2g}{cause})",
    )


def _workload(state: RunState, start: int, end: int) -> Iterator[Happening]:
    """Yield the changes of what the load generator was told, and of its state; its figures are in control_inputs."""
    rows = state.workload.all()
    for before, after in chain([(None, rows[0])] if rows else [], pairwise(rows)):
        changed = before is None or (before.state, _told(before)) != (after.state, _told(after))
        if start <= after.time < end and changed:
            type_, message = _said(before, after)
            yield Happening(time=after.time, source="workload", type=type_, reason=after.state, message=message)


def _told(row: WorkloadState) -> tuple[tuple[str, float], ...]:
    """Return the figures that the load generator was told."""
    figures: dict[str, float] = {"users": row.users_target, "spawn_rate_per_s": row.spawn_rate_per_s}
    figures |= {} if row.rate_per_s is None else {"rate_per_s": row.rate_per_s}
    figures |= {f"mix.{flow}": row.mix[flow] for flow in sorted(row.mix)}
    return tuple(figures.items())


def _said(before: WorkloadState | None, after: WorkloadState) -> tuple[str, str]:
    """Return what changed, in a word, and the figures that did; all of them the first time."""
    known = dict(_told(before)) if before is not None else {}
    now = {name: value for name, value in _told(after) if value != known.get(name)}
    message = " ".join(
        f"{name}={value:.4g}" if name not in known else f"{name}={known[name]:.4g}->{value:.4g}"
        for name, value in now.items()
    )
    if before is None:
        return "first", message
    if not now:
        return "state_changed", f"{before.state}->{after.state}"
    changed = next((name for name in ("users", "rate_per_s") if name in now), "mix")
    return f"{changed.removesuffix('_per_s')}_changed", message


def _script(state: RunState) -> Iterator[Happening]:
    """Yield the points of the curve and the changes of the mix when they are due: nobody but the script knows them beforehand."""
    declared = state.truth.declared
    control = next((phase.time for phase in state.phases if phase.phase == "control"), None)
    if declared is None or control is None:
        return
    for point in (*declared.workload.get("curve", ()), *declared.workload.get("mix_changes", ())):
        told = " ".join(
            [
                *(f"{key}={point[key]}" for key in ("users", "rate_per_s") if point.get(key) is not None),
                *(f"mix.{flow}={weight:.4g}" for flow, weight in point.get("mix", {}).items()),
            ]
        )
        yield Happening(
            time=control + int(point["at_seconds"]) * SECOND,
            source="workload",
            type="scheduled",
            message=told,
            visibility="truth",
        )


def _run(state: RunState, start: int, end: int) -> Iterator[Happening]:
    for phase in state.phases:
        if start <= phase.time < end:
            yield Happening(time=phase.time, source="run", type="phase", reason=phase.phase)
    for gap in state.gaps:
        if start <= gap.time < end:
            seconds = (gap.end - gap.start) / 1e9
            yield Happening(
                time=gap.time,
                source="collectors",
                type="gap",
                reason=gap.source,
                object=", ".join(gap.services),
                message=f"{seconds:g} s: {gap.reason}",
            )
    for late in state.lateness.left_out:
        if start <= late.time < end:
            yield Happening(
                time=late.time,
                source="collectors",
                type="late",
                reason=late.source,
                message=f"of {(late.time - late.end) / 1e9:g} to {(late.time - late.start) / 1e9:g} s before: left out",
                count=late.count,
            )
    if state.ended is not None and start <= state.ended.time < end:
        kind = type(state.ended).__name__
        yield Happening(
            time=state.ended.time,
            source="run",
            type="ended" if kind == "RunEnded" else "aborted",
            reason=state.ended.reason,
        )
