"""NetworkChaos: delay, loss and partition on a call edge, or on everything that a dependency sends.

**ClusterIPs** make this hard. A packet from A to a Service carries the ClusterIP when it leaves A's namespace, so a rule in A that matches
B's pod IPs never matches, and Chaos Mesh still says AllInjected. Delay and loss are therefore put at B's end (`direction: from`,
selector A, target B): B's answers to A's pod IPs are late or lost. A partition has rules at both ends, of which the one at B's end
works. The postcheck looks for the rules in the pods, not at the condition.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from otel_control_gym.actuators.chaos import GROUP, ChaosProcedure, Injection
from otel_control_gym.actuators.chaos_objects import Chaos, PodNetworkChaos
from otel_control_gym.actuators.injections import missing_rules
from otel_control_gym.actuators.intensities import pods_of
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.actuators.postchecks import Target
from otel_control_gym.actuators.transport import Refused

__all__ = ("EdgeProcedure", "IsolationProcedure", "delay_block", "loss_block")


def delay_block(latency_ms: int, jitter_ms: int) -> dict[str, Any]:
    """Return the part of a spec that delays packets; whole milliseconds, because Chaos Mesh drops fractions."""
    delay = {"latency": f"{latency_ms}ms", "jitter": f"{jitter_ms}ms", "correlation": "0"}
    return {"action": "delay", "delay": delay}


def loss_block(loss_percent: float) -> dict[str, Any]:
    """Return the part of a spec that loses packets; percentages are texts there."""
    return {"action": "loss", "loss": {"loss": f"{loss_percent:g}", "correlation": "0"}}


class _NetworkProcedure(ChaosProcedure):
    """What rules in pods have in common."""

    kind = "NetworkChaos"

    @abstractmethod
    def _ruled(self) -> tuple[Target, ...]:
        """Return the targets whose pods must hold a rule."""

    def _record_ids(self) -> list[str]:
        return [f"{self._namespace}/{target.pod}" for targets in self._targets.values() for target in targets]

    async def _without_effect(self, chaos: Chaos) -> tuple[Sequence[Target], tuple[str, ...]]:
        targets = self._ruled()
        rules = [rule for target in targets if (rule := await self._rules_of(target.pod)) is not None]
        return targets, missing_rules(rules, source=f"{self._namespace}/{chaos.metadata.name}", targets=targets)

    async def _leftovers(self, names: Sequence[str], /) -> list[str]:
        sources = [f"{self._namespace}/{name}" for name in names]
        rules = [await self._rules_of(target.pod) for target in self._ruled()]
        return [
            item.metadata.name
            for item in rules
            if item is not None and any(source in sources for source in item.spec.sources)
        ]

    async def _rules_of(self, pod: str) -> PodNetworkChaos | None:
        path = f"apis/{GROUP}/namespaces/{self._namespace}/podnetworkchaos/{pod}"
        try:
            return await self._kubernetes.call("GET", path, PodNetworkChaos)
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise


class EdgeProcedure(_NetworkProcedure):
    """A rule between the pods of both ends of a call edge; `block` says which, `percent` of the target's pods take part."""

    def __init__(
        self, injection: Injection, *, source: str, target: str, block: Mapping[str, Any], percent: int = 100
    ) -> None:
        super().__init__(
            injection, fields=(f"network:{source}->{target}",), services=(source, target), nil=percent == 0
        )
        self._source, self._target = source, target
        self._block = dict(block)
        self._percent = percent

    @property
    def _partition(self) -> bool:
        return bool(self._block["action"] == "partition")

    def _selected(self, service: str, pods: Sequence[Pod]) -> Sequence[Pod]:
        return pods if service == self._source else pods[: pods_of(self._percent, len(pods))]

    def _spec(self) -> dict[str, Any]:
        return {
            "direction": "both" if self._partition else "from",
            "selector": self._selector(self._source),
            "target": {"mode": "all", "selector": self._selector(self._target)},
            **self._block,
        }

    def _ruled(self) -> tuple[Target, ...]:
        both = self._targets.get(self._source, ()) if self._partition else ()
        return (*both, *self._targets.get(self._target, ()))


class IsolationProcedure(_NetworkProcedure):
    """A rule without a target in the pods of one service: everybody who speaks to it meets it."""

    def __init__(self, injection: Injection, *, target: str, block: Mapping[str, Any]) -> None:
        super().__init__(injection, fields=(f"outage:{target}",), services=(target,), nil=False)
        self._target = target
        self._block = dict(block)

    def _spec(self) -> dict[str, Any]:
        direction = "both" if self._block["action"] == "partition" else "to"
        return {"direction": direction, "selector": self._selector(self._target), **self._block}

    def _ruled(self) -> tuple[Target, ...]:
        return self._targets.get(self._target, ())
