"""Network chaos reaches exactly the packets that its rules match, Services' addresses included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.engine.settings import TwinSettings
from otel_control_gym.stands.twin.api import MERGE_PATCH
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.objects import EVENT, NETWORK_CHAOS, POD, POD_NETWORK_CHAOS, Object
from otel_control_gym.stands.twin.runtime import NetworkRule

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster, Install

NAMESPACE = "otel-demo"
DROP = NetworkRule(blocked=True)


def selector(service: str) -> Object:
    return {"labelSelectors": {"app.kubernetes.io/component": service}}


def network(cluster: Cluster, source: str = "frontend", towards: str | None = "cart", **more: Any) -> Object:
    other = {"target": {"mode": "all", "selector": selector(towards)}} if towards else {}
    return cluster.apply_chaos(NETWORK_CHAOS, {"mode": "all", "selector": selector(source), **other, **more})


def delay(cluster: Cluster, source: str = "frontend", towards: str | None = "cart", **more: Any) -> Object:
    spec = {"action": "delay", "delay": {"latency": "150ms", "jitter": "15ms"}}
    return network(cluster, source, towards, **spec | ({"direction": "from"} if towards else {}) | more)


def delete(cluster: Cluster) -> None:
    cluster.api.delete(NETWORK_CHAOS, NAMESPACE, "ocg-1", {})


def conditions(cluster: Cluster) -> dict[str, bool]:
    item = cluster.read(NETWORK_CHAOS, "ocg-1")
    return {entry["type"]: entry["status"] == "True" for entry in item["status"]["conditions"]}


def records(cluster: Cluster) -> list[Object]:
    item = cluster.read(NETWORK_CHAOS, "ocg-1")
    found: list[Object] = item["status"]["experiment"].get("containerRecords", [])
    return found


def uids(cluster: Cluster, service: str) -> tuple[str, ...]:
    return tuple(pod["metadata"]["uid"] for pod in cluster.pods_of(service))


def test_a_delay_from_the_target_sits_in_the_target_and_meets_its_answers(cluster: Cluster) -> None:
    delay(cluster)
    cluster.live(5)
    peers = tuple(view.uid for view in cluster.control_plane.pods() if view.service == "frontend")
    assert {key[0] for key in cluster.runtime.rules} == set(uids(cluster, "cart"))
    assert set(cluster.runtime.rules.values()) == {(peers, NetworkRule(latency_ms=150, jitter_ms=15))}
    assert conditions(cluster)["AllInjected"]
    assert sorted(entry["selectorKey"] for entry in records(cluster)) == [".", ".", *[".Target"] * 4]
    rules = cluster.control_plane.store.objects(POD_NETWORK_CHAOS)
    assert len(rules) == 4
    for rule in rules:
        assert [entry["source"] for entry in rule["spec"]["tcs"]] == [f"{NAMESPACE}/ocg-1"]
        assert rule["status"]["observedGeneration"] == rule["metadata"]["generation"]
        assert len(rule["spec"]["ipsets"][0]["cidrs"]) == 2


def test_a_delay_to_a_service_is_injected_everywhere_and_felt_nowhere(cluster: Cluster) -> None:
    delay(cluster, direction="to")
    cluster.live(5)
    assert conditions(cluster)["AllInjected"]
    assert len(cluster.control_plane.store.objects(POD_NETWORK_CHAOS)) == 2
    assert cluster.runtime.rules == {}


def test_both_directions_are_felt_in_the_target_alone(cluster: Cluster) -> None:
    delay(cluster, direction="both")
    cluster.live(5)
    assert {key[0] for key in cluster.runtime.rules} == set(uids(cluster, "cart"))


def test_a_delay_without_a_target_meets_all_that_the_pods_send(cluster: Cluster) -> None:
    delay(cluster, "cart", None)
    cluster.live(5)
    assert {key[0] for key in cluster.runtime.rules} == set(uids(cluster, "cart"))
    assert set(cluster.runtime.rules.values()) == {(None, NetworkRule(latency_ms=150, jitter_ms=15))}


def test_recovery_empties_the_rules_and_leaves_their_objects_to_their_pods(cluster: Cluster) -> None:
    delay(cluster, duration="30s")
    cluster.live(31)
    assert cluster.runtime.rules == {}
    assert conditions(cluster)["AllRecovered"]
    assert {entry["recoveredCount"] for entry in records(cluster)} == {1}
    rules = cluster.control_plane.store.objects(POD_NETWORK_CHAOS)
    assert [rule["spec"]["tcs"] for rule in rules] == [[]] * 4
    for pod in [item for item in cluster.control_plane.store.objects(POD) if item["metadata"]["name"][:5] == "cart-"]:
        cluster.api.delete(POD, NAMESPACE, pod["metadata"]["name"], {})
    cluster.live(30)
    assert cluster.control_plane.store.objects(POD_NETWORK_CHAOS) == []


def test_rules_die_with_the_pod_and_deletion_does_not_wait_for_it(cluster: Cluster) -> None:
    delay(cluster)
    cluster.live(5)
    victim = records(cluster)[-1]["id"].split("/")[1]
    cluster.api.delete(POD, NAMESPACE, victim, {})
    cluster.live(30)
    assert len(cluster.runtime.rules) == 3
    delete(cluster)
    cluster.live(5)
    assert cluster.runtime.rules == {}
    assert cluster.control_plane.store.get(NETWORK_CHAOS, NAMESPACE, "ocg-1") is None


def test_a_pod_that_goes_while_its_rules_are_being_applied_blocks_nothing(cluster: Cluster) -> None:
    delay(cluster)
    while not cluster.control_plane.store.objects(POD_NETWORK_CHAOS):
        due = cluster.control_plane.due()
        assert due is not None
        cluster.control_plane.run_due(due)
    victim = cluster.control_plane.store.objects(POD_NETWORK_CHAOS)[0]["metadata"]["name"]
    cluster.api.delete(POD, NAMESPACE, victim, {"gracePeriodSeconds": 0})
    delete(cluster)
    cluster.live(30)
    assert cluster.control_plane.store.get(NETWORK_CHAOS, NAMESPACE, "ocg-1") is None
    assert cluster.runtime.rules == {}


def test_a_delay_towards_a_named_service_meets_the_requests_whoever_serves_them(cluster: Cluster) -> None:
    delay(cluster, towards=None, externalTargets=[f"cart.{NAMESPACE}.svc.cluster.local:8080"])
    cluster.live(5)
    rule = NetworkRule(latency_ms=150, jitter_ms=15)
    assert {key[0] for key in cluster.runtime.rules} == set(uids(cluster, "frontend"))
    assert set(cluster.runtime.rules.values()) == {(uids(cluster, "cart"), rule)}
    cluster.api.delete(POD, NAMESPACE, cluster.pods_of("cart")[0]["metadata"]["name"], {})
    cluster.live(40)
    assert set(cluster.runtime.rules.values()) == {(uids(cluster, "cart"), rule)}, (
        "the new pod is behind the same address"
    )
    delete(cluster)
    cluster.live(5)
    assert cluster.runtime.rules == {}


def test_a_delay_towards_another_port_of_a_service_meets_nothing(cluster: Cluster) -> None:
    delay(cluster, towards=None, externalTargets=["cart:9999"])
    cluster.live(5)
    assert conditions(cluster)["AllInjected"]
    assert cluster.runtime.rules == {}


def test_an_unknown_host_fails_when_it_is_resolved_and_injects_nothing(cluster: Cluster) -> None:
    delay(cluster, towards=None, externalTargets=["card"])
    cluster.live(5)
    assert {entry["phase"] for entry in records(cluster)} == {"Not Injected"}
    assert {event["message"] for entry in records(cluster) for event in entry["events"]} == {
        "lookup card: no such host"
    }
    assert cluster.control_plane.store.objects(POD_NETWORK_CHAOS) == []


def test_blocks_of_netem_work_together_and_a_corrupted_packet_is_a_lost_one(cluster: Cluster) -> None:
    blocks = {
        "loss": {"loss": "50", "correlation": "25"},
        "corrupt": {"corrupt": "50"},
        "delay": {"latency": "20ms"},
    }
    network(cluster, "cart", None, action="netem", **blocks)
    cluster.live(5)
    assert set(cluster.runtime.rules.values()) == {(None, NetworkRule(latency_ms=20, loss=0.75))}


def test_a_netem_action_without_a_block_passes_the_webhook_and_fails_at_each_attempt(cluster: Cluster) -> None:
    network(cluster, "cart", None, action="loss")
    cluster.live(5)
    assert conditions(cluster) == {"Selected": True, "AllInjected": False, "AllRecovered": True, "Paused": False}
    assert {entry["injectedCount"] for entry in records(cluster)} == {0}
    assert all(len(entry["events"]) > 2 for entry in records(cluster))
    assert "invalid spec for netem action" in records(cluster)[0]["events"][0]["message"]
    delete(cluster)
    cluster.live(5)
    assert cluster.control_plane.store.get(NETWORK_CHAOS, NAMESPACE, "ocg-1") is None


@pytest.mark.parametrize(("direction", "blocked"), [("to", "frontend"), ("from", "cart"), ("both", "frontend cart")])
def test_a_partition_works_in_each_direction_because_both_ends_are_ruled(
    cluster: Cluster, direction: str, blocked: str
) -> None:
    network(cluster, action="partition", direction=direction)
    cluster.live(5)
    assert conditions(cluster)["AllInjected"]
    assert len(cluster.control_plane.store.objects(POD_NETWORK_CHAOS)) == 6
    pairs = {
        (uid, peer) for (uid, _), (peers, rule) in cluster.runtime.rules.items() for peer in peers or () if rule == DROP
    }
    frontends, carts = uids(cluster, "frontend"), uids(cluster, "cart")
    expected = {(one, other) for one in frontends for other in carts if "frontend" in blocked}
    expected |= {(other, one) for one in frontends for other in carts if "cart" in blocked}
    assert pairs == expected
    delete(cluster)
    cluster.live(5)
    assert cluster.runtime.rules == {}


def test_the_ends_of_a_partition_drop_what_belongs_to_its_direction(cluster: Cluster) -> None:
    network(cluster, action="partition", direction="to")
    cluster.live(5)
    rules = {item["metadata"]["name"]: item["spec"] for item in cluster.control_plane.store.objects(POD_NETWORK_CHAOS)}
    for service, way, other in (("frontend", "output", "cart"), ("cart", "input", "frontend")):
        for pod in cluster.pods_of(service):
            spec = rules[pod["metadata"]["name"]]
            (drop,) = spec["iptables"]
            assert drop["direction"] == way
            assert spec["ipsets"][0]["name"] in drop["ipsets"]
            addresses = [f"{peer['status']['podIP']}/32" for peer in cluster.pods_of(other)]
            assert sorted(spec["ipsets"][0]["cidrs"]) == sorted(addresses)


def test_a_pod_that_is_replaced_leaves_the_partition_behind(cluster: Cluster) -> None:
    network(cluster, action="partition", direction="to")
    cluster.live(5)
    victim = cluster.pods_of("cart")[0]["metadata"]
    cluster.api.delete(POD, NAMESPACE, victim["name"], {"gracePeriodSeconds": 0})
    cluster.live(20)
    reached = {peer for peers, _ in cluster.runtime.rules.values() for peer in peers or ()}
    assert victim["uid"] not in reached
    assert len(reached) == 3
    assert len(uids(cluster, "cart")) == 4


def test_a_pod_cut_off_from_everything_is_so_for_pods_that_come_later_too(cluster: Cluster) -> None:
    network(cluster, "valkey-cart", None, action="partition", direction="both")
    cluster.live(5)
    (valkey,) = uids(cluster, "valkey-cart")
    cluster.api.delete(POD, NAMESPACE, cluster.pods_of("frontend")[0]["metadata"]["name"], {"gracePeriodSeconds": 0})
    cluster.live(20)
    senders = {uid for (uid, _), (peers, _) in cluster.runtime.rules.items() if peers == (valkey,)}
    assert senders == set(uids(cluster, "frontend")) | set(uids(cluster, "cart"))
    assert (None, DROP) in cluster.runtime.rules.values()


def test_a_daemon_that_cannot_reach_a_pod_leaves_the_injection_partial_and_the_object_until_it_is_forced(
    install: Install,
) -> None:
    cluster = install(settings=TwinSettings(chaos_refusal=0.5))
    network(cluster, "cart", None, action="partition", direction="to")
    cluster.live(5)
    phases = [entry["phase"] for entry in records(cluster)]
    assert set(phases) == {"Injected", "Not Injected/Wait"}, "with this seed some pods are beyond the daemon, some not"
    assert conditions(cluster) == {"Selected": True, "AllInjected": False, "AllRecovered": False, "Paused": False}
    waiting = next(entry for entry in records(cluster) if entry["phase"] != "Injected")
    assert waiting["events"][-1]["type"] == "Failed"
    assert waiting["events"][-1]["message"].startswith("unable to flush ip sets for pod cart-")
    assert len(cluster.runtime.rules) == phases.count("Injected")
    failed = [item for item in cluster.control_plane.store.objects(EVENT) if item["reason"] == "Failed"]
    assert failed[0]["type"] == "Warning"
    delete(cluster)
    cluster.live(120)
    assert "deletionTimestamp" in cluster.read(NETWORK_CHAOS, "ocg-1")["metadata"]
    assert cluster.runtime.rules == {}, "what could be recovered is"
    body = {"metadata": {"annotations": {"chaos-mesh.chaos-mesh.org/cleanFinalizer": "forced"}}}
    cluster.api.patch(NETWORK_CHAOS, NAMESPACE, "ocg-1", body, MERGE_PATCH)
    cluster.live(1)
    assert cluster.control_plane.store.get(NETWORK_CHAOS, NAMESPACE, "ocg-1") is None


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"action": "slow"}, 422, "Unsupported value"),
        ({"action": "bandwidth", "bandwidth": {"rate": "1mbps"}}, 403, "don't model the bandwidth"),
        ({"duplicate": {"duplicate": "5"}}, 403, "don't model duplicate packets"),
        ({"loss": {"loss": "many"}}, 403, "Spec.Loss.Loss"),
        ({"loss": {"loss": 5}}, 422, "must be of type string"),
        ({"corrupt": {"corrupt": "5", "gap": 1}}, 400, "unknown field"),
        ({"externalTargets": "cart"}, 422, "must be of type array"),
        ({"target": {"mode": "all", "selector": {"labelSelectors": "cart"}}}, 422, "must be of type object"),
        ({"target": {"mode": "all", "selector": {"label": "cart"}}}, 400, "unknown field"),
        ({"direction": "sideways"}, 422, "Unsupported value"),
        ({"target": None}, 403, "targets is empty"),
        ({"externalTargets": ["cart"]}, 403, "external targets cannot be used"),
        ({"delay": {"latency": "fast"}}, 422, "should match"),
    ],
)
def test_the_webhook_refuses_bad_delay(cluster: Cluster, change: Object, code: int, message: str) -> None:
    with pytest.raises(ApiError, match=message) as refusal:
        delay(cluster, **change)
    assert refusal.value.code == code
