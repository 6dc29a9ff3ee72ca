"""The kubelet: starts a bound pod's container, probes it, and stops it when the pod is deleted.

In: pods with a node, pods with a deletionTimestamp. Out: the pod's status and events, and the calls of the `PodRuntime` that make the
container exist in the simulated machine.

A pod's life, each step one write: accepted (conditions, ContainerCreating) ➜ started after `container_seconds` (IP, running) ➜ ready at
the first probe after the process serves ➜ ... ➜ told to stop (Killing, SIGTERM) ➜ exited (terminal phase) ➜ gone. A process that drains
exits `termination_seconds` after SIGTERM or when its last request is answered, whichever is later; one that doesn't handle SIGTERM goes
on until the grace period is over and is killed. Endpoints and SIGTERM race, as they do on a real node (`endpoints`).
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.stands.twin.controller import Context, split_key, workload_of
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import POD, Object, set_condition, timestamp
from otel_control_gym.stands.twin.quantities import pod_resources
from otel_control_gym.stands.twin.watches import Change

__all__ = ("Kubelet", "pod_ip")

_DRAIN_POLL_SECONDS = 0.25  #: how often a process that drains is asked whether it is done
_KILLED = 137


class _Container(msgspec.Struct):
    """What the kubelet knows of a container more exactly than the pod's status says."""

    started: int | None = None  #: [ns]
    stopping: int | None = None  #: SIGTERM [ns]
    deadline: int = 0  #: SIGKILL [ns]


class Kubelet:
    """Runs the pods of the node."""

    name = "kubelet"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._containers: dict[str, _Container] = {}  # by the pod's UID
        self._addresses = 0

    def observe(self, change: Change) -> None:
        """Queue pods that were bound, deleted or removed."""
        if change.kind is not POD:
            return
        pod, before = change.object, change.before
        if change.type == "DELETED":
            if pod["metadata"]["uid"] in self._containers:
                self._context.soon(self.name, pod, step=f"removed {pod['metadata']['uid']}", after=0)
            return
        if pod["spec"].get("nodeName") and not (before and before["spec"].get("nodeName")):
            self._context.soon(self.name, pod, step="accept")
        marked = pod["metadata"].get("deletionTimestamp")
        if marked is not None and marked != (before or pod)["metadata"].get("deletionTimestamp"):
            self._context.soon(self.name, pod, step="terminate")

    def reconcile(self, step: str, key: str) -> None:
        """Take a pod's next step."""
        action, _, uid = step.partition(" ")
        if action == "removed":
            self._forget(uid)
            return
        pod = self._context.store.get(POD, *split_key(key))
        if pod is None or (uid and pod["metadata"]["uid"] != uid):
            return
        match action:
            case "accept":
                self._accept(pod)
            case "start":
                self._start(pod)
            case "probe":
                self._probe(pod)
            case "terminate":
                self._terminate(pod)
            case "exit":
                self._exit_when_done(pod)
            case _:
                raise AssertionError(step)

    def _accept(self, pod: Object) -> None:
        now = self._context.now
        self._containers[pod["metadata"]["uid"]] = _Container()
        container = pod["spec"]["containers"][0]
        draft = self._draft(pod)
        draft["status"]["startTime"] = timestamp(now)
        set_condition(draft, "PodReadyToStartContainers", status="False", now=now)
        set_condition(draft, "Initialized", status="True", now=now)
        _set_ready(draft, False, now)
        draft["status"]["containerStatuses"] = [
            {
                "name": container["name"],
                "state": {"waiting": {"reason": "ContainerCreating"}},
                "lastState": {},
                "ready": False,
                "restartCount": 0,
                "image": container["image"],
                "imageID": "",
                "started": False,
            }
        ]
        self._context.store.update(POD, draft)
        after = self._context.pod_delay(self._context.settings.container_seconds, "container", pod)
        self._context.soon(self.name, pod, step=f"start {pod['metadata']['uid']}", after=after)

    def _start(self, pod: Object) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            return
        context, now = self._context, self._context.now
        uid, container = pod["metadata"]["uid"], pod["spec"]["containers"][0]
        self._containers[uid].started = now
        self._addresses += 1
        address = pod_ip(self._addresses)
        draft = self._draft(pod)
        set_condition(draft, "PodReadyToStartContainers", status="True", now=now)
        draft["status"] |= {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        draft["status"]["containerStatuses"][0] |= {
            "state": {"running": {"startedAt": timestamp(now)}},
            "imageID": container["image"],
            "containerID": f"containerd://{uid.replace('-', '') * 2}",
            "started": True,
        }
        running = context.store.update(POD, draft)
        for reason, message in (
            ("Pulled", f'Container image "{container["image"]}" already present on machine'),
            ("Created", "Container created"),
            ("Started", "Container started"),
        ):
            self._record(running, reason, message)
        context.runtime.start_container(uid, workload_of(pod), pod["metadata"]["name"], pod_resources(pod["spec"]))
        self._probe(running)

    def _probe(self, pod: Object) -> None:
        """Make the pod ready if its process serves; else say so and come back in a period."""
        container = self._containers[pod["metadata"]["uid"]]
        if container.started is None or container.stopping is not None:
            return
        probe = pod["spec"]["containers"][0].get("readinessProbe")
        serves = container.started + seconds(self._context.runtime.start_seconds(workload_of(pod)))
        if probe is not None and self._context.now < serves:
            port = probe.get("grpc", probe.get("tcpSocket", {})).get("port")
            self._record(
                pod,
                "Unhealthy",
                f"Readiness probe failed: dial tcp {pod['status']['podIP']}:{port}: connect: connection refused",
                warning=True,
            )
            period = float(probe.get("periodSeconds", 10))
            self._context.soon(self.name, pod, step=f"probe {pod['metadata']['uid']}", after=period)
            return
        draft = self._draft(pod)
        draft["status"]["containerStatuses"][0]["ready"] = True
        _set_ready(draft, True, self._context.now)
        self._context.store.update(POD, draft)

    def _terminate(self, pod: Object) -> None:
        """Send SIGTERM at the first deletion; a later one only moves the deadline."""
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers.get(uid)
        if container is None or container.started is None:
            context.store.remove(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
            return
        grace = int(pod["metadata"]["deletionGracePeriodSeconds"]) * SECOND
        if container.stopping is None:
            container.stopping = context.now
            self._record(pod, "Killing", f"Stopping container {pod['spec']['containers'][0]['name']}")
            context.runtime.begin_termination(uid)
        container.deadline = container.stopping + grace
        if self._drains(pod):
            after = context.pod_delay(context.settings.termination_seconds, "termination", pod)
            context.at(
                min(max(container.stopping + seconds(after), context.now), container.deadline),
                self.name,
                _key(pod),
                f"exit {uid}",
            )
        context.at(max(container.deadline, context.now), self.name, _key(pod), f"exit {uid}")

    def _exit_when_done(self, pod: Object) -> None:
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers[uid]
        killed = context.now >= container.deadline
        if not killed and context.runtime.in_flight(uid) > 0:
            again = context.now + seconds(_DRAIN_POLL_SECONDS)
            context.at(min(again, container.deadline), self.name, _key(pod), f"exit {uid}")
            return
        self._forget(uid)
        exit_code = _KILLED if killed else 0
        reason = "Error" if killed else "Completed"
        draft = self._draft(pod)
        status = draft["status"]["containerStatuses"][0]
        status["state"] = {
            "terminated": {
                "exitCode": exit_code,
                "reason": reason,
                "startedAt": status["state"]["running"]["startedAt"],
                "finishedAt": timestamp(context.now),
                "containerID": status["containerID"],
            }
        }
        status |= {"ready": False, "started": False}
        draft["status"]["phase"] = "Failed" if killed else "Succeeded"
        _set_ready(draft, False, context.now, reason="PodFailed" if killed else "PodCompleted")
        last = context.store.update(POD, draft)
        context.store.remove(POD, last["metadata"]["namespace"], last["metadata"]["name"])

    def _forget(self, uid: str) -> None:
        container = self._containers.pop(uid, None)
        if container is not None and container.started is not None:
            self._context.runtime.stop_container(uid)

    def _drains(self, pod: Object) -> bool:
        service = self._context.services.services.get(workload_of(pod))
        return service is None or service.drains

    def _draft(self, pod: Object) -> Object:
        return self._context.store.draft(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _record(self, pod: Object, reason: str, message: str, *, warning: bool = False) -> None:
        record(
            self._context,
            POD,
            pod,
            reason,
            message,
            component=self.name,
            type="Warning" if warning else "Normal",
            host=pod["spec"]["nodeName"],
            field_path=f"spec.containers{{{pod['spec']['containers'][0]['name']}}}",
        )


def pod_ip(number: int) -> str:
    """Return the n-th address of the pods' network 10.244.0.0/16 (n from 1; wraps after 65,000, when the first are long free)."""
    number = (number - 1) % 65_000 + 1
    return f"10.244.{number // 250}.{number % 250 + 2}"


def _key(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _set_ready(draft: Object, ready: bool, now: int, reason: str = "ContainersNotReady") -> None:
    if ready:
        set_condition(draft, "Ready", status="True", now=now)
        set_condition(draft, "ContainersReady", status="True", now=now)
        return
    names = " ".join(container["name"] for container in draft["spec"]["containers"])
    message = f"containers with unready status: [{names}]"
    for name in ("Ready", "ContainersReady"):
        set_condition(draft, name, status="False", now=now, reason=reason, message=message)
