"""Rollouts obey Kubernetes' arithmetic, and whatever is asked in whatever order, the cluster comes to rest as wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.settings import TwinSettings
from otel_control_gym.stands.twin.api import MERGE_PATCH, STRATEGIC_MERGE_PATCH, Api
from otel_control_gym.stands.twin.api_errors import ApiError
from otel_control_gym.stands.twin.objects import DEPLOYMENT, EVENT, POD, REPLICA_SET, Object, condition
from otel_control_gym.stands.twin.replica_sets import deletion_order
from otel_control_gym.stands.twin.rolling import Size, bounds, new_size, old_sizes, proportional

if TYPE_CHECKING:
    from tests.stands.twin.conftest import Cluster, Install

NAMESPACE = "otel-demo"


def api(cluster: Cluster) -> Api:
    return Api(cluster.control_plane.context)


def scale(cluster: Cluster, name: str, replicas: int) -> None:
    api(cluster).patch_scale(NAMESPACE, name, {"spec": {"replicas": replicas}}, MERGE_PATCH)


def restart(cluster: Cluster, name: str, text: str) -> Object:
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": text}}}
    return patch(cluster, name, {"template": template})


def patch(cluster: Cluster, name: str, spec: dict[str, Any]) -> Object:
    return api(cluster).patch(DEPLOYMENT, NAMESPACE, name, {"spec": spec}, STRATEGIC_MERGE_PATCH)


def limits(cluster: Cluster, name: str, cpu: str) -> Object:
    container = {"name": name, "resources": {"limits": {"cpu": cpu}}}
    return patch(cluster, name, {"template": {"spec": {"containers": [container]}}})


def deployment(cluster: Cluster, name: str) -> Object:
    return api(cluster).get(DEPLOYMENT, NAMESPACE, name)


def pods(cluster: Cluster, name: str) -> list[Object]:
    """Return the pods of a workload that aren't terminating."""
    everything = cluster.control_plane.store.objects(POD, NAMESPACE)
    return [
        pod
        for pod in everything
        if pod["metadata"]["labels"]["opentelemetry.io/name"] == name and "deletionTimestamp" not in pod["metadata"]
    ]


def reasons(cluster: Cluster, name: str) -> list[str]:
    """Return what was said about an object, oldest first."""
    events = [item for item in cluster.control_plane.store.objects(EVENT) if item["involvedObject"]["name"] == name]
    return [item["message"] for item in sorted(events, key=lambda item: int(item["metadata"]["resourceVersion"]))]


def is_complete(item: Object) -> bool:
    status, replicas = item["status"], item["spec"]["replicas"]
    keys = ("replicas", "updatedReplicas", "availableReplicas")
    return status["observedGeneration"] == item["metadata"]["generation"] and all(
        status.get(key, 0) == replicas for key in keys
    )


def test_the_application_is_long_running_at_the_start(cluster: Cluster) -> None:
    control_plane = cluster.control_plane
    views = list(control_plane.pods())
    assert len(views) == 7
    assert all(view.ready and view.started and not view.terminating for view in views)
    assert {view.uid for view in views} == set(cluster.runtime.running)
    assert all(cluster.runtime.endpoints.values())
    assert control_plane.now == control_plane.start
    assert control_plane.due() is None
    assert control_plane.store.objects(EVENT) == []
    assert len({view.ip for view in views}) == len(views)


def test_a_rolling_restart_replaces_every_pod_and_keeps_availability(cluster: Cluster) -> None:
    before = {pod["metadata"]["uid"] for pod in pods(cluster, "cart")}
    generation = restart(cluster, "cart", "now")["metadata"]["generation"]
    assert generation == 2
    assert deployment(cluster, "cart")["status"]["observedGeneration"] == 1
    least = most = 4
    while not is_complete(deployment(cluster, "cart")) or cluster.control_plane.now == cluster.control_plane.start:
        due = cluster.control_plane.due()
        assert due is not None
        cluster.control_plane.run_due(due)
        ready = sum(uid_ready for uid, uid_ready in cluster.runtime.endpoints.items() if is_of(cluster, uid, "cart"))
        least, most = min(least, ready), max(most, len(pods(cluster, "cart")))
    cluster.settle()
    after = pods(cluster, "cart")
    assert not before & {pod["metadata"]["uid"] for pod in after}
    assert before.isdisjoint(cluster.runtime.running)
    assert least >= 2  # one may be missing, and one more is on its way between Ready and traffic
    assert most == 5
    item = deployment(cluster, "cart")
    assert item["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    progressing = condition(item, "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"


def uid_of(item: Object) -> str:
    return str(item["metadata"]["uid"])


def is_of(cluster: Cluster, uid: str, service: str) -> bool:
    return cluster.runtime.running[uid][0] == service


def test_the_steps_of_a_rollout_are_those_of_the_real_controller(cluster: Cluster) -> None:
    restart(cluster, "cart", "now")
    cluster.live(0.1)
    new, old = (
        item["metadata"]["name"]
        for item in sorted(
            (item for item in cluster.control_plane.store.objects(REPLICA_SET) if "cart-" in item["metadata"]["name"]),
            key=lambda item: -int(item["metadata"]["annotations"]["deployment.kubernetes.io/revision"]),
        )
        if not item["metadata"]["name"].startswith("valkey")
    )
    assert reasons(cluster, "cart") == [
        f"Scaled up replica set {new} from 0 to 1",
        f"Scaled down replica set {old} from 4 to 3",
        f"Scaled up replica set {new} from 1 to 2",
    ]


def test_the_same_restart_twice_is_one_rollout(cluster: Cluster) -> None:
    restart(cluster, "cart", "now")
    version = cluster.control_plane.resource_version
    assert restart(cluster, "cart", "now")["metadata"]["generation"] == 2
    assert cluster.control_plane.resource_version == version


def test_new_limits_reach_the_machines_with_the_new_pods(cluster: Cluster) -> None:
    limits(cluster, "cart", "0.25")
    cluster.settle()
    resources = [entry[1] for entry in cluster.runtime.running.values() if entry[0] == "cart"]
    assert [item.cpu_limit_cores for item in resources] == [0.25] * 4
    container = deployment(cluster, "cart")["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"cpu": "250m", "memory": "160Mi"}
    assert container["env"][0]["name"] == "OTEL_SERVICE_NAME"


def test_going_back_to_an_old_template_reuses_its_replica_set_under_a_new_revision(cluster: Cluster) -> None:
    (first,) = [item["metadata"]["ownerReferences"][0]["name"] for item in pods(cluster, "frontend")[:1]]
    limits(cluster, "frontend", "2")
    cluster.settle()
    limits(cluster, "frontend", "1")
    cluster.settle()
    item = api(cluster).get(REPLICA_SET, NAMESPACE, first)
    assert {pod["metadata"]["ownerReferences"][0]["name"] for pod in pods(cluster, "frontend")} == {first}
    assert item["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"
    assert item["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"


def test_readiness_waits_for_the_process_and_traffic_for_the_endpoints(cluster: Cluster) -> None:
    scale(cluster, "frontend", 3)
    cluster.settle()
    (made,) = [
        pod for pod in pods(cluster, "frontend") if pod["metadata"]["creationTimestamp"].startswith("2026-01-05")
    ]
    started = made["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    ready = condition(made, "Ready")
    assert ready is not None
    assert int(ready["lastTransitionTime"][17:19]) - int(started[17:19]) == 4  # 3 s of start-up, probed every 2 s
    assert cluster.runtime.endpoints[made["metadata"]["uid"]]
    assert "connection refused" in reasons(cluster, made["metadata"]["name"])[-1]


def test_a_draining_pod_stays_until_its_last_request_is_answered(cluster: Cluster) -> None:
    uid = pods(cluster, "cart")[0]["metadata"]["uid"]
    cluster.runtime.requests[uid] = 1
    api(cluster).delete(POD, NAMESPACE, pods(cluster, "cart")[0]["metadata"]["name"], {})
    cluster.live(10)
    assert uid in cluster.runtime.terminating
    assert uid in cluster.runtime.running
    assert cluster.runtime.endpoints[uid] is False
    assert len(pods(cluster, "cart")) == 4
    cluster.runtime.requests[uid] = 0
    cluster.live(0.3)
    assert uid not in cluster.runtime.running


def test_a_pod_that_never_drains_is_killed_when_its_grace_is_over(cluster: Cluster) -> None:
    uid = pods(cluster, "cart")[0]["metadata"]["uid"]
    cluster.runtime.requests[uid] = 1
    api(cluster).delete(POD, NAMESPACE, pods(cluster, "cart")[0]["metadata"]["name"], {})
    cluster.live(29.9)
    assert uid in cluster.runtime.running
    cluster.live(0.2)
    assert uid not in cluster.runtime.running


def test_a_process_that_ignores_sigterm_holds_its_pod_for_the_whole_grace(cluster: Cluster) -> None:
    (pod,) = pods(cluster, "valkey-cart")
    api(cluster).delete(POD, NAMESPACE, pod["metadata"]["name"], {})
    cluster.live(29.9)
    assert pod["metadata"]["uid"] in cluster.runtime.running
    cluster.live(0.2)
    assert pod["metadata"]["uid"] not in cluster.runtime.running


def test_a_second_deletion_may_only_shorten_the_grace(cluster: Cluster) -> None:
    (pod,) = pods(cluster, "valkey-cart")
    api(cluster).delete(POD, NAMESPACE, pod["metadata"]["name"], {})
    cluster.live(2)
    api(cluster).delete(POD, NAMESPACE, pod["metadata"]["name"], {"gracePeriodSeconds": 300})
    (marked,) = [item for item in cluster.control_plane.store.objects(POD) if item["metadata"]["uid"] == uid_of(pod)]
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    api(cluster).delete(POD, NAMESPACE, pod["metadata"]["name"], {"gracePeriodSeconds": 5})
    cluster.live(2.9)
    assert pod["metadata"]["uid"] in cluster.runtime.running
    cluster.live(0.2)
    assert pod["metadata"]["uid"] not in cluster.runtime.running


def test_a_forced_deletion_takes_effect_at_once(cluster: Cluster) -> None:
    pod = pods(cluster, "cart")[0]
    api(cluster).delete(POD, NAMESPACE, pod["metadata"]["name"], {"gracePeriodSeconds": 0})
    assert cluster.control_plane.store.get(POD, NAMESPACE, pod["metadata"]["name"]) is None
    cluster.live(0)
    assert pod["metadata"]["uid"] not in cluster.runtime.running


def test_what_a_deployment_owned_goes_with_it(cluster: Cluster) -> None:
    api(cluster).delete(DEPLOYMENT, NAMESPACE, "cart", {})
    cluster.settle()
    assert pods(cluster, "cart") == []
    assert "cart" not in {service for service, _ in cluster.runtime.running.values()}


def test_a_pod_that_does_not_fit_waits_for_room(install: Install) -> None:
    cluster = install(settings=TwinSettings(node_cores=0.75))
    scale(cluster, "frontend", 3)
    cluster.settle()
    (waiting,) = [pod for pod in pods(cluster, "frontend") if pod["status"]["phase"] == "Pending"]
    scheduled = condition(waiting, "PodScheduled")
    assert scheduled is not None
    assert scheduled["reason"] == "Unschedulable"
    assert scheduled["message"] == "0/1 nodes are available: 1 Insufficient cpu."
    scale(cluster, "cart", 3)
    cluster.settle()
    assert is_complete(deployment(cluster, "frontend"))


def test_a_rollout_without_room_runs_into_its_deadline_and_recovers_by_progress(install: Install) -> None:
    cluster = install(settings=TwinSettings(node_cores=0.7))
    restart(cluster, "valkey-cart", "now")
    cluster.live(602)
    item = deployment(cluster, "valkey-cart")
    progressing, available = condition(item, "Progressing"), condition(item, "Available")
    assert progressing is not None
    assert available is not None
    assert (progressing["status"], progressing["reason"]) == ("False", "ProgressDeadlineExceeded")
    assert available["status"] == "True"
    scale(cluster, "cart", 3)
    cluster.live(60)
    progressing = condition(deployment(cluster, "valkey-cart"), "Progressing")
    assert progressing is not None
    assert progressing["reason"] == "NewReplicaSetAvailable"


def test_a_paused_deployment_scales_but_makes_no_new_replica_set(cluster: Cluster) -> None:
    patch(cluster, "cart", {"paused": True})
    restart(cluster, "cart", "now")
    scale(cluster, "cart", 5)
    cluster.settle()
    assert len(cluster.control_plane.store.owned(REPLICA_SET, deployment(cluster, "cart")["metadata"]["uid"])) == 1
    assert len(pods(cluster, "cart")) == 5
    patch(cluster, "cart", {"paused": None})
    cluster.settle()
    assert is_complete(deployment(cluster, "cart"))
    assert deployment(cluster, "cart")["status"]["updatedReplicas"] == 5


def test_recreate_lets_all_old_pods_go_before_it_makes_new_ones(cluster: Cluster) -> None:
    patch(cluster, "cart", {"strategy": {"type": "Recreate", "rollingUpdate": None}})
    restart(cluster, "cart", "now")
    old = {pod["metadata"]["uid"] for pod in pods(cluster, "cart")}
    seen: set[str] = set()
    for _ in range(100):
        due = cluster.control_plane.due()
        if due is None or due > cluster.control_plane.now + 60 * SECOND:
            break
        cluster.control_plane.run_due(due)
        running = {uid for uid in cluster.runtime.running if is_of(cluster, uid, "cart")}
        assert not (running & old and running - old)
        seen |= running
    assert len(seen - old) == 4
    assert is_complete(deployment(cluster, "cart"))


def test_old_revisions_go_beyond_the_limit(cluster: Cluster) -> None:
    patch(cluster, "frontend", {"revisionHistoryLimit": 1})
    for number in range(4):
        restart(cluster, "frontend", str(number))
        cluster.settle()
    owned = cluster.control_plane.store.owned(REPLICA_SET, deployment(cluster, "frontend")["metadata"]["uid"])
    revisions = [item["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for item in owned]
    assert revisions == ["4", "5"]


def test_events_are_counted_and_gone_after_an_hour(cluster: Cluster) -> None:
    scale(cluster, "frontend", 3)
    cluster.settle()
    unhealthy = [item for item in cluster.control_plane.store.objects(EVENT) if item["reason"] == "Unhealthy"]
    assert [item["count"] for item in unhealthy] == [2]
    cluster.live(3700)
    assert cluster.control_plane.store.objects(EVENT) == []


def test_the_same_seed_gives_the_same_history(install: Install) -> None:
    def history(seed: int) -> list[bytes]:
        cluster = install(seed=seed)
        scale(cluster, "cart", 2)
        restart(cluster, "frontend", "now")
        cluster.live(60)
        return cluster.control_plane.store.bodies(POD) + cluster.control_plane.store.bodies(EVENT)

    assert history(3) == history(3)
    assert history(3) != history(4)


def test_delays_of_one_workload_are_not_shifted_by_what_happens_to_another(install: Install) -> None:
    def ready_times(*, disturbed: bool) -> list[int]:
        cluster = install()
        if disturbed:
            scale(cluster, "frontend", 5)
        restart(cluster, "cart", "now")
        times = []
        for _ in range(2000):
            due = cluster.control_plane.due()
            if due is None or due > cluster.control_plane.now + 60 * SECOND:
                break
            count = sum(is_of(cluster, uid, "cart") for uid in cluster.runtime.endpoints)
            cluster.control_plane.run_due(due)
            if sum(is_of(cluster, uid, "cart") for uid in cluster.runtime.endpoints) > count:
                times.append(cluster.control_plane.now)
        return times

    assert ready_times(disturbed=False)
    assert ready_times(disturbed=True) == ready_times(disturbed=False)


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("scale"), st.sampled_from(["cart", "frontend"]), st.integers(0, 6)),
        st.tuples(st.just("restart"), st.sampled_from(["cart", "frontend"]), st.integers(0, 3)),
        st.tuples(st.just("delete"), st.sampled_from(["cart", "frontend"]), st.integers(0, 3)),
        st.tuples(st.just("limits"), st.sampled_from(["cart", "frontend"]), st.integers(2, 4)),
        st.tuples(st.just("wait"), st.just("cart"), st.sampled_from([0, 1, 3, 40])),
    ),
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTIONS)
def test_whatever_is_asked_the_cluster_keeps_its_laws_and_comes_to_rest(
    install: Install, actions: list[tuple[str, str, int]]
) -> None:
    cluster = install()
    largest = {"cart": 4, "frontend": 2}
    generations = dict.fromkeys(largest, 1)
    for verb, name, number in actions:
        if verb == "scale":
            scale(cluster, name, number)
            largest[name] = max(largest[name], number)
        elif verb == "restart":
            restart(cluster, name, str(number))
        elif verb == "limits":
            limits(cluster, name, f"{number}00m")
        elif verb == "delete" and number < len(pods(cluster, name)):
            api(cluster).delete(POD, NAMESPACE, pods(cluster, name)[number]["metadata"]["name"], {})
        else:
            live_lawfully(cluster, number, largest)
        for known, generation in generations.items():
            generations[known] = deployment(cluster, known)["metadata"]["generation"]
            assert generations[known] >= generation
    live_lawfully(cluster, 200, largest)
    for name in largest:
        item = deployment(cluster, name)
        assert is_complete(item), item["status"]
        assert len(pods(cluster, name)) == item["spec"]["replicas"]
    assert {view.uid for view in cluster.control_plane.pods()} == set(cluster.runtime.running)
    assert all(cluster.runtime.endpoints.values())


def live_lawfully(cluster: Cluster, seconds: float, largest: dict[str, int]) -> None:
    """Let the cluster live, looking at the laws after each step."""
    store, control_plane = cluster.control_plane.store, cluster.control_plane
    end = control_plane.now + round(seconds * SECOND)
    while (due := control_plane.due()) is not None and due <= end:
        control_plane.run_due(due)
        for pod in store.objects(POD):
            assert store.dependents(pod["metadata"]["ownerReferences"][0]["uid"])
            owner = store.get(REPLICA_SET, NAMESPACE, pod["metadata"]["ownerReferences"][0]["name"])
            assert owner is not None or "deletionTimestamp" in pod["metadata"]
        for name, size in largest.items():
            assert len(pods(cluster, name)) <= size + -(-size // 4)
    control_plane.run_due(end)


def test_bounds_round_surge_up_and_unavailability_down_and_are_never_both_zero() -> None:
    assert bounds(4, "25%", "25%") == (1, 1)
    assert bounds(1, "25%", "25%") == (1, 0)
    assert bounds(10, "25%", "25%") == (3, 2)
    assert bounds(3, 0, 0) == (0, 1)
    assert bounds(2, 1, 5) == (1, 2)


@given(st.integers(1, 20), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_a_step_never_exceeds_the_surge_nor_takes_needed_pods(replicas: int, new: int, old: int, ready: int) -> None:
    surge, unavailable = bounds(replicas, "25%", "25%")
    grown = new_size(replicas, surge, min(new, replicas), min(new, replicas) + old)
    assert grown + old <= max(replicas + surge, min(new, replicas) + old)
    available = Size(wanted=old, available=min(old, ready))
    (kept,) = old_sizes(replicas, unavailable, Size(wanted=min(new, replicas)), [available])
    assert min(kept, available.available) >= min(available.available, replicas - unavailable)


def test_new_pods_that_are_not_available_hold_back_even_unhealthy_old_ones() -> None:
    assert old_sizes(4, 1, Size(wanted=2), [Size(wanted=3, available=1)]) == [3]
    assert old_sizes(4, 1, Size(wanted=2, available=2), [Size(wanted=1), Size(wanted=2, available=2)]) == [0, 1]


def test_scaling_in_the_middle_of_a_rollout_keeps_the_shares() -> None:
    active = [Size(wanted=8, available=8, maximum=13), Size(wanted=5, available=0, maximum=13)]
    assert proportional(15, 4, active) == [12, 7]
    assert proportional(0, 0, active) == [0, 0]


def test_the_pods_that_go_first_are_unscheduled_pending_unready_cheap_and_young() -> None:
    def pod(name: str, *, node: str = "n", phase: str = "Running", ready: str = "", cost: int = 0) -> Object:
        conditions = (
            [{"type": "Ready", "status": "True", "lastTransitionTime": f"2026-01-04T{ready}Z"}] if ready else []
        )
        return {
            "metadata": {
                "name": name,
                "uid": name,
                "creationTimestamp": "2026-01-04T00:00:00Z",
                "annotations": {"controller.kubernetes.io/pod-deletion-cost": str(cost)},
            },
            "spec": {"nodeName": node},
            "status": {"phase": phase, "conditions": conditions},
        }

    expected = [
        pod("unscheduled", node="", phase="Pending"),
        pod("pending", phase="Pending"),
        pod("unready"),
        pod("young", ready="23:59:00"),
        pod("a-old", ready="01:00:00"),
        pod("b-about-as-old", ready="01:10:00"),
        pod("dear", ready="23:59:00", cost=5),
    ]
    now = 1_767_571_200 * SECOND
    assert deletion_order(list(reversed(expected)), now) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"replicas": -1}, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ({"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}}}, "immutable"),
        ({"template": {"metadata": {"labels": {"opentelemetry.io/name": "x"}}}}, "does not match template"),
        ({"strategy": {"type": "BlueGreen"}}, 'supported values: "Recreate", "RollingUpdate"'),
    ],
)
def test_a_deployment_that_breaks_a_rule_is_refused_and_nothing_is_written(
    cluster: Cluster, spec: dict[str, Any], message: str
) -> None:
    version = cluster.control_plane.resource_version
    with pytest.raises(ApiError, match=message) as refusal:
        patch(cluster, "cart", spec)
    assert refusal.value.code == 422
    assert cluster.control_plane.resource_version == version


def test_requests_above_limits_and_nonsense_quantities_are_refused(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="must be less than or equal to cpu limit of 50m"):
        limits(cluster, "cart", "50m")
    with pytest.raises(ApiError, match="quantities must match"):
        limits(cluster, "cart", "much")
