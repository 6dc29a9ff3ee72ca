"""The arithmetic of one metric of a HorizontalPodAutoscaler: what pods use ➜ how many there should be.

In: what pods use and request, the target, the present size. Out: a proposal. Pure.

The ratio of use to target, times the pods that were measured, rounded up. Pods without a measurement and pods that aren't ready dampen it:
they are taken for idle when the size would grow, and for fully used when it would shrink; that never turns the direction round. Within the
tolerance nothing changes. What becomes of the largest proposal is in `autoscaler_limits`.

Source: reference of kubernetes/pkg/controller/podautoscaler (replica_calculator.go, 1.36), in our own words. Utilisation is whole per cent,
rounded down, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

__all__ = ("Pods", "Proposal", "Tolerance", "propose_average", "propose_utilization")


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """How far the ratio may be from 1 without anything being done."""

    up: float = 0.1
    down: float = 0.1

    def holds(self, ratio: float) -> bool:
        """Return whether a ratio is near enough to 1."""
        return 1 - self.down <= ratio <= 1 + self.up


class Pods(msgspec.Struct, frozen=True, kw_only=True):
    """The target's pods, sorted by what is known of them; terminating and failed ones are in none of these."""

    usage: Mapping[str, int]  #: of the measured and ready, by name, in milli-units
    unready: Sequence[str] = ()  #: pending, or measured before they were ready
    missing: Sequence[str] = ()  #: not measured


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What one metric asks for, and what it is."""

    replicas: int
    average: int  #: use per measured pod, in milli-units
    utilization: int = 0  #: in per cent of the requests


def propose_utilization(
    pods: Pods, requests: Mapping[str, int], *, target: int, current: int, tolerance: Tolerance
) -> Proposal:
    """Return the proposal of a target in per cent of the requests.

    Args:
        pods: the target's pods; at least one is measured and ready.
        requests: of every pod, by name, in milli-units.
        target: in per cent.
        current: the present size.
        tolerance: of the ratio.
    """

    def ratio(usage: Mapping[str, int]) -> float:
        return _utilization(usage, requests) / target

    replicas = _replicas(
        pods, ratio, full=lambda name: requests[name] * max(100, target) // 100, current=current, tolerance=tolerance
    )
    return Proposal(
        replicas=replicas,
        average=sum(pods.usage.values()) // len(pods.usage),
        utilization=_utilization(pods.usage, requests),
    )


def propose_average(pods: Pods, *, target: int, current: int, tolerance: Tolerance) -> Proposal:
    """Return the proposal of a target per pod, in milli-units; arguments as those of `propose_utilization`."""

    def ratio(usage: Mapping[str, int]) -> float:
        return sum(usage.values()) // len(usage) / target

    replicas = _replicas(pods, ratio, full=lambda _: target, current=current, tolerance=tolerance)
    return Proposal(replicas=replicas, average=sum(pods.usage.values()) // len(pods.usage))


def _utilization(usage: Mapping[str, int], requests: Mapping[str, int]) -> int:
    return sum(usage.values()) * 100 // sum(requests[name] for name in usage)


def _replicas(
    pods: Pods,
    ratio: Callable[[Mapping[str, int]], float],
    *,
    full: Callable[[str], int],
    current: int,
    tolerance: Tolerance,
) -> int:
    """Return the number of pods that brings the ratio to 1; `full` is what a pod counts that isn't measured, on the way down."""
    measured = ratio(pods.usage)
    damped_by_unready = bool(pods.unready) and measured > 1
    if not damped_by_unready and not pods.missing:
        return current if tolerance.holds(measured) else math.ceil(measured * len(pods.usage))
    usage = dict(pods.usage)
    if measured != 1:
        usage |= {name: full(name) if measured < 1 else 0 for name in pods.missing}
    if damped_by_unready:
        usage |= dict.fromkeys(pods.unready, 0)
    damped = ratio(usage)
    if tolerance.holds(damped) or (measured < 1 < damped) or (damped < 1 < measured):
        return current
    replicas = math.ceil(damped * len(usage))
    against = replicas > current if damped < 1 else replicas < current
    return current if against else replicas
