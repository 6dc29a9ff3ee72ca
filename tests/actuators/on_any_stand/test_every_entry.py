"""Each entry of the catalogue takes effect on any stand and is taken back, as the stand's own APIs tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from otel_control_gym.actuators import ENTRIES, Entry

if TYPE_CHECKING:
    from tests.actuators.on_any_stand.conftest import OpenStand

ACTING = [entry for entry in ENTRIES if entry.type != "noop"]
TIMED = [entry for entry in ACTING if entry.timed]
LASTING = [entry for entry in ACTING if not entry.timed]


@pytest.mark.parametrize("entry", TIMED, ids=lambda entry: entry.type)
async def test_a_timed_example_ends_applied_and_leaves_the_stand_as_it_was(entry: Entry, open_stand: OpenStand) -> None:
    async with open_stand() as stand:
        await stand.skip_unless_it_can(entry)
        await stand.prepare(entry)
        before, pods = await stand.snapshot(), await stand.pods()
        record = await stand.perform({**entry.example, "duration_seconds": 60})
        await stand.live_until(lambda: bool(record.effective or record.settled), f"{entry.type} takes effect")
        during = (await stand.snapshot(), await stand.pods())
        await stand.settle(record)
        assert (record.status, record.revert_failed) == ("applied", False), record.reason
        assert record.reverted is not None
        assert during != (before, pods), "the actuators saw an effect where the stand shows none"
        await stand.wait_calm()
        after = await stand.snapshot()
        assert after == before
        assert after["ours"] == []


@pytest.mark.parametrize("entry", LASTING, ids=lambda entry: entry.type)
async def test_an_example_without_an_end_ends_applied_and_its_pods_are_others(
    entry: Entry, open_stand: OpenStand
) -> None:
    async with open_stand() as stand:
        await stand.skip_unless_it_can(entry)
        await stand.prepare(entry)
        pods = await stand.pods()
        record = await stand.perform_and_settle(entry.example)
        assert record.status == "applied", record.reason
        assert record.effective is not None
        await stand.wait_calm()
        assert await stand.pods() != pods
        assert await stand.ours() == []
