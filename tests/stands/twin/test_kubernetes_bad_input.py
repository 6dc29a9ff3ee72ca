"""Whatever is sent to the API, the answer is an object or a Status of the client's error, and the cluster lives on."""

from __future__ import annotations

import copy
import gzip
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
    CONFIG_MAPS: {"metadata": {"name": "settings"}, "data": {"a": "1"}, "binaryData": {"b": "MQ=="}, "immutable": False},
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
            "stressors": {"cpu": {"workers": 1, "load": 50}, "memory": {"workers": 1, "size": "1MB", "options": ["--time 9s"]}},
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
    st.sampled_from([10**6, 2**31, 2**70, 1.5, "", "x", "X_", "-1", "1", "25%", "1e9999", "0.5", "10s", "Pods", "/", "²"]),
    st.text(max_size=5),
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["name", "kind", "$patch", "a", "spec", "value", "f:x"]), inner, max_size=3),
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
        for listed in (await _names(http, path)):
            if listed not in ("cart", "frontend", "valkey-cart") or "autoscaling" in path or "httproutes" in path:
                async with http.delete(f"{path}/{listed}") as answer:
                    await status_of(answer)
                async with http.patch(f"{path}/{listed}", json={"metadata": {"finalizers": None}}, headers=MERGE) as answer:
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
