"""Chaos objects live as Chaos Mesh's do, and reach exactly the pods that their rules reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.stands.twin.api import MERGE_PATCH, Api
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.objects import (
    EVENT,
    POD,
    STRESS_CHAOS,
    Kind,
    Object,
)

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster

NAMESPACE = "otel-demo"


def selector(service: str) -> Object:
    return {"labelSelectors": {"app.kubernetes.io/component": service}}


def create(cluster: Cluster, kind: Kind, spec: dict[str, Any], name: str = "ocg-1") -> Object:
    return Api(cluster.control_plane.context).create(kind, NAMESPACE, {"metadata": {"name": name}, "spec": spec})


def stress(cluster: Cluster, service: str = "cart", **more: Any) -> Object:
    spec = {"mode": "all", "selector": selector(service), "stressors": {"cpu": {"workers": 2, "load": 50}}, **more}
    return create(cluster, STRESS_CHAOS, spec)


def read(cluster: Cluster, kind: Kind, name: str = "ocg-1") -> Object:
    return Api(cluster.control_plane.context).get(kind, NAMESPACE, name)


def delete(cluster: Cluster, kind: Kind) -> None:
    Api(cluster.control_plane.context).delete(kind, NAMESPACE, "ocg-1", {})


def conditions(item: Object) -> dict[str, bool]:
    return {entry["type"]: entry["status"] == "True" for entry in item["status"]["conditions"]}


def records(item: Object) -> list[Object]:
    found: list[Object] = item["status"]["experiment"].get("containerRecords", [])
    return found


def said(cluster: Cluster) -> list[str]:
    events = [item for item in cluster.control_plane.store.objects(EVENT) if item["source"]["component"] != "kubelet"]
    chaos = [item for item in events if item["involvedObject"]["apiVersion"].startswith("chaos-mesh.org")]
    ordered = sorted(chaos, key=lambda item: int(item["metadata"]["resourceVersion"]))
    return [item["reason"] for item in ordered if item["reason"] != "Updated"]


def uids(cluster: Cluster, service: str) -> set[str]:
    return {uid for uid, (name, _) in cluster.runtime.running.items() if name == service}


def test_stress_runs_in_every_selected_container_until_its_duration_is_over(cluster: Cluster) -> None:
    stress(cluster, duration="60s")
    assert cluster.runtime.stress == {}
    cluster.live(5)
    item = read(cluster, STRESS_CHAOS)
    assert cluster.runtime.stress == {(uid, f"{NAMESPACE}/ocg-1"): (2, 0.5) for uid in uids(cluster, "cart")}
    assert conditions(item) == {"Selected": True, "AllInjected": True, "AllRecovered": False, "Paused": False}
    assert [entry["phase"] for entry in records(item)] == ["Injected"] * 4
    assert [entry["injectedCount"] for entry in records(item)] == [1] * 4
    assert set(item["status"]["instances"]) == {entry["id"] for entry in records(item)}
    cluster.live(54.9)
    assert len(cluster.runtime.stress) == 4
    cluster.live(1)
    item = read(cluster, STRESS_CHAOS)
    assert cluster.runtime.stress == {}
    assert item["status"]["experiment"]["desiredPhase"] == "Stop"
    assert conditions(item) == {"Selected": True, "AllInjected": False, "AllRecovered": True, "Paused": False}
    assert [entry["recoveredCount"] for entry in records(item)] == [1] * 4
    assert said(cluster) == ["FinalizerInited", "Started", *["Applied"] * 4, "TimeUp", *["Recovered"] * 4]


def test_conditions_lag_the_records_by_one_pass(cluster: Cluster) -> None:
    stress(cluster)
    lagged = False
    for _ in range(50):
        due = cluster.control_plane.due()
        if due is None:
            break
        cluster.control_plane.run_due(due)
        item = read(cluster, STRESS_CHAOS)
        injected = bool(records(item)) and all(entry["phase"] == "Injected" for entry in records(item))
        lagged |= injected and not conditions(item)["AllInjected"]
    assert lagged
    assert conditions(read(cluster, STRESS_CHAOS))["AllInjected"]


def test_a_deleted_object_stays_until_it_has_recovered(cluster: Cluster) -> None:
    stress(cluster)
    cluster.live(5)
    delete(cluster, STRESS_CHAOS)
    assert "deletionTimestamp" in read(cluster, STRESS_CHAOS)["metadata"]
    assert len(cluster.runtime.stress) == 4
    cluster.live(2)
    assert cluster.runtime.stress == {}
    assert cluster.control_plane.store.get(STRESS_CHAOS, NAMESPACE, "ocg-1") is None
    assert said(cluster)[-1] == "FinalizerInited"


def test_a_selector_that_matches_nothing_never_says_injected(cluster: Cluster) -> None:
    stress(cluster, "checkout", duration="30s")
    cluster.live(40)
    item = read(cluster, STRESS_CHAOS)
    assert records(item) == []
    assert not any(conditions(item).values())
    assert "Failed" in said(cluster)
    assert item["status"]["experiment"]["desiredPhase"] == "Stop"
    delete(cluster, STRESS_CHAOS)
    cluster.live(1)
    assert cluster.control_plane.store.get(STRESS_CHAOS, NAMESPACE, "ocg-1") is None


def test_targets_are_chosen_once_and_stress_dies_with_its_pod(cluster: Cluster) -> None:
    stress(cluster)
    cluster.live(5)
    name = records(read(cluster, STRESS_CHAOS))[0]["id"].split("/")[1]
    Api(cluster.control_plane.context).delete(POD, NAMESPACE, name, {})
    cluster.live(30)
    assert len(cluster.runtime.stress) == 3
    assert len(uids(cluster, "cart")) == 4
    assert conditions(read(cluster, STRESS_CHAOS))["AllInjected"]
    delete(cluster, STRESS_CHAOS)
    cluster.live(5)
    assert cluster.runtime.stress == {}
    assert cluster.control_plane.store.get(STRESS_CHAOS, NAMESPACE, "ocg-1") is None


def test_a_pause_recovers_and_a_resumption_injects_again(cluster: Cluster) -> None:
    stress(cluster)
    cluster.live(5)
    annotate(cluster, "true")
    cluster.live(2)
    assert cluster.runtime.stress == {}
    assert conditions(read(cluster, STRESS_CHAOS))["Paused"]
    annotate(cluster, "false")
    cluster.live(2)
    assert len(cluster.runtime.stress) == 4
    assert {entry["injectedCount"] for entry in records(read(cluster, STRESS_CHAOS))} == {2}


def annotate(cluster: Cluster, value: str) -> None:
    body = {"metadata": {"annotations": {"experiment.chaos-mesh.org/pause": value}}}
    Api(cluster.control_plane.context).patch(STRESS_CHAOS, NAMESPACE, "ocg-1", body, MERGE_PATCH)


def test_a_container_that_does_not_run_yet_is_tried_again_until_it_does(cluster: Cluster) -> None:
    (pod,) = [item for item in cluster.control_plane.store.objects(POD) if item["metadata"]["name"][:6] == "valkey"]
    Api(cluster.control_plane.context).delete(POD, NAMESPACE, pod["metadata"]["name"], {"gracePeriodSeconds": 0})
    cluster.live(0.05)
    stress(cluster, "valkey-cart")
    cluster.live(0.7)
    assert cluster.runtime.stress == {}
    assert "Failed" in said(cluster)
    cluster.live(5)
    assert len(cluster.runtime.stress) == 1
    (entry,) = records(read(cluster, STRESS_CHAOS))
    assert entry["injectedCount"] == 1
    assert entry["events"][0]["type"] == "Failed"


def test_a_spec_may_not_change(cluster: Cluster) -> None:
    stress(cluster)
    body = {"spec": {"duration": "5s"}}
    with pytest.raises(ApiError, match="Cannot update chaos spec") as refusal:
        Api(cluster.control_plane.context).patch(STRESS_CHAOS, NAMESPACE, "ocg-1", body, MERGE_PATCH)
    assert refusal.value.code == 403


@pytest.mark.parametrize(
    ("mode", "value", "expected"), [("one", None, 1), ("fixed", "3", 3), ("fixed", "9", 4), ("fixed-percent", "30", 2)]
)
def test_a_mode_picks_its_number_of_pods(cluster: Cluster, mode: str, value: str | None, expected: int) -> None:
    stress(cluster, mode=mode, **({"value": value} if value else {}))
    cluster.live(5)
    assert len(cluster.runtime.stress) == expected


def test_named_pods_override_every_other_selector(cluster: Cluster) -> None:
    name = next(view.name for view in cluster.control_plane.pods() if view.service == "frontend")
    stress(cluster, selector={"pods": {NAMESPACE: [name, "gone"]}, "labelSelectors": {"a": "b"}})
    cluster.live(5)
    assert [entry["id"] for entry in records(read(cluster, STRESS_CHAOS))] == [f"{NAMESPACE}/{name}/frontend"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"mode": "some"}, 422, "Unsupported value"),
        ({"selector": None}, 422, "Required value"),
        ({"duration": "60"}, 403, "parse duration error"),
        ({"mode": "fixed", "value": "none"}, 403, "positive integer"),
        ({"stressors": {}}, 403, "missing stressors"),
        ({"stressors": {"cpu": {"workers": 9000}}}, 422, "workers"),
        ({"stressors": {"cpu": {"workers": 1, "load": 101}}}, 422, "load"),
        ({"stressors": {"cpu": {"workers": 1, "time": "5s"}}}, 400, "unknown field"),
        ({"stressors": {"memory": {"workers": 1, "size": "50%"}}}, 403, "don't model"),
        ({"stressors": {"memory": {"workers": 1, "size": "much"}}}, 403, "incorrect bytes format"),
        ({"stressors": {"memory": {"workers": 1, "size": "1MB", "options": ["--vm 2"]}}}, 403, "don't model"),
        ({"stressors": {"memory": {"workers": 1, "size": "1MB", "time": "5s"}}}, 400, "unknown field"),
        ({"stressors": {"disk": {"workers": 1}}}, 400, "unknown field"),
        ({"time": "5s"}, 400, "unknown field"),
    ],
)
def test_the_webhook_refuses_bad_stress(cluster: Cluster, change: Object, code: int, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refusal:
        stress(cluster, **change)
    assert refusal.value.code == code


def test_memory_stress_is_sized_and_timed_as_mem_stress_reads_it(cluster: Cluster) -> None:
    memory = {"workers": 2, "size": "100MB", "options": ["--time 90s"]}
    stress(cluster, stressors={"memory": memory}, duration="60s")
    cluster.live(5)
    assert set(cluster.runtime.memory) == {(uid, f"{NAMESPACE}/ocg-1") for uid in uids(cluster, "cart")}
    assert set(cluster.runtime.memory.values()) == {(104 * 2**20, 90.0)}, "the tool holds 4 MiB of its own"
    assert cluster.runtime.stress == {}
    instance = next(iter(read(cluster, STRESS_CHAOS)["status"]["instances"].values()))
    assert set(instance) == {"memoryUid", "memoryStartTime"}
    cluster.live(60)
    assert cluster.runtime.memory == {}
