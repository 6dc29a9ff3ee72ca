"""The arithmetic of rolling updates and proportional scaling, as the Deployment controller of Kubernetes 1.36 does it.

In: sizes of replica sets. Out: new sizes. Pure.

Source: reference of kubernetes/pkg/controller/deployment (rolling.go, sync.go, util/deployment_util.go), in our own words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

__all__ = ("Size", "bounds", "new_size", "old_sizes", "proportional")


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """A replica set as the arithmetic sees it."""

    wanted: int  #: spec.replicas
    available: int = 0  #: status.availableReplicas
    maximum: int = 0  #: annotation max-replicas of the last sync; 0: none


def bounds(replicas: int, surge: int | str, unavailable: int | str) -> tuple[int, int]:
    """Return (surge, unavailable) in pods: per cent of surge are rounded up, of unavailable down; never both 0."""
    if replicas == 0:
        return _resolve(surge, replicas, up=True), 0
    most, least = _resolve(surge, replicas, up=True), _resolve(unavailable, replicas, up=False)
    if most == 0 and least == 0:
        least = 1
    return most, min(least, replicas)


def new_size(replicas: int, surge: int, new: int, total: int) -> int:
    """Return the new replica set's next size, when all of them together have `total`."""
    if new > replicas:
        return replicas
    room = replicas + surge - total
    return new + min(room, replicas - new) if room > 0 else new


def old_sizes(replicas: int, unavailable: int, new: Size, old: Sequence[Size]) -> list[int]:
    """Return the old replica sets' next sizes (oldest first): unhealthy pods go first, then what availability allows."""
    sizes = [size.wanted for size in old]
    minimum = replicas - unavailable
    budget = sum(sizes) + new.wanted - minimum - (new.wanted - new.available)
    if budget <= 0:
        return sizes
    for index, size in enumerate(old):
        cut = min(budget, sizes[index] - size.available)
        if cut > 0:
            sizes[index] -= cut
            budget -= cut
    spare = sum(size.available for size in old) + new.available - minimum
    for index in range(len(sizes)):
        cut = min(spare, sizes[index])
        if cut > 0:
            sizes[index] -= cut
            spare -= cut
    return sizes


def proportional(replicas: int, surge: int, active: Sequence[Size]) -> list[int]:
    """Return the sizes after a scale in the middle of a rollout; `active` is ordered oldest first.

    Each set keeps its share of the whole; what rounding leaves goes to the largest.
    """
    allowed = replicas + surge if replicas > 0 else 0
    sizes = [size.wanted for size in active]
    to_add = allowed - sum(sizes)
    if to_add == 0:
        return sizes
    newer_first = to_add > 0
    order = sorted(range(len(active)), key=lambda index: (-active[index].wanted, -index if newer_first else index))
    added = 0
    for index in order:
        share = _share(active[index], allowed, to_add, added)
        sizes[index] += share
        added += share
    if order:
        sizes[order[0]] = max(0, sizes[order[0]] + to_add - added)
    return sizes


def _share(size: Size, allowed: int, to_add: int, added: int) -> int:
    maximum = size.maximum or allowed
    share = _round(size.wanted * allowed / maximum) - size.wanted
    left = to_add - added
    return min(max(share, 0), left) if to_add > 0 else max(min(share, 0), left)


def _round(value: float) -> int:
    """Round half up (Go's math.Round, for values from 0)."""
    return math.floor(value + 0.5)


def _resolve(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.rstrip("%")) * replicas
    return -(-share // 100) if up else share // 100
