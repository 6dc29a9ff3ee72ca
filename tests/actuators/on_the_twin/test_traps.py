"""What silently has no effect on a real cluster is refused or seen here: each trap of the references, on the twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

import otel_control_gym as ocg
from otel_control_gym.actuators.deployments import DeploymentClient
from otel_control_gym.actuators.kubernetes_client import open_kubernetes
from otel_control_gym.actuators.objects import Pod
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionForced,
    ActionLapsed,
    ActionPostchecked,
    ActionRequested,
    ActionReverted,
)
from otel_control_gym.stands.twin.objects import CONFIG_MAP, DEPLOYMENT, NETWORK_CHAOS, POD_NETWORK_CHAOS, SERVICE

if TYPE_CHECKING:
    from otel_control_gym.engine.settings import RunConfig
    from tests.actuators.on_the_twin.conftest import Call, OpenTwin, Twin

DELAY = {"type": "network_delay", "target": "frontend->cart", "intensity": "visible", "duration_seconds": 60}
AUTOSCALER = {"type": "set_autoscaler", "target": "frontend", "min_replicas": 2, "max_replicas": 3}


def replicas(twin: Twin, name: str) -> int:
    return next(item.desired for item in twin.stand.run.control_plane.deployments() if item.name == name)


def last(twin: Twin, kind: type[Any]) -> Any:
    return next(event for event, _ in reversed(twin.log) if isinstance(event, kind))


async def pods_of(twin: Twin, service: str) -> tuple[Pod, ...]:
    async with open_kubernetes(twin.stand.endpoints) as kubernetes:
        return await DeploymentClient(kubernetes, "otel-demo", service).pods()


async def environment_of(twin: Twin, name: str) -> list[dict[str, Any]]:
    found = await twin.kubectl("GET", f"deployments/{name}", None)
    variables: list[dict[str, Any]] = found["spec"]["template"]["spec"]["containers"][0]["env"]
    return variables


async def requests_by_pod(twin: Twin, service: str) -> dict[str, float]:
    """Return how many requests each pod of a service has served, as Prometheus has it."""
    query = f'traces_span_metrics_calls_total{{service_name="{service}",span_kind="SPAN_KIND_SERVER"}}'
    url = f"{twin.stand.endpoints.prometheus}/api/v1/query"
    moment = str(twin.now / 1e9)
    async with aiohttp.ClientSession() as session, session.get(url, params={"query": query, "time": moment}) as answer:
        found = (await answer.json())["data"]["result"]
    served: dict[str, float] = {}
    for series in found:
        name = series["metric"]["k8s_pod_name"]
        served[name] = served.get(name, 0.0) + float(series["value"][1])
    return served


@pytest.mark.parametrize(
    "action",
    [
        {"type": "restart", "target": "cart"},
        {"type": "rollout_config", "target": "cart", "env": {"A": "b"}},
        {"type": "set_resources", "target": "cart", "cpu_limit_cores": 0.5},
        {"type": "shift_traffic", "target": "cart", "version": "2.2.0", "weight_percent": 50},
        {"type": "bad_config", "target": "cart->valkey-cart", "mistake": "address"},
    ],
    ids=lambda action: action["type"],
)
async def test_a_paused_rollout_is_refused_because_nothing_would_roll(
    action: dict[str, Any], open_twin: OpenTwin
) -> None:
    async with open_twin() as twin:
        await twin.kubectl("PATCH", "deployments/cart", {"spec": {"paused": True}})
        record = await twin.perform_and_settle(action)
        assert (record.status, twin.written) == ("rejected", [])
        assert "paused" in record.reason


async def test_scaling_under_an_autoscaler_is_refused_with_its_bounds(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        assert (await twin.perform_and_settle(AUTOSCALER)).status == "applied"
        twin.forget()
        for action in (
            {"type": "scale", "target": "frontend", "replicas": 1},
            {"type": "shift_traffic", "target": "frontend", "version": "2.2.0", "weight_percent": 50},
        ):
            record = await twin.perform_and_settle(action)
            assert (record.status, twin.written) == ("rejected", [])
            assert "2 to 3 replicas" in record.reason
        removed = await twin.perform_and_settle({"type": "set_autoscaler", "target": "frontend", "remove": True})
        assert removed.status == "applied"
        assert (
            await twin.perform_and_settle({"type": "scale", "target": "frontend", "replicas": 1})
        ).status == "applied"


async def test_an_autoscaler_beside_a_canary_is_refused(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        shift = {"type": "shift_traffic", "target": "frontend", "version": "2.2.0", "weight_percent": 50}
        assert (await twin.perform_and_settle(shift)).status == "applied"
        record = await twin.perform_and_settle(AUTOSCALER)
        assert (record.status, "canary" in record.reason) == ("rejected", True)


async def test_a_cluster_without_chaos_mesh_or_gateway_says_so_in_the_precheck(open_twin: OpenTwin) -> None:
    async def without(call: Call) -> web.StreamResponse:
        if "chaos-mesh.org" in call.request.path or "gateway" in call.request.path:
            body = {"kind": "Status", "message": "the server could not find the requested resource", "code": 404}
            return web.json_response(body, status=404)
        return await call.forward()

    async with open_twin() as twin:
        twin.behave(without)
        record = await twin.perform_and_settle(DELAY)
        assert (record.status, "no NetworkChaos" in record.reason) == ("rejected", True)
        route = {
            "type": "shift_traffic",
            "target": "frontend",
            "version": "2.2.0",
            "weight_percent": 50,
            "via": "route",
        }
        record = await twin.perform_and_settle(route)
        assert (record.status, "gateway.networking.k8s.io" in record.reason) == ("rejected", True)


async def test_a_delay_sits_where_the_callee_answers_because_a_service_address_would_miss_it(
    open_twin: OpenTwin,
) -> None:
    """A rule at the caller's end never sees the callee's pod IPs, and Chaos Mesh would say AllInjected all the same."""
    async with open_twin() as twin:
        record = await twin.perform(DELAY, truth=True)
        await twin.live(5)
        assert last(twin, ActionPostchecked).verdict == "effective"
        store = twin.stand.run.control_plane.context.store
        (chaos,) = store.objects(NETWORK_CHAOS)
        assert (chaos["spec"]["direction"], record.status) == ("from", "pending")
        ruled = [item["metadata"]["name"] for item in store.objects(POD_NETWORK_CHAOS) if item["spec"]["tcs"]]
        assert all(name.startswith("cart-") for name in ruled)


async def test_an_injection_that_reaches_some_pods_only_is_partial(open_twin: OpenTwin, quiet: RunConfig) -> None:
    config = msgspec.structs.replace(quiet, twin=msgspec.structs.replace(quiet.twin, chaos_refusal=0.5))
    async with open_twin(config) as twin:
        await twin.perform_and_settle({"type": "scale", "target": "frontend", "replicas": 8})
        pressure = {"type": "cpu_pressure", "target": "frontend", "intensity": "mild", "duration_seconds": 120}
        record = await twin.perform_and_settle(pressure)
        assert record.status == "partial"
        evidence = last(twin, ActionPostchecked).evidence
        assert 0 < evidence["records_injected"] < evidence["records_expected"] == 8


async def test_two_actions_on_one_field_exclude_each_other_and_several_on_others_are_in_force(
    open_twin: OpenTwin,
) -> None:
    async with open_twin() as twin:
        first = await twin.perform({"type": "scale", "target": "frontend", "replicas": 2})
        second = await twin.perform(AUTOSCALER)
        third = await twin.perform({"type": "disable_group", "target": "recommendations"})
        fourth = await twin.perform({"type": "scale", "target": "recommendation", "replicas": 3})
        await twin.live(60)
        assert [item.status for item in (first, second, third, fourth)] == [
            "applied",
            "rejected",
            "applied",
            "rejected",
        ]
        assert first.action_id in second.reason
        in_force = [item.action_id for item in twin.actuators.in_force(truth=False)]
        assert sorted(in_force) == sorted([first.action_id, third.action_id])


async def test_a_group_comes_back_with_the_replicas_that_it_had(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform_and_settle({"type": "scale", "target": "recommendation", "replicas": 3})
        await twin.perform_and_settle({"type": "disable_group", "target": "recommendations"})
        assert replicas(twin, "recommendation") == 0
        again = await twin.perform_and_settle({"type": "disable_group", "target": "recommendations"})
        assert (again.status, again.reason) == ("rejected", "the group is disabled already")
        record = await twin.perform_and_settle({"type": "enable_group", "target": "recommendations"})
        assert (record.status, replicas(twin, "recommendation")) == ("applied", 3)


async def test_a_rollback_is_what_kubectl_would_do_and_names_what_isn_t_there(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        nothing = await twin.perform_and_settle({"type": "rollback_config", "target": "checkout"})
        assert (nothing.status, "no earlier revision" in nothing.reason) == ("rejected", True)
        before = await twin.kubectl("GET", "deployments/checkout", None)
        for number in ("50", "75"):
            rollout = {"type": "rollout_config", "target": "checkout", "env": {"GOGC": number}}
            assert (await twin.perform_and_settle(rollout)).status == "applied"
        missing = await twin.perform_and_settle({"type": "rollback_config", "target": "checkout", "revision": 9})
        assert (missing.status, "revision 9" in missing.reason) == ("rejected", True)
        record = await twin.perform_and_settle({"type": "rollback_config", "target": "checkout", "revision": 1})
        assert record.status == "applied", record.reason
        after = await twin.kubectl("GET", "deployments/checkout", None)
        assert after["spec"]["template"] == before["spec"]["template"]
        assert after["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "4"
        previous = await twin.perform_and_settle({"type": "rollback_config", "target": "checkout"})
        assert previous.status == "applied"
        env = (await twin.kubectl("GET", "deployments/checkout", None))["spec"]["template"]["spec"]["containers"][0][
            "env"
        ]
        assert {"name": "GOGC", "value": "75"} in env, "undo twice toggles"


async def test_a_config_map_is_versioned_so_that_an_undo_brings_the_old_values_back(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        rollout = {"type": "rollout_config", "target": "checkout", "env": {"GOGC": "50"}, "via": "config_map"}
        assert (await twin.perform_and_settle(rollout)).status == "applied"
        hidden = {"type": "rollout_config", "target": "checkout", "env": {"PAYMENT_ADDR": "x"}, "via": "config_map"}
        record = await twin.perform_and_settle(hidden)
        assert (record.status, "hides" in record.reason) == ("rejected", True)
        same = await twin.perform_and_settle(rollout)
        assert (same.status, "already" in same.reason) == ("rejected", True)
        second = {**rollout, "env": {"GOGC": "75"}}
        assert (await twin.perform_and_settle(second)).status == "applied"
        assert (await twin.perform_and_settle({"type": "rollback_config", "target": "checkout"})).status == "applied"
        found = await twin.kubectl("GET", "deployments/checkout", None)
        (source,) = found["spec"]["template"]["spec"]["containers"][0]["envFrom"]
        name = source["configMapRef"]["name"]
        store = twin.stand.run.control_plane.context.store
        assert store.get(CONFIG_MAP, "otel-demo", name)["data"] == {"GOGC": "50"}  # type: ignore[index]


async def test_pressure_beyond_the_limit_kills_the_container_and_follows_into_the_next(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        pressure = {"type": "memory_pressure", "target": "cart", "intensity": "severe", "duration_seconds": 60}
        record = await twin.perform(pressure, truth=True)
        await twin.live(120)
        assert record.status == "applied"
        applied = [event for event, _ in twin.log if isinstance(event, ActionApplied)]
        assert len(applied) > 1, "the container that came back was left alone"
        assert last(twin, ActionReverted).evidence["renewals"]


async def test_a_fault_whose_target_was_replaced_follows_it_or_ends_with_it(open_twin: OpenTwin) -> None:
    for persistence, renewed in (("workload", True), ("pod", False)):
        async with open_twin() as twin:
            await twin.perform({**DELAY, "persistence": persistence}, truth=True)
            await twin.live(10)
            assert (await twin.perform_and_settle({"type": "restart", "target": "cart"})).status == "applied"
            await twin.live(15)
            applied = [event for event, truth in twin.log if isinstance(event, ActionApplied) and truth]
            assert (len(applied) > 1) == renewed


async def test_a_sticky_caller_leaves_the_share_of_a_canary_unverified(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        shift = {"type": "shift_traffic", "target": "cart", "version": "2.2.0", "weight_percent": 50}
        record = await twin.perform_and_settle(shift)
        assert (record.status, "hold on to their connections" in record.reason) == ("unverified", True)


async def test_callers_that_dial_anew_share_their_requests_among_both_versions(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        for caller in ("frontend", "checkout"):
            scaled = await twin.perform_and_settle({"type": "scale", "target": caller, "replicas": 4})
            assert scaled.status == "applied"
        shift = {"type": "shift_traffic", "target": "cart", "version": "2.2.0", "weight_percent": 50}
        record = await twin.perform({**shift, "reconnect_callers": True, "duration_seconds": 240})
        await twin.live(120)
        evidence = last(twin, ActionPostchecked).evidence
        assert evidence["callers"] == ["frontend", "checkout"]
        applied = [event for event, _ in twin.log if isinstance(event, ActionApplied)][-2:]
        assert {item.name for item in applied[0].objects} == {"cart-canary"}
        assert {item.name for item in applied[1].objects} == {"frontend", "checkout"}
        assert applied[0].time < applied[1].time, "both versions have to be there first"
        served = await requests_by_pod(twin, "cart")
        assert sum(count for name, count in served.items() if "canary" in name) > 0, served
        await twin.live(180)
        assert record.status == "applied"
        assert record.applied is not None
        assert record.reverted is not None
        assert record.reverted < record.applied + 245 * SECOND, "the restart doesn't make it longer"


@pytest.mark.parametrize(
    "action",
    [
        {
            "type": "shift_traffic",
            "target": "cart",
            "version": "2.2.0",
            "weight_percent": 50,
            "reconnect_callers": True,
        },
        {"type": "bad_config", "target": "frontend->cart", "mistake": "target_port"},
    ],
    ids=lambda action: action["type"],
)
async def test_callers_that_could_not_be_restarted_would_not_notice_so_it_is_refused(
    action: dict[str, Any], open_twin: OpenTwin
) -> None:
    async with open_twin() as twin:
        await twin.kubectl("PATCH", "deployments/checkout", {"spec": {"paused": True}})
        twin.forget()
        record = await twin.perform_and_settle(action)
        assert (record.status, twin.written) == ("rejected", [])
        assert "rollouts of checkout are paused" in record.reason


async def test_a_wrong_target_port_reaches_every_caller_that_holds_on_to_its_connections(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        fault = {"type": "bad_config", "target": "frontend->cart", "mistake": "target_port", "duration_seconds": 120}
        before = {pod.metadata.uid for name in ("frontend", "checkout") for pod in await pods_of(twin, name)}
        record = await twin.perform(fault, truth=True)
        await twin.live(90)
        assert last(twin, ActionPostchecked).verdict == "effective"
        after = {pod.metadata.uid for name in ("frontend", "checkout") for pod in await pods_of(twin, name)}
        assert not before & after
        await twin.live(90)
        assert record.status == "applied"


async def test_a_route_that_nothing_follows_has_shifted_nothing(open_twin: OpenTwin) -> None:
    async def unaccepted(call: Call) -> web.StreamResponse:
        answer = await call.forward()
        if call.reads and "/httproutes/" in call.request.path and answer.status == 200:
            assert isinstance(answer.body, bytes)
            return web.json_response(msgspec.json.decode(answer.body) | {"status": {"parents": []}})
        return answer

    async with open_twin() as twin:
        twin.behave(unaccepted)
        shift = {"type": "shift_traffic", "target": "frontend", "version": "2.2.0", "weight_percent": 50}
        record = await twin.perform_and_settle({**shift, "via": "route"})
        assert (record.status, "no gateway that the load passes" in record.reason) == ("unverified", True)


@pytest.mark.parametrize("persistence", ["pod", "workload"])
async def test_a_dependency_whose_pods_fail_refuses_loses_its_data_and_comes_back(
    persistence: str, open_twin: OpenTwin
) -> None:
    async with open_twin() as twin:
        fault: dict[str, Any] = {"type": "dependency_outage", "target": "valkey-cart", "mechanism": "pod_failure"}
        fault |= {"duration_seconds": 60, "persistence": persistence}
        (before,) = await pods_of(twin, "valkey-cart")
        record = await twin.perform(fault, truth=True)
        assert last(twin, ActionRequested).parameters["data_lost"] is True
        await twin.live(30)
        (failing,) = await pods_of(twin, "valkey-cart")
        checked = last(twin, ActionPostchecked)
        assert (checked.verdict, checked.evidence["data_lost"]) == ("effective", True)
        assert (failing.metadata.uid, failing.ready) == (before.metadata.uid, False)
        assert not [event for event, _ in twin.log if isinstance(event, ActionLapsed)], "its restart is the fault"
        await twin.live(60)
        (after,) = await pods_of(twin, "valkey-cart")
        assert (after.metadata.uid, after.ready) == (before.metadata.uid, True)
        assert [item.image for item in after.spec.containers] == [item.image for item in before.spec.containers]
        assert (record.status, record.reverted is not None) == ("applied", True)


async def test_a_failure_that_no_kubelet_has_carried_out_is_not_believed(open_twin: OpenTwin) -> None:
    """The record says Injected as soon as the pod's image is changed; its process runs until the kubelet ends it."""

    async def running_on(call: Call) -> web.StreamResponse:
        answer = await call.forward()
        if not call.request.path.endswith("/pods"):
            return answer
        assert isinstance(answer.body, bytes)
        body = msgspec.json.decode(answer.body)
        for pod in body["items"]:
            for status in pod["status"].get("containerStatuses", ()):
                status["restartCount"] = 0
        return web.json_response(body)

    async with open_twin() as twin:
        twin.behave(running_on)
        fault = {"type": "dependency_outage", "target": "valkey-cart", "mechanism": "pod_failure"}
        record = await twin.perform_and_settle({**fault, "duration_seconds": 120})
        assert (record.status, record.effective) == ("unverified", None)


async def test_a_pod_that_keeps_its_pause_image_is_seen_after_the_object_is_gone_and_replaced(
    open_twin: OpenTwin,
) -> None:
    async def stays(call: Call) -> web.StreamResponse:
        answer = await call.forward()
        if call.request.path.endswith("/pods") and removed[0]:
            assert isinstance(answer.body, bytes)
            body = msgspec.json.decode(answer.body)
            for pod in body["items"]:
                pod["metadata"].setdefault("annotations", {})["chaos-mesh-x-pod-failure-y-normal-image"] = "own"
            return web.json_response(body)
        return answer

    removed = [False]
    async with open_twin() as twin:
        fault = {"type": "dependency_outage", "target": "valkey-cart", "mechanism": "pod_failure"}
        record = await twin.perform({**fault, "duration_seconds": 30}, truth=True)
        await twin.live(25)
        removed[0] = True
        twin.behave(stays)
        await twin.live(120)
        (forced,) = [event for event, _ in twin.log if isinstance(event, ActionForced)]
        assert (forced.step, len(forced.objects)) == ("pods", 1)
        assert (last(twin, ActionReverted).verified, record.revert_failed) == (True, False)


@pytest.mark.parametrize(("mebibytes", "heap"), [(400, "-Xmx240m"), (350, "-Xmx210m")])
async def test_what_a_jvm_limits_itself_to_moves_with_its_memory_limit_and_back(
    mebibytes: int, heap: str, open_twin: OpenTwin
) -> None:
    config = ocg.resolve("medium-store", workload="steady", seed=7)
    async with open_twin(config) as twin:
        action = {"type": "set_resources", "target": "ad", "memory_limit_bytes": mebibytes * 2**20}
        record = await twin.perform({**action, "duration_seconds": 60})
        await twin.live(50)
        assert record.effective is not None, record.reason
        assert {"name": "JDK_JAVA_OPTIONS", "value": heap} in await environment_of(twin, "ad")
        await twin.live(120)
        assert {"name": "JDK_JAVA_OPTIONS", "value": "-Xmx180m"} in await environment_of(twin, "ad")
        assert record.reverted is not None


async def test_what_a_go_process_limits_itself_to_moves_with_its_memory_limit_alone(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform_and_settle({"type": "set_resources", "target": "checkout", "cpu_limit_cores": 0.1})
        assert {"name": "GOMEMLIMIT", "value": "16MiB"} in await environment_of(twin, "checkout")
        more = {"type": "set_resources", "target": "checkout", "memory_limit_bytes": 200 * 2**20}
        assert (await twin.perform_and_settle(more)).status == "applied"
        assert {"name": "GOMEMLIMIT", "value": "160MiB"} in await environment_of(twin, "checkout")


async def test_an_object_that_will_not_go_is_forced_and_each_step_is_an_event(open_twin: OpenTwin) -> None:
    """The rules are out of the pods, but the object stays until its finalizers are taken."""
    stuck: list[bytes] = []

    async def sticking(call: Call) -> web.StreamResponse:
        if "/networkchaos/" not in call.request.path:
            return await call.forward()
        if call.request.method == "PATCH":
            if b"finalizers" in await call.request.read():
                stuck.clear()
            return web.json_response({"kind": "NetworkChaos"})
        answer = await call.forward()
        if call.request.method == "GET" and answer.status == 200:
            assert isinstance(answer.body, bytes)
            stuck[:] = [answer.body]
        return web.Response(body=stuck[0], content_type="application/json") if stuck and call.reads else answer

    async with open_twin() as twin:
        record = await twin.perform(DELAY, truth=True)
        await twin.live(55)
        twin.behave(sticking)
        await twin.live(90)
        forced = [event for event, _ in twin.log if isinstance(event, ActionForced)]
        assert [event.step for event in forced] == ["annotation", "annotation", "finalizers"]
        assert {(event.objects[0].kind, event.error) for event in forced} == {("NetworkChaos", "")}
        assert (last(twin, ActionReverted).verified, record.revert_failed) == (True, False)


async def test_while_the_webhook_is_down_a_fault_ends_with_its_pods_and_not_before(open_twin: OpenTwin) -> None:
    """Create and update are refused then; whatever is deleted stays, because nobody takes its finalizer away."""

    async def down(call: Call) -> web.StreamResponse:
        if "chaos-mesh.org" not in call.request.path or call.reads:
            return await call.forward()
        if call.request.method == "DELETE":
            return web.json_response({"kind": "Status", "status": "Success"})
        body = {"kind": "Status", "message": "failed calling webhook: context deadline exceeded", "code": 500}
        return web.json_response(body, status=500)

    async with open_twin() as twin:
        record = await twin.perform(DELAY, truth=True)
        await twin.live(55)
        before = {pod.metadata.uid for pod in await pods_of(twin, "cart")}
        twin.behave(down)
        refused = await twin.perform_and_settle({**DELAY, "target": "checkout->cart"})
        assert (refused.status, "webhook" in refused.reason) == ("failed", True)
        await twin.live(35)
        assert {pod.metadata.uid for pod in await pods_of(twin, "cart")} == before
        await twin.live(60)
        forced = [event for event, _ in twin.log if isinstance(event, ActionForced)]
        assert [event.step for event in forced if event.error] == [
            "annotation",
            "annotation",
            "finalizers",
            "finalizers",
        ]
        gone = [item.uid for event in forced if event.step == "pods" for item in event.objects]
        assert before < set(gone), "the pods of both ends"
        assert not before & {pod.metadata.uid for pod in await pods_of(twin, "cart")}
        assert record.revert_failed, "the object is still there"


@pytest.mark.parametrize(
    ("action", "refused"),
    [
        ({"type": "set_workload", "users": 30, "mix": {"checkout": 0.5}}, "/ocg/mix"),
        (
            {"type": "shift_traffic", "target": "quote", "version": "2.2.0", "weight_percent": 50, "via": "route"},
            "/httproutes",
        ),
        ({"type": "bad_config", "target": "checkout->payment", "mistake": "target_port"}, "/deployments/checkout"),
    ],
    ids=["set_workload", "shift_traffic", "bad_config"],
)
async def test_what_was_half_made_when_a_later_write_was_refused_is_taken_back(
    action: dict[str, Any], refused: str, open_twin: OpenTwin
) -> None:
    async def refusing(call: Call) -> web.StreamResponse:
        if call.writes and call.request.method != "DELETE" and call.request.path.endswith(refused):
            return web.json_response({"kind": "Status", "message": "no", "code": 403}, status=403)
        return await call.forward()

    def state(twin: Twin) -> Any:
        store = twin.stand.run.control_plane.context.store
        ports = {item["metadata"]["name"]: item["spec"]["ports"] for item in store.objects(SERVICE)}
        deployments = [item["metadata"]["name"] for item in store.objects(DEPLOYMENT)]
        return ports, deployments, twin.stand.run.simulation.load_counters().users_target

    async with open_twin() as twin:
        before = state(twin)
        twin.behave(refusing)
        record = await twin.perform_and_settle(action)
        assert len([line for line in twin.written if not line.endswith(refused)]) >= 1, "nothing was half made"
        assert record.status == "failed"
        await twin.live(60)
        assert state(twin) == before
