"""A bad configuration is bad, each in its own way: the kubelet shows what a real one shows, and old pods go on serving."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import Flag, FlagEffect
from otel_control_gym.stands.twin.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH
from otel_control_gym.stands.twin.objects import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    NETWORK_CHAOS,
    POD,
    Object,
    condition,
    moment,
)

if TYPE_CHECKING:
    from otel_control_gym.engine.settings import ServiceConfiguration
    from tests.stands.twin.conftest import Cluster, Install

NAMESPACE = "otel-demo"
IMAGE = "ghcr.io/open-telemetry/demo"


def roll(cluster: Cluster, container: Object, service: str = "cart", **spec: Any) -> None:
    """Roll out a change of a service's container."""
    template = {"spec": {"containers": [{"name": service, **container}]}}
    body = {"spec": {"template": template, **spec}}
    cluster.api.patch(DEPLOYMENT, NAMESPACE, service, body, STRATEGIC_MERGE_PATCH)


def newest(cluster: Cluster, service: str = "cart") -> Object:
    """Return the pod that was made last."""
    return max(cluster.pods_of(service), key=lambda pod: moment(pod["metadata"]["creationTimestamp"]))


def state(pod: Object) -> tuple[str, str]:
    """Return a container's state and its reason."""
    ((name, details),) = pod["status"]["containerStatuses"][0]["state"].items()
    return name, details.get("reason", "")


def is_ready(pod: Object) -> bool:
    found = condition(pod, "Ready")
    return found is not None and found["status"] == "True"


def said(cluster: Cluster, pod: Object) -> list[tuple[str, str, int]]:
    """Return what the kubelet said about a pod, oldest first: reason, message, how often."""
    events = [
        item
        for item in cluster.control_plane.store.objects(EVENT)
        if item["involvedObject"]["uid"] == pod["metadata"]["uid"] and item["source"]["component"] == "kubelet"
    ]
    events.sort(key=lambda item: int(item["metadata"]["name"].rpartition(".")[2], 16))
    return [(item["reason"], item["message"], item["count"]) for item in events]


def serving(cluster: Cluster, service: str = "cart") -> int:
    return sum(cluster.runtime.endpoints.get(pod["metadata"]["uid"], False) for pod in cluster.pods_of(service))


def progress(cluster: Cluster, service: str = "cart") -> str:
    found = condition(cluster.read(DEPLOYMENT, service), "Progressing")
    assert found is not None
    return str(found["reason"])


# --- images ---------------------------------------------------------------------------------------------------------------


def test_a_known_build_runs_as_that_version(cluster: Cluster) -> None:
    roll(cluster, {"image": f"{IMAGE}:2.2.1-cart"})
    cluster.live(90)
    assert progress(cluster) == "NewReplicaSetAvailable"
    versions = {cluster.runtime.processes[pod["metadata"]["uid"]].version for pod in cluster.pods_of("cart")}
    assert versions == {"2.2.1"}


def test_an_image_that_does_not_exist_backs_off_and_the_old_pods_serve_on(cluster: Cluster) -> None:
    roll(cluster, {"image": f"{IMAGE}:9.9.9-cart"}, strategy={"rollingUpdate": {"maxUnavailable": 0}})
    cluster.live(2)
    assert state(newest(cluster)) == ("waiting", "ErrImagePull")
    cluster.live(1.5)
    pod = newest(cluster)
    assert state(pod) == ("waiting", "ImagePullBackOff")
    assert pod["status"]["phase"] == "Pending"
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.live(24)
    reasons = {message: count for reason, message, count in said(cluster, pod) if reason != "BackOff"}
    assert reasons["Error: ErrImagePull"] == 2, "after 10 s, and then after 20"
    cluster.live(6)
    assert ("Failed", "Error: ErrImagePull", 3) in said(cluster, pod)
    assert serving(cluster) == 4
    assert pod["metadata"]["uid"] not in cluster.runtime.running


def test_the_pull_back_off_doubles_up_to_five_minutes(cluster: Cluster) -> None:
    roll(cluster, {"image": f"{IMAGE}:9.9.9-cart"})
    cluster.live(3)
    pod, pulls = newest(cluster), list[int]()
    while len(pulls) < 9:
        due = cluster.control_plane.due()
        assert due is not None
        cluster.control_plane.run_due(due)
        tries = sum(count for reason, _, count in said(cluster, pod) if reason == "Pulling")
        if tries > len(pulls):
            pulls.append(due)
    waits = [round((after - before) / SECOND) for before, after in pairwise(pulls)]
    assert waits[1:] == [20, 40, 80, 160, 300, 300, 300]


def test_a_build_that_never_gets_ready_runs_into_the_deadline_and_undo_recovers(cluster: Cluster) -> None:
    before = cluster.read(DEPLOYMENT, "cart")["spec"]["template"]
    rolling = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    roll(cluster, {"image": f"{IMAGE}:2.3.0-rc1-cart"}, strategy=rolling, progressDeadlineSeconds=60)
    cluster.live(50)
    assert progress(cluster) == "ReplicaSetUpdated"
    assert state(newest(cluster)) == ("running", "")
    assert [pod for pod in cluster.pods_of("cart") if not is_ready(pod)] == [newest(cluster)]
    cluster.live(15)
    assert progress(cluster) == "ProgressDeadlineExceeded"
    assert len(cluster.pods_of("cart")) == 5
    assert serving(cluster) == 4
    cluster.api.patch(DEPLOYMENT, NAMESPACE, "cart", {"spec": {"template": before}}, STRATEGIC_MERGE_PATCH)
    cluster.live(60)
    assert progress(cluster) == "NewReplicaSetAvailable"
    assert len(cluster.pods_of("cart")) == serving(cluster) == 4
    revision = cluster.read(DEPLOYMENT, "cart")["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
    assert revision == "3", "an old template comes back under a new revision"


# --- environment ----------------------------------------------------------------------------------------------------------


def without(cluster: Cluster, service: str, variable: str) -> Object:
    """Return a service's variables without one, as a patch that deletes it."""
    return {"env": [{"name": variable, "$patch": "delete"}]}


def test_a_missing_address_is_a_panic_at_start_and_a_crash_loop(cluster: Cluster) -> None:
    roll(cluster, without(cluster, "frontend", "CART_ADDR"), "frontend")
    cluster.live(0.5)
    name, runs = newest(cluster, "frontend")["metadata"]["name"], list[int]()
    while len(runs) < 7:
        due = cluster.control_plane.due()
        assert due is not None
        cluster.control_plane.run_due(due)
        status = cluster.read(POD, name)["status"]["containerStatuses"][0]
        if "running" in status["state"] and len(runs) == status["restartCount"]:
            runs.append(due)
    waits = [(after - before) / SECOND for before, after in pairwise(runs)]
    assert waits[0] < 3, "the first restart comes at once"
    # Each run is over after a tenth of the start-up time, 0.3 s; the wait counts from its end.
    assert [round(wait - 0.3, 6) for wait in waits[1:]] == [10, 20, 40, 80, 160]
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert cluster.read(POD, name)["status"]["phase"] == "Running"
    assert serving(cluster, "frontend") == 2


@pytest.mark.parametrize(
    "address",
    ["basket:8080", "cart:8081", "cart.elsewhere:8080", "frontend:8080", "", "cart.otel-demo.svc.nowhere:8080"],
)
def test_a_wrong_address_is_noticed_by_who_uses_it(cluster: Cluster, address: str) -> None:
    roll(cluster, {"env": [{"name": "CART_ADDR", "value": address}]}, "frontend")
    cluster.live(60)
    processes = [cluster.runtime.processes[pod["metadata"]["uid"]] for pod in cluster.pods_of("frontend")]
    if address:
        assert {process.unreachable for process in processes} == {("cart",)}
        assert progress(cluster, "frontend") == "NewReplicaSetAvailable", "Kubernetes sees nothing of it"
    else:
        assert state(newest(cluster, "frontend"))[1] == "CrashLoopBackOff", "an empty address is a missing one"


@pytest.mark.parametrize(
    "address", ["cart.otel-demo:8080", "http://cart:8080/", "cart.otel-demo.svc.cluster.local:8080"]
)
def test_every_name_of_a_service_leads_to_it(cluster: Cluster, address: str) -> None:
    roll(cluster, {"env": [{"name": "CART_ADDR", "value": address}]}, "frontend")
    cluster.live(60)
    assert {cluster.runtime.processes[pod["metadata"]["uid"]].unreachable for pod in cluster.pods_of("frontend")} == {
        ()
    }


def test_a_variable_may_come_from_a_config_map_and_the_container_waits_for_it(cluster: Cluster) -> None:
    reference = {"name": "addresses", "key": "cart"}
    variable = {"name": "CART_ADDR", "value": None, "valueFrom": {"configMapKeyRef": reference}}
    roll(cluster, {"env": [variable]}, "frontend")
    cluster.live(5)
    pod = newest(cluster, "frontend")
    assert state(pod) == ("waiting", "CreateContainerConfigError")
    assert pod["status"]["phase"] == "Pending"
    assert ("Failed", 'Error: configmap "addresses" not found', 1) in said(cluster, pod)
    body: Object = {"metadata": {"name": "addresses"}, "data": {"basket": "cart:8080"}}
    cluster.api.create(CONFIG_MAP, NAMESPACE, body)
    cluster.live(10)
    message = cluster.read(POD, pod["metadata"]["name"])["status"]["containerStatuses"][0]["state"]["waiting"][
        "message"
    ]
    assert message == "couldn't find key cart in ConfigMap otel-demo/addresses"
    cluster.api.patch(CONFIG_MAP, NAMESPACE, "addresses", {"data": {"cart": "cart:8080"}}, MERGE_PATCH)
    cluster.live(60)
    assert progress(cluster, "frontend") == "NewReplicaSetAvailable"
    assert {cluster.runtime.processes[item["metadata"]["uid"]].unreachable for item in cluster.pods_of("frontend")} == {
        ()
    }


def test_a_process_that_listens_elsewhere_is_never_ready(cluster: Cluster) -> None:
    roll(cluster, {"env": [{"name": "CART_PORT", "value": "7070"}]})
    cluster.live(60)
    pod = newest(cluster)
    assert state(pod) == ("running", "")
    assert not is_ready(pod)
    assert any("connection refused" in message for reason, message, _ in said(cluster, pod) if reason == "Unhealthy")


# --- init containers ------------------------------------------------------------------------------------------------------


def test_a_pod_waits_for_what_its_init_container_waits_for(cluster: Cluster) -> None:
    def scale(replicas: int) -> None:
        cluster.api.patch_scale(NAMESPACE, "valkey-cart", {"spec": {"replicas": replicas}}, MERGE_PATCH)

    scale(0)
    cluster.live(40)
    cluster.api.delete(POD, NAMESPACE, cluster.pods_of("cart")[0]["metadata"]["name"], {})
    cluster.live(60)
    (pod,) = [item for item in cluster.pods_of("cart") if not is_ready(item)]
    (init,) = pod["status"]["initContainerStatuses"]
    assert init["name"] == "wait-for-valkey-cart"
    assert "running" in init["state"]
    assert pod["status"]["phase"] == "Pending"
    assert state(pod) == ("waiting", "PodInitializing")
    initialized = condition(pod, "Initialized")
    assert initialized is not None
    assert initialized["status"] == "False"
    scale(1)
    cluster.live(10)
    pod = cluster.read(POD, pod["metadata"]["name"])
    assert is_ready(pod)
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"


# --- probes ---------------------------------------------------------------------------------------------------------------


def test_a_readiness_probe_at_a_wrong_port_never_succeeds(cluster: Cluster) -> None:
    roll(cluster, {"readinessProbe": {"grpc": {"port": 9}}})
    cluster.live(60)
    assert not is_ready(newest(cluster))
    assert serving(cluster) >= 3


def test_a_probe_may_name_the_port(cluster: Cluster) -> None:
    roll(cluster, {"readinessProbe": {"grpc": None, "tcpSocket": {"port": "service"}}})
    cluster.live(60)
    assert progress(cluster) == "NewReplicaSetAvailable"


def test_a_process_that_says_it_is_not_ready_is_believed_as_long_as_it_says_so(
    install: Install, shop: ServiceConfiguration
) -> None:
    flag = Flag(variants={"on": True, "off": False}, effects=(FlagEffect(unready="cart"),))
    cluster = install(services=msgspec.structs.replace(shop, flags={"failedReadinessProbe": flag}))
    victim = cluster.pods_of("cart")[0]["metadata"]["uid"]
    cluster.runtime.unready[victim] = None
    cluster.live(3.9)
    assert serving(cluster) == 4, "two failures are not three"
    cluster.live(3)
    assert serving(cluster) == 3
    assert not cluster.runtime.endpoints[victim]
    cluster.runtime.unready.clear()
    cluster.live(3)
    assert serving(cluster) == 4


def cut_off(cluster: Cluster, **more: Any) -> None:
    """Cut the carts off from everybody, or slow them down."""
    selector = {"labelSelectors": {"app.kubernetes.io/component": "cart"}}
    spec = {"mode": "all", "selector": selector, "action": "partition", "direction": "both"} | more
    cluster.apply_chaos(NETWORK_CHAOS, spec)


def test_a_pod_that_is_cut_off_loses_its_readiness_after_three_probes_and_gets_it_back(cluster: Cluster) -> None:
    cut_off(cluster, duration="30s")
    cluster.live(4)
    assert serving(cluster) == 4
    cluster.live(4.5)
    assert serving(cluster) == 0
    assert [is_ready(pod) for pod in cluster.pods_of("cart")] == [False] * 4
    (message,) = {text for reason, text, _ in said(cluster, cluster.pods_of("cart")[0]) if reason == "Unhealthy"}
    assert message.endswith("within 1s: context deadline exceeded")
    cluster.live(26)
    assert serving(cluster) == 4
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in cluster.pods_of("cart")} == {0}
    due = cluster.control_plane.due()
    assert due is None or due > cluster.control_plane.now + 30 * SECOND, "nobody asks any more"


@pytest.mark.parametrize(("latency", "ready"), [("400ms", 4), ("500ms", 0)])
def test_an_answer_that_takes_longer_than_the_timeout_is_none(cluster: Cluster, latency: str, ready: int) -> None:
    cut_off(cluster, action="delay", direction="to", delay={"latency": latency})
    cluster.live(20)
    assert serving(cluster) == ready  # a gRPC probe needs two round trips in its second


def test_a_failing_liveness_probe_restarts_the_container_with_back_off(cluster: Cluster) -> None:
    roll(cluster, {"livenessProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 5}})
    cluster.live(18)
    pod = newest(cluster)
    assert ("Killing", "Container cart failed liveness probe, will be restarted", 1) in said(cluster, pod)
    assert pod["status"]["containerStatuses"][0]["restartCount"] >= 1
    cluster.live(60)
    assert ("BackOff", 1) in [(reason, min(count, 1)) for reason, _, count in said(cluster, pod)]
    assert serving(cluster) >= 3


def test_a_startup_probe_holds_the_others_back(cluster: Cluster) -> None:
    image = f"{IMAGE}:2.2.1-cart"  # takes 4 s to start: a liveness probe of 1 s × 2 alone would kill it
    liveness = {"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    startup = liveness | {"failureThreshold": 10}
    roll(cluster, {"image": image, "livenessProbe": liveness, "startupProbe": startup})
    cluster.live(90)
    assert progress(cluster) == "NewReplicaSetAvailable"
    assert {pod["status"]["containerStatuses"][0]["restartCount"] for pod in cluster.pods_of("cart")} == {0}
    roll(cluster, {"startupProbe": None})
    cluster.live(30)
    assert newest(cluster)["status"]["containerStatuses"][0]["restartCount"] > 0
