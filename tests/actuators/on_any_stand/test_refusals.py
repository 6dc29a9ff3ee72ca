"""What can't take effect on a stand is refused before anything is written, or ends as anything but `applied`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from otel_control_gym.actuators import ENTRIES, Entry
from otel_control_gym.engine.events import ActionApplied, ActionPrechecked

if TYPE_CHECKING:
    from tests.actuators.on_any_stand.conftest import OpenStand

MERGE = "application/merge-patch+json"
NEEDS_PODS = [entry for entry in ENTRIES if entry.target_kind in ("service", "edge")]
NEEDS_PODS = [entry for entry in NEEDS_PODS if entry.type not in ("scale", "feature_flag")]
SELECTING = [entry for entry in ENTRIES if entry.type in ("cpu_pressure", "network_delay", "pod_kill", "delete_pod")]


def place_of(entry: Entry) -> str:
    """Return the service whose pods an example needs."""
    target = str(entry.example["target"])
    return target.partition("->")[0] if entry.type == "bad_config" else target.rpartition("->")[2]


@pytest.mark.parametrize("entry", NEEDS_PODS, ids=lambda entry: entry.type)
async def test_a_target_without_a_pod_is_refused_and_untouched(entry: Entry, open_stand: OpenStand) -> None:
    async with open_stand() as stand:
        await stand.skip_unless_it_can(entry)
        await stand.prepare(entry)
        place = place_of(entry)
        replicas = (await stand.call("GET", f"deployments/{place}"))["spec"]["replicas"]
        await stand.scale(place, 0)
        try:
            before = await stand.generations()
            record = await stand.perform_and_settle(entry.example)
            assert record.status == "rejected"
            assert place in record.reason
            assert (await stand.generations(), await stand.ours()) == (before, [])
        finally:
            await stand.scale(place, replicas)


@pytest.mark.parametrize(
    "action",
    [
        {"type": "restart", "target": "cart"},
        {"type": "rollout_config", "target": "cart", "env": {"A": "b"}},
        {"type": "set_resources", "target": "cart", "cpu_limit_cores": 0.5},
    ],
    ids=lambda action: action["type"],
)
async def test_a_paused_rollout_is_refused_and_untouched(action: dict[str, Any], open_stand: OpenStand) -> None:
    async with open_stand() as stand:
        await stand.call("PATCH", "deployments/cart", {"spec": {"paused": True}}, content_type=MERGE)
        try:
            before = await stand.generations()
            record = await stand.perform_and_settle(action)
            assert (record.status, "paused" in record.reason) == ("rejected", True)
            assert await stand.generations() == before
        finally:
            await stand.call("PATCH", "deployments/cart", {"spec": {"paused": None}}, content_type=MERGE)


async def test_a_target_that_vanishes_between_check_and_apply_makes_an_attempt_that_failed(
    open_stand: OpenStand,
) -> None:
    async with open_stand() as stand:
        deployment = await stand.call("GET", "deployments/quote")
        metadata = deployment["metadata"]
        kept = {key: metadata[key] for key in ("name", "labels", "annotations") if key in metadata}

        async def vanish() -> None:
            await stand.delete("quote")

        stand.on_append[ActionPrechecked] = vanish
        try:
            record = await stand.perform_and_settle({"type": "restart", "target": "quote"})
        finally:
            again = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": kept, "spec": deployment["spec"]}
            await stand.call("POST", "deployments", again)  # its pods have lived on, and are its own again
            await stand.wait_calm()
        assert (record.status, "404" in record.reason) == ("failed", True)
        assert record.effective is None
        assert not any(isinstance(event, ActionApplied) for event in stand.log)


@pytest.mark.parametrize("entry", SELECTING, ids=lambda entry: entry.type)
async def test_a_selector_that_matches_nothing_any_more_never_ends_applied(entry: Entry, open_stand: OpenStand) -> None:
    async with open_stand() as stand:
        await stand.skip_unless_it_can(entry)
        place = place_of(entry)
        replicas = (await stand.call("GET", f"deployments/{place}"))["spec"]["replicas"]

        async def vanish() -> None:
            await stand.scale(place, 0)

        stand.on_append[ActionPrechecked] = vanish
        try:
            record = await stand.perform_and_settle(entry.example)
        finally:
            await stand.scale(place, replicas)
        assert record.status in ("failed", "unverified"), record.reason
        assert record.effective is None
