"""Evidence that a change took effect, as pure functions of what was read.

Each function answers with what it saw and one of three verdicts: `all` (every point of the catalogue's evidence holds), `some`, or
`none`. "The API said yes" is never evidence: an API server can accept a write and nothing may come of it.

The traps these rules answer: status from before the write (`observedGeneration` is compared with the generation that the write made);
pods of the old template counted as new (ReplicaSets are told apart by UID and template); terminating pods (not in
`status.replicas`). Those of injections are in `injections`.

Where the last thing to come true is that pods are Ready, their own condition says since when.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from otel_control_gym.actuators.moments import newest
from otel_control_gym.actuators.objects import Container, Deployment, Pod, ReplicaSet
from otel_control_gym.actuators.procedure import Check
from otel_control_gym.actuators.quantities import parse_quantity

__all__ = (
    "Target",
    "check_deletion",
    "check_environment",
    "check_resources",
    "check_restart",
    "check_rollout",
    "check_scale",
    "check_template",
    "check_workload",
)


class Target(msgspec.Struct, frozen=True):
    """A pod at the moment of injection: a fault dies with the pod, CPU stress already with the container."""

    pod: str
    uid: str
    restarts: int


def check_scale(
    deployment: Deployment, pods: Iterable[Pod], *, replicas: int, generation: int, available_before: int
) -> Check:
    """Judge a scaling: the spec holds, the controller has seen it, and as many pods are there and available.

    When a pod went says nobody, so only one that was scaled up shows since when.
    """
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
        return Check(seen="all", evidence=evidence, moment=_ready_since(pods) if replicas > available_before else "")
    moved = observed and status.available_replicas != available_before
    return Check(seen="some" if moved else "none", evidence=evidence | {"missing": "not all replicas are available"})


def _ready_since(pods: Iterable[Pod]) -> str:
    """Return when the last of the pods that are Ready became so."""
    return newest(pod.ready_since for pod in pods if pod.ready)


def check_restart(
    deployment: Deployment,
    sets: Iterable[ReplicaSet],
    pods: Iterable[Pod],
    *,
    annotation: str,
    mark: str,
    generation: int,
) -> Check:
    """Judge a rolling restart: a ReplicaSet of this Deployment with our mark has all the replicas."""
    marked = [item for item in sets if item.spec.template.annotations.get(annotation) == mark]
    evidence: dict[str, Any] = {"mark": mark}
    if deployment.spec.template.annotations.get(annotation) != mark:
        return Check(seen="none", evidence=evidence | {"missing": "the Deployment's template doesn't carry the mark"})
    return check_rollout(deployment, marked, pods, generation=generation, evidence=evidence)


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
    check = check_rollout(deployment, matching, pods, generation=generation, evidence=evidence)
    return _check_pods(check, deployment, matching, pods, container, lambda item: _has(item, resources))


def check_environment(
    deployment: Deployment,
    sets: Iterable[ReplicaSet],
    pods: Iterable[Pod],
    *,
    container: str,
    variables: Mapping[str, str | None],
    config_maps: tuple[str, ...],
    generation: int,
) -> Check:
    """Judge a change of the environment: template, its ReplicaSet and every pod of that have it."""

    def fits(item: Container) -> bool:
        found = {name: item.variable(name) for name in variables}
        same = all(
            (found[name] is None) if value is None else (found[name] is not None and found[name].value == value)  # type: ignore[union-attr]
            for name, value in variables.items()
        )
        return same and item.config_maps == config_maps

    matching = [item for item in sets if fits(item.container(container))]
    evidence: dict[str, Any] = {"variables": sorted(variables), "config_maps": list(config_maps)}
    if not fits(deployment.container(container)):
        return Check(seen="none", evidence=evidence | {"missing": "the Deployment's template hasn't this environment"})
    check = check_rollout(deployment, matching, pods, generation=generation, evidence=evidence)
    return _check_pods(check, deployment, matching, pods, container, fits)


def check_template(
    deployment: Deployment,
    sets: Iterable[ReplicaSet],
    pods: Iterable[Pod],
    *,
    holds: bool,
    replica_sets: Sequence[str],
    generation: int,
) -> Check:
    """Judge a rollout to a template: the Deployment `holds` it, and those named have it."""
    if not holds:
        return Check(seen="none", evidence={"missing": "the Deployment hasn't the revision's template"})
    matching = [item for item in sets if item.metadata.name in replica_sets]
    return check_rollout(deployment, matching, pods, generation=generation, evidence={})


def check_deletion(
    pods: Sequence[Pod], *, targets: Sequence[Target], deleted: Sequence[str], ready_before: int
) -> Check:
    """Judge a deletion: every target is gone by UID (and by us), and as many pods are ready as before."""
    present = {pod.metadata.uid: pod for pod in pods}
    gone = [target.pod for target in targets if target.uid in deleted and target.uid not in present]
    leaving = [
        target.pod
        for target in targets
        if target.uid in deleted and target.uid in present and present[target.uid].metadata.deletion_timestamp
    ]
    ready = sum(pod.ready for pod in pods)
    evidence: dict[str, Any] = {"pods_gone": gone, "pods_leaving": leaving, "pods_ready": ready}
    if len(gone) == len(targets) and ready >= ready_before:
        return Check(seen="all", evidence=evidence, moment=_ready_since(pods))
    missing = "not all pods are gone" if len(gone) < len(targets) else "their replacements aren't all ready"
    return Check(seen="some" if gone or leaving else "none", evidence=evidence | {"missing": missing})


def _check_pods(
    check: Check,
    deployment: Deployment,
    sets: Iterable[ReplicaSet],
    pods: Iterable[Pod],
    container: str,
    fits: Callable[[Container], bool],
) -> Check:
    """Judge the pods of a rollout that is complete: each has what the template has."""
    if check.seen != "all":
        return check
    owners = [item.metadata.uid for item in sets]
    own = [pod for pod in pods if pod.metadata.owner_uid in owners and pod.metadata.deletion_timestamp is None]
    right = [pod for pod in own if all(fits(item) for item in pod.spec.containers if item.name == container)]
    evidence = check.evidence | {"pods": len(own), "pods_as_wanted": len(right)}
    complete = len(right) == len(own) == deployment.spec.replicas
    return Check(seen="all" if complete else "some", evidence=evidence, moment=check.moment if complete else "")


def check_rollout(
    deployment: Deployment,
    candidates: Sequence[ReplicaSet],
    pods: Iterable[Pod],
    *,
    generation: int,
    evidence: dict[str, Any],
) -> Check:
    """Judge a rollout to one of the candidates (those with the wanted template, of this Deployment)."""
    spec, status = deployment.spec, deployment.status
    own = [item for item in candidates if item.metadata.owner_uid == deployment.metadata.uid]
    latest = max(own, key=lambda item: (item.status.replicas, item.metadata.name), default=None)
    evidence = evidence | {
        "generation": generation,
        "observed_generation": status.observed_generation,
        "replicas_desired": spec.replicas,
        "replicas": status.replicas,
        "replicas_updated": status.updated_replicas,
        "replicas_available": status.available_replicas,
    }
    if latest is None or status.observed_generation < generation:
        return Check(seen="none", evidence=evidence | {"missing": "the controller hasn't made a ReplicaSet of it yet"})
    evidence["replica_set"] = latest.metadata.name
    evidence["replica_set_uid"] = latest.metadata.uid
    evidence["replica_set_available"] = latest.status.available_replicas
    counts = (status.replicas, status.updated_replicas, status.available_replicas, latest.status.available_replicas)
    if all(count == spec.replicas for count in counts):
        new = [pod for pod in pods if pod.metadata.owner_uid == latest.metadata.uid]
        return Check(seen="all", evidence=evidence, moment=_ready_since(new))
    some = latest.status.available_replicas > 0
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


def check_workload(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Check:
    """Judge a change of the workload by the load generator's own account.

    `found` and `wanted` hold users_target, users_active, rate_per_s, mix (shares by flow); only what is wanted is compared.
    """
    evidence = {key: found.get(key) for key in wanted}
    differing = [key for key, value in wanted.items() if not _same(found.get(key), value)]
    if not differing:
        return Check(seen="all", evidence=evidence)
    evidence["missing"] = f"{', '.join(differing)}: not what was asked for yet"
    return Check(seen="some" if differing == ["users_active"] else "none", evidence=evidence)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_same(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, float):
        return isinstance(found, int | float) and math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-9)
    return bool(found == wanted)
