"""What holds for every entry of the catalogue, whatever the stand does wrong: no lie is believed, and nothing is left behind.

A whole twin over HTTP, with a proxy before its interfaces. Behind the lying one every write is answered as if it had been made
(Kubernetes is asked for a dry run) and dropped. What holds on a stand that does nothing wrong, a cluster's too, is in `on_any_stand`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from otel_control_gym.actuators import ENTRIES, Entry
from otel_control_gym.engine.events import ActionFailed, ActionPrechecked

if TYPE_CHECKING:
    from tests.actuators.on_the_twin.conftest import Call, OpenTwin, Twin

ACTING = [entry for entry in ENTRIES if entry.type != "noop"]
every_entry = pytest.mark.parametrize("entry", ACTING, ids=lambda entry: entry.type)


def refusal(status: int, message: str, **headers: str) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "message": message, "code": status}
    return web.json_response(body, status=status, headers=headers)


async def lying(call: Call) -> web.StreamResponse:
    if not call.writes:
        return await call.forward()
    if call.request.path.startswith(("/api/v1", "/apis/")):
        return await call.forward(dryRun="All")
    return web.json_response({"success": True, "message": "done"})


async def broken(call: Call) -> web.StreamResponse:
    return await call.forward() if not call.writes else refusal(500, "etcd is away")


async def silent(call: Call) -> web.StreamResponse:
    if not call.writes:
        return await call.forward()
    assert call.request.transport is not None
    call.request.transport.close()
    return web.Response()


async def forbidding(call: Call) -> web.StreamResponse:
    return await call.forward() if call.reads else refusal(403, "admission webhook denied the request: not today")


async def vanished(call: Call) -> web.StreamResponse:
    return await call.forward() if not call.writes else refusal(404, "it was there a moment ago")


async def prepared(twin: Twin, entry: Entry) -> None:
    for action in entry.preparation:
        record = await twin.perform_and_settle(action)
        assert record.status == "applied"


def state(twin: Twin) -> list[tuple[str, int, int]]:
    return [(item.name, item.desired, item.available) for item in twin.stand.run.control_plane.deployments()]


@every_entry
async def test_behind_a_server_that_says_yes_and_does_nothing_no_entry_ends_applied(
    entry: Entry, open_twin: OpenTwin
) -> None:
    async with open_twin() as twin:
        await prepared(twin, entry)
        before = state(twin)
        twin.behave(lying)
        record = await twin.perform_and_settle(entry.example)
        assert twin.written, "nothing was written that could have been dropped"
        assert record.status in ("unverified", "failed"), record.reason
        assert record.effective is None
        assert state(twin) == before


@every_entry
@pytest.mark.parametrize("wrong", [broken, silent, forbidding, vanished], ids=lambda wrong: wrong.__name__)
async def test_a_stand_that_fails_makes_an_attempt_that_failed(
    entry: Entry, wrong: object, open_twin: OpenTwin
) -> None:
    async with open_twin() as twin:
        await prepared(twin, entry)
        before = state(twin)
        twin.behave(wrong)  # type: ignore[arg-type]
        record = await twin.perform_and_settle(entry.example)
        gone = wrong is vanished and entry.type == "delete_pod"  # a pod that is gone needs no deletion, and isn't ours
        assert record.status in (("unverified",) if gone else ("failed", "rejected")), record.reason
        assert record.effective is None
        assert twin.life(record.action_id)[-1] == "settled"
        assert state(twin) == before
        if wrong is forbidding and record.status == "rejected":
            assert "not today" in record.reason, "a dry run tells what the webhook would say"
        if record.status == "failed":
            assert any(isinstance(event, ActionFailed) for event, _ in twin.log)


@every_entry
async def test_a_server_that_is_busy_once_is_asked_again(entry: Entry, open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await prepared(twin, entry)
        answers = [refusal(429, "too many requests", **{"Retry-After": "3"})]

        async def busy(call: Call) -> web.StreamResponse:
            return answers.pop() if call.writes and answers else await call.forward()

        twin.behave(busy)
        record = await twin.perform_and_settle(entry.example)
        assert not answers
        assert record.applied is not None
        assert record.applied >= record.requested + 3_000_000_000
        assert record.status == "applied", record.reason


@every_entry
async def test_the_way_back_is_in_the_log_before_the_change_is_made(entry: Entry, open_twin: OpenTwin) -> None:
    async with open_twin() as twin:
        await prepared(twin, entry)
        seen: list[int] = []

        async def noting(call: Call) -> web.StreamResponse:
            if call.writes:
                seen.append(sum(isinstance(event, ActionPrechecked) for event, _ in twin.log))
            return await call.forward()

        done = sum(isinstance(event, ActionPrechecked) for event, _ in twin.log)
        twin.behave(noting)
        record = await twin.perform_and_settle(entry.example)
        assert min(seen) > done, "something was written before the precheck was in the log"
        (precheck,) = [
            event
            for event, _ in twin.log
            if isinstance(event, ActionPrechecked) and event.action_id == record.action_id
        ]
        assert bool(precheck.inverse) == bool(entry.reverse)
