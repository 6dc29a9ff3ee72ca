"""Real clients over real HTTP see a Kubernetes API: lists, watches, patches, refusals."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest

from otel_control_gym.stands.twin.objects import DEPLOYMENT, Kind
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster, Install

PODS = "/api/v1/namespaces/otel-demo/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
STRESS = "/apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo/stresschaos"
MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
CPU: dict[str, Any] = {"mode": "all", "selector": {"labelSelectors": {"opentelemetry.io/name": "cart"}}}
CPU |= {"stressors": {"cpu": {"workers": 1, "load": 100}}}


@pytest.fixture
async def url(cluster: Cluster) -> AsyncIterator[str]:
    async with KubernetesServer(cluster.control_plane).open() as address:
        yield address


@pytest.fixture
async def http(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(url) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str, **query: str) -> Any:
    async with http.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def refused(answer: aiohttp.ClientResponse, code: int, reason: str) -> str:
    """Check that an answer is a Status of that code and return its message."""
    status = await answer.json()
    assert (answer.status, status["kind"], status["status"]) == (code, "Status", "Failure")
    assert (status["code"], status["reason"]) == (code, reason)
    return str(status["message"])


async def line_of(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(await answer.content.readline())
    return event


async def test_discovery_names_what_is_served(http: aiohttp.ClientSession) -> None:
    assert (await get(http, "/version"))["gitVersion"] == "v1.36.2"
    assert (await get(http, "/api"))["versions"] == ["v1"]
    groups = {group["name"] for group in (await get(http, "/apis"))["groups"]}
    assert groups == {"apps", "autoscaling", "chaos-mesh.org", "coordination.k8s.io", "gateway.networking.k8s.io"}
    names = {entry["name"] for entry in (await get(http, "/apis/chaos-mesh.org/v1alpha1"))["resources"]}
    assert names == {"stresschaos", "networkchaos", "podchaos", "podnetworkchaos", "podnetworkchaos/status"}
    assert "deployments/scale" in {entry["name"] for entry in (await get(http, "/apis/apps/v1"))["resources"]}
    async with http.get("/readyz") as answer:
        assert await answer.text() == "ok"


async def test_lists_and_objects_carry_what_the_store_holds(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    found = await get(http, PODS, labelSelector="opentelemetry.io/name in (cart),!x")
    assert (found["kind"], found["apiVersion"]) == ("PodList", "v1")
    assert found["metadata"]["resourceVersion"] == cluster.control_plane.resource_version
    assert len(found["items"]) == 4
    name = found["items"][0]["metadata"]["name"]
    assert await get(http, f"{PODS}/{name}") == found["items"][0]
    (only,) = (await get(http, "/api/v1/pods", fieldSelector=f"metadata.name={name}"))["items"]
    assert only == found["items"][0]
    namespaces = [item["metadata"]["name"] for item in (await get(http, "/api/v1/namespaces"))["items"]]
    assert namespaces == ["default", "kube-node-lease", "kube-public", "kube-system", "otel-demo"]
    services = (await get(http, "/api/v1/namespaces/otel-demo/services"))["items"]
    assert [item["spec"]["clusterIP"] for item in services] == ["10.96.0.22", "10.96.0.21", "10.96.0.23"]


async def test_a_watch_shows_changes_and_bookmarks_and_can_be_resumed(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    version = (await get(http, DEPLOYMENTS))["metadata"]["resourceVersion"]
    query = {"watch": "True", "resourceVersion": version, "allowWatchBookmarks": "True"}
    async with http.get(DEPLOYMENTS, params=query) as stream:
        async with http.patch(f"{DEPLOYMENTS}/cart/scale", json={"spec": {"replicas": 5}}, headers=MERGE) as answer:
            assert answer.status == 200
        event = await line_of(stream)
        assert (event["type"], event["object"]["spec"]["replicas"]) == ("MODIFIED", 5)
        seen = event["object"]["metadata"]["resourceVersion"]
        cluster.settle()
        async with http.post(STRESS, json={"metadata": {"name": "x"}, "spec": CPU}) as answer:
            assert answer.status == 201
        cluster.control_plane.bookmark()
        while event["type"] != "BOOKMARK":
            event = await line_of(stream)
        assert event["object"]["metadata"]["resourceVersion"] == cluster.control_plane.resource_version
        assert event["object"]["kind"] == "Deployment"
    async with http.get(DEPLOYMENTS, params=query | {"resourceVersion": seen}) as stream:
        event = await line_of(stream)
        assert event["object"]["status"]["observedGeneration"] == 2


async def test_a_watch_without_a_version_begins_with_what_is_there(http: aiohttp.ClientSession) -> None:
    async with http.get(DEPLOYMENTS, params={"watch": "1", "fieldSelector": "metadata.name=cart"}) as stream:
        event = await line_of(stream)
        assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "cart")


async def test_a_watch_ends_cleanly_after_its_time_and_at_the_end_of_the_server(cluster: Cluster) -> None:
    async with aiohttp.ClientSession() as session:
        async with KubernetesServer(cluster.control_plane).open() as address:
            query = {"watch": "true", "resourceVersion": cluster.control_plane.resource_version}
            async with session.get(address + PODS, params=query | {"timeoutSeconds": "1"}) as stream:
                assert await stream.content.read() == b""
            ending = await session.get(address + PODS, params=query)
        assert await ending.content.read() == b""
    assert cluster.control_plane.store.watches == 0


async def test_a_client_that_leaves_is_forgotten(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    query = {"watch": "true", "resourceVersion": cluster.control_plane.resource_version}
    stream = await http.get(PODS, params=query)
    assert cluster.control_plane.store.watches == 1
    stream.close()
    with anyio.fail_after(30):
        while cluster.control_plane.store.watches:
            await anyio.wait_all_tasks_blocked()


async def test_a_version_too_old_is_gone_and_one_too_new_is_not_there_yet(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    for number in range(4200):
        cluster.control_plane.store.new_suffix()
        draft = cluster.control_plane.store.draft(*_cart(cluster))
        draft["metadata"]["annotations"]["n"] = str(number)
        cluster.control_plane.store.update(_cart(cluster)[0], draft)
    async with http.get(PODS, params={"watch": "true", "resourceVersion": "1"}) as answer:
        assert "too old resource version: 1 (" in await refused(answer, 410, "Expired")
    async with http.get(PODS, params={"watch": "true", "resourceVersion": "99999999"}) as answer:
        await refused(answer, 504, "Timeout")


def _cart(cluster: Cluster) -> tuple[Kind, str, str]:
    return DEPLOYMENT, cluster.control_plane.namespace, "cart"


async def test_all_kinds_of_patch_reach_the_object(http: aiohttp.ClientSession) -> None:
    path = f"{DEPLOYMENTS}/cart"
    container: dict[str, Any] = {
        "name": "cart",
        "env": [{"name": "A", "value": "1"}],
        "resources": {"limits": {"cpu": "1"}},
    }
    strategic = {"spec": {"template": {"spec": {"containers": [container]}}}}
    async with http.patch(path, json=strategic, headers=STRATEGIC) as answer:
        (merged,) = (await answer.json())["spec"]["template"]["spec"]["containers"]
    assert merged["resources"]["limits"] == {"cpu": "1", "memory": "160Mi"}
    assert merged["env"][-1] == {"name": "A", "value": "1"}
    assert merged["image"].endswith("-cart")
    removal: dict[str, Any] = {"name": "cart", "env": [{"name": "A", "$patch": "delete"}]}
    strategic = {"spec": {"template": {"spec": {"containers": [removal]}}}}
    async with http.patch(path, json=strategic, headers=STRATEGIC) as answer:
        (merged,) = (await answer.json())["spec"]["template"]["spec"]["containers"]
    assert "A" not in [variable["name"] for variable in merged["env"]]
    async with http.patch(path, json={"metadata": {"annotations": {"note": "x"}}}, headers=MERGE) as answer:
        annotated = await answer.json()
    assert annotated["metadata"]["annotations"]["note"] == "x"
    assert annotated["metadata"]["generation"] == 4
    operations: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/annotations/note", "value": "x"},
        {"op": "remove", "path": "/metadata/annotations/note"},
    ]
    async with http.patch(path, json=operations, headers=JSON_PATCH) as answer:
        assert "note" not in (await answer.json())["metadata"]["annotations"]
    async with http.patch(path, json=operations, headers=JSON_PATCH) as answer:
        await refused(answer, 422, "Invalid")


async def test_a_stale_writer_gets_a_conflict(http: aiohttp.ClientSession) -> None:
    scale = await get(http, f"{DEPLOYMENTS}/cart/scale")
    assert scale["kind"] == "Scale"
    assert scale["status"]["selector"] == "opentelemetry.io/name=cart"
    scale["spec"]["replicas"] = 3
    async with http.put(f"{DEPLOYMENTS}/cart/scale", json=scale) as answer:
        assert (await answer.json())["spec"]["replicas"] == 3
    async with http.put(f"{DEPLOYMENTS}/cart/scale", json=scale) as answer:
        message = await refused(answer, 409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in message
    body = {"metadata": {"uid": "another"}, "spec": {"replicas": 1}}
    async with http.patch(f"{DEPLOYMENTS}/cart", json=body, headers=MERGE) as answer:
        await refused(answer, 409, "Conflict")


async def test_a_dry_run_answers_and_changes_nothing(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    version = cluster.control_plane.resource_version
    body, query = {"spec": {"replicas": 9}}, {"dryRun": "All"}
    async with http.patch(f"{DEPLOYMENTS}/cart", json=body, headers=MERGE, params=query) as answer:
        assert (await answer.json())["spec"]["replicas"] == 9
    async with http.post(STRESS, json={"metadata": {"name": "x"}, "spec": CPU}, params=query) as answer:
        assert answer.status == 201
    assert cluster.control_plane.resource_version == version


async def test_what_cannot_be_is_refused_with_a_status(http: aiohttp.ClientSession) -> None:
    async with http.get(f"{PODS}/nobody") as answer:
        assert await refused(answer, 404, "NotFound") == 'pods "nobody" not found'
    for path in ("/nowhere", "/apis/batch/v1/jobs", f"{PODS}/a/b/c", f"{PODS}/a/exec"):
        async with http.get(path) as answer:
            await refused(answer, 404, "NotFound")
    async with http.post(PODS, json={}) as answer:
        await refused(answer, 405, "MethodNotAllowed")
    async with http.patch(f"{DEPLOYMENTS}/cart/scale", json={"spec": {"replicas": -1}}, headers=MERGE) as answer:
        message = await refused(answer, 422, "Invalid")
    assert message.endswith("spec.replicas: Invalid value: -1: must be greater than or equal to 0")
    async with http.patch(f"{DEPLOYMENTS}/cart", json={}, headers={"Content-Type": "application/json"}) as answer:
        assert "application/merge-patch+json" in await refused(answer, 415, "UnsupportedMediaType")
    async with http.patch(f"{STRESS}/x", json={}, headers=STRATEGIC) as answer:
        await refused(answer, 404, "NotFound")
    async with http.patch(f"{DEPLOYMENTS}/cart", data=b"{not json", headers=MERGE) as answer:
        await refused(answer, 400, "BadRequest")
    async with http.patch(f"{DEPLOYMENTS}/cart", json=[1], headers=MERGE) as answer:
        await refused(answer, 400, "BadRequest")
    async with http.patch(f"{DEPLOYMENTS}/cart", data=io.BytesIO(b" " * (4 * 2**20)), headers=MERGE) as answer:
        await refused(answer, 413, "RequestEntityTooLarge")
    async with http.get(PODS, params={"fieldSelector": "spec.colour=red"}) as answer:
        assert await refused(answer, 400, "BadRequest") == "field label not supported: spec.colour"
    async with http.get(PODS, params={"watch": "true", "sendInitialEvents": "true"}) as answer:
        await refused(answer, 422, "Invalid")
    async with http.post(STRESS, json={"metadata": {"name": "Not_A_Name"}, "spec": CPU}) as answer:
        await refused(answer, 422, "Invalid")


async def test_a_custom_resource_takes_no_strategic_patch(http: aiohttp.ClientSession) -> None:
    async with http.post(STRESS, json={"metadata": {"name": "x"}, "spec": CPU}) as answer:
        assert answer.status == 201
    async with http.post(STRESS, json={"metadata": {"name": "x"}, "spec": CPU}) as answer:
        await refused(answer, 409, "AlreadyExists")
    async with http.patch(f"{STRESS}/x", json={}, headers=STRATEGIC) as answer:
        await refused(answer, 415, "UnsupportedMediaType")


async def test_a_deletion_heeds_its_preconditions(http: aiohttp.ClientSession) -> None:
    name = (await get(http, PODS))["items"][0]["metadata"]["name"]
    async with http.delete(f"{PODS}/{name}", json={"preconditions": {"uid": "another"}}) as answer:
        assert "Precondition failed" in await refused(answer, 409, "Conflict")
    async with http.delete(f"{PODS}/{name}", params={"gracePeriodSeconds": "7"}) as answer:
        assert (await answer.json())["metadata"]["deletionGracePeriodSeconds"] == 7


async def test_another_cluster_behind_the_same_address_ends_the_watches_of_the_first(
    cluster: Cluster, install: Install
) -> None:
    server = KubernetesServer(cluster.control_plane)
    async with server.open() as address, aiohttp.ClientSession(address) as http:
        query = {"watch": "true", "resourceVersion": cluster.control_plane.resource_version}
        stream = await http.get(PODS, params=query)
        server.control_plane = install(seed=8).control_plane
        assert await stream.content.read() == b""
        names = {item["metadata"]["name"] for item in (await get(http, PODS))["items"]}
        assert names == {view.name for view in server.control_plane.pods()}


async def test_the_official_client_sees_an_episode_of_a_cluster(url: str, cluster: Cluster) -> None:
    from kubernetes_asyncio import client, watch

    async with client.ApiClient(client.Configuration(host=url)) as connection:
        apps, core = client.AppsV1Api(connection), client.CoreV1Api(connection)
        custom = client.CustomObjectsApi(connection)
        listed = await core.list_namespaced_pod("otel-demo")
        assert len(listed.items) == 7
        assert all(pod.status.container_statuses[0].ready for pod in listed.items)
        await apps.patch_namespaced_deployment_scale("cart", "otel-demo", {"spec": {"replicas": 5}})
        annotation = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}
        written = await apps.patch_namespaced_deployment("cart", "otel-demo", {"spec": {"template": annotation}})
        await custom.create_namespaced_custom_object(
            "chaos-mesh.org", "v1alpha1", "otel-demo", "stresschaos", {"metadata": {"name": "ocg-1"}, "spec": CPU}
        )
        cluster.settle()
        read = await apps.read_namespaced_deployment("cart", "otel-demo")
        assert read.status.observed_generation >= written.metadata.generation
        assert (read.status.updated_replicas, read.status.available_replicas) == (5, 5)
        chaos = await custom.get_namespaced_custom_object(
            "chaos-mesh.org", "v1alpha1", "otel-demo", "stresschaos", "ocg-1"
        )
        assert chaos["status"]["experiment"]["desiredPhase"] == "Run"
        events = await core.list_namespaced_event("otel-demo")
        assert {"ScalingReplicaSet", "SuccessfulCreate", "Killing", "Started"} <= {item.reason for item in events.items}
        async with watch.Watch() as stream:
            version = listed.metadata.resource_version
            changes = stream.stream(core.list_namespaced_pod, "otel-demo", resource_version=version, timeout_seconds=1)
            kinds = {event["type"] async for event in changes}
        assert {"ADDED", "MODIFIED", "DELETED"} == kinds
        await custom.delete_namespaced_custom_object("chaos-mesh.org", "v1alpha1", "otel-demo", "stresschaos", "ocg-1")
        cluster.settle()
        assert cluster.runtime.stress == {}
