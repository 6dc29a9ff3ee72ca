"""Pushed spans and logs that don't come are gaps, never silence."""

from __future__ import annotations

import aiohttp

import otel_control_gym as ocg
from otel_control_gym.collectors import OtlpReceiver
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap, Event, SpansCollected
from otel_control_gym.engine.protocols import Barrier

START = 1_767_571_200 * SECOND
SETTINGS = ocg.resolve("small-core").public


def barrier(seconds: int, *, exact: bool = False) -> Barrier:
    return Barrier(time=START + seconds * SECOND, resource_version="", exact=exact)


def gaps(events: list[Event]) -> list[tuple[str, int, int]]:
    return [
        (event.source, (event.start - START) // SECOND, (event.end - START) // SECOND)
        for event in events
        if isinstance(event, CollectorGap)
    ]


async def flushed(collector: OtlpReceiver, at: Barrier) -> list[Event]:
    await collector.drain(at)
    return [event for event, _ in collector.flush(at.time)]


def span(end: int, number: int) -> dict[str, object]:
    at = str(START + end * SECOND)
    return {
        "traceId": f"{number:032x}", "spanId": f"{number:016x}", "name": "GET /", "kind": 2,
        "startTimeUnixNano": at, "endTimeUnixNano": at,
    }  # fmt: skip


async def send(url: str, *spans: dict[str, object]) -> None:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "frontend"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/traces", json=body) as answer:
        assert answer.status == 200


async def test_a_time_in_which_nothing_came_is_a_gap_where_time_goes_by_itself() -> None:
    receiver = OtlpReceiver()
    receiver.know(SETTINGS, since=START)
    async with receiver.open():
        await flushed(receiver, barrier(0))
        await send(receiver.endpoint, span(10, 1))
        events = await flushed(receiver, barrier(30))
        assert gaps(events) == [("logs", 0, 30)]
        assert receiver.newest() == {"spans": START + 10 * SECOND}
        assert gaps(await flushed(receiver, barrier(60))) == [("spans", 30, 60), ("logs", 30, 60)]
        assert gaps(await flushed(receiver, barrier(65))) == []  # a batch may be under way
        assert gaps(await flushed(receiver, barrier(70))) == [("spans", 60, 70), ("logs", 60, 70)]
        assert gaps(await flushed(receiver, barrier(75))) == []
        await send(receiver.endpoint, span(72, 4))
        assert gaps(await flushed(receiver, barrier(80))) == [("logs", 70, 80)]
        exact = barrier(120, exact=True)
        assert gaps(await flushed(receiver, exact)) == []  # whoever posts all before a barrier has none


async def test_what_ended_before_the_run_is_not_the_run_s() -> None:
    receiver = OtlpReceiver()
    receiver.know(SETTINGS, since=START)
    async with receiver.open():
        await send(receiver.endpoint, span(-5, 1), span(0, 2), span(5, 3))
        (collected,) = [event for event in await flushed(receiver, barrier(30)) if isinstance(event, SpansCollected)]
        assert [(row.time - START) // SECOND for row in collected.rows] == [0, 5]
