"""Kubernetes objects ➜ rows, as pure functions. Only the fields below are decoded: env values and annotations never get as far as the
log; of managed fields it is told who wrote them, and their names.

`moment` is the newest time that an object shows of itself, or 0. Kubernetes' stamps have one second, and some changes leave none (a
Deployment that scales): `kubernetes` puts those in the order of their resourceVersions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import KubernetesEvent, PodTransition, RolloutStatus

__all__ = (
    "Change",
    "ChaosObject",
    "EventObject",
    "KubernetesEvent",
    "ManagedObject",
    "PodObject",
    "WorkloadObject",
    "event_row",
    "is_truth",
    "pod_row",
    "rollout_row",
)

Change = Literal["added", "modified", "deleted"]
_SERVICE_LABELS = ("opentelemetry.io/name", "app.kubernetes.io/component")
_CHAOS_GROUP = "chaos-mesh.org/"
_CHAOS_COMPONENTS = ("initFinalizers", "desiredphase", "records")
_PAUSE_IMAGE = re.compile(r"\"[^\" ]*\bpause(-(amd64|arm64))?([:@][^\"]*)?\"")  #: as a kubelet quotes it
_CHANGED_IN_PLACE = "definition changed, will be restarted"  #: nobody but a pod-failure changes a pod's containers
_REVISION = "deployment.kubernetes.io/revision"
_SUFFIXES = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


class _Part(msgspec.Struct, rename="camel"):
    """Base of all parts."""


def service_of(labels: Mapping[str, str] | None) -> str:
    """Return the service that labels name, or an empty text."""
    return next((labels[name] for name in _SERVICE_LABELS if name in labels), "") if labels else ""


class FieldManager(_Part):
    """Who has written fields of an object, and which (`fieldsV1`: names as keys)."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""
    fields: dict[str, Any] = msgspec.field(default_factory=dict, name="fieldsV1")

    @property
    def key(self) -> tuple[str, str, str]:
        """Return what tells the entries of one object apart."""
        return (self.manager, self.operation, self.subresource)

    def paths(self) -> tuple[str, ...]:
        """Return the fields as paths, sorted; of entries of lists their list's."""
        return tuple(sorted(set(_paths(self.fields, ()))))


def _paths(fields: dict[str, Any], prefix: tuple[str, ...]) -> Iterable[str]:
    inner = {key: value for key, value in fields.items() if key.startswith("f:") or key.startswith(("k:", "v:"))}
    if not inner:
        return [".".join(prefix)] if prefix else []
    found: list[str] = []
    for key, value in inner.items():
        step = (*prefix, key[2:]) if key.startswith("f:") else prefix
        found += _paths(value, step)
    return found


class Owner(_Part):
    """Who owns an object."""

    uid: str
    controller: bool = False


class Metadata(_Part):
    """Identity of an object."""

    name: str
    uid: str
    resource_version: str
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None
    managed_fields: list[FieldManager] | None = None

    @property
    def service(self) -> str:
        """Return the service that the object belongs to, or an empty text."""
        return service_of(self.labels)

    @property
    def owner_uid(self) -> str:
        """Return the UID of the controlling owner, or an empty text."""
        return next((owner.uid for owner in self.owner_references or [] if owner.controller), "")


class ManagedObject(_Part):
    """Any object, as far as its metadata."""

    metadata: Metadata

    def moment(self) -> int:
        """Return the newest time that the object shows [ns], or 0."""
        stamps = [self.metadata.creation_timestamp, self.metadata.deletion_timestamp]
        return _newest([*stamps, *(entry.time for entry in self.metadata.managed_fields or [])])


class ChaosRecord(_Part):
    """A target of a chaos object: `namespace/pod`, or with a container after it."""

    id: str = ""


class ChaosExperiment(_Part):
    """The targets."""

    container_records: list[ChaosRecord] | None = None


class ChaosState(_Part):
    """What a chaos object says of itself."""

    experiment: ChaosExperiment = msgspec.field(default_factory=ChaosExperiment)


class ChaosSpec(_Part):
    """What it does."""

    action: str = ""


class ChaosObject(ManagedObject):
    """A PodChaos."""

    spec: ChaosSpec = msgspec.field(default_factory=ChaosSpec)
    status: ChaosState = msgspec.field(default_factory=ChaosState)

    def victims(self) -> tuple[str, ...]:
        """Return the pods that it deletes."""
        if self.spec.action != "pod-kill":
            return ()
        return tuple(record.id.partition("/")[2] for record in self.status.experiment.container_records or [])


class Condition(_Part):
    """A condition of a pod, Deployment or autoscaler."""

    type: str
    status: str
    reason: str = ""
    last_transition_time: str | None = None
    last_update_time: str | None = None


class Phase(_Part):
    """One of a container's states."""

    reason: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(_Part):
    """A container's state: one of three."""

    waiting: Phase | None = None
    running: Phase | None = None
    terminated: Phase | None = None


class ContainerStatus(_Part):
    """A container as the kubelet sees it."""

    restart_count: int = 0
    state: ContainerState | None = None
    last_state: ContainerState | None = None


class PodStatus(_Part):
    """A pod as the kubelet sees it."""

    phase: str = ""
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None


class PodPlace(_Part):
    """Where a pod was put."""

    node_name: str = ""


class PodObject(_Part):
    """A core/v1 Pod."""

    metadata: Metadata
    spec: PodPlace = msgspec.field(default_factory=PodPlace)
    status: PodStatus = msgspec.field(default_factory=PodStatus)

    def moment(self) -> int:
        """Return the newest time that the pod shows [ns], or 0."""
        stamps = [self.metadata.creation_timestamp]
        stamps += [condition.last_transition_time for condition in self.status.conditions or []]
        for status in self.status.container_statuses or []:
            for state in (status.state, status.last_state):
                for phase in (state.running, state.terminated) if state else ():
                    stamps += [phase.started_at, phase.finished_at] if phase else []
        return _newest(stamps)


class Resources(_Part):
    """Requests and limits, as quantities."""

    requests: dict[str, str] | None = None
    limits: dict[str, str] | None = None


class Container(_Part):
    """A container of a template."""

    image: str = ""
    resources: Resources = msgspec.field(default_factory=Resources)


class PodSpec(_Part):
    """The containers of a template."""

    containers: list[Container] = []


class Labels(_Part):
    """What a template says of its pods."""

    labels: dict[str, str] | None = None


class Template(_Part):
    """A pod template."""

    metadata: Labels = msgspec.field(default_factory=Labels)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class WorkloadSpec(_Part):
    """What a Deployment or ReplicaSet should be."""

    replicas: int = 1
    template: Template = msgspec.field(default_factory=Template)


class WorkloadStatus(_Part):
    """What a Deployment or ReplicaSet is."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    conditions: list[Condition] | None = None


class WorkloadObject(ManagedObject):
    """An apps/v1 Deployment or ReplicaSet."""

    spec: WorkloadSpec
    status: WorkloadStatus = msgspec.field(default_factory=WorkloadStatus)

    def moment(self) -> int:
        """Return the newest time that the object shows [ns], or 0."""
        stamps = [self.metadata.creation_timestamp]
        for condition in self.status.conditions or []:
            stamps += [condition.last_transition_time, condition.last_update_time]
        return _newest(stamps)


class Involved(_Part):
    """The object that an Event is about."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""


class Source(_Part):
    """Who reports, in old-style Events."""

    component: str = ""


class Series(_Part):
    """Repetition, in new-style Events."""

    count: int = 0
    last_observed_time: str | None = None


class EventObject(_Part):
    """A core/v1 Event."""

    metadata: Metadata
    involved_object: Involved = msgspec.field(default_factory=Involved)
    reason: str = ""
    message: str = ""
    type: str = "Normal"
    count: int | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: Series | None = None
    source: Source = msgspec.field(default_factory=Source)
    reporting_component: str = ""

    def moment(self) -> int:
        """Return when the Event happened last [ns]."""
        stamps = (
            self.series.last_observed_time if self.series else None,
            self.last_timestamp,
            self.event_time,
            self.metadata.creation_timestamp,
        )
        return _newest([next((stamp for stamp in stamps if stamp), None)])


def _newest(stamps: Iterable[str | None]) -> int:
    return max((_nanoseconds(stamp) for stamp in stamps if stamp), default=0)


def _nanoseconds(stamp: str) -> int:
    moment = datetime.fromisoformat(stamp)
    return int(moment.timestamp()) * SECOND + moment.microsecond * 1000


def _quantity(text: str | None) -> float | None:
    if text is None:
        return None
    for length in (2, 1):
        factor = _SUFFIXES.get(text[-length:])
        if factor is not None:
            return float(text[:-length]) * factor
    return float(text)


def pod_row(pod: PodObject, change: Change, time: int) -> PodTransition:
    """Return a pod's state."""
    metadata, status = pod.metadata, pod.status
    containers = status.container_statuses or []
    return PodTransition(
        time=time,
        change=change,
        service=metadata.service,
        pod=metadata.name,
        uid=metadata.uid,
        owner_uid=metadata.owner_uid,
        phase=status.phase,
        ready=any(item.type == "Ready" and item.status == "True" for item in status.conditions or []),
        restart_count=sum(container.restart_count for container in containers),
        reason=next((reason for container in containers if (reason := _reason(container))), ""),
        terminating=metadata.deletion_timestamp is not None,
        node=pod.spec.node_name,
        running=bool(containers)
        and all(item.state is not None and item.state.running is not None for item in containers),
    )


def _reason(container: ContainerStatus) -> str:
    """Return why a container doesn't run; of a running one, why it ended before."""
    state = container.state or ContainerState()
    for phase in (state.waiting, state.terminated):
        if phase is not None:
            return phase.reason
    before = container.last_state.terminated if container.last_state else None
    return before.reason if before is not None else ""


def rollout_row(
    item: WorkloadObject, kind: Literal["Deployment", "ReplicaSet"], change: Change, time: int
) -> RolloutStatus:
    """Return a Deployment's or ReplicaSet's state; resources are those of its pods' containers together."""
    metadata, status = item.metadata, item.status
    cpu_request, cpu_limit = _resource(item, "requests", "cpu"), _resource(item, "limits", "cpu")
    memory_request, memory_limit = _resource(item, "requests", "memory"), _resource(item, "limits", "memory")
    return RolloutStatus(
        time=time,
        change=change,
        kind=kind,
        service=metadata.service or service_of(item.spec.template.metadata.labels),  # a canary's pods bear it alone
        name=metadata.name,
        uid=metadata.uid,
        owner_uid=metadata.owner_uid,
        generation=metadata.generation,
        observed_generation=status.observed_generation,
        revision=(metadata.annotations or {}).get(_REVISION, ""),
        replicas_desired=item.spec.replicas,
        replicas_updated=status.updated_replicas if kind == "Deployment" else status.replicas,
        replicas_ready=status.ready_replicas,
        replicas_available=status.available_replicas,
        cpu_request_cores=cpu_request,
        cpu_limit_cores=cpu_limit,
        memory_request_bytes=None if memory_request is None else round(memory_request),
        memory_limit_bytes=None if memory_limit is None else round(memory_limit),
        images=tuple(container.image for container in item.spec.template.spec.containers),
        stalled=next(
            (
                each.reason
                for each in status.conditions or []
                if each.type == "Progressing" and each.status in ("False", "Unknown")
            ),
            "",
        ),
    )


def _resource(item: WorkloadObject, kind: Literal["requests", "limits"], name: str) -> float | None:
    """Return a resource of all containers together; null unless each has it (one without a limit has none)."""
    found: list[Any] = [
        _quantity((getattr(container.resources, kind) or {}).get(name))
        for container in item.spec.template.spec.containers
    ]
    return None if not found or None in found else float(sum(found))


def is_truth(event: EventObject) -> bool:
    """Return whether an Event tells of a chaos object, or of what one has put in the place of a container."""
    component = event.source.component or event.reporting_component
    return (
        event.involved_object.api_version.startswith(_CHAOS_GROUP)
        or component in _CHAOS_COMPONENTS
        or _CHANGED_IN_PLACE in event.message
        or _PAUSE_IMAGE.search(event.message) is not None
    )


def event_row(event: EventObject, time: int) -> KubernetesEvent:
    """Return a Kubernetes Event."""
    return KubernetesEvent(
        time=time,
        type=event.type,
        reason=event.reason,
        message=event.message,
        object_kind=event.involved_object.kind,
        object_name=event.involved_object.name,
        object_uid=event.involved_object.uid,
        component=event.source.component or event.reporting_component,
        count=event.series.count if event.series else event.count or 1,
    )
