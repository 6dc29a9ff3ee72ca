"""A canary is a Deployment beside the service's own: without a route its pods are as good as others, with one they get their weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_control_gym.stands.twin.api import JSON_PATCH
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.objects import DEPLOYMENT, HTTP_ROUTE, SERVICE, Object

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

NAMESPACE = "otel-demo"


@pytest.fixture
def canary(cluster: Cluster) -> Cluster:
    """Return a cluster with one cart of another build beside the four."""
    own = cluster.read(DEPLOYMENT, "cart")["spec"]
    labels = own["template"]["metadata"]["labels"] | {"track": "canary"}
    (container,) = own["template"]["spec"]["containers"]
    container = container | {"image": "ghcr.io/open-telemetry/demo:2.2.1-cart"}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"opentelemetry.io/name": "cart", "track": "canary"}},
        "template": {"metadata": {"labels": labels}, "spec": own["template"]["spec"] | {"containers": [container]}},
    }
    cluster.api.create(DEPLOYMENT, NAMESPACE, {"metadata": {"name": "cart-canary"}, "spec": spec})
    serve(cluster, "cart-canary", {"opentelemetry.io/name": "cart", "track": "canary"})
    cluster.live(30)
    return cluster


def serve(cluster: Cluster, name: str, selector: dict[str, str]) -> None:
    spec = {"selector": selector, "ports": [{"port": 8080}]}
    cluster.api.create(SERVICE, NAMESPACE, {"metadata": {"name": name}, "spec": spec})


def route(cluster: Cluster, *weights: tuple[str, int], parent: str = "cart", name: str = "split") -> Object:
    backends = [{"name": backend, "port": 8080, "weight": weight} for backend, weight in weights]
    spec = {"parentRefs": [{"group": "", "kind": "Service", "name": parent}], "rules": [{"backendRefs": backends}]}
    return cluster.api.create(HTTP_ROUTE, NAMESPACE, {"metadata": {"name": name}, "spec": spec})


def status(cluster: Cluster, name: str = "split") -> dict[str, tuple[str, str]]:
    (parent,) = cluster.read(HTTP_ROUTE, name)["status"]["parents"]
    return {item["type"]: (item["status"], item["reason"]) for item in parent["conditions"]}


def test_the_pods_of_a_second_deployment_join_the_service_s_endpoints(canary: Cluster) -> None:
    serving = [
        pod["metadata"]["uid"] for pod in canary.pods_of("cart") if canary.runtime.endpoints[pod["metadata"]["uid"]]
    ]
    assert len(serving) == 5
    marked = [canary.runtime.processes[uid] for uid in serving if canary.runtime.processes[uid].canary]
    assert [process.version for process in marked] == ["2.2.1"]
    assert canary.runtime.splits == {}
    assert {view.deployment for view in canary.control_plane.pods() if view.service == "cart"} == {
        "cart",
        "cart-canary",
    }


def test_a_route_splits_by_weight_where_the_backends_are_disjoint(canary: Cluster) -> None:
    stable = next(pod for pod in canary.pods_of("cart") if "track" not in pod["metadata"]["labels"])
    digest = stable["metadata"]["labels"]["pod-template-hash"]
    serve(canary, "cart-stable", {"opentelemetry.io/name": "cart", "pod-template-hash": digest})
    route(canary, ("cart-stable", 95), ("cart-canary", 5))
    canary.live(1)
    assert canary.runtime.splits == {"cart": 0.05}
    assert status(canary) == {
        "Accepted": ("True", "Accepted"),
        "ResolvedRefs": ("True", "ResolvedRefs"),
        "Programmed": ("True", "Programmed"),
    }


def test_a_backend_that_selects_the_canary_too_gives_it_its_part(canary: Cluster) -> None:
    route(canary, ("cart", 90), ("cart-canary", 10))
    canary.live(1)
    assert canary.runtime.splits["cart"] == pytest.approx(0.9 / 5 + 0.1)
    canary.api.patch_scale(NAMESPACE, "cart-canary", {"spec": {"replicas": 4}}, "application/merge-patch+json")
    canary.live(30)
    assert canary.runtime.splits["cart"] == pytest.approx(0.9 / 2 + 0.1)


def test_weights_change_live_and_go_with_the_route(canary: Cluster) -> None:
    route(canary, ("cart", 0), ("cart-canary", 1))
    canary.live(1)
    assert canary.runtime.splits == {"cart": 1.0}
    path = "/spec/rules/0/backendRefs"
    patch = [
        {"op": "test", "path": f"{path}/1/name", "value": "cart-canary"},
        {"op": "replace", "path": f"{path}/1/weight", "value": 0},
        {"op": "replace", "path": f"{path}/0/weight", "value": 1},
    ]
    canary.api.patch(HTTP_ROUTE, NAMESPACE, "split", patch, JSON_PATCH)
    canary.live(1)
    assert canary.runtime.splits == {"cart": pytest.approx(0.2)}
    (parent,) = canary.read(HTTP_ROUTE, "split")["status"]["parents"]
    assert {item["observedGeneration"] for item in parent["conditions"]} == {2}
    canary.api.delete(HTTP_ROUTE, NAMESPACE, "split", {})
    canary.live(1)
    assert canary.runtime.splits == {}


def test_a_backend_without_pods_keeps_its_share_which_fails(canary: Cluster) -> None:
    route(canary, ("cart", 1), ("cart-canary", 1))
    canary.api.patch_scale(NAMESPACE, "cart-canary", {"spec": {"replicas": 0}}, "application/merge-patch+json")
    canary.live(60)
    assert canary.runtime.splits == {"cart": 0.5}
    assert all(not canary.runtime.processes[pod["metadata"]["uid"]].canary for pod in canary.pods_of("cart"))


def test_what_a_route_names_and_is_not_there_is_told_in_its_status(canary: Cluster) -> None:
    route(canary, ("cart", 1), ("cart-green", 1))
    route(canary, ("cart", 1), parent="basket", name="lost")
    canary.live(1)
    assert status(canary)["ResolvedRefs"] == ("False", "BackendNotFound")
    assert status(canary)["Accepted"] == ("True", "Accepted")
    assert status(canary, "lost")["Accepted"] == ("False", "NoMatchingParent")
    serve(canary, "cart-green", {"opentelemetry.io/name": "cart"})
    canary.live(1)
    assert status(canary)["ResolvedRefs"] == ("True", "ResolvedRefs")


def test_of_two_routes_of_a_service_the_older_one_counts(canary: Cluster) -> None:
    route(canary, ("cart-canary", 1))
    canary.live(2)
    route(canary, ("cart", 1), name="another")
    canary.live(1)
    assert canary.runtime.splits == {"cart": 1.0}
    canary.api.delete(HTTP_ROUTE, NAMESPACE, "split", {})
    canary.live(1)
    assert canary.runtime.splits == {"cart": pytest.approx(0.2)}


def test_weights_that_are_all_zero_are_refused(canary: Cluster) -> None:
    with pytest.raises(ApiError, match="weights are all 0"):
        route(canary, ("cart", 0), ("cart-canary", 0))
