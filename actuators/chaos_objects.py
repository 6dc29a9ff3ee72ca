"""The fields of Chaos Mesh's objects that checks look at, as structs; everything else is skipped while decoding."""

from __future__ import annotations

from otel_control_gym.actuators.objects import Metadata, Part, PodCondition

__all__ = ("Chaos", "ChaosRecord", "PodNetworkChaos")


class ChaosEvent(Part, frozen=True, kw_only=True):
    """An entry of a record's own history."""

    type: str = ""
    operation: str = ""
    message: str = ""
    timestamp: str = ""


class ChaosRecord(Part, frozen=True, kw_only=True):
    """One target of a chaos object: `ns/pod` or `ns/pod/container`."""

    id: str
    selector_key: str = "."
    phase: str = ""
    injected_count: int = 0
    recovered_count: int = 0
    events: tuple[ChaosEvent, ...] = ()


class Experiment(Part, frozen=True, kw_only=True):
    """Phase and records of a chaos object."""

    desired_phase: str = ""
    container_records: tuple[ChaosRecord, ...] | None = None


class Instance(Part, frozen=True, kw_only=True):
    """Stressors in a container."""

    uid: str = ""  #: of the CPU stressor
    memory_uid: str = ""


class ChaosStatus(Part, frozen=True, kw_only=True):
    """Status of a chaos object. `instances` is a map to stressors (StressChaos) or to generations (NetworkChaos)."""

    conditions: tuple[PodCondition, ...] | None = None
    experiment: Experiment = Experiment()
    instances: dict[str, Instance | int] | None = None

    def holds(self, condition: str) -> bool:
        """Return whether a condition is True."""
        return any(item.type == condition and item.status == "True" for item in self.conditions or ())


class Chaos(Part, frozen=True, kw_only=True):
    """A StressChaos, NetworkChaos or PodChaos."""

    metadata: Metadata
    status: ChaosStatus = ChaosStatus()


class TrafficRule(Part, frozen=True, kw_only=True):
    """A rule of tc or iptables; `source` is `<namespace>/<NetworkChaos>`."""

    source: str = ""


class PodNetworkSpec(Part, frozen=True, kw_only=True):
    """The rules that a pod should have: of tc (netem) and of iptables (partition)."""

    tcs: tuple[TrafficRule, ...] | None = None
    iptables: tuple[TrafficRule, ...] | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the sources of all rules."""
        return tuple(rule.source for rules in (self.tcs, self.iptables) for rule in rules or ())


class PodNetworkStatus(Part, frozen=True, kw_only=True):
    """What the daemon made of them."""

    observed_generation: int = 0
    failed_message: str = ""


class PodNetworkChaos(Part, frozen=True, kw_only=True):
    """The network rules of one pod, named like it."""

    metadata: Metadata
    spec: PodNetworkSpec = PodNetworkSpec()
    status: PodNetworkStatus = PodNetworkStatus()
