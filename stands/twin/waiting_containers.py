"""Containers that can't run now: how the pod's status and events tell why.

In: a pod whose container has no image, no environment, or has died too often. Out: its status (`waiting`, with reason and message) and
events. When it is tried again is the kubelet's to say.
"""

from __future__ import annotations

from otel_control_gym.stands.twin import images
from otel_control_gym.stands.twin.backoff import go_seconds
from otel_control_gym.stands.twin.container_status import set_waiting
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import POD, Object
from otel_control_gym.stands.twin.pod_events import tell_of_pod

__all__ = ("is_tried_again", "show_crash_loop", "show_failed_pull", "show_lacking_configuration", "show_pull_back_off")

_TRIED_AGAIN = ("CrashLoopBackOff", "CreateContainerConfigError", "ErrImagePull", "ImagePullBackOff")


def is_tried_again(pod: Object) -> bool:
    """Return whether the pod's container waits for a further try."""
    waiting = pod["status"]["containerStatuses"][0]["state"].get("waiting", {})
    return waiting.get("reason") in _TRIED_AGAIN


def show_failed_pull(context: Context, pod: Object) -> None:
    """Say that there is no such image."""
    image = pod["spec"]["containers"][0]["image"]
    problem = f"rpc error: code = NotFound desc = {images.pull_error(image)}"
    stored = _wait(context, pod, "ErrImagePull", problem)
    tell_of_pod(context, stored, "Pulling", f'Pulling image "{image}"')
    tell_of_pod(context, stored, "Failed", f'Failed to pull image "{image}": {problem}', warning=True)
    tell_of_pod(context, stored, "Failed", "Error: ErrImagePull", warning=True)


def show_pull_back_off(context: Context, pod: Object) -> None:
    """Say that the image will be asked for again later."""
    image = pod["spec"]["containers"][0]["image"]
    message = f'Back-off pulling image "{image}"'
    stored = _wait(context, pod, "ImagePullBackOff", f"{message}: ErrImagePull: {images.pull_error(image)}")
    tell_of_pod(context, stored, "BackOff", message)
    tell_of_pod(context, stored, "Failed", "Error: ImagePullBackOff", warning=True)


def show_lacking_configuration(context: Context, pod: Object, problem: str) -> None:
    """Say which source of the environment isn't there."""
    stored = _wait(context, pod, "CreateContainerConfigError", problem)
    tell_of_pod(context, stored, "Failed", f"Error: {problem}", warning=True)


def show_crash_loop(context: Context, pod: Object, wait_seconds: int) -> None:
    """Say that the container has died again and waits to be restarted."""
    metadata, container = pod["metadata"], pod["spec"]["containers"][0]["name"]
    where = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
    message = f"back-off {go_seconds(wait_seconds)} restarting failed container={container} pod={where}"
    stored = _wait(context, pod, "CrashLoopBackOff", message)
    message = f"Back-off restarting failed container {container} in pod {where}"
    tell_of_pod(context, stored, "BackOff", message, warning=True)


def _wait(context: Context, pod: Object, reason: str, message: str) -> Object:
    draft = context.store.draft(POD, pod["metadata"]["namespace"], pod["metadata"]["name"])
    status = draft["status"]["containerStatuses"][0]
    set_waiting(status, reason, message)
    status["image"] = pod["spec"]["containers"][0]["image"]
    return context.store.update(POD, draft)
