"""The chart's init containers: a pod that needs Kafka, or carts' store, waits until a connection to it succeeds.

In: the application; a pod's init container, the Services and pods there are. Out: the containers as the chart writes them; whether one
is done.

Theirs is a shell loop around `nc -z`: it ends when somebody accepts the connection, so the Service needs an endpoint that is ready. There
is no upper bound: the pod stays `Init:0/1`. Another init container is taken to be done at once, the twin runs no programs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from otel_control_gym.engine.settings import ServiceConfiguration
from otel_control_gym.stands.twin.dns import selected_pods, service_of_host
from otel_control_gym.stands.twin.environment import dependencies
from otel_control_gym.stands.twin.images import WAIT_IMAGE
from otel_control_gym.stands.twin.objects import Object, condition
from otel_control_gym.stands.twin.store import ObjectStore

__all__ = ("POLL_SECONDS", "declare_waits", "has_endpoint", "is_done")

POLL_SECONDS = 2  #: the loop's pause
_WAITS = ("kafka", "valkey-cart")  #: the dependencies that the chart lets pods wait for
_CONNECTION = re.compile(r"\bnc\s+(?:-\S+\s+)*(\S+)\s+(\d+)")


def declare_waits(application: ServiceConfiguration, name: str) -> Iterator[Object]:
    """Yield the init containers of a service."""
    for other in dependencies(application, name):
        if other in _WAITS:
            port = application.services[other].port
            loop = f"until nc -z -v -w30 {other} {port}; do echo waiting for {other}; sleep {POLL_SECONDS}; done;"
            yield {"name": f"wait-for-{other}", "image": WAIT_IMAGE, "command": ["sh", "-c", loop]}


def is_done(store: ObjectStore, namespace: str, container: Object) -> bool:
    """Return whether an init container ends now."""
    match = _CONNECTION.search(" ".join(container.get("command") or ()))
    if match is None:
        return True
    service = service_of_host(store, namespace, match[1])
    return service is not None and has_endpoint(store, service, int(match[2]))


def has_endpoint(store: ObjectStore, service: Object, port: int) -> bool:
    """Return whether a Service has that port and a pod behind it that is ready."""
    if all(item["port"] != port for item in service["spec"]["ports"]):
        return False
    for pod in selected_pods(store, service):
        ready = condition(pod, "Ready")
        if ready is not None and ready["status"] == "True" and "deletionTimestamp" not in pod["metadata"]:
            return True
    return False
