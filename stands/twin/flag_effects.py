"""What feature flags do to a process besides failing its requests: threads that spin, memory that leaks, a lock that is held.

In: requests that find a flag on, or off again. Out: busy threads and leaked bytes of their pod, the time that a request has to wait. The rest
of a flag's effects lies on the way of a request (`calls`); which flags are in force is decided outside of the kernel (`feature_flags`).

A request finds out in its first step, and the effects come after it: an operation's own call of flagd is made, what follows isn't if
the request fails. Busy threads outlive their request: they begin with one that finds the flag on and end with one that finds it off.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.compilation import compiled
from otel_control_gym.stands.twin.memory import check_memory
from otel_control_gym.stands.twin.processor import change_busy_threads
from otel_control_gym.stands.twin.state import Record, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("lock_delay", "mark_process")


@compiled
def mark_process(topology: Topology, state: State, slot: int, effect: Record) -> None:
    """Leave the marks of one request on its process."""
    pod = state.pods[slot]
    if effect.rules_threads and pod.busy_threads != effect.busy_threads:
        change_busy_threads(state, slot, effect.busy_threads, topology.services[pod.service].threads)
    if effect.leak_bytes > 0.0:
        pod.leaked += effect.leak_bytes
        check_memory(topology, state, slot)


@compiled
def lock_delay(pod: Record, effect: Record, now: int) -> int:
    """Return how long a request waits; behind the process's lock, the waits of its requests come one after the other."""
    delay = int(effect.delay_ns)
    if delay <= 0 or not effect.serial:
        return delay
    pod.lock_free = max(now, pod.lock_free) + delay
    return int(pod.lock_free - now)
