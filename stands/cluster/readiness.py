"""Objects of a namespace ➜ how much of it is ready, and why the rest isn't, each reason with its remedy.

In: workloads, pods, Events, claims as the API server tells them; the last lines of containers that ended. Out: a `Readiness`. Pure.

Where the truth stands differs by what hangs: a pod that no node takes says so in its condition, one whose image can't be had in its
container's state, one that was refused by the admission isn't there at all (its owner's condition or Events tell), one that isn't ready
although it runs has an Event. What is told several times is a reason once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

__all__ = ("Readiness", "Reason", "Seen", "Workload", "crashed", "readiness")

Object = Mapping[str, Any]

_PULLING = (
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
)
_CRASHING = ("CrashLoopBackOff", "RunContainerError", "StartError")
_STARTING = ("PodInitializing", "ContainerCreating")
_STUCK_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "ProvisioningFailed")
_OPTIONAL = "otel-control-gym/ebpf"  #: label of nodes for what nested ones can't run (deploy/helm/coroot-nested.yaml)
_OWN_IMAGE = "otel-control-gym:"
_NODE_AGENT = "node-agent"
_SHOWN = 300  #: characters of a message


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why something isn't ready."""

    object: str  #: kind in lower case and name, as kubectl takes it
    found: str  #: in the words of the scheduler, the kubelet, the controller
    remedy: str


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a Deployment, StatefulSet or DaemonSet is ready."""

    name: str
    kind: str
    ready: int
    wanted: int
    settled: bool  #: nothing is being rolled out

    @property
    def complete(self) -> bool:
        """Return whether it is as it is wanted."""
        return self.settled and self.ready >= self.wanted


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What the API server has told of a namespace."""

    workloads: Sequence[Object] = ()  #: Deployments, StatefulSets, DaemonSets, each with its `kind`
    pods: Sequence[Object] = ()
    events: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    last_words: Mapping[str, str] = {}  #: `POD/CONTAINER` -> the last line that it wrote before it ended


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """What of a namespace is ready."""

    workloads: tuple[Workload, ...]
    missing: tuple[str, ...]  #: that are expected, and that nobody has made yet
    reasons: tuple[Reason, ...]  #: why not all is ready

    @property
    def complete(self) -> bool:
        """Return whether all is there and ready."""
        return not self.missing and all(workload.complete for workload in self.workloads)

    @property
    def ready(self) -> int:
        """Return how many workloads are as they are wanted."""
        return sum(workload.complete for workload in self.workloads)

    @property
    def wanted(self) -> int:
        """Return how many workloads there are to be."""
        return len(self.workloads) + len(self.missing)


def readiness(seen: Seen, expected: Iterable[str]) -> Readiness:
    """Return how ready a namespace is; `expected`: names of workloads that have to be there."""
    workloads = tuple(_workload(item) for item in seen.workloads)
    there = [workload.name for workload in workloads]
    missing = tuple(name for name in expected if name not in there)
    reasons: list[Reason] = []
    if missing or not all(workload.complete for workload in workloads):
        reasons += [
            reason for item in seen.workloads if not _workload(item).complete for reason in _refused(item, seen)
        ]
        reasons += [reason for claim in seen.claims for reason in _unbound(claim, seen)]
        reasons += [reason for pod in seen.pods if not _is_ready(pod) for reason in _hanging(pod, seen)]
    return Readiness(workloads=workloads, missing=missing, reasons=tuple(dict.fromkeys(reasons)))


def crashed(pods: Iterable[Object]) -> tuple[tuple[str, str], ...]:
    """Return (pod, container) of each container that ended and is started again and again: whose last words are worth reading."""
    return tuple(
        (_name(pod), container["name"])
        for pod in pods
        for container in _containers(pod)
        if container.get("state", {}).get("waiting", {}).get("reason") in _CRASHING
    )


def _workload(item: Object) -> Workload:
    status, spec, kind = item.get("status") or {}, item["spec"], str(item["kind"])
    current = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
    if kind == "DaemonSet":
        scheduled, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
        wanted = scheduled if scheduled or _is_kept_off(item) else 1  # on 0 of 0 nodes it does nothing
        settled = current and status.get("updatedNumberScheduled", 0) >= scheduled
    else:
        wanted = spec.get("replicas", 1)
        ready = status.get("readyReplicas", 0)
        # A StatefulSet counts the pods of its update only while there is one.
        updated = status.get("updatedReplicas", ready if kind == "StatefulSet" else 0)
        settled = current and updated >= wanted and status.get("replicas", 0) <= max(wanted, updated)
    return Workload(name=_name(item), kind=kind, ready=min(ready, wanted), wanted=wanted, settled=settled)


def _is_kept_off(item: Object) -> bool:
    """Return whether a DaemonSet is there to be on no node, until somebody labels one."""
    return _OPTIONAL in (item["spec"].get("template", {}).get("spec", {}).get("nodeSelector") or {})


def _refused(item: Object, seen: Seen) -> Iterable[Reason]:
    """Yield why a workload has fewer pods than it wants: its own conditions, and the Events of what makes its pods."""
    name, kind = _name(item), str(item["kind"])
    if (item.get("status") or {}).get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        yield Reason(
            object=f"{kind.lower()}/{name}",
            found="its controller hasn't looked at it yet",
            remedy="is the controller manager up? kubectl --namespace kube-system get pods",
        )
        return
    if kind == "DaemonSet" and not (item.get("status") or {}).get("desiredNumberScheduled", 0):
        yield Reason(
            object=f"{kind.lower()}/{name}",
            found="is to run on 0 of 0 nodes: none matches its node selector, or each has a taint that it doesn't tolerate",
            remedy="kubectl get nodes --show-labels, and kubectl describe node for taints",
        )
        return
    messages = [
        condition.get("message", "")
        for condition in (item.get("status") or {}).get("conditions") or ()
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
    ]
    messages += [
        event.get("message", "")
        for event in seen.events
        if event.get("reason") == "FailedCreate"
        and (event["involvedObject"]["name"] == name or event["involvedObject"]["name"].rpartition("-")[0] == name)
    ]
    for message in messages[:1]:
        remedy = "kubectl describe says more"
        if "PodSecurity" in message:
            remedy = "the namespace's pod-security label is too strict: deploy/stand/namespaces.yaml has the right one"
        elif "quota" in message:
            remedy = "raise the namespace's ResourceQuota, or remove it"
        elif "serviceaccount" in message:
            remedy = "its account isn't there: ocg stand up again"
        yield Reason(object=f"{kind.lower()}/{name}", found=_short(message), remedy=remedy)


def _unbound(claim: Object, seen: Seen) -> Iterable[Reason]:
    """Yield why a claim has no volume; one that waits for its pod has nothing to tell."""
    if (claim.get("status") or {}).get("phase") != "Pending":
        return
    found = [event for event in seen.events if event["involvedObject"]["name"] == _name(claim)]
    told = [event for event in found if event.get("reason") != "WaitForFirstConsumer"]
    classless = "storageClassName" not in claim["spec"]
    if not told and not classless:
        return
    message = told[-1].get("message", "") if told else "it names no storage class, and the cluster has no default one"
    yield Reason(
        object=f"persistentvolumeclaim/{_name(claim)}",
        found=_short(message),
        remedy="the cluster needs a default storage class (k3s and kind bring one): kubectl get storageclass",
    )


def _hanging(pod: Object, seen: Seen) -> Iterable[Reason]:
    place, status = f"pod/{_name(pod)}", pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            message = condition.get("message", "")
            found = f"{condition.get('reason', 'Pending')}: {message}"
            yield Reason(object=place, found=_short(found), remedy=_room(message))
            return
    told = [
        reason for container in _containers(pod) for reason in _container_reason(place, pod, container, seen.last_words)
    ]
    yield from told
    if told:
        return
    for event in reversed(seen.events):
        if event["involvedObject"]["name"] != _name(pod) or event.get("type") != "Warning":
            continue
        if event.get("reason") in _STUCK_EVENTS:
            yield Reason(object=place, found=_said(event), remedy=f"kubectl describe {place} says more")
            return
        if event.get("reason") == "Unhealthy" and status.get("phase") == "Running":
            remedy = f"it runs and doesn't answer: kubectl logs {place.partition('/')[2]}"
            yield Reason(object=place, found=_said(event), remedy=remedy)
            return


def _container_reason(place: str, pod: Object, container: Object, last_words: Mapping[str, str]) -> Iterable[Reason]:
    name, state = container["name"], container.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason in _PULLING:
        image = container.get("image", "")
        yield Reason(object=place, found=_short(f"{reason}: {image}: {message}"), remedy=_way_to(image))
    elif reason in _CRASHING:
        last = (container.get("lastState") or {}).get("terminated") or {}
        words = last_words.get(f"{_name(pod)}/{name}", "") or last.get("message", "") or message
        ended = last.get("reason", "") + (f", exit code {last['exitCode']}" if "exitCode" in last else "")
        found = f"{name} ended {container.get('restartCount', 0)} times ({ended or reason}): {words}"
        yield Reason(object=place, found=_short(found), remedy=_after_crash(place, name, str(last.get("reason", ""))))
    elif reason and reason not in _STARTING:
        yield Reason(object=place, found=_short(f"{reason}: {message}"), remedy=f"kubectl describe {place} says more")
    elif "running" in state and name in _initial(pod):
        yield Reason(
            object=place,
            found=f"its init container {name} still waits",
            remedy="for what its name says: that pod isn't ready, or the Service's name can't be resolved",
        )


def _room(message: str) -> str:
    if "unbound" in message and "PersistentVolumeClaim" in message:
        return "the cluster needs a default storage class (k3s and kind bring one): kubectl get storageclass"
    if "taint" in message and "Insufficient" not in message:
        return "no node takes ordinary pods: remove the taint, or add a node"
    if "selector" in message or "affinity" in message:
        return "no node has the labels that are asked for: kubectl get nodes --show-labels"
    return "no node has room: use a larger one (8 processors, 16 GiB), or free this one"


def _way_to(image: str) -> str:
    if image.rpartition("/")[2].startswith(_OWN_IMAGE):
        return (
            f"docker build -f deploy/Dockerfile -t {image} . and give it to the node: kind load docker-image {image}; "
            f"k3s: docker save {image} | k3s ctr images import -; or push it and name it by --gym-image"
        )
    return "the node can't get it: a way to the registry, --registry with --pull-secret, or load it (ocg stand images lists all)"


def _after_crash(place: str, container: str, ended: str) -> str:
    pod = place.partition("/")[2]
    if container == _NODE_AGENT:
        return (
            "Coroot's agent needs eBPF: a kernel of 5.1 or newer with BTF (/sys/kernel/btf/vmlinux), tracefs, and a node that is no "
            "container (no kind, no k3d); without it findings have no coverage"
        )
    if ended == "OOMKilled":
        return "its memory limit is too small for this node: raise it in the service configuration"
    return f"kubectl logs --previous {pod} --container {container}"


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _initial(pod: Object) -> list[str]:
    return [item["name"] for item in (pod.get("status") or {}).get("initContainerStatuses") or ()]


def _is_ready(pod: Object) -> bool:
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return True
    return any(
        condition["type"] == "Ready" and condition["status"] == "True" for condition in status.get("conditions") or ()
    )


def _said(event: Object) -> str:
    return _short(f"{event.get('reason', '')}: {event.get('message', '')}")


def _short(text: str) -> str:
    line = " ".join(text.split()).strip(": ")
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
