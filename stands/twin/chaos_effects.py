"""What the effects of all chaos kinds share: how one record is applied or recovered, and how that fails.

In: nothing. Out: the `Effect` protocol, `FailedEffect`, and whether the chaos daemon reaches a pod.

Downstream: `chaos_stress`, `chaos_network`, `chaos_pods`; `chaos_controller` moves the records.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from otel_control_gym.engine.randomness import derive_seed, draw_uniform
from otel_control_gym.stands.twin.controller import Context
from otel_control_gym.stands.twin.objects import Object

__all__ = ("Effect", "FailedEffect", "check_daemon", "container_identities", "is_running", "source_of")


class FailedEffect(Exception):
    """Raised when a pod can't be stressed, ruled, killed or freed; its text goes into the record."""


class Effect(Protocol):
    """How one kind of chaos reaches its targets."""

    def identities(self, chaos: Object, pod: Object) -> Iterator[str]:
        """Yield the ids of the records that a chosen pod gets."""
        ...

    def move(self, draft: Object, item: Object, *, apply: bool) -> str:
        """Apply or recover one record and return its new phase; may note instances in the draft's status.

        Raises: FailedEffect: it can't be done now.
        """
        ...


def check_daemon(context: Context, pod: Object, problem: str) -> None:
    """Ask whether the chaos daemon of the pod's node can do anything in that pod.

    A share `chaos_refusal` of the pods is beyond it, each from its start to its end: real clusters have nodes without a daemon, with
    another container runtime than the one it was told, or without a kernel module.

    Raises: FailedEffect: it can't, with `problem`, or the pod has no node yet.
    """
    if not pod["spec"].get("nodeName"):
        raise FailedEffect("cannot find daemonIP on node  in related EndpointSlices")
    seed = derive_seed(context.machine_seed, f"chaos.daemon/{context.pod_entity(pod)}")
    if draw_uniform(seed, 0) < context.settings.chaos_refusal:
        raise FailedEffect(problem)


def container_identities(chaos: Object, pod: Object) -> Iterator[str]:
    """Yield `namespace/pod/container` for the containers that a spec names, or the first one."""
    names = [container["name"] for container in pod["spec"]["containers"]]
    wanted = chaos["spec"].get("containerNames") or names[:1]
    for name in names:
        if name in wanted:
            yield f"{pod['metadata']['namespace']}/{pod['metadata']['name']}/{name}"


def is_running(pod: Object) -> bool:
    """Return whether the pod's container runs, by its status."""
    return any("running" in status["state"] for status in pod["status"].get("containerStatuses", ()))


def source_of(chaos: Object) -> str:
    """Return how what a chaos object did is told from what others did: `namespace/name`."""
    return f"{chaos['metadata']['namespace']}/{chaos['metadata']['name']}"
