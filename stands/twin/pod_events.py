"""What the kubelet says of a pod's containers.

In: a pod, a reason, a message. Out: an Event with the kubelet's marks. Upstream: `kubelet`, `waiting_containers`, `probe_workers`.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.kubernetes_events import record
from otel_control_gym.stands.twin.objects import POD, Object

__all__ = ("tell_of_pod", "tell_started")


def tell_of_pod(
    context: Context, pod: Object, reason: str, message: str, *, warning: bool = False, path: str = ""
) -> None:
    """Say something of a pod's container; `path` names another than the first."""
    record(
        context,
        POD,
        pod,
        reason,
        message,
        component="kubelet",
        type="Warning" if warning else "Normal",
        host=pod["spec"]["nodeName"],
        field_path=path or f"spec.containers{{{pod['spec']['containers'][0]['name']}}}",
    )


def tell_started(context: Context, pod: Object, image: str, *, path: str = "") -> None:
    """Say that a container was made of an image that the node has, and started."""
    for reason, message in (
        ("Pulled", f'Container image "{image}" already present on machine'),
        ("Created", "Container created"),
        ("Started", "Container started"),
    ):
        tell_of_pod(context, pod, reason, message, path=path)
