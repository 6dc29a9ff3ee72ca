"""Two states of a Kubernetes object, one after the other ➜ what happened to it, in a word.

In: a row and the row of the same object before it (None: the first that was seen). Out: `Change`: the type, reason and message of a row of
`events`. A watch delivers states; a person asks when a pod was scheduled, got ready, was killed, and when a rollout was through.

One delivery may carry several changes: the type is the weightiest of them, the message has all figures. Pure.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from otel_control_gym.engine.events import AutoscalerStatus, PodTransition, RolloutStatus, RouteStatus

__all__ = ("Change", "autoscaler_change", "pod_change", "rollout_change", "route_change")

RowT = TypeVar("RowT", PodTransition, RolloutStatus, AutoscalerStatus, RouteStatus)
_OOM = "OOMKilled"
_BACK_OFFS = ("CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError")


class Change(msgspec.Struct, frozen=True):
    """What a row of `events` says of an object."""

    type: str
    reason: str
    message: str


def _made(before: object | None, change: str, *, settled: bool) -> str:
    """Return the type of an object's first or last row, or an empty text: what is whole when it is first seen was there before."""
    if change == "deleted":
        return "deleted"
    if before is None:
        return "found" if settled or change == "modified" else "created"
    return ""


def pod_change(before: PodTransition | None, after: PodTransition) -> Change:
    """Return what happened to a pod."""
    kind = _made(before, after.change, settled=after.ready) or _pod_type(before, after)
    figures = f"phase={after.phase} ready={str(after.ready).lower()} restarts={after.restart_count}"
    figures += f" node={after.node}" if after.node else ""
    tells_reason = kind in ("killed", "stopped", "backing_off", "waiting", "restarted") or before is None
    return Change(kind, after.reason if tells_reason else "", figures + (" terminating" if after.terminating else ""))


def _pod_type(before: PodTransition | None, after: PodTransition) -> str:
    assert before is not None, "a first row has a type already"
    if after.terminating and not before.terminating:
        return "terminating"
    if after.restart_count > before.restart_count:
        return "restarted"
    if after.reason in _BACK_OFFS and after.reason != before.reason:
        return "backing_off"
    stopped = before.running is not False and after.running is False and before.phase == "Running"
    told = after.reason and after.reason not in (*_BACK_OFFS, before.reason) and before.ready and not after.ready
    if stopped or told:
        return "killed" if after.reason == _OOM and not after.terminating else "stopped"
    if after.ready != before.ready:
        return "ready" if after.ready else "unready"
    if after.running and before.running is False:
        return "started"
    if after.phase != before.phase:
        return {"Running": "started", "Succeeded": "ended", "Failed": "ended"}.get(after.phase, "changed")
    if after.node and not before.node:
        return "scheduled"
    return "waiting" if after.reason and after.reason != before.reason else "changed"


def rollout_change(before: RolloutStatus | None, after: RolloutStatus) -> Change:
    """Return what happened to a Deployment or ReplicaSet."""
    kind = _made(before, after.change, settled=_complete(after)) or _rollout_type(before, after)
    desired = f"{after.replicas_desired}"
    if before is not None and before.replicas_desired != after.replicas_desired:
        desired = f"{before.replicas_desired}->{after.replicas_desired}"
    message = (
        f"desired={desired} updated={after.replicas_updated} ready={after.replicas_ready} available={after.replicas_available} "
        f"generation={after.observed_generation}/{after.generation} revision={after.revision}"
    )
    return Change(kind, after.stalled, message)


def _rollout_type(before: RolloutStatus | None, after: RolloutStatus) -> str:
    assert before is not None, "a first row has a type already"
    if after.stalled and after.stalled != before.stalled:
        return "stalled"
    if after.replicas_desired != before.replicas_desired:
        return "scaled"
    if after.revision != before.revision and before.revision:
        return "new_revision"
    if after.generation > before.generation:
        return "respecified"
    if _complete(after) and not _complete(before):
        return "complete"
    fell = after.replicas_available < before.replicas_available
    return "degraded" if fell and _complete(before) else "progressing"


def _complete(row: RolloutStatus) -> bool:
    """Return whether a rollout is through: everything is as the newest spec says, and available."""
    counts = {row.replicas_desired, row.replicas_updated, row.replicas_ready, row.replicas_available}
    return row.observed_generation >= row.generation and len(counts) == 1


def autoscaler_change(before: AutoscalerStatus | None, after: AutoscalerStatus) -> Change:
    """Return what happened to an autoscaler, or what it decided."""
    kind = _made(before, after.change, settled=after.active)
    if not kind and before is not None:
        bounds = (after.replicas_min, after.replicas_max, after.cpu_utilization_percent)
        if bounds != (before.replicas_min, before.replicas_max, before.cpu_utilization_percent):
            kind = "respecified"
        elif after.replicas_wanted != before.replicas_wanted:
            kind = "decided"
        elif after.active != before.active:
            kind = "active" if after.active else "inactive"
        else:
            kind = "followed"  # the replicas came to what it had decided
    aim = "none" if after.cpu_utilization_percent is None else f"{after.cpu_utilization_percent}%"
    message = (
        f"deployment={after.deployment} min={after.replicas_min} max={after.replicas_max} cpu={aim} "
        f"current={after.replicas_current} wanted={after.replicas_wanted} active={str(after.active).lower()}"
    )
    return Change(kind, "", message)


def route_change(before: RouteStatus | None, after: RouteStatus) -> Change:
    """Return what happened to a route."""
    kind = _made(before, after.change, settled=False) or "shifted"
    weights = " ".join(f"{name}={share:.4g}" for name, share in sorted(after.weights.items()))
    return Change(kind, "", f"parent={after.parent} {weights}".rstrip())
