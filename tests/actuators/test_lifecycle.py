"""An attempt's life on a stand: what is logged, in which order, and that `applied` is said only of what was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_control_gym.actuators import CpuPressure, NetworkDelay, Noop, Restart, Scale, SetResources
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionReverted,
)

if TYPE_CHECKING:
    from tests.actuators.conftest import Stage

WHOLE_LIFE = ["requested", "prechecked", "applied", "postchecked", "settled"]
TIMED_LIFE = ["requested", "prechecked", "applied", "postchecked", "reverted", "settled"]


def deployment(stage: Stage, name: str) -> tuple[int, int]:
    view = next(item for item in stage.control_plane.deployments() if item.name == name)
    return view.desired, view.available


async def test_a_noop_settles_at_once(stage: Stage) -> None:
    record = await stage.perform(Noop())
    assert (record.status, record.settled) == ("applied", stage.now)
    assert stage.life(record.action_id) == ["requested", "settled"]
    assert stage.actuators.due() is None


async def test_a_scaling_is_applied_once_all_replicas_are_available(stage: Stage) -> None:
    record = await stage.perform(Scale("cart", replicas=4))
    assert (record.status, record.applied) == ("pending", stage.now)
    (settled,) = await stage.live(30)
    assert settled is record
    assert record.status == "applied"
    assert record.effective is not None
    assert record.requested < record.effective < record.requested + 10 * SECOND
    assert stage.life(record.action_id) == WHOLE_LIFE
    assert deployment(stage, "cart") == (4, 4)
    assert stage.last(ActionPostchecked).evidence["replicas_available"] == 4


async def test_scaling_to_the_present_count_is_applied_without_a_new_generation(stage: Stage) -> None:
    record = await stage.perform(Scale("cart", replicas=2))
    await stage.live(2)
    assert record.status == "applied"


async def test_scaling_to_zero_is_seen(stage: Stage) -> None:
    record = await stage.perform(Scale("cart", replicas=0))
    await stage.live(60)
    assert record.status == "applied"


async def test_a_restart_is_applied_when_the_marked_replica_set_has_taken_over(stage: Stage) -> None:
    before = {pod.uid for pod in stage.control_plane.pods() if pod.service == "cart"}
    record = await stage.perform(Restart("cart"))
    await stage.live(60)
    assert record.status == "applied"
    after = {pod.uid for pod in stage.control_plane.pods() if pod.service == "cart" and not pod.terminating}
    assert len(after) == 2
    assert not before & after


async def test_resources_are_applied_when_every_pod_has_them(stage: Stage) -> None:
    record = await stage.perform(SetResources("cart", cpu_limit_cores=0.8))
    await stage.live(60)
    assert record.status == "applied"
    limits = {pod.resources.cpu_limit_cores for pod in stage.control_plane.pods() if pod.service == "cart"}
    assert limits == {0.8}
    assert stage.last(ActionPrechecked).evidence["resources_before"]["limits"] == {"cpu": "500m"}


async def test_a_timed_scaling_is_taken_back_and_verified(stage: Stage) -> None:
    record = await stage.perform(Scale("cart", replicas=3, duration_seconds=20))
    await stage.live(19)
    assert deployment(stage, "cart") == (3, 3)
    assert [item.action_id for item in stage.actuators.in_force(truth=False)] == [record.action_id]
    await stage.live(20)
    assert deployment(stage, "cart") == (2, 2)
    assert stage.life(record.action_id) == TIMED_LIFE
    assert record.status == "applied"
    assert record.reverted is not None
    assert record.reverted >= record.requested + 20 * SECOND
    assert stage.actuators.in_force(truth=False) == []


async def test_resources_that_were_absent_are_absent_again_after_the_revert(stage: Stage) -> None:
    record = await stage.perform(SetResources("quote", cpu_limit_cores=0.5, duration_seconds=30))
    await stage.live(29)
    assert {pod.resources.cpu_limit_cores for pod in stage.control_plane.pods() if pod.service == "quote"} == {0.5}
    await stage.live(60)
    assert record.reverted is not None
    live = [pod for pod in stage.control_plane.pods() if pod.service == "quote" and not pod.terminating]
    assert {pod.resources.cpu_limit_cores for pod in live} == {None}


@pytest.mark.parametrize("target", ["flagd", "valkey-cart"])
async def test_protected_and_stateful_targets_are_rejected_and_untouched(stage: Stage, target: str) -> None:
    version = stage.control_plane.resource_version
    record = await stage.perform(Scale(target, replicas=2))
    assert (record.status, stage.life(record.action_id)) == ("rejected", ["requested", "prechecked", "settled"])
    assert target in record.reason
    assert stage.control_plane.resource_version == version


async def test_a_second_action_on_the_same_field_is_rejected_while_the_first_is_in_flight(stage: Stage) -> None:
    first = await stage.perform(Scale("cart", replicas=4))
    second = await stage.perform(Scale("cart", replicas=1))
    other = await stage.perform(Scale("frontend", replicas=3))
    assert (first.status, second.status, other.status) == ("pending", "rejected", "pending")
    assert first.action_id in second.reason
    await stage.live(30)
    third = await stage.perform(Scale("cart", replicas=1))
    assert third.status == "pending"


async def test_a_lasting_action_is_in_force_until_its_field_is_written_again(stage: Stage) -> None:
    first = await stage.perform(Scale("cart", replicas=4))
    await stage.live(30)
    assert [item.action_id for item in stage.actuators.in_force(truth=False)] == [first.action_id]
    second = await stage.perform(Scale("cart", replicas=2))
    await stage.live(30)
    assert [item.action_id for item in stage.actuators.in_force(truth=False)] == [second.action_id]


async def test_cpu_pressure_lives_its_duration_in_the_truth_stream_only(stage: Stage) -> None:
    record = await stage.perform(CpuPressure("cart", intensity="severe", duration_seconds=20), truth=True)
    await stage.live(19)
    assert stage.machines.stress == [(4, 1.0), (4, 1.0)]
    assert stage.last(ActionPostchecked).verdict == "effective"
    await stage.live(20)
    assert (record.status, record.revert_failed) == ("applied", False)
    assert stage.life(record.action_id) == TIMED_LIFE
    assert {truth for _, truth in stage.log} == {True}
    assert stage.last(ActionRequested).parameters == {
        "intensity": "severe", "workers": 4, "load_percent": 100, "persistence": "workload",
        "duration_class": "transient",
    }  # fmt: skip
    assert stage.last(ActionReverted).verified


async def test_interventions_without_a_duration_last_as_long_as_the_granularity_says(stage: Stage) -> None:
    await stage.perform(CpuPressure("cart"), truth=True)
    assert stage.last(ActionRequested).duration_ns == 60 * SECOND


async def test_an_intervention_of_strength_zero_is_made_in_full(stage: Stage) -> None:
    cpu = await stage.perform(CpuPressure("cart", intensity="zero", duration_seconds=20), truth=True)
    delay = await stage.perform(NetworkDelay("frontend->cart", intensity="zero", duration_seconds=20), truth=True)
    await stage.live(40)
    assert (cpu.status, delay.status) == ("applied", "applied")


async def test_network_delay_is_a_rule_in_the_target_s_pods(stage: Stage) -> None:
    record = await stage.perform(NetworkDelay("frontend->cart", intensity="visible", duration_seconds=20), truth=True)
    await stage.live(19)
    assert stage.machines.delays == [(150.0, 15.0)] * 2
    (touched,) = stage.last(ActionApplied).objects
    assert touched.kind == "NetworkChaos"
    assert touched.name.startswith("ocg-")
    assert len(touched.name) < 20
    await stage.live(20)
    assert (record.status, record.revert_failed) == ("applied", False)


async def test_cpu_pressure_without_a_limit_to_press_against_is_rejected(stage: Stage) -> None:
    record = await stage.perform(CpuPressure("quote"), truth=True)
    assert record.status == "rejected"
    assert "no CPU limit" in record.reason


async def test_a_fault_follows_the_workload_into_new_pods(stage: Stage) -> None:
    record = await stage.perform(CpuPressure("cart", intensity="visible", duration_seconds=50), truth=True)
    await stage.live(5)
    await stage.perform(Restart("cart"))
    await stage.live(30)
    objects = [event.objects[0].name for event, truth in stage.log if truth and isinstance(event, ActionApplied)]
    assert len(objects) >= 2
    assert len(set(objects)) == len(objects)
    await stage.live(40)
    assert (record.status, record.revert_failed) == ("applied", False)
    assert stage.last(ActionReverted).evidence["renewals"][0]["object"] == objects[1]


async def test_a_fault_of_persistence_pod_ends_with_its_pods(stage: Stage) -> None:
    await stage.perform(CpuPressure("cart", duration_seconds=50, persistence="pod"), truth=True)
    await stage.live(5)
    await stage.perform(Restart("cart"))
    await stage.live(30)
    assert sum(isinstance(event, ActionApplied) for event, truth in stage.log if truth) == 1


async def test_closing_takes_back_what_is_in_force_and_the_cool_down_verifies_it(stage: Stage) -> None:
    fault = await stage.perform(CpuPressure("cart", duration_seconds=500), truth=True)
    timed = await stage.perform(Scale("frontend", replicas=3, duration_seconds=500))
    lasting = await stage.perform(Scale("quote", replicas=2))
    await stage.live(10)
    await stage.actuators.close(stage.now)
    await stage.live(30)
    assert stage.actuators.due() is None
    for record in (fault, timed):
        assert record.reverted is not None
        assert stage.life(record.action_id) == TIMED_LIFE
    assert (deployment(stage, "frontend"), deployment(stage, "quote")) == ((2, 2), (2, 2))
    assert (lasting.status, lasting.reverted) == ("applied", None)


async def test_settling_ends_every_life_exactly_once(stage: Stage) -> None:
    records = [
        await stage.perform(CpuPressure("cart", duration_seconds=500), truth=True),
        await stage.perform(Scale("frontend", replicas=3)),
        await stage.perform(Restart("cart")),
    ]
    await stage.actuators.close(stage.now)
    await stage.actuators.settle(stage.now)
    for record in records:
        assert stage.life(record.action_id).count("settled") == 1
    assert stage.actuators.due() is None


async def test_the_same_deeds_log_the_same_events_on_another_stand(stage: Stage, second_stage: Stage) -> None:
    for each in (stage, second_stage):
        await each.perform(CpuPressure("cart", duration_seconds=20), truth=True)
        await each.perform(Restart("frontend"))
        await each.live(40)
    assert stage.log == second_stage.log


async def test_a_policy_s_action_ids_do_not_tell_of_interventions(stage: Stage, second_stage: Stage) -> None:
    await stage.perform(CpuPressure("cart", duration_seconds=20), truth=True)
    assert (await stage.perform(Noop())).action_id == (await second_stage.perform(Noop())).action_id
