"""The fields of Kubernetes and Chaos Mesh objects that checks look at, as structs; everything else is skipped while decoding."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from otel_control_gym.engine.events import TouchedObject

__all__ = (
    "Chaos",
    "Container",
    "Deployment",
    "Items",
    "Metadata",
    "Pod",
    "PodNetworkChaos",
    "ReplicaSet",
    "Resources",
    "ScaleObject",
)

T = TypeVar("T")


class _Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all parts: absent fields have Kubernetes' own defaults."""


class OwnerReference(_Part, frozen=True, kw_only=True):
    """Who owns an object."""

    uid: str
    controller: bool = False


class Metadata(_Part, frozen=True, kw_only=True):
    """Identity and versions of an object."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    annotations: dict[str, str] | None = None
    owner_references: tuple[OwnerReference, ...] | None = None
    deletion_timestamp: str | None = None

    def touched(self, kind: str) -> TouchedObject:
        """Return the object as events name it."""
        return TouchedObject(kind=kind, name=self.name, uid=self.uid)

    @property
    def owner_uid(self) -> str:
        """Return the UID of the controlling owner, or an empty text."""
        return next((owner.uid for owner in self.owner_references or () if owner.controller), "")


class Resources(_Part, frozen=True, kw_only=True):
    """Requests and limits, as quantities."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Container(_Part, frozen=True, kw_only=True):
    """A container of a template or a pod."""

    name: str
    resources: Resources = Resources()


class PodSpec(_Part, frozen=True, kw_only=True):
    """A pod's containers."""

    containers: tuple[Container, ...] = ()


class Template(_Part, frozen=True, kw_only=True):
    """A pod template."""

    metadata: Metadata | None = None
    spec: PodSpec = PodSpec()

    @property
    def annotations(self) -> dict[str, str]:
        """Return the template's annotations."""
        return (self.metadata.annotations if self.metadata else None) or {}


class WorkloadSpec(_Part, frozen=True, kw_only=True):
    """What a Deployment or ReplicaSet should be."""

    replicas: int = 1
    paused: bool = False
    template: Template = Template()


class WorkloadStatus(_Part, frozen=True, kw_only=True):
    """What a Deployment or ReplicaSet is."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0


class Deployment(_Part, frozen=True, kw_only=True):
    """An apps/v1 Deployment."""

    metadata: Metadata
    spec: WorkloadSpec
    status: WorkloadStatus = WorkloadStatus()

    def container(self, name: str) -> Container:
        """Return a container of the template by name; an unknown one has no resources."""
        found = (container for container in self.spec.template.spec.containers if container.name == name)
        return next(found, Container(name=name))


class ReplicaSet(Deployment, frozen=True, kw_only=True):
    """An apps/v1 ReplicaSet: the same shape, owned by a Deployment."""


class ScaleObject(_Part, frozen=True, kw_only=True):
    """An autoscaling/v1 Scale: metadata are the Deployment's."""

    metadata: Metadata


class PodCondition(_Part, frozen=True, kw_only=True):
    """A condition of a pod or a chaos object."""

    type: str
    status: str


class ContainerStatus(_Part, frozen=True, kw_only=True):
    """A container as the kubelet sees it."""

    name: str
    restart_count: int = 0


class PodStatus(_Part, frozen=True, kw_only=True):
    """A pod as the kubelet sees it."""

    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(_Part, frozen=True, kw_only=True):
    """A core/v1 Pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def ready(self) -> bool:
        """Return whether the pod is Ready and not on its way out."""
        serving = any(item.type == "Ready" and item.status == "True" for item in self.status.conditions)
        return serving and self.metadata.deletion_timestamp is None

    @property
    def restarts(self) -> int:
        """Return how often its containers were restarted."""
        return sum(item.restart_count for item in self.status.container_statuses)


class ChaosEvent(_Part, frozen=True, kw_only=True):
    """An entry of a record's own history."""

    type: str = ""
    operation: str = ""
    message: str = ""


class ChaosRecord(_Part, frozen=True, kw_only=True):
    """One target of a chaos object: `ns/pod` or `ns/pod/container`."""

    id: str
    selector_key: str = "."
    phase: str = ""
    injected_count: int = 0
    recovered_count: int = 0
    events: tuple[ChaosEvent, ...] = ()


class Experiment(_Part, frozen=True, kw_only=True):
    """Phase and records of a chaos object."""

    desired_phase: str = ""
    container_records: tuple[ChaosRecord, ...] | None = None


class Instance(_Part, frozen=True, kw_only=True):
    """A stressor in a container."""

    uid: str = ""


class ChaosStatus(_Part, frozen=True, kw_only=True):
    """Status of a chaos object. `instances` is a map to stressors (StressChaos) or to generations (NetworkChaos)."""

    conditions: tuple[PodCondition, ...] | None = None
    experiment: Experiment = Experiment()
    instances: dict[str, Instance | int] | None = None

    def holds(self, condition: str) -> bool:
        """Return whether a condition is True."""
        return any(item.type == condition and item.status == "True" for item in self.conditions or ())


class Chaos(_Part, frozen=True, kw_only=True):
    """A StressChaos or NetworkChaos."""

    metadata: Metadata
    status: ChaosStatus = ChaosStatus()


class TrafficRule(_Part, frozen=True, kw_only=True):
    """A rule of tc; `source` is `<namespace>/<NetworkChaos>`."""

    source: str = ""


class PodNetworkSpec(_Part, frozen=True, kw_only=True):
    """The rules that a pod should have."""

    tcs: tuple[TrafficRule, ...] | None = None


class PodNetworkStatus(_Part, frozen=True, kw_only=True):
    """What the daemon made of them."""

    observed_generation: int = 0
    failed_message: str = ""


class PodNetworkChaos(_Part, frozen=True, kw_only=True):
    """The network rules of one pod, named like it."""

    metadata: Metadata
    spec: PodNetworkSpec = PodNetworkSpec()
    status: PodNetworkStatus = PodNetworkStatus()


class Items(_Part, Generic[T], frozen=True, kw_only=True):
    """A list answer."""

    items: tuple[T, ...] = ()
