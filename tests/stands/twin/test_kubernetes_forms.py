"""What clients ask for beside objects: aggregated discovery, tables, streaming lists, strict decoding, simple kinds."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer
from otel_control_gym.stands.twin.servers.kubernetes_printers import human_duration

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
PODS = "/api/v1/namespaces/otel-demo/pods"
CONFIG_MAPS = "/api/v1/namespaces/otel-demo/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/otel-demo/leases"
MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
STREAMING = {"watch": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with KubernetesServer(cluster.control_plane).open() as url, aiohttp.ClientSession(url) as session:
        yield session


async def answered(answer: aiohttp.ClientResponse, code: int = 200) -> Any:
    assert answer.status == code, await answer.text()
    return await answer.json()


async def line_of(answer: aiohttp.ClientResponse) -> Any:
    return json.loads(await answer.content.readline())


async def test_aggregated_discovery_tells_all_resources_in_one_document_a_root(http: aiohttp.ClientSession) -> None:
    resources: dict[str, Any] = {}
    for path in ("/api", "/apis"):
        async with http.get(path, headers={"Accept": f"{DISCOVERY},application/json"}) as answer:
            assert answer.headers["Content-Type"] == DISCOVERY
            found = await answered(answer)
        assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
        for group in found["items"]:
            for resource in group["versions"][0]["resources"]:
                resources[f"{resource['resource']}.{group['metadata']['name']}"] = resource
    deployment = resources["deployments.apps"]
    assert deployment["responseKind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert [one["subresource"] for one in deployment["subresources"]] == ["scale", "status"]
    assert (resources["nodes."]["scope"], resources["pods."]["shortNames"]) == ("Cluster", ["po"])
    assert {"stresschaos.chaos-mesh.org", "leases.coordination.k8s.io", "configmaps."} <= resources.keys()


async def test_openapi_says_of_each_kind_that_writes_take_a_field_validation(http: aiohttp.ClientSession) -> None:
    async with http.get("/openapi/v3") as answer:
        places = (await answered(answer))["paths"]
    assert set(places) == {
        "api/v1",
        "apis/apps/v1",
        "apis/autoscaling/v1",
        "apis/autoscaling/v2",
        "apis/chaos-mesh.org/v1alpha1",
        "apis/coordination.k8s.io/v1",
        "apis/gateway.networking.k8s.io/v1",
    }
    async with http.get(places["apis/apps/v1"]["serverRelativeURL"]) as answer:
        operations = [path["patch"] for path in (await answered(answer))["paths"].values()]
    kinds = {operation["x-kubernetes-group-version-kind"]["kind"] for operation in operations}
    assert kinds == {"Deployment", "ReplicaSet"}
    assert all("fieldValidation" in [one["name"] for one in operation["parameters"]] for operation in operations)
    for path in ("/openapi/v3/apis/batch/v1", "/openapi/v2"):
        async with http.get(path) as answer:
            await answered(answer, 404)


async def test_a_table_counts_ages_by_the_twins_clock(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    cluster.live(3600)
    async with http.get(DEPLOYMENTS, headers=TABLE) as answer:
        found = await answered(answer)
    assert [column["name"] for column in found["columnDefinitions"]][:5] == [
        "Name",
        "Ready",
        "Up-to-date",
        "Available",
        "Age",
    ]
    assert [column["priority"] for column in found["columnDefinitions"]] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert found["metadata"]["resourceVersion"] == cluster.control_plane.resource_version
    row = found["rows"][0]
    assert row["cells"][:5] == ["cart", "4/4", 4, 4, "3h"]
    assert row["object"]["kind"] == "PartialObjectMetadata"
    assert all(len(row["cells"]) == len(found["columnDefinitions"]) for row in found["rows"])
    for include, kind in (("Object", "Deployment"), ("None", None)):
        async with http.get(f"{DEPLOYMENTS}/cart", headers=TABLE, params={"includeObject": include}) as answer:
            (row,) = (await answered(answer))["rows"]
        assert (row["object"] or {}).get("kind") == kind


@pytest.mark.parametrize("path", ["namespaces", "nodes", "secrets", "services", "events", "configmaps", "pods"])
async def test_each_kinds_rows_fill_its_columns(http: aiohttp.ClientSession, cluster: Cluster, path: str) -> None:
    async with http.patch(f"{DEPLOYMENTS}/cart", json={"spec": {"replicas": 2}}, headers=MERGE) as answer:
        await answered(answer)
    async with http.post(CONFIG_MAPS, json={"metadata": {"name": "a"}, "data": {"x": "1"}}) as answer:
        await answered(answer, 201)
    cluster.live(1)
    async with http.get(f"/api/v1/{path}", headers=TABLE) as answer:
        found = await answered(answer)
    assert found["rows"]
    assert {len(row["cells"]) for row in found["rows"]} == {len(found["columnDefinitions"])}


async def test_a_pod_that_is_told_to_stop_is_shown_as_terminating(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    async with http.get(PODS) as answer:
        name = (await answered(answer))["items"][0]["metadata"]["name"]
    async with http.delete(f"{PODS}/{name}") as answer:
        await answered(answer)
    async with http.get(f"{PODS}/{name}", headers=TABLE) as answer:
        assert (await answered(answer))["rows"][0]["cells"][1:4] == ["1/1", "Terminating", "0"]
    cluster.live(0.5)
    async with http.get(PODS, headers=TABLE) as answer:
        statuses = {row["cells"][2] for row in (await answered(answer))["rows"]}
    assert statuses == {"Init:0/1", "Running", "Terminating"}


async def test_a_watched_table_defines_its_columns_once(http: aiohttp.ClientSession) -> None:
    query = {"watch": "true", "fieldSelector": "metadata.name=cart", "resourceVersion": "0"}
    async with http.get(DEPLOYMENTS, params=query, headers=TABLE) as stream:
        first = await line_of(stream)
        assert (first["type"], first["object"]["kind"]) == ("ADDED", "Table")
        assert first["object"]["columnDefinitions"]
        async with http.patch(f"{DEPLOYMENTS}/cart", json={"spec": {"replicas": 5}}, headers=MERGE) as answer:
            await answered(answer)
        second = await line_of(stream)
    assert second["type"] == "MODIFIED"
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][:2] == ["cart", "4/5"]


async def test_a_streaming_list_says_where_what_was_there_ends(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    query = STREAMING | {"allowWatchBookmarks": "true", "resourceVersion": cluster.control_plane.resource_version}
    async with http.get(DEPLOYMENTS, params=query) as stream:
        events = [await line_of(stream) for _ in range(4)]
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "ADDED", "BOOKMARK"]
    assert events[-1]["object"]["metadata"] == {
        "resourceVersion": cluster.control_plane.resource_version,
        "annotations": {"k8s.io/initial-events-end": "true"},
        "creationTimestamp": None,
    }
    async with http.get(DEPLOYMENTS, params={"sendInitialEvents": "true"}) as answer:
        await answered(answer, 422)
    async with http.get(DEPLOYMENTS, params=STREAMING | {"resourceVersionMatch": "Exact"}) as answer:
        await answered(answer, 422)


async def test_an_unknown_field_is_dropped_told_or_refused_as_asked(http: aiohttp.ClientSession) -> None:
    body: Any = {"metadata": {"name": "a", "labels": None}, "data": {"x": "1"}, "dada": {}}
    for validation, warning in (("Ignore", None), ("Warn", '299 - "unknown field \\"dada\\""')):
        query = {"fieldValidation": validation, "dryRun": "All"}
        async with http.post(CONFIG_MAPS, json=body, params=query) as answer:
            assert "dada" not in await answered(answer, 201)
            assert answer.headers.get("Warning") == warning
    async with http.post(CONFIG_MAPS, json=body, params={"fieldValidation": "Strict"}) as answer:
        status = await answered(answer, 400)
    assert status["message"].endswith('cannot be handled as a ConfigMap: strict decoding error: unknown field "dada"')
    patch = {"spec": {"template": {"spec": {"containers": [], "hostname": "x", "colour": "red"}}}}
    query = {"fieldValidation": "Strict"}
    async with http.patch(f"{DEPLOYMENTS}/cart", json=patch, params=query, headers=MERGE) as answer:
        status = await answered(answer, 422)
    assert status["details"]["causes"][0]["field"] == "patch"
    assert 'unknown field "spec.template.spec.colour"' in status["message"]
    async with http.post(CONFIG_MAPS, json=body, params={"fieldValidation": "Maybe"}) as answer:
        await answered(answer, 422)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"replicas": "3"}, "string into Go struct field Deployment.spec.replicas of type int32"),
        ({"replicas": True}, "bool into Go struct field Deployment.spec.replicas of type int32"),
        ({"template": []}, "array into Go struct field Deployment.spec.template of type object"),
        (
            {"template": {"spec": {"containers": ["x"]}}},
            "string into Go struct field Deployment.spec.template.spec.containers[0] of type object",
        ),
        (
            {"selector": {"matchLabels": {"a": 1}}},
            "number into Go struct field Deployment.spec.selector.matchLabels.a of type string",
        ),
    ],
)
async def test_a_value_of_a_wrong_type_is_refused_and_named(
    http: aiohttp.ClientSession, spec: dict[str, Any], found: str
) -> None:
    async with http.patch(f"{DEPLOYMENTS}/cart", json={"spec": spec}, headers=MERGE) as answer:
        assert found in (await answered(answer, 422))["message"]
    async with http.post(DEPLOYMENTS, json={"metadata": {"name": "new"}, "spec": spec}) as answer:
        assert found in (await answered(answer, 400))["message"]


async def test_a_config_map_lives_from_creation_to_deletion(http: aiohttp.ClientSession) -> None:
    body: Any = {"metadata": {"name": "a"}, "data": {"x": "1"}}
    async with http.post(CONFIG_MAPS, json=body) as answer:
        made = await answered(answer, 201)
    assert "generation" not in made["metadata"]
    async with http.put(f"{CONFIG_MAPS}/a", json=body | {"data": {"y": "2"}, "immutable": True}) as answer:
        assert (await answered(answer))["data"] == {"y": "2"}
    async with http.patch(f"{CONFIG_MAPS}/a", json={"data": {"y": "3"}}, headers=MERGE) as answer:
        assert "field is immutable when `immutable` is set" in (await answered(answer, 422))["message"]
    for data, problem in (({"a b": ""}, "a valid config key"), ({"a": "x" * 2**20 + "x"}, "Too long")):
        encoded = io.BytesIO(json.dumps({"metadata": {"name": "b"}, "data": data}).encode())
        async with http.post(CONFIG_MAPS, data=encoded, headers={"Content-Type": "application/json"}) as answer:
            assert problem in (await answered(answer, 422))["message"]
    async with http.delete(f"{CONFIG_MAPS}/a") as answer:
        assert (await answered(answer))["status"] == "Success"
    async with http.get(f"{CONFIG_MAPS}/a") as answer:
        await answered(answer, 404)


def field(number: int, value: bytes | str) -> bytes:
    """Return a length-delimited field of a Protocol Buffers message; all lengths here fit one byte."""
    encoded = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(encoded))) + encoded


async def test_a_config_map_in_protocol_buffers_is_read(http: aiohttp.ClientSession) -> None:
    raw = field(1, field(1, "a") + field(3, "") + field(11, field(1, "k") + field(2, "v")))
    raw += field(2, field(1, "x") + field(2, "1"))
    headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}

    def body(api_version: str, kind: str) -> bytes:
        return b"k8s\0" + field(1, field(1, api_version) + field(2, kind)) + field(2, raw)

    async with http.post(CONFIG_MAPS, data=body("v1", "ConfigMap"), headers=headers) as answer:
        made = await answered(answer, 201)
    assert (made["metadata"]["name"], made["metadata"]["labels"], made["data"]) == ("a", {"k": "v"}, {"x": "1"})
    async with http.post(DEPLOYMENTS, data=body("apps/v1", "Deployment"), headers=headers) as answer:
        await answered(answer, 415)
    for broken in (body("v1", "ConfigMap")[:-3], b"k8s\0\xff\xff"):
        async with http.post(CONFIG_MAPS, data=broken, headers=headers) as answer:
            await answered(answer, 400)


async def test_a_body_without_a_type_is_taken_for_json(http: aiohttp.ClientSession) -> None:
    body = json.dumps({"metadata": {"name": "a"}}).encode()
    async with http.post(CONFIG_MAPS, data=body, skip_auto_headers=["Content-Type"]) as answer:
        await answered(answer, 201)
    async with http.post(CONFIG_MAPS, data=body, headers={"Content-Type": "text/plain"}) as answer:
        await answered(answer, 415)


async def test_a_lease_is_held_and_renewed(http: aiohttp.ClientSession) -> None:
    spec = {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}
    async with http.post(LEASES, json={"metadata": {"name": "leader"}, "spec": spec}) as answer:
        lease = await answered(answer, 201)
    lease["spec"]["holderIdentity"] = "you"
    async with http.put(f"{LEASES}/leader", json=lease) as answer:
        assert (await answered(answer))["spec"]["holderIdentity"] == "you"
    async with http.put(f"{LEASES}/leader", json=lease) as answer:
        await answered(answer, 409)
    async with http.patch(f"{LEASES}/leader", json={"spec": {"leaseDurationSeconds": 0}}, headers=MERGE) as answer:
        assert "must be greater than 0" in (await answered(answer, 422))["message"]
    async with http.get(LEASES, headers=TABLE) as answer:
        assert (await answered(answer))["rows"][0]["cells"][:2] == ["leader", "you"]


async def test_secrets_have_names_and_no_data(http: aiohttp.ClientSession) -> None:
    async with http.get("/api/v1/secrets") as answer:
        (secret,) = (await answered(answer))["items"]
    assert "data" not in secret
    async with http.post("/api/v1/namespaces/otel-demo/secrets", json={}) as answer:
        await answered(answer, 405)


async def test_a_replacement_without_a_field_removes_it(http: aiohttp.ClientSession, cluster: Cluster) -> None:
    async with http.patch(f"{DEPLOYMENTS}/cart", json={"spec": {"minReadySeconds": 5}}, headers=MERGE) as answer:
        item = await answered(answer)
    cluster.settle()
    del item["spec"]["minReadySeconds"], item["metadata"]["resourceVersion"]
    async with http.put(f"{DEPLOYMENTS}/cart", json=item | {"status": {}}) as answer:
        stored = await answered(answer)
    assert "minReadySeconds" not in stored["spec"]
    assert stored["status"]["replicas"] == 4


async def test_who_reads_nothing_that_is_offered_is_not_served(http: aiohttp.ClientSession) -> None:
    async with http.get(PODS, headers={"Accept": "application/vnd.kubernetes.protobuf"}) as answer:
        assert (await answered(answer, 406))["reason"] == "NotAcceptable"
    async with http.get(PODS, headers={"Accept": "application/vnd.kubernetes.protobuf,application/json"}) as answer:
        assert (await answered(answer))["kind"] == "PodList"


async def test_a_label_that_is_none_is_refused(http: aiohttp.ClientSession) -> None:
    for value in ("a b", "x" * 64, "-"):
        body = {"metadata": {"labels": {"a": value}}}
        async with http.patch(f"{DEPLOYMENTS}/cart", json=body, headers=MERGE) as answer:
            assert (await answered(answer, 422))["details"]["causes"][0]["field"] == "metadata.labels"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (30 * 3600, "30h"),
        (72 * 3600, "3d"),
        (76 * 3600, "3d4h"),
        (8 * 86400, "8d"),
        (800 * 86400, "2y70d"),
        (3650 * 86400, "10y"),
    ],
)
def test_a_duration_has_fewer_digits_the_longer_it_is(seconds: int, text: str) -> None:
    assert human_duration(seconds * SECOND) == text
