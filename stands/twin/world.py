"""The simulated machines as the control plane knows them: containers by UID on one side, the kernel's slots on the other.

In: the calls of `PodRuntime`. Out: commands to the `Simulation`; for telemetry, which slot is which pod.

What is decided here is small: a container is a slot for ever (a pod whose container restarts has several, one after the other), several
chaos objects on one pod add up to one load and one set of delay rules, and SIGTERM means something only to processes that handle it.
All calls come while the kernel stands still.
"""

from __future__ import annotations

import math

import msgspec

from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.stands.twin.feature_flags import FLAGD, FeatureFlags
from otel_control_gym.stands.twin.machine import EgressRule
from otel_control_gym.stands.twin.runtime import ContainerExit, NetworkRule, PodProcess, PodResources
from otel_control_gym.stands.twin.simulation import Simulation

__all__ = ("Container", "World")

_NS_PER_MS = SECOND // 1000
_KILLED = 137  #: 128 + SIGKILL


class Container(msgspec.Struct, kw_only=True):
    """A pod's container in the simulation, through all its restarts; it stays known after its end, as its counters do."""

    slots: list[int]  #: of its runs
    uid: str
    name: str  #: of the pod
    service: str
    resources: PodResources
    running: bool = True
    gone: bool = False  #: and so is its pod
    in_endpoints: bool = False

    @property
    def slot(self) -> int:
        """Return the slot of the newest run."""
        return self.slots[-1]

    @property
    def home(self) -> int:
        """Return the slot of the first run: what tells the pod's series from others'."""
        return self.slots[0]


class _Rule(msgspec.Struct, frozen=True):
    """A rule of one chaos object, towards pods' UIDs (None: all)."""

    peers: tuple[str, ...] | None
    rule: NetworkRule


class World:
    """Implements `PodRuntime` on a simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.containers: list[Container] = []  #: by slot
        self.stopped: list[int] = []  #: homes of the pods that are gone, in the order of their end
        self._by_uid: dict[str, Container] = {}
        self._ordinals: dict[str, int] = {}
        self._stress: dict[str, dict[str, float]] = {}
        self._rules: dict[str, dict[str, _Rule]] = {}
        self._exit_codes: dict[int, int] = {}  # slot -> of a container that was killed from outside
        self.flags = FeatureFlags(simulation.config.flags)
        self._flagd: dict[str, bool] = {}  # pods of flagd that have ever been ready -> they are

    def follow_flags(self) -> None:
        """Let flagd read its file, and the application what has changed there."""
        if self.flags.follow():
            self.simulation.set_flags(self.flags.values())

    def container(self, uid: str) -> Container:
        """Return the container of a pod.

        Raises: KeyError: none was ever started for it.
        """
        return self._by_uid[uid]

    def warm_up(self) -> None:
        """Take all containers for long running ones, as those are that the run begins with."""
        for container in self.containers:
            self.simulation.warm_up(container.slot)

    # --- PodRuntime ----------------------------------------------------------------------------------------------------

    def start_container(
        self, uid: str, service: str, name: str, resources: PodResources, process: PodProcess = PodProcess()
    ) -> None:
        """Start a container: of a new pod, which gets no traffic yet, or of one whose container has died."""
        ordinal = self._ordinals.get(service, 0)
        self._ordinals[service] = ordinal + 1
        slot = self.simulation.add_pod(
            service,
            ordinal=ordinal,
            cpu_limit_cores=resources.cpu_limit_cores,
            memory_limit_bytes=resources.memory_limit_bytes,
            process=process,
        )
        assert slot == len(self.containers), "slots are given in order"
        container = self._by_uid.get(uid)
        if container is None:
            container = Container(slots=[slot], uid=uid, name=name, service=service, resources=resources)
            self._by_uid[uid] = container
            self.containers.append(container)
            return
        self.containers.append(container)
        before = container.slot
        container.slots.append(slot)
        container.running = True
        if container.in_endpoints:  # nobody has noticed yet: its address gets traffic again
            self.simulation.set_ready(before, False)
            self.simulation.set_ready(slot, True)
        for ruled in self._rules:  # they belong to the pod, and its address is the old one
            self._write_rules(self._by_uid[ruled])

    def take_exits(self) -> tuple[ContainerExit, ...]:
        """Return the containers that were killed, for their memory or from outside; stress has died with them."""
        exits = []
        for moment, slot in self.simulation.take_exits():
            container = self.containers[slot]
            container.running = False
            self._stress.pop(container.uid, None)
            code = self._exit_codes.pop(slot, None)
            reason, code = ("OOMKilled", _KILLED) if code is None else ("Error", code)
            exits.append(ContainerExit(uid=container.uid, at=moment, exit_code=code, reason=reason))
        return tuple(exits)

    def start_seconds(self, service: str, process: PodProcess = PodProcess()) -> float:
        """Return how long a service's process takes from container start to serving; infinity: it never does."""
        settings = self.simulation.config.services[service]
        version = settings.versions.get(process.version)
        if version is None:
            return settings.start_seconds
        return settings.start_seconds * version.start_factor if version.gets_ready else math.inf

    def set_endpoint(self, uid: str, *, ready: bool) -> None:
        """Offer a pod to new connections, or no more; a pod that is gone is in no endpoints already."""
        container = self._by_uid[uid]
        if not container.gone:
            container.in_endpoints = ready
            self.simulation.set_ready(container.slot, ready)
            self._note_flagd(container, ready)

    def begin_termination(self, uid: str) -> None:
        """Send SIGTERM; without a handler a process serves on until it is killed."""
        container = self._by_uid[uid]
        if container.running and self.simulation.config.services[container.service].drains:
            self.simulation.drain(container.slot)

    def in_flight(self, uid: str) -> int:
        """Return how many requests the pod holds, waiting ones included."""
        return self.simulation.in_flight(self._by_uid[uid].slot)

    def stop_container(self, uid: str) -> None:
        """End the container, if it runs, and the pod; stress and network rules end with it."""
        container = self._by_uid[uid]
        container.running = container.in_endpoints = False
        container.gone = True
        self.stopped.append(container.home)
        self._stress.pop(uid, None)
        if self._rules.pop(uid, None):
            self.simulation.set_egress_rules(container.slot, {})
        self.simulation.stop(container.slot)
        self._note_flagd(container, False)

    def kill_container(self, uid: str, exit_code: int = _KILLED) -> None:
        """Kill the process, if it runs; the pod stays in the endpoints until the exit is noticed."""
        container = self._by_uid[uid]
        if container.running and container.slot not in self._exit_codes:
            self._exit_codes[container.slot] = exit_code
            self.simulation.kill(container.slot)

    def set_split(self, service: str, canary_share: float | None) -> None:
        """Send this share of dials to a service's canary pods; None: to any pod alike."""
        self.simulation.set_split(service, canary_share)

    def set_cpu_stress(self, uid: str, chaos: str, *, workers: int, load: float) -> None:
        """Run busy threads beside the process; those of several chaos objects add up."""
        container = self._by_uid[uid]
        if not container.running:
            return
        stress = self._stress.setdefault(uid, {})
        if load > 0:
            stress[chaos] = workers * load
        else:
            stress.pop(chaos, None)
        self.simulation.set_stress(container.slot, sum(stress.values()))

    def set_memory_stress(self, uid: str, chaos: str, *, size_bytes: int, ramp_seconds: float) -> None:
        """Fill memory beside the process; what several chaos objects fill adds up."""
        container = self._by_uid[uid]
        if container.running:
            self.simulation.set_memory_stress(container.slot, chaos, size_bytes, seconds(ramp_seconds))

    def set_network_rule(
        self, uid: str, chaos: str, *, peers: tuple[str, ...] | None, rule: NetworkRule | None
    ) -> None:
        """Do this to the pod's egress. Where rules of several chaos objects meet, the longest latency and jitter hold, a packet must
        survive the loss of each, and one that blocks is enough.
        """
        container = self._by_uid[uid]
        if container.gone:
            return
        rules = self._rules.setdefault(uid, {})
        if rule is not None:
            known = None if peers is None else tuple(peer for peer in peers if peer in self._by_uid)
            rules[chaos] = _Rule(known, rule)
        else:
            rules.pop(chaos, None)
        self._write_rules(container)

    def answers_probe(self, uid: str) -> bool:
        """Return whether the process says that it is ready."""
        container = self._by_uid[uid]
        return container.running and not self.flags.unready(container.service)

    def cpu_seconds(self, uid: str) -> float:
        """Return the CPU time of all runs of the pod's container."""
        return self.simulation.cpu_seconds(self._by_uid[uid].slots)

    def memory_bytes(self, uid: str) -> int:
        """Return the memory of the pod's container."""
        return int(self.simulation.pod_counters().memory_bytes[self._by_uid[uid].slot])

    def _note_flagd(self, container: Container, ready: bool) -> None:
        """Let flags be in force while a pod of flagd is ready; a new pod has the flags of the ConfigMap."""
        if container.service != FLAGD or (not ready and not self._flagd.get(container.uid)):
            return
        if container.uid not in self._flagd:
            self.flags.reset()
        self._flagd[container.uid] = ready
        self.flags.serving = any(self._flagd.values())
        self.simulation.set_flags(self.flags.values())

    def _write_rules(self, container: Container) -> None:
        """Give the simulation one rule per peer, merged over chaos objects."""
        merged: dict[int | None, EgressRule] = {}
        for item in self._rules[container.uid].values():
            for uid in (None,) if item.peers is None else item.peers:
                peer = None if uid is None else self._by_uid[uid].slot
                merged[peer] = _merged(merged.get(peer, EgressRule()), item.rule)
        for slot in container.slots[:-1]:
            self.simulation.set_egress_rules(slot, {})
        self.simulation.set_egress_rules(container.slot, merged)


def _merged(known: EgressRule, rule: NetworkRule) -> EgressRule:
    return EgressRule(
        latency_ns=max(known.latency_ns, round(rule.latency_ms * _NS_PER_MS)),
        jitter_ns=max(known.jitter_ns, round(rule.jitter_ms * _NS_PER_MS)),
        loss=1.0 - (1.0 - known.loss) * (1.0 - rule.loss),
        blocked=known.blocked or rule.blocked,
    )
