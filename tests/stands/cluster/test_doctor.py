"""A stand that is well has no failed finding; whatever is wrong with it is found, named and comes with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from otel_control_gym.stands.cluster.findings import Diagnosis

if TYPE_CHECKING:
    from tests.stands.cluster.conftest import Change, Examination

DEPLOYMENTS = "/apis/apps/v1/namespaces/otel-demo/deployments"
PODS = "/api/v1/namespaces/otel-demo/pods"
DAEMONS = "/apis/apps/v1/namespaces/chaos-mesh/daemonsets/chaos-daemon"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/ocg-system/leases"
CHAOS = "/apis/chaos-mesh.org/v1alpha1"
METRICS = "/apis/metrics.k8s.io/v1beta1/namespaces/otel-demo/pods"


def only(path: str, altered: Any, *, method: str = "GET") -> Change:
    """Return a change of one answer; a function of it gets what the cluster says."""

    def change(asked: str, where: str, found: Any) -> Any:
        if (asked, where) != (method, path):
            return None
        return altered(found) if callable(altered) else altered

    return change


def refusal(status: int, message: str) -> Any:
    return lambda _: web.json_response({"kind": "Status", "message": message}, status=status)


def one(items: list[Any], **changes: Any) -> dict[str, Any]:
    """Return a list of objects whose first one is changed."""
    return {"items": [items[0] | changes, *items[1:]]}


async def test_a_stand_that_is_well_has_no_failed_finding(examine: Examination) -> None:
    findings = await examine()
    assert Diagnosis(findings=tuple(findings)).healthy
    seen = {finding.check: finding for finding in findings}
    for check in ("Kubernetes", "mark", "operating", "nodes", "application", "safekeeping", "Prometheus", "clocks"):
        assert seen[check].status == "ok", seen[check]
    assert "14 Deployments" in seen["application"].found
    assert "20 of 20 users" in seen["load generator"].found


def not_ready(found: Any) -> Any:
    condition = {"type": "Ready", "status": "False", "reason": "KubeletNotReady"}
    return one(found["items"], status=found["items"][0]["status"] | {"conditions": [condition]})


def small(found: Any) -> Any:
    return one(found["items"], status=found["items"][0]["status"] | {"allocatable": {"cpu": "1", "memory": "64Gi"}})


def in_kind(found: Any) -> Any:
    return one(found["items"], spec=found["items"][0]["spec"] | {"providerID": "kind://docker/one/one"})


def two(found: Any) -> Any:
    return {"items": found["items"] * 2}


def without_cart(found: Any) -> Any:
    return {"items": [item for item in found["items"] if item["metadata"]["name"] != "cart"]}


def down(found: Any) -> Any:
    return one(found["items"], status=found["items"][0]["status"] | {"availableReplicas": 0})


def unbounded(found: Any) -> Any:
    item = found["items"][0]
    template = item["spec"]["template"]
    containers = [{**container, "resources": {}} for container in template["spec"]["containers"]]
    spec = {**item["spec"], "template": {**template, "spec": {**template["spec"], "containers": containers}}}
    return one(found["items"], spec=spec)


def paused(found: Any) -> Any:
    return one(found["items"], spec=found["items"][0]["spec"] | {"paused": True})


def denied(found: Any) -> Any:
    resource = found["spec"]["resourceAttributes"]["resource"]
    return found | {"status": {"allowed": resource != "networkchaos"}}


def without_daemonsets(found: Any) -> Any:
    return found | {"status": {"allowed": found["spec"]["resourceAttributes"]["resource"] != "daemonsets"}}


def without_rules(found: Any) -> Any:
    return {"resources": [item for item in found["resources"] if item["name"] != "podnetworkchaos"]}


def without_edges(found: Any) -> Any:
    kept = [item for item in found["data"]["result"] if "service_graph" not in item["metric"]["__name__"]]
    return {"status": "success", "data": {"resultType": "vector", "result": kept}}


def old_lease(_: Any) -> Any:
    return {"items": [{"metadata": {"name": "ocg-01j"}, "spec": {"renewTime": "2020-01-01T00:00:00Z"}}]}


def stopped_autoscaler(_: Any) -> Any:
    condition = {
        "type": "ScalingActive",
        "status": "False",
        "reason": "FailedGetResourceMetric",
        "message": "no metrics",
    }
    return {"items": [{"metadata": {"name": "frontend"}, "status": {"conditions": [condition]}}]}


def daemon(
    *, wanted: int = 1, ready: int = 1, runtime: str = "containerd", socket: str = "/run/containerd/containerd.sock"
) -> dict[str, Any]:
    container = {"name": "chaos-daemon", "command": ["/usr/local/bin/chaos-daemon", "--runtime", runtime]}
    volume = {"name": "socket-path", "hostPath": {"path": socket}}
    return {
        "spec": {"template": {"spec": {"containers": [container], "volumes": [volume]}}},
        "status": {"desiredNumberScheduled": wanted, "numberReady": min(ready, wanted)},
    }


def elsewhere(_: str, path: str, found: Any) -> Any:
    if path == DAEMONS:
        return daemon()
    if path == PODS:
        return one(found["items"], spec=found["items"][0]["spec"] | {"nodeName": "another"})
    return None


def broken_metrics(_: str, path: str, __: Any) -> Any:
    if path == METRICS:
        return refusal(503, "unavailable")(None)
    if path == "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io":
        reason = {"type": "Available", "status": "False", "reason": "FailedDiscoveryCheck", "message": "no route"}
        return {"status": {"conditions": [reason]}}
    return None


def small_disk(found: Any) -> Any:
    allocatable = found["items"][0]["status"]["allocatable"] | {"ephemeral-storage": "20Gi"}
    return one(found["items"], status=found["items"][0]["status"] | {"allocatable": allocatable})


SERIES = "/api/v1/query?series"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/otel-demo/horizontalpodautoscalers"
TROUBLES = {
    "an old version": (only("/version", {"gitVersion": "v1.28.0"}), "Kubernetes", "failed", "1.33 or newer", "upgrade"),
    "credentials that aren't taken": (
        only("/version", refusal(401, "Unauthorized")), "Kubernetes", "failed", "Unauthorized", "credentials",
    ),
    "no Kubernetes": (only("/version", {"hello": "world"}), "Kubernetes", "failed", "version ''", "another context"),
    "no mark": (
        only("/api/v1/namespaces/otel-demo", {"metadata": {"labels": {}}}),
        "mark", "failed", "isn't marked", "kubectl label namespace otel-demo otel-control-gym/stand=true",
    ),
    "no namespace": (
        only("/api/v1/namespaces/otel-demo", refusal(404, "not found")), "mark", "failed", "no namespace otel-demo", "namespaces.yaml",
    ),
    "a permission that isn't granted": (
        only(REVIEWS, denied, method="POST"), "operating", "failed", "create networkchaos.chaos-mesh.org in otel-demo", "rbac.yaml",
    ),
    "reviews that aren't made": (
        only(REVIEWS, refusal(403, "forbidden"), method="POST"), "operating", "unknown", "HTTP 403", "",
    ),
    "no node": (only("/api/v1/nodes", {"items": []}), "nodes", "failed", "there are none", "join one"),
    "a node that isn't ready": (only("/api/v1/nodes", not_ready), "nodes", "failed", "Ready is False", "describe node"),
    "a node that is too small": (only("/api/v1/nodes", small), "nodes", "warning", "of 1.0 cores", "larger node"),
    "a node that is a container": (only("/api/v1/nodes", in_kind), "nodes", "warning", "node agent doesn't work", "k3s"),
    "two nodes": (only("/api/v1/nodes", two), "nodes", "warning", "2 nodes", "one node"),
    "a service that is missing": (only(DEPLOYMENTS, without_cart), "application", "failed", "no Deployment cart", "install"),
    "a service that is down": (only(DEPLOYMENTS, down), "application", "failed", "not available", "describe pod"),
    "a container without bounds": (only(DEPLOYMENTS, unbounded), "application", "failed", "without a CPU request", "our values"),
    "a rollout that is paused": (only(DEPLOYMENTS, paused), "application", "warning", "paused", "rollout resume"),
    "no metrics API": (only(METRICS, refusal(503, "unavailable")), "autoscaling", "warning", "HTTP 503", "metrics-server"),
    "an autoscaler that can't": (only(AUTOSCALERS, stopped_autoscaler), "autoscaling", "failed", "FailedGetResourceMetric", "hpa frontend"),
    "no Chaos Mesh": (only(CHAOS, refusal(404, "no")), "faults", "failed", "no Chaos Mesh", "helm"),
    "a webhook that is down": (
        only(f"{CHAOS}/namespaces/otel-demo/podchaos", refusal(500, "failed calling webhook"), method="POST"),
        "faults", "failed", "failed calling webhook", "chaos-mesh get pods",
    ),
    "daemons that aren't ready": (
        only(DAEMONS, daemon(ready=0)), "faults", "failed", "ready on 0 of 1 nodes", "logs daemonset/chaos-daemon",
    ),
    "a daemon that no node takes": (only(DAEMONS, daemon(wanted=0)), "faults", "failed", "0 of 0 nodes", "--show-labels"),
    "a daemon for another runtime": (
        only(DAEMONS, daemon(runtime="docker")), "faults", "failed", "speaks to docker", "chaosDaemon.runtime",
    ),
    "a daemon whose runtime listens elsewhere": (
        only(DAEMONS, daemon(socket="/run/k3s/containerd/containerd.sock")), "faults", "failed", "/run/k3s", "socketPath",
    ),
    "targets where no daemon is": (elsewhere, "faults", "failed", "on 1 nodes, and targets are on 2", "tolerations"),
    "what no object tells of a kernel": (only(DAEMONS, daemon()), "faults", "unknown", "sch_netem", "--probe"),
    "a kind of fault that isn't served": (
        only(CHAOS, without_rules),
        "faults", "failed", "doesn't serve podnetworkchaos", "ocg stand up",
    ),
    "a metrics API that says why": (broken_metrics, "autoscaling", "warning", "FailedDiscoveryCheck: no route", "metrics-server"),
    "an autoscaler that hasn't begun": (
        only(AUTOSCALERS, {"items": [{"metadata": {"name": "frontend"}}]}), "autoscaling", "unknown", "doesn't tell yet", "again",
    ),
    "a small disk": (only("/api/v1/nodes", small_disk), "nodes", "warning", "20 GiB of disk", "60 GiB"),
    "a node that is too small for what isn't there yet": (
        lambda method, path, found: small(found) if path == "/api/v1/nodes" else {"items": []} if path == PODS else None,
        "nodes", "warning", "will request at least", "larger node",
    ),
    "a daemon that mustn't be read": (
        only(REVIEWS, without_daemonsets, method="POST"),
        "informing", "warning", "get daemonsets.apps in chaos-mesh", "rbac.yaml",
    ),
    "a fault that was left": (
        only(f"{CHAOS}/namespaces/otel-demo/stresschaos", {"items": [{"metadata": {"name": "ocg-1"}}]}),
        "faults", "warning", "stresschaos/ocg-1", "ocg stand clean",
    ),
    "a gym that died": (only(LEASES, old_lease), "safekeeping", "warning", "ocg-01j", "janitor"),
    "nowhere to keep inverses": (only(LEASES, refusal(403, "forbidden")), "safekeeping", "failed", "forbidden", "namespaces.yaml"),
    "nothing is scraped": (only(SERIES, {"data": {"result": []}}), "Prometheus", "failed", "no series", "deploy/helm"),
    "a metric that isn't scraped": (only(SERIES, without_edges), "Prometheus", "warning", "edge.status_count", "deploy/helm"),
    "a stock Locust": (
        lambda method, path, found: refusal(404, "no")(found) if path == "/ocg/workload" else None,
        "load generator", "warning", "stock Locust", "",
    ),
    "no users": (only("/ocg/workload", {"state": "stopped"}), "load generator", "failed", "is stopped", "POST /swarm"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "check", "status", "found", "remedy"), TROUBLES.values(), ids=TROUBLES)
async def test_what_is_wrong_is_found_and_can_be_helped(
    change: Change, check: str, status: str, found: str, remedy: str, examine: Examination
) -> None:
    findings = [finding for finding in await examine(change, check=check) if finding.status == status]
    assert [finding for finding in findings if found in finding.found and remedy in finding.remedy], findings


async def test_a_clock_that_is_wrong_is_found(examine: Examination) -> None:
    asked = 0

    def later(_: str, path: str, found: Any) -> Any:
        nonlocal asked
        if path != "/api/v1/query":
            return None
        asked += 1  # the first is that of the metrics' check
        at = float(found["data"]["result"][1]) + (10.0 if asked > 1 else 0.0)
        return {"status": "success", "data": {"resultType": "scalar", "result": [at, str(at)]}}

    (finding,) = await examine(later, check="clocks")
    assert (finding.status, "10.000 s ahead" in finding.found) == ("failed", True), finding


async def test_a_clock_of_the_api_server_that_is_wrong_is_found(examine: Examination) -> None:
    def later(_: str, path: str, __: Any) -> Any:
        late = {"Date": "Mon, 05 Jan 2015 00:00:00 GMT"}
        return web.json_response({"gitVersion": "v1.36.2"}, headers=late) if path == "/version" else None

    (finding,) = await examine(later, check="clocks")
    assert finding.status == "failed"
    assert finding.found.startswith("the API server's is")


async def test_pods_that_hang_say_why(examine: Examination) -> None:
    def change(method: str, path: str, found: Any) -> Any:
        if path == DEPLOYMENTS:
            return down(found)
        if path == PODS and method == "GET":
            waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
            status = found["items"][0]["status"] | {"containerStatuses": [{"state": {"waiting": waiting}}]}
            return one(found["items"], status=status)
        return None

    (finding,) = [finding for finding in await examine(change, check="application") if finding.status == "failed"]
    assert "ImagePullBackOff no such image" in finding.found
    assert "kind load" in finding.remedy


async def test_if_nobody_answers_nothing_else_is_looked_at(examine: Examination) -> None:
    (finding,) = await examine(places={"kubernetes": "http://127.0.0.1:1"})
    assert (finding.check, finding.status) == ("Kubernetes", "failed")
    assert "no answer" in finding.found


@pytest.mark.parametrize("service", ["load_generator", "flagd", "coroot"])
async def test_a_service_that_is_down_is_found_and_nothing_breaks(service: str, examine: Examination) -> None:
    findings = await examine(places={service: "http://127.0.0.1:1"})
    (finding,) = [finding for finding in findings if "no answer" in finding.found]
    assert finding.status in ("failed", "warning")
    assert finding.remedy


async def test_without_prometheus_the_rest_is_looked_at_all_the_same(examine: Examination) -> None:
    def change(_: str, path: str, __: Any) -> Any:
        return web.Response(status=502) if path == "/api/v1/query" else None

    seen = {finding.check: finding for finding in await examine(change)}
    assert seen["Prometheus"].status == "failed"
    assert "the API server's" in seen["clocks"].found
    assert seen["flags"].status == "ok"
