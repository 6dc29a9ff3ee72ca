"""What a Kubernetes client asks before anything else: version, groups, resources.

In: the kinds that are served. Out: JSON documents in the legacy form, which every client takes.
"""

from __future__ import annotations

from otel_control_gym.stands.twin.objects import KINDS, Kind, Object

__all__ = ("document", "version")

_HOUR = "1970-01-01T00:00:00Z"


def version() -> Object:
    """Return the answer to GET /version."""
    return {
        "major": "1",
        "minor": "36",
        "gitVersion": "v1.36.2",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": _HOUR,
        "goVersion": "go1.26",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def document(path: str) -> Object | None:
    """Return the discovery document at a path (`/api`, `/apis`, `/api/v1`, `/apis/<group>[/<version>]`), or None."""
    parts = path.strip("/").split("/")
    match parts:
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(kind) for kind in KINDS if kind.group]
            unique = {group["name"]: group for group in groups}
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": list(unique.values())}
        case ["api", "v1"]:
            return _resources("", "v1")
        case ["apis", group]:
            found = next((_group(kind) for kind in KINDS if kind.group == group and group), None)
            return None if found is None else {"kind": "APIGroup", "apiVersion": "v1", **found}
        case ["apis", group, version_]:
            return _resources(group, version_)
        case _:
            return None


def _group(kind: Kind) -> Object:
    named = {"groupVersion": kind.api_version, "version": kind.version}
    return {"name": kind.group, "versions": [named], "preferredVersion": named}


def _resources(group: str, version_: str) -> Object | None:
    kinds = [kind for kind in KINDS if (kind.group, kind.version) == (group, version_)]
    if not kinds:
        return None
    entries: list[Object] = []
    for kind in kinds:
        entries.append(
            {
                "name": kind.plural,
                "singularName": kind.kind.lower(),
                "namespaced": kind.namespaced,
                "kind": kind.kind,
                "verbs": list(kind.verbs),
                "shortNames": list(kind.short_names),
            }
        )
        if kind.scale:
            entries.append(
                {
                    "name": f"{kind.plural}/scale",
                    "singularName": "",
                    "namespaced": True,
                    "group": "autoscaling",
                    "version": "v1",
                    "kind": "Scale",
                    "verbs": ["get", "patch", "update"],
                }
            )
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version_}" if group else version_,
        "resources": entries,
    }
