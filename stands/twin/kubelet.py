"""The kubelet: starts a bound pod's containers, has them probed, and stops them when the pod is deleted or a container has to start anew.

In: pods with a node, pods with a deletionTimestamp, images that changed. Out: the pod's status and events, and the calls of the
`PodRuntime` that make the container exist in the simulated machine.

A pod's life, each step one write: accepted (conditions, ContainerCreating or PodInitializing) ➜ init containers, one after the other ➜
started after `container_seconds` (IP, running), if its image is found (`images`) and its environment can be put together
(`environment`) ➜ ready at the first probe after the process serves (`probe_workers`) ➜ ... ➜ told to stop (Killing, SIGTERM) ➜ exited
(terminal phase) ➜ gone. A process that drains exits `termination_seconds` after SIGTERM or when its last request is answered, whichever is
later; one that doesn't handle SIGTERM goes on until the grace period is over and is killed. A container that dies by itself is noticed at
the kubelet's next look at the container runtime (once a second) and started again (`backoff`), as is one that was stopped because a
probe failed or its image changed. Endpoints and SIGTERM race, as they do on a real node (`endpoints`).
"""

from __future__ import annotations

import msgspec

from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.stands.twin import container_status as shown
from otel_control_gym.stands.twin import environment, images, init_containers
from otel_control_gym.stands.twin import waiting_containers as waiting
from otel_control_gym.stands.twin.backoff import PullBackoff, RestartBackoff, last_state
from otel_control_gym.stands.twin.controller import Context, deployment_of, split_key, workload_of
from otel_control_gym.stands.twin.objects import POD, Object, set_condition
from otel_control_gym.stands.twin.pod_events import tell_of_pod, tell_started
from otel_control_gym.stands.twin.probe_workers import ProbeKind, ProbeWorkers
from otel_control_gym.stands.twin.probes import Asked
from otel_control_gym.stands.twin.quantities import pod_resources
from otel_control_gym.stands.twin.runtime import ContainerExit, PodProcess
from otel_control_gym.stands.twin.watches import Change

__all__ = ("Kubelet",)

_DRAIN_POLL_SECONDS = 0.25  #: how often a process that drains is asked whether it is done
_SYNC_SECONDS = 10.0  #: how often a container that can't be created is tried again
_FAILED_PULL_SECONDS = 1.0  #: asking a registry for what it doesn't have
_CONFIGURATION_SHARE = 0.1  #: of a process's start-up, after which one whose environment is wrong has exited
_KILLED = 137


class _Container(msgspec.Struct):
    """What the kubelet knows of a container more exactly than the pod's status says."""

    key: str  #: of its pod
    started: int | None = None  #: [ns]; None: it doesn't run, as far as the kubelet knows
    runs: int = 0
    idle: bool = False  #: it runs, but another program than the service's: there is no process in the machine
    process: PodProcess = PodProcess()
    environment: environment.Environment = environment.Environment(port=0)
    exit: ContainerExit | None = None  #: that is still to be noticed
    backoff: RestartBackoff = msgspec.field(default_factory=RestartBackoff)
    pulls: PullBackoff = msgspec.field(default_factory=PullBackoff)
    stopping: int | None = None  #: SIGTERM [ns]
    deadline: int = 0  #: SIGKILL [ns]
    restart: bool = False  #: it is stopped to be started again


class Kubelet:
    """Runs the pods of the node."""

    name = "kubelet"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._containers: dict[str, _Container] = {}  # by the pod's UID
        self._addresses = 0
        self._probes = ProbeWorkers(context, ask=self._asked, restart=self._restart_failed)

    def observe(self, change: Change) -> None:
        """Queue pods that were bound, changed, deleted or removed."""
        if change.kind is not POD:
            return
        pod, before = change.object, change.before
        if change.type == "DELETED":
            if pod["metadata"]["uid"] in self._containers:
                self._context.soon(self.name, pod, step=f"removed {pod['metadata']['uid']}", after=0)
            return
        if pod["spec"].get("nodeName") and not (before and before["spec"].get("nodeName")):
            self._context.soon(self.name, pod, step="accept")
        elif before and before["spec"]["containers"] != pod["spec"]["containers"]:
            self._context.soon(self.name, pod, step=f"changed {pod['metadata']['uid']}")
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
            case "initialise":
                self._initialise(pod)
            case "start":
                self._start(pod)
            case "pull":
                if self._containers[uid].started is None:
                    waiting.show_pull_back_off(self._context, pod)
            case "startup" | "readiness" | "liveness":
                self._probes.probe(pod, action)
            case "path":
                self._probes.resume(pod)
            case "changed":
                self._replace(pod)
            case "panic":
                self._let_panic(pod)
            case "exited":
                self._see_exit(pod)
            case "back-off":
                if self._containers[uid].started is None:
                    waiting.show_crash_loop(self._context, pod, self._containers[uid].backoff.wait)
            case "terminate":
                self._terminate(pod)
            case "exit":
                self._exit_when_done(pod)
            case _:
                raise AssertionError(step)

    # --- start ---------------------------------------------------------------------------------------------------------

    def _accept(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        self._containers[uid] = _Container(key=_key(pod))
        draft = self._draft(pod)
        shown.create_statuses(draft, self._context.now)
        self._context.store.update(POD, draft)
        if pod["spec"].get("initContainers"):
            after = self._context.pod_delay(self._context.settings.container_seconds, "init container", pod)
            self._context.soon(self.name, pod, step=f"initialise {uid}", after=after)
        else:
            self._plan_start(pod)

    def _plan_start(self, pod: Object) -> None:
        after = self._context.pod_delay(self._context.settings.container_seconds, "container", pod)
        self._context.soon(self.name, pod, step=f"start {pod['metadata']['uid']}", after=after)

    def _initialise(self, pod: Object) -> None:
        """Run the init containers as far as they get; look again in a moment at one that waits."""
        if "deletionTimestamp" in pod["metadata"]:
            return
        context, now, uid = self._context, self._context.now, pod["metadata"]["uid"]
        draft, begun, waits = self._draft(pod), list[Object](), False
        for index, container in enumerate(pod["spec"]["initContainers"]):
            status = draft["status"]["initContainerStatuses"][index]
            if "terminated" in status["state"]:
                continue
            if "waiting" in status["state"]:
                if "podIP" not in draft["status"]:
                    shown.set_address(draft, self._new_address(), now)
                shown.set_running(status, container["image"], shown.container_id(uid, index), now)
                begun.append(container)
            waits = not init_containers.is_done(context.store, pod["metadata"]["namespace"], container)
            if waits:
                break
            shown.set_terminated(status, 0, "Completed", now)
            status["ready"] = True
        if not waits:
            set_condition(draft, "Initialized", status="True", now=now)
        stored = context.store.update(POD, draft)
        for container in begun:
            tell_started(context, stored, container["image"], path=f"spec.initContainers{{{container['name']}}}")
        if waits:
            context.soon(self.name, pod, step=f"initialise {uid}", after=init_containers.POLL_SECONDS)
        else:
            self._plan_start(stored)

    def _start(self, pod: Object) -> None:
        context, now = self._context, self._context.now
        uid, container, service = pod["metadata"]["uid"], pod["spec"]["containers"][0], workload_of(pod)
        running = self._containers[uid]
        if "deletionTimestamp" in pod["metadata"] or running.started is not None:
            return
        idle = container["image"] == images.PAUSE_IMAGE
        version = "" if idle else images.version_of(context.services, service, container["image"])
        if version is None:
            waiting.show_failed_pull(context, pod)
            context.soon(self.name, pod, step=f"pull {uid}", after=_FAILED_PULL_SECONDS)
            context.soon(self.name, pod, step=f"start {uid}", after=running.pulls.next_wait())
            return
        running.pulls = PullBackoff()
        if not idle:
            found = environment.read(context.store, context.services, service, pod)
            if found.problem:
                waiting.show_lacking_configuration(context, pod, found.problem)
                context.soon(self.name, pod, step=f"start {uid}", after=_SYNC_SECONDS)
                return
            canary = deployment_of(context.store, pod) != service
            running.environment = found
            running.process = PodProcess(version=version, canary=canary, unreachable=found.unreachable)
        running.started, running.runs, running.idle = now, running.runs + 1, idle
        draft = self._draft(pod)
        status = draft["status"]["containerStatuses"][0]
        if "podIP" not in draft["status"]:
            shown.set_address(draft, self._new_address(), now)
        if running.runs > 1:
            status["restartCount"] += 1
            status["lastState"] = last_state(status)
        draft["status"]["phase"] = "Running"
        shown.set_running(status, container["image"], shown.container_id(uid, running.runs), now)
        status["started"] = "startupProbe" not in container
        stored = context.store.update(POD, draft)
        tell_started(context, stored, container["image"])
        if not idle:
            resources = pod_resources(pod["spec"])
            context.runtime.start_container(uid, service, pod["metadata"]["name"], resources, running.process)
            if running.environment.exit_code is not None:
                after = context.runtime.start_seconds(service) * _CONFIGURATION_SHARE
                context.soon(self.name, pod, step=f"panic {uid}", after=after)
        self._probes.begin(stored, now)

    def _let_panic(self, pod: Object) -> None:
        """Let a process exit that found its environment wrong."""
        container = self._containers[pod["metadata"]["uid"]]
        code = container.environment.exit_code
        if container.started is not None and container.exit is None and code is not None:
            self._context.runtime.kill_container(pod["metadata"]["uid"], exit_code=code)

    def _asked(self, pod: Object) -> Asked:
        """Return who answers a pod's probes now."""
        context, uid, service = self._context, pod["metadata"]["uid"], workload_of(pod)
        container, settings = self._containers[uid], self._context.services.services[workload_of(pod)]
        serves = False
        if container.started is not None and not container.idle and container.environment.exit_code is None:
            serves = (context.now - container.started) / SECOND >= context.runtime.start_seconds(
                service, container.process
            )
        return Asked(
            address=pod["status"]["podIP"],
            listens_on=container.environment.port if serves else None,
            protocol=settings.protocol,
            healthy=serves and context.runtime.answers_probe(uid),
        )

    # --- end -----------------------------------------------------------------------------------------------------------

    def _restart_failed(self, pod: Object, kind: ProbeKind) -> None:
        self._stop_to_restart(pod, f"failed {kind} probe, will be restarted")

    def _replace(self, pod: Object) -> None:
        """Restart a container whose spec changed: what runs is stopped, what waits is forgotten."""
        container = self._containers.get(pod["metadata"]["uid"])
        if container is None:
            return
        container.backoff, container.pulls = RestartBackoff(), PullBackoff()
        if waiting.is_tried_again(pod):
            self._plan_start(pod)
        self._stop_to_restart(pod, "definition changed, will be restarted")

    def _stop_to_restart(self, pod: Object, why: str) -> None:
        container = self._containers[pod["metadata"]["uid"]]
        if container.started is None or container.exit is not None or container.stopping is not None:
            return
        container.restart = True
        tell_of_pod(self._context, pod, "Killing", f"Container {pod['spec']['containers'][0]['name']} {why}")
        self._send_sigterm(pod, int(pod["spec"].get("terminationGracePeriodSeconds", 30)))

    def _terminate(self, pod: Object) -> None:
        """Send SIGTERM at the first deletion; a later one only moves the deadline."""
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers.get(uid)
        if container is None or container.started is None:
            context.store.remove(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
            return
        if container.stopping is None or container.restart:
            tell_of_pod(self._context, pod, "Killing", f"Stopping container {pod['spec']['containers'][0]['name']}")
        container.restart = False
        self._send_sigterm(pod, int(pod["metadata"]["deletionGracePeriodSeconds"]))

    def _send_sigterm(self, pod: Object, grace: int) -> None:
        """Tell the process to stop, unless it was told already, and plan when it has."""
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers[uid]
        if container.stopping is None:
            container.stopping = context.now
            self._probes.end(uid)
            if not container.idle:
                context.runtime.begin_termination(uid)
        container.deadline = container.stopping + grace * SECOND
        if container.idle or self._drains(pod):
            after = context.pod_delay(context.settings.termination_seconds, "termination", pod)
            done = min(max(container.stopping + seconds(after), context.now), container.deadline)
            context.at(done, self.name, _key(pod), f"exit {uid}")
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
        self._probes.end(uid)
        reason = ended.reason if ended.exit_code else "Completed"
        if "deletionTimestamp" in pod["metadata"] and container.stopping is not None:
            self._finish(pod, ended.exit_code, reason)
            return
        container.started, container.stopping, container.restart = None, None, False
        draft = self._draft(pod)
        shown.set_terminated(draft["status"]["containerStatuses"][0], ended.exit_code, reason, ended.at)
        shown.set_ready(draft, False, context.now)
        stored = context.store.update(POD, draft)
        wait = container.backoff.next_wait(ended.at)
        if wait == 0:
            self._plan_start(stored)
            return
        context.soon(self.name, stored, step=f"back-off {uid}")
        context.at(max(ended.at + wait * SECOND, context.now), self.name, container.key, f"start {uid}")

    def _exit_when_done(self, pod: Object) -> None:
        context, uid = self._context, pod["metadata"]["uid"]
        container = self._containers[uid]
        if container.exit is not None or container.stopping is None:
            return  # it has died before it was done, and that is about to be seen, or has been
        killed = context.now >= container.deadline
        if not killed and not container.idle and context.runtime.in_flight(uid) > 0:
            again = context.now + seconds(_DRAIN_POLL_SECONDS)
            context.at(min(again, container.deadline), self.name, _key(pod), f"exit {uid}")
            return
        code = _KILLED if killed else 0
        if not container.restart:
            self._finish(pod, code, "Error" if killed else "Completed")
        elif container.idle:
            self.note_exit(ContainerExit(uid=uid, at=context.now, exit_code=0, reason="Completed"))
        else:
            context.runtime.kill_container(uid, exit_code=code)

    def _finish(self, pod: Object, exit_code: int, reason: str) -> None:
        """Let a pod that was told to stop end with its container."""
        context = self._context
        self._forget(pod["metadata"]["uid"])
        draft = self._draft(pod)
        shown.set_terminated(draft["status"]["containerStatuses"][0], exit_code, reason, context.now)
        draft["status"]["phase"] = "Failed" if exit_code else "Succeeded"
        shown.set_ready(draft, False, context.now, reason="PodFailed" if exit_code else "PodCompleted")
        last = context.store.update(POD, draft)
        context.store.remove(POD, last["metadata"]["namespace"], last["metadata"]["name"])

    def _forget(self, uid: str) -> None:
        container = self._containers.pop(uid, None)
        self._probes.end(uid)
        if container is not None and container.runs > 0:
            self._context.runtime.stop_container(uid)

    def _drains(self, pod: Object) -> bool:
        service = self._context.services.services.get(workload_of(pod))
        return service is None or service.drains

    def _new_address(self) -> str:
        self._addresses += 1
        return shown.pod_ip(self._addresses)

    def _draft(self, pod: Object) -> Object:
        return self._context.store.draft(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])


def _key(pod: Object) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
