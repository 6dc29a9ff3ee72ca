"""A pod's CPU: processor sharing under a CFS quota, settled only when something happens.

In: work that starts, limits and stress that change, the processor event. Out: hops whose work is done, on the list `todo`; CPU time
and throttling in the pod's counters.

Running requests get equal shares. With n of them, `threads` of the runtime and busy threads (stress, a flag's) beside them, they use min(n,
threads) cores between them, scaled down together with the stress where the node has too few. Each advances a *virtual time* at the
same rate, so a request is done when virtual time reaches a mark that was known when it came: nothing has to be touched in between.

CFS: a pod with a limit may use limit × 100 ms of CPU time in each period of 100 ms, however many threads do so; what is used up
early stops all of them until the period ends. An idle pod needs no events: crossing a period's edge just renews the budget. A quota that
can't be exhausted makes no events either.
"""

from __future__ import annotations

import math
from typing import Final

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.event_heap import PROCESSOR, push
from otel_control_gym.stands.twin.state import NEVER, Record, State
from otel_control_gym.stands.twin.topology import Table

__all__ = (
    "BATCH",
    "PERIOD",
    "add_work",
    "change_busy_threads",
    "change_limit",
    "change_stress",
    "clear_work",
    "handle_processor",
    "plan",
    "settle",
)

PERIOD: Final = 100_000_000  #: CFS period in nanoseconds, the kernel's and Kubernetes' default
BATCH: Final = 64  #: most hops that one processor event ends, so that what follows is bounded; the rest is due at once


@inlined
def settle(pod: Record, now: int) -> None:
    """Account for the time since the pod was last settled, in which nothing changed."""
    elapsed = now - pod.last
    if elapsed <= 0:
        return
    if pod.throttled:
        pod.throttled_ns += elapsed
    else:
        used = pod.demand * elapsed
        pod.cpu_ns += used
        pod.stress_ns += pod.stress_demand * elapsed
        pod.virtual += pod.rate * elapsed
        if pod.limit > 0.0:
            before, after = (pod.last + pod.phase) // PERIOD, (now + pod.phase) // PERIOD
            if after > before:
                pod.budget = pod.limit * PERIOD - pod.demand * (now + pod.phase - after * PERIOD)
            else:
                pod.budget -= used
            if pod.demand > 0.0:
                final = (now + pod.phase - 1) // PERIOD
                pod.periods += final - max(before - 1, pod.last_period)
                pod.last_period = final
    pod.last = now


@inlined
def plan(state: State, slot: int, threads: int) -> None:
    """Work out rates anew after a change, and see to it that the next processor event isn't late."""
    pod, now = state.pods[slot], state.world[0].now
    wanted = float(pod.running)
    if 0 < threads < pod.running:
        wanted = float(threads)
    total = wanted + pod.stress + pod.busy_threads
    scale = 1.0 if total <= pod.cores else pod.cores / total
    pod.demand = total * scale
    pod.stress_demand = (pod.stress + pod.busy_threads) * scale
    pod.rate = wanted * scale / pod.running if pod.running > 0 else 0.0
    due = NEVER
    if pod.throttled:
        due = pod.throttle_end
    else:
        if pod.running > 0:
            left = state.hops[pod.work_root].finish - pod.virtual
            due = now + max(0, math.ceil(left / pod.rate))
        if pod.limit > 0.0 and pod.demand > 0.0:
            due = min(due, _exhaustion(pod, now))
    # An event that is outstanding and earlier does no harm: it finds nothing to do and plans again.
    if due < pod.due:
        pod.due = due
        push(state, due, PROCESSOR, slot)


@inlined
def _exhaustion(pod: Record, now: int) -> int:
    """Return when the quota will be used up if nothing changes."""
    edge: int = _period_end(pod, now)
    left: int = max(1, math.ceil(pod.budget / pod.demand))
    if left < edge - now:
        return now + left
    if pod.demand > pod.limit:
        edge += math.ceil(pod.limit * PERIOD / pod.demand)
        return edge
    return NEVER


@inlined
def _period_end(pod: Record, now: int) -> int:
    end: int = now + PERIOD - (now + pod.phase) % PERIOD
    return end


@inlined
def handle_processor(state: State, slot: int, threads: int) -> None:
    """Let the processor event take place: hops whose work is done go to `todo`."""
    pod, world, hops = state.pods[slot], state.world[0], state.hops
    now = world.now
    pod.due = NEVER
    settle(pod, now)
    if pod.throttled:
        if now >= pod.throttle_end:
            pod.throttled = 0
            pod.budget = pod.limit * PERIOD
    elif (
        pod.limit > 0.0 and pod.demand > 0.0 and pod.budget <= 0.5
    ):  # less than the nanosecond that times are rounded to
        pod.throttled = 1
        pod.throttle_end = _period_end(pod, now)
        pod.throttled_periods += 1
    batch = BATCH
    while batch > 0 and pod.running > 0 and hops[pod.work_root].finish <= pod.virtual:
        batch -= 1
        done = pod.work_root
        pod.work_root = _meld(hops, hops[done].left, hops[done].right)
        pod.running -= 1
        state.todo[world.todo] = done
        world.todo += 1
    if pod.running == 0:
        pod.virtual = 0.0  # keeps its resolution fine
    plan(state, slot, threads)


@inlined
def add_work(state: State, slot: int, hop: int, work_ns: float, threads: int) -> None:
    """Start CPU work of a hop."""
    pod, record = state.pods[slot], state.hops[hop]
    settle(pod, state.world[0].now)
    record.finish = pod.virtual + work_ns
    record.left = record.right = -1
    pod.work_root = _meld(state.hops, pod.work_root, hop) if pod.running > 0 else hop
    pod.running += 1
    plan(state, slot, threads)


@compiled
def change_limit(state: State, slot: int, limit: float, threads: int) -> None:
    """Change the quota, at once and with a fresh budget, as the kernel does when a cgroup's `cpu.max` is written."""
    pod = state.pods[slot]
    settle(pod, state.world[0].now)
    pod.limit = limit
    pod.budget = limit * PERIOD
    pod.throttled = 0
    plan(state, slot, threads)


@compiled
def change_stress(state: State, slot: int, stress: float, threads: int) -> None:
    """Change how many busy threads compete with the requests."""
    pod = state.pods[slot]
    settle(pod, state.world[0].now)
    pod.stress = stress
    plan(state, slot, threads)


@compiled
def change_busy_threads(state: State, slot: int, threads_busy: float, threads: int) -> None:
    """Change how many threads of the process itself spin beside its requests."""
    pod = state.pods[slot]
    settle(pod, state.world[0].now)
    pod.busy_threads = threads_busy
    plan(state, slot, threads)


@compiled
def clear_work(state: State, slot: int) -> None:
    """Drop all work of a pod that stops; its counters stay."""
    pod = state.pods[slot]
    settle(pod, state.world[0].now)
    pod.running = 0
    pod.work_root = -1
    pod.virtual = pod.stress = pod.busy_threads = pod.demand = pod.stress_demand = pod.rate = 0.0
    pod.throttled = 0
    pod.due = NEVER


@inlined
def _meld(hops: Table, first: int, second: int) -> int:
    """Return the root of two skew heaps put together, by `finish` (Sleator and Tarjan, 1986, top down)."""
    if first < 0:
        return second
    if second < 0:
        return first
    if hops[second].finish < hops[first].finish:
        first, second = second, first
    root = at = first
    while True:
        right = hops[at].right
        hops[at].right = hops[at].left
        if right < 0:
            hops[at].left = second
            return root
        if hops[second].finish < hops[right].finish:
            right, second = second, right
        hops[at].left = right
        at = right
