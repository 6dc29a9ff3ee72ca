"""The fields of Kubernetes objects that checks look at, as structs; everything else is skipped while decoding.

Chaos Mesh's are in `chaos_objects`.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from otel_control_gym.engine.events import TouchedObject

__all__ = (
    "ConfigMapSource",
    "Container",
    "Deployment",
    "EnvironmentSource",
    "Items",
    "Metadata",
    "Part",
    "Pod",
    "PodCondition",
    "ReplicaSet",
    "Resources",
    "ServiceObject",
    "Variable",
)

T = TypeVar("T")


class Part(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of all parts: absent fields have Kubernetes' own defaults."""


class OwnerReference(Part, frozen=True, kw_only=True):
    """Who owns an object."""

    uid: str
    controller: bool = False


class Metadata(Part, frozen=True, kw_only=True):
    """Identity and versions of an object."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
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


class Resources(Part, frozen=True, kw_only=True):
    """Requests and limits, as quantities."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Variable(Part, frozen=True, kw_only=True):
    """An environment variable; one without a value takes it from elsewhere."""

    name: str
    value: str | None = None


class ConfigMapSource(Part, frozen=True, kw_only=True):
    """A ConfigMap by name."""

    name: str = ""


class EnvironmentSource(Part, frozen=True, kw_only=True):
    """A ConfigMap all of whose keys are variables."""

    config_map_ref: ConfigMapSource | None = None


class Container(Part, frozen=True, kw_only=True):
    """A container of a template or a pod."""

    name: str
    image: str = ""
    resources: Resources = Resources()
    env: tuple[Variable, ...] = ()
    env_from: tuple[EnvironmentSource, ...] = ()

    def variable(self, name: str) -> Variable | None:
        """Return an environment variable by name; None: it isn't there."""
        return next((item for item in self.env if item.name == name), None)

    @property
    def config_maps(self) -> tuple[str, ...]:
        """Return the ConfigMaps whose keys are variables."""
        return tuple(item.config_map_ref.name for item in self.env_from if item.config_map_ref is not None)


class PodSpec(Part, frozen=True, kw_only=True):
    """A pod's containers."""

    containers: tuple[Container, ...] = ()


class Template(Part, frozen=True, kw_only=True):
    """A pod template."""

    metadata: Metadata | None = None
    spec: PodSpec = PodSpec()

    @property
    def annotations(self) -> dict[str, str]:
        """Return the template's annotations."""
        return (self.metadata.annotations if self.metadata else None) or {}


class WorkloadSpec(Part, frozen=True, kw_only=True):
    """What a Deployment or ReplicaSet should be."""

    replicas: int = 1
    paused: bool = False
    template: Template = Template()


class WorkloadStatus(Part, frozen=True, kw_only=True):
    """What a Deployment or ReplicaSet is."""

    observed_generation: int = 0
    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0


class Deployment(Part, frozen=True, kw_only=True):
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


class PodCondition(Part, frozen=True, kw_only=True):
    """A condition of a pod or a chaos object."""

    type: str
    status: str
    last_transition_time: str | None = None


class StateReason(Part, frozen=True, kw_only=True):
    """Why a container waits, or ended, and when that was."""

    reason: str = ""
    finished_at: str | None = None


class ContainerState(Part, frozen=True, kw_only=True):
    """A container's state: waiting, terminated, or (neither) running."""

    waiting: StateReason | None = None
    terminated: StateReason | None = None


class ContainerStatus(Part, frozen=True, kw_only=True):
    """A container as the kubelet sees it."""

    name: str
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodStatus(Part, frozen=True, kw_only=True):
    """A pod as the kubelet sees it."""

    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Part, frozen=True, kw_only=True):
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
    def ready_since(self) -> str:
        """Return when the pod became Ready, or an empty text."""
        stamps = [item.last_transition_time or "" for item in self.status.conditions if item.type == "Ready"]
        return stamps[0] if stamps and self.ready else ""

    @property
    def ended_at(self) -> str:
        """Return when a container of it ended the last time, or an empty text."""
        ends = (state.terminated for item in self.status.container_statuses for state in (item.state, item.last_state))
        return max((end.finished_at or "" for end in ends if end is not None), default="")

    @property
    def restarts(self) -> int:
        """Return how often its containers were restarted."""
        return sum(item.restart_count for item in self.status.container_statuses)

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Return the reasons for which containers wait."""
        return tuple(item.state.waiting.reason for item in self.status.container_statuses if item.state.waiting)

    @property
    def ended_by(self) -> tuple[str, ...]:
        """Return the reasons for which containers ended, now or the last time."""
        ends = (state.terminated for item in self.status.container_statuses for state in (item.state, item.last_state))
        return tuple(end.reason for end in ends if end is not None)


class ServicePort(Part, frozen=True, kw_only=True):
    """A port of a Service, and where it leads."""

    name: str = ""
    port: int
    target_port: int | str = 0


class ServiceSpec(Part, frozen=True, kw_only=True):
    """Where a Service sends its traffic."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}


class ServiceObject(Part, frozen=True, kw_only=True):
    """A core/v1 Service."""

    metadata: Metadata
    spec: ServiceSpec = ServiceSpec()


class Items(Part, Generic[T], frozen=True, kw_only=True):
    """A list answer."""

    items: tuple[T, ...] = ()
