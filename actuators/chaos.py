"""Interventions through Chaos Mesh: the life of a chaos object, its targets, and its renewal.

In: a spec. Out: one chaos object, explicit pods as its targets, and what shows that it works. The kinds are in `stress`, `network_chaos`
and `pod_chaos`.

What makes this hard:
- **Faults die with their target** (stress with the container, network rules with the pod). With persistence `workload` the
  procedure makes a new object, under a new name, for the pods that took over; the gap in between is in the evidence.
- **Nothing on the stand may say what a run does**: names are drawn from (seed, counter), labels are opaque ids.
- **Dead man's switch**: `spec.duration` outlives the planned revert by `SPARE_SECONDS`, so that a gym that died leaves no fault, and
  a gym that lives decides the end itself.
- **Objects that won't go**: finalizers stick when pods vanish under a fault. After `FORCE_SECONDS` the object's removal is forced, a
  little later its finalizers are taken. While Chaos Mesh's webhook is down neither is possible, and faults don't expire: then the pods
  in which it sits are deleted, with which it ends. Each step is an event.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from otel_control_gym.actuators.chaos_objects import Chaos
from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.injections import check_injection, check_nobody, holding, replaced
from otel_control_gym.actuators.kubernetes_client import FIELD_MANAGER, MERGE, KubernetesClient
from otel_control_gym.actuators.moments import newest
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target
from otel_control_gym.actuators.prechecks import refuse_empty
from otel_control_gym.actuators.procedure import Check, Forced, Precheck, Reversal, Standing
from otel_control_gym.actuators.transport import Busy, CallError, Refused
from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import InverseCall, TouchedObject

__all__ = ("ACTION_LABEL", "FORCE_SECONDS", "GROUP", "ChaosProcedure", "Injection")

SPARE_SECONDS = 60
FORCE_SECONDS = 30  #: from the first look after the deletion to the force annotation
FINALIZERS_SECONDS = 40  #: the same until finalizers are taken
PODS_SECONDS = 50  #: the same until the pods are deleted that are known to have it
GROUP = "chaos-mesh.org/v1alpha1"
ACTION_LABEL = "otel-control-gym/action"  #: on every object that an action makes
_FORCE = {"metadata": {"annotations": {"chaos-mesh.chaos-mesh.org/cleanFinalizer": "forced"}}}
_BARE = {"metadata": {"finalizers": None}}
_GONE = 404


class Injection(msgspec.Struct, frozen=True, kw_only=True):
    """What every intervention through Chaos Mesh is given."""

    kubernetes: KubernetesClient
    namespace: str
    duration_seconds: int
    persistent: bool  #: follows its workload into new pods
    new_name: Callable[[], str]
    labels: dict[str, str]  #: of the objects that are made


class ChaosProcedure(ABC):
    """What the interventions have in common."""

    kind: str  #: StressChaos, NetworkChaos, PodChaos
    by_container: bool = False  #: the fault ends with the container already
    begun = False

    def __init__(self, injection: Injection, *, fields: tuple[str, ...], services: Sequence[str], nil: bool) -> None:
        self.fields = fields
        self._injection = injection
        self._kubernetes = injection.kubernetes
        self._namespace = injection.namespace
        self._path = f"apis/{GROUP}/namespaces/{injection.namespace}/{self.kind.lower()}"
        self._clients = {
            service: DeploymentClient(injection.kubernetes, injection.namespace, service) for service in services
        }
        self._nil = nil  # strength zero: the object selects nobody
        self._name = injection.new_name()
        self._names: list[str] = []  # every object that this attempt may have made
        self._targets: dict[str, tuple[Target, ...]] = {}
        self._held: tuple[str, ...] = ()  # pods in which it was seen in force at the last look
        self._end = 0
        self._renewals: list[dict[str, Any]] = []
        self._renewal: dict[str, Any] | None = None  # begun, but its object isn't made yet
        self._revert_began: int | None = None

    # --- what the kinds differ in ----------------------------------------------------------------------------------------

    @abstractmethod
    def _spec(self) -> dict[str, Any]:
        """Return the object's spec for the targets."""

    def _refuse(self, _pods: Mapping[str, Sequence[Pod]], /) -> str:
        """Return why these pods can't take the fault, or nothing."""
        return ""

    @abstractmethod
    def _record_ids(self) -> list[str]:
        """Return the ids of the records that the controller must write."""

    @abstractmethod
    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        """Return the targets at which the mechanism must be seen, and those of them at which it isn't."""

    async def _leftovers(self, _names: Sequence[str], /) -> list[str]:
        """Return traces of deleted objects that are still in pods."""
        return []

    def _selected(self, _service: str, pods: Sequence[Pod]) -> Sequence[Pod]:
        """Return those of a service's ready pods that are targeted."""
        return pods

    # --- the stages ------------------------------------------------------------------------------------------------------

    async def precheck(self) -> Precheck:
        """Choose the pods, and let the API server check the object without making it."""
        pods = await self._ready_pods()
        self._aim(pods)
        evidence = {"pods": {service: [target.pod for target in chosen] for service, chosen in self._targets.items()}}
        rejection = refuse_empty(pods) or self._refuse(pods)
        if rejection:
            return Precheck(rejection=rejection, evidence=evidence)
        self._end = 0
        try:
            await self._create(self._injection.duration_seconds, dry_run=True)
        except Refused as refusal:
            missing = f"the cluster has no {self.kind} ({GROUP})"
            return Precheck(rejection=missing if refusal.status == _GONE else str(refusal), evidence=evidence)
        return Precheck(evidence=evidence)

    def inverse(self) -> tuple[InverseCall, ...]:
        """Delete the object; renewals have other names, and are found by their labels."""
        return (self._call("DELETE", self._name),)

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make the object; if it is there already, the answer to an earlier try was lost."""
        self._end = self._end or now + self._injection.duration_seconds * SECOND
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
        check = check_nobody(chaos) if self._nil else await self._judge(chaos)
        return Check(seen=check.seen, evidence={"object": self._name, **check.evidence})

    async def _judge(self, chaos: Chaos) -> Check:
        affected, without_effect = await self._without_effect(chaos)
        return check_injection(
            chaos,
            record_ids=self._record_ids(),
            lost=self._lost(await self._all_pods()),
            affected=affected,
            without_effect=without_effect,
        )

    async def standing(self) -> Standing:
        """See which targets still are what they were and have the fault; it needs one of each service."""
        if self._nil or self._renewal is not None:
            return Standing()
        pods = await self._all_pods()
        chaos = await self._present(self._name)
        present = holding(chaos) if chaos is not None else ()
        replaced_now = self._lost(pods)
        left = {
            service: [target.pod for target in targets if target.pod in present and target.pod not in replaced_now]
            for service, targets in self._targets.items()
        }
        places = tuple(name for names in left.values() for name in names)
        taken_out = tuple(name for name in self._held if name not in (*places, *replaced_now))
        lost = (*replaced_now, *taken_out)
        self._held = places
        return Standing(
            left=places if all(left.values()) else (),
            lost=lost,
            moment=newest(self._ended_at(name, pods) for name in lost),
            reason=_why(replaced_now, taken_out, gone=chaos is None, by_container=self.by_container),
        )

    def _ended_at(self, name: str, pods: Mapping[str, Sequence[Pod]]) -> str:
        """Return when the fault of a lost target ended: its container tells it, a pod that is gone doesn't."""
        uids = [target.uid for targets in self._targets.values() for target in targets if target.pod == name]
        same = [pod for members in pods.values() for pod in members if pod.metadata.uid in uids]
        return same[0].ended_at if same and self.by_container else ""

    async def sustain(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make a new object for the pods that are there now, if a target was replaced and all ends are ready again."""
        if self._nil or not self._injection.persistent:
            return ()
        if self._renewal is None:
            pods = await self._all_pods()
            lost = self._lost(pods)
            ready = {service: [pod for pod in members if pod.ready] for service, members in pods.items()}
            if not lost or refuse_empty(ready):
                return ()
            await self._renew(now, ready, lost)
        touched = await self.apply(now)
        self._renewals.append(self._renewal or {})
        self._renewal = None
        return touched

    async def _renew(self, now: int, ready: Mapping[str, Sequence[Pod]], lost: Sequence[str]) -> None:
        """Delete the object, and aim anew under another name."""
        await self._delete(self._name)
        self._aim(ready)
        self._held = ()
        self._name = self._injection.new_name()
        self._renewal = {"time": rfc3339(now), "object": self._name, "replaced": list(lost)}

    async def revert(self) -> tuple[TouchedObject, ...]:
        """Delete every object that this attempt may have made."""
        gone = []
        for name in self._names:
            chaos = await self._delete(name)
            if chaos is not None:
                gone.append(chaos.metadata.touched(self.kind))
        return tuple(gone)

    async def reverted(self, now: int, /) -> Reversal:
        """Every object answers 404, and no pod holds a trace of one; what won't go is forced."""
        self._revert_began = now if self._revert_began is None else self._revert_began
        present = [chaos for name in self._names if (chaos := await self._present(name)) is not None]
        leftovers = await self._leftovers(self._names)
        forced = await self._force(present, leftovers, (now - self._revert_began) // SECOND)
        evidence: dict[str, Any] = {
            "objects_present": [chaos.metadata.name for chaos in present],
            "leftovers": leftovers,
        }
        if self._renewals:
            evidence["renewals"] = self._renewals
        return Reversal(verified=not present and not leftovers, evidence=evidence, forced=forced)

    async def _force(
        self, present: Sequence[Chaos], leftovers: Sequence[str], waited_seconds: int
    ) -> tuple[Forced, ...]:
        """Make objects go that are still there, and take the pods away whose rules are."""
        if waited_seconds >= PODS_SECONDS and (present or leftovers):
            return await self._delete_pods()
        if waited_seconds < FORCE_SECONDS or not present:
            return ()
        if waited_seconds < FINALIZERS_SECONDS:
            return tuple([await self._push(chaos, "annotation", _FORCE) for chaos in present])
        return tuple([await self._push(chaos, "finalizers", _BARE) for chaos in present])

    async def _push(self, chaos: Chaos, step: Literal["annotation", "finalizers"], patch: Mapping[str, Any]) -> Forced:
        path = f"{self._path}/{chaos.metadata.name}"
        call = InverseCall(api="kubernetes", method="PATCH", path=path, content_type=MERGE, body=patch)
        touched = (chaos.metadata.touched(self.kind),)
        try:
            await self._kubernetes.write(call, dict)
        except CallError as error:
            gone = isinstance(error, Refused) and error.status == _GONE
            return Forced(step=step, objects=touched, error="" if gone else str(error))
        return Forced(step=step, objects=touched)

    async def _delete_pods(self) -> tuple[Forced, ...]:
        """Delete the pods that are still those which were targeted, once; what owns them makes others."""
        pods = await self._all_pods()
        uids = [target.uid for targets in self._targets.values() for target in targets]
        forced = []
        for pod in [item for members in pods.values() for item in members if item.metadata.uid in uids]:
            if pod.metadata.deletion_timestamp is not None:
                continue
            path = f"api/v1/namespaces/{self._namespace}/pods/{pod.metadata.name}"
            body = {"preconditions": {"uid": pod.metadata.uid}}
            error = ""
            try:
                await self._kubernetes.write(InverseCall(api="kubernetes", method="DELETE", path=path, body=body), dict)
            except CallError as refused:
                error = str(refused)
            forced.append(Forced(step="pods", objects=(pod.metadata.touched("Pod"),), error=error))
        return tuple(forced)

    # --- calls and targets -----------------------------------------------------------------------------------------------

    def _call(self, method: str, name: str = "", body: dict[str, Any] | None = None) -> InverseCall:
        return InverseCall(
            api="kubernetes", method=method, path=f"{self._path}/{name}" if name else self._path, body=body
        )

    async def _create(self, duration_seconds: int, *, dry_run: bool) -> Chaos:
        body = {
            "apiVersion": GROUP,
            "kind": self.kind,
            "metadata": {
                "name": self._name,
                "namespace": self._namespace,
                "labels": {"app.kubernetes.io/managed-by": FIELD_MANAGER, **self._injection.labels},
            },
            "spec": {"mode": "all", "duration": f"{duration_seconds + SPARE_SECONDS}s", **self._spec()},
        }
        return await self._kubernetes.write(self._call("POST", body=body), Chaos, dry_run=dry_run)

    async def _read(self, name: str) -> Chaos:
        return await self._kubernetes.call("GET", f"{self._path}/{name}", Chaos)

    async def _present(self, name: str) -> Chaos | None:
        try:
            return await self._read(name)
        except Refused as refusal:
            if refusal.status == _GONE:
                return None
            raise

    async def _delete(self, name: str) -> Chaos | None:
        """Delete an object and return its last state; None if it wasn't there."""
        try:
            chaos = await self._read(name)
            await self._kubernetes.write(self._call("DELETE", name), dict)
        except Refused as refusal:
            if refusal.status == _GONE:
                return None
            raise
        return chaos

    async def _all_pods(self) -> dict[str, list[Pod]]:
        return {service: list(await client.pods()) for service, client in self._clients.items()}

    async def _ready_pods(self) -> dict[str, list[Pod]]:
        return {service: [pod for pod in pods if pod.ready] for service, pods in (await self._all_pods()).items()}

    def _aim(self, pods: Mapping[str, Sequence[Pod]]) -> None:
        self._targets = {
            service: tuple(
                Target(pod.metadata.name, pod.metadata.uid, pod.restarts) for pod in self._selected(service, members)
            )
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
        names = [] if self._nil else [target.pod for target in self._targets[service]]
        return {"pods": {self._namespace: names}}


def _why(replaced_now: Sequence[str], taken_out: Sequence[str], *, gone: bool, by_container: bool) -> str:
    """Return why targets were lost, or an empty text if none was."""
    reasons = []
    if replaced_now:
        reasons.append("container restarted or pod replaced" if by_container else "pod replaced")
    if taken_out:
        reasons.append("the chaos object is gone" if gone else "the chaos object says that it is taken out")
    return "; ".join(reasons)
