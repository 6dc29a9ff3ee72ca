"""What a Kubernetes client asks before anything else: version, groups, resources, and which parameters a patch takes.

In: the kinds that are served. Out: JSON documents. Discovery comes in two forms: one list of everything (aggregated, `/api` and `/apis` of
clients that ask for it), and a document a group (legacy, which every client takes). The OpenAPI document is minimal: it says that writes
take `fieldValidation`, so kubectl leaves the validation to the server, and holds no schemas (only `kubectl explain` reads them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_control_gym.stands.twin.objects import SERVED, Kind, Object

__all__ = ("aggregated", "document", "openapi", "version")

_HOUR = "1970-01-01T00:00:00Z"
_OPENAPI = "/openapi/v3"
_SUBRESOURCE_VERBS = ("get", "patch", "update")
_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}


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


def aggregated(path: str) -> Object | None:
    """Return the list of all groups and resources under `/api` or `/apis`, or None for any other path."""
    if path not in ("/api", "/apis"):
        return None
    kinds = [kind for kind in SERVED if bool(kind.group) is (path == "/apis")]
    items = [
        {
            "metadata": {"name": group, "creationTimestamp": None},
            "versions": [
                {
                    "version": version_,
                    "freshness": "Current",
                    "resources": [
                        _aggregated_resource(kind) for kind in kinds if (kind.group, kind.version) == (group, version_)
                    ],
                }
                for version_ in versions
            ],
        }
        for group, versions in _versions(kinds).items()
    ]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def document(path: str) -> Object | None:
    """Return the discovery document at a path (`/api`, `/apis`, `/api/v1`, `/apis/<group>[/<version>]`), or None."""
    parts = path.strip("/").split("/")
    match parts:
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(group, versions) for group, versions in _versions(SERVED).items() if group]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api", "v1"]:
            return _resources("", "v1")
        case ["apis", group]:
            versions = _versions(SERVED).get(group)
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)} if versions and group else None
        case ["apis", group, version_]:
            return _resources(group, version_)
        case _:
            return None


def openapi(path: str) -> Object | None:
    """Return the index at `/openapi/v3`, or the document of a group and version under it, or None."""
    places = {f"{'apis' if kind.group else 'api'}/{kind.api_version}": kind.api_version for kind in SERVED}
    if path == _OPENAPI:
        urls = {place: {"serverRelativeURL": f"{_OPENAPI}/{place}?hash=twin"} for place in places}
        return {"paths": urls}
    wanted = places.get(path.removeprefix(f"{_OPENAPI}/"))
    if wanted is None or not path.startswith(_OPENAPI):
        return None
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.2"},
        "paths": dict(_openapi_path(kind) for kind in SERVED if kind.api_version == wanted),
        "components": {"schemas": {}},
    }


def _openapi_path(kind: Kind) -> tuple[str, Object]:
    """Return the path of a kind's objects, with the operation that clients look at to learn what writes take."""
    names = ("fieldManager", "fieldValidation", "dryRun")
    query = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    patch = {
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "parameters": query,
        "responses": {"200": {"description": "OK"}},
    }
    place = "namespaces/{namespace}/" if kind.namespaced else ""
    return f"/{'apis' if kind.group else 'api'}/{kind.api_version}/{place}{kind.plural}/{{name}}", {"patch": patch}


def _subresources(kind: Kind) -> Iterator[tuple[str, Object]]:
    """Yield name and type of a kind's sub-resources."""
    if kind.scale:
        yield "scale", _SCALE
    if kind.status:
        yield "status", {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _subresource_verbs(kind: Kind) -> list[str]:
    return [verb for verb in _SUBRESOURCE_VERBS if verb in kind.verbs]


def _aggregated_resource(kind: Kind) -> Object:
    described: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.kind.lower(),
        "verbs": list(kind.verbs),
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
    }
    subresources = [
        {"subresource": name, "responseKind": type_, "verbs": _subresource_verbs(kind)}
        for name, type_ in _subresources(kind)
    ]
    return described | ({"subresources": subresources} if subresources else {})


def _versions(kinds: Iterable[Kind]) -> dict[str, list[str]]:
    """Return the versions of each group, the preferred one (that of storage) first."""
    found: dict[str, list[str]] = {}
    for kind in kinds:
        versions = found.setdefault(kind.group, [])
        if kind.version not in versions:
            versions.append(kind.version)
    return found


def _group(group: str, versions: Iterable[str]) -> Object:
    named = [{"groupVersion": f"{group}/{version_}", "version": version_} for version_ in versions]
    return {"name": group, "versions": named, "preferredVersion": named[0]}


def _resources(group: str, version_: str) -> Object | None:
    kinds = [kind for kind in SERVED if (kind.group, kind.version) == (group, version_)]
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
                "categories": list(kind.categories),
            }
        )
        for name, type_ in _subresources(kind):
            entry = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
            entries.append(entry | type_ | {"verbs": _subresource_verbs(kind)})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version_}" if group else version_,
        "resources": entries,
    }
