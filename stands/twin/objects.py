"""Kubernetes objects as the twin holds them: plain JSON documents, the kinds that are served, and the small facts they share.

In: nothing. Out: the `Kind`s (how a resource is called in paths, bodies and messages), time stamps, owner references, conditions.

An object is a `dict` as it goes over the wire, because clients read, patch and diff it as such; it is never changed once it is in the
store (`store` hands out drafts). Kubernetes' time stamps are whole seconds, so what happens in between is known to the controllers
alone. Downstream: `store` keeps objects, `admission` checks them, the controllers act on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from otel_control_gym.engine.clock import SECOND, date_time

__all__ = (
    "CONFIG_MAP",
    "DEPLOYMENT",
    "EVENT",
    "HORIZONTAL_POD_AUTOSCALER",
    "HORIZONTAL_POD_AUTOSCALER_V1",
    "HTTP_ROUTE",
    "KINDS",
    "LEASE",
    "NAMESPACE",
    "NETWORK_CHAOS",
    "NODE",
    "POD",
    "POD_CHAOS",
    "POD_NETWORK_CHAOS",
    "REPLICA_SET",
    "SECRET",
    "SERVED",
    "SERVICE",
    "STRESS_CHAOS",
    "Kind",
    "Object",
    "condition",
    "controller_of",
    "moment",
    "owner_reference",
    "set_condition",
    "timestamp",
)

Object = dict[str, Any]  #: a JSON document: untyped by nature


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind of object is called, and which of the API's rules hold for it."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    built_in: bool = True  #: False: a custom resource, which takes no strategic merge patch
    generation: bool = False  #: the server counts changes of the spec
    status: bool = True  #: status is a sub-resource, so writes to the main resource leave it alone
    scale: bool = False
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    fields: str = ""  #: its type in `field_types`; empty: the kind's own name
    verbs: tuple[str, ...] = ("get", "list", "watch")

    @property
    def api_version(self) -> str:
        """Return group and version as objects name them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def structure(self) -> str:
        """Return the name of the type in `field_types` that says which fields it has."""
        return self.fields or self.kind

    @property
    def resource(self) -> str:
        """Return the plural with its group, as messages name it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """Return the kind with its group, as messages about an invalid object name it: `Deployment.apps`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


# Served are the verbs behind which the twin has an effect to show; the others are answered 405.
_READ = ("get", "list", "watch")
_CHANGE = (*_READ, "patch", "update", "delete")
DEPLOYMENT = Kind(
    kind="Deployment",
    plural="deployments",
    group="apps",
    generation=True,
    scale=True,
    short_names=("deploy",),
    categories=("all",),
    verbs=("create", *_CHANGE),
)
REPLICA_SET = Kind(
    kind="ReplicaSet",
    plural="replicasets",
    group="apps",
    generation=True,
    short_names=("rs",),
    categories=("all",),
    verbs=_CHANGE,
)
POD = Kind(kind="Pod", plural="pods", generation=True, short_names=("po",), categories=("all",), verbs=_CHANGE)
SERVICE = Kind(kind="Service", plural="services", short_names=("svc",), categories=("all",), verbs=("create", *_CHANGE))
EVENT = Kind(kind="Event", plural="events", status=False, short_names=("ev",))
NAMESPACE = Kind(
    kind="Namespace",
    plural="namespaces",
    namespaced=False,
    short_names=("ns",),
    verbs=("create", *_READ, "patch", "update"),
)
NODE = Kind(kind="Node", plural="nodes", namespaced=False, short_names=("no",))
CONFIG_MAP = Kind(kind="ConfigMap", plural="configmaps", status=False, short_names=("cm",), verbs=("create", *_CHANGE))
SECRET = Kind(kind="Secret", plural="secrets", status=False)
LEASE = Kind(kind="Lease", plural="leases", group="coordination.k8s.io", status=False, verbs=("create", *_CHANGE))
HORIZONTAL_POD_AUTOSCALER = Kind(
    kind="HorizontalPodAutoscaler",
    plural="horizontalpodautoscalers",
    group="autoscaling",
    version="v2",
    short_names=("hpa",),
    categories=("all",),
    verbs=("create", *_CHANGE),
)
HTTP_ROUTE = Kind(
    kind="HTTPRoute",
    plural="httproutes",
    group="gateway.networking.k8s.io",
    built_in=False,
    generation=True,
    categories=("gateway-api",),
    verbs=("create", *_CHANGE),
)
# Chaos kinds have no status sub-resource: the controller writes status with ordinary updates, and generation rises with each.
STRESS_CHAOS = Kind(
    kind="StressChaos",
    plural="stresschaos",
    group="chaos-mesh.org",
    version="v1alpha1",
    built_in=False,
    generation=True,
    status=False,
    verbs=("create", *_CHANGE),
)
NETWORK_CHAOS = Kind(
    kind="NetworkChaos",
    plural="networkchaos",
    group="chaos-mesh.org",
    version="v1alpha1",
    built_in=False,
    generation=True,
    status=False,
    verbs=("create", *_CHANGE),
)
POD_CHAOS = Kind(
    kind="PodChaos",
    plural="podchaos",
    group="chaos-mesh.org",
    version="v1alpha1",
    built_in=False,
    generation=True,
    status=False,
    verbs=("create", *_CHANGE),
)
POD_NETWORK_CHAOS = Kind(
    kind="PodNetworkChaos",
    plural="podnetworkchaos",
    group="chaos-mesh.org",
    version="v1alpha1",
    built_in=False,
    generation=True,
)
KINDS = (
    NAMESPACE,
    NODE,
    CONFIG_MAP,
    SECRET,
    SERVICE,
    POD,
    EVENT,
    DEPLOYMENT,
    REPLICA_SET,
    HORIZONTAL_POD_AUTOSCALER,
    LEASE,
    HTTP_ROUTE,
    STRESS_CHAOS,
    NETWORK_CHAOS,
    POD_CHAOS,
    POD_NETWORK_CHAOS,
)  #: as stored
HORIZONTAL_POD_AUTOSCALER_V1 = msgspec.structs.replace(
    HORIZONTAL_POD_AUTOSCALER, version="v1", fields="HorizontalPodAutoscalerV1"
)
SERVED = (
    *KINDS,
    HORIZONTAL_POD_AUTOSCALER_V1,
)  #: as requested: an older version is a view of the stored one (`versions`)


def timestamp(now: int) -> str:
    """Return an episode time [ns] as Kubernetes writes it: RFC 3339, whole seconds, UTC."""
    return f"{date_time(now // SECOND)}Z"


def moment(text: str) -> int:
    """Return the nanoseconds since the epoch of a time stamp that `timestamp` wrote."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * SECOND


def owner_reference(kind: Kind, owner: Object) -> Object:
    """Return the reference by which a dependent names its controller."""
    metadata = owner["metadata"]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_of(item: Object) -> str | None:
    """Return the UID of the object that controls this one."""
    for reference in _owners(item):
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def condition(item: Object, name: str) -> Object | None:
    """Return the condition of a type, or None."""
    for entry in item.get("status", {}).get("conditions", ()):
        if entry["type"] == name:
            found: Object = entry
            return found
    return None


def set_condition(draft: Object, name: str, *, status: str, now: int, reason: str = "", message: str = "") -> None:
    """Write a condition into a draft's status; its transition time moves only with its status."""
    conditions = draft["status"].setdefault("conditions", [])
    entry = {"type": name, "status": status, "lastTransitionTime": timestamp(now)}
    if reason:
        entry["reason"] = reason
    if message:
        entry["message"] = message
    for index, existing in enumerate(conditions):
        if existing["type"] == name:
            if existing["status"] == status:
                entry["lastTransitionTime"] = existing["lastTransitionTime"]
            conditions[index] = entry
            return
    conditions.append(entry)


def _owners(item: Object) -> Iterator[Object]:
    yield from item["metadata"].get("ownerReferences", ())
