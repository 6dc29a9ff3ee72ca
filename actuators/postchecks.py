"""Evidence that a change took effect, as pure functions of what was read.

Each function answers with what it saw and one of three verdicts: `all` (every point of the catalogue's evidence holds), `some`, or
`none`. "The API said yes" is never evidence: an API server can accept a write and nothing may come of it.

The traps these rules answer: status from before the write (`observedGeneration` is compared with the generation that the write made);
pods of the old template counted as new (ReplicaSets are told apart by UID and template); terminating pods (not in
`status.replicas`); AllInjected without a single injection; conditions that lag the records by one pass; network rules that were
accepted but sit in no pod; pods that were replaced after they were targeted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from otel_control_gym.actuators.objects import Chaos, Container, Deployment, Pod, PodNetworkChaos, ReplicaSet
from otel_control_gym.actuators.procedure import Check
from otel_control_gym.actuators.quantities import parse_quantity

__all__ = (
    "Target",
    "check_injection",
    "check_resources",
    "check_restart",
    "check_scale",
    "check_users",
    "missing_rules",
    "missing_stressors",
    "replaced",
)


class Target(msgspec.Struct, frozen=True):
    """A pod at the moment of injection: a fault dies with the pod, CPU stress already with the container."""

    pod: str
    uid: str
    restarts: int


def check_scale(deployment: Deployment, *, replicas: int, generation: int, available_before: int) -> Check:
    """Judge a scaling: the spec holds, the controller has seen it, and as many pods are there and available."""
    spec, status = deployment.spec, deployment.status
    observed = status.observed_generation >= generation
    evidence: dict[str, Any] = {
        "replicas_desired": spec.replicas,
        "replicas": status.replicas,
        "replicas_available": status.available_replicas,
        "generation": generation,
        "observed_generation": status.observed_generation,
    }
    if spec.replicas != replicas:
        return Check(seen="none", evidence=evidence | {"missing": f"spec.replicas is {spec.replicas}, not {replicas}"})
    if observed and status.replicas == status.available_replicas == replicas:
        return Check(seen="all", evidence=evidence)
    moved = observed and status.available_replicas != available_before
    return Check(seen="some" if moved else "none", evidence=evidence | {"missing": "not all replicas are available"})


def check_restart(
    deployment: Deployment, sets: Iterable[ReplicaSet], *, annotation: str, mark: str, generation: int
) -> Check:
    """Judge a rolling restart: a ReplicaSet of this Deployment with our mark has all the replicas."""
    marked = [item for item in sets if item.spec.template.annotations.get(annotation) == mark]
    evidence: dict[str, Any] = {"mark": mark}
    if deployment.spec.template.annotations.get(annotation) != mark:
        return Check(seen="none", evidence=evidence | {"missing": "the Deployment's template doesn't carry the mark"})
    return _check_rollout(deployment, marked, generation=generation, evidence=evidence)


def check_resources(
    deployment: Deployment,
    sets: Iterable[ReplicaSet],
    pods: Iterable[Pod],
    *,
    container: str,
    resources: Mapping[str, Mapping[str, str | None]],
    generation: int,
) -> Check:
    """Judge a change of resources: template, its ReplicaSet and every pod of that have them."""
    matching = [item for item in sets if _has(item.container(container), resources)]
    evidence: dict[str, Any] = {"resources": {kind: dict(values) for kind, values in resources.items()}}
    if not _has(deployment.container(container), resources):
        return Check(seen="none", evidence=evidence | {"missing": "the Deployment's template doesn't have them"})
    check = _check_rollout(deployment, matching, generation=generation, evidence=evidence)
    if check.seen != "all":
        return check
    owners = {item.metadata.uid for item in matching}
    own = [pod for pod in pods if pod.metadata.owner_uid in owners and pod.metadata.deletion_timestamp is None]
    right = [pod for pod in own if all(_has(item, resources) for item in pod.spec.containers if item.name == container)]
    evidence = check.evidence | {"pods": len(own), "pods_with_resources": len(right)}
    complete = len(right) == len(own) == deployment.spec.replicas
    return Check(seen="all" if complete else "some", evidence=evidence)


def _check_rollout(
    deployment: Deployment, candidates: Sequence[ReplicaSet], *, generation: int, evidence: dict[str, Any]
) -> Check:
    """Judge a rollout to one of the candidates (those with the wanted template, of this Deployment)."""
    spec, status = deployment.spec, deployment.status
    own = [item for item in candidates if item.metadata.owner_uid == deployment.metadata.uid]
    newest = max(own, key=lambda item: (item.status.replicas, item.metadata.name), default=None)
    evidence = evidence | {
        "generation": generation,
        "observed_generation": status.observed_generation,
        "replicas_desired": spec.replicas,
        "replicas": status.replicas,
        "replicas_updated": status.updated_replicas,
        "replicas_available": status.available_replicas,
    }
    if newest is None or status.observed_generation < generation:
        return Check(seen="none", evidence=evidence | {"missing": "the controller hasn't made a ReplicaSet of it yet"})
    evidence["replica_set"] = newest.metadata.name
    evidence["replica_set_uid"] = newest.metadata.uid
    evidence["replica_set_available"] = newest.status.available_replicas
    counts = (status.replicas, status.updated_replicas, status.available_replicas, newest.status.available_replicas)
    if all(count == spec.replicas for count in counts):
        return Check(seen="all", evidence=evidence)
    some = newest.status.available_replicas > 0
    return Check(seen="some" if some else "none", evidence=evidence | {"missing": "the rollout isn't complete"})


def _has(container: Container, resources: Mapping[str, Mapping[str, str | None]]) -> bool:
    """Return whether a container has the resources; null means absent."""
    present = {"requests": container.resources.requests, "limits": container.resources.limits}
    for kind, values in resources.items():
        for name, wanted in values.items():
            found = present[kind].get(name)
            if (wanted is None) != (found is None):
                return False
            if wanted is not None and found is not None and parse_quantity(wanted) != parse_quantity(found):
                return False
    return True


def check_users(*, target: int, active: int, users: int) -> Check:
    """Judge a change of the workload by the load generator's own account."""
    evidence = {"users_target": target, "users_active": active}
    if target == active == users:
        return Check(seen="all", evidence=evidence)
    missing = f"{users} users were asked for"
    return Check(seen="some" if target == users else "none", evidence=evidence | {"missing": missing})


def replaced(targets: Sequence[Target], pods: Iterable[Pod], *, by_container: bool) -> tuple[str, ...]:
    """Return the targets that aren't what they were: gone, of another UID, or (stress) with a restarted container."""
    present = {pod.metadata.name: pod for pod in pods}
    lost = []
    for target in targets:
        pod = present.get(target.pod)
        same = pod is not None and pod.metadata.uid == target.uid
        if not same or (by_container and pod is not None and pod.restarts != target.restarts):
            lost.append(target.pod)
    return tuple(lost)


def missing_stressors(chaos: Chaos, *, namespace: str, container: str, targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the targets for which a StressChaos names no stressor."""
    instances = chaos.status.instances or {}
    names = [(target.pod, instances.get(f"{namespace}/{target.pod}/{container}")) for target in targets]
    return tuple(pod for pod, item in names if item is None or isinstance(item, int) or not item.uid)


def missing_rules(rules: Iterable[PodNetworkChaos], *, source: str, targets: Sequence[Target]) -> tuple[str, ...]:
    """Return the targets whose pod has no observed, faultless traffic rule of the NetworkChaos `source`."""
    sound = {
        item.metadata.name
        for item in rules
        if any(rule.source == source for rule in item.spec.tcs or ())
        and item.status.observed_generation >= item.metadata.generation
        and not item.status.failed_message
    }
    return tuple(target.pod for target in targets if target.pod not in sound)


def check_injection(
    chaos: Chaos,
    *,
    record_ids: Sequence[str],
    lost: Sequence[str],
    affected: Sequence[Target],
    without_effect: Sequence[str],
) -> Check:
    """Judge an injection.

    `record_ids` are the records that there must be; `lost` the targets that were replaced since; `affected` the targets at which the
    mechanism itself (stressor, traffic rule) must be seen, `without_effect` those of them at which it isn't.
    """
    records = {record.id: record for record in chaos.status.experiment.container_records or ()}
    injected = [
        key
        for key in record_ids
        if key in records and records[key].injected_count >= 1 and records[key].phase == "Injected"
    ]
    messages = [record.events[-1].message for record in records.values() if record.events and record.events[-1].message]
    evidence: dict[str, Any] = {
        "records": len(records),
        "records_expected": len(record_ids),
        "records_injected": len(injected),
        "all_injected": chaos.status.holds("AllInjected"),
        "targets_replaced": list(lost),
        "targets_without_effect": list(without_effect),
    }
    if messages:
        evidence["message"] = messages[-1]
    complete = len(injected) == len(record_ids) == len(records) and chaos.status.holds("AllInjected")
    if complete and not lost and not without_effect:
        return Check(seen="all", evidence=evidence)
    somewhere = bool(injected) and len(without_effect) < len(affected)
    return Check(seen="some" if somewhere else "none", evidence=evidence)
