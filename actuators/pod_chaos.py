"""PodChaos: pods that are killed, containers that are killed again and again, pods that fail for a while.

Kills act once. Repetition is the procedure's: it makes a new object each time, so that a loop ends with the gym that runs it (a Chaos
Mesh Schedule would go on for ever). What counts is that the victims are gone, or their containers restarted, not that a record says so.

A failure lasts: a pause image takes the place of the containers' own. The kubelet restarts them for that, at the beginning and at the end,
so restarts are no sign of a lost target here. A container without a readiness probe stays Ready meanwhile, and refuses connections. Where
the pause image can't be pulled the pod waits for it, which the record doesn't tell.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from otel_control_gym.actuators.chaos import ChaosProcedure, Injection
from otel_control_gym.actuators.chaos_objects import Chaos
from otel_control_gym.actuators.injections import check_injection, not_killed, not_restarted
from otel_control_gym.actuators.intensities import pods_of
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target
from otel_control_gym.actuators.procedure import Check, Standing
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import TouchedObject

__all__ = ("PodFailureProcedure", "PodKillProcedure", "RestartLoopProcedure")

_KEPT_IMAGE = ("-normal-image", "-normal")  #: how the annotations end that hold a container's own image meanwhile


class _KillProcedure(ChaosProcedure):
    """What both have in common: some of a service's pods, and the repetition."""

    kind = "PodChaos"

    def __init__(self, injection: Injection, *, target: str, percent: int) -> None:
        super().__init__(injection, fields=(f"kill:{target}",), services=(target,), nil=percent == 0)
        self._target = target
        self._percent = percent
        self._last = 0  # when the newest object was made

    def _selected(self, _service: str, pods: Sequence[Pod]) -> Sequence[Pod]:
        return pods[: pods_of(self._percent, len(pods))]

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make the object, and remember when."""
        self._last = now
        return await super().apply(now)

    async def _judge(self, chaos: Chaos) -> Check:
        affected, without_effect = await self._without_effect(chaos)
        return check_injection(
            chaos, record_ids=self._record_ids(), lost=(), affected=affected, without_effect=without_effect
        )

    async def standing(self) -> Standing:
        """A kill is over when it is done: there is nothing that could end early."""
        return Standing()

    async def sustain(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Kill again, if it is time to."""
        if self._nil:
            return ()
        if self._renewal is None:
            ready = await self._ready_pods()
            if not ready[self._target] or not await self._again(now, ready):
                return ()
            await self._renew(now, ready, [target.pod for target in self._targets[self._target]])
        touched = await self.apply(now)
        self._renewals.append(self._renewal or {})
        self._renewal = None
        return touched

    @abstractmethod
    async def _again(self, now: int, ready: Mapping[str, Sequence[Pod]], /) -> bool:
        """Return whether it is time for the next kill."""


class PodKillProcedure(_KillProcedure):
    """Kill pods; persistent: those that replace them, too, as soon as all are ready."""

    def __init__(self, injection: Injection, *, target: str, percent: int, grace_seconds: int) -> None:
        super().__init__(injection, target=target, percent=percent)
        self._grace_seconds = grace_seconds

    async def apply(self, now: int, /) -> tuple[TouchedObject, ...]:
        """Make the object; the pods that it deletes are touched by it, too."""
        touched = await super().apply(now)
        victims = () if self._nil else self._targets[self._target]
        return (*touched, *(TouchedObject(kind="Pod", name=target.pod, uid=target.uid) for target in victims))

    def _spec(self) -> dict[str, Any]:
        return {
            "action": "pod-kill",
            "gracePeriod": self._grace_seconds,
            "selector": self._selector(self._target),
        }

    def _record_ids(self) -> list[str]:
        return [f"{self._namespace}/{target.pod}" for target in self._targets[self._target]]

    async def _without_effect(self, _chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        targets = self._targets[self._target]
        return targets, not_killed(targets, await self._clients[self._target].pods())

    async def _again(self, _now: int, ready: Mapping[str, Sequence[Pod]], /) -> bool:
        wanted = (await self._clients[self._target].read()).spec.replicas
        return self._injection.persistent and len(ready[self._target]) >= wanted


class RestartLoopProcedure(_KillProcedure):
    """Kill containers at a fixed pace; one that waits in its back-off is left to it until it is ready again."""

    def __init__(self, injection: Injection, *, target: str, percent: int, every_seconds: int) -> None:
        super().__init__(injection, target=target, percent=percent)
        self._every = every_seconds * SECOND

    def _spec(self) -> dict[str, Any]:
        return {
            "action": "container-kill",
            "containerNames": [self._target],
            "selector": self._selector(self._target),
        }

    def _record_ids(self) -> list[str]:
        return [f"{self._namespace}/{target.pod}/{self._target}" for target in self._targets[self._target]]

    async def _without_effect(self, _chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        targets = self._targets[self._target]
        return targets, not_restarted(targets, await self._clients[self._target].pods())

    async def _again(self, now: int, _ready: Mapping[str, Sequence[Pod]], /) -> bool:
        return now - self._last >= self._every


class PodFailureProcedure(ChaosProcedure):
    """Run nothing but a pause image in the pods of a dependency; what they held is lost, as by a restart."""

    kind = "PodChaos"

    def __init__(self, injection: Injection, *, target: str, stateful: bool) -> None:
        super().__init__(injection, fields=(f"outage:{target}",), services=(target,), nil=False)
        self._target = target
        self._stateful = stateful

    def _spec(self) -> dict[str, Any]:
        return {"action": "pod-failure", "selector": self._selector(self._target)}

    def _record_ids(self) -> list[str]:
        return [f"{self._namespace}/{target.pod}" for target in self._targets[self._target]]

    async def _without_effect(self, _chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        """The containers have ended since, and another image stands where their own is noted."""
        targets = self._targets[self._target]
        pods = {pod.metadata.uid: pod for pod in await self._clients[self._target].pods()}
        failing = [
            target.pod
            for target in targets
            if target.uid in pods and _fails(pods[target.uid]) and pods[target.uid].restarts > target.restarts
        ]
        return targets, tuple(target.pod for target in targets if target.pod not in failing)

    async def _judge(self, chaos: Chaos) -> Check:
        check = await super()._judge(chaos)
        waiting = [reason for pod in await self._clients[self._target].pods() for reason in pod.waits_for]
        evidence = {**check.evidence, "data_lost": self._stateful, "containers_waiting": waiting}
        return Check(seen=check.seen, evidence=evidence, moment=check.moment)

    async def _leftovers(self, _names: Sequence[str], /) -> list[str]:
        """Pods that still have the pause image."""
        uids = [target.uid for target in self._targets[self._target]]
        pods = await self._clients[self._target].pods()
        return [pod.metadata.name for pod in pods if pod.metadata.uid in uids and _fails(pod)]


def _fails(pod: Pod) -> bool:
    """Return whether a pod's own images are noted beside it, because others stand in their place."""
    return any(key.endswith(_KEPT_IMAGE) for key in pod.metadata.annotations or {})
