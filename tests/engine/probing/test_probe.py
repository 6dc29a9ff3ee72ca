"""What is tried on a stand is seen as it is, leaves nothing there, however it ends, and isn't tried while somebody else has the stand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

import otel_control_gym as ocg
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.probing import Probe, probe
from otel_control_gym.engine.probing.span_path import probe_span
from otel_control_gym.engine.probing.stand_clock import StandClock
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Connection
from otel_control_gym.stands.cluster.findings import Finding
from otel_control_gym.stands.cluster.services import COLLECTOR, service_url
from otel_control_gym.stands.cluster.stand import opened_endpoints
from otel_control_gym.stands.cluster.tenancy import tenancy
from tests.scraped_twin import free_port

PACE, USERS, LOOK_SECONDS = 40.0, 10, 0.1
_CONFIG = ocg.resolve("small-core", workload="steady", seed=7)
CONFIG = msgspec.structs.replace(_CONFIG, workload=msgspec.structs.replace(_CONFIG.workload, users=USERS))


@asynccontextmanager
async def stand(folder: Path, otlp: str = "") -> AsyncIterator[Endpoints]:
    """Serve a twin, and yield where it is once its users have called each other for a while."""
    kubeconfig = folder / "kubeconfig"
    async with (
        ocg.serve_twin(CONFIG, pace=PACE, kubeconfig=kubeconfig, data_dir=folder, otlp=otlp or None) as twin,
        opened_endpoints(ClusterAccess(kubeconfig=kubeconfig)) as endpoints,
    ):
        begin = twin.now
        while twin.now < begin + 45 * SECOND:  # noqa: ASYNC110 - a twin's clock tells nobody
            await anyio.sleep(LOOK_SECONDS)
        yield endpoints


def wanted(endpoints: Endpoints, *, edge: str = "", receive: str = "", collector: str = "") -> Probe:
    collector = collector or service_url(endpoints, COLLECTOR, "proxy")
    return Probe(edge=edge, collector=collector, receive=receive, pause_seconds=LOOK_SECONDS)


async def tried(endpoints: Endpoints, what: Probe) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in await probe(endpoints, CONFIG.public, what, lambda _: None):
        found.setdefault(finding.check, []).append(finding)
    return found


async def left(endpoints: Endpoints) -> list[str]:
    """Return the names of faults, rules in pods and kept inverses that are on a stand."""
    chaos = f"apis/chaos-mesh.org/v1alpha1/namespaces/{endpoints.namespace}"
    async with Connection(endpoints) as connection:
        objects = (await connection.kubernetes("GET", f"{chaos}/networkchaos")).items
        rules = [
            item
            for item in (await connection.kubernetes("GET", f"{chaos}/podnetworkchaos")).items
            if item["spec"].get("tcs")
        ]
        kept = (await connection.kubernetes("GET", f"api/v1/namespaces/{endpoints.safekeeping}/configmaps")).items
    return [item["metadata"]["name"] for item in (*objects, *rules, *kept)]


async def test_a_span_comes_round_and_50_ms_show_as_50_ms_and_nothing_as_nothing(tmp_path: Path) -> None:
    address = f"127.0.0.1:{await free_port()}"
    async with stand(tmp_path, otlp=f"http://{address}") as endpoints:
        found = await tried(endpoints, wanted(endpoints, receive=address, edge="frontend->product-catalog"))
        assert await left(endpoints) == []
    (span,) = found["span path"]
    assert span.status == "ok", span
    assert "a span was received" in span.found
    reference, zero, fifty, after = found["delay"]
    assert {finding.status for finding in (reference, zero, fifty, after)} == {"ok"}, found["delay"]
    assert "under a delay of 50 ms: +50." in fifty.found or "under a delay of 50 ms: +49." in fifty.found
    assert "after both" in after.found


async def test_whoever_is_interrupted_leaves_no_delay(tmp_path: Path) -> None:
    told: list[str] = []
    async with stand(tmp_path) as endpoints:
        async with anyio.create_task_group() as tasks:

            def interrupt(doing: str) -> None:
                told.append(doing)
                if doing.startswith("frontend->cart under a delay"):
                    tasks.cancel_scope.cancel()

            tasks.start_soon(probe, endpoints, CONFIG.public, wanted(endpoints, edge="frontend->cart"), interrupt)
        assert told[-1].startswith("frontend->cart under a delay of 0 ms")
        assert await left(endpoints) == []


async def test_a_span_that_nobody_pushes_here_is_found_in_jaeger_and_what_a_collector_does_not_do_is_said(
    tmp_path: Path,
) -> None:
    async with stand(tmp_path) as endpoints, Connection(endpoints) as connection:
        clock = StandClock(connection, pause_seconds=LOOK_SECONDS)

        async def sent(collector: str) -> Finding:
            return await probe_span(connection, collector, None, clock, lambda _: None)

        found = await sent(service_url(endpoints, COLLECTOR, "proxy"))
        assert (found.status, "was in Jaeger" in found.found) == ("ok", True), found
        found = await sent(service_url(endpoints, "nobody:4318", "proxy"))
        assert (found.status, "there is no collector" in found.found) == ("unknown", True), found
        found = await sent("http://127.0.0.1:1")
        assert (found.status, "takes no span: no answer" in found.found) == ("warning", True), found
        async with tenancy(connection):  # as an episode has it
            (finding,) = (await tried(endpoints, wanted(endpoints)))["probe"]
        assert (finding.status, "is driven by" in finding.found) == ("unknown", True), finding
