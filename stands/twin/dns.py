"""Names and addresses of Services: what a host means inside the application's namespace.

In: the store, a host as a client or a rule names it. Out: the Service behind it.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.objects import POD, SERVICE, Object
from otel_control_gym.stands.twin.store import ObjectStore

__all__ = ("cluster_ips", "selected_pods", "service_of_host")

_CLUSTER_DOMAIN = ("svc", "cluster", "local")


def service_of_host(store: ObjectStore, namespace: str, host: str) -> Object | None:
    """Return the Service that a DNS name (`cart`, `cart.shop`, `cart.shop.svc.cluster.local`) or a ClusterIP leads to.

    Args:
        store: the cluster's objects.
        namespace: of who asks: a name without one is looked for there.
        host: the name or address.
    """
    if host in (addresses := cluster_ips(store)):
        return addresses[host]
    name, *domain = host.rstrip(".").split(".")
    where = domain[0] if domain else namespace
    if tuple(domain[1:]) != _CLUSTER_DOMAIN[: len(domain[1:])] or len(domain) > 1 + len(_CLUSTER_DOMAIN):
        return None
    return store.get(SERVICE, where, name)


def cluster_ips(store: ObjectStore) -> dict[str, Object]:
    """Return the Services by their ClusterIP; headless ones have none."""
    return {
        item["spec"]["clusterIP"]: item
        for item in store.objects(SERVICE)
        if item["spec"].get("clusterIP", "None") != "None"
    }


def selected_pods(store: ObjectStore, service: Object) -> list[Object]:
    """Return the pods that a Service selects, by name; one without a selector selects none."""
    selector = service["spec"].get("selector") or {}
    return [
        pod
        for pod in store.objects(POD, service["metadata"]["namespace"])
        if selector and selector.items() <= pod["metadata"].get("labels", {}).items()
    ]
