"""A gym that dies between any two stages of an action's life leaves, after recovery, a truthful log and a clean stand.

The gym is its actuators and its log; the twin lives on. It dies in the middle of an append: the event is written or not, and nothing more
is done. Between `prechecked` and `applied` the change may have been made without anybody knowing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.actuators import ENTRIES, Entry
from otel_control_gym.actuators.janitor import open_janitor, put_in_order
from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionReverted,
    ActionSettled,
    Event,
)
from otel_control_gym.stands.twin.objects import (
    DEPLOYMENT,
    HORIZONTAL_POD_AUTOSCALER,
    NETWORK_CHAOS,
    POD_CHAOS,
    POD_NETWORK_CHAOS,
    SERVICE,
    STRESS_CHAOS,
)

if TYPE_CHECKING:
    from tests.actuators.on_the_twin.conftest import OpenTwin, Twin

ACTING = [entry for entry in ENTRIES if entry.type != "noop"]
#: where the process dies: with this event, which is written or not, and the status that is true then
DEATHS: dict[str, tuple[type[Event], bool, str]] = {
    "after requested": (ActionRequested, True, "failed"),
    "before prechecked": (ActionPrechecked, False, "failed"),
    "after prechecked": (ActionPrechecked, True, "failed"),
    "before applied": (ActionApplied, False, "failed"),
    "after applied": (ActionApplied, True, "unverified"),
    "before postchecked": (ActionPostchecked, False, "unverified"),
    "after postchecked": (ActionPostchecked, True, "applied"),
    "before reverted": (ActionReverted, False, "applied"),
    "after reverted": (ActionReverted, True, "applied"),
    "before settled": (ActionSettled, False, "applied"),
}


class Died(BaseException):
    """The process is gone: nothing of ours catches this."""


def dying(twin: Twin, kind: type[Event], *, written: bool) -> None:
    """Let the log be the last thing that the process deals with, at the first event of a kind."""

    def die(event: Event) -> None:
        if isinstance(event, kind):
            raise Died

    if written:
        twin.after_append = die
    else:
        twin.before_append = die


async def perform_and_live(twin: Twin, action: Any, *, truth: bool) -> None:
    await twin.perform(action, truth=truth)
    await twin.live(300)


def state(twin: Twin) -> Any:
    """Return what of the stand an action can change for good: replicas, templates, ports, flags, users."""
    plane = twin.stand.run.control_plane
    store, flags = plane.context.store, twin.stand.run.world.flags
    return {
        "deployments": {
            item["metadata"]["name"]: (item["spec"]["replicas"], item["spec"]["template"]["spec"])
            for item in store.objects(DEPLOYMENT)
        },
        "ports": {item["metadata"]["name"]: item["spec"]["ports"] for item in store.objects(SERVICE)},
        "autoscalers": [item["metadata"]["name"] for item in store.objects(HORIZONTAL_POD_AUTOSCALER)],
        "flags": {key: flag["defaultVariant"] for key, flag in flags.file["flags"].items()},
        "users": twin.stand.run.simulation.load_counters().users_target,
    }


@pytest.mark.parametrize("entry", ACTING, ids=lambda entry: entry.type)
@pytest.mark.parametrize("death", DEATHS)
async def test_after_recovery_the_log_is_truthful_and_the_stand_clean(
    entry: Entry, death: str, open_twin: OpenTwin
) -> None:
    kind, written, status = DEATHS[death]
    if kind is ActionReverted and not entry.timed:
        return  # such a life has no such stage
    example = {**entry.example, **({"duration_seconds": 60} if entry.timed else {})}
    async with open_twin() as twin:
        for action in entry.preparation:
            assert (await twin.perform_and_settle(action)).status == "applied"
        start, before = len(twin.log), state(twin)
        dying(twin, kind, written=written)
        truth = entry.action_class == "intervention"
        with pytest.raises(Died):
            await perform_and_live(twin, example, truth=truth)
        changed = state(twin) != before
        crashed = list(twin.log)

        async def sleep(wanted: float) -> None:
            await twin.stand.advance(twin.now + seconds(wanted))

        async with open_janitor(twin.stand.endpoints, sleep) as janitor:
            appended = await put_in_order(crashed, twin.now, janitor)
        await twin.stand.advance(twin.now + 120 * SECOND)
        life = [event for event, _ in (*crashed[start:], *appended)]
        kinds = [type(event) for event in life]
        assert kinds.count(ActionSettled) == 1
        assert kinds[-1] is ActionSettled
        assert all(stream == truth for _, stream in appended)
        settled = life[-1]
        assert isinstance(settled, ActionSettled)
        assert settled.status == status
        if entry.timed or status == "failed":
            assert not entry.timed or state(twin) == before, "something was left behind"
        if changed and entry.timed:
            reverted = next(event for event in reversed(life) if isinstance(event, ActionReverted))
            assert reverted.verified
        store = twin.stand.run.control_plane.context.store
        for chaos in (STRESS_CHAOS, NETWORK_CHAOS, POD_CHAOS):
            assert store.objects(chaos) == []
        for rules in store.objects(POD_NETWORK_CHAOS):
            assert not rules["spec"]["tcs"]
            assert not rules["spec"].get("iptables")


async def test_a_janitor_that_is_interrupted_can_do_it_all_again(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        before = state(twin)
        for action in (
            {"type": "disable_group", "target": "recommendations", "duration_seconds": 300},
            {"type": "cpu_pressure", "target": "frontend", "duration_seconds": 300},
            {"type": "feature_flag", "flag": "paymentFailure", "variant": "50%", "duration_seconds": 300},
            {"type": "set_workload", "users": 50, "duration_seconds": 300},
        ):
            await twin.perform(action)
        await twin.live(20)
        assert state(twin) != before

        async def sleep(wanted: float) -> None:
            await twin.stand.advance(twin.now + seconds(wanted))

        async with open_janitor(twin.stand.endpoints, sleep) as janitor:
            first = await put_in_order(twin.log, twin.now, janitor)
            second = await put_in_order(twin.log, twin.now, janitor)
        assert [type(event) for event, _ in first] == [type(event) for event, _ in second]
        assert state(twin) == before


async def test_where_the_stand_died_too_nobody_claims_to_have_looked(open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await twin.perform({"type": "cpu_pressure", "target": "frontend", "duration_seconds": 300}, truth=True)
        appended = await put_in_order(twin.log, twin.now, None)
        assert [type(event) for event, _ in appended] == [ActionPostchecked, ActionSettled]
        assert {truth for _, truth in appended} == {True}
