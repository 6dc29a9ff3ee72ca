"""An episode on what a kubeconfig leads to is a run like any other: here a served twin, measured by a real Prometheus that scrapes it.

Everything goes the way that it goes on a cluster: over TLS with a token, by the wall clock, services through the API server's proxy,
metrics from Debian's Prometheus, spans (gRPC) and logs (HTTP) from a collector to a named address with TLS and a token; in a second run,
which receives nothing, from the twin's Jaeger and its pods. What a cluster has and this hasn't: nodes, containers, a network.
"""

from __future__ import annotations

import json
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import grpc
import grpc.aio
import pytest
import yaml
from aiohttp import web

import otel_control_gym as ocg
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.events import ActionReverted, ClockAdvanced, RunAborted
from otel_control_gym.stands.twin.servers.listening import listen
from tests.receiver_guard import TOKEN, MadeGuard, made_guard
from tests.scraped_twin import NO_PROMETHEUS, OCG, PROMETHEUS, free_port, process, scraped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the wall clock passes by itself, and two programs start
    pytest.mark.skipif(PROMETHEUS is None, reason=NO_PROMETHEUS),
]
GRANULARITY = {
    "control_step_seconds": 5,
    "observation_bucket_seconds": 5,
    "observation_window_seconds": 30,
    "reward_bucket_seconds": 5,
    "scrape_interval_seconds": 5,
    "trace_aggregation_seconds": 10,
    "log_pattern_window_seconds": 10,
    "action_duration_seconds": 10,
    "warmup_seconds": 5,
    "cooldown_seconds": 5,
}
SCENARIO = {
    "name": "on-a-cluster",
    "services": "small-core",
    "workload": "steady",
    "granularity": "./granularity.yaml",
    "horizon_seconds": 15,
    "interventions": [
        {"at_seconds": 0, "action": {"type": "network_delay", "target": "frontend->cart", "latency_ms": 300}}
    ],
    "policy": {
        "name": "scripted",
        "actions": [{"at_seconds": 5, "action": {"type": "scale", "target": "frontend", "replicas": 2}}],
    },
}


def scenario_file(folder: Path) -> str:
    (folder / "granularity.yaml").write_text(yaml.safe_dump(GRANULARITY))
    (folder / "scenario.yaml").write_text(yaml.safe_dump(SCENARIO))
    return str(folder / "scenario.yaml")


async def run(*arguments: str, stop_when: str = "") -> tuple[int, str, str]:
    """Run `ocg run`, and return its exit code and what it has printed; Ctrl-C comes once it has said something."""
    async with process(*OCG, "run", *arguments) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        said = b""
        async for text in command.stderr:
            said += text
            if stop_when and stop_when.encode() in said:
                command.send_signal(signal.SIGINT)
                stop_when = ""
        output = b"".join([text async for text in command.stdout])
        await command.wait()
    assert command.returncode is not None
    return command.returncode, output.decode(), said.decode()


@asynccontextmanager
async def collector(guard: MadeGuard, port: int) -> AsyncIterator[str]:
    """Pass on what a twin sends, as the stand's collector would: spans over gRPC, logs over HTTP; both by TLS, and with the token."""
    shown = f"Bearer {TOKEN}"
    trusted = ssl.create_default_context(cafile=str(guard.authority))
    credentials = grpc.ssl_channel_credentials(guard.authority.read_bytes())
    export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

    async def spans(request: web.Request) -> web.Response:
        try:
            await channel.unary_unary(export)(await request.read(), timeout=5, metadata=(("authorization", shown),))
        except grpc.aio.AioRpcError as error:  # nobody is there before a run, nor after it
            return web.Response(status=503, text=error.code().name)
        return web.Response(content_type="application/x-protobuf")

    async def logs(request: web.Request) -> web.Response:
        headers = {"Content-Type": "application/x-protobuf", "Authorization": shown}
        url = f"https://127.0.0.1:{port}/v1/logs"
        try:
            async with session.post(url, data=await request.read(), headers=headers, ssl=trusted) as answer:
                return web.Response(status=answer.status, content_type="application/x-protobuf")
        except aiohttp.ClientError as error:
            return web.Response(status=503, text=type(error).__name__)

    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/traces", spans)
    application.router.add_post("/v1/logs", logs)
    async with (
        aiohttp.ClientSession() as session,
        # Nobody listens before the run: a channel would wait longer and longer until it tries again.
        grpc.aio.secure_channel(
            f"127.0.0.1:{port - 1}", credentials, options=[("grpc.max_reconnect_backoff_ms", 500)]
        ) as channel,
        listen(application) as url,
    ):
        yield url


async def _lived(folder: Path) -> tuple[dict[str, Any], Path, int, str]:
    """Play an episode to its end, then one that is interrupted; return the first's answer, the directory, and how the second ended."""
    port, guard = await free_port(), made_guard(folder)
    async with (
        collector(guard, port) as otlp,
        scraped(folder, "--otlp", otlp, interval="5s") as (told, prometheus),
    ):
        data = folder / "data"
        cluster = ("--kubeconfig", told["kubeconfig"], "--prometheus", prometheus, "--data-dir", str(data))
        receive = ("--receive", f"127.0.0.1:{port}", *guard.options)
        code, output, said = await run(scenario_file(folder), "--json", *cluster, *receive)
        assert code == 0, said
        # Nobody takes spans and logs in this one, so they are read, and it is stopped while the fault is in force.
        code, _, said = await run(scenario_file(folder), "--verbose", *cluster, stop_when="step   0")
    return json.loads(output), data, code, said


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, int, str]:
    return anyio.run(_lived, tmp_path_factory.mktemp("cluster"))


def test_a_run_comes_out_that_keeps_the_contract_and_is_rebuilt_byte_by_byte(
    lived: tuple[dict[str, Any], Path, int, str], tmp_path: Path
) -> None:
    answer, data, _, _ = lived
    assert (answer["status"], answer["done_reason"], answer["steps"]) == ("completed", "horizon", 3)
    directory = Path(answer["path"])
    assert ocg.validate(directory) == []
    rebuilt = ocg.rebuild(directory, out=tmp_path / "rebuilt", data_dir=data)
    for file in sorted(directory.iterdir()):
        assert (rebuilt / file.name).read_bytes() == file.read_bytes(), file.name


def test_what_a_prometheus_has_scraped_fills_the_tables(lived: tuple[dict[str, Any], Path, int, str]) -> None:
    run = ocg.open_run(lived[0]["path"], truth=True)
    nodes = run.table("node_features").to_arrow().to_pylist()
    assert min(row["coverage"] for row in nodes) == 1.0
    for column in ("request_rate", "latency_mean_ms", "memory_usage_bytes", "replicas_ready", "cpu_limit_cores"):
        known = [row[column] for row in nodes if row["service"] == "frontend" and row[column] is not None]
        assert len(known) >= 4, column
    assert max(row["latency_p95_ms"] or 0 for row in nodes if row["service"] == "frontend") > 300  # the fault shows
    (fault,) = [row for row in run.table("labels").to_arrow().to_pylist() if row["is_fault"]]
    assert fault["applied"]
    assert fault["actual_end"] is not None
    (scaled,) = [row for row in run.table("actions").to_arrow().to_pylist() if row["action_type"] == "scale"]
    assert scaled["status"] in ("applied", "unverified")  # a pod needs its time, and the run ends soon


def test_the_metadata_say_what_the_run_was_made_on(lived: tuple[dict[str, Any], Path, int, str]) -> None:
    metadata = ocg.open_run(lived[0]["path"]).metadata
    assert metadata["stand"] == "cluster"
    assert metadata["kubernetes_version"].startswith("v1.")
    assert metadata["chart_versions"]["opentelemetry-demo chart"] == "0.40.10"
    assert metadata["image_digests"]["cart"].startswith("ghcr.io/open-telemetry/demo:2.2.0-cart")
    told = {key.removeprefix("stand:"): text for key, text in metadata["versions"].items() if key.startswith("stand:")}
    assert told["prometheus"].startswith("2.")
    assert (told["reset_level"], told["reset_baseline"]) == ("soft", "adopted now")
    assert abs(float(told["clock_offset_seconds"])) < 2.5
    assert "kubeletVersion" in told["node node-0"]
    assert told["collector_config_hash"].startswith("not told: HTTP 404")  # a served twin has no collector
    assert told["spans_and_logs"].endswith(", over TLS with a token")
    streams = metadata["streams"]
    for source in ("metrics", "spans", "logs", "kubernetes", "workload"):
        assert (streams[source]["present"], streams[source]["coverage"]) == (True, 1.0), source
        assert 0 <= streams[source]["lag_s"]["median"] <= streams[source]["lag_s"]["largest"] < 30, source
    assert streams["log"]["drift_s"]["median"] >= streams["log"]["waited_s"]["median"] >= 1.0


def test_how_late_everything_was_is_in_the_log_and_no_step_is_longer_for_it(
    lived: tuple[dict[str, Any], Path, int, str],
) -> None:
    events = [entry.event for entry in read_archive(Path(lived[0]["path"]) / ARCHIVE_NAME)]
    steps = [event for event in events if isinstance(event, ClockAdvanced)]
    assert {event.time - event.since for event in steps} <= {0, 5_000_000_000}
    assert all(event.waited_ns >= 1_000_000_000 for event in steps)  # what was under way had its second
    decided = [event for event in steps if event.decision_step is not None]
    assert all(event.drift_ns >= 1_000_000_000 for event in decided)
    assert all(event.source_lags_ns["metrics"] <= 5_000_000_000 for event in decided)  # one scrape


def test_an_interrupted_run_takes_its_fault_back_and_ends_in_order(
    lived: tuple[dict[str, Any], Path, int, str],
) -> None:
    _, data, code, said = lived
    assert code == 130, said
    assert "the run so far is kept" in said
    (run,) = [run for run in ocg.open_runs(data) if run.metadata["status"] == "aborted"]
    assert ocg.validate(run.path) == []
    events = [entry.event for entry in read_archive(run.path / ARCHIVE_NAME)]
    assert isinstance(events[-1], RunAborted)
    (reverted,) = [event for event in events if isinstance(event, ActionReverted)]
    assert reverted.verified
    told = run.metadata["versions"]
    assert told["stand:reset_baseline"] == "restored"
    assert "deployments/frontend" in told["stand:reset_restored"]  # the first run has left it with two replicas


def test_what_nobody_receives_is_read_from_jaeger_and_pods_as_the_same_rows(
    lived: tuple[dict[str, Any], Path, int, str],
) -> None:
    answer, data, _, _ = lived
    received = ocg.open_run(answer["path"])
    (read,) = [run for run in ocg.open_runs(data) if run.metadata["status"] == "aborted"]
    assert read.metadata["versions"]["stand:spans_and_logs"] == "read: spans from Jaeger, logs from pods"
    streams = read.metadata["streams"]
    assert streams["spans"]["coverage"] == 1.0
    assert 0 < streams["logs"]["coverage"] <= 1.0  # the first run's second frontend goes, with what it has written last
    kinds = [
        {
            (span["service"], span["peer"], span["operation"], span["protocol"])
            for span in run.table("spans").to_arrow().to_pylist()
        }
        for run in (received, read)
    ]
    assert len(kinds[0] & kinds[1]) > 10
    said = [{(line["service"], line["severity"]) for line in run.logs()} for run in (received, read)]
    assert len(said[0] & said[1]) > 2
    for run in (received, read):
        assert "flagd" not in {span["service"] for span in run.table("spans").to_arrow().to_pylist()}
        assert not [line["body"] for line in run.logs() if "flag" in line["body"].lower()]
