"""A real API server with its store and its controllers, on this machine, and nothing else: no node, no scheduler, no network.

In: a folder with the programs `etcd`, `kube-apiserver` and `kube-controller-manager` (`OCG_KUBE_BINARIES`). Out: a `Server` that answers,
with an admin's token, alive until the context is left.

Only those controllers run that act on what the gym touches. The one that removes pods from vanished nodes is not among them: pods are
bound to a node that exists in name only.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import anyio
import msgspec
import yaml

__all__ = ("BINARIES", "PROGRAMS", "Server", "missing_programs", "open_server", "start_etcd")

BINARIES = "OCG_KUBE_BINARIES"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
START_SECONDS = 180.0
_CONTROLLERS = (
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "endpoints-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "namespace-controller",
    "replicaset-controller",
    "serviceaccount-controller",
)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An API server that answers."""

    url: str
    token: str  #: of a member of system:masters
    authority: Path
    folder: Path  #: logs of all programs lie there, too
    etcd: str  #: URL

    def kubeconfig(self, path: Path, *, namespace: str) -> Path:
        """Write a kubeconfig for the admin."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "bare",
            "contexts": [{"name": "bare", "context": {"cluster": "bare", "user": "admin", "namespace": namespace}}],
            "clusters": [
                {"name": "bare", "cluster": {"server": self.url, "certificate-authority": str(self.authority)}}
            ],
            "users": [{"name": "admin", "user": {"token": self.token}}],
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(document))
        return path


def missing_programs() -> str:
    """Return why no API server can be started here; empty: one can."""
    folder = os.environ.get(BINARIES, "")
    if not folder:
        return f"{BINARIES} doesn't name a folder with {', '.join(PROGRAMS)}"
    missing = [name for name in PROGRAMS if not os.access(Path(folder) / name, os.X_OK)]
    if missing:
        return f"{BINARIES}={folder}: no {', '.join(missing)} there"
    return "" if shutil.which("openssl") else "no openssl here to make keys with"


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _running(name: str, arguments: list[str], folder: Path) -> AsyncIterator[None]:
    program = Path(os.environ[BINARIES]) / name
    with (folder / f"{name}.log").open("ab") as log:
        process = await anyio.open_process([str(program), *arguments], stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                with anyio.move_on_after(10):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


@asynccontextmanager
async def start_etcd(folder: Path) -> AsyncIterator[str]:
    """Run an etcd; yield its URL."""
    url, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    arguments = [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=default={peers}",
        "--unsafe-no-fsync",
    ]
    async with _running("etcd", arguments, folder):
        yield url


@asynccontextmanager
async def serve_api(folder: Path, etcd: str, port: int, token: str) -> AsyncIterator[Server]:
    """Run an API server on a store; yield it once it is ready.

    Raises: TimeoutError: it isn't within three minutes.
    """
    key = folder / "accounts.key"
    if not key.exists():
        await anyio.run_process(["openssl", "genrsa", "-out", str(key), "2048"])
    (folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    url = f"https://127.0.0.1:{port}"
    arguments = [
        f"--etcd-servers={etcd}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={folder}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
        f"--service-account-issuer={url}",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--disable-admission-plugins=ServiceAccount",  # no tokens are mounted where nothing runs
        "--endpoint-reconciler-type=none",
        "--allow-privileged=true",
    ]
    server = Server(url=url, token=token, authority=folder / "apiserver.crt", folder=folder, etcd=etcd)
    async with _running("kube-apiserver", arguments, folder):
        with anyio.fail_after(START_SECONDS):
            while not await _is_ready(server):  # noqa: ASYNC110 - a server that starts tells nobody
                await anyio.sleep(0.5)
        yield server


async def _is_ready(server: Server) -> bool:
    if not server.authority.exists():
        return False
    tls = ssl.create_default_context(cafile=str(server.authority))
    headers = {"Authorization": f"Bearer {server.token}"}
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.get(f"{server.url}/readyz", ssl=tls) as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, OSError):
        return False


@asynccontextmanager
async def open_server(folder: Path) -> AsyncIterator[Server]:
    """Run all three programs in a folder; yield the API server once it is ready."""
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(start_etcd(folder))
        server = await stack.enter_async_context(serve_api(folder, etcd, free_port(), secrets.token_hex(16)))
        kubeconfig = server.kubeconfig(folder / "controllers.kubeconfig", namespace="default")
        arguments = [
            f"--kubeconfig={kubeconfig}",
            f"--controllers={','.join(_CONTROLLERS)}",
            f"--service-account-private-key-file={folder / 'accounts.key'}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={free_port()}",
            f"--cert-dir={folder}",
        ]
        await stack.enter_async_context(_running("kube-controller-manager", arguments, folder))
        yield server
