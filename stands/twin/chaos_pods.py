"""PodChaos: pods and containers that are killed, pods that fail for a while.

In: a record that is to be applied or recovered. Out: its next phase; deleted pods, changed images, killed processes.

- `pod-kill` deletes the pod through the API, with no grace unless the spec gives one; what owns it makes another. Nothing to recover.
- `container-kill` sends SIGKILL to a container's process: exit code 137, reason Error, the same pod; the kubelet starts it again, with its
  back-off. One that doesn't run can't be killed: that fails, and is tried again. Nothing to recover.
- `pod-failure` puts a pause image in place of each container's own, which stays noted in the pod's annotations: the kubelet restarts the
  containers at the beginning and at the end. In between nobody listens, so probes fail and connections are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_control_gym.stands.twin.chaos_effects import FailedEffect, check_daemon, container_identities, is_running
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.deletion import delete
from otel_control_gym.stands.twin.images import PAUSE_IMAGE
from otel_control_gym.stands.twin.objects import POD, Object

__all__ = ("PodEffect", "is_one_shot")

_LONGEST_KEY = 63  #: of an annotation's name


def is_one_shot(chaos: Object) -> bool:
    """Return whether a PodChaos acts once: then neither its duration nor a pause means anything."""
    return chaos["spec"].get("action") in ("pod-kill", "container-kill")


class PodEffect:
    """Kills and failures."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def identities(self, chaos: Object, pod: Object) -> Iterator[str]:
        """Yield `namespace/pod`, or `namespace/pod/container` for the containers to kill."""
        if chaos["spec"]["action"] == "container-kill":
            yield from container_identities(chaos, pod)
        else:
            yield f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"

    def move(self, draft: Object, item: Object, *, apply: bool) -> str:
        """Kill, or let fail; recover a failure."""
        namespace, name, *_ = item["id"].split("/")
        pod, action = self._context.store.get(POD, namespace, name), draft["spec"]["action"]
        if not apply:
            if action == "pod-failure" and pod is not None:
                self._recover(draft, pod)
            return "Not Injected"
        if pod is None:
            raise FailedEffect(f'Pod "{name}" not found')
        match action:
            case "pod-kill":
                delete(self._context, POD, pod, grace=int(draft["spec"]["gracePeriod"]))
            case "pod-failure":
                self._fail(draft, pod)
            case _:
                self._kill(item, pod)
        return "Injected"

    def _kill(self, item: Object, pod: Object) -> None:
        if not is_running(pod):
            raise FailedEffect(f"container of {item['id']} not found or not running")
        check_daemon(self._context, pod, "rpc error: code = Unknown desc = expected docker:// but got contai")
        self._context.runtime.kill_container(pod["metadata"]["uid"])

    def _fail(self, chaos: Object, pod: Object) -> None:
        draft = self._context.store.draft(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
        annotations = draft["metadata"].setdefault("annotations", {})
        for container in _containers(draft):
            key = _annotation(chaos, container["name"])
            annotations[key] = container["image"]
            container["image"] = PAUSE_IMAGE
        self._context.update(POD, draft)

    def _recover(self, chaos: Object, pod: Object) -> None:
        draft = self._context.store.draft(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
        annotations = draft["metadata"].get("annotations", {})
        for container in _containers(draft):
            image = annotations.pop(_annotation(chaos, container["name"]), None)
            if image is not None:
                container["image"] = image
        self._context.update(POD, draft)


def _containers(pod: Object) -> Iterator[Object]:
    yield from pod["spec"].get("initContainers") or ()
    yield from pod["spec"]["containers"]


def _annotation(chaos: Object, container: str) -> str:
    """Return the name under which a container's own image is noted."""
    long = f"chaos-mesh-{chaos['metadata']['name']}-{chaos['spec']['action']}-{container}-normal-image"
    return long if len(long) <= _LONGEST_KEY else f"{container}-normal"
