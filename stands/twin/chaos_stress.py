"""StressChaos: busy threads and memory in a container.

In: a record that is to be applied or recovered. Out: its next phase, calls of the `PodRuntime`.

A stressor is a process in the container: it starts at once, shares the container's CPU quota and memory limit, and dies with the
container, after which nobody starts it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_control_gym.stands.twin.chaos_effects import (
    FailedEffect,
    check_daemon,
    container_identities,
    is_running,
    source_of,
)
from otel_control_gym.stands.twin.chaos_quantities import memory_bytes, ramp_seconds
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import POD, Object, timestamp

__all__ = ("StressEffect",)

_TOOL_BYTES = 4 * 2**20  #: what memStress itself holds, beside the memory it was asked to hold


class StressEffect:
    """CPU and memory stress: one stressor of a kind per chosen container. Who dies with the container isn't started again."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def identities(self, chaos: Object, pod: Object) -> Iterator[str]:
        """Yield `namespace/pod/container` for the containers named, or the first one."""
        return container_identities(chaos, pod)

    def move(self, draft: Object, item: Object, *, apply: bool) -> str:
        """Start or stop the stressor of a container; one whose pod is gone is gone, too."""
        namespace, name, container = item["id"].split("/")
        pod = self._context.store.get(POD, namespace, name)
        instances = draft["status"].setdefault("instances", {})
        if not apply:
            if instances.pop(item["id"], None) is not None and pod is not None:
                self._stop(draft, pod["metadata"]["uid"])
            return "Not Injected"
        if pod is None or not is_running(pod):
            raise FailedEffect(f"container of {item['id']} not found or not running")
        check_daemon(
            self._context,
            pod,
            f'rpc error: code = Unknown desc = expected docker:// but got contai (container "{container}")',
        )
        instance = self._start(draft, pod["metadata"]["uid"])
        if instance:
            instances[item["id"]] = instance
        return "Injected"

    def _start(self, chaos: Object, uid: str) -> Object:
        """Start the stressors that have workers in a pod, and return what tells of them."""
        runtime, stressors, now = self._context.runtime, chaos["spec"]["stressors"], timestamp(self._context.now)
        instance: Object = {}
        if "cpu" in stressors and (workers := stressors["cpu"]["workers"]) > 0:
            load = stressors["cpu"].get("load", 100) / 100
            runtime.set_cpu_stress(uid, source_of(chaos), workers=workers, load=load)
            instance |= {"uid": self._context.store.new_uid("Stressor"), "startTime": now}
        if "memory" in stressors and stressors["memory"]["workers"] > 0:
            size, ramp = memory_bytes(stressors["memory"]["size"]), ramp_seconds(stressors["memory"].get("options"))
            assert size is not None, "the webhook has seen to it"
            assert ramp is not None, "and to this"
            runtime.set_memory_stress(uid, source_of(chaos), size_bytes=size + _TOOL_BYTES, ramp_seconds=ramp)
            instance |= {"memoryUid": self._context.store.new_uid("Stressor"), "memoryStartTime": now}
        return instance

    def _stop(self, chaos: Object, uid: str) -> None:
        runtime, stressors = self._context.runtime, chaos["spec"]["stressors"]
        if "cpu" in stressors:
            runtime.set_cpu_stress(uid, source_of(chaos), workers=stressors["cpu"]["workers"], load=0.0)
        if "memory" in stressors:
            runtime.set_memory_stress(uid, source_of(chaos), size_bytes=0, ramp_seconds=0.0)
