"""Autoscalers, routes and Services of clients: defaults and refusals in the API server's words, two versions of one object."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_control_gym.stands.twin.objects import HORIZONTAL_POD_AUTOSCALER_V1
from otel_control_gym.stands.twin.servers.kubernetes import KubernetesServer
from otel_control_gym.stands.twin.versions import as_served, as_stored

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

AUTOSCALERS = "/apis/autoscaling/v2/namespaces/otel-demo/horizontalpodautoscalers"
OLD_AUTOSCALERS = "/apis/autoscaling/v1/namespaces/otel-demo/horizontalpodautoscalers"
ROUTES = "/apis/gateway.networking.k8s.io/v1/namespaces/otel-demo/httproutes"
SERVICES = "/api/v1/namespaces/otel-demo/services"
DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}
CPU: dict[str, Any] = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
}


@pytest.fixture
async def http(cluster: Cluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with KubernetesServer(cluster.control_plane).open() as url, aiohttp.ClientSession(url) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, name: str, spec: Any, code: int = 201) -> Any:
    async with http.post(path, json={"metadata": {"name": name}, "spec": spec}) as answer:
        assert answer.status == code, await answer.text()
        return await answer.json()


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_an_autoscaler_gets_upstreams_defaults(http: aiohttp.ClientSession) -> None:
    made = await post(http, AUTOSCALERS, "cart", {"scaleTargetRef": TARGET, "maxReplicas": 5})
    default = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    assert made["spec"] == {
        "scaleTargetRef": TARGET,
        "minReplicas": 1,
        "maxReplicas": 5,
        "metrics": [{"type": "Resource", "resource": default}],
    }
    assert "generation" not in made["metadata"]
    behaviour = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    made = await post(http, AUTOSCALERS, "other", {"scaleTargetRef": TARGET, "maxReplicas": 5, "behavior": behaviour})
    assert made["spec"]["behavior"] == {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Pods", "value": 4, "periodSeconds": 15},
                {"type": "Percent", "value": 100, "periodSeconds": 15},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 60,
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
        },
    }


def resource(**target: Any) -> list[Any]:
    return [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"minReplicas": 6}, "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`"),
        ({"minReplicas": 0}, "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"),
        ({"maxReplicas": None}, "spec.maxReplicas: Invalid value: 0: must be greater than 0"),
        ({"scaleTargetRef": None}, "spec.scaleTargetRef.kind: Required value"),
        ({"scaleTargetRef": TARGET | {"name": ""}}, "spec.scaleTargetRef.name: Required value"),
        ({"scaleTargetRef": TARGET | {"apiVersion": "v1"}}, "spec.scaleTargetRef.apiVersion: Invalid value"),
        ({"metrics": [{}]}, "spec.metrics[0].type: Required value: must specify a metric source type"),
        ({"metrics": [{"type": "Cpu"}]}, 'spec.metrics[0].type: Unsupported value: "Cpu": supported values: '),
        ({"metrics": [{"type": "Resource"}]}, "must populate information for the given metric source"),
        (
            {"metrics": [CPU | {"pods": {}}]},
            "spec.metrics[0].pods: Forbidden: must populate the given metric source only",
        ),
        ({"metrics": resource(type="Utilization")}, "must set either a target raw value or a target utilization"),
        ({"metrics": resource(type="Utilization", averageUtilization=0)}, "must be greater than 0"),
        (
            {"metrics": resource(type="Share", averageUtilization=9)},
            "must be either Utilization, Value, or AverageValue",
        ),
        ({"metrics": resource(type="AverageValue", averageValue="-1")}, "must be positive"),
        ({"metrics": resource(type="AverageValue", averageValue="much")}, "quantities must match"),
        (
            {"metrics": resource(type="Utilization", averageUtilization=9, averageValue="1")},
            "may not set both a target raw value and a target utilization",
        ),
        (
            {"metrics": [{"type": "ContainerResource", "containerResource": CPU["resource"]}]},
            "spec.metrics[0].containerResource.container: Required value: must specify a container",
        ),
        (
            {"behavior": {"scaleUp": {"stabilizationWindowSeconds": 3601}}},
            "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
        ),
        ({"behavior": {"scaleDown": {"stabilizationWindowSeconds": -1}}}, "must be greater than or equal to zero"),
        ({"behavior": {"scaleDown": {"selectPolicy": "Most"}}}, 'supported values: "Disabled", "Max", "Min"'),
        ({"behavior": {"scaleDown": {"policies": []}}}, "must specify at least one Policy"),
        (
            {"behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 1801}]}}},
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
        ),
        ({"behavior": {"scaleUp": {"policies": [{"type": "Pods"}]}}}, "must be greater than zero"),
        ({"behavior": {"scaleUp": {"tolerance": "-0.1"}}}, "must be greater than or equal to 0"),
    ],
)
async def test_an_autoscaler_that_breaks_a_rule_is_told_which(
    http: aiohttp.ClientSession, change: dict[str, Any], told: str
) -> None:
    spec = {"scaleTargetRef": TARGET, "maxReplicas": 5} | change
    refused = await post(http, AUTOSCALERS, "cart", spec, 422)
    assert told in refused["message"]
    assert refused["message"].startswith('HorizontalPodAutoscaler.autoscaling "cart" is invalid: ')
    assert all(cause["field"].startswith("spec.") for cause in refused["details"]["causes"])


async def test_all_that_is_wrong_with_an_autoscaler_is_told_at_once(http: aiohttp.ClientSession) -> None:
    refused = await post(
        http, AUTOSCALERS, "cart", {"scaleTargetRef": {"apiVersion": "apps/v1"}, "maxReplicas": 0}, 422
    )
    assert [cause["field"] for cause in refused["details"]["causes"]] == [
        "spec.maxReplicas",
        "spec.maxReplicas",
        "spec.scaleTargetRef.kind",
        "spec.scaleTargetRef.name",
    ]


async def test_a_size_that_no_machine_holds_is_no_bound_either(http: aiohttp.ClientSession) -> None:
    refused = await post(http, AUTOSCALERS, "cart", {"scaleTargetRef": TARGET, "maxReplicas": 10**6}, 403)
    assert "at most 1000 pods" in refused["message"]


METRICS = st.lists(
    st.sampled_from(
        [
            CPU,
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "AverageValue", "averageValue": "1"}}},
            {
                "type": "Resource",
                "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 5}},
            },
        ]
    ),
    min_size=1,
    max_size=3,
)


@given(METRICS, st.booleans())
def test_what_the_old_version_reads_and_writes_back_loses_nothing(metrics: list[Any], behaves: bool) -> None:
    spec: Any = {"scaleTargetRef": TARGET, "minReplicas": 1, "maxReplicas": 3, "metrics": metrics}
    if behaves:
        spec["behavior"] = {"scaleDown": {"stabilizationWindowSeconds": 9}}
    status: Any = {
        "currentReplicas": 2,
        "desiredReplicas": 2,
        "conditions": [{"type": "AbleToScale", "status": "True"}],
    }
    stored = {"metadata": {"name": "x", "annotations": {"a": "b"}}, "spec": spec, "status": status}
    served = as_served(HORIZONTAL_POD_AUTOSCALER_V1, stored)
    assert served["spec"].keys() <= {"scaleTargetRef", "minReplicas", "maxReplicas", "targetCPUUtilizationPercentage"}
    back = as_stored(HORIZONTAL_POD_AUTOSCALER_V1, served, stored)
    assert (back["metadata"], back["status"]) == (stored["metadata"], status)
    assert sorted(map(json.dumps, back["spec"].pop("metrics"))) == sorted(map(json.dumps, spec["metrics"]))
    assert back["spec"] == {key: value for key, value in spec.items() if key != "metrics"}


async def test_both_versions_show_one_autoscaler(http: aiohttp.ClientSession) -> None:
    await post(
        http,
        OLD_AUTOSCALERS,
        "cart",
        {"scaleTargetRef": TARGET, "maxReplicas": 5, "targetCPUUtilizationPercentage": 60},
    )
    new = await get(http, f"{AUTOSCALERS}/cart")
    assert (new["apiVersion"], new["spec"]["metrics"]) == ("autoscaling/v2", [CPU])
    query = {"watch": "1", "fieldSelector": "metadata.name=cart"}
    async with http.get(OLD_AUTOSCALERS, params=query) as stream:
        assert json.loads(await stream.content.readline())["object"]["apiVersion"] == "autoscaling/v1"
        patch = {"spec": {"targetCPUUtilizationPercentage": 70}}
        async with http.patch(f"{OLD_AUTOSCALERS}/cart", json=patch, headers=MERGE) as answer:
            assert (await answer.json())["apiVersion"] == "autoscaling/v1"
        event = json.loads(await stream.content.readline())
    assert event["object"]["spec"]["targetCPUUtilizationPercentage"] == 70
    (old,) = (await get(http, OLD_AUTOSCALERS))["items"]
    assert old["spec"]["targetCPUUtilizationPercentage"] == 70
    for path in (AUTOSCALERS, OLD_AUTOSCALERS):
        async with http.get(path, headers=TABLE) as answer:
            (row,) = (await answer.json())["rows"]
        assert row["cells"][:5] == ["cart", "Deployment/cart", "cpu: <unknown>/70%", 1, 5]
    async with http.delete(f"{OLD_AUTOSCALERS}/cart") as answer:
        assert (await answer.json())["status"] == "Success"


def service(**more: Any) -> Any:
    return {"selector": {"track": "canary"}, "ports": [{"port": 80}], **more}


async def test_a_service_of_a_client_gets_an_address_of_its_own(http: aiohttp.ClientSession) -> None:
    made = await post(http, SERVICES, "canary", service())
    assert made["spec"]["clusterIP"] == "10.96.0.24"
    assert made["spec"]["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert (await post(http, SERVICES, "other", service()))["spec"]["clusterIP"] == "10.96.0.25"
    assert (await post(http, SERVICES, "headless", service(clusterIP="None")))["spec"]["clusterIPs"] == ["None"]
    async with http.patch(f"{SERVICES}/canary", json={"spec": {"selector": {"track": "b"}}}, headers=MERGE) as answer:
        assert (await answer.json())["spec"]["selector"] == {"track": "b"}
    body = {"metadata": {"name": "canary"}, "spec": service()}
    async with http.put(f"{SERVICES}/canary", json=body) as answer:
        assert (await answer.json())["spec"]["clusterIP"] == "10.96.0.24", "who doesn't name it keeps it"
    async with http.delete(f"{SERVICES}/canary") as answer:
        assert (await answer.json())["status"] == "Success"
    assert (await post(http, SERVICES, "again", service()))["spec"]["clusterIP"] == "10.96.0.24"


@pytest.mark.parametrize(
    ("name", "spec", "code", "told"),
    [
        ("x", {"selector": {}}, 422, "spec.ports: Required value"),
        ("x", service(ports=[{"port": 0}]), 422, "must be between 1 and 65535, inclusive"),
        ("x", service(ports=[{"port": 1}, {"port": 2}]), 422, "spec.ports[0].name: Required value"),
        ("x", service(ports=[{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]), 422, 'Duplicate value: "a"'),
        ("x", service(ports=[{"port": 1, "protocol": "QUIC"}]), 422, 'supported values: "SCTP", "TCP", "UDP"'),
        ("x", service(type="Magic"), 422, 'Unsupported value: "Magic"'),
        ("x", service(type="LoadBalancer"), 403, "Services of type ClusterIP alone"),
        ("x", service(sessionAffinity="ClientIP"), 403, "no session affinity"),
        ("x", service(clusterIP="10.96.0.22"), 422, "provided IP is already allocated"),
        ("x", service(clusterIP="1.2.3.4"), 422, "not in the valid range"),
        ("1x", service(), 422, "RFC 1035 label"),
        ("x" * 64, service(), 422, "may not be more than 63 bytes"),
        ("cart", service(), 409, "already exists"),
    ],
)
async def test_a_service_that_cannot_be_is_refused(
    http: aiohttp.ClientSession, name: str, spec: Any, code: int, told: str
) -> None:
    assert told in (await post(http, SERVICES, name, spec, code))["message"]


async def test_the_applications_own_services_stay_as_they_are(http: aiohttp.ClientSession) -> None:
    async with http.patch(f"{SERVICES}/cart", json={"spec": {"selector": {"a": "b"}}}, headers=MERGE) as answer:
        assert "are its topology" in (await answer.json())["message"]
    async with http.patch(f"{SERVICES}/cart", json={"metadata": {"labels": {"a": "b"}}}, headers=MERGE) as answer:
        assert answer.status == 200


def route(*backends: Any, **more: Any) -> Any:
    parent = {"group": "", "kind": "Service", "name": "frontend", "port": 8080}
    return {"parentRefs": [parent], "rules": [{"backendRefs": list(backends), **more}]}


STABLE, CANARY = {"name": "frontend", "port": 8080, "weight": 90}, {"name": "canary", "port": 80, "weight": 10}


async def test_a_namespace_that_is_made_is_active_at_once_and_takes_objects(http: aiohttp.ClientSession) -> None:
    config_maps = "/api/v1/namespaces/apart/configmaps"
    async with http.post(config_maps, json={"metadata": {"name": "x"}}) as answer:
        assert answer.status == 404
    made = await post(http, "/api/v1/namespaces", "apart", {})
    assert made["status"] == {"phase": "Active"}
    assert made["spec"] == {"finalizers": ["kubernetes"]}
    assert made["metadata"]["labels"] == {"kubernetes.io/metadata.name": "apart"}
    assert "namespace" not in made["metadata"]
    async with http.post(config_maps, json={"metadata": {"name": "x"}}) as answer:
        assert answer.status == 201
    await post(http, "/api/v1/namespaces", "apart", {}, code=409)


async def test_a_route_gets_the_schemas_defaults_and_counts_its_changes(http: aiohttp.ClientSession) -> None:
    made = await post(http, ROUTES, "split", route(STABLE, {"name": "canary", "port": 80}))
    (rule,) = made["spec"]["rules"]
    assert rule["backendRefs"][1] == {"group": "", "kind": "Service", "name": "canary", "port": 80, "weight": 1}
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert made["metadata"]["generation"] == 1
    operations = [
        {"op": "test", "path": "/spec/rules/0/backendRefs/1/name", "value": "canary"},
        {"op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 0},
    ]
    headers = {"Content-Type": "application/json-patch+json"}
    async with http.patch(f"{ROUTES}/split", json=operations, headers=headers) as answer:
        assert (await answer.json())["metadata"]["generation"] == 2
    status: Any = {"status": {"parents": []}, "spec": {}}
    async with http.patch(f"{ROUTES}/split/status", json=status, headers=MERGE) as answer:
        item = await answer.json()
    assert (item["metadata"]["generation"], item["status"]) == (2, {"parents": []})
    assert item["spec"]["rules"][0]["backendRefs"][1]["weight"] == 0
    headers = {"Content-Type": "application/strategic-merge-patch+json"}
    async with http.patch(f"{ROUTES}/split", json={}, headers=headers) as answer:
        assert answer.status == 415


@pytest.mark.parametrize(
    ("spec", "code", "told"),
    [
        ({"rules": "all"}, 422, 'spec.rules in body must be of type array: "string"'),
        (route(STABLE | {"weight": "9"}), 422, 'weight in body must be of type integer: "string"'),
        (route(STABLE | {"weight": -1}), 422, "weight in body should be greater than or equal to 0"),
        (route(STABLE | {"weight": 1_000_001}), 422, "weight in body should be less than or equal to 1000000"),
        (route({"name": "frontend"}), 422, "Must have port for Service reference"),
        (route({"port": 80}), 422, "spec.rules[0].backendRefs[0].name: Required value"),
        (route(STABLE, matches=[{"path": {"value": "x"}}]), 422, "must be an absolute path"),
        (route(STABLE, matches=[{"path": {"value": "/x"}}]), 403, "matches other than every path"),
        (route(STABLE, filters=[{"type": "RequestMirror"}]), 403, "spec.rules[].filters"),
        (route(STABLE, timeouts={"request": "1s"}), 403, "spec.rules[].timeouts"),
        (route(STABLE, CANARY, CANARY), 403, "one or two backends"),
        (route(STABLE) | {"hostnames": ["a.example.org"]}, 403, "spec.hostnames"),
        (route(STABLE) | {"parentRefs": [{"name": "gateway"}]}, 403, "Gateways"),
    ],
)
async def test_a_route_that_the_network_cannot_follow_is_refused(
    http: aiohttp.ClientSession, spec: Any, code: int, told: str
) -> None:
    assert told in (await post(http, ROUTES, "split", spec, code))["message"]


def canary(image: str = "ghcr.io/open-telemetry/demo:2.2.0-cart", **labels: str) -> Any:
    containers = [{"name": "cart", "image": image}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    return {"selector": {"matchLabels": labels}, "template": template}


async def test_a_deployment_beside_the_services_own_runs_one_of_them(
    http: aiohttp.ClientSession, cluster: Cluster
) -> None:
    labels = {"opentelemetry.io/name": "cart", "track": "canary"}
    spec = canary(**labels)
    stable = (await get(http, f"{DEPLOYMENTS}/cart"))["spec"]
    spec["template"]["spec"] = stable["template"]["spec"]  # with the environment that its program needs
    await post(http, DEPLOYMENTS, "cart-canary", spec)
    cluster.settle()
    assert (await get(http, f"{DEPLOYMENTS}/cart-canary"))["status"]["availableReplicas"] == 1
    other = canary("ghcr.io/open-telemetry/demo:2.2.0-frontend", **labels)
    refused = await post(http, DEPLOYMENTS, "odd", other, 403)
    assert "is that of service frontend" in refused["message"]
    refused = await post(http, DEPLOYMENTS, "none", canary(app="else"), 403)
    assert "run the services of the application only" in refused["message"]


def field(number: int, value: bytes | str | int) -> bytes:
    """Return a field of a Protocol Buffers message; all lengths and numbers here fit one byte."""
    if isinstance(value, int):
        return bytes((number << 3, value))
    encoded = value.encode() if isinstance(value, str) else value
    return bytes((number << 3 | 2, len(encoded))) + encoded


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=10)
@given(st.integers(1, 9), st.integers(1, 99))
async def test_an_autoscaler_in_protocol_buffers_is_that_of_json(
    http: aiohttp.ClientSession, most: int, utilization: int
) -> None:
    target = field(1, "Deployment") + field(2, "cart") + field(3, "apps/v1")
    metric = field(1, "Resource") + field(
        4, field(1, "cpu") + field(2, field(1, "Utilization") + field(4, utilization))
    )
    quantity = field(1, "Resource") + field(
        4, field(1, "memory") + field(2, field(1, "AverageValue") + field(3, field(1, "64Mi")))
    )
    for path, spec in (
        (OLD_AUTOSCALERS, field(1, target) + field(2, 1) + field(3, most) + field(4, utilization)),
        (AUTOSCALERS, field(1, target) + field(2, 1) + field(3, most) + field(4, metric) + field(4, quantity)),
    ):
        version = path.split("/")[3]
        raw = field(1, field(1, "cart")) + field(2, spec)
        # The raw part is longer than one byte can say: its length has two.
        length = bytes((len(raw) & 0x7F | 0x80, len(raw) >> 7))
        kind = field(1, field(1, f"autoscaling/{version}") + field(2, "HorizontalPodAutoscaler"))
        headers = {"Content-Type": "application/vnd.kubernetes.protobuf"}
        body = b"k8s\0" + kind + bytes((2 << 3 | 2,)) + length + raw
        async with http.post(path, data=body, headers=headers) as answer:
            assert answer.status == 201, await answer.text()
        spec_read = (await get(http, f"{AUTOSCALERS}/cart"))["spec"]
        assert (spec_read["maxReplicas"], spec_read["scaleTargetRef"]) == (most, TARGET)
        assert spec_read["metrics"][0]["resource"]["target"]["averageUtilization"] == utilization
        if path == AUTOSCALERS:
            assert spec_read["metrics"][1]["resource"]["target"] == {"type": "AverageValue", "averageValue": "64Mi"}
        async with http.delete(f"{AUTOSCALERS}/cart") as answer:
            assert answer.status == 200


REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


async def test_whoever_has_shown_the_token_may_do_everything_and_is_told_so(http: aiohttp.ClientSession) -> None:
    asked = {
        "resourceAttributes": {"namespace": "otel-demo", "verb": "patch", "group": "apps", "resource": "deployments"}
    }
    async with http.post(REVIEWS, json={"spec": asked}) as answer:
        assert (answer.status, (await answer.json())["status"]["allowed"]) == (201, True)


@pytest.mark.parametrize("spec", [None, {}, {"resourceAttributes": {}, "nonResourceAttributes": {}}])
async def test_a_review_says_what_is_to_be_reviewed(http: aiohttp.ClientSession, spec: Any) -> None:
    async with http.post(REVIEWS, json={"spec": spec}) as answer:
        assert answer.status == 400
        assert "exactly one of" in (await answer.json())["message"]


async def test_the_applications_namespace_is_marked_as_a_stand_and_no_other(http: aiohttp.ClientSession) -> None:
    namespaces = (await get(http, "/api/v1/namespaces"))["items"]
    marked = [item["metadata"]["name"] for item in namespaces if "otel-control-gym/stand" in item["metadata"]["labels"]]
    assert marked == ["otel-demo"]
