"""A Deployment's status: counts of its replica sets, the conditions Available and Progressing, the revision.

In: a Deployment, its replica sets, the new one among them. Out: the stored Deployment.

Progressing tells how the last rollout went and is no health signal: once complete it stays `NewReplicaSetAvailable` while pods come
and go. Its `lastUpdateTime` moves with each progress, and the progress deadline counts from it. Status is written without a new
generation, and the revision annotation with it.
"""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import DEPLOYMENT, Object, condition, moment, timestamp
from otel_control_gym.stands.twin.rolling import bounds
from otel_control_gym.stands.twin.templates import REVISION, counted

__all__ = ("complete", "deadline", "note_created", "note_found", "note_pause", "write")

_UNLIMITED = 2**31 - 1
_AVAILABLE = "NewReplicaSetAvailable"
_TIMED_OUT = "ProgressDeadlineExceeded"


def complete(deployment: Object) -> bool:
    """Return whether the rollout is done by the Deployment's own status."""
    return _complete(deployment, deployment.get("status", {}))


def deadline(deployment: Object) -> int | None:
    """Return when the rollout will have taken too long [ns], or None if it is done, failed, or may take for ever."""
    progressing = condition(deployment, "Progressing")
    limit = deployment["spec"].get("progressDeadlineSeconds", 600)
    if progressing is None or limit == _UNLIMITED or progressing.get("reason") in (_AVAILABLE, _TIMED_OUT):
        return None
    return moment(progressing["lastUpdateTime"]) + int(limit) * SECOND


def note_created(context: Context, deployment: Object, created: Object, collisions: int) -> None:
    """Say that a new replica set was made, and how many hashes had collided."""
    draft = _draft(context, deployment)
    _set(draft, "Progressing", "True", "NewReplicaSetCreated", f'Created new replica set "{_name(created)}"', context)
    if collisions:
        draft["status"]["collisionCount"] = collisions
    context.store.update(DEPLOYMENT, draft)


def note_found(context: Context, deployment: Object, found: Object) -> None:
    """Say that a replica set of the template was there, if nothing was said of progress yet."""
    if condition(deployment, "Progressing") is None:
        draft = _draft(context, deployment)
        _set(draft, "Progressing", "True", "FoundNewReplicaSet", f'Found new replica set "{_name(found)}"', context)
        context.store.update(DEPLOYMENT, draft)


def note_pause(context: Context, deployment: Object) -> None:
    """Say that the Deployment was paused or resumed; either restarts the clock of the progress deadline."""
    progressing = condition(deployment, "Progressing")
    reason = "" if progressing is None else progressing.get("reason", "")
    paused = bool(deployment["spec"].get("paused"))
    if reason == _TIMED_OUT or paused == (reason == "DeploymentPaused"):
        return
    draft = _draft(context, deployment)
    if paused:
        _set(draft, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", context)
    else:
        _set(draft, "Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed", context)
    context.store.update(DEPLOYMENT, draft)


def write(context: Context, deployment: Object, new: Object | None, sets: list[Object]) -> Object:
    """Count, judge the rollout, store, and return the stored Deployment."""
    draft = _draft(context, deployment)
    before = draft["status"]
    conditions = before.get("conditions", [])
    collisions = before.get("collisionCount")
    draft["status"] = _counts(draft, new, sets)
    if collisions:
        draft["status"]["collisionCount"] = collisions
    draft["status"]["conditions"] = conditions
    _judge_availability(draft, context)
    _judge_progress(draft, before, new, context)
    if new is not None:
        revision = str(counted(new, REVISION))
        draft["metadata"].setdefault("annotations", {})[REVISION] = revision
    return context.store.update(DEPLOYMENT, draft)


def _counts(deployment: Object, new: Object | None, sets: list[Object]) -> Object:
    statuses = [item["status"] for item in sets]
    available = sum(status.get("availableReplicas", 0) for status in statuses)
    wanted = sum(item["spec"]["replicas"] for item in sets)
    counts = {
        "replicas": sum(status["replicas"] for status in statuses),
        "updatedReplicas": new["status"]["replicas"] if new is not None else 0,
        "readyReplicas": sum(status.get("readyReplicas", 0) for status in statuses),
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
        "terminatingReplicas": sum(status.get("terminatingReplicas", 0) for status in statuses),
    }
    observed = {"observedGeneration": deployment["metadata"]["generation"]}
    return observed | {key: value for key, value in counts.items() if value}  # Go omits zeros


def _judge_availability(draft: Object, context: Context) -> None:
    spec = draft["spec"]
    rolling = spec["strategy"].get("rollingUpdate")
    unavailable = bounds(spec["replicas"], rolling["maxSurge"], rolling["maxUnavailable"])[1] if rolling else 0
    if draft["status"].get("availableReplicas", 0) >= spec["replicas"] - unavailable:
        _set(draft, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", context)
    else:
        message = "Deployment does not have minimum availability."
        _set(draft, "Available", "False", "MinimumReplicasUnavailable", message, context)


def _judge_progress(draft: Object, before: Object, new: Object | None, context: Context) -> None:
    progressing = condition(draft, "Progressing")
    status, reason = draft["status"], "" if progressing is None else progressing["reason"]
    settled = status.get("replicas", 0) == status.get("updatedReplicas", 0) and reason == _AVAILABLE
    if settled or draft["spec"].get("paused") or draft["spec"].get("progressDeadlineSeconds", 600) == _UNLIMITED:
        return
    subject = f'ReplicaSet "{_name(new)}"' if new is not None else f'Deployment "{_name(draft)}"'
    limit = deadline(draft)
    if _complete(draft, status):
        _set(draft, "Progressing", "True", _AVAILABLE, f"{subject} has successfully progressed.", context)
    elif _progressed(before, status):
        message = f"{subject} is progressing."
        _set(draft, "Progressing", "True", "ReplicaSetUpdated", message, context, renew=True)
    elif limit is not None and context.now > limit:
        _set(draft, "Progressing", "False", _TIMED_OUT, f"{subject} has timed out progressing.", context)


def _complete(deployment: Object, status: Object) -> bool:
    replicas = deployment["spec"]["replicas"]
    return bool(
        status.get("updatedReplicas", 0) == replicas
        and status.get("replicas", 0) == replicas
        and status.get("availableReplicas", 0) == replicas
        and status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    )


def _progressed(before: Object, after: Object) -> bool:
    def old(status: Object) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    return old(after) < old(before) or any(
        after.get(key, 0) > before.get(key, 0) for key in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _set(
    draft: Object, name: str, status: str, reason: str, message: str, context: Context, *, renew: bool = False
) -> None:
    """Write a condition: unchanged if status and reason are, unless `renew` moves its update time."""
    existing = condition(draft, name)
    if existing is not None and existing["status"] == status and existing["reason"] == reason and not renew:
        return
    now = timestamp(context.now)
    entry = {
        "type": name,
        "status": status,
        "lastUpdateTime": now,
        "lastTransitionTime": existing["lastTransitionTime"] if existing and existing["status"] == status else now,
        "reason": reason,
        "message": message,
    }
    conditions = draft["status"].setdefault("conditions", [])
    draft["status"]["conditions"] = [item for item in conditions if item["type"] != name] + [entry]


def _draft(context: Context, deployment: Object) -> Object:
    draft = context.store.draft(DEPLOYMENT, deployment["metadata"]["namespace"], deployment["metadata"]["name"])
    draft.setdefault("status", {})
    return draft


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
