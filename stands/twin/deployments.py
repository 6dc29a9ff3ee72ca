"""The Deployment controller: a template ➜ replica sets, one rolled out while the others go.

In: Deployments and the replica sets they own. Out: sizes of replica sets, revisions, status and conditions, events.

As the real one it works in passes, and a pass that changes a replica set ends there; the next is triggered by that very change. So
growing and shrinking never share a pass, and clients see each step. A Deployment's generation is counted by the API; what this
controller has understood is `status.observedGeneration`. The arithmetic is in `rolling`, status in `deployment_status`.
"""

from __future__ import annotations

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin import deployment_status as status
from otel_control_gym.stands.twin.controller import Context, split_key
from otel_control_gym.stands.twin.deletion import delete
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import DEPLOYMENT, POD, REPLICA_SET, Object, owner_reference
from otel_control_gym.stands.twin.rolling import Size, bounds, new_size, old_sizes, proportional
from otel_control_gym.stands.twin.templates import (
    DESIRED,
    HASH_LABEL,
    HISTORY,
    MAXIMUM,
    RESERVED,
    REVISION,
    counted,
    same_template,
    template_hash,
)
from otel_control_gym.stands.twin.watches import Change

__all__ = ("DeploymentController",)


class DeploymentController:
    """Rolls out Deployments."""

    name = "deployment-controller"

    def __init__(self, context: Context) -> None:
        self._context = context

    def observe(self, change: Change) -> None:
        """Queue the Deployment that changed, or that owns the replica set that did."""
        if change.kind is DEPLOYMENT and change.type != "DELETED":
            self._context.soon(self.name, change.object)
        elif change.kind is REPLICA_SET:
            self._queue_owner(change.object)
        elif change.kind is POD and change.type == "DELETED":
            self._queue_recreated(change.object)

    def reconcile(self, step: str, key: str) -> None:  # noqa: ARG002 - one step only
        """Do one pass over a Deployment."""
        deployment = self._context.store.get(DEPLOYMENT, *split_key(key))
        if deployment is None or "deletionTimestamp" in deployment["metadata"]:
            return
        sets = self._context.store.owned(REPLICA_SET, deployment["metadata"]["uid"])
        new = next((item for item in sets if same_template(item, deployment)), None)
        status.note_pause(self._context, deployment)
        deployment = self._context.store.get(DEPLOYMENT, *split_key(key)) or deployment
        if deployment["spec"].get("paused") or _scaled(deployment, sets):
            self._scale(deployment, sets, new)
        else:
            new = self._roll(deployment, sets, new)
        self._write_status(deployment, new)

    def _roll(self, deployment: Object, sets: list[Object], new: Object | None) -> Object | None:
        """Take one step of the rollout and return the new replica set."""
        recreate = deployment["spec"]["strategy"]["type"] == "Recreate"
        old = [item for item in sets if item is not new]
        if recreate and self._clear(deployment, old):
            return new
        made = new
        new = self._new_set(deployment, sets, new)
        if made is None:
            return new
        replicas = deployment["spec"]["replicas"]
        surge, unavailable = _bounds(deployment)
        total = sum(item["spec"]["replicas"] for item in sets)
        size = replicas if recreate else new_size(replicas, surge, new["spec"]["replicas"], total)
        if size != new["spec"]["replicas"]:
            self._resize(deployment, new, size)
            return new
        sizes = old_sizes(replicas, unavailable, _size(new), [_size(item) for item in old])
        for item, wanted in zip(old, sizes, strict=True):
            if wanted != item["spec"]["replicas"]:
                self._resize(deployment, item, wanted)
        return new

    def _clear(self, deployment: Object, old: list[Object]) -> bool:
        """Recreate: take old replica sets down; True while any of their pods is left."""
        for item in old:
            if item["spec"]["replicas"]:
                self._resize(deployment, item, 0)
        return any(self._context.store.owned(POD, item["metadata"]["uid"]) for item in old)

    def _scale(self, deployment: Object, sets: list[Object], new: Object | None) -> None:
        """Bring the replica sets to a changed spec.replicas, without moving the rollout on."""
        replicas = deployment["spec"]["replicas"]
        active = [item for item in sets if item["spec"]["replicas"] > 0]
        if len(active) <= 1:
            chosen = active[0] if active else (sets[-1] if sets else None)
            if chosen is not None:
                self._resize(deployment, chosen, replicas)
            return
        if new is not None and _saturated(new, replicas):
            for item in active:
                if item is not new:
                    self._resize(deployment, item, 0)
            return
        surge, _ = _bounds(deployment)
        for item, wanted in zip(active, proportional(replicas, surge, [_size(item) for item in active]), strict=True):
            self._resize(deployment, item, wanted)

    def _new_set(self, deployment: Object, sets: list[Object], new: Object | None) -> Object:
        """Return the replica set of the present template, made if there is none, its annotations brought up to date."""
        highest = max((counted(item, REVISION) for item in sets if item is not new), default=0)
        revision = str(highest + 1)
        if new is None:
            return self._create_set(deployment, sets, revision)
        draft = self._draft(new)
        annotations = draft["metadata"].setdefault("annotations", {})
        before = counted(new, REVISION)
        if before <= highest:
            history = [text for text in (annotations.get(HISTORY, ""), str(before)) if text not in ("", "0")]
            annotations[HISTORY] = ",".join(history)
            annotations[REVISION] = revision
        annotations |= _copied(deployment)
        draft["spec"]["minReadySeconds"] = deployment["spec"].get("minReadySeconds", 0)
        if not draft["spec"]["minReadySeconds"]:
            del draft["spec"]["minReadySeconds"]
        stored = self._context.update(REPLICA_SET, draft)
        status.note_found(self._context, deployment, stored)
        return stored

    def _create_set(self, deployment: Object, sets: list[Object], revision: str) -> Object:
        context, metadata = self._context, deployment["metadata"]
        namespace = metadata["namespace"]
        collisions = deployment.get("status", {}).get("collisionCount", 0)
        digest = template_hash(deployment["spec"]["template"], collisions)
        while context.store.get(REPLICA_SET, namespace, f"{metadata['name']}-{digest}") is not None:
            collisions += 1
            digest = template_hash(deployment["spec"]["template"], collisions)
        surge, _ = _bounds(deployment)
        replicas = deployment["spec"]["replicas"]
        total = sum(item["spec"]["replicas"] for item in sets)
        recreate = deployment["spec"]["strategy"]["type"] == "Recreate"
        size = replicas if recreate else new_size(replicas, surge, 0, total)
        template = deployment["spec"]["template"]
        labels = template["metadata"].get("labels", {}) | {HASH_LABEL: digest}
        spec: Object = {
            "replicas": size,
            "selector": {"matchLabels": deployment["spec"]["selector"]["matchLabels"] | {HASH_LABEL: digest}},
            "template": template | {"metadata": template["metadata"] | {"labels": labels}},
        }
        if deployment["spec"].get("minReadySeconds"):
            spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
        item = {
            "metadata": {
                "name": f"{metadata['name']}-{digest}",
                "namespace": namespace,
                "labels": labels,
                "annotations": _copied(deployment)
                | {REVISION: revision, DESIRED: str(replicas), MAXIMUM: str(replicas + surge)},
                "ownerReferences": [owner_reference(DEPLOYMENT, deployment)],
            },
            "spec": spec,
            "status": {"replicas": 0},
        }
        created = context.store.create(REPLICA_SET, item, context.now)
        if size > 0:
            self._tell_scaled(deployment, created["metadata"]["name"], 0, size)
        status.note_created(context, deployment, created, collisions)
        return created

    def _resize(self, deployment: Object, item: Object, size: int) -> None:
        """Give a replica set its size, and the note of what it was made for."""
        surge, _ = _bounds(deployment)
        replicas = deployment["spec"]["replicas"]
        draft = self._draft(item)
        before = draft["spec"]["replicas"]
        draft["spec"]["replicas"] = size
        draft["metadata"].setdefault("annotations", {}).update({DESIRED: str(replicas), MAXIMUM: str(replicas + surge)})
        self._context.update(REPLICA_SET, draft)
        if size != before:
            self._tell_scaled(deployment, item["metadata"]["name"], before, size)

    def _tell_scaled(self, deployment: Object, name: str, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        record(
            self._context,
            DEPLOYMENT,
            deployment,
            "ScalingReplicaSet",
            f"Scaled {direction} replica set {name} from {before} to {after}",
            component=self.name,
        )

    def _write_status(self, deployment: Object, new: Object | None) -> None:
        context, metadata = self._context, deployment["metadata"]
        sets = context.store.owned(REPLICA_SET, metadata["uid"])
        if new is not None:
            new = context.store.get(REPLICA_SET, metadata["namespace"], new["metadata"]["name"])
        stored = status.write(context, deployment, new, sets)
        progressing = status.deadline(stored)
        if progressing is not None:
            context.at(max(progressing + SECOND, context.now), self.name, f"{metadata['namespace']}/{metadata['name']}")
        if stored["spec"].get("paused") or status.complete(stored):
            self._clean_up(stored, [item for item in sets if item is not new])

    def _clean_up(self, deployment: Object, old: list[Object]) -> None:
        """Delete the oldest revisions beyond the history limit."""
        idle = [
            item
            for item in sorted(old, key=lambda item: counted(item, REVISION))
            if not item["spec"]["replicas"]
            and not item["status"]["replicas"]
            and item["metadata"]["generation"] <= item["status"].get("observedGeneration", 0)
        ]
        surplus = len(old) - int(deployment["spec"].get("revisionHistoryLimit", 10))
        for item in idle[: max(0, surplus)]:
            delete(self._context, REPLICA_SET, item)

    def _queue_owner(self, item: Object) -> None:
        for reference in item["metadata"].get("ownerReferences", ()):
            namespace = item["metadata"]["namespace"]
            self._context.soon(self.name, {"metadata": {"namespace": namespace, "name": reference["name"]}})

    def _queue_recreated(self, pod: Object) -> None:
        """Queue a Deployment that recreates: it waits for its last old pod to go."""
        for reference in pod["metadata"].get("ownerReferences", ()):
            owner = self._context.store.get(REPLICA_SET, pod["metadata"]["namespace"], reference["name"])
            if owner is not None:
                self._queue_owner(owner)

    def _draft(self, item: Object) -> Object:
        return self._context.store.draft(REPLICA_SET, item["metadata"]["namespace"], item["metadata"]["name"])


def _scaled(deployment: Object, sets: list[Object]) -> bool:
    """Return whether spec.replicas was changed since the replica sets were sized."""
    return any(
        item["spec"]["replicas"] > 0
        and DESIRED in item["metadata"].get("annotations", {})
        and counted(item, DESIRED) != deployment["spec"]["replicas"]
        for item in sets
    )


def _saturated(new: Object, replicas: int) -> bool:
    return (
        counted(new, DESIRED, -1) == replicas
        and new["spec"]["replicas"] == replicas
        and new["status"].get("availableReplicas", 0) == replicas
    )


def _bounds(deployment: Object) -> tuple[int, int]:
    spec = deployment["spec"]
    if spec["strategy"]["type"] == "Recreate":
        return 0, 0
    rolling = spec["strategy"]["rollingUpdate"]
    return bounds(spec["replicas"], rolling["maxSurge"], rolling["maxUnavailable"])


def _size(item: Object) -> Size:
    return Size(
        wanted=item["spec"]["replicas"],
        available=item["status"].get("availableReplicas", 0),
        maximum=counted(item, MAXIMUM),
    )


def _copied(deployment: Object) -> dict[str, str]:
    """Return the annotations that a replica set inherits."""
    annotations = deployment["metadata"].get("annotations", {})
    return {key: value for key, value in annotations.items() if key not in RESERVED}
