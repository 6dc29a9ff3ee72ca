"""Pod chaos kills what it should, in the way it should: pods through the API, containers by signal, failures by another image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.engine.settings import TwinSettings
from otel_control_gym.stands.twin.api import MERGE_PATCH
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.images import PAUSE_IMAGE
from otel_control_gym.stands.twin.objects import EVENT, POD, POD_CHAOS, Object, condition

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster, Install

NAMESPACE = "otel-demo"


def chaos(cluster: Cluster, action: str, service: str = "cart", **more: Any) -> Object:
    selector = {"labelSelectors": {"app.kubernetes.io/component": service}}
    return cluster.apply_chaos(POD_CHAOS, {"action": action, "mode": "all", "selector": selector, **more})


def records(cluster: Cluster) -> list[Object]:
    found: list[Object] = cluster.read(POD_CHAOS, "ocg-1")["status"]["experiment"]["containerRecords"]
    return found


def uids(cluster: Cluster, service: str = "cart") -> set[str]:
    return {pod["metadata"]["uid"] for pod in cluster.pods_of(service)}


def container(pod: Object) -> Object:
    status: Object = pod["status"]["containerStatuses"][0]
    return status


def said(cluster: Cluster, reason: str) -> list[str]:
    return [item["message"] for item in cluster.control_plane.store.objects(EVENT) if item["reason"] == reason]


def test_a_killed_pod_is_gone_at_once_and_replaced_by_one_of_another_name(cluster: Cluster) -> None:
    before = uids(cluster)
    chaos(cluster, "pod-kill", mode="fixed", value="2")
    cluster.live(0.7)
    assert len(before & set(cluster.runtime.running)) == 2, "no grace unless it is asked for"
    cluster.live(30)
    assert len(uids(cluster)) == 4
    assert len(uids(cluster) & before) == 2
    assert {container(pod)["restartCount"] for pod in cluster.pods_of("cart")} == {0}


def test_a_grace_period_lets_a_killed_pod_drain(cluster: Cluster) -> None:
    before = uids(cluster)
    for uid in before:
        cluster.runtime.requests[uid] = 1
    chaos(cluster, "pod-kill", gracePeriod=20)
    cluster.live(15)
    assert before <= set(cluster.runtime.running)
    cluster.live(10)
    assert not before & set(cluster.runtime.running)


def test_a_kill_is_once_whatever_the_duration_and_its_record_stays_injected(cluster: Cluster) -> None:
    chaos(cluster, "pod-kill", duration="10s")
    cluster.live(60)
    survivors = uids(cluster)
    item = cluster.read(POD_CHAOS, "ocg-1")
    assert item["status"]["experiment"]["desiredPhase"] == "Run"
    assert {entry["phase"] for entry in records(cluster)} == {"Injected"}
    assert said(cluster, "TimeUp") == []
    cluster.api.delete(POD_CHAOS, NAMESPACE, "ocg-1", {})
    cluster.live(5)
    assert cluster.control_plane.store.get(POD_CHAOS, NAMESPACE, "ocg-1") is None
    assert uids(cluster) == survivors


def test_a_killed_container_starts_again_in_its_pod_with_the_kubelet_s_back_off(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"]: pod["status"]["podIP"] for pod in cluster.pods_of("cart")}
    for run in range(1, 4):
        chaos_name = f"ocg-{run}"
        spec = {
            "action": "container-kill",
            "mode": "all",
            "selector": {"labelSelectors": {"app.kubernetes.io/component": "cart"}},
            "containerNames": ["cart"],
        }
        cluster.apply_chaos(POD_CHAOS, spec, chaos_name)
        cluster.live(2.2)
        if run == 2:
            for pod in cluster.pods_of("cart"):
                assert container(pod)["state"]["waiting"]["reason"] == "CrashLoopBackOff"
                assert container(pod)["lastState"]["terminated"]["exitCode"] == 137
                assert container(pod)["lastState"]["terminated"]["reason"] == "Error"
        cluster.live(25)
    assert {pod["metadata"]["uid"]: pod["status"]["podIP"] for pod in cluster.pods_of("cart")} == before
    assert {container(pod)["restartCount"] for pod in cluster.pods_of("cart")} == {3}
    assert {entry["id"].count("/") for entry in records(cluster)} == {2}


def test_a_container_in_back_off_cannot_be_killed_which_is_tried_again(cluster: Cluster) -> None:
    for run in range(3):
        spec = {
            "action": "container-kill",
            "mode": "all",
            "selector": {"labelSelectors": {"app.kubernetes.io/component": "cart"}},
            "containerNames": ["cart"],
        }
        cluster.apply_chaos(POD_CHAOS, spec, f"ocg-{run}")
        cluster.live(3)
    assert any("not found or not running" in message for message in said(cluster, "Failed"))
    cluster.live(40)
    item = cluster.read(POD_CHAOS, "ocg-2")
    assert {entry["phase"] for entry in item["status"]["experiment"]["containerRecords"]} == {"Injected"}


def test_a_failed_pod_runs_a_pause_image_until_the_duration_is_over(cluster: Cluster) -> None:
    before, own = uids(cluster), cluster.pods_of("cart")[0]["spec"]["containers"][0]["image"]
    chaos(cluster, "pod-failure", duration="60s")
    cluster.live(20)
    for pod in cluster.pods_of("cart"):
        assert pod["spec"]["containers"][0]["image"] == PAUSE_IMAGE
        assert own in pod["metadata"]["annotations"].values()
        assert "running" in container(pod)["state"]
        assert container(pod)["restartCount"] == 1
        ready = condition(pod, "Ready")
        assert ready is not None
        assert ready["status"] == "False"
        assert not cluster.runtime.endpoints[pod["metadata"]["uid"]]
    assert not before & set(cluster.runtime.running), "nobody listens"
    cluster.live(60)
    assert uids(cluster) == before <= set(cluster.runtime.running)
    for pod in cluster.pods_of("cart"):
        assert pod["spec"]["containers"][0]["image"] == own
        assert own not in pod["metadata"]["annotations"].values()
        assert container(pod)["restartCount"] == 2
        assert cluster.runtime.endpoints[pod["metadata"]["uid"]]
    assert "Container cart definition changed, will be restarted" in said(cluster, "Killing")


def test_a_failure_ends_a_container_in_peace_and_a_crash_loop_at_once(cluster: Cluster) -> None:
    chaos(cluster, "pod-failure", service="frontend")
    cluster.live(10)
    for pod in cluster.pods_of("frontend"):
        ended = container(pod)["lastState"]["terminated"]
        assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    for run in range(3):
        kill = {"action": "container-kill", "mode": "all", "containerNames": ["cart"]}
        selector = {"labelSelectors": {"app.kubernetes.io/component": "cart"}}
        cluster.apply_chaos(POD_CHAOS, kill | {"selector": selector}, f"kill-{run}")
        cluster.live(14)
    assert all("waiting" in container(pod)["state"] for pod in cluster.pods_of("cart"))
    failure = {"action": "pod-failure", "mode": "all", "selector": selector}
    cluster.apply_chaos(POD_CHAOS, failure, "failure")
    cluster.live(2.5)
    assert all("running" in container(pod)["state"] for pod in cluster.pods_of("cart")), "another image has no back-off"


def test_a_pod_that_is_deleted_while_it_fails_is_replaced_by_a_sound_one(cluster: Cluster) -> None:
    chaos(cluster, "pod-failure", mode="one")
    cluster.live(10)
    name = records(cluster)[0]["id"].split("/")[1]
    cluster.api.delete(POD, NAMESPACE, name, {})
    cluster.live(20)
    assert all(cluster.runtime.endpoints[uid] for uid in uids(cluster))
    assert len(uids(cluster)) == 4
    cluster.api.delete(POD_CHAOS, NAMESPACE, "ocg-1", {})
    cluster.live(5)
    assert cluster.control_plane.store.get(POD_CHAOS, NAMESPACE, "ocg-1") is None


def test_a_daemon_that_cannot_reach_some_pods_kills_the_others(install: Install) -> None:
    cluster = install(settings=TwinSettings(chaos_refusal=0.5))
    chaos(cluster, "container-kill", containerNames=["cart"])
    cluster.live(5)
    phases = [entry["phase"] for entry in records(cluster)]
    assert set(phases) == {"Injected", "Not Injected"}
    restarted = [pod for pod in cluster.pods_of("cart") if container(pod)["restartCount"]]
    assert len(restarted) == phases.count("Injected")
    conditions = {entry["type"]: entry["status"] for entry in cluster.read(POD_CHAOS, "ocg-1")["status"]["conditions"]}
    assert conditions == {"Selected": "True", "AllInjected": "False", "AllRecovered": "False", "Paused": "False"}


def test_a_paused_object_writes_its_records_and_waits(cluster: Cluster) -> None:
    body = {
        "metadata": {"name": "ocg-1", "annotations": {"experiment.chaos-mesh.org/pause": "true"}},
        "spec": {
            "action": "pod-failure",
            "mode": "all",
            "selector": {"labelSelectors": {"app.kubernetes.io/component": "cart"}},
        },
    }
    cluster.api.create(POD_CHAOS, NAMESPACE, body)
    cluster.live(5)
    assert [(entry["phase"], entry["injectedCount"]) for entry in records(cluster)] == [("Not Injected", 0)] * 4
    resume = {"metadata": {"annotations": {"experiment.chaos-mesh.org/pause": "false"}}}
    cluster.api.patch(POD_CHAOS, NAMESPACE, "ocg-1", resume, MERGE_PATCH)
    cluster.live(5)
    assert [(entry["phase"], entry["injectedCount"]) for entry in records(cluster)] == [("Injected", 1)] * 4


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"action": "pod-tickle"}, 422, "Unsupported value"),
        ({"gracePeriod": -1}, 422, "gracePeriod"),
        ({"action": "container-kill"}, 403, "the name of container should not be empty"),
        ({"containerNames": "cart"}, 422, "must be of type array"),
        ({"force": True}, 400, "unknown field"),
    ],
)
def test_the_webhook_refuses_bad_kills(cluster: Cluster, change: Object, code: int, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refusal:
        chaos(cluster, **{"action": "pod-kill"} | change)
    assert refusal.value.code == code
