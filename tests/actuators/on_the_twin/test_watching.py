"""What ends before it is taken back is logged as ended, when it did; what nobody touched isn't, and a fault that follows has a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionLapsed,
    ActionPostchecked,
    ActionResumed,
    ActionReverted,
    ObjectsWritten,
)
from otel_control_gym.stands.twin.objects import POD

if TYPE_CHECKING:
    from tests.actuators.on_the_twin.conftest import OpenTwin, Twin

PRESSURE = {"type": "cpu_pressure", "target": "cart", "intensity": "visible", "duration_seconds": 120}
DELAY = {"type": "network_delay", "target": "frontend->cart", "intensity": "visible", "duration_seconds": 120}
LEAK = {"type": "memory_pressure", "target": "cart", "intensity": "severe", "duration_seconds": 60}


def of(twin: Twin, kind: type[Any]) -> list[Any]:
    return [event for event, _ in twin.log if isinstance(event, kind)]


def pods(twin: Twin, service: str) -> list[dict[str, Any]]:
    found = twin.stand.run.control_plane.context.store.objects(POD)
    return [pod for pod in found if pod["metadata"]["labels"]["opentelemetry.io/name"] == service]


async def core(twin: Twin, method: str, path: str, body: Any = None) -> Any:
    """Call the stand behind the actuators' back; `path` is that of the core API or of Chaos Mesh's."""
    url = f"{twin.stand.endpoints.kubernetes}/{path}"
    async with aiohttp.ClientSession() as session, session.request(method, url, json=body) as answer:
        assert answer.status < 300, await answer.text()
        return await answer.json()


async def delete_pods(twin: Twin, service: str) -> None:
    for pod in pods(twin, service):
        name = pod["metadata"]["name"]
        await core(twin, "DELETE", f"api/v1/namespaces/otel-demo/pods/{name}", {"gracePeriodSeconds": 0})


@pytest.mark.parametrize("action", [PRESSURE, DELAY], ids=lambda action: action["type"])
async def test_a_fault_whose_pods_are_replaced_ends_with_them(action: dict[str, Any], open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        record = await twin.perform({**action, "persistence": "pod"}, truth=True)
        await twin.live(20)
        before, at = [pod["metadata"]["name"] for pod in pods(twin, "cart")], twin.now
        await delete_pods(twin, "cart")
        await twin.live(30)
        (lapsed,) = of(twin, ActionLapsed)
        assert (set(lapsed.lost), lapsed.left) == (set(before), ())
        assert lapsed.end_time - lapsed.precision_ns <= at <= lapsed.end_time <= at + 5 * SECOND
        assert (lapsed, True) in twin.log, "it belongs to the stream of its intervention"
        assert twin.actuators.in_force(truth=True) == []
        await twin.live(120)
        assert (len(of(twin, ActionLapsed)), of(twin, ActionResumed)) == (1, [])
        assert record.status == "applied"


async def test_a_rule_on_an_edge_ends_with_the_pods_of_either_end(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform({**DELAY, "persistence": "pod"}, truth=True)
        await twin.live(20)
        await delete_pods(twin, "frontend")
        await twin.live(10)
        (lapsed,) = of(twin, ActionLapsed)
        assert all(name.startswith("frontend-") for name in lapsed.lost)
        assert lapsed.left == (), "the answers of cart meet nobody any more whom the rule knows"


@pytest.mark.parametrize("action", [PRESSURE, DELAY], ids=lambda action: action["type"])
async def test_a_fault_whose_pods_stay_ends_when_it_is_taken_back(action: dict[str, Any], open_twin: OpenTwin) -> None:
    """Others' pods are replaced meanwhile, and those of the target's own group are as they were."""
    async with open_twin() as twin:
        await twin.perform({**action, "persistence": "pod"}, truth=True)
        await twin.live(20)
        await delete_pods(twin, "quote")
        assert (await twin.perform_and_settle({"type": "restart", "target": "email"})).status == "applied"
        await twin.live(120)
        assert of(twin, ActionLapsed) == []
        (reverted,) = [event for event, truth in twin.log if isinstance(event, ActionReverted) and truth]
        assert (reverted.verified, reverted.precision_ns is not None) == (True, True)


async def test_a_fault_that_follows_its_workload_has_a_gap_with_both_its_ends(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        record = await twin.perform({**PRESSURE, "persistence": "workload"}, truth=True)
        await twin.live(20)
        await delete_pods(twin, "cart")
        await twin.live(60)
        (lapsed,), (resumed,) = of(twin, ActionLapsed), of(twin, ActionResumed)
        assert lapsed.left == ()
        assert sorted(resumed.places) == sorted(pod["metadata"]["name"] for pod in pods(twin, "cart"))
        assert lapsed.end_time < resumed.resumed_time <= resumed.time
        applied = [event for event, truth in twin.log if isinstance(event, ActionApplied) and truth]
        assert applied[0].objects[0].name != applied[1].objects[0].name, "the new object has another name"
        assert [item.action_id for item in twin.actuators.in_force(truth=True)] == [record.action_id]


async def test_a_fault_that_lost_one_of_its_pods_is_in_the_other_until_it_is_made_anew_for_both(
    open_twin: OpenTwin,
) -> None:
    async with open_twin() as twin:
        scaled = await twin.perform_and_settle({"type": "scale", "target": "cart", "replicas": 2})
        assert scaled.status == "applied"
        await twin.perform({**PRESSURE, "persistence": "workload"}, truth=True)
        await twin.live(20)
        first, second = [pod["metadata"]["name"] for pod in pods(twin, "cart")]
        await core(twin, "DELETE", f"api/v1/namespaces/otel-demo/pods/{first}", {"gracePeriodSeconds": 0})
        await twin.live(40)
        partial, whole, *_ = of(twin, ActionLapsed)
        assert (partial.lost, partial.left) == ((first,), (second,))
        assert (whole.lost, whole.left) == ((second,), ())
        assert partial.end_time <= whole.end_time
        resumed = of(twin, ActionResumed)[-1]
        assert second in resumed.places
        assert whole.end_time < resumed.resumed_time


async def test_a_container_that_was_killed_for_its_memory_says_itself_when_the_leak_ended(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform({**LEAK, "persistence": "pod"}, truth=True)
        await twin.live(40)
        (lapsed,) = of(twin, ActionLapsed)
        assert (lapsed.left, lapsed.reason) == ((), "container restarted or pod replaced")
        await twin.live(60)
        assert of(twin, ActionResumed) == []


async def test_a_fault_that_somebody_removes_ends_there_and_is_not_made_again(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform({**PRESSURE, "persistence": "workload"}, truth=True)
        await twin.live(20)
        kind = "apis/chaos-mesh.org/v1alpha1/namespaces/otel-demo/stresschaos"
        (item,) = (await core(twin, "GET", kind))["items"]
        await core(twin, "DELETE", f"{kind}/{item['metadata']['name']}")
        await twin.live(20)
        (lapsed,) = of(twin, ActionLapsed)
        assert (lapsed.left, lapsed.reason) == ((), "the chaos object is gone")
        assert (await core(twin, "GET", kind))["items"] == []


async def test_a_new_pod_of_flagd_ends_every_flag(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        flags = ("cartFailure", "paymentFailure")
        for flag in flags:
            fault = {"type": "feature_flag", "flag": flag, "intensity": "severe", "duration_seconds": 300}
            await twin.perform(fault, truth=True)
        await twin.live(20)
        assert [event.verdict for event in of(twin, ActionPostchecked)] == ["effective", "effective"]
        await delete_pods(twin, "flagd")
        at = twin.now
        await twin.live(60)
        lapses = of(twin, ActionLapsed)
        assert sorted(place for event in lapses for place in event.lost) == sorted(flags)
        assert all(at <= event.end_time <= at + 60 * SECOND and event.left == () for event in lapses)


async def test_a_flag_outlives_pods_that_are_not_flagd_s(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        fault = {"type": "feature_flag", "flag": "cartFailure", "intensity": "severe", "duration_seconds": 60}
        await twin.perform(fault, truth=True)
        await twin.live(10)
        await delete_pods(twin, "cart")
        await twin.live(90)
        assert of(twin, ActionLapsed) == []


@pytest.mark.parametrize("mistake", ["address", "image"])
async def test_a_mistake_that_a_policy_rolls_back_has_ended_then(mistake: str, open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        fault = {"type": "bad_config", "target": "checkout->payment", "mistake": mistake, "duration_seconds": 300}
        await twin.perform(fault, truth=True)
        await twin.live(60)
        assert of(twin, ActionPostchecked)[0].verdict == "effective"
        at = twin.now
        rescue = await twin.perform_and_settle({"type": "rollback_config", "target": "checkout"})
        assert rescue.status == "applied", rescue.reason
        await twin.live(10)
        (lapsed,) = of(twin, ActionLapsed)
        assert lapsed.left == ()
        assert at < lapsed.end_time <= twin.now


async def test_an_outage_that_somebody_ends_has_ended_then(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        fault = {
            "type": "dependency_outage",
            "target": "valkey-cart",
            "mechanism": "scale_to_zero",
            "duration_seconds": 120,
        }
        await twin.perform(fault, truth=True)
        await twin.live(30)
        await twin.kubectl("PATCH", "deployments/valkey-cart/scale", {"spec": {"replicas": 1}})
        await twin.live(10)
        (lapsed,) = of(twin, ActionLapsed)
        assert (lapsed.lost, lapsed.reason) == (("valkey-cart",), "scaled to 1")


async def test_the_moment_of_an_effect_is_what_the_stand_s_own_objects_say_to_the_second(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        record = await twin.perform_and_settle({"type": "scale", "target": "frontend", "replicas": 4})
        stamps = [
            next(item["lastTransitionTime"] for item in pod["status"]["conditions"] if item["type"] == "Ready")
            for pod in pods(twin, "frontend")
        ]
        assert record.effective is not None
        (checked,) = of(twin, ActionPostchecked)
        assert checked.precision_ns <= SECOND, "the looks are five seconds apart"
        second = f"{(checked.effective_time - SECOND) // SECOND % 60:02d}Z"
        assert max(stamps).endswith(second)


async def test_versions_that_an_action_wrote_are_in_the_truth_stream_alone(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        record = await twin.perform_and_settle({"type": "scale", "target": "cart", "replicas": 3})
        (written,) = [(event, truth) for event, truth in twin.log if isinstance(event, ObjectsWritten)]
        (item,) = written[0].objects
        assert (written[0].action_id, written[1]) == (record.action_id, True)
        assert (item.method, item.kind, item.name) == ("PATCH", "deployments/scale", "cart")
        assert int(item.version_before) < int(item.version_after)
        (applied,) = of(twin, ActionApplied)
        assert item.uid == applied.objects[0].uid
