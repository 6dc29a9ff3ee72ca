"""What nobody pushes is read from Jaeger and pods, each span and line once; what they haven't kept is a gap, and never silence."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

import otel_control_gym as ocg
from otel_control_gym.collectors import Retrieval
from otel_control_gym.collectors.pod_log_lines import Line, records
from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import CollectorGap, Event, LogsCollected, Span, SpansCollected
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.stands.twin.servers.listening import listen

START = 1_767_571_200 * SECOND
SETTINGS = ocg.resolve("small-core").public
PODS = "/api/v1/namespaces/otel-demo/pods"
FULL = 1_000  #: traces of an answer


class Stand:
    """Jaeger and the pods of a stand, as far as somebody reads them."""

    def __init__(self) -> None:
        self.spans: list[tuple[float, float, str, str]] = []  #: began, ended [s], trace, span; of cart
        self.logs: dict[tuple[str, bool], list[tuple[float, str]]] = {}  #: pod, the instance before -> time [s], text
        self.restarts: dict[str, int] = {}  #: by pod
        self.limited: dict[str, int] = {}  #: statuses that stand for answers, by the last part of a path
        self.questions: list[tuple[str, str]] = []

    async def traces(self, request: web.Request) -> web.Response:
        if "traces" in self.limited:
            return web.Response(status=self.limited["traces"])
        query = request.query
        low, high = query["query.start_time_min"], query["query.start_time_max"]
        self.questions.append((low, high))
        wanted = {trace for began, _, trace, _ in self.spans if low <= at(began) <= high}
        kept = sorted(wanted)[: int(query["query.num_traces"])]
        found = [span for span in self.spans if span[2] in kept]
        if not found:
            return web.json_response({"error": {"httpCode": 404, "message": "No traces found"}}, status=404)
        return web.json_response({"result": {"resourceSpans": [document(*span) for span in found]}})

    async def pods(self, _: web.Request) -> web.Response:
        if "pods" in self.limited:
            return web.Response(status=self.limited["pods"])
        items = [
            {
                "metadata": {
                    "name": pod, "uid": pod, "labels": {"app.kubernetes.io/component": pod.partition("_")[0]}
                },
                "status": {
                    "containerStatuses": [
                        {"name": "main", "restartCount": count, "state": {"running": {"startedAt": "x"}}}
                    ]
                },
            }
            for pod, count in self.restarts.items()
        ]  # fmt: skip
        return web.json_response({"items": items})

    async def log(self, request: web.Request) -> web.Response:
        if "log" in self.limited:
            return web.Response(status=self.limited["log"])
        query = request.query
        assert (query["container"], query["timestamps"]) == ("main", "true")
        lines = self.logs.get((request.match_info["pod"], query.get("previous") == "true"))
        if lines is None:
            return web.json_response({"message": "previous terminated container not found"}, status=400)
        since = query["sinceTime"].rstrip("Z")
        body = "".join(f"{at(time)} {text}\n" for time, text in lines if at(time) >= since)
        return web.Response(text=body[: int(query["limitBytes"])])

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Retrieval]:
        application = web.Application()
        application.router.add_get("/jaeger/ui/api/v3/traces", self.traces)
        application.router.add_get(PODS, self.pods)
        application.router.add_get(f"{PODS}/{{pod}}/log", self.log)
        async with listen(application) as url:
            retrieval = Retrieval(
                Endpoints(
                    kubernetes=url, namespace="otel-demo", prometheus="", coroot="", load_generator="", flagd="", jaeger=url
                )
            )  # fmt: skip
            retrieval.know(SETTINGS, since=START)
            async with retrieval.open():
                await flushed(retrieval, 0)
                yield retrieval


def at(seconds: float) -> str:
    return rfc3339(START + round(seconds * SECOND))


def document(began: float, ended: float, trace: str, span: str) -> dict[str, Any]:
    attributes = [
        {"key": "rpc.service", "value": {"stringValue": "oteldemo.CartService"}},
        {"key": "feature_flag.key", "value": {"stringValue": "cartFailure"}},
        {"key": "count", "value": {"intValue": "9007199254740993"}},
        {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}, {"doubleValue": 0.5}]}}},
    ]
    inside = {
        "traceId": trace, "spanId": span, "parentSpanId": "", "name": "GetCart", "kind": 3, "status": {"code": 2},
        "startTimeUnixNano": str(START + round(began * SECOND)), "endTimeUnixNano": str(START + round(ended * SECOND)),
        "attributes": attributes,
    }  # fmt: skip
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "frontend"}}]}
    return {"resource": resource, "scopeSpans": [{"scope": {}, "spans": [inside]}]}


def span(began: float, number: int, *, ended: float | None = None, trace: int = 0) -> tuple[float, float, str, str]:
    return began, began if ended is None else ended, f"{trace or number:032x}", f"{number:016x}"


async def flushed(retrieval: Retrieval, seconds: float) -> list[tuple[Event, bool]]:
    moment = START + round(seconds * SECOND)
    await retrieval.drain(Barrier(time=moment, resource_version="", exact=False))
    return list(retrieval.flush(moment))


def spans(events: list[tuple[Event, bool]], *, truth: bool = False) -> list[Span]:
    return [
        row for event, hidden in events if isinstance(event, SpansCollected) and hidden == truth for row in event.rows
    ]


def bodies(events: list[tuple[Event, bool]], *, truth: bool = False) -> list[str]:
    return [
        row.body
        for event, hidden in events
        if isinstance(event, LogsCollected) and hidden == truth
        for row in event.rows
    ]


def gaps(events: list[tuple[Event, bool]], source: str) -> list[tuple[int, int, str]]:
    return [
        ((event.start - START) // SECOND, (event.end - START) // SECOND, event.reason)
        for event, _ in events
        if isinstance(event, CollectorGap) and event.source == source
    ]


# --- spans -----------------------------------------------------------------------------------------------------------------


async def test_each_span_is_told_once_however_often_jaeger_gives_its_trace() -> None:
    stand = Stand()
    async with stand.read() as retrieval:
        stand.spans = [span(-5, 1), span(4, 2), span(8, 3, trace=2)]
        assert [row.span_id for row in spans(await flushed(retrieval, 10))] == [f"{n:016x}" for n in (2, 3)]
        stand.spans += [
            span(9, 4, ended=16, trace=2),
            span(12, 5),
        ]  # one began before the last look and was sent after it
        assert [row.span_id for row in spans(await flushed(retrieval, 20))] == [f"{n:016x}" for n in (5, 4)]
        later = await flushed(retrieval, 25)
        assert (spans(later), gaps(later, "spans")) == ([], [])  # a batch may be under way
        assert gaps(await flushed(retrieval, 30), "spans") == [(20, 30, "nothing new was in Jaeger")]


async def test_a_span_becomes_the_row_that_it_becomes_when_it_is_pushed() -> None:
    stand = Stand()
    async with stand.read() as retrieval:
        stand.spans = [span(1, 1, ended=3)]
        events = await flushed(retrieval, 10)
    (public,), (truth,) = spans(events), spans(events, truth=True)
    assert (public.service, public.peer, public.protocol, public.kind, public.status) == (
        "frontend", "cart", "grpc", "client", "error",
    )  # fmt: skip
    assert (public.time, public.duration_ns, public.parent_span_id) == (START + 3 * SECOND, 2 * SECOND, "")
    assert public.attributes["count"] == "9007199254740993"
    assert public.attributes["list"] == "[true,0.5]"
    assert "feature_flag.key" not in public.attributes
    assert truth.attributes == {"feature_flag.key": "cartFailure"}


async def test_what_jaeger_s_limit_cuts_off_is_asked_for_in_shorter_times_and_else_a_gap() -> None:
    stand = Stand()
    async with stand.read() as retrieval:
        stand.spans = [span(2 + 6 * number / 1_500, number + 1) for number in range(1_500)]
        events = await flushed(retrieval, 10)
        assert (len(spans(events)), gaps(events, "spans")) == (1_500, [])
        stand.spans += [span(15 + number / 20_000, 2_000 + number) for number in range(2 * FULL)]
        events = await flushed(retrieval, 20)
    assert FULL <= len(spans(events)) < 2 * FULL
    ((begin, end, reason),) = gaps(events, "spans")
    assert (begin, end) == (10, 20)
    assert "more traces began within a second" in reason


async def test_a_jaeger_that_has_forgotten_what_it_had_is_a_gap() -> None:
    stand = Stand()
    async with stand.read() as retrieval:
        stand.spans = [span(5, 1), span(9, 2)]
        assert gaps(await flushed(retrieval, 10), "spans") == []
        stand.spans = [span(9, 2), span(15, 3)]  # the oldest made room
        ((begin, end, reason),) = gaps(await flushed(retrieval, 20), "spans")
        assert (begin, end) == (10, 20)
        assert "forgotten" in reason
        stand.spans.append(span(25, 4))
        assert gaps(await flushed(retrieval, 30), "spans") == []


@pytest.mark.parametrize(
    ("status", "told"), [(503, "HTTP 503"), (404, "HTTP 404"), (302, "HTTP 302"), (200, "can't be read")]
)
async def test_a_jaeger_that_is_not_there_is_a_gap_of_each_step(status: int, told: str) -> None:
    stand = Stand()
    stand.limited["traces"] = status
    async with stand.read() as retrieval:
        stand.spans = [span(5, 1), span(14, 2)]
        for begin in (0, 10):
            ((since, until, reason),) = gaps(await flushed(retrieval, begin + 10), "spans")
            assert (since, until) == (begin, begin + 10)
            assert reason.startswith("not collected: Jaeger")
            assert told in reason
        stand.limited.clear()
        events = await flushed(retrieval, 30)
        assert (len(spans(events)), gaps(events, "spans")) == (2, [])  # what it has kept meanwhile is late, not lost


# --- logs ------------------------------------------------------------------------------------------------------------------


async def test_each_line_is_told_once_and_what_tells_of_flags_is_truth() -> None:
    stand = Stand()
    stand.restarts = {"cart_1": 3, "flagd_1": 0, "jaeger_1": 0}
    async with stand.read() as retrieval:
        stand.logs = {("jaeger_1", False): [(3, "not the application's")], ("flagd_1", False): [(3, "cartFailure: on")]}
        stand.logs["cart_1", False] = [(-4, "before the run"), (2.25, "one"), (2.25, "one"), (2.75, "two")]
        events = await flushed(retrieval, 10)
        stand.logs["cart_1", False] += [(2.75, "three"), (2.875, "Feature Flag cartFailure is enabled"), (12, "four")]
        later = await flushed(retrieval, 20)
    assert bodies(events) + bodies(later) == ["one", "one", "two", "three", "four"]
    assert bodies(events, truth=True) + bodies(later, truth=True) == [
        "cartFailure: on", "Feature Flag cartFailure is enabled",
    ]  # fmt: skip
    assert gaps(events + later, "logs") == []


async def test_a_restarted_container_is_read_to_the_end_of_its_last_instance() -> None:
    stand = Stand()
    stand.restarts = {"cart_1": 0}
    async with stand.read() as retrieval:
        stand.logs = {("cart_1", False): [(1, "one")]}
        assert bodies(await flushed(retrieval, 10)) == ["one"]
        stand.logs = {("cart_1", True): [(1, "one"), (12, "last words")], ("cart_1", False): [(15, "begun")]}
        stand.restarts["cart_1"] = 1
        events = await flushed(retrieval, 20)
        assert (bodies(events), gaps(events, "logs")) == (["last words", "begun"], [])
        stand.logs = {("cart_1", False): [(29, "begun")]}
        stand.restarts["cart_1"] = 3
        events = await flushed(retrieval, 30)
    assert bodies(events) == ["begun"]
    reasons = " ".join(reason for _, _, reason in gaps(events, "logs"))
    assert "restarted more than once" in reasons
    assert "the instance before isn't kept" in reasons


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("rotated", "cart_1/main: the file was rotated"),
        ("gone", "cart_1/main: the pod is gone, and with it what it wrote last"),
        ("large", "cart_1/main: more than 4 MiB at once"),
        ("broken", "cart_1/main: the kubelet can't read it"),
        ("log", "cart_1/main: not collected: HTTP 403"),
        ("pods", "not collected: pods can't be listed: HTTP 403"),
    ],
)
async def test_what_a_pod_has_not_kept_is_a_gap_that_says_so(change: str, told: str) -> None:
    stand = Stand()
    stand.restarts = {"cart_1": 0}
    stand.logs = {("cart_1", False): [(5, "one")]}
    async with stand.read() as retrieval:
        await flushed(retrieval, 10)
        match change:
            case "rotated":
                stand.logs["cart_1", False] = [(15, "two")]
            case "gone":
                stand.restarts = {}
            case "large":
                stand.logs["cart_1", False] += [(15, "x" * 2**20)] * 5
            case "broken":
                stand.logs["cart_1", False].append((15, "two\nunable to retrieve container logs for containerd://1"))
            case _:
                stand.limited[change] = 403
        assert gaps(await flushed(retrieval, 20), "logs") == [(10, 20, told)]


def rows(*texts: str) -> list[tuple[str, str, str]]:
    """Return body, severity and trace of the records that lines become."""
    message = records([Line(number + 1, text) for number, text in enumerate(texts)], service="cart", pod="cart-1")
    return [
        (record.body.string_value, record.severity_text, record.trace_id.hex())
        for record in message.scope_logs[0].log_records
    ]


TRACE, IDS = (
    "5b8efff798038103d269b633813fc60c",
    "trace_id=5b8efff798038103d269b633813fc60c span_id=eee19b7ec3c1b174 trace_flags=01 ",
)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("info: cart.Store[0]", "      GetCartAsync called"), [("info: cart.Store[0]\n      GetCartAsync called", "info", "")]),
        ((f"10:00 - oteldemo.AdService - no ads {IDS}",), [("10:00 - oteldemo.AdService - no ads", "", TRACE)]),
        (("[10:00:00,1] INFO in app: hello",), [("[10:00:00,1] INFO in app: hello", "info", "")]),
        (("ts=1 level=warn msg=x", "fail: x"), [("ts=1 level=warn msg=x", "warn", ""), ("fail: x", "error", "")]),
        (("an error, no severity",), [("an error, no severity", "", "")]),
        (
            (f'{{"asctime": "x", "levelname": "ERROR", "message": "boom", "otelTraceID": "{TRACE}", "n": 3, "no": null}}',),
            [("boom", "ERROR", TRACE)],
        ),
        (('{"no": "message"}', "{broken", ""), [('{"no": "message"}', "", ""), ("{broken", "", "")]),
        ((f'{{"msg": "m", "trace_id": "{"0" * 32}"}}',), [("m", "", "")]),
    ],
)  # fmt: skip
def test_a_line_is_understood_as_its_program_means_it(
    lines: tuple[str, ...], expected: list[tuple[str, str, str]]
) -> None:
    assert rows(*lines) == expected


def test_a_record_has_the_kubelet_s_time_and_the_fields_of_its_line() -> None:
    message = records([Line(7, '{"msg": "m", "time": "then", "z": [1], "a": "b"}')], service="cart", pod="cart-1")
    (record,) = message.scope_logs[0].log_records
    assert (record.time_unix_nano, [(item.key, item.value.string_value) for item in record.attributes]) == (
        7, [("a", "b"), ("z", "[1]")],
    )  # fmt: skip
