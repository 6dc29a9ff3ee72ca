"""Who runs the NATS server that holds the log: a server of our own, found or started; or one at a URL.

In: a data directory or a URL. Out: a `Broker`, whose `locate` always leads to a server that answers.

The embedded server lives as long as the process that started it (the owner). Others on the same data directory attach
through the endpoint file. There is no election protocol: the server holds the store's lock while it lives, so whoever
finds the lock free may start the next one, and the others find that one's endpoint. `locate` does this: it is called
before each connection, so when an owner leaves, in order or by SIGKILL, the first attached process that notices its broken
connection takes over within some 100 ms, and the rest follow. Acknowledged messages are on disk; one that wasn't
acknowledged is settled by the log's read-back (`engine.log`).

Upstream: `engine.nats_server`. Downstream: `engine.jetstream` connects.
"""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from otel_control_gym.engine.errors import BrokerError
from otel_control_gym.engine.nats_server import Endpoint, NatsServer, ServerKilled, answers, space_shortage

__all__ = ("Broker", "EmbeddedBroker", "RemoteBroker", "open_broker")

LOCATE_SECONDS = 20.0  #: until a server whose lock is held must answer
POLL_SECONDS = 0.02
MESSAGE_BYTES = 2**20  #: the largest message; less free space means that an append may never be answered


class Broker(ABC):
    """A NATS server with JetStream, and how to reach it."""

    def __init__(
        self, *, credentials_file: Path | None = None, tls_ca_file: Path | None = None, replicas: int = 1
    ) -> None:
        self.credentials_file = credentials_file
        self.tls_ca_file = tls_ca_file
        self.replicas = replicas

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the server was when it was last located; several URLs of a cluster are separated by commas."""

    @property
    @abstractmethod
    def owner(self) -> bool:
        """Whether this process runs the server."""

    @property
    @abstractmethod
    def comes_back(self) -> bool:
        """Whether a server that doesn't answer now is started anew by somebody who was told to `locate` it."""

    @abstractmethod
    async def locate(self) -> str:
        """Return the URL of a server that answers.

        Raises: BrokerError: there is none, and none can be started.
        """

    @abstractmethod
    def trouble(self) -> str | None:
        """Return why the server can't store anything now, if that can be seen from here: it doesn't answer then."""


class RemoteBroker(Broker):
    """A server that somebody else runs."""

    def __init__(
        self, url: str, *, credentials_file: Path | None = None, tls_ca_file: Path | None = None, replicas: int = 1
    ) -> None:
        super().__init__(credentials_file=credentials_file, tls_ca_file=tls_ca_file, replicas=replicas)
        self._url = url

    @property
    def url(self) -> str:
        """The URL as it was given."""
        return self._url

    @property
    def owner(self) -> bool:
        """Always false."""
        return False

    @property
    def comes_back(self) -> bool:
        """Nobody here starts it."""
        return False

    async def locate(self) -> str:
        """Return the URL; whether the server answers is for the connection to find out."""
        await anyio.lowlevel.checkpoint()
        return self._url

    def trouble(self) -> None:
        """Nothing can be seen from here."""
        return


class EmbeddedBroker(Broker):
    """The server of a data directory, run by this process or another one."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory
        self._file = directory / "endpoint.json"
        self._server: NatsServer | None = None
        self._endpoint: Endpoint | None = None
        self._locating = anyio.Lock()  # one task of this process starts a server, the others wait for it

    @property
    def url(self) -> str:
        """Where the server was when it was last located."""
        return self._endpoint.url if self._endpoint is not None else ""

    @property
    def owner(self) -> bool:
        """Whether the server is a child of this process."""
        return self._server is not None and self._server.is_running

    @property
    def comes_back(self) -> bool:
        """Whoever locates it next starts it, also where it was killed by itself."""
        return True

    async def locate(self) -> str:
        """Return the URL of the directory's server; start one if there is none."""
        async with self._locating:
            deadline = anyio.current_time() + LOCATE_SECONDS
            while anyio.current_time() < deadline:
                with contextlib.suppress(ServerKilled):
                    endpoint = await self._own_or_start() or await self._attach()
                    if endpoint is not None:
                        self._endpoint = endpoint
                        return endpoint.url
                await anyio.sleep(POLL_SECONDS)
        raise BrokerError(
            f"another process holds the broker of {self._directory} but no server answers there\n"
            f"  {self._file} names it; end that process, or use another `--data-dir`"
        )

    async def _own_or_start(self) -> Endpoint | None:
        if self._server is not None:
            if self._server.is_running:
                return self._server.endpoint
            await self._server.stop()
            self._server = None
        self._server = await NatsServer.start_if_free(self._directory)
        if self._server is None:
            return None
        await self._publish(self._server.endpoint)
        return self._server.endpoint

    async def _publish(self, endpoint: Endpoint) -> None:
        draft = self._file.with_suffix(f".{os.getpid()}")
        try:
            draft.write_bytes(msgspec.json.encode(endpoint))
            draft.replace(self._file)
        except OSError as error:
            await self.close()
            raise BrokerError(f"{self._file} can't be written: {error}") from error

    async def _attach(self) -> Endpoint | None:
        try:
            endpoint = msgspec.json.decode(self._file.read_bytes(), type=Endpoint)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return endpoint if await answers(endpoint) else None

    def trouble(self) -> str | None:
        """Return a complaint if the disk is full."""
        return space_shortage(self._directory, MESSAGE_BYTES)

    async def close(self) -> None:
        """Stop the server if it is ours; attached processes then start their own."""
        if self._server is not None:
            await self._server.stop()
            self._server = None


@asynccontextmanager
async def open_broker(
    data_dir: Path,
    *,
    url: str | None = None,
    credentials_file: Path | None = None,
    tls_ca_file: Path | None = None,
    replicas: int = 1,
) -> AsyncIterator[Broker]:
    """Open the embedded broker of a data directory, or the one at `url`; the embedded one is stopped on exit if it is ours.

    `replicas` is what streams ask of a cluster; the embedded broker has one.

    Raises: BrokerError: the server can't be started or reached; says why.
    """
    if url is not None:
        yield RemoteBroker(url, credentials_file=credentials_file, tls_ca_file=tls_ca_file, replicas=replicas)
        return
    broker = EmbeddedBroker(data_dir / "nats")
    await broker.locate()
    try:
        yield broker
    finally:
        with anyio.CancelScope(shield=True):
            await broker.close()
