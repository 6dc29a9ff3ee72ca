"""What a process that has served little can't do yet: its code isn't compiled, its caches are empty.

In: a pod, what it has served. Out: how much longer its work takes, whether it knows an answer already. Both approach what they are in a
warm process with the same constant, `cold_requests`.
"""

from __future__ import annotations

import math

import numpy as np

from otel_control_gym.stands.twin.compilation import inlined
from otel_control_gym.stands.twin.draws import CACHE, uniform
from otel_control_gym.stands.twin.state import Record
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("is_cached", "slowness")


@inlined
def slowness(service: Record, pod: Record) -> float:
    """Return how much longer work takes at a pod of this version, and at one that has served little."""
    factor: float = pod.work_factor
    if service.cold_work == 0.0 or pod.warm:
        return factor
    factor *= 1.0 + service.cold_work * math.exp(-pod.served / service.cold_requests)
    return factor


@inlined
def is_cached(topology: Topology, pod: Record, call: Record, key: np.uint64) -> bool:
    """Return whether a pod needs no call for an answer; the same calls are spared whenever the pod is warm enough for them."""
    ratio = call.cache_hit_ratio
    if not pod.warm:
        ratio *= 1.0 - math.exp(-pod.served / topology.services[pod.service].cold_requests)
    return bool(uniform(key, CACHE, 0) < ratio)
