"""A stand-in for scheduler and kubelet, where a cluster has no nodes: pods are bound, start, become ready, restart and end; nothing runs.

In: the pods of one namespace, as the API server tells them. Out: their bindings and their status, and deletions once the grace is over.

A container whose image was exchanged restarts, as a kubelet restarts it. One with a readiness probe isn't ready while its image is the
pause image: nobody would answer. Everything else is well at once.
"""

from __future__ import annotations

from typing import Any

import anyio

from otel_control_gym.actuators.kubernetes_client import MERGE, KubernetesClient
from otel_control_gym.actuators.transport import CallError
from otel_control_gym.engine.clock import SECOND, rfc3339, wall_now, wall_timer

__all__ = ("NODE", "Kubelet")

NODE = "stand-in"  #: exists in name only
LOOK_SECONDS = 0.3
START_SECONDS = 1.0
LONGEST_GRACE_SECONDS = 2.0  #: a program that ends when it is told to
_KILLED = {"exitCode": 137, "reason": "Error"}


class Kubelet:
    """Keeps the pods of a namespace."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str) -> None:
        self._kubernetes = kubernetes
        self._pods = f"api/v1/namespaces/{namespace}/pods"
        self._since: dict[tuple[str, str], float] = {}  # (UID, what) -> when it was first seen so
        self._kills: set[tuple[str, str]] = set()  # (UID, container)
        self._addresses = 0

    def kill(self, uid: str, container: str) -> None:
        """Kill a container's process: it restarts at the next look."""
        self._kills.add((uid, container))

    async def run(self) -> None:
        """Look after the pods until cancelled."""
        while True:
            listing = await self._kubernetes.call("GET", self._pods, dict)
            for pod in listing["items"]:
                try:
                    await self._look_after(pod)
                except CallError:  # somebody has changed or removed it meanwhile: the next look sees how
                    continue
            await anyio.sleep(LOOK_SECONDS)

    async def _look_after(self, pod: dict[str, Any]) -> None:
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
        uid, path = metadata["uid"], f"{self._pods}/{metadata['name']}"
        if "deletionTimestamp" in metadata:
            grace = min(LONGEST_GRACE_SECONDS, metadata.get("deletionGracePeriodSeconds", 0))
            if self._lasts(uid, "ends") >= grace:
                body = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                await self._kubernetes.call("DELETE", path, dict, body=body)
        elif not spec.get("nodeName"):
            body = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": metadata["name"]},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }
            await self._kubernetes.call("POST", f"{path}/binding", dict, body=body)
        elif status.get("phase") == "Pending":
            if self._lasts(uid, "starts") >= START_SECONDS:
                await self._tell(path, self._started(pod))
        elif changed := self._restarted(pod):
            await self._tell(path, changed)

    def _lasts(self, uid: str, what: str) -> float:
        return wall_timer() - self._since.setdefault((uid, what), wall_timer())

    async def _tell(self, path: str, status: dict[str, Any]) -> None:
        await self._kubernetes.call("PATCH", f"{path}/status", dict, body={"status": status}, content_type=MERGE)

    def _started(self, pod: dict[str, Any]) -> dict[str, Any]:
        self._addresses += 1
        address = f"10.244.{self._addresses // 250}.{self._addresses % 250 + 1}"
        now = _now()
        containers = [self._container(each, 0) for each in pod["spec"]["containers"]]
        done = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}}
        return {
            "phase": "Running",
            "startTime": now,
            "podIP": address,
            "podIPs": [{"ip": address}],
            "hostIP": "127.0.0.1",
            "initContainerStatuses": [
                self._container(each, 0) | {"state": done, "ready": True}
                for each in pod["spec"].get("initContainers", ())
            ],
            "containerStatuses": containers,
            "conditions": _conditions(all(each["ready"] for each in containers)),
        }

    def _restarted(self, pod: dict[str, Any]) -> dict[str, Any] | None:
        """Return the status after containers have restarted that were killed or have another image; null: none has."""
        uid = pod["metadata"]["uid"]
        told = {each["name"]: each for each in pod["status"].get("containerStatuses", ())}
        statuses, changed = [], False
        for container in pod["spec"]["containers"]:
            before = told[container["name"]]
            killed = (uid, container["name"]) in self._kills
            if not killed and before["image"] == container["image"]:
                statuses.append(before)
                continue
            self._kills.discard((uid, container["name"]))
            changed = True
            after = self._container(container, before["restartCount"] + 1)
            ended = _KILLED | {"startedAt": before["state"]["running"]["startedAt"], "finishedAt": _now()}
            statuses.append(after | {"lastState": {"terminated": ended}})
        if not changed:
            return None
        ready = all(each["ready"] for each in statuses)
        return {"containerStatuses": statuses, "conditions": _conditions(ready)}

    @staticmethod
    def _container(container: dict[str, Any], restarts: int) -> dict[str, Any]:
        answers = "pause" not in container["image"]
        return {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": answers or "readinessProbe" not in container,
            "started": True,
            "restartCount": restarts,
            "state": {"running": {"startedAt": _now()}},
        }


def _now() -> str:
    now = wall_now()
    return rfc3339(now - now % SECOND).replace(".000000000", "")


def _conditions(ready: bool) -> list[dict[str, Any]]:
    now = _now()
    held = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready}
    return [
        {"type": name, "status": str(value), "lastTransitionTime": now, "lastProbeTime": None}
        for name, value in held.items()
    ]
