"""What feature flags do to requests and to the process that serves them.

In: a request whose operation has flags on it. Out: whether it sleeps, computes or fails now; busy threads and leaked bytes of its pod.
Copies and failures of single calls lie in `calls`; which flags are in force is decided outside of the kernel (`feature_flags`).

A request finds out in its first step, and the effects come after it: an operation's own call of flagd is made, what follows isn't if
the request fails. Busy threads outlive their request: they begin with one that finds the flag on and end with one that finds it off.
"""

from __future__ import annotations

from typing import Final

from otel_control_gym.stands.twin.compilation import compiled
from otel_control_gym.stands.twin.draws import FLAG, uniform
from otel_control_gym.stands.twin.event_heap import WAKE, push
from otel_control_gym.stands.twin.hops import SLEEPING
from otel_control_gym.stands.twin.memory import check_memory
from otel_control_gym.stands.twin.processor import change_busy_threads
from otel_control_gym.stands.twin.state import Record, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("COMPUTES", "FAILS", "PASSES", "SLEEPS", "act_on")

# What becomes of a request.
PASSES: Final = 0
SLEEPS: Final = 1
COMPUTES: Final = 2  #: `work_ns` more
FAILS: Final = 3

# What a request has behind it (`hop.flagged`).
NOTHING: Final = 0
DELAY: Final = 1
WORK: Final = 2
ALL: Final = 3


@compiled
def act_on(topology: Topology, state: State, index: int, effect: Record) -> int:
    """Let the flags on an operation do the next thing to a request: hold it up, make it compute, let it fail, or no more."""
    hop, now = state.hops[index], state.world[0].now
    if hop.flagged == NOTHING:
        hop.flagged = DELAY
        _mark_process(topology, state, hop.pod, effect)
        delay = _delay(state.pods[hop.pod], effect, now)
        if delay > 0:
            hop.phase, hop.wake = SLEEPING, now + delay
            push(state, hop.wake, WAKE, index)
            return SLEEPS
    if hop.flagged == DELAY:
        hop.flagged = WORK
        if effect.work_ns > 0.0:
            return COMPUTES
    if hop.flagged == WORK:
        hop.flagged = ALL
        if effect.failure_ratio > 0.0 and uniform(hop.key, FLAG, 0) < effect.failure_ratio:
            return FAILS
    return PASSES


@compiled
def _mark_process(topology: Topology, state: State, slot: int, effect: Record) -> None:
    """Leave the marks of one request on its process."""
    pod = state.pods[slot]
    if effect.rules_threads and pod.busy_threads != effect.busy_threads:
        change_busy_threads(state, slot, effect.busy_threads, topology.services[pod.service].threads)
    if effect.leak_bytes > 0.0:
        pod.leaked += effect.leak_bytes
        check_memory(topology, state, slot)


@compiled
def _delay(pod: Record, effect: Record, now: int) -> int:
    """Return how long a request waits; behind the process's lock, the waits of its requests come one after the other."""
    delay = int(effect.delay_ns)
    if delay <= 0 or not effect.serial:
        return delay
    pod.lock_free = max(now, pod.lock_free) + delay
    return int(pod.lock_free - now)
