"""The polled sources, Coroot and the load generator: what they say is told once, what they don't say is a gap."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from otel_control_gym.collectors import CorootCollector, WorkloadCollector
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap, FindingsObserved, WorkloadObserved
from otel_control_gym.engine.protocols import Barrier, Endpoints
from otel_control_gym.stands.twin.servers.listening import listen

START = 1_767_571_200 * SECOND
INCIDENT = {
    "application_id": "k3x9ab2c:otel-demo:Deployment:checkout",
    "key": "p0q1r2s3",
    "opened_at": START // 1_000_000 + 1000,
    "resolved_at": None,
    "severity": "critical",
    "short_description": "errors",
    "details": {
        "availability_impact": {"percentage": 23.5},
        "latency_impact": {"percentage": 0},
        "availability_burn_rates": [{"long_window_burn_rate": 28.8, "short_window_burn_rate": 61.0, "threshold": 14.4}],
        "latency_burn_rates": [],
    },
    "rca": {"status": "AI disabled", "short_summary": ""},
}


class Answers:
    """A server whose answers are a map of paths; what isn't in it is 404."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = answers
        self.asked = 0

    def application(self) -> web.Application:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        name = request.path.rsplit("/", 1)[-1]
        if name not in self.answers:
            return web.Response(status=404, text="404: Not Found")
        return web.json_response(self.answers[name])


def endpoints_at(url: str) -> Endpoints:
    return Endpoints(kubernetes=url, namespace="x", prometheus=url, coroot=url, load_generator=url, flagd=url)


def at(seconds: int) -> Barrier:
    return Barrier(time=START + seconds * SECOND, resource_version="")


def coroot(**changes: Any) -> Answers:
    quiet = {"user": {"projects": [{"id": "p"}]}, "incidents": {"data": []}, "alerts": {"data": {"alerts": []}}}
    return Answers(**(quiet | {"map": {"data": {"map": []}}} | changes))


async def test_a_quiet_poll_is_logged_as_such_and_no_more_than_once_a_minute() -> None:
    server = coroot()
    async with listen(server.application()) as url:
        collector = CorootCollector(endpoints_at(url), now=START)
        async with collector.open():
            await collector.drain(at(0))
            ((event, _),) = collector.flush(START)
            assert event == FindingsObserved(time=START, rows=())
            asked = server.asked
            await collector.drain(at(59))
            assert (collector.flush(at(59).time), server.asked) == ([], asked)
            await collector.drain(at(60))
            assert len(collector.flush(at(60).time)) == 1


async def test_an_incident_is_told_when_it_opens_and_when_it_is_resolved() -> None:
    server = coroot(incidents={"data": [INCIDENT]})
    async with listen(server.application()) as url:
        collector = CorootCollector(endpoints_at(url), now=START)
        async with collector.open():
            for seconds in (60, 120):
                await collector.drain(at(seconds))
            (opened, again) = (event for event, _ in collector.flush(at(120).time))
            server.answers["incidents"] = {"data": [INCIDENT | {"resolved_at": START // 1_000_000 + 150_000}]}
            await collector.drain(at(180))
            ((resolved, _),) = collector.flush(at(180).time)
    assert isinstance(opened, FindingsObserved)
    assert isinstance(again, FindingsObserved)
    assert isinstance(resolved, FindingsObserved)
    (finding,) = opened.rows
    assert (finding.services, finding.symptom, finding.severity) == (("checkout",), "errors", "critical")
    assert (finding.time, finding.confidence, finding.resolved) == (START + SECOND, 0.5, None)
    assert again.rows == ()
    assert resolved.rows[0].resolved == START + 150 * SECOND


async def test_a_broken_edge_is_one_finding_from_its_break_to_its_repair() -> None:
    broken = {"id": "c:n:Deployment:cart", "upstreams": [{"id": "c:n:Deployment:valkey-cart", "status": "critical"}]}
    server = coroot(map={"data": {"map": [broken]}})
    async with listen(server.application()) as url:
        collector = CorootCollector(endpoints_at(url), now=START)
        async with collector.open():
            for seconds in (60, 120):
                await collector.drain(at(seconds))
            server.answers["map"] = {"data": {"map": []}}
            for seconds in (180, 240):
                await collector.drain(at(seconds))
            rows = [event.rows for event, _ in collector.flush(at(240).time) if isinstance(event, FindingsObserved)]
    assert [len(each) for each in rows] == [1, 0, 1, 0]
    assert rows[0][0].edges == ("cart->valkey-cart",)
    assert (rows[2][0].time, rows[2][0].resolved) == (at(60).time, at(180).time)


def healthy(name: str, *upstreams: str) -> dict[str, Any]:
    links = [{"id": f"c:n:Deployment:{upstream}", "status": "ok"} for upstream in upstreams]
    return {"id": f"c:n:Deployment:{name}", "upstreams": links, "indicators": []}


BUSY = {"id": "CPUContainer", "status": "warning", "message": "high CPU utilization of 1 container"}
FINE = {"id": "MemoryOOM", "status": "ok", "message": ""}
BURNING = {"id": "SLOLatency", "status": "critical", "message": "the app is performing slowly"}


def view(*checks: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"app_map": {"dependencies": []}, "reports": [{"name": "any", "checks": list(checks)}]}}


async def test_checks_are_asked_for_where_the_map_hints_at_them_and_told_from_their_first_firing_to_their_last() -> (
    None
):
    ill = healthy("cart") | {"indicators": [{"status": "warning", "message": "CPU"}]}
    nodes = [healthy("frontend", "cart"), ill]
    server = coroot(map={"data": {"map": nodes}}, **{"c:n:Deployment:cart": view(BUSY, FINE, BURNING)})
    async with listen(server.application()) as url:
        collector = CorootCollector(endpoints_at(url), now=START)
        async with collector.open():
            for seconds in (60, 120):
                await collector.drain(at(seconds))
            server.answers["map"] = {"data": {"map": [healthy("frontend", "cart"), healthy("cart")]}}
            await collector.drain(at(180))
            server.answers["map"] = {"data": {"map": nodes}}
            await collector.drain(at(240))
            polls = [event.rows for event, _ in collector.flush(at(240).time) if isinstance(event, FindingsObserved)]
    assert [len(rows) for rows in polls] == [1, 0, 1, 1]
    (first,), _, (over,), (again,) = polls
    assert (first.source, first.services, first.symptom, first.severity) == ("check", ("cart",), "cpu", "warning")
    assert (first.text, first.suggested_cause, first.resolved) == (BUSY["message"], "cart", None)
    assert (over.key, over.time, over.resolved) == (first.key, at(60).time, at(180).time)
    assert (again.key != first.key, again.time, again.resolved) == (True, at(240).time, None)


async def test_an_incident_without_a_cause_of_coroot_s_gets_the_deepest_suspect_and_says_so() -> None:
    ill = {"indicators": [{"status": "warning", "message": "CPU"}]}
    nodes = [healthy("checkout", "cart") | ill, healthy("cart", "store") | ill, healthy("ad") | ill, healthy("store")]
    suspects = {f"c:n:Deployment:{name}": view(BUSY) for name in ("checkout", "cart", "ad")}
    server = coroot(incidents={"data": [INCIDENT]}, map={"data": {"map": nodes}}, **suspects)
    async with listen(server.application()) as url:
        collector = CorootCollector(endpoints_at(url), now=START)
        async with collector.open():
            await collector.drain(at(60))
            ((event, _),) = collector.flush(at(60).time)
            known = INCIDENT | {"rca": {"status": "OK", "short_summary": "checkout can't reach its bank"}}
            server.answers["incidents"] = {"data": [known]}
            await collector.drain(at(120))
            ((later, _),) = collector.flush(at(120).time)
    assert isinstance(event, FindingsObserved)
    assert isinstance(later, FindingsObserved)
    incident = next(row for row in event.rows if row.source == "incident")
    assert incident.suggested_cause == "cart"
    assert incident.text.endswith("cause derived from other findings, not Coroot's")
    assert [row.suggested_cause for row in later.rows] == ["checkout can't reach its bank"]


async def test_another_shape_than_expected_is_a_gap() -> None:
    for server in (coroot(incidents={"data": [{"key": 1}]}), coroot(user={"projects": []}), Answers()):
        async with listen(server.application()) as url:
            collector = CorootCollector(endpoints_at(url), now=START)
            async with collector.open():
                await collector.drain(at(60))
                ((gap, _),) = collector.flush(at(60).time)
        assert isinstance(gap, CollectorGap)
        assert (gap.source, gap.start, gap.end) == ("findings", START, at(60).time)


async def test_the_load_generator_s_readings_are_taken_once_and_up_to_the_barrier() -> None:
    account = {
        "users_target": 60,
        "users_active": 58,
        "spawn_rate": 20.0,
        "served": 97,
        "failed": 2,
        "state": "running",
    }
    kept = [
        {**account, "time": at(seconds).time / 1e9, "scheduled": 100 + seconds, "mix": {"index": 0.25, "ads": 0.75}}
        for seconds in (0, 5, 10, 35)
    ]
    server = Answers(readings={"readings": kept})
    async with listen(server.application()) as url:
        collector = WorkloadCollector(endpoints_at(url), now=START)
        async with collector.open():
            await collector.drain(at(30))
            ((event, _),) = collector.flush(at(30).time)
            await collector.drain(at(60))
            ((later, _),) = collector.flush(at(60).time)
    assert isinstance(event, WorkloadObserved)
    assert isinstance(later, WorkloadObserved)
    assert [row.time for row in event.rows] == [at(0).time, at(5).time, at(10).time]
    assert [(row.time, row.scheduled) for row in later.rows] == [(at(35).time, 135)]
    first = event.rows[0]
    assert (first.users_target, first.users_active, first.scheduled, first.served, first.failed) == (60, 58, 100, 97, 2)
    assert list(first.mix) == ["ads", "index"]


async def test_a_stock_locust_tells_users_and_requests() -> None:
    totals = {"name": "Aggregated", "num_requests": 10, "num_failures": 1}
    server = Answers(requests={"stats": [totals], "state": "running", "user_count": 5})
    async with listen(server.application()) as url:
        collector = WorkloadCollector(endpoints_at(url), now=START)
        async with collector.open():
            await collector.drain(at(30))
            ((event, _),) = collector.flush(at(30).time)
    assert isinstance(event, WorkloadObserved)
    assert (event.rows[0].users_active, event.rows[0].served, event.rows[0].failed) == (5, 10, 1)


async def test_a_load_generator_that_is_gone_is_a_gap() -> None:
    async with listen(Answers().application()) as url:
        collector = WorkloadCollector(endpoints_at(url), now=START)
        async with collector.open():
            await collector.drain(at(30))
    async with collector.open():
        await collector.drain(at(60))
        gaps = [event for event, _ in collector.flush(at(60).time)]
    assert [(gap.start, gap.end) for gap in gaps if isinstance(gap, CollectorGap)] == [
        (START, at(30).time),
        (at(30).time, at(60).time),
    ]
