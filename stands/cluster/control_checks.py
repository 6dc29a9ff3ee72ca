"""What a doctor looks at first, by the Kubernetes API: is this a cluster, may we act here, and can we?

In: a connection, what is wanted of the stand. Out: findings. Nothing is changed. Next: `node_checks`, `workload_checks`, `fault_checks`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from otel_control_gym.engine.clock import SECOND, wall_now
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.contexts import is_marked
from otel_control_gym.stands.cluster.findings import APPLY, Finding, failed, fine, name_of, unknown, warning
from otel_control_gym.stands.cluster.pins import minor_version
from otel_control_gym.stands.marks import MARK

__all__ = ("Access", "mark", "permissions", "safekeeping", "version")

_LEASE_SECONDS = 60
_NOT_FOUND = 404


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """One permission that is needed somewhere."""

    namespace: str  #: empty: what lies in none
    group: str
    resource: str  #: with its subresource
    verb: str
    name: str = ""

    def __str__(self) -> str:
        place = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {place}{f'/{self.name}' if self.name else ''} in {self.namespace or 'the cluster'}"


async def version(connection: Connection, oldest: str) -> Finding:
    """Ask which Kubernetes this is."""
    answer, check = await connection.kubernetes("GET", "version"), "Kubernetes"
    place = connection.endpoints.kubernetes
    if not answer.status:
        return failed(check, f"{place}: {answer.problem}", "is the cluster up, and does the context's server name it?")
    if not answer.ok:
        return failed(check, f"{place}: {answer.problem}", "the context's credentials aren't taken: get new ones")
    found = answer.text("gitVersion")
    numbers = minor_version(found)
    if numbers is None:
        return failed(check, f"{place} says version {found!r}", "this is no Kubernetes API: name another context")
    if numbers < (minor_version(oldest) or (0, 0)):
        return failed(check, f"{found}: the manifests need {oldest} or newer", "upgrade the cluster")
    return fine(check, f"{found} at {place}")


async def mark(connection: Connection) -> Finding:
    """Look whether everything in the namespace may be broken."""
    namespace, check = connection.endpoints.namespace, "mark"
    answer = await connection.kubernetes("GET", f"api/v1/namespaces/{namespace}")
    if answer.status == _NOT_FOUND:
        return failed(check, f"there is no namespace {namespace}", f"{APPLY}namespaces.yaml, or name another context")
    if not answer.ok:
        return unknown(check, f"namespace {namespace}: {answer.problem}", f"{APPLY}rbac.yaml lets the gym read it")
    if not is_marked(answer):
        return failed(
            check,
            f"namespace {namespace} isn't marked as a gym's stand",
            f"if everything in it may be broken: kubectl label namespace {namespace} {MARK}=true",
        )
    return fine(check, f"namespace {namespace} is there to be broken")


async def permissions(
    connection: Connection, check: str, wanted: Iterable[Access], remedy: str, *, needed: bool
) -> Finding:
    """Review accesses; `needed`: without them no episode can run."""
    denied, asked = [], 0
    for access in wanted:
        resource, _, part = access.resource.partition("/")
        attributes = {
            "namespace": access.namespace,
            "group": access.group,
            "resource": resource,
            "subresource": part,
            "verb": access.verb,
            "name": access.name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        answer = await connection.kubernetes(
            "POST", "apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review
        )
        if not answer.ok:
            return unknown(
                check,
                f"can't be reviewed: {answer.problem}",
                "an API server that doesn't review accesses is no Kubernetes",
            )
        asked += 1
        if answer.find("status", "allowed") is not True:
            denied.append(str(access))
    if denied:
        shown = "; ".join(denied[:8]) + (f"; and {len(denied) - 8} more" if len(denied) > 8 else "")
        return (failed if needed else warning)(check, f"this account may not: {shown}", remedy)
    return fine(check, f"all {asked} are granted")


async def safekeeping(connection: Connection, namespace: str) -> Finding:
    """Look whether the way back from a change can be kept, and whether a gym that died has left some."""
    check = "safekeeping"
    answer = await connection.kubernetes("GET", f"apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
    if not answer.ok:
        return failed(
            check,
            f"Leases in namespace {namespace}: {answer.problem}",
            f"{APPLY}namespaces.yaml -f deploy/stand/rbac.yaml",
        )
    dead = [
        name_of(item)
        for item in answer.items
        if item["metadata"]["name"].startswith("ocg-") and _age(item.get("spec", {}).get("renewTime")) > _LEASE_SECONDS
    ]
    if dead:
        return warning(
            check,
            f"a gym died and left something: {', '.join(dead)}",
            f"the janitor takes it back: {APPLY}janitor.yaml, or ocg stand janitor --once",
        )
    return fine(check, f"{len(answer.items)} Leases in namespace {namespace}, none of a gym that died")


def _age(renewed: str | None) -> float:
    """Return for how many seconds a Lease wasn't renewed."""
    if not renewed:
        return 0.0
    return (wall_now() - datetime.fromisoformat(renewed).timestamp() * SECOND) / SECOND
