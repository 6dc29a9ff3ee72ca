"""Which permissions the gym needs on a cluster: they follow from the calls that the catalogue's entries make.

In: `Entry.api_calls` (method and path, as the catalogue shows them), the collections that collectors watch. Out: `Permission`s, and the
rules of a Role. What a role grants is what is made and no more, and a new entry's calls are in it without anybody's thinking of it.

To a call that changes something belong others that no entry names:

- what is changed is read before and after, by name or in a list;
- what is made is deleted when it is taken back, and what can be made is tried first (a dry run needs the same permission);
- a chaos object that doesn't go is patched, which forces it.

`patch` on Deployments means running any image with the rights of the namespace: Kubernetes has no smaller permission for it.

Next: `engine.deployment` writes the roles, `stands.cluster.doctor` asks a cluster for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from otel_control_gym.actuators.catalogue import ENTRIES
from otel_control_gym.actuators.entries import Entry

__all__ = (
    "CHAOS_GROUP",
    "Permission",
    "acting",
    "looking",
    "needed",
    "proxying",
    "rules",
    "safekeeping",
)

CHAOS_GROUP = "chaos-mesh.org"
_CALL = re.compile(r"(?P<methods>[A-Z]+(?: or [A-Z]+)*) (?P<path>apis?/\S+)")
_PATH = re.compile(
    r"(?:api/v1|apis/(?P<group>[^/]+)/[^/]+)(?:/namespaces/[^/]+)?/(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<part>.+))?)?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_EVIDENCE = (  #: read, and never written
    ("apps", "replicasets", "list"),
    (CHAOS_GROUP, "podnetworkchaos", "get"),
    (CHAOS_GROUP, "podnetworkchaos", "list"),  # by a reset, which looks whether any pod has a rule left
)


class Permission(msgspec.Struct, frozen=True, order=True):
    """To do one thing with one resource, in a namespace."""

    group: str
    resource: str  #: with its subresource, e.g. `deployments/scale`
    verb: str
    names: tuple[str, ...] = ()  #: of the only objects for which it is needed; empty: of any

    def __str__(self) -> str:
        place = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {place}" + (f" ({', '.join(self.names)})" if self.names else "")


def needed(method: str, path: str, query: Mapping[str, str] | None = None) -> Permission:
    """Return what a call needs; `path` has no leading slash.

    Raises: ValueError: the path isn't one of a resource.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        raise ValueError(f"{method} {path}: is no path of a resource")
    resource = match["resource"] + (f"/{match['part']}" if match["part"] else "")
    if method == "GET":
        watched = (query or {}).get("watch", "").lower() == "true"
        verb = "get" if match["name"] else "watch" if watched else "list"
    else:
        verb = _VERBS[method]
    return Permission(match["group"] or "", resource, verb)


def acting(entries: Iterable[Entry] = ENTRIES) -> tuple[Permission, ...]:
    """Return what entries of the catalogue need, sorted; those that speak to the load generator or to flagd need nothing here."""
    found: dict[Permission, None] = {}
    for entry in entries:
        for call in entry.api_calls:
            found |= dict.fromkeys(_with_what_belongs_to_it(call))
    if found:
        groups = {permission.group for permission in found}
        found |= {Permission(*read): None for read in _EVIDENCE if read[0] in groups}
    return tuple(sorted(found))


def looking(collections: Iterable[str]) -> tuple[Permission, ...]:
    """Return what watching collections needs, sorted; each is a path with `{}` for the namespace."""
    found = (needed("GET", path, {"watch": str(watch)}) for path in collections for watch in (False, True))
    return tuple(sorted(dict.fromkeys(found)))


def safekeeping() -> tuple[Permission, ...]:
    """Return what Leases and inverses need, in the namespace where they lie."""
    leases = [
        Permission("coordination.k8s.io", "leases", verb) for verb in ("create", "delete", "get", "list", "patch")
    ]
    config_maps = [Permission("", "configmaps", verb) for verb in ("create", "delete", "get", "patch")]
    return tuple(sorted([*leases, *config_maps]))


def proxying(services: Iterable[str]) -> tuple[Permission, ...]:
    """Return what reaching services (`NAME:PORT`) through the API server's proxy needs: to read from them and to post to them."""
    names = tuple(sorted(services))
    return tuple(Permission("", "services/proxy", verb, names) for verb in ("create", "get"))


def rules(permissions: Iterable[Permission]) -> list[dict[str, Any]]:
    """Return the rules of a Role that grants permissions and no more; resources of one group with the same verbs share one."""
    verbs: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for permission in sorted(dict.fromkeys(permissions)):
        verbs.setdefault((permission.group, permission.resource, permission.names), []).append(permission.verb)
    resources: dict[tuple[str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (group, resource, names), found in verbs.items():
        resources.setdefault((group, names, tuple(found)), []).append(resource)
    return [
        {"apiGroups": [group], "resources": found, "verbs": list(granted)}
        | ({"resourceNames": list(names)} if names else {})
        for (group, names, granted), found in resources.items()
    ]


def _with_what_belongs_to_it(call: str) -> Iterable[Permission]:
    match = _CALL.match(call)
    if match is None:
        if "{load_generator}" in call or "{flagd}" in call:
            return
        raise ValueError(f"{call!r}: the catalogue's calls begin with a method and a path")
    for method in match["methods"].split(" or "):
        permission = needed(method, match["path"])
        yield permission
        resource = permission.resource.partition("/")[0]
        yield from (Permission(permission.group, resource, verb) for verb in ("get", "list"))
        if permission.verb == "create":
            yield Permission(permission.group, resource, "delete")
            if permission.group == CHAOS_GROUP:
                yield Permission(permission.group, resource, "patch")
