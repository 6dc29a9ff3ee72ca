"""How much CPU time a stage of a request takes, before anything that makes a pod slower.

In: an operation, the request's key, the mean. Out: nanoseconds, drawn by (request, stage).
"""

from __future__ import annotations

import math

import numpy as np

from otel_control_gym.stands.twin.compilation import inlined
from otel_control_gym.stands.twin.draws import WORK, exponential, normal
from otel_control_gym.stands.twin.state import Record
from otel_control_gym.stands.twin.topology import EXPONENTIAL, LOGNORMAL

__all__ = ("work_time",)


@inlined
def work_time(operation: Record, key: np.uint64, stage: int, mean: float) -> float:
    """Return the CPU nanoseconds of one stage of one hop."""
    if operation.distribution == EXPONENTIAL:
        return mean * exponential(key, WORK, stage)
    if operation.distribution == LOGNORMAL:
        return mean * math.exp(operation.mu + operation.sigma * normal(key, WORK, stage))
    return mean
