"""A pod's memory: what its process holds, what its requests do, what a stressor has touched so far, and the limit.

In: requests that arrive or leave something behind, ramps that grow, limits that change. Out: `world.killed`, the pod that is over its
limit. The kernel stops there: Linux has killed the container, and what comes next is the kubelet's business (`kubelet`).

Memory is a base, a share per request in flight (queued ones too), what requests have leaked, and the ramps. A ramp grows linearly in
steps of 10 ms, as Chaos Mesh's memStress does; a process that doesn't fit into its limit is a ramp as well, from nothing to its base
while it starts, so that it dies before it serves. With cgroup v2 the kubelet asks for the whole container to die (memory.oom.group),
whoever asked for the last page.
"""

from __future__ import annotations

from typing import Final

from otel_control_gym.stands.twin.compilation import compiled, inlined
from otel_control_gym.stands.twin.event_heap import MEMORY, push
from otel_control_gym.stands.twin.state import NEVER, STOPPED, State
from otel_control_gym.stands.twin.topology import Topology

__all__ = ("check_memory", "grow_memory")

STEP: Final = 10_000_000  #: nanoseconds between two looks at a ramp


@inlined
def check_memory(topology: Topology, state: State, slot: int) -> None:
    """Name the pod as killed if it is over its limit."""
    pod = state.pods[slot]
    if pod.memory_limit == 0 or pod.life == STOPPED:
        return
    held = (
        pod.memory_base + pod.memory_ramped + pod.leaked + topology.services[pod.service].memory_request * pod.in_flight
    )
    if held > pod.memory_limit:
        state.world[0].killed = slot


@compiled
def grow_memory(topology: Topology, state: State, slot: int) -> None:
    """Bring a pod's ramps up to date, look at the limit, and come back while something grows."""
    pod, world = state.pods[slot], state.world[0]
    ramped, growing = 0, False
    for index in range(world.ramps):
        ramp = state.ramps[index]
        if ramp.pod == slot:
            age = world.now - ramp.start
            if age < ramp.duration:
                ramped += int(ramp.bytes * (age / ramp.duration))
                growing = True
            else:
                ramped += ramp.bytes
    pod.memory_ramped = ramped
    check_memory(topology, state, slot)
    pod.memory_due = NEVER
    if growing:
        pod.memory_due = world.now + STEP
        push(state, pod.memory_due, MEMORY, slot)
