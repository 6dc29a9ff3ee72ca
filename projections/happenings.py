"""Rows of all sources ➜ what happened, as one list of moments.

In: a state. Out: `Happening`s, sorted: Kubernetes events, pod transitions, rollouts, findings, changes of the workload, phases and gaps.
The observation shows those of its window, public ones only; `events.parquet` has all: what became of interventions, too, and which
versions of Kubernetes objects actions wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Literal

import msgspec

from otel_control_gym.engine.events import (
    ActionForced,
    ActionLapsed,
    ActionResumed,
    Finding,
    KubernetesEvent,
    PodTransition,
    RolloutStatus,
    WorkloadState,
)
from otel_control_gym.projections.causes import Causes
from otel_control_gym.projections.fold import RunState

__all__ = ("Happening", "happenings")


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
            (_pod(row, causes) for row in state.pods.between(start, end)),
            (_rollout(row, causes) for row in state.rollouts.between(start, end)),
            (_finding(row) for row in state.findings.between(start, end)),
            _workload(state, start, end),
            _run(state, start, end),
        )
    )
    if truth:
        causes = Causes(state.owners, (*state.lives.all(), *state.truth.lives.all()))
        hidden = state.truth.kubernetes_events.between(start, end)
        found += [msgspec.structs.replace(_kubernetes(row, causes), visibility="truth") for row in hidden]
        found += [row for row in _hidden_actions(state) if start <= row.time < end]
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


def _pod(row: PodTransition, causes: Causes) -> Happening:
    figures = f"phase={row.phase} ready={str(row.ready).lower()} restarts={row.restart_count}"
    return Happening(
        time=row.time,
        source="pods",
        type=row.change,
        reason=row.reason,
        object=f"Pod/{row.pod}",
        message=figures + (" terminating" if row.terminating else ""),
        caused_by_action_id=causes.of(row.uid, row.time),
    )


def _rollout(row: RolloutStatus, causes: Causes) -> Happening:
    return Happening(
        time=row.time,
        source="rollouts",
        type=row.change,
        object=f"{row.kind}/{row.name}",
        message=(
            f"desired={row.replicas_desired} updated={row.replicas_updated} ready={row.replicas_ready} "
            f"available={row.replicas_available} generation={row.observed_generation}/{row.generation} revision={row.revision}"
        ),
        caused_by_action_id=causes.of(row.uid, row.time),
    )


def _finding(row: Finding) -> Happening:
    return Happening(
        time=row.time,
        source="findings",
        type=row.source,
        reason=row.symptom,
        object=",".join((*row.services, *row.edges)),
        message=row.text,
    )


def _workload(state: RunState, start: int, end: int) -> Iterator[Happening]:
    """Yield the changes of what the load generator was told; its figures are in control_inputs."""
    rows = state.workload.all()
    for before, after in chain([(None, rows[0])] if rows else [], pairwise(rows)):
        if start <= after.time < end and (before is None or _told(before) != _told(after)):
            mix = " ".join(f"{flow}={after.mix[flow]:.4g}" for flow in sorted(after.mix))
            yield Happening(
                time=after.time,
                source="workload",
                type="first" if before is None else "changed",
                reason=after.state,
                message=f"users={after.users_target} spawn_rate_per_s={after.spawn_rate_per_s:g} {mix}".rstrip(),
            )


def _told(row: WorkloadState) -> tuple[int, float, str, tuple[tuple[str, float], ...]]:
    return (row.users_target, row.spawn_rate_per_s, row.state, tuple(sorted(row.mix.items())))


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
                message=f"{seconds:g} s: {gap.reason}",
            )
    if state.ended is not None and start <= state.ended.time < end:
        kind = type(state.ended).__name__
        yield Happening(
            time=state.ended.time,
            source="run",
            type="ended" if kind == "RunEnded" else "aborted",
            reason=state.ended.reason,
        )
