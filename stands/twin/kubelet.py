"""The kubelet: starts a bound pod's container, probes it, and stops it when the pod is deleted.

In: pods with a node, pods with a deletionTimestamp. Out: the pod's status and events, and the calls of the `PodRuntime` that make the
container exist in the simulated machine.

A pod's life, each step one write: accepted (conditions, ContainerCreating) ➜ started after `container_seconds` (IP, running) ➜ ready at
the first probe after the process serves ➜ ... ➜ told to stop (Killing, SIGTERM) ➜ exited (terminal phase) ➜ gone. A process that drains
exits `termination_seconds` after SIGTERM or when its last request is answered, whichever is later; one that doesn't handle SIGTERM goes
on until the grace period is over and is killed. A container that dies by itself is noticed at the kubelet's next look at the container
runtime (once a second) and started again (`backoff`). Endpoints and SIGTERM race, as they do on a real node (`endpoints`).
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.stands.twin.backoff import RestartBackoff, go_seconds, last_state
from otel_control_gym.stands.twin.controller import Context, split_key, workload_of
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import POD, Object, set_condition, timestamp
from otel_control_gym.stands.twin.quantities import pod_resources
from otel_control_gym.stands.twin.runtime import ContainerExit
from otel_control_gym.stands.twin.watches import Change

__all__ = ("Kubelet", "pod_ip")

_DRAIN_POLL_SECONDS = 0.25  #: how often a process that drains is asked whether it is done
_KILLED = 137


class _Container(msgspec.Struct):
    """What the kubelet knows of a container more exactly than the pod's status says."""

    key: str  #: of its pod
    started: int | None = None  #: [ns]; None: it doesn't run, as far as the kubelet knows
    runs: int = 0
    exit: ContainerExit | None = None  #: that is still to be noticed
    backoff: RestartBackoff = msgspec.field(default_factory=RestartBackoff)
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
            case "exited":
                self._see_exit(pod)
            case "back-off":
                self._back_off(pod)
            case "terminate":
                self._terminate(pod)
            case "exit":
                self._exit_when_done(pod)
            case _:
                raise AssertionError(step)

    def _accept(self, pod: Object) -> None:
        now = self._context.now
        self._containers[pod["metadata"]["uid"]] = _Container(key=_key(pod))
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
        running = self._containers[uid]
        if running.started is not None:
            return
        running.started, running.runs = now, running.runs + 1
        draft = self._draft(pod)
        address, status = draft["status"].get("podIP"), draft["status"]["containerStatuses"][0]
        if address is None:
            self._addresses += 1
            address = pod_ip(self._addresses)
        else:
            status["restartCount"] += 1
            status["lastState"] = last_state(status)
        set_condition(draft, "PodReadyToStartContainers", status="True", now=now)
        draft["status"] |= {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        status |= {
            "state": {"running": {"startedAt": timestamp(now)}},
            "imageID": container["image"],
            "containerID": f"containerd://{uid.replace('-', '')}{running.runs:032x}",
            "started": True,
        }
        stored = context.store.update(POD, draft)
        for reason, message in (
            ("Pulled", f'Container image "{container["image"]}" already present on machine'),
            ("Created", "Container created"),
            ("Started", "Container started"),
        ):
            self._record(stored, reason, message)
        context.runtime.start_container(uid, workload_of(pod), pod["metadata"]["name"], pod_resources(pod["spec"]))
        self._probe(stored)

    def _probe(self, pod: Object) -> None:
        """Make the pod ready if its process serves; else say so and come back in a period."""
        container = self._containers[pod["metadata"]["uid"]]
        if container.started is None or container.stopping is not None or container.exit is not None:
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

    def note_exit(self, ended: ContainerExit) -> None:
        """Take a container's end in at the next look at the container runtime."""
        container = self._containers.get(ended.uid)
        if container is not None:
            container.exit = ended
            look = ended.at + SECOND - ended.at % SECOND
            self._context.at(max(look, self._context.now), self.name, container.key, f"exited {ended.uid}")

    def _see_exit(self, pod: Object) -> None:
        """Show how the container ended, and start it again: at once, or after the back-off."""
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers[uid]
        ended, container.exit = container.exit, None
        assert ended is not None, "each end is noticed once"
        if container.stopping is not None:
            self._finish(pod, ended.exit_code, ended.reason)
            return
        container.started = None
        draft = self._draft(pod)
        _set_terminated(draft, ended.exit_code, ended.reason, ended.at)
        _set_ready(draft, False, context.now)
        stored = context.store.update(POD, draft)
        wait = container.backoff.next_wait(ended.at)
        if wait == 0:
            after = context.pod_delay(context.settings.container_seconds, "container", pod)
            context.soon(self.name, stored, step=f"start {uid}", after=after)
            return
        context.soon(self.name, stored, step=f"back-off {uid}")
        context.at(max(ended.at + wait * SECOND, context.now), self.name, container.key, f"start {uid}")

    def _back_off(self, pod: Object) -> None:
        """Say that the container waits to be started again."""
        metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
        if self._containers[metadata["uid"]].started is not None:
            return
        where = f"pod={metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        wait = self._containers[metadata["uid"]].backoff.wait
        draft = self._draft(pod)
        status = draft["status"]["containerStatuses"][0]
        status["lastState"] = last_state(status)
        message = f"back-off {go_seconds(wait)} restarting failed container={container} {where}"
        status["state"] = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
        stored = self._context.store.update(POD, draft)
        where = f"pod {metadata['name']}_{metadata['namespace']}({metadata['uid']})"
        self._record(stored, "BackOff", f"Back-off restarting failed container {container} in {where}", warning=True)

    def _exit_when_done(self, pod: Object) -> None:
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers[uid]
        if container.exit is not None:
            return  # it has died before it was done, and that is about to be seen
        killed = context.now >= container.deadline
        if not killed and context.runtime.in_flight(uid) > 0:
            again = context.now + seconds(_DRAIN_POLL_SECONDS)
            context.at(min(again, container.deadline), self.name, _key(pod), f"exit {uid}")
            return
        self._finish(pod, _KILLED if killed else 0, "Error" if killed else "Completed")

    def _finish(self, pod: Object, exit_code: int, reason: str) -> None:
        """Let a pod that was told to stop end with its container."""
        context = self._context
        self._forget(pod["metadata"]["uid"])
        draft = self._draft(pod)
        _set_terminated(draft, exit_code, reason, context.now)
        draft["status"]["phase"] = "Failed" if exit_code else "Succeeded"
        _set_ready(draft, False, context.now, reason="PodFailed" if exit_code else "PodCompleted")
        last = context.store.update(POD, draft)
        context.store.remove(POD, last["metadata"]["namespace"], last["metadata"]["name"])

    def _forget(self, uid: str) -> None:
        container = self._containers.pop(uid, None)
        if container is not None and container.runs > 0:
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


def _set_terminated(draft: Object, exit_code: int, reason: str, finished: int) -> None:
    status = draft["status"]["containerStatuses"][0]
    status["state"] = {
        "terminated": {
            "exitCode": exit_code,
            "reason": reason,
            "startedAt": status["state"]["running"]["startedAt"],
            "finishedAt": timestamp(finished),
            "containerID": status["containerID"],
        }
    }
    status |= {"ready": False, "started": False}


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
