"""The clients of the two rooms that speak to Kubernetes: who they say they are, whom they trust, which way they go."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from otel_control_gym.actuators import kubernetes_client as calls
from otel_control_gym.actuators.transport import Unreachable
from otel_control_gym.engine.protocols import Endpoints
from tests.kubernetes_questions import Ask, ask_by_call, ask_by_read

_NO_IDENTIFIERS = "subjectKeyIdentifier = none\nauthorityKeyIdentifier = none\n"
both_clients = pytest.mark.parametrize("ask", [ask_by_call, ask_by_read])


@asynccontextmanager
async def echo(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that answers with what it was asked."""

    async def answer(request: web.Request) -> web.Response:
        asked = {name: request.headers.get(name, "") for name in ("Authorization", "Content-Type")}
        return web.json_response({"url": request.path_qs, "body": (await request.read()).decode(), **asked})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def endpoints_at(url: str, *, token: str = "", ca_file: str = "") -> Endpoints:
    return Endpoints(
        kubernetes=url,
        namespace="otel-demo",
        prometheus=url,
        coroot=url,
        load_generator=url,
        flagd=url,
        kubernetes_token=token,
        kubernetes_ca_file=ca_file,
    )


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The certificate of a cluster's authority, beside a server's that it signed; neither has key identifiers (strict TLS refuses that)."""
    if (
        shutil.which("openssl") is None
        or b"OpenSSL 3" not in subprocess.run(["openssl", "version"], capture_output=True).stdout
    ):
        pytest.skip("no OpenSSL 3 here to make certificates with")
    (tmp_path / "openssl.cnf").write_text(
        "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = cluster\n"
        "[authority]\nbasicConstraints = critical, CA:true\n"
        + _NO_IDENTIFIERS
        + "[server]\nsubjectAltName = IP:127.0.0.1\n"
        + _NO_IDENTIFIERS
    )
    new = "openssl req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    signed = "-subj /CN=server -CA authority.pem -CAkey authority.key"
    for name, options in (("authority", ""), ("server", signed)):
        command = f"{new} -extensions {name} -keyout {name}.key -out {name}.pem {options}"
        subprocess.run(command.split(), check=True, capture_output=True, cwd=tmp_path)
    return tmp_path / "authority.pem"


@both_clients
async def test_the_token_goes_along_if_there_is_one(ask: Ask) -> None:
    async with echo() as url:
        assert (await ask(endpoints_at(url, token="stand")))["Authorization"] == "Bearer stand"
        assert (await ask(endpoints_at(url)))["Authorization"] == ""


@both_clients
async def test_neither_proxies_nor_passwords_of_the_environment_are_used(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with echo() as url:
        assert (await ask(endpoints_at(url)))["Authorization"] == ""


@both_clients
async def test_the_stand_s_authority_is_trusted_and_no_other(ask: Ask, authority: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(authority.with_name("server.pem"), authority.with_name("server.key"))
    async with echo(tls) as url:
        assert (await ask(endpoints_at(url, ca_file=str(authority))))["url"] == "/version"
        with pytest.raises((aiohttp.ClientConnectorCertificateError, Unreachable)):
            await ask(endpoints_at(url))


async def test_a_patch_goes_out_as_its_caller_says_with_its_nulls() -> None:
    body = {"spec": {"replicas": None, "paused": False}}
    async with echo() as url, calls.open_kubernetes(endpoints_at(url)) as kubernetes:
        for kind in ("merge-patch", "strategic-merge-patch"):
            asked = await kubernetes.call(
                "PATCH",
                "apis/apps/v1/namespaces/n/deployments/cart",
                dict,
                body=body,
                content_type=f"application/{kind}+json",
                query={"labelSelector": "a/b=c,!d"},
            )
            assert asked["Content-Type"] == f"application/{kind}+json"
            assert asked["body"] == '{"spec": {"replicas": null, "paused": false}}'
            assert asked["url"].startswith("/apis/apps/v1/namespaces/n/deployments/cart?labelSelector=a")
