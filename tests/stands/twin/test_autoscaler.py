"""An autoscaler looks every 15 seconds, follows the load within its windows and rates, and says what holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.stands.twin.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from otel_control_gym.stands.twin.objects import (
    DEPLOYMENT,
    EVENT,
    HORIZONTAL_POD_AUTOSCALER,
    Object,
    condition,
)

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

NAMESPACE = "otel-demo"
CPU: Object = {
    "type": "Resource",
    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}},
}


def autoscale(cluster: Cluster, name: str = "cart", **more: Any) -> Object:
    """Create an autoscaler of the carts: 4 pods at the start, each requests 0.1 cores."""
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cart"}
    spec = {"scaleTargetRef": reference, "minReplicas": 2, "maxReplicas": 10, "metrics": [CPU]} | more
    body = {"metadata": {"name": name}, "spec": spec}
    return cluster.api.create(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, body)


def load(cluster: Cluster, cores: float, seconds: int) -> None:
    """Let the carts that are in the endpoints share a load for a time."""
    for _ in range(seconds):
        cluster.live(1)
        serving = [
            uid for uid in cluster.runtime.running if cluster.runtime.endpoints.get(uid) and is_cart(cluster, uid)
        ]
        for uid in serving:
            cluster.runtime.cpu[uid] = cluster.runtime.cpu.get(uid, 0.0) + cores / len(serving)


def is_cart(cluster: Cluster, uid: str) -> bool:
    return cluster.runtime.running[uid][0] == "cart"


def size(cluster: Cluster) -> int:
    return int(cluster.read(DEPLOYMENT, "cart")["spec"]["replicas"])


def says(cluster: Cluster, name: str) -> tuple[str, str]:
    found = condition(cluster.read(HORIZONTAL_POD_AUTOSCALER, "cart"), name)
    assert found is not None
    return found["status"], found["reason"]


def told(cluster: Cluster) -> list[str]:
    events = [
        item
        for item in cluster.control_plane.store.objects(EVENT)
        if item["involvedObject"]["kind"] == "HorizontalPodAutoscaler"
    ]
    events.sort(key=lambda item: int(item["metadata"]["name"].rpartition(".")[2], 16))
    return [f"{item['reason']}: {item['message']}" for item in events]


def test_the_first_look_is_after_fifteen_seconds_and_follows_the_ratio(cluster: Cluster) -> None:
    generation = cluster.read(DEPLOYMENT, "cart")["metadata"]["generation"]
    autoscale(cluster)
    load(cluster, 0.3, 14)  # 75 % of the 0.4 cores requested, 50 % is wanted
    assert size(cluster) == 4
    load(cluster, 0.3, 2)
    assert size(cluster) == 6
    assert cluster.read(DEPLOYMENT, "cart")["metadata"]["generation"] == generation + 1
    assert told(cluster) == [
        "SuccessfulRescale: New size: 6; reason: cpu resource utilization (percentage of request) above target"
    ]
    status = cluster.read(HORIZONTAL_POD_AUTOSCALER, "cart")["status"]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (4, 6)
    assert "lastScaleTime" in status
    current = status["currentMetrics"][0]["resource"]["current"]
    assert 65 <= current["averageUtilization"] <= 75, (
        "measured over ten seconds, the last of which is still to be counted"
    )
    assert says(cluster, "AbleToScale") == ("True", "SucceededRescale")
    assert says(cluster, "ScalingActive") == ("True", "ValidMetricFound")
    assert says(cluster, "ScalingLimited") == ("False", "DesiredWithinRange")


def test_a_load_within_the_tolerance_changes_nothing(cluster: Cluster) -> None:
    autoscale(cluster)
    load(cluster, 0.21, 300)
    assert size(cluster) == 4
    assert told(cluster) == []
    assert says(cluster, "AbleToScale") == ("True", "ReadyForNewScale")


def test_growth_stops_at_the_bound_and_says_so(cluster: Cluster) -> None:
    autoscale(cluster, maxReplicas=7)
    load(cluster, 2.0, 120)
    assert size(cluster) == 7
    assert says(cluster, "ScalingLimited") == ("True", "TooManyReplicas")


def test_a_size_goes_down_only_after_five_minutes_of_lower_recommendations(cluster: Cluster) -> None:
    autoscale(cluster)
    load(cluster, 0.2, 60)
    load(cluster, 0.06, 285)
    assert size(cluster) == 4
    assert says(cluster, "AbleToScale") == ("True", "ScaleDownStabilized")
    load(cluster, 0.06, 45)
    assert size(cluster) == 2
    assert told(cluster)[-1] == "SuccessfulRescale: New size: 2; reason: All metrics below target"


def test_a_flapping_load_holds_the_highest_recommendation(cluster: Cluster) -> None:
    autoscale(cluster)
    sizes = []
    for _ in range(8):
        load(cluster, 0.4, 60)
        sizes.append(size(cluster))
        load(cluster, 0.05, 60)
        sizes.append(size(cluster))
    assert set(sizes[2:]) == {max(sizes)}


def test_a_behavior_sets_window_and_rate(cluster: Cluster) -> None:
    slow = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}
    autoscale(cluster, behavior={"scaleUp": slow, "scaleDown": {"stabilizationWindowSeconds": 0}})
    load(cluster, 2.0, 20)
    assert size(cluster) == 5
    assert says(cluster, "ScalingLimited") == ("True", "ScaleUpLimit")
    load(cluster, 2.0, 60)
    assert size(cluster) == 6
    load(cluster, 0.01, 60)
    assert size(cluster) == 2


def test_a_size_that_somebody_else_set_is_brought_back(cluster: Cluster) -> None:
    autoscale(cluster, minReplicas=3)
    load(cluster, 0.2, 20)
    for asked, brought_back in ((1, 3), (12, 10)):
        cluster.api.patch_scale(NAMESPACE, "cart", {"spec": {"replicas": asked}}, MERGE_PATCH)
        load(cluster, 0.2, 15)
        assert size(cluster) == brought_back
    assert "Current number of replicas below Spec.MinReplicas" in told(cluster)[0]
    assert "Current number of replicas above Spec.MaxReplicas" in told(cluster)[1]


def test_a_target_at_zero_switches_the_autoscaler_off(cluster: Cluster) -> None:
    autoscale(cluster)
    cluster.api.patch_scale(NAMESPACE, "cart", {"spec": {"replicas": 0}}, MERGE_PATCH)
    load(cluster, 0.0, 60)
    assert size(cluster) == 0
    assert says(cluster, "ScalingActive") == ("False", "ScalingDisabled")


def test_memory_is_a_metric_too_and_the_largest_proposal_counts(cluster: Cluster) -> None:
    memory = {"name": "memory", "target": {"type": "AverageValue", "averageValue": "10Mi"}}
    autoscale(cluster, metrics=[CPU, {"type": "Resource", "resource": memory}])
    for uid in cluster.runtime.running:
        cluster.runtime.resident[uid] = 20 * 2**20
    load(cluster, 0.2, 16)
    assert size(cluster) == 8
    assert told(cluster)[-1].endswith("reason: memory resource above target")
    status = cluster.read(HORIZONTAL_POD_AUTOSCALER, "cart")["status"]
    assert status["currentMetrics"][1]["resource"]["current"] == {"averageValue": "20971520"}


def test_a_container_without_a_request_has_no_utilisation(cluster: Cluster) -> None:
    container = {"name": "cart", "resources": {"limits": {"cpu": None}, "requests": {"cpu": None}}}
    body = {"spec": {"template": {"spec": {"containers": [container]}}}}
    cluster.api.patch(DEPLOYMENT, NAMESPACE, "cart", body, STRATEGIC_MERGE_PATCH)
    cluster.live(60)
    autoscale(cluster)
    load(cluster, 0.4, 60)
    assert size(cluster) == 4
    assert says(cluster, "ScalingActive") == ("False", "FailedGetResourceMetric")
    assert any("missing request for cpu in container cart of Pod" in text for text in told(cluster))


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ({"apiVersion": "apps/v1", "kind": "Deployment", "name": "card"}, 'deployments/scale.apps "card" not found'),
        ({"apiVersion": "batch/v1", "kind": "Job", "name": "cart"}, 'no matches for kind "Job" in group "batch"'),
    ],
)
def test_a_target_that_is_not_there_is_told(cluster: Cluster, reference: Object, problem: str) -> None:
    autoscale(cluster, scaleTargetRef=reference)
    cluster.live(16)
    assert says(cluster, "AbleToScale") == ("False", "FailedGetScale")
    assert told(cluster) == [f"FailedGetScale: {problem}"]


def test_a_source_without_an_adapter_fails_and_forbids_to_shrink_but_not_to_grow(cluster: Cluster) -> None:
    pods = {
        "type": "Pods",
        "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}},
    }
    autoscale(cluster, metrics=[CPU, pods])
    load(cluster, 0.05, 400)
    assert size(cluster) == 4
    assert says(cluster, "ScalingActive") == ("False", "FailedGetPodsMetric")
    load(cluster, 0.4, 60)
    assert size(cluster) > 4
    assert says(cluster, "ScalingActive") == ("True", "ValidMetricFound")


def test_two_autoscalers_of_one_target_do_nothing(cluster: Cluster) -> None:
    autoscale(cluster)
    autoscale(cluster, name="rival")
    load(cluster, 0.4, 60)
    assert size(cluster) == 4
    assert says(cluster, "ScalingActive") == ("False", "AmbiguousSelector")


def test_what_pods_use_to_start_is_no_load(cluster: Cluster) -> None:
    old = {pod["metadata"]["uid"] for pod in cluster.pods_of("cart")}
    autoscale(cluster)
    load(cluster, 0.2, 23)
    cluster.api.patch_scale(NAMESPACE, "cart", {"spec": {"replicas": 6}}, MERGE_PATCH)
    load(cluster, 0.3, 10)  # at 25 s their containers run and are sampled, and aren't ready yet
    for pod in cluster.pods_of("cart"):
        if pod["metadata"]["uid"] not in old:
            cluster.runtime.cpu[pod["metadata"]["uid"]] = 100.0
    load(cluster, 0.3, 13)
    assert size(cluster) == 6, "the window of 25 s to 40 s began before they were ready"


def test_without_an_autoscaler_nobody_measures(cluster: Cluster) -> None:
    autoscale(cluster)
    load(cluster, 0.2, 20)
    cluster.api.delete(HORIZONTAL_POD_AUTOSCALER, NAMESPACE, "cart", {})
    cluster.live(40)
    cluster.settle()
    calls = len(cluster.runtime.cpu_reads)
    cluster.live(60)
    assert len(cluster.runtime.cpu_reads) == calls > 0
