"""The served twin: it follows the wall clock, only whoever has its kubeconfig gets in, and it leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import anyio
import pytest
from kubernetes_asyncio import client, config

from otel_control_gym.collectors.kubernetes_client import open_kubernetes
from otel_control_gym.engine.clock import SECOND, PacedClock, wall_now, wall_timer
from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.stands.twin.credentials import issue_credentials
from otel_control_gym.stands.twin.kept_telemetry import KeptTelemetry
from otel_control_gym.stands.twin.serving import ServedTwin, serve
from otel_control_gym.stands.twin.stand import TwinStand

if TYPE_CHECKING:
    from tests.stands.conftest import MakeConfig, Receiver

KUBECTL = shutil.which("kubectl")
PODS = "/api/v1/namespaces/otel-demo/pods"


class Serving(Protocol):
    """Serves twins on free ports; a task group can't be left by another task, so a fixture can't hold them open."""

    def __call__(
        self, users: int = 20, *, port: int = 0, pace: float = 1.0, otlp: str | None = None
    ) -> AbstractAsyncContextManager[ServedTwin]: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kubeconfig"


@pytest.fixture
def serving(make_config: MakeConfig, path: Path) -> Serving:
    def start(
        users: int = 20, *, port: int = 0, pace: float = 1.0, otlp: str | None = None
    ) -> AbstractAsyncContextManager[ServedTwin]:
        return serve(make_config(users), kubeconfig_path=path, port=port, pace=pace, otlp=otlp)

    return start


def existing(*paths: Path) -> list[Path]:
    return [path for path in paths if path.exists()]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the twin lives by the clock and tells nobody
            await anyio.sleep(0.01)


async def get(twin: ServedTwin, path: str, trust: ssl.SSLContext, **headers: str) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(twin.endpoints.kubernetes + path, ssl=trust, headers=headers) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if answer.content_type == "application/json" else text


def trusting(twin: ServedTwin) -> ssl.SSLContext:
    """Return a context that trusts the twin's authority and is as strict as Python can be."""
    context = ssl.create_default_context(cafile=twin.endpoints.kubernetes_ca_file)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


# --- who gets in ------------------------------------------------------------------------------------------------------------


async def test_without_the_token_the_api_answers_401(serving: Serving) -> None:
    async with serving() as twin:
        trust, token = trusting(twin), twin.endpoints.kubernetes_token
        for shown in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {token}"},
            {"Authorization": token},
        ):
            code, status = await get(twin, PODS, trust, **shown)
            assert (code, status["kind"], status["reason"], status["code"]) == (401, "Status", "Unauthorized", 401)
        assert (await get(twin, "/readyz", trust)) == (200, "ok")
        code, pods = await get(twin, PODS, trust, Authorization=f"Bearer {token}")
        assert (code, pods["kind"]) == (200, "PodList")


async def test_its_certificate_is_trusted_by_its_own_authority_only(serving: Serving) -> None:
    async with serving() as twin:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await get(twin, "/readyz", ssl.create_default_context())
        port = twin.endpoints.kubernetes.rpartition(":")[2]
        for name in ("localhost", "127.0.0.1"):
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"https://{name}:{port}/readyz", ssl=trusting(twin)) as answer,
            ):
                assert answer.status == 200
        assert issue_credentials("127.0.0.1").tls.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_client_libraries_get_in_by_the_kubeconfig(serving: Serving) -> None:
    async with serving() as twin:
        configuration = client.Configuration()
        await config.load_kube_config(str(twin.kubeconfig), client_configuration=configuration)
        async with client.ApiClient(configuration) as api:
            pods = await client.CoreV1Api(api).list_namespaced_pod("otel-demo")
        assert len(pods.items) == len(twin.config.public.services.services)


async def test_the_gyms_own_clients_get_in_by_the_endpoints(serving: Serving) -> None:
    async with (
        serving() as twin,
        open_kubernetes(twin.endpoints) as reader,
        await reader.get(PODS.removeprefix("/")) as answer,
    ):
        assert answer.status == 200


@pytest.mark.skipif(KUBECTL is None, reason="kubectl isn't on the path")
async def test_kubectl_works_by_the_kubeconfig(serving: Serving, path: Path, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(path)}

    async def kubectl(*arguments: str, fails: bool = False) -> str:
        assert KUBECTL is not None
        with anyio.fail_after(60):
            ended = await anyio.run_process(
                [KUBECTL, *arguments], stderr=subprocess.STDOUT, check=False, env=environment
            )
        assert (ended.returncode != 0) is fails, ended.stdout.decode()
        return ended.stdout.decode()

    async with serving():
        assert "load-generator-" in await kubectl("get", "pods")  # of the context's own namespace
        await kubectl("rollout", "restart", "deploy/quote")
        assert "successfully rolled out" in await kubectl("rollout", "status", "deploy/quote", "--timeout=60s")
        assert "NewReplicaSetAvailable" in await kubectl("describe", "deploy", "quote")
        assert await kubectl("logs", "deploy/quote", "--tail=1")
        assert "aren't processes" in await kubectl("exec", "deploy/quote", "--", "true", fails=True)
        context = await kubectl("config", "set-context", "--current", "--namespace=default")
        assert "modified" in context
        assert "No resources found" in await kubectl("get", "pods")


# --- time -------------------------------------------------------------------------------------------------------------------


async def test_it_begins_at_the_present(serving: Serving) -> None:
    before = wall_now()
    async with serving() as twin:
        assert before - SECOND < twin.now <= wall_now()
        assert twin.config.twin.epoch_seconds >= before // SECOND


async def test_it_advances_by_pace_times_the_wall_clock(serving: Serving) -> None:
    pace, before = 200.0, wall_timer()
    async with serving(pace=pace) as twin:
        start = twin.now
        await until(lambda: twin.now >= start + 200 * SECOND)  # in a minute: at a pace of three at least
        lived = (twin.now - start) / SECOND
        assert lived <= (wall_timer() - before) * pace
        status = twin.status()
        assert status.requests_per_second > 0
        assert status.pods_ready == status.pods == len(twin.config.public.services.services)


class Timer:
    """A wall clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def test_a_short_lag_is_made_up_and_a_long_one_conceded(make_config: MakeConfig, tmp_path: Path) -> None:
    stand, timer = TwinStand(), Timer()
    async with stand.open():
        await stand.reset(make_config(20), otlp_endpoint="")
        start = stand.now
        twin = ServedTwin(stand, make_config(20), PacedClock(start, 2.0, timer), tmp_path, KeptTelemetry())
        timer.seconds += 4.0  # a machine that was busy with something else
        while twin.advance():
            pass
        assert (twin.now - start, twin.status().lag_seconds) == (8 * SECOND, 0.0)
        timer.seconds += 3600.0  # one that was asleep
        while twin.advance():
            pass
        lived = (twin.now - start) / SECOND
        assert lived < 60
        assert lived + twin.status().lag_seconds == pytest.approx(2 * 3604.0)


# --- what goes out ----------------------------------------------------------------------------------------------------------


async def test_spans_and_logs_go_to_the_receiver(serving: Serving, receiver: Receiver) -> None:
    async with serving(50, pace=50.0, otlp=receiver.url) as twin:
        await until(lambda: len(receiver.traces) >= 2)
        assert twin.status().exports_lost == 0
    names = {
        attribute.value.string_value
        for request in receiver.traces
        for resource in request.resource_spans
        for attribute in resource.resource.attributes
        if attribute.key == "service.name"
    }
    assert "frontend" in names


async def test_a_receiver_that_is_not_there_is_told_of_and_does_no_harm(serving: Serving) -> None:
    async with serving(50, pace=50.0, otlp="http://127.0.0.1:9") as twin:
        await until(lambda: twin.status().exports_lost >= 2)
        assert "http://127.0.0.1:9/v1/" in twin.status().export_error


async def test_metrics_are_scraped_while_time_moves(serving: Serving) -> None:
    async with serving() as twin:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{twin.endpoints.prometheus}/metrics") as answer,
        ):
            assert answer.status == 200
            text = await answer.text()
        assert "# TYPE k8s_deployment_desired gauge\n" in text


# --- beginning and end ------------------------------------------------------------------------------------------------------


async def test_it_leaves_nothing_behind(serving: Serving, path: Path) -> None:
    async with serving() as twin:
        endpoints = twin.endpoints
        left = (path, Path(endpoints.kubernetes_ca_file))
        assert existing(*left) == list(left)
    assert existing(*left) == []
    async with aiohttp.ClientSession() as http:
        for url in (endpoints.kubernetes, endpoints.prometheus, endpoints.coroot, endpoints.load_generator):
            with pytest.raises(aiohttp.ClientConnectorError):
                await http.get(url)


async def test_its_interfaces_stand_on_ports_in_a_row(serving: Serving, path: Path) -> None:
    base = 20_000 + 6 * (os.getpid() % 1_000)  # not that of another process that runs these tests
    async with serving(port=base) as twin:
        urls = [twin.endpoints.kubernetes, twin.endpoints.prometheus, twin.endpoints.coroot]
        urls += [twin.endpoints.load_generator, twin.endpoints.flagd]
        assert [int(url.rpartition(":")[2]) for url in urls] == list(range(base, base + 5))
        with pytest.raises(StandError, match=f"port {base}"):
            async with serving(port=base):
                pass
        assert existing(path)


@pytest.mark.parametrize("pace", [0.0, -1.0, float("nan"), float("inf")])
async def test_a_pace_that_is_none_is_refused(serving: Serving, pace: float) -> None:
    with pytest.raises(UsageError, match="must be a number above 0"):
        async with serving(pace=pace):
            pass
