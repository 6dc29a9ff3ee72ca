"""How a request fails by itself, and what a caller makes of a call that failed.

In: a hop at the end of its work, or a call that is over. Out: whether it failed, and the status to answer with. Next: `calls`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.draws import FAILURE, uniform
from otel_control_gym.stands.twin.state import ERROR, LOST, OK, REFUSED, TIMED_OUT, Record

__all__ = ("DEFAULT", "FINE", "is_answer", "own_failure", "status_of_failed_call")

FINE: Final = -1
DEFAULT: Final = 0  #: status: the protocol's for errors


@inlined
def own_failure(operation: Record, pod: Record, key: np.uint64) -> int:
    """Return the status with which a request fails by itself, or `FINE`.

    One draw decides for the operation and for the pod's version: where a version is worse, the same requests fail, and some more.
    """
    if operation.failure_ratio == 0.0 and pod.failure_ratio == 0.0:
        return FINE
    drawn = uniform(key, FAILURE, 0)
    if drawn < operation.failure_ratio:
        return int(operation.failure_status)
    if drawn < 1.0 - (1.0 - operation.failure_ratio) * (1.0 - pod.failure_ratio):
        return int(pod.failure_status)
    return FINE


@inlined
def is_answer(call: Record, child: Record) -> bool:
    """Return whether a caller takes what came of its call for an answer."""
    if child.outcome == OK:
        return True
    return bool(child.outcome == ERROR and call.tolerates != 0 and child.status == call.tolerates)


@compiled
def status_of_failed_call(call: Record, child: Record) -> int:
    """Return the status with which a caller answers when this call of its failed; 0: its protocol's for errors."""
    if call.error_status >= 0:
        return int(call.error_status)
    if child.status != 0:
        return int(child.status)
    if child.outcome == REFUSED:
        return 503
    if child.outcome == TIMED_OUT:
        return 504
    return 502 if child.outcome == LOST else 0
