"""What a served twin keeps to be read is what it sends: the same rows come out, whoever reads them or has them pushed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_control_gym.collectors import OtlpReceiver, Retrieval
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap, LogRow, LogsCollected, Span, SpansCollected
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.service_sessions import service_session
from otel_control_gym.stands.twin.kept_telemetry import KeptTelemetry
from otel_control_gym.stands.twin.serving import ServedTwin, serve
from otel_control_gym.stands.twin.spans import Export

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig

TRACES = "/jaeger/ui/api/v3/traces"


async def get(twin: ServedTwin, path: str, **query: str) -> tuple[int, str]:
    places = twin.endpoints
    async with (
        service_session(places, f"{places.kubernetes}/", 20.0) as session,
        session.get(f"{places.kubernetes}/api/v1/namespaces/otel-demo/{path}", params=query) as answer,
    ):
        return answer.status, await answer.text()


async def test_who_reads_has_the_rows_of_whom_they_are_pushed_to(make_config: MakeConfig, tmp_path: Path) -> None:
    """Both look at the same moments, whichever has come first by then; at the end they have seen the same."""
    receiver = OtlpReceiver()
    config = make_config(50)
    rows: dict[str, dict[tuple[bool, str, str, str, int], Span | LogRow]] = {"pushed": {}, "read": {}}
    gaps: list[CollectorGap] = []
    async with (
        receiver.open(),
        serve(config, kubeconfig_path=tmp_path / "kubeconfig", port=0, pace=40.0, otlp=receiver.endpoint) as twin,
    ):
        retrieval, since = Retrieval(twin.endpoints), twin.now
        for collector in (receiver, retrieval):
            collector.know(config.public, since=since)
        async with retrieval.open():
            for _ in range(3):
                await anyio.sleep(0.4)
                for name, collector in (("pushed", receiver), ("read", retrieval)):
                    moment = twin.now
                    await collector.drain(Barrier(time=moment, resource_version="", exact=False))
                    for event, truth in collector.flush(moment):
                        gaps += [event] if isinstance(event, CollectorGap) else []
                        for row in event.rows if isinstance(event, SpansCollected | LogsCollected) else ():
                            body = row.body if isinstance(row, LogRow) else ""
                            key = (truth, row.trace_id, row.span_id, body, len(row.attributes))
                            assert key not in rows[name], "told twice"
                            rows[name][key] = row
    # What was sent between the two looks of the last moment is with one of them alone.
    end = min(max(row.time for row in found.values()) for found in rows.values()) - 10 * SECOND
    pushed, read = (
        {key: row for key, row in found.items() if row.time < end} for found in (rows["pushed"], rows["read"])
    )
    assert read == pushed
    assert len([row for row in read.values() if isinstance(row, Span)]) > 50
    assert len([row for row in read.values() if isinstance(row, LogRow)]) > 20
    assert {row.service for key, row in read.items() if key[0]} >= {"flagd"}  # the truth stream's
    silent = "nothing "  # between two looks: a busy machine's twin catches up afterwards
    assert [gap for gap in gaps if not gap.reason.startswith(silent)] == []


async def test_a_served_twin_answers_as_jaeger_and_kubelets_do(make_config: MakeConfig, tmp_path: Path) -> None:
    jaeger = f"services/jaeger:16686/proxy{TRACES}"
    async with serve(make_config(50), kubeconfig_path=tmp_path / "kubeconfig", port=0, pace=40.0) as twin:
        none = {"query.start_time_min": "2001-01-01T00:00:00Z", "query.start_time_max": "2001-01-02T00:00:00Z"}
        for query, status, told in (
            ({}, 400, "are required"),
            (none | {"query.num_traces": "x"}, 400, "invalid literal"),
            (none | {"query.duration_min": "1s"}, 400, "query.duration_min"),
            (none, 500, "search depth"),
            (none | {"query.num_traces": "10"}, 404, "No traces found"),
        ):
            answer = await get(twin, jaeger, **query)
            assert answer[0] == status, query
            assert told in answer[1]
        pod = next(item for item in twin.run.control_plane.pods() if item.name.startswith("product-catalog")).name
        text = ""
        with anyio.fail_after(30):
            while text.count("\n") < 5:
                await anyio.sleep(0.1)
                status, text = await get(twin, f"pods/{pod}/log", timestamps="true")
                assert status == 200
        stamps = [line.partition(" ")[0] for line in text.splitlines()]
        assert stamps == sorted(stamps)
        assert (await get(twin, f"pods/{pod}/log", tailLines="2"))[1].count("\n") == 2
        assert len((await get(twin, f"pods/{pod}/log", limitBytes="7"))[1]) == 7
        assert (await get(twin, f"pods/{pod}/log", sinceTime="2999-01-01T00:00:00Z")) == (200, "")
        for path, query, status, told in (
            (f"pods/{pod}/log", {"previous": "true"}, 400, "previous terminated container"),
            (f"pods/{pod}/log", {"container": "other"}, 400, "is not valid for pod"),
            (f"pods/{pod}/log", {"sinceTime": "then"}, 400, "RFC 3339"),
            ("pods/nobody/log", {}, 404, 'pods \\"nobody\\" not found'),
        ):
            answer = await get(twin, path, **query)
            assert (answer[0], told in answer[1]) == (status, True), answer


def spans(*wanted: tuple[int, int]) -> Export:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "cart"
    scope = resource.scope_spans.add()
    for trace, began in wanted:
        scope.spans.add(trace_id=trace.to_bytes(16), start_time_unix_nano=began)
    return Export("traces", request.SerializeToString())


def found(kept: KeptTelemetry, begin: int, end: int, most: int = 10) -> list[int]:
    return [
        int.from_bytes(span.trace_id)
        for resource in kept.find("", begin, end, most)
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_the_oldest_traces_make_room_and_whole_ones_are_found_by_any_of_their_spans() -> None:
    kept = KeptTelemetry(traces=3)
    kept.take([spans((1, 10), (2, 20)), spans((3, 30), (1, 40))])
    assert found(kept, 35, 45) == [1, 1]
    assert found(kept, 0, 100, most=2) == [3, 2]
    kept.take([spans((4, 50))])
    assert found(kept, 0, 100) == [4, 3, 2]
    assert kept.services() == ["cart"]
