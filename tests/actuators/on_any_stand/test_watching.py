"""What an intervention has done is watched to its end: by pods that are replaced, by pods that only restart, by nobody at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.actuators import entry_of, parse_action
from otel_control_gym.engine.events import ActionLapsed, ActionResumed

if TYPE_CHECKING:
    from tests.actuators.on_any_stand.conftest import OpenStand, Stand

PRESSURE = {"type": "cpu_pressure", "target": "cart", "intensity": "mild", "duration_seconds": 300}


def told(stand: Stand, kind: type[Any]) -> list[Any]:
    return [event for event in stand.log if isinstance(event, kind)]


@pytest.mark.parametrize("persistence", ["pod", "workload"])
async def test_a_fault_whose_pods_are_deleted_lapses_and_comes_back_only_if_it_is_to_follow(
    persistence: str, open_stand: OpenStand
) -> None:
    async with open_stand() as stand:
        await stand.skip_unless_it_can(entry_of(parse_action(PRESSURE)))
        record = await stand.perform({**PRESSURE, "persistence": persistence})
        await stand.live_until(lambda: record.effective is not None, "the pressure takes effect")
        await stand.delete_pods("quote")
        await stand.wait_calm()
        assert told(stand, ActionLapsed) == [], "others' pods are nothing to it"
        gone = await stand.delete_pods("cart")
        await stand.live_until(lambda: bool(told(stand, ActionLapsed)), "the loss is seen")
        assert set(told(stand, ActionLapsed)[0].lost) == set(gone)
        if persistence == "workload":
            await stand.live_until(lambda: bool(told(stand, ActionResumed)), "it is there again")
        else:
            await stand.settle(record)
            assert told(stand, ActionResumed) == []


async def test_pods_that_fail_have_restarted_and_not_lost_the_fault(open_stand: OpenStand) -> None:
    fault = {"type": "dependency_outage", "target": "valkey-cart", "mechanism": "pod_failure", "duration_seconds": 60}
    async with open_stand() as stand:
        await stand.skip_unless_it_can(entry_of(parse_action(fault)))
        record = await stand.perform_and_settle(fault)
        assert (record.status, record.revert_failed) == ("applied", False), record.reason
        assert told(stand, ActionLapsed) == []
        await stand.wait_calm()


async def test_callers_are_restarted_once_both_versions_are_there(open_stand: OpenStand) -> None:
    shift = {"type": "shift_traffic", "target": "cart", "version": "2.2.0", "weight_percent": 50}
    async with open_stand() as stand:
        before = {pod[1] for pod in await stand.pods() if pod[0].startswith(("frontend-", "checkout-"))}
        record = await stand.perform({**shift, "reconnect_callers": True, "duration_seconds": 240})
        await stand.live_until(lambda: bool(record.effective or record.settled), "the callers have dialled anew")
        after = {pod[1] for pod in await stand.pods() if pod[0].startswith(("frontend-", "checkout-"))}
        assert record.effective is not None, record.reason
        assert len(after - before) == len(before), "those that still terminate serve nobody"
        await stand.settle(record)
        assert (record.status, record.revert_failed) == ("applied", False), record.reason
        await stand.wait_calm()
