"""What of a stand is there, how ready it is, and why not: one look at the API server and at Helm.

In: an administrator's connection, the releases that Helm tells, what is wanted. Out: a `PartState` for each namespace of a stand. Nothing
is changed. `installation` looks again and again until all is ready; `ocg stand status` looks once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from otel_control_gym.stands.cluster.administration import Administrator
from otel_control_gym.stands.cluster.helm import InstalledRelease
from otel_control_gym.stands.cluster.parts import CRD_GROUPS, NAMESPACES, Release
from otel_control_gym.stands.cluster.pins import Pins
from otel_control_gym.stands.cluster.readiness import Reason, Seen, Workload, crashed, readiness

__all__ = ("CRDS", "PartState", "ReleaseState", "inspect_stand", "served_crds")

CRDS = {
    "chaos-mesh.org": ("networkchaos", "podchaos", "podnetworkchaos", "schedules", "stresschaos"),
    "coroot.com": ("coroots",),
}
"""The custom resources without which a stand isn't one, by group."""

_WORKLOADS = (("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets"))
_CRD_PATH = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class ReleaseState(msgspec.Struct, frozen=True, kw_only=True):
    """A Helm release beside what is pinned."""

    name: str
    wanted: str  #: chart and version
    found: str = ""  #: the same of what is installed; empty: nothing is
    status: str = ""  #: as Helm tells it


class PartState(msgspec.Struct, frozen=True, kw_only=True):
    """One namespace of a stand."""

    namespace: str
    exists: bool
    releases: tuple[ReleaseState, ...]
    ready: int  #: workloads that are as they are wanted
    wanted: int
    workloads: tuple[Workload, ...]
    missing: tuple[str, ...]  #: workloads that nobody has made yet
    reasons: tuple[Reason, ...]

    @property
    def complete(self) -> bool:
        """Return whether all of it is installed and ready."""
        charts = all(release.found == release.wanted for release in self.releases)
        return self.exists and charts and self.ready >= self.wanted and not self.reasons


async def inspect_stand(
    administrator: Administrator,
    installed: Iterable[InstalledRelease],
    wanted: Iterable[Release],
    pins: Pins,
    expected: Mapping[str, Iterable[str]],
) -> tuple[PartState, ...]:
    """Look at every namespace of a stand; `expected`: names of the workloads that have to be in each."""
    there = {(release.namespace, release.name): release for release in installed}
    charts = tuple(wanted)
    served = await served_crds(administrator)
    parts = []
    for namespace in NAMESPACES:
        releases = tuple(
            _release(release, there.get((namespace, release.name)), pins)
            for release in charts
            if release.namespace == namespace
        )
        exists = (await administrator.kubernetes("GET", f"api/v1/namespaces/{namespace}")).ok
        seen = await _seen(administrator, namespace) if exists else Seen()
        found = readiness(seen, expected.get(namespace, ()))
        absent = tuple(_absent(served, namespace)) if any(release.found for release in releases) else ()
        parts.append(
            PartState(
                namespace=namespace,
                exists=exists,
                releases=releases,
                ready=found.ready,
                wanted=found.wanted,
                workloads=found.workloads,
                missing=found.missing,
                reasons=(*absent, *found.reasons),
            )
        )
    return tuple(parts)


async def served_crds(administrator: Administrator) -> dict[str, dict[str, Any]]:
    """Return the custom resource definitions of a stand's groups, by name."""
    items = (await administrator.kubernetes("GET", _CRD_PATH)).items
    return {item["metadata"]["name"]: item for item in items if item["spec"]["group"] in CRD_GROUPS}


def _release(wanted: Release, found: InstalledRelease | None, pins: Pins) -> ReleaseState:
    return ReleaseState(
        name=wanted.name,
        wanted=f"{wanted.chart}-{pins.charts[wanted.chart].version}",
        found=found.chart if found else "",
        status=found.status if found else "",
    )


def _absent(served: Mapping[str, Mapping[str, Any]], namespace: str) -> Iterable[Reason]:
    """Yield which custom resources of a namespace's charts aren't served."""
    for group, plurals in CRDS.items():
        if CRD_GROUPS[group] != namespace:
            continue
        for plural in plurals:
            name = f"{plural}.{group}"
            conditions = (served.get(name, {}).get("status") or {}).get("conditions") or ()
            if not any(item["type"] == "Established" and item["status"] == "True" for item in conditions):
                found = (
                    "isn't served yet" if name in served else "isn't there: Helm makes it with its chart, and only then"
                )
                yield Reason(
                    object=f"customresourcedefinition/{name}", found=found, remedy="ocg stand down, then ocg stand up"
                )


async def _seen(administrator: Administrator, namespace: str) -> Seen:
    async def listed(path: str, **query: str) -> list[dict[str, Any]]:
        return (await administrator.kubernetes("GET", path, query=query)).items

    core, apps = f"api/v1/namespaces/{namespace}", f"apis/apps/v1/namespaces/{namespace}"
    workloads = [{**item, "kind": kind} for kind, plural in _WORKLOADS for item in await listed(f"{apps}/{plural}")]
    pods = await listed(f"{core}/pods")
    last_words = {}
    for pod, container in crashed(pods):
        query = {"container": container, "previous": "true", "tailLines": "1"}
        log = await administrator.kubernetes("GET", f"{core}/pods/{pod}/log", query=query)
        if log.ok and log.body:
            last_words[f"{pod}/{container}"] = str(log.body)
    events = await listed(f"{core}/events")
    return Seen(
        workloads=workloads,
        pods=pods,
        events=sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")),
        claims=await listed(f"{core}/persistentvolumeclaims"),
        last_words=last_words,
    )
