"""A pod's status as the kubelet writes it: containers' states, readiness, the address.

In: a draft of a pod. Out: the draft, changed. What a status says is decided in `kubelet`, `probe_workers` and `init_containers`.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.backoff import last_state
from otel_control_gym.stands.twin.objects import Object, set_condition, timestamp

__all__ = (
    "container_id",
    "create_statuses",
    "pod_ip",
    "set_address",
    "set_ready",
    "set_running",
    "set_terminated",
    "set_waiting",
)


def create_statuses(draft: Object, now: int) -> None:
    """Write what an accepted pod shows: nothing runs, init containers come first."""
    status, spec = draft["status"], draft["spec"]
    status["startTime"] = timestamp(now)
    set_condition(draft, "PodReadyToStartContainers", status="False", now=now)
    inits = spec.get("initContainers") or ()
    if inits:
        message = f"containers with incomplete status: [{' '.join(item['name'] for item in inits)}]"
        set_condition(draft, "Initialized", status="False", now=now, reason="ContainersNotInitialized", message=message)
        status["initContainerStatuses"] = [_created(item, "PodInitializing") for item in inits]
    else:
        set_condition(draft, "Initialized", status="True", now=now)
    set_ready(draft, False, now)
    reason = "PodInitializing" if inits else "ContainerCreating"
    status["containerStatuses"] = [_created(spec["containers"][0], reason)]


def set_address(draft: Object, address: str, now: int) -> None:
    """Give the pod its IP: its network is there."""
    set_condition(draft, "PodReadyToStartContainers", status="True", now=now)
    draft["status"] |= {"podIP": address, "podIPs": [{"ip": address}]}


def set_waiting(status: Object, reason: str, message: str = "") -> None:
    """Let a container wait; how its last run ended moves to `lastState`."""
    status["lastState"] = last_state(status)
    status["state"] = {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}


def set_running(status: Object, image: str, identity: str, now: int) -> None:
    """Let a container run."""
    status |= {
        "state": {"running": {"startedAt": timestamp(now)}},
        "image": image,
        "imageID": image,
        "containerID": identity,
        "started": True,
    }


def set_terminated(status: Object, exit_code: int, reason: str, finished: int) -> None:
    """Let a running container have ended."""
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


def set_ready(draft: Object, ready: bool, now: int, reason: str = "ContainersNotReady") -> None:
    """Write the pod's conditions Ready and ContainersReady."""
    if ready:
        set_condition(draft, "Ready", status="True", now=now)
        set_condition(draft, "ContainersReady", status="True", now=now)
        return
    names = " ".join(container["name"] for container in draft["spec"]["containers"])
    message = f"containers with unready status: [{names}]"
    for name in ("Ready", "ContainersReady"):
        set_condition(draft, name, status="False", now=now, reason=reason, message=message)


def container_id(uid: str, run: int) -> str:
    """Return the id of the n-th run of a pod's container."""
    return f"containerd://{uid.replace('-', '')}{run:032x}"


def pod_ip(number: int) -> str:
    """Return the n-th address of the pods' network 10.244.0.0/16 (n from 1; wraps after 65,000, when the first are long free)."""
    number = (number - 1) % 65_000 + 1
    return f"10.244.{number // 250}.{number % 250 + 2}"


def _created(container: Object, reason: str) -> Object:
    return {
        "name": container["name"],
        "state": {"waiting": {"reason": reason}},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": container["image"],
        "imageID": "",
        "started": False,
    }
