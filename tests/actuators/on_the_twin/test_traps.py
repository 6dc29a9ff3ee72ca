"""What silently has no effect on a real cluster is refused or seen here: each trap of the references, on the twin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from otel_control_gym.engine.events import ActionApplied, ActionPostchecked, ActionReverted
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


async def test_an_object_that_will_not_go_is_forced_and_that_is_in_the_evidence(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        record = await twin.perform(DELAY, truth=True)
        await twin.live(55)
        kept = [True]

        async def sticking(call: Call) -> web.StreamResponse:
            if call.request.method == "PATCH" and b"finalizers" in await call.request.read():
                kept[0] = False
            if call.request.method == "DELETE" and kept[0]:
                return web.json_response({"kind": "Status", "status": "Success"})
            return await call.forward()

        twin.behave(sticking)
        await twin.live(90)
        evidence = last(twin, ActionReverted).evidence
        assert [line.partition(":")[0] for line in evidence["forced"]][:1] == ["annotation"]
        assert any(line.startswith("finalizers") for line in evidence["forced"])
        assert record.settled is not None


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
