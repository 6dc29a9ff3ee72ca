"""StressChaos: busy threads and held memory in the containers of a service.

A container that is killed for its memory takes the stress with it: that is the effect which was asked for, and with persistence `workload`
the pressure follows into the container that comes back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from otel_control_gym.actuators.chaos import ChaosProcedure, Injection
from otel_control_gym.actuators.chaos_objects import Chaos
from otel_control_gym.actuators.injections import check_injection, missing_stressors
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target
from otel_control_gym.actuators.prechecks import refuse_unlimited
from otel_control_gym.actuators.procedure import Check

__all__ = ("CpuPressureProcedure", "MemoryPressureProcedure")

_RAMP_SHARE = 0.75  #: of the duration: the rest of it shows the plateau


class _StressProcedure(ChaosProcedure):
    """Stress in the container that is called like its service."""

    kind = "StressChaos"
    by_container = True
    memory = False

    def __init__(self, injection: Injection, *, field: str, target: str) -> None:
        super().__init__(injection, fields=(f"{field}:{target}",), services=(target,), nil=False)
        self._target = target

    @abstractmethod
    def _stressors(self) -> dict[str, Any]:
        """Return the stressors of the object's spec."""

    def _spec(self) -> dict[str, Any]:
        return {
            "selector": self._selector(self._target),
            "containerNames": [self._target],
            "stressors": self._stressors(),
        }

    def _record_ids(self) -> list[str]:
        return [f"{self._namespace}/{target.pod}/{self._target}" for target in self._targets[self._target]]

    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        targets = self._targets[self._target]
        missing = missing_stressors(
            chaos, namespace=self._namespace, container=self._target, targets=targets, memory=self.memory
        )
        return targets, missing


class CpuPressureProcedure(_StressProcedure):
    """Busy threads in the CPU quota of a service's container."""

    def __init__(self, injection: Injection, *, target: str, workers: int, load_percent: int) -> None:
        super().__init__(injection, field="cpu_pressure", target=target)
        self._workers, self._load_percent = workers, load_percent

    def _stressors(self) -> dict[str, Any]:
        return {"cpu": {"workers": self._workers, "load": self._load_percent}}

    def _refuse(self, pods: Mapping[str, Sequence[Pod]], /) -> str:
        return refuse_unlimited(self._target, pods[self._target], "cpu", "nothing would be throttled")


class MemoryPressureProcedure(_StressProcedure):
    """Held memory in a service's container, at once or growing."""

    memory = True

    def __init__(self, injection: Injection, *, target: str, size_bytes: int, ramp: bool) -> None:
        super().__init__(injection, field="memory_pressure", target=target)
        self._size_bytes, self._ramp = size_bytes, ramp

    def _stressors(self) -> dict[str, Any]:
        """Return one worker that holds the memory; of size 0 none, for the tool itself holds a few MB."""
        growth = round(_RAMP_SHARE * self._injection.duration_seconds)
        stressor: dict[str, Any] = {
            "workers": 1 if self._size_bytes else 0,
            "size": f"{self._size_bytes // 2**20}MiB",
            "oomScoreAdj": 0,
        }
        return {"memory": stressor | ({"options": [f"--time {growth}s"]} if self._ramp else {})}

    def _refuse(self, pods: Mapping[str, Sequence[Pod]], /) -> str:
        return refuse_unlimited(self._target, pods[self._target], "memory", "nothing would be killed for it")

    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        if not self._size_bytes:
            return (), ()
        return await super()._without_effect(chaos)

    async def _judge(self, chaos: Chaos) -> Check:
        """As every injection; but a container that was killed for its memory was reached, not lost."""
        pods = await self._all_pods()
        killed = [
            target.pod
            for target in self._targets[self._target]
            for pod in pods[self._target]
            if pod.metadata.uid == target.uid and pod.restarts > target.restarts and "OOMKilled" in pod.ended_by
        ]
        affected, without_effect = await self._without_effect(chaos)
        check = check_injection(
            chaos,
            record_ids=self._record_ids(),
            lost=[name for name in self._lost(pods) if name not in killed],
            affected=affected,
            without_effect=[name for name in without_effect if name not in killed],
        )
        return Check(
            seen=check.seen, evidence={**check.evidence, "containers_killed": killed} if killed else check.evidence
        )
