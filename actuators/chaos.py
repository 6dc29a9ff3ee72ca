"""Interventions through Chaos Mesh: StressChaos in a service's containers, NetworkChaos on a call edge.

In: an intervention with its numbers resolved. Out: one chaos object, explicit pods as its targets, and what shows that it works.

What makes this hard:
- **ClusterIPs.** A packet from A to a Service carries the ClusterIP when it leaves A's namespace, so a rule in A that matches B's pod IPs
  never matches, and Chaos Mesh still says AllInjected. The rule is therefore put at B's end (`direction: from`, selector A, target B):
  B's answers to A's pod IPs are late. The postcheck looks for the rule in B's pods, not at the condition.
- **Faults die with their target** (stress with the container, network rules with the pod). With persistence `workload` the
  procedure makes a new object, under a new name, for the pods that took over; the gap in between is in the evidence.
- **Nothing on the stand may say what a run does**: names are drawn from (seed, counter), labels say only who manages the object.
- **Dead man's switch**: `spec.duration` outlives the planned revert by `SPARE_SECONDS`, so that a gym that died leaves no fault, and
  a gym that lives decides the end itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otel_control_gym.actuators.kubernetes import FIELD_MANAGER, DeploymentClient
from otel_control_gym.actuators.kubernetes_client import KubernetesClient
from otel_control_gym.actuators.objects import Chaos, Pod, PodNetworkChaos
from otel_control_gym.actuators.postchecks import Target, check_injection, missing_rules, missing_stressors, replaced
from otel_control_gym.actuators.prechecks import refuse_empty, refuse_unlimited
from otel_control_gym.actuators.procedure import Check, Precheck, Reversal
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import TouchedObject

__all__ = ("ChaosProcedure", "CpuPressureProcedure", "NetworkDelayProcedure")

SPARE_SECONDS = 60
_GROUP = "chaos-mesh.org/v1alpha1"
_GONE = 404


class ChaosProcedure(ABC):
    """What the interventions have in common: the life of the chaos object, its targets, and its renewal."""

    kind: str  #: StressChaos, NetworkChaos
    by_container: bool  #: the fault ends with the container already

    def __init__(
        self,
        kubernetes: KubernetesClient,
        namespace: str,
        *,
        field: str,
        services: Sequence[str],
        duration_seconds: int,
        persistent: bool,
        new_name: Callable[[], str],
    ) -> None:
        self.field = field
        self._kubernetes = kubernetes
        self._namespace = namespace
        self._path = f"apis/{_GROUP}/namespaces/{namespace}/{self.kind.lower()}"
        self._clients = {service: DeploymentClient(kubernetes, namespace, service) for service in services}
        self._duration_seconds = duration_seconds
        self._persistent = persistent
        self._new_name = new_name
        self._name = new_name()
        self._names: list[str] = []  # every object that this attempt may have made
        self._targets: dict[str, tuple[Target, ...]] = {}
        self._end = 0
        self._renewals: list[dict[str, Any]] = []
        self._renewal: dict[str, Any] | None = None  # begun, but its object isn't made yet

    # --- what the kinds differ in ----------------------------------------------------------------------------------------

    @abstractmethod
    def _spec(self) -> dict[str, Any]:
        """Return the object's spec for the targets."""

    @abstractmethod
    def _refuse(self, pods: Mapping[str, Sequence[Pod]], /) -> str:
        """Return why these pods can't take the fault, or nothing."""

    @abstractmethod
    def _record_ids(self) -> list[str]:
        """Return the ids of the records that the controller must write."""

    @abstractmethod
    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        """Return the targets at which the mechanism must be seen, and those of them at which it isn't."""

    @abstractmethod
    async def _leftovers(self, names: Sequence[str], /) -> list[str]:
        """Return traces of deleted objects that are still in pods."""

    # --- the stages ------------------------------------------------------------------------------------------------------

    async def precheck(self) -> Precheck:
        """Choose the pods, and let the API server check the object without making it."""
        pods = await self._ready_pods()
        evidence = {"pods": {service: [pod.metadata.name for pod in members] for service, members in pods.items()}}
        rejection = refuse_empty(pods) or self._refuse(pods)
        if rejection:
            return Precheck(rejection=rejection, evidence=evidence)
        self._aim(pods)
        self._end = 0
        try:
            await self._create(self._duration_seconds, dry_run=True)
        except Refused as refusal:
            return Precheck(rejection=str(refusal), evidence=evidence)
        return Precheck(evidence=evidence)

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make the object; if it is there already, the answer to an earlier try was lost."""
        self._end = self._end or now + self._duration_seconds * SECOND
        if self._name not in self._names:
            self._names.append(self._name)
        remaining = max(1, (self._end - now) // SECOND)
        try:
            chaos = await self._create(remaining, dry_run=False)
        except Busy as busy:
            if busy.status != 409:
                raise
            chaos = await self._read(self._name)
        return (chaos.metadata.touched(self.kind),)

    async def postcheck(self) -> Check:
        """Look at records, mechanism and targets."""
        chaos = await self._read(self._name)
        affected, without_effect = await self._without_effect(chaos)
        check = check_injection(
            chaos,
            record_ids=self._record_ids(),
            lost=self._lost(await self._all_pods()),
            affected=affected,
            without_effect=without_effect,
        )
        return Check(seen=check.seen, evidence={"object": self._name, **check.evidence})

    async def sustain(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make a new object for the pods that are there now, if a target was replaced and all ends are ready again."""
        if not self._persistent:
            return ()
        if self._renewal is None:
            pods = await self._all_pods()
            lost = self._lost(pods)
            ready = {service: [pod for pod in members if pod.ready] for service, members in pods.items()}
            if not lost or refuse_empty(ready):
                return ()
            await self._delete(self._name)
            self._aim(ready)
            self._name = self._new_name()
            self._renewal = {"time": rfc3339(now), "object": self._name, "replaced": list(lost)}
        touched = await self.apply(now)
        self._renewals.append(self._renewal)
        self._renewal = None
        return touched

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Delete every object that this attempt may have made."""
        gone = []
        for name in self._names:
            chaos = await self._delete(name)
            if chaos is not None:
                gone.append(chaos.metadata.touched(self.kind))
        return tuple(gone)

    async def reverted(self) -> Reversal:
        """Every object answers 404, and no pod holds a trace of one."""
        present = [name for name in self._names if await self._exists(name)]
        leftovers = await self._leftovers(self._names)
        evidence: dict[str, Any] = {"objects_present": present, "leftovers": leftovers}
        if self._renewals:
            evidence["renewals"] = self._renewals
        return Reversal(verified=not present and not leftovers, evidence=evidence)

    # --- calls and targets -----------------------------------------------------------------------------------------------

    async def _create(self, duration_seconds: int, *, dry_run: bool) -> Chaos:
        body = {
            "apiVersion": _GROUP,
            "kind": self.kind,
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER},
            },
            "spec": {"mode": "all", "duration": f"{duration_seconds + SPARE_SECONDS}s", **self._spec()},
        }
        query = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return await self._kubernetes.call("POST", self._path, Chaos, body=body, query=query)

    async def _read(self, name: str) -> Chaos:
        return await self._kubernetes.call("GET", f"{self._path}/{name}", Chaos)

    async def _exists(self, name: str) -> bool:
        try:
            await self._read(name)
        except Refused as refusal:
            if refusal.status == _GONE:
                return False
            raise
        return True

    async def _delete(self, name: str) -> Chaos | None:
        """Delete an object and return its last state; None if it wasn't there."""
        try:
            chaos = await self._read(name)
            await self._kubernetes.call("DELETE", f"{self._path}/{name}", dict)
        except Refused as refusal:
            if refusal.status == _GONE:
                return None
            raise
        return chaos

    async def _all_pods(self) -> dict[str, list[Pod]]:
        return {
            service: sorted(await client.pods(), key=lambda pod: pod.metadata.name)
            for service, client in self._clients.items()
        }

    async def _ready_pods(self) -> dict[str, list[Pod]]:
        return {service: [pod for pod in pods if pod.ready] for service, pods in (await self._all_pods()).items()}

    def _aim(self, pods: Mapping[str, Sequence[Pod]]) -> None:
        self._targets = {
            service: tuple(Target(pod.metadata.name, pod.metadata.uid, pod.restarts) for pod in members)
            for service, members in pods.items()
        }

    def _lost(self, pods: Mapping[str, Sequence[Pod]]) -> tuple[str, ...]:
        return tuple(
            name
            for service, targets in self._targets.items()
            for name in replaced(targets, pods[service], by_container=self.by_container)
        )

    def _selector(self, service: str) -> dict[str, Any]:
        """Name the pods one by one: what was targeted is then known, and doesn't depend on when the controller looks."""
        return {"pods": {self._namespace: [target.pod for target in self._targets[service]]}}


class CpuPressureProcedure(ChaosProcedure):
    """StressChaos: busy threads in the CPU quota of a service's container."""

    kind = "StressChaos"
    by_container = True

    def __init__(
        self,
        kubernetes: KubernetesClient,
        namespace: str,
        *,
        target: str,
        workers: int,
        load_percent: int,
        **common: Any,
    ):
        super().__init__(kubernetes, namespace, field=f"cpu_pressure:{target}", services=(target,), **common)
        self._target, self._workers, self._load_percent = target, workers, load_percent

    def _spec(self) -> dict[str, Any]:
        return {
            "selector": self._selector(self._target),
            "containerNames": [self._target],
            "stressors": {"cpu": {"workers": self._workers, "load": self._load_percent}},
        }

    def _refuse(self, pods: Mapping[str, Sequence[Pod]], /) -> str:
        return refuse_unlimited(self._target, pods[self._target])

    def _record_ids(self) -> list[str]:
        return [f"{self._namespace}/{target.pod}/{self._target}" for target in self._targets[self._target]]

    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        targets = self._targets[self._target]
        return targets, missing_stressors(chaos, namespace=self._namespace, container=self._target, targets=targets)

    async def _leftovers(self, _names: Sequence[str], /) -> list[str]:
        return []  # stressors are children of the object's records; with the object gone nothing names them


class NetworkDelayProcedure(ChaosProcedure):
    """NetworkChaos: the target's answers to the source's pods are late."""

    kind = "NetworkChaos"
    by_container = False

    def __init__(
        self,
        kubernetes: KubernetesClient,
        namespace: str,
        *,
        source: str,
        target: str,
        latency_ms: int,
        jitter_ms: int,
        **common: Any,
    ):
        super().__init__(
            kubernetes, namespace, field=f"network_delay:{source}->{target}", services=(source, target), **common
        )
        self._source, self._target = source, target
        self._latency_ms, self._jitter_ms = latency_ms, jitter_ms

    def _spec(self) -> dict[str, Any]:
        return {
            "action": "delay",
            "direction": "from",
            "selector": self._selector(self._source),
            "target": {"mode": "all", "selector": self._selector(self._target)},
            "delay": {"latency": f"{self._latency_ms}ms", "jitter": f"{self._jitter_ms}ms", "correlation": "0"},
        }

    def _refuse(self, _pods: Mapping[str, Sequence[Pod]], /) -> str:
        return ""

    def _record_ids(self) -> list[str]:
        return [
            f"{self._namespace}/{target.pod}"
            for service in (self._source, self._target)
            for target in self._targets[service]
        ]

    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        targets = self._targets[self._target]
        rules = [rule for target in targets if (rule := await self._rules_of(target.pod)) is not None]
        return targets, missing_rules(rules, source=f"{self._namespace}/{chaos.metadata.name}", targets=targets)

    async def _leftovers(self, names: Sequence[str], /) -> list[str]:
        sources = {f"{self._namespace}/{name}" for name in names}
        rules = [await self._rules_of(target.pod) for target in self._targets.get(self._target, ())]
        return [
            item.metadata.name
            for item in rules
            if item is not None and any(rule.source in sources for rule in item.spec.tcs or ())
        ]

    async def _rules_of(self, pod: str) -> PodNetworkChaos | None:
        path = f"apis/{_GROUP}/namespaces/{self._namespace}/podnetworkchaos/{pod}"
        try:
            return await self._kubernetes.call("GET", path, PodNetworkChaos)
        except Refused as refusal:
            if refusal.status == _GONE:
                return None
            raise
