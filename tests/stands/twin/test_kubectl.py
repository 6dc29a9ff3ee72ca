"""A stock kubectl works against the twin's API, and reads from it what it would read from a small cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import pytest

from otel_control_gym.stands.twin.objects import CONFIG_MAP, DEPLOYMENT, POD, REPLICA_SET
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl isn't on the path")
NAMESPACE = "otel-demo"


class Kubectl(Protocol):
    """Runs kubectl to its end while the cluster lives, and returns what it printed."""

    async def __call__(self, *arguments: str, given: Any = None, fails: bool = False) -> str: ...


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:
    async with KubernetesServer(cluster.control_plane).open() as address:
        yield address


@pytest.fixture
def kubectl(url: str, cluster: Cluster, tmp_path: Path) -> Kubectl:
    configuration = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "twin", "cluster": {"server": url}}],
        "contexts": [{"name": "twin", "context": {"cluster": "twin", "namespace": NAMESPACE, "user": "nobody"}}],
        "users": [{"name": "nobody", "user": {}}],
        "current-context": "twin",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(configuration))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(path)}

    async def live(done: anyio.Event) -> None:
        while not done.is_set():
            cluster.live(0.5)
            await anyio.sleep(0.01)  # the pace of the cluster beside kubectl's process

    async def run(*arguments: str, given: Any = None, fails: bool = False) -> str:
        assert KUBECTL is not None
        done = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(live, done)
            with anyio.fail_after(60):
                ended = await anyio.run_process(
                    [KUBECTL, *arguments],
                    input=b"" if given is None else json.dumps(given).encode(),
                    stderr=subprocess.STDOUT,
                    check=False,
                    env=environment,
                )
            done.set()
        printed = ended.stdout.decode()
        assert (ended.returncode != 0) is fails, printed
        return printed

    return run


def cart(cluster: Cluster) -> Any:
    return cluster.control_plane.store.get(DEPLOYMENT, NAMESPACE, "cart")


async def test_get_prints_the_columns_of_each_kind(kubectl: Kubectl, cluster: Cluster) -> None:
    lines = [line.split() for line in (await kubectl("get", "deploy")).splitlines()]
    assert lines[0] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert lines[1][:4] == ["cart", "4/4", "4", "4"]
    assert lines[1][4] == "120m"
    pods = (await kubectl("get", "pods", "-o", "wide")).splitlines()
    assert pods[0].split() == [
        "NAME",
        "READY",
        "STATUS",
        "RESTARTS",
        "AGE",
        "IP",
        "NODE",
        "NOMINATED",
        "NODE",
        "READINESS",
        "GATES",
    ]
    assert all(line.split()[1:4] == ["1/1", "Running", "0"] for line in pods[1:])
    everything = await kubectl("get", "all")
    assert all(f"{name}/" in everything for name in ("pod", "service", "deployment.apps", "replicaset.apps"))
    assert "node-0   Ready    control-plane" in await kubectl("get", "nodes")
    assert "helm.sh/release.v1" in await kubectl("get", "secrets")
    assert "kube-system" in await kubectl("get", "namespaces")
    names = (await kubectl("get", "deploy", "-o", "name", "--sort-by=.metadata.name")).split()
    assert names == ["deployment.apps/cart", "deployment.apps/frontend", "deployment.apps/valkey-cart"]
    assert json.loads(await kubectl("get", "deploy", "cart", "-o", "json")) == cart(cluster)
    assert "clusterIP: 10.96.0.22" in await kubectl("get", "svc", "cart", "-o", "yaml")


async def test_describe_shows_conditions_replica_sets_and_events(kubectl: Kubectl, cluster: Cluster) -> None:
    await kubectl("scale", "deploy/cart", "--replicas=5")
    cluster.settle()
    described = await kubectl("describe", "deploy", "cart")
    assert "5 desired | 5 updated | 5 total | 5 available | 0 unavailable" in described
    assert "Progressing    True    NewReplicaSetAvailable" in described
    assert "ScalingReplicaSet" in described
    (pod, *_) = cluster.control_plane.store.objects(POD, NAMESPACE)
    described = await kubectl("describe", "pod", pod["metadata"]["name"])
    assert "Status:" in described
    assert pod["status"]["podIP"] in described
    assert "TargetPort:" in await kubectl("describe", "svc", "cart")
    assert "Allocatable:" in await kubectl("describe", "node", "node-0")
    assert "deployment/cart" in await kubectl("get", "events")


async def test_a_rollout_is_followed_undone_paused_and_resumed(kubectl: Kubectl, cluster: Cluster) -> None:
    await kubectl("rollout", "restart", "deploy/cart")
    assert 'deployment "cart" successfully rolled out' in await kubectl("rollout", "status", "deploy/cart")
    await kubectl("set", "image", "deploy/cart", "cart=ghcr.io/open-telemetry/demo:2.2.1-cart")
    await kubectl("rollout", "status", "deploy/cart")
    assert [line.split()[0] for line in (await kubectl("rollout", "history", "deploy/cart")).splitlines()[2:5]] == [
        "1",
        "2",
        "3",
    ]
    assert "Image:\tghcr.io/open-telemetry/demo:2.2.1-cart" in await kubectl(
        "rollout", "history", "deploy/cart", "--revision=3"
    )
    await kubectl("rollout", "undo", "deploy/cart", "--to-revision=1")
    await kubectl("rollout", "status", "deploy/cart")
    assert cart(cluster)["spec"]["template"]["spec"]["containers"][0]["image"].endswith("2.2.0-cart")
    assert cart(cluster)["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "4"
    await kubectl("rollout", "pause", "deploy/cart")
    sets = len(cluster.control_plane.store.objects(REPLICA_SET, NAMESPACE))
    await kubectl("set", "env", "deploy/cart", "COLOUR=red")
    await kubectl("set", "resources", "deploy/cart", "--limits=cpu=700m")
    assert "can't restart paused deployment" in await kubectl("rollout", "restart", "deploy/cart", fails=True)
    assert len(cluster.control_plane.store.objects(REPLICA_SET, NAMESPACE)) == sets
    await kubectl("rollout", "resume", "deploy/cart")
    await kubectl("rollout", "status", "deploy/cart")
    container = cart(cluster)["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "COLOUR", "value": "red"} in container["env"]
    assert container["resources"]["limits"] == {"cpu": "700m", "memory": "160Mi"}
    await kubectl("set", "env", "deploy/cart", "COLOUR-")
    assert "COLOUR" not in [one["name"] for one in cart(cluster)["spec"]["template"]["spec"]["containers"][0]["env"]]


async def test_an_image_that_does_not_exist_is_seen_and_undone(kubectl: Kubectl, cluster: Cluster) -> None:
    await kubectl("set", "image", "deploy/cart", "cart=example.org/cart:2")
    assert "exceeded its progress deadline" in await kubectl("rollout", "status", "deploy/cart", fails=True)
    assert "ImagePullBackOff" in await kubectl("get", "pods")
    assert "3/4" in await kubectl("get", "deploy", "cart"), "25 % may be unavailable, the others serve on"
    await kubectl("rollout", "undo", "deploy/cart")
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/cart")
    assert "4/4" in await kubectl("get", "deploy", "cart")
    assert cart(cluster)["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


async def test_all_kinds_of_patch_labels_and_annotations_reach_the_object(kubectl: Kubectl, cluster: Cluster) -> None:
    for kind, patch in (
        ("merge", {"spec": {"replicas": 3}}),
        ("strategic", {"spec": {"minReadySeconds": 1}}),
        ("json", [{"op": "replace", "path": "/spec/revisionHistoryLimit", "value": 3}]),
    ):
        assert "patched" in await kubectl("patch", "deploy", "cart", f"--type={kind}", "-p", json.dumps(patch))
    spec = cart(cluster)["spec"]
    assert (spec["replicas"], spec["minReadySeconds"], spec["revisionHistoryLimit"]) == (3, 1, 3)
    await kubectl("annotate", "deploy/cart", "note=one")
    await kubectl("label", "svc/cart", "tier=back")
    assert cart(cluster)["metadata"]["annotations"]["note"] == "one"
    assert "cart" in await kubectl("get", "svc", "-l", "tier=back")
    assert "is forbidden" in await kubectl("patch", "svc", "cart", "-p", '{"spec":{"selector":{"a":"b"}}}', fails=True)


async def test_apply_creates_changes_and_removes_fields(kubectl: Kubectl, cluster: Cluster) -> None:
    settings: Any = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    settings["data"] = {"a": "1", "b": "2"}
    assert "created (server dry run)" in await kubectl("apply", "-f", "-", "--dry-run=server", given=settings)
    assert cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "settings") is None
    assert "created" in await kubectl("apply", "-f", "-", given=settings)
    assert "unchanged" in await kubectl("apply", "-f", "-", given=settings)
    settings["data"] = {"a": "3"}
    assert "configured" in await kubectl("apply", "-f", "-", given=settings)
    stored = cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "settings")
    assert stored is not None
    assert stored["data"] == {"a": "3"}
    assert "AlreadyExists" in await kubectl("create", "-f", "-", given=settings, fails=True)
    settings["dada"] = {}
    assert 'unknown field "dada"' in await kubectl("create", "-f", "-", given=settings, fails=True)
    warned = await kubectl("apply", "--validate=warn", "-f", "-", given=settings)
    assert 'Warning: unknown field "dada"' in warned
    assert 'configmap "settings" deleted' in await kubectl("delete", "cm", "settings")


async def test_a_deployment_is_deleted_and_applied_again_and_may_have_a_canary(
    kubectl: Kubectl, cluster: Cluster
) -> None:
    manifest = json.loads(await kubectl("get", "deploy", "cart", "-o", "json"))
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        del manifest["metadata"][key]
    await kubectl("delete", "deploy", "cart")
    assert cart(cluster) is None
    await kubectl("apply", "-f", "-", given=manifest)
    assert "condition met" in await kubectl("wait", "deploy/cart", "--for=condition=Available", "--timeout=60s")
    manifest["metadata"]["name"] = "cart-canary"
    manifest["spec"]["replicas"] = 1
    await kubectl("create", "-f", "-", given=manifest)
    await kubectl("rollout", "status", "deploy/cart-canary")
    manifest["metadata"]["name"] = "else"
    manifest["spec"]["selector"] = {"matchLabels": {"app": "else"}}
    manifest["spec"]["template"]["metadata"] = {"labels": {"app": "else"}}
    assert "run the services of the application only" in await kubectl("create", "-f", "-", given=manifest, fails=True)


async def test_bodies_in_protocol_buffers_are_read(kubectl: Kubectl, cluster: Cluster) -> None:
    assert "created" in await kubectl("create", "configmap", "a", "--from-literal=x=1", "--from-literal=y=")
    stored = cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "a")
    assert stored is not None
    assert stored["data"] == {"x": "1", "y": ""}
    await kubectl("scale", "deploy/cart", "--current-replicas=4", "--replicas=2")
    assert cart(cluster)["spec"]["replicas"] == 2
    refused = await kubectl("scale", "deploy/cart", "--current-replicas=4", "--replicas=3", fails=True)
    assert "Expected replicas to be 4, was 2" in refused
    assert "unknown format" in await kubectl("create", "deployment", "web", "--image=x", fails=True)


async def test_a_pod_is_watched_until_it_is_gone(kubectl: Kubectl, cluster: Cluster) -> None:
    (pod, *_) = cluster.control_plane.store.objects(POD, NAMESPACE)
    name = pod["metadata"]["name"]
    assert f'pod "{name}" deleted' in await kubectl("delete", "pod", name)
    assert cluster.control_plane.store.get(POD, NAMESPACE, name) is None
    assert "NotFound" in await kubectl("get", "pod", name, fails=True)


async def test_get_w_prints_each_change_as_a_row(
    kubectl: Kubectl, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, begun = cluster.control_plane.store, anyio.Event()
    open_watch = store.watch

    def noted(*arguments: Any, **options: Any) -> Any:
        begun.set()
        return open_watch(*arguments, **options)

    monkeypatch.setattr(store, "watch", noted)

    async def change() -> None:
        await begun.wait()
        draft = store.draft(DEPLOYMENT, NAMESPACE, "cart")
        draft["spec"]["replicas"] = 6
        draft["metadata"]["generation"] += 1
        store.update(DEPLOYMENT, draft)

    async with anyio.create_task_group() as group:
        group.start_soon(change)
        printed = await kubectl("get", "deploy", "-w", "--request-timeout=2s")
    assert "cart          4/6" in printed


async def test_chaos_is_created_listed_and_refused_as_by_its_webhook(kubectl: Kubectl) -> None:
    chaos: Any = {"apiVersion": "chaos-mesh.org/v1alpha1", "kind": "StressChaos", "metadata": {"name": "busy"}}
    chaos["spec"] = {"mode": "all", "selector": {"labelSelectors": {"opentelemetry.io/name": "cart"}}}
    chaos["spec"] |= {"stressors": {"cpu": {"workers": 1, "load": 50}}, "duration": "30s"}
    assert "created" in await kubectl("apply", "-f", "-", given=chaos)
    assert (await kubectl("get", "stresschaos")).split() == ["NAME", "DURATION", "busy", "30s"]
    await kubectl("wait", "stresschaos/busy", "--for=condition=AllInjected", "--timeout=30s")
    chaos["spec"]["duration"] = "40s"
    assert "Cannot update chaos spec" in await kubectl("apply", "-f", "-", given=chaos, fails=True)
    await kubectl("delete", "stresschaos", "busy")


async def test_what_cannot_be_is_refused_in_kubernetes_words(kubectl: Kubectl) -> None:
    negative = '{"spec":{"replicas":-1}}'
    refused = await kubectl("patch", "deploy", "cart", "-p", negative, fails=True)
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in refused
    refused = await kubectl("patch", "deploy", "cart", "-p", '{"spec":{"replicas":"x"}}', fails=True)
    assert "cannot unmarshal string into Go struct field Deployment.spec.replicas of type int32" in refused
    assert 'the server doesn\'t have a resource type "jobs"' in await kubectl("get", "jobs", fails=True)


async def test_an_autoscaler_is_made_shown_waited_for_and_bounded(kubectl: Kubectl) -> None:
    assert "autoscaled" in await kubectl("autoscale", "deploy/cart", "--min=2", "--max=6", "--cpu-percent=60")
    lines = [line.split() for line in (await kubectl("get", "hpa")).splitlines()]
    assert lines[0] == ["NAME", "REFERENCE", "TARGETS", "MINPODS", "MAXPODS", "REPLICAS", "AGE"]
    assert lines[1][:3] == ["cart", "Deployment/cart", "cpu:"]
    assert lines[1][3].endswith("/60%")
    assert lines[1][4:6] == ["2", "6"]
    described = await kubectl("describe", "hpa", "cart")
    assert "resource cpu on pods  (as a percentage of request):" in described
    assert "Max replicas:                                          6" in described
    old = json.loads(await kubectl("get", "horizontalpodautoscalers.v1.autoscaling", "cart", "-o", "json"))
    assert old["spec"]["targetCPUUtilizationPercentage"] == 60
    await kubectl("label", "hpa/cart", "tier=back")
    refused = await kubectl("patch", "hpa/cart", "-p", '{"spec":{"maxReplicas":1}}', fails=True)
    assert "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`" in refused
    await kubectl("patch", "hpa/cart", "-p", '{"spec":{"maxReplicas":7}}')
    await kubectl("wait", "hpa/cart", "--for=jsonpath={.spec.maxReplicas}=7", "--timeout=10s")
    assert 'horizontalpodautoscaler.autoscaling "cart" deleted' in await kubectl("delete", "hpa", "cart")


async def test_apply_on_the_server_tells_conflicts_and_forces_them(kubectl: Kubectl, cluster: Cluster) -> None:
    wanted: Any = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"}, "spec": {"replicas": 3}}
    refused = await kubectl("apply", "--server-side", "-f", "-", given=wanted, fails=True)
    assert 'conflict with "helm" using apps/v1: .spec.replicas' in refused
    await kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=wanted)
    assert cart(cluster)["spec"]["replicas"] == 3
    await kubectl("scale", "deploy/cart", "--replicas=5")
    refused = await kubectl("apply", "--server-side", "-f", "-", given=wanted, fails=True)
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas' in refused
    shown = await kubectl("get", "deploy", "cart", "-o", "yaml", "--show-managed-fields")
    assert all(text in shown for text in ("manager: helm", "subresource: scale", "f:replicas: {}"))


async def test_a_manifest_applied_by_the_client_moves_to_the_server(kubectl: Kubectl, cluster: Cluster) -> None:
    settings: Any = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    settings["data"] = {"a": "1", "b": "2"}
    await kubectl("apply", "-f", "-", given=settings)
    settings["data"] = {"a": "3"}
    assert "serverside-applied" in await kubectl("apply", "--server-side", "-f", "-", given=settings)
    stored = cluster.control_plane.store.get(CONFIG_MAP, NAMESPACE, "settings")
    assert stored is not None
    assert stored["data"] == {"a": "3"}, "what the client had applied is taken back by the server"
    managers = {entry["manager"] for entry in stored["metadata"]["managedFields"]}  # their order is that of their times
    assert managers == {"kubectl", "kubectl-last-applied"}


async def test_a_deletion_cascades_as_it_is_told(kubectl: Kubectl, cluster: Cluster) -> None:
    store = cluster.control_plane.store
    manifest = json.loads(await kubectl("get", "deploy", "cart", "-o", "json"))
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation"):
        del manifest["metadata"][key]
    pods = {pod["metadata"]["name"] for pod in store.objects(POD, NAMESPACE)}
    assert 'deployment.apps "cart" deleted' in await kubectl("delete", "deploy", "cart", "--cascade=orphan")
    assert {pod["metadata"]["name"] for pod in store.objects(POD, NAMESPACE)} == pods
    await kubectl("create", "-f", "-", given=manifest)
    assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/cart")
    assert {pod["metadata"]["name"] for pod in store.objects(POD, NAMESPACE)} == pods
    await kubectl("delete", "deploy", "cart", "--cascade=foreground")
    assert not [pod for pod in store.objects(POD, NAMESPACE) if pod["metadata"]["name"].startswith("cart-")]


async def test_a_canary_is_put_behind_a_route(kubectl: Kubectl, cluster: Cluster) -> None:
    service: Any = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "frontend-canary"}}
    service["spec"] = {"selector": {"track": "canary"}, "ports": [{"port": 8080}]}
    parent = {"group": "", "kind": "Service", "name": "frontend", "port": 8080}
    backends = [
        {"name": "frontend", "port": 8080, "weight": 90},
        {"name": "frontend-canary", "port": 8080, "weight": 10},
    ]
    route: Any = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "frontend"}}
    route["spec"] = {"parentRefs": [parent], "rules": [{"backendRefs": backends}]}
    canary = json.loads(await kubectl("get", "deploy", "frontend", "-o", "json"))
    canary["metadata"] = {"name": "frontend-canary"}
    del canary["status"]
    canary["spec"] |= {"replicas": 1, "selector": {"matchLabels": {"track": "canary"}}}
    canary["spec"]["template"]["metadata"]["labels"]["track"] = "canary"
    for manifest in (service, canary, route):
        assert "created" in await kubectl("apply", "-f", "-", given=manifest)
    await kubectl("rollout", "status", "deploy/frontend-canary")
    assert [line.split()[0] for line in (await kubectl("get", "httproute")).splitlines()] == ["NAME", "frontend"]
    weight = '[{"op":"replace","path":"/spec/rules/0/backendRefs/1/weight","value":50}]'
    await kubectl("patch", "httproute", "frontend", "--type=json", "-p", weight)
    assert "Weight:  50" in await kubectl("describe", "httproute", "frontend")
    assert "topology" in await kubectl("delete", "svc", "frontend", fails=True)
    for kind, name in (("httproute", "frontend"), ("svc", "frontend-canary"), ("deploy", "frontend-canary")):
        assert "deleted" in await kubectl("delete", kind, name)


@pytest.mark.skipif(shutil.which("diff") is None, reason="kubectl diff calls diff")
async def test_diff_shows_what_an_apply_would_change(kubectl: Kubectl, cluster: Cluster) -> None:
    wanted: Any = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cart"}, "spec": {"replicas": 3}}
    version = cluster.control_plane.resource_version
    for options in ((), ("--server-side", "--force-conflicts")):
        shown = await kubectl(
            "diff", *options, "-f", "-", given=wanted, fails=True
        )  # it ends with 1 if there is a difference
        assert "-  replicas: 4" in shown
        assert "+  replicas: 3" in shown
    assert cluster.control_plane.resource_version == version
