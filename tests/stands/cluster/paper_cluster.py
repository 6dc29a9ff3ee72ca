"""A cluster on paper, as far as an installation needs one: an API server that keeps objects, a `helm` that brings those of its charts.

What it does: create, read, server-side apply (of whole objects), merge patch, delete with finalizers, namespaces that take what is in them
along, custom resources that are served once they are defined. Pods don't exist here unless a test puts them there; a workload is ready
at once, unless its name is in `hanging`. What it does not: validate, authenticate, keep two managers' fields apart.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from otel_control_gym.stands.cluster.inspection import CRDS
from otel_control_gym.stands.cluster.parts import COROOT, workloads_of
from otel_control_gym.stands.twin.servers.listening import listen

Object = dict[str, Any]

HELM = """#!{python} -IS
import http.client, json, pathlib, sys
home = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (home / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(words) + "\\n")
state = home / "releases.json"
releases = json.loads(state.read_text()) if state.exists() else []
broken = home / "broken"
if broken.exists() and words[0] == broken.read_text():
    sys.exit("Error: " + words[0] + " didn't work")
def tell(verb, name):
    connection = http.client.HTTPConnection((home / "url").read_text().removeprefix("http://"))
    connection.request("POST", "/_helm/" + verb + "/" + name)
    connection.getresponse().read()
if words[0] == "version":
    print((home / "version").read_text())
elif words[0] == "list":
    print(json.dumps(releases))
elif words[0] == "pull":
    version = words[words.index("--version") + 1]
    folder = pathlib.Path(words[words.index("--destination") + 1])
    (folder / (words[1] + "-" + version + ".tgz")).write_text(words[1])
elif words[0] == "upgrade":
    name, archive = words[2], pathlib.Path(words[3])
    kept = home / "values" / name
    kept.mkdir(parents=True, exist_ok=True)
    for number, word in enumerate(words):
        if word == "--values":
            path = pathlib.Path(words[number + 1])
            (kept / path.name).write_text(path.read_text())
    namespace = words[words.index("--namespace") + 1]
    others = [release for release in releases if release["name"] != name]
    entry = dict(name=name, namespace=namespace, chart=archive.name.removesuffix(".tgz"), status="deployed", revision="1")
    entry["described"] = words[words.index("--description") + 1]
    state.write_text(json.dumps([*others, entry]))
    tell("upgrade", name)
elif words[0] == "history":
    (release,) = (release for release in releases if release["name"] == words[1])
    print(json.dumps([dict(revision=1, status=release["status"], description=release.get("described", ""))]))
elif words[0] == "uninstall":
    state.write_text(json.dumps([release for release in releases if release["name"] != words[1]]))
    tell("uninstall", words[1])
"""


class PaperCluster:
    """Keeps objects by their path."""

    def __init__(self, home: Path, services: Iterable[str]) -> None:
        self.home = home
        self.objects: dict[str, Object] = {}
        self.deleted: list[str] = []  #: paths, in the order in which somebody asked for it
        self.hanging: set[str] = set()  #: workloads that don't get ready
        self.controllers = True  #: somebody takes chaos objects back that are to be deleted
        self.workloads = workloads_of(services)
        self.put("api/v1/nodes/one", spec={}, status={"nodeInfo": {"kubeletVersion": "v1.35.5"}})

    def put(self, path: str, **fields: Any) -> Object:
        """Put an object somewhere."""
        item = {"metadata": {"name": path.rpartition("/")[2], **fields.pop("metadata", {})}, **fields}
        self.objects[path] = item
        return item

    def labels(self, path: str) -> dict[str, str]:
        """Return the labels of an object."""
        found: dict[str, str] = self.objects[path]["metadata"].get("labels", {})
        return found

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/_helm/{verb}/{name}", self._helm)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    def releases(self, *given: Object) -> list[Object]:
        """Return what helm has installed, or say it."""
        state = self.home / "releases.json"
        if given:
            state.write_text(json.dumps(given))
        return list(json.loads(state.read_text())) if state.exists() else []

    @property
    def calls(self) -> list[list[str]]:
        """Return the words of each call of helm."""
        file = self.home / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    async def _helm(self, request: web.Request) -> web.Response:
        name, groups = request.match_info["name"], {"chaos-mesh": "chaos-mesh.org", "coroot-operator": "coroot.com"}
        namespace = {"coroot-operator": COROOT}.get(name, name)
        names = [item for item in self.workloads.get(namespace, ()) if name != "coroot-operator" or item == name]
        upgraded = request.match_info["verb"] == "upgrade"
        for item in names:
            path = f"apis/apps/v1/namespaces/{namespace}/deployments/{item}"
            if upgraded:
                self.put(path, **self._deployed(item))
            elif name != "coroot" or item != "coroot-operator":
                self.objects.pop(path, None)
        for plural in CRDS[groups[name]] if name in groups and upgraded else ():
            self._define(plural, groups[name])
        if name == "chaos-mesh":
            hook = {"clientConfig": {"service": {"namespace": "chaos-mesh"}}}
            place = "apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/chaos-mesh-validation"
            self.put(place, webhooks=[hook])  # Helm removes it by itself: a test sees that nobody relies on that
        return web.Response()

    def _define(self, plural: str, group: str) -> None:
        path = f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}"
        if path not in self.objects:
            conditions = [{"type": "Established", "status": "True"}]
            self.put(path, spec={"group": group, "names": {"plural": plural}}, status={"conditions": conditions})

    def _deployed(self, name: str) -> Object:
        count = 0 if name in self.hanging else 1
        status = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": count}
        return {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": status}

    async def _handle(self, request: web.Request) -> web.Response:
        path = request.match_info["path"].rstrip("/")
        if path == "version":
            return web.json_response({"gitVersion": "v1.35.5"})
        if path.endswith("selfsubjectaccessreviews"):
            return web.json_response({"status": {"allowed": True}}, status=201)
        if request.method == "GET":
            return self._read(path)
        if request.method == "DELETE":
            return self._delete(path)
        body = json.loads(await request.text())  # JSON is what is sent, also where YAML may be
        if request.method == "POST":
            path = f"{path}/{body['metadata']['name']}"
        if request.content_type == "application/merge-patch+json":
            if path not in self.objects:
                return _refused(404, path)
            if (
                "/chaos-mesh.org/" in f"/{path}"
                and not self.controllers
                and any("webhookconf" in key for key in self.objects)
            ):
                return _refused(500, "failed calling webhook: nobody answers")
            self.objects[path] = _merged(self.objects[path], body)
            self._collect(path)
            return web.json_response(self.objects.get(path, {}))
        namespace = body["metadata"].get("namespace")
        if namespace and f"api/v1/namespaces/{namespace}" not in self.objects:
            return _refused(404, f'namespaces "{namespace}" not found')
        made = {**self.objects.get(path, {}), **body}
        if body["kind"] == "Deployment":
            made = {**made, **{"status": self._deployed(body["metadata"]["name"])["status"]}}
        self.objects[path] = made
        return web.json_response(made, status=201)

    def _read(self, path: str) -> web.Response:
        group = path.removeprefix("apis/").partition("/")[0]
        if group in CRDS:
            served = [name for name in CRDS[group] if self._crd(name, group) in self.objects]
            if not served:
                return _refused(404, "the server could not find the requested resource")
            if path.count("/") == 2:
                resources = [{"name": name, "namespaced": True} for name in served]
                return web.json_response({"resources": resources})
        if path in self.objects:
            return web.json_response(self.objects[path])
        plural = path.rpartition("/")[2]
        if plural.endswith("s"):
            prefix = f"{path}/"
            items = [
                item for key, item in self.objects.items() if key.startswith(prefix) and "/" not in key[len(prefix) :]
            ]
            if items or not self._named(path):
                return web.json_response({"items": items})
        return _refused(404, f"{path} not found")

    @staticmethod
    def _named(path: str) -> bool:
        """Return whether a path names one object, not all of a kind."""
        return "/customresourcedefinitions/" in path or ("/namespaces/" in f"{path}/" and path.count("/") in (3,))

    @staticmethod
    def _crd(plural: str, group: str) -> str:
        return f"apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.{group}"

    def _delete(self, path: str) -> web.Response:
        if path not in self.objects:
            return _refused(404, f"{path} not found")
        self.deleted.append(path)
        self.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        if self.controllers:
            self.objects[path]["metadata"].pop("finalizers", None)
        self._collect(path)
        return web.json_response({"kind": "Status", "status": "Success"})

    def _collect(self, path: str) -> None:
        """Take away what is to be deleted and held by nothing."""
        metadata = self.objects[path]["metadata"]
        if "deletionTimestamp" in metadata and not metadata.get("finalizers"):
            name = path.rpartition("/")[2]
            inside = (
                [key for key in self.objects if f"/namespaces/{name}/" in key]
                if path == f"api/v1/namespaces/{name}"
                else []
            )
            held = [key for key in inside if self.objects[key]["metadata"].get("finalizers")]
            for key in [key for key in (path, *inside) if not held or key not in (path, *held)]:
                del self.objects[key]


def _merged(item: Object, change: Object) -> Object:
    found = dict(item)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = _merged(found.get(key) or {}, value) if isinstance(value, dict) else value
    return found


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "message": message}, status=status)


def kubeconfig_of(url: str, file: Path) -> Path:
    """Write a kubeconfig that leads to a server."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bare",
        "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": "admin"}}],
        "clusters": [{"name": "bare", "cluster": {"server": url}}],
        "users": [{"name": "admin", "user": {"token": "of-an-administrator"}}],
    }
    file.write_text(yaml.safe_dump(document))
    return file


@asynccontextmanager
async def paper_cluster(home: Path, services: Iterable[str]) -> AsyncIterator[tuple[PaperCluster, Path]]:
    """Serve a cluster; give it, and a kubeconfig that leads there. A `helm` for it lies in `home`."""
    cluster = PaperCluster(home, services)
    program = home / "helm"
    program.write_text(HELM.replace("{python}", sys.executable))
    program.chmod(0o755)
    (home / "version").write_text("v3.16.0+g0000000")
    async with listen(cluster.application()) as url:
        (home / "url").write_text(url)
        yield cluster, kubeconfig_of(url, home / "kubeconfig")
