"""Whatever is sent to the API, the answer is an object or a Status of the client's error, and the cluster lives on."""

from __future__ import annotations

import copy
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

NAMESPACED = "namespaces/otel-demo"
CORE, APPS = f"/api/v1/{NAMESPACED}", f"/apis/apps/v1/{NAMESPACED}"
PODS, CONFIG_MAPS, DEPLOYMENTS = f"{CORE}/pods", f"{CORE}/configmaps", f"{APPS}/deployments"
MERGE = {"Content-Type": "application/merge-patch+json"}
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}

SELECTOR = {"labelSelectors": {"opentelemetry.io/name": "cart"}}
BODIES: dict[str, Any] = {
    DEPLOYMENTS: {
        "metadata": {"name": "cart-canary", "labels": {"a": "b"}, "annotations": {"c": "d"}, "finalizers": ["x/y"]},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}},
            "selector": {"matchLabels": {"track": "canary"}},
            "template": {
                "metadata": {"labels": {"track": "canary", "opentelemetry.io/name": "cart"}},
                "spec": {
                    "containers": [
                        {
                            "name": "cart",
                            "image": "example.org/cart:1",
                            "env": [{"name": "A", "value": "b"}],
                            "ports": [{"containerPort": 8080}],
                            "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": 0.5}},
                            "readinessProbe": {"grpc": {"port": 8080}, "periodSeconds": 2},
                        }
                    ],
                    "terminationGracePeriodSeconds": 3,
                },
            },
        },
    },
    CONFIG_MAPS: {
        "metadata": {"name": "settings"},
        "data": {"a": "1"},
        "binaryData": {"b": "MQ=="},
        "immutable": False,
    },
    f"{CORE}/services": {
        "metadata": {"name": "canary"},
        "spec": {"selector": {"track": "canary"}, "ports": [{"port": 80, "targetPort": 8080, "name": "http"}]},
    },
    f"/apis/coordination.k8s.io/v1/{NAMESPACED}/leases": {
        "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15},
    },
    f"/apis/autoscaling/v2/{NAMESPACED}/horizontalpodautoscalers": {
        "metadata": {"name": "cart"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
                }
            ],
            "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}]}},
        },
    },
    f"/apis/autoscaling/v1/{NAMESPACED}/horizontalpodautoscalers": {
        "metadata": {"name": "cart-1", "annotations": {"autoscaling.alpha.kubernetes.io/metrics": "[]"}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"},
            "maxReplicas": 3,
            "targetCPUUtilizationPercentage": 50,
        },
    },
    f"/apis/gateway.networking.k8s.io/v1/{NAMESPACED}/httproutes": {
        "metadata": {"name": "frontend"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "frontend", "port": 8080}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": "frontend", "port": 8080, "weight": 9}, {"name": "canary", "port": 80}],
                }
            ],
        },
    },
    f"/apis/chaos-mesh.org/v1alpha1/{NAMESPACED}/stresschaos": {
        "metadata": {"name": "busy", "annotations": {"a": "b"}},
        "spec": {
            "mode": "fixed",
            "value": "1",
            "selector": SELECTOR,
            "duration": "30s",
            "stressors": {
                "cpu": {"workers": 1, "load": 50},
                "memory": {"workers": 1, "size": "1MB", "options": ["--time 9s"]},
            },
        },
    },
    f"/apis/chaos-mesh.org/v1alpha1/{NAMESPACED}/networkchaos": {
        "metadata": {"name": "slow"},
        "spec": {
            "action": "delay",
            "mode": "all",
            "selector": SELECTOR,
            "direction": "to",
            "target": {"mode": "all", "selector": {"labelSelectors": {"opentelemetry.io/name": "valkey-cart"}}},
            "delay": {"latency": "10ms", "jitter": "1ms", "correlation": "5"},
        },
    },
}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from(
        [10**6, 2**31, 2**70, 1.5, "", "x", "X_", "-1", "1", "25%", "1e9999", "0.5", "10s", "Pods", "/", "²"]
    ),
    st.text(max_size=5),
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "kind", "$patch", "a", "spec", "value", "f:x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
Place = tuple[str | int, ...]


def places(document: Any, place: Place = ()) -> list[Place]:
    """Return where a document has values."""
    children: list[tuple[str | int, Any]] = (
        list(document.items())
        if isinstance(document, dict)
        else list(enumerate(document))
        if isinstance(document, list)
        else []
    )
    return [place, *(found for key, child in children for found in places(child, (*place, key)))]


def put(document: Any, place: Place, value: Any) -> Any:
    """Return a document with another value at a place."""
    if not place:
        return value
    changed = copy.deepcopy(document)
    node = changed
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return changed


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, Any]:
    """Return a path, and a body for it that is right but for a value or two."""
    path = draw(st.sampled_from(sorted(BODIES)))
    body = BODIES[path]
    for _ in range(draw(st.integers(1, 2))):
        body = put(body, draw(st.sampled_from(places(body))), draw(JSON_VALUES))
    return path, body


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with KubernetesServer(cluster.control_plane).open() as url, aiohttp.ClientSession(url) as session:
        yield session


async def status_of(answer: aiohttp.ClientResponse) -> Any:
    """Return an answer's document; refuse one that is no object and no Status."""
    document = await answer.json()
    assert answer.status < 500, document
    if answer.status >= 400:
        assert (document["kind"], document["status"], document["code"]) == ("Status", "Failure", answer.status)
        assert document["message"]
        assert document["reason"]
    return document


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(), broken())
async def test_a_body_that_is_almost_right_is_stored_or_refused(
    http: aiohttp.ClientSession, cluster: Cluster, first: tuple[str, Any], second: tuple[str, Any]
) -> None:
    for path, body in (first, second):
        async with http.post(path, json=body) as answer:
            await status_of(answer)
        name = BODIES[path]["metadata"]["name"]
        async with http.post(path, json=BODIES[path]) as answer:
            assert answer.status in (201, 409), await answer.text()
        for headers in (MERGE, STRATEGIC, JSON_PATCH, APPLY):
            patch = [{"op": "replace", "path": "/spec", "value": body}] if headers is JSON_PATCH else body
            query = {"fieldManager": "test", "force": "true"} if headers is APPLY else {}
            if headers is APPLY and isinstance(body, dict):
                patch = {"apiVersion": _version(path), "kind": _kind(path)} | body
            async with http.patch(f"{path}/{name}", json=patch, headers=headers, params=query) as answer:
                await status_of(answer)
        cluster.live(1)
        async with http.put(f"{path}/{name}", json=body) as answer:
            await status_of(answer)
        for accept in ("application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"):
            async with http.get(path, headers={"Accept": accept}) as answer:
                assert answer.status == 200
        async with http.delete(f"{path}/{name}", json=body) as answer:
            await status_of(answer)
        for listed in await _names(http, path):
            if listed not in ("cart", "frontend", "valkey-cart") or "autoscaling" in path or "httproutes" in path:
                async with http.delete(f"{path}/{listed}") as answer:
                    await status_of(answer)
                async with http.patch(
                    f"{path}/{listed}", json={"metadata": {"finalizers": None}}, headers=MERGE
                ) as answer:
                    await status_of(answer)
        cluster.live(1)


def _version(path: str) -> str:
    return "/".join(path.split("/")[2:4]) if path.startswith("/apis") else "v1"


def _kind(path: str) -> str:
    kinds = {
        "deployments": "Deployment",
        "configmaps": "ConfigMap",
        "services": "Service",
        "leases": "Lease",
        "horizontalpodautoscalers": "HorizontalPodAutoscaler",
        "httproutes": "HTTPRoute",
        "stresschaos": "StressChaos",
        "networkchaos": "NetworkChaos",
    }
    return kinds[path.rpartition("/")[2]]


async def _names(http: aiohttp.ClientSession, path: str) -> list[str]:
    async with http.get(path) as answer:
        return [item["metadata"]["name"] for item in (await answer.json())["items"]]


@pytest.mark.parametrize(
    ("verb", "path", "query", "code"),
    [
        ("GET", PODS, {"limit": "-1"}, 400),
        ("GET", PODS, {"limit": "9" * 5000}, 400),
        ("GET", PODS, {"resourceVersion": "abc"}, 400),
        ("GET", PODS, {"resourceVersion": "-1"}, 400),
        ("GET", PODS, {"continue": "!"}, 400),
        ("GET", PODS, {"continue": "e30"}, 400),
        ("GET", PODS, {"fieldSelector": "spec.colour=red"}, 400),
        ("GET", PODS, {"fieldSelector": "metadata.name"}, 400),
        ("GET", PODS, {"labelSelector": "a=b=c"}, 400),
        ("GET", PODS, {"labelSelector": "a>x"}, 400),
        ("GET", PODS, {"labelSelector": "a in b"}, 400),
        ("GET", PODS, {"watch": "1", "timeoutSeconds": "soon"}, 400),
        ("GET", PODS, {"watch": "1", "timeoutSeconds": "9" * 30}, 400),
        ("GET", PODS, {"watch": "1", "resourceVersionMatch": "Exact", "resourceVersion": "1"}, 422),
        ("GET", PODS, {"resourceVersionMatch": "Exact"}, 422),
        ("GET", PODS, {"resourceVersionMatch": "Latest", "resourceVersion": "1"}, 422),
        ("GET", PODS, {"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422),
        ("GET", PODS, {"resourceVersion": "999999999"}, 504),
        ("GET", f"{PODS}/Not_A_Name", {}, 404),
        ("GET", f"{PODS}/%2e%2e%2f", {}, 404),
        ("GET", "/api/v2/pods", {}, 404),
        ("GET", "/apis/nothing.io/v1/things", {}, 404),
        ("GET", f"/apis/apps/v1/{NAMESPACED}/daemonsets", {}, 404),
        ("GET", f"{DEPLOYMENTS}/cart/rollback", {}, 404),
        ("POST", PODS, {}, 405),
        ("PUT", DEPLOYMENTS, {}, 405),
        ("PATCH", DEPLOYMENTS, {}, 405),
        ("DELETE", DEPLOYMENTS, {}, 405),
        ("OPTIONS", DEPLOYMENTS, {}, 405),
        ("DELETE", f"{DEPLOYMENTS}/cart/scale", {}, 405),
        ("POST", f"/apis/apps/v1/{NAMESPACED}/replicasets", {}, 405),
        ("DELETE", f"{CORE}/services/cart", {}, 403),
        ("DELETE", f"{DEPLOYMENTS}/cart", {"propagationPolicy": "Sideways"}, 422),
        ("DELETE", f"{DEPLOYMENTS}/cart", {"gracePeriodSeconds": "-5"}, 400),
        ("DELETE", f"{DEPLOYMENTS}/cart", {"dryRun": "Some"}, 422),
        ("DELETE", f"{DEPLOYMENTS}/nobody", {}, 404),
    ],
)
async def test_a_wrong_request_is_answered_with_its_code(
    http: aiohttp.ClientSession, cluster: Cluster, verb: str, path: str, query: dict[str, str], code: int
) -> None:
    version = cluster.control_plane.resource_version
    async with http.request(verb, path, params=query) as answer:
        document = await answer.json()
        assert (answer.status, document["kind"], document["code"]) == (code, "Status", code), document
    assert cluster.control_plane.resource_version == version


@pytest.mark.parametrize(
    ("verb", "content_type", "body", "code"),
    [
        ("POST", "application/json", b"{", 400),
        ("POST", "application/json", b"\xff\xfe", 400),
        ("POST", "application/json", b"[]", 400),
        ("POST", "application/json", b"null", 400),
        ("POST", "application/json", b"", 400),
        ("POST", "application/json", b"[" * 100_000, 400),
        ("POST", "application/json", b'{"metadata":' * 150 + b"{}" + b"}" * 150, 400),
        ("POST", "application/json", b'{"metadata":{"name":"a"},"data":{"x":1e999}}', 400),
        ("POST", "application/json", b'{"kind":"Pod","metadata":{"name":"a"}}', 400),
        ("POST", "application/yaml", b"a: &a [x]\nb: *a\n", 400),
        ("POST", "application/yaml", b"a: [", 400),
        ("POST", "application/yaml", b"[" * 5000, 400),
        ("POST", "application/yaml", b"? [a, b]\n: c\n", 400),
        ("POST", "application/yaml", b"a: 1\n---\nb: 2\n", 400),
        ("POST", "application/vnd.kubernetes.protobuf", b"k8s\0\xff\xff", 400),
        ("POST", "application/vnd.kubernetes.protobuf", b"not even that", 400),
        ("POST", "application/merge-patch+json", b"{}", 415),
        ("POST", "text/plain", b"{}", 415),
        ("PATCH", "application/json", b"{}", 415),
        ("PATCH", "application/yaml", b"{}", 415),
        ("PATCH", "application/merge-patch+json", b"", 400),
        ("PATCH", "application/merge-patch+json", b"[]", 400),
        ("PATCH", "application/merge-patch+json", b'{"metadata":null}', 400),
        ("PATCH", "application/strategic-merge-patch+json", b'{"metadata":{"$patch":"what"}}', 400),
        ("PATCH", "application/json-patch+json", b"{}", 400),
        ("PATCH", "application/json-patch+json", b'[{"op":"add"}]', 400),
        ("PATCH", "application/json-patch+json", b'[{"op":"remove","path":""}]', 400),
        ("PATCH", "application/json-patch+json", b'[{"op":"remove","path":"/nowhere"}]', 422),
        ("PATCH", "application/json-patch+json", b"[" + b'{"op":"test","path":"/kind","value":"ConfigMap"},' * 10_001 + b"{}]", 400),
    ],
)  # fmt: skip
async def test_a_malformed_body_is_answered_with_its_code(
    http: aiohttp.ClientSession, verb: str, content_type: str, body: bytes, code: int
) -> None:
    async with http.post(CONFIG_MAPS, json=BODIES[CONFIG_MAPS]) as answer:
        assert answer.status == 201
    path = CONFIG_MAPS if verb == "POST" else f"{CONFIG_MAPS}/settings"
    headers = {"Content-Type": content_type}
    async with http.request(verb, path, data=io.BytesIO(body) if body else body, headers=headers) as answer:
        document = await answer.json()
        assert (answer.status, document["kind"], document["code"]) == (code, "Status", code), document


async def test_a_patch_cannot_make_a_document_of_any_size(http: aiohttp.ClientSession) -> None:
    async with http.post(CONFIG_MAPS, json=BODIES[CONFIG_MAPS]) as answer:
        assert answer.status == 201
    doubling = [{"op": "copy", "from": "", "path": f"/metadata/a{number}"} for number in range(40)]
    async with http.patch(f"{CONFIG_MAPS}/settings", json=doubling, headers=JSON_PATCH) as answer:
        assert (await status_of(answer))["reason"] == "RequestEntityTooLarge"
    nested = [{"op": "copy", "from": "/metadata", "path": "/metadata/labels"} for _ in range(12)]
    async with http.patch(f"{CONFIG_MAPS}/settings", json=nested, headers=JSON_PATCH) as answer:
        assert (await status_of(answer))["code"] in (400, 413, 422)


async def test_bodies_and_objects_have_a_greatest_size(http: aiohttp.ClientSession) -> None:
    patch: Any = {"metadata": {"annotations": {"a": "x" * 2**18}}}
    async with http.patch(f"{DEPLOYMENTS}/cart", json=patch, headers=MERGE) as answer:
        assert "may not be more than 262144 bytes" in (await status_of(answer))["message"]
    arguments = {"name": "cart", "args": ["x" * 2**17] * 15}
    patch = {"spec": {"template": {"spec": {"containers": [arguments]}}}}
    large = json.dumps(patch).encode()
    async with http.patch(f"{DEPLOYMENTS}/cart", data=io.BytesIO(large), headers=STRATEGIC) as answer:
        assert (await status_of(answer))["code"] == 413
    for data in (b" " * (4 * 2**20), b"x" * (3 * 2**20 + 1)):
        async with http.patch(f"{DEPLOYMENTS}/cart", data=io.BytesIO(data), headers=MERGE) as answer:
            assert (await status_of(answer))["reason"] == "RequestEntityTooLarge"


async def test_a_compressed_body_is_bounded_by_what_it_unpacks_to(http: aiohttp.ClientSession) -> None:
    packed = gzip.compress(b" " * (64 * 2**20))
    headers = MERGE | {"Content-Encoding": "gzip"}
    async with http.patch(f"{DEPLOYMENTS}/cart", data=io.BytesIO(packed), headers=headers) as answer:
        assert answer.status in (400, 413)


async def test_a_client_that_goes_in_the_middle_of_its_request_leaves_nothing_behind(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    version, base = cluster.control_plane.resource_version, http._base_url
    assert base is not None
    assert base.host is not None
    assert base.port is not None
    head = f"PATCH {DEPLOYMENTS}/cart HTTP/1.1\r\nHost: x\r\nContent-Type: application/merge-patch+json\r\n"
    whole = json.dumps({"spec": {"replicas": 1}})
    for sent in (
        "PAT",
        head,
        head + "Content-Length: 500\r\n\r\n" + whole,
        head + "Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/9\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ):
        stream = await anyio.connect_tcp(base.host, base.port)
        await stream.send(sent.encode())
        await anyio.wait_all_tasks_blocked()
        await stream.aclose()
    async with http.get(f"{DEPLOYMENTS}/cart") as answer:
        assert (await status_of(answer))["spec"]["replicas"] == 4
    assert cluster.control_plane.resource_version == version


async def test_a_number_that_no_machine_holds_is_refused(http: aiohttp.ClientSession) -> None:
    for replicas, code in ((10**9, 403), (2**31, 422), (2**80, 422), (-1, 422)):
        async with http.patch(f"{DEPLOYMENTS}/cart", json={"spec": {"replicas": replicas}}, headers=MERGE) as answer:
            assert (await status_of(answer))["code"] == code
        async with http.patch(
            f"{DEPLOYMENTS}/cart/scale", json={"spec": {"replicas": replicas}}, headers=MERGE
        ) as answer:
            assert (await status_of(answer))["code"] in (400, 403, 422)
    limits = {"containers": [{"name": "cart", "resources": {"limits": {"memory": "1e999999999"}}}]}
    patch = {"spec": {"template": {"spec": limits}}}
    async with http.patch(f"{DEPLOYMENTS}/cart", json=patch, headers=STRATEGIC) as answer:
        assert "quantities must match" in (await status_of(answer))["message"]


async def test_what_anybody_may_write_into_annotations_and_status_stops_no_controller(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    async with http.get(f"{APPS}/replicasets") as answer:
        sets = [item["metadata"]["name"] for item in (await answer.json())["items"]]
    odd = dict.fromkeys(
        (
            "deployment.kubernetes.io/revision",
            "deployment.kubernetes.io/max-replicas",
            "deployment.kubernetes.io/desired-replicas",
        ),
        "many",
    )
    for name in sets:
        async with http.patch(
            f"{APPS}/replicasets/{name}", json={"metadata": {"annotations": odd}}, headers=MERGE
        ) as answer:
            await status_of(answer)
    async with http.get(PODS) as answer:
        pod = (await answer.json())["items"][0]["metadata"]["name"]
    cost = {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "cheap"}}}
    async with http.patch(f"{PODS}/{pod}", json=cost, headers=MERGE) as answer:
        assert answer.status == 200
    for change in ({"labels": {"opentelemetry.io/name": "frontend"}}, {"finalizers": ["x/y"]}):
        async with http.patch(f"{PODS}/{pod}", json={"metadata": change}, headers=MERGE) as answer:
            assert answer.status == 403
    for status, code in (
        ({"conditions": [{}]}, 422),
        ({"replicas": -1}, 422),
        ({"replicas": "x"}, 422),
        ({"conditions": [{"type": "A", "status": "True", "reason": "B", "lastUpdateTime": "soon"}]}, 422),
        (None, 200),
    ):
        async with http.patch(f"{DEPLOYMENTS}/cart/status", json={"status": status}, headers=MERGE) as answer:
            assert (answer.status, answer.content_type) == (code, "application/json"), await answer.text()
    async with http.patch(f"{PODS}/{pod}/status", json={"status": {"phase": "Failed"}}, headers=MERGE) as answer:
        assert "write this status" in (await status_of(answer))["message"]
    async with http.patch(f"{DEPLOYMENTS}/cart", json={"spec": {"replicas": 2}}, headers=MERGE) as answer:
        assert answer.status == 200
    cluster.settle()
    async with http.get(f"{DEPLOYMENTS}/cart") as answer:
        status = (await answer.json())["status"]
    assert (status["readyReplicas"], status["availableReplicas"]) == (2, 2)
