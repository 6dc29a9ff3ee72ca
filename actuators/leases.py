"""Leases that say whether a gym lives (`coordination.k8s.io/v1`), and the object in which it keeps its inverses: what both sides share.

In: a namespace of the stand that no policy reads. Out: a Lease and a ConfigMap per run, of one name. Every write of a Lease names the
version that the writer has seen, so a renewal and a takeover can't both succeed: one of them is told of a conflict (HTTP 409).

`safekeeping` is the gym's side, `caretaker` the janitor's.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from otel_control_gym.actuators.kubernetes_client import FIELD_MANAGER, MERGE, KubernetesClient
from otel_control_gym.actuators.objects import Items, Metadata, Part
from otel_control_gym.actuators.transport import Busy, Refused
from otel_control_gym.engine.clock import rfc3339
from otel_control_gym.engine.events import InverseCall

__all__ = (
    "LEASE_SECONDS",
    "RUN_LABEL",
    "TAKEN_BACK",
    "Inverses",
    "KeptObject",
    "KeptStand",
    "Lease",
    "LeaseStore",
    "conflicts",
    "is_missing",
    "lease_name",
    "taken_back",
)

T = TypeVar("T")

LEASE_SECONDS = 60  #: a gym that hasn't renewed its Lease for so long is dead
RUN_LABEL = "otel-control-gym/run"
TAKEN_BACK = "taken-back."  #: prefix of the keys under which a janitor notes what it did, per action
_MANAGED = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
_NOT_FOUND, _CONFLICT = 404, 409


class LeaseSpec(Part, frozen=True, kw_only=True):
    """Who holds a Lease, and how long it lasts without renewal; no holder: it was given back."""

    holder_identity: str | None = None
    lease_duration_seconds: int = LEASE_SECONDS
    renew_time: str | None = None


class Lease(Part, frozen=True, kw_only=True):
    """A Lease as the server tells it."""

    metadata: Metadata
    spec: LeaseSpec


class KeptObject(Part, frozen=True, kw_only=True):
    """The ConfigMap of a run: `stand`, a key per action id, and what janitors noted."""

    metadata: Metadata
    data: dict[str, str] = msgspec.field(default_factory=dict)


class KeptStand(msgspec.Struct, frozen=True, kw_only=True):
    """Where the inverses are to be made: the application's namespace, and the URLs that the gym used."""

    namespace: str
    load_generator: str
    flagd: str


class Inverses(msgspec.Struct, frozen=True, kw_only=True):
    """What takes an action back; `number` counts the actions of a run, because the newest change goes first."""

    number: int
    calls: tuple[InverseCall, ...]


def lease_name(run_id: str) -> str:
    """Return the name of a run's Lease and ConfigMap: run ids are upper case, names of objects mustn't be."""
    return f"ocg-{run_id.lower()}"


def conflicts(error: Exception) -> bool:
    """Return whether a write named an old version, or what was to be made is there already."""
    return isinstance(error, Busy) and error.status == _CONFLICT


def is_missing(error: Exception) -> bool:
    """Return whether an object, or the namespace around it, isn't there."""
    return isinstance(error, Refused) and error.status == _NOT_FOUND


class LeaseStore:
    """The Leases and ConfigMaps of one namespace. Every method raises `CallError`."""

    def __init__(self, kubernetes: KubernetesClient, namespace: str) -> None:
        self._kubernetes = kubernetes
        self.namespace = namespace
        self._leases = f"apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._config_maps = f"api/v1/namespaces/{namespace}/configmaps"

    async def make_namespace(self) -> None:
        """Make the namespace."""
        body = {"metadata": {"name": self.namespace, "labels": _MANAGED}}
        await self._write("POST", "api/v1/namespaces", dict, body)

    async def make(self, run_id: str, stand: KeptStand, now: int) -> Lease:
        """Make the Lease of a run, held by it, and its ConfigMap, at a moment of the wall clock [ns]."""
        name = lease_name(run_id)
        metadata = {"name": name, "labels": {**_MANAGED, RUN_LABEL: run_id}}
        spec = {**_spec(run_id, LEASE_SECONDS, now), "acquireTime": rfc3339(now)}
        try:
            lease = await self._write("POST", self._leases, Lease, {"metadata": metadata, "spec": spec})
        except Busy as busy:
            if not conflicts(busy):
                raise
            lease = await self.lease(name)  # the answer to an earlier try was lost
        try:
            data = {"stand": msgspec.json.encode(stand).decode()}
            await self._write("POST", self._config_maps, dict, {"metadata": metadata, "data": data})
        except Busy as busy:
            if not conflicts(busy):
                raise
        return lease

    async def lease(self, name: str) -> Lease:
        """Read one."""
        return await self._kubernetes.call("GET", f"{self._leases}/{name}", Lease)

    async def leases(self) -> tuple[Lease, ...]:
        """Read those of all runs."""
        query = {"labelSelector": f"app.kubernetes.io/managed-by={FIELD_MANAGER},{RUN_LABEL}"}
        return tuple((await self._kubernetes.call("GET", self._leases, Items[Lease], query=query)).items)

    async def hold(self, lease: Lease, holder: str, seconds: int, now: int) -> Lease:
        """Renew a Lease, take it over, or give it back (no holder), if nobody has written it since it was read."""
        body = {
            "metadata": {"resourceVersion": lease.metadata.resource_version},
            "spec": _spec(holder, seconds, now),
        }
        return await self._write("PATCH", f"{self._leases}/{lease.metadata.name}", Lease, body)

    async def remove(self, lease: Lease, *, with_config_map: bool) -> None:
        """Delete a Lease, if nobody has written it since it was read; before it its ConfigMap, if nothing in it is needed."""
        if with_config_map:
            await self._delete(f"{self._config_maps}/{lease.metadata.name}", None)
        precondition = {"preconditions": {"resourceVersion": lease.metadata.resource_version}}
        await self._delete(f"{self._leases}/{lease.metadata.name}", precondition)

    async def remove_config_map(self, name: str) -> None:
        """Delete a ConfigMap whose Lease is gone already."""
        await self._delete(f"{self._config_maps}/{name}", None)

    async def config_map(self, name: str) -> KeptObject:
        """Read what is kept."""
        return await self._kubernetes.call("GET", f"{self._config_maps}/{name}", KeptObject)

    async def write_keys(self, name: str, data: dict[str, str | None]) -> None:
        """Set keys of a ConfigMap, and remove those that are null, in one write."""
        await self._write("PATCH", f"{self._config_maps}/{name}", dict, {"data": data})

    async def _write(self, method: str, path: str, answer: type[T], body: dict[str, Any]) -> T:
        content_type = MERGE if method == "PATCH" else "application/json"
        call = InverseCall(api="kubernetes", method=method, path=path, content_type=content_type, body=body)
        return await self._kubernetes.write(call, answer)

    async def _delete(self, path: str, options: dict[str, Any] | None) -> None:
        try:
            await self._kubernetes.call("DELETE", path, dict, body=options)
        except Refused as refusal:
            if not is_missing(refusal):
                raise


def _spec(holder: str, seconds: int, now: int) -> dict[str, Any]:
    return {"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": rfc3339(now)}


def taken_back(kept: KeptObject) -> dict[str, Any]:
    """Return what janitors noted, by the id of the action that they took back: evidence for the events that a dead run lacks."""
    return {
        key.removeprefix(TAKEN_BACK): msgspec.json.decode(text)
        for key, text in kept.data.items()
        if key.startswith(TAKEN_BACK)
    }
