"""Whatever a kubeconfig's user is let in with, all clients bear it, it is renewed when it wears out, and nobody else gets to see it."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from aiohttp import web

from otel_control_gym.actuators.transport import Unreachable
from otel_control_gym.engine.clock import SECOND, wall_now, wall_timer
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.protocols import Endpoints
from otel_control_gym.stands.cluster.connection import Answer, Connection
from otel_control_gym.stands.cluster.contexts import account_in_pod, endpoints_of
from otel_control_gym.stands.cluster.credentials import Allowance
from otel_control_gym.stands.cluster.proxies import proxy_for
from tests.kubernetes_questions import Ask, ask_by_call, ask_by_read

V1 = "client.authentication.k8s.io/v1"
LATER = "2999-01-01T00:00:00Z"


async def ask_by_connection(endpoints: Endpoints) -> dict[str, Any]:
    answer: dict[str, Any] = (await answered(endpoints)).body
    return answer


async def answered(endpoints: Endpoints) -> Answer:
    async with Connection(endpoints) as connection:
        return await connection.kubernetes("GET", "version")


class Server:
    """An API server that knows some tokens, and says whom it has taken its callers for."""

    def __init__(self) -> None:
        self.tokens: set[str] | None = None  #: null: it lets everybody in
        self.asked: list[str] = []  #: Authorization of each call
        self.busy: list[str] = []  #: Retry-After of the answers to come

    async def answer(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        self.asked.append(authorization)
        if self.busy:
            return web.Response(status=429, headers={"Retry-After": self.busy.pop(0)})
        if self.tokens is not None and authorization.removeprefix("Bearer ") not in self.tokens:
            return web.json_response({"message": "Unauthorized"}, status=401)
        tls = request.get_extra_info("peercert") or {}
        names = [value for part in tls.get("subject", ()) for key, value in part if key == "commonName"]
        impersonated = {key: request.headers.getall(key) for key in request.headers if key.startswith("Impersonate-")}
        told = {"authorization": authorization, "certificate": names, "host": request.host, **impersonated}
        return web.json_response(told)


@asynccontextmanager
async def serving(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    path = folder / "config"
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def credential(version: str = V1, **status: Any) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


class Program:
    """A credential plugin that prints a file, and notes each run with what it was told."""

    def __init__(self, folder: Path, says: str) -> None:
        self._says, self._runs = folder / "says", folder / "runs"
        self.says(says)
        program = folder / "plugin"
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$KUBERNETES_EXEC_INFO" >> "$RUNS"\ncat "$1"\n')
        program.chmod(0o755)
        environment = [{"name": "RUNS", "value": str(self._runs)}]
        self.section = {"apiVersion": V1, "command": "./plugin", "args": [str(self._says)], "env": environment}

    def says(self, text: str) -> None:
        self._says.write_text(text)

    @property
    def runs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._runs.read_text().splitlines()] if self._runs.exists() else []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return what puts the clock forward that credentials go by."""
    ahead = [0.0]
    monkeypatch.setattr(
        "otel_control_gym.stands.cluster.credentials.wall_now", lambda: wall_now() + round(ahead[0] * SECOND)
    )

    def pass_by(seconds: float) -> None:
        ahead[0] += seconds

    return pass_by


# --- plugins ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [ask_by_call, ask_by_read, ask_by_connection])
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
async def test_a_plugin_is_run_once_for_all_clients_of_a_stand(ask: Ask, version: str, tmp_path: Path) -> None:
    program = Program(
        tmp_path, credential(f"client.authentication.k8s.io/{version}", token="t", expirationTimestamp=LATER)
    )
    section = program.section | {"apiVersion": f"client.authentication.k8s.io/{version}"}
    async with serving(Server()) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"exec": section})) as endpoints:
            assert (await ask(endpoints))["authorization"] == "Bearer t"
            assert (await ask(endpoints))["authorization"] == "Bearer t"
    assert len(program.runs) == 1
    assert program.runs[0]["spec"] == {"interactive": False}


async def test_a_token_is_renewed_just_before_its_end(tmp_path: Path, clock: Callable[[float], None]) -> None:
    program = Program(tmp_path, credential(token="first", expirationTimestamp="2030-01-01T00:00:00Z"))
    async with serving(Server()) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"exec": program.section})) as endpoints:
            left = 1893456000 - wall_now() / SECOND
            for ahead, token in ((0.0, "first"), (left - 60, "first"), (55.0, "second")):
                clock(ahead)
                assert (await ask_by_connection(endpoints))["authorization"] == f"Bearer {token}"
                program.says(credential(token="second", expirationTimestamp=LATER))


async def test_a_call_that_was_refused_is_made_again_with_a_new_token(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    program, server = Program(tmp_path, credential(token="old")), Server()
    async with serving(server) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"exec": program.section})) as endpoints:
            await ask_by_call(endpoints)
            program.says(credential(token="new"))
            server.tokens = {"new"}
            clock(5)
            assert (await ask_by_call(endpoints))["authorization"] == "Bearer new"
            assert server.asked == ["Bearer old", "Bearer old", "Bearer new"]


async def test_one_who_is_refused_for_good_is_not_asked_about_again_and_again(tmp_path: Path) -> None:
    program, server = Program(tmp_path, credential(token="bad")), Server()
    server.tokens = set()
    async with serving(server) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"exec": program.section})) as endpoints:
            for _ in range(20):
                assert (await answered(endpoints)).problem == "HTTP 401: Unauthorized"
    assert len(server.asked) == 20
    assert len(program.runs) < 10


@pytest.mark.parametrize(
    ("printed", "section", "says"),
    [
        ("no JSON", {}, "printed no ExecCredential"),
        (credential("client.authentication.k8s.io/v1beta1", token="t"), {}, "the kubeconfig wants .*/v1"),
        (credential(), {}, "neither a token nor a certificate"),
        (credential(clientCertificateData="c"), {}, "both are needed"),
        ("", {"args": ["/nowhere"]}, "ended with 1: .*nowhere"),
        ("", {"command": "/no/plugin", "installHint": "get it there"}, "can't be run: (.|\n)*get it there"),
    ],
)
async def test_a_plugin_that_fails_is_named_with_what_it_said(
    printed: str, section: dict[str, Any], says: str, tmp_path: Path
) -> None:
    program = Program(tmp_path, printed)
    file = kubeconfig(tmp_path, "http://127.0.0.1:1", {"exec": program.section | section})
    with endpoints_of(file) as endpoints:
        answer = await answered(endpoints)
        with pytest.raises(Unreachable):
            await ask_by_call(endpoints)
    assert answer.status == 0
    with pytest.raises(ValueError, match=f"the credential plugin .*{says}"):
        raise ValueError(answer.error)


async def test_a_plugin_that_asks_for_it_is_told_of_the_cluster(tmp_path: Path) -> None:
    program = Program(tmp_path, credential(token="t"))
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "a"}}
    section = program.section | {"provideClusterInfo": True}
    async with serving(Server()) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"exec": section}, extensions=[extension])) as endpoints:
            await ask_by_connection(endpoints)
    assert program.runs[0]["spec"]["cluster"] == {"server": url, "config": {"audience": "a"}}


# --- certificates ----------------------------------------------------------------------------------------------------------


class Authority:
    """A certificate authority, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "openssl.cnf").write_text(
            "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = cluster\n[authority]\n"
            "basicConstraints = critical, CA:true\n[server]\nsubjectAltName = IP:127.0.0.1, DNS:api.cluster\n[client]\n"
        )
        self._sign("authority", "authority", "")
        self.file = folder / "authority.pem"

    def _sign(self, name: str, section: str, options: str) -> None:
        new = "openssl req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        command = f"{new} -extensions {section} -keyout {name}.key -out {name}.pem {options}"
        subprocess.run(command.split(), check=True, capture_output=True, cwd=self._folder)

    def client(self, name: str) -> tuple[Path, Path]:
        self._sign(name, "client", f"-subj /CN={name} -CA authority.pem -CAkey authority.key")
        return self._folder / f"{name}.pem", self._folder / f"{name}.key"

    def serving(self) -> ssl.SSLContext:
        self._sign("server", "server", "-subj /CN=server -CA authority.pem -CAkey authority.key")
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.file))
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.load_cert_chain(self._folder / "server.pem", self._folder / "server.key")
        return tls


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    found = shutil.which("openssl")
    if found is None or b"OpenSSL 3" not in subprocess.run([found, "version"], capture_output=True).stdout:
        pytest.skip("no OpenSSL 3 here to make certificates with")
    return Authority(tmp_path)


async def test_a_client_s_certificate_is_shown_by_all_clients(authority: Authority, tmp_path: Path) -> None:
    authority.client("alice")
    user = {"client-certificate": "alice.pem", "client-key": "alice.key"}
    async with serving(Server(), authority.serving()) as url:
        with endpoints_of(kubeconfig(tmp_path, url, user, **{"certificate-authority": "authority.pem"})) as endpoints:
            for ask in (ask_by_call, ask_by_read, ask_by_connection):
                assert (await ask(endpoints))["certificate"] == ["alice"]


async def test_a_plugin_s_certificate_is_shown_until_the_server_wants_another(
    authority: Authority, tmp_path: Path, clock: Callable[[float], None]
) -> None:
    chains = {name: [file.read_text() for file in authority.client(name)] for name in ("alice", "bob")}
    says = {name: credential(clientCertificateData=c, clientKeyData=k, token=name) for name, (c, k) in chains.items()}
    program, server = Program(tmp_path, says["alice"]), Server()
    cluster = {"certificate-authority": str(authority.file)}
    async with serving(server, authority.serving()) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"exec": program.section}, **cluster)) as endpoints:
            async with Connection(endpoints) as connection:
                assert (await connection.kubernetes("GET", "version")).body["certificate"] == ["alice"]
                program.says(says["bob"])
                server.tokens = {"bob"}
                clock(5)
                assert (await connection.kubernetes("GET", "version")).body["certificate"] == ["bob"]


async def test_whom_to_trust_and_under_which_name_is_the_cluster_s_to_say(authority: Authority, tmp_path: Path) -> None:
    async with serving(Server(), authority.serving()) as url:
        alone = url.replace("127.0.0.1", "localhost")  # a name that the server's certificate doesn't bear
        trusting = {"certificate-authority": str(authority.file)}
        for server, cluster, admitted in (
            (url, {}, False),
            (url, trusting, True),
            (alone, trusting, False),
            (alone, trusting | {"tls-server-name": "api.cluster"}, True),
            (alone, {"insecure-skip-tls-verify": True}, True),
        ):
            with endpoints_of(kubeconfig(tmp_path, server, {"token": "t"}, **cluster)) as endpoints:
                assert (await answered(endpoints)).ok == admitted, cluster


# --- files, proxies, other names -------------------------------------------------------------------------------------------


async def test_a_token_s_file_is_read_again_for_whoever_renews_it(
    tmp_path: Path, clock: Callable[[float], None], authority: Authority
) -> None:
    (tmp_path / "token").write_text("first\n")
    shutil.copy(authority.file, tmp_path / "ca.crt")
    async with serving(Server()) as url:
        file = kubeconfig(tmp_path, url, {"tokenFile": "token", "token": "older"})
        in_pod = Endpoints(
            kubernetes=url,
            namespace="n",
            prometheus="",
            coroot="",
            load_generator="",
            flagd="",
            kubernetes_credentials=account_in_pod(tmp_path, url),
        )
        with endpoints_of(file) as endpoints:
            for token in ("first", "second"):
                (tmp_path / "token").write_text(token)
                for place in (endpoints, in_pod):
                    assert (await ask_by_call(place))["authorization"] == f"Bearer {token}"
                clock(61)
            (tmp_path / "token").unlink()
            assert "the token's file can't be read" in (await answered(endpoints)).error


async def test_calls_go_through_the_proxy_that_the_kubeconfig_names(tmp_path: Path) -> None:
    async with serving(Server()) as proxy:
        file = kubeconfig(tmp_path, "http://api.invalid", {"token": "t"}, **{"proxy-url": proxy})
        with endpoints_of(file) as endpoints:
            for ask in (ask_by_call, ask_by_read, ask_by_connection):
                assert (await ask(endpoints))["host"] == "api.invalid"


@pytest.mark.parametrize(
    ("server", "left_out", "through"),
    [
        ("https://api.corp:6443", "", True),
        ("https://api.corp:6443", "corp", False),
        ("https://api.corp:6443", ".corp", False),
        ("https://api.corp:6443", "*.corp:6443", False),
        ("https://api.corp:6443", "corp:80", True),
        ("https://corp", ".corp", True),
        ("https://corporate", "corp", True),
        ("https://10.2.3.4:6443", "other, 10.0.0.0/8", False),
        ("https://11.2.3.4:6443", "10.0.0.0/8", True),
        ("https://api.corp:6443", "*", False),
        ("https://127.0.0.1:6443", "", False),
        ("https://[::1]:6443", "", False),
        ("https://localhost:6443", "", False),
        ("http://api.corp", "", False),
    ],
)
def test_the_environment_s_proxy_is_for_what_it_leaves_in(
    server: str, left_out: str, through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", left_out)
    assert proxy_for(server) == ("http://proxy:3128" if through else "")
    assert proxy_for(server, "http://named:1") == "http://named:1"


async def test_who_acts_as_another_says_so_in_each_call(tmp_path: Path) -> None:
    async with serving(Server()) as url:
        file = kubeconfig(tmp_path, url, {"token": "t", "as": "bob", "as-groups": ["one", "two"]})
        with endpoints_of(file) as endpoints:
            told = await ask_by_call(endpoints)
    assert (told["Impersonate-User"], told["Impersonate-Group"]) == (["bob"], ["one", "two"])


async def test_credentials_go_to_the_api_server_alone(tmp_path: Path) -> None:
    elsewhere = Server()
    async with serving(Server()) as url, serving(elsewhere) as service:
        with endpoints_of(kubeconfig(tmp_path, url, {"token": "t"})) as endpoints:
            async with Connection(endpoints) as connection:
                assert (await connection.service("", "prometheus:9090", "api")).body["authorization"] == "Bearer t"
                assert (await connection.service(service, "prometheus:9090", "api")).body["authorization"] == ""
    assert elsewhere.asked == [""]


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        ({"username": "u", "password": "p"}, {}, "has a password"),
        ({"auth-provider": {"name": "gcp"}}, {}, "has an auth-provider"),
        ({"token": "t", "as": "b", "as-user-extra": {"a": ["b"]}}, {}, "has as-user-extra"),
        ({"client-certificate-data": "eA=="}, {}, "both are needed"),
        ({"client-certificate": "nowhere", "client-key": "k"}, {}, "isn't there: .*nowhere"),
        ({"exec": {"apiVersion": V1, "command": "p", "interactiveMode": "Always"}}, {}, "wants a terminal"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "p"}}, {}, "v1alpha1"),
        ({"token": "t"}, {"certificate-authority-data": "eA=="}, "authority can't be read"),
        ({"token": "t"}, {"proxy-url": "socks5://here:1080"}, "only HTTP proxies"),
        ({"token": "t"}, {"server": 7}, "cluster 'c': Expected `str`"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_sentence(
    user: dict[str, Any], cluster: dict[str, Any], says: str, tmp_path: Path
) -> None:
    file = kubeconfig(tmp_path, **{"server": "https://127.0.0.1:1", "user": user, **cluster})
    with pytest.raises(UsageError, match=says), endpoints_of(file):
        pass


# --- too many calls --------------------------------------------------------------------------------------------------------


async def test_calls_beyond_the_allowance_wait_in_the_order_in_which_they_came() -> None:
    allowance, done = Allowance(per_second=500, at_once=5), list[int]()

    async def call(number: int) -> None:
        await allowance.take()
        done.append(number)

    began = wall_timer()
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(call, number)
    assert wall_timer() - began >= 25 / 500
    assert done == sorted(done)


async def test_a_busy_server_is_asked_again_and_given_up_in_the_end(tmp_path: Path) -> None:
    server = Server()
    async with serving(server) as url:
        with endpoints_of(kubeconfig(tmp_path, url, {"token": "t"})) as endpoints:
            server.busy = ["0", "0"]
            assert (await answered(endpoints)).ok
            assert len(server.asked) == 3
            server.busy = ["0"] * 10
            assert (await answered(endpoints)).status == 429
            assert len(server.asked) < 10
