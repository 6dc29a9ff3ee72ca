"""JetStream as the log needs it: pipelined publishes, batched reads, streams; the only module that knows the NATS client.

In: a broker. Out: answers, or one of two failures: `Refused` (the server said no, and why) and `Unanswered` (nobody knows what
the server did). Telling the two apart is what the log's durability rests on, so it is done here, once.

Why not the client's own JetStream layer: it leaves requests waiting for their time-out when a connection closes, reconnects to
addresses that an embedded server's successor doesn't have, and has no batched read. All requests here share one inbox; when the
connection closes, all of them fail at once; the next request locates the broker anew.

Upstream: `engine.broker`. Downstream: `engine.log` gives the messages their meaning.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.errors import BrokerError

__all__ = (
    "STREAM_NOT_FOUND",
    "WRONG_LAST_SEQUENCE",
    "JetStream",
    "Outgoing",
    "Refused",
    "Stored",
    "StreamConfig",
    "StreamInfo",
    "Unanswered",
)

ANSWER_SECONDS = 5.0  #: until a request counts as unanswered
RETRY_SECONDS = 20.0  #: until a harmless request is given up; longer than a take-over of the embedded broker
CONNECT_SECONDS = 3.0
PAUSE_SECONDS = 0.05  #: between attempts
BATCH_BYTES = 8 * 1024 * 1024  #: of one batched read; far below what the client buffers
API = "$JS.API"

WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
_JETSTREAM_DISABLED = (10039, 10076)

T = TypeVar("T")


class Unanswered(Exception):
    """Raised when the connection broke or no answer came: the server may or may not have done what was asked."""


class Refused(Exception):
    """Raised when the server answered that it won't; `code` is JetStream's error code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code, self.description = code, description


class Outgoing(msgspec.Struct, frozen=True):
    """A message to publish, fenced: it is stored only if the stream's last sequence is `expected_last`."""

    subject: str
    headers: dict[str, str]
    body: bytes
    expected_last: int


class Stored(msgspec.Struct, frozen=True):
    """A message as a stream holds it, without the headers that NATS itself added."""

    sequence: int
    subject: str
    headers: dict[str, str]
    body: bytes


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A stream that only grows: file storage, nothing expires, no message can be deleted."""

    name: str
    subjects: tuple[str, ...]
    num_replicas: int
    metadata: dict[str, str] = {}
    storage: str = "file"
    retention: str = "limits"
    discard: str = "new"
    max_msgs: int = -1
    max_bytes: int = -1
    max_age: int = 0
    deny_delete: bool = True
    deny_purge: bool = True
    allow_direct: bool = True


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream's name and how much is in it."""

    name: str
    messages: int
    bytes: int
    last_sequence: int
    metadata: dict[str, str]


class JetStream:
    """A connection that outlives its server; an async context manager.

    Raises on entering: BrokerError: no server answers, or it has no JetStream.
    """

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self._session: _Session | None = None
        self._connecting = anyio.Lock()  # tasks that find the connection closed make one new one between them

    async def __aenter__(self) -> JetStream:
        """Connect, and check that JetStream is there."""
        session = await self._connected()
        try:
            await session.call("INFO", {})
        except (Refused, Unanswered) as error:
            await self._close()
            if isinstance(error, Refused) and error.code not in _JETSTREAM_DISABLED:
                raise BrokerError(f"the NATS server at {self.broker.url} refuses to serve: {error}") from error
            raise BrokerError(
                f"the NATS server at {self.broker.url} has no JetStream for this account\n"
                "  start it with `-js`, or enable JetStream in its configuration"
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        with anyio.CancelScope(shield=True):
            await self._close()

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _connected(self) -> _Session:
        async with self._connecting:
            if self._session is not None and self._session.is_open:
                return self._session
            reconnecting = self._session is not None
            await self._close()
            deadline = anyio.current_time() + RETRY_SECONDS
            while True:
                url = await self.broker.locate()
                try:
                    self._session = await _Session.open(url, self.broker)
                    return self._session
                except BrokerError:
                    # At the start a wrong URL must be told at once; later, and for a server of ours, it may be coming back.
                    if not (reconnecting or self.broker.owner) or anyio.current_time() > deadline:
                        raise
                await anyio.sleep(PAUSE_SECONDS)

    # --- writing -------------------------------------------------------------------------------------------------------

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[int | Refused | Unanswered]:
        """Publish all messages before awaiting any answer; return for each its sequence or what went wrong."""
        try:
            session = await self._connected()
            return await session.publish_all(messages)
        except Unanswered as error:
            return [error] * len(messages)

    async def publish(self, subject: str, body: bytes) -> None:
        """Publish to whoever listens now; nothing is stored, nothing is awaited."""
        session = await self._connected()
        with contextlib.suppress(nats.errors.Error):  # a view that nobody can see is no loss
            await session.client.publish(subject, body)

    # --- reading -------------------------------------------------------------------------------------------------------

    async def stored(self, stream: str, sequence: int) -> Stored:
        """Return one message, by the word of the stream's leader.

        Raises: Refused: there is none; Unanswered.
        """
        answer = await self._call(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        message = answer["message"]
        return Stored(
            message["seq"],
            message["subject"],
            _headers(base64.b64decode(message.get("hdrs", ""))),
            base64.b64decode(message.get("data", "")),
        )

    async def batch(self, stream: str, start: int, count: int) -> list[Stored]:
        """Return up to `count` messages from sequence `start` on, as many as fit into one batch; none at the end of the stream.

        Raises: Unanswered.
        """
        question = msgspec.json.encode({"seq": start, "batch": count, "max_bytes": BATCH_BYTES})
        return await self._retry(lambda session: session.collect(f"{API}.DIRECT.GET.{stream}", question))

    @asynccontextmanager
    async def listening(self, subject: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Yield a wait that returns when something was published on `subject` since it last returned.

        Raises in the wait: Unanswered: the connection broke; listen anew.
        """
        session = await self._connected()
        heard = asyncio.Event()

        async def hear(_message: Msg) -> None:
            heard.set()

        async def wait() -> None:
            await heard.wait()
            if not session.is_open:
                raise Unanswered("the connection closed")
            heard.clear()

        session.listeners.append(heard)
        try:
            subscription = await session.client.subscribe(subject, cb=hear)
        except nats.errors.Error as error:
            session.listeners.remove(heard)
            raise Unanswered(str(error)) from error
        try:
            yield wait
        finally:
            session.listeners.remove(heard)
            with anyio.CancelScope(shield=True), contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    # --- streams -------------------------------------------------------------------------------------------------------

    async def add_stream(self, config: StreamConfig) -> StreamInfo:
        """Make a stream; one that exists with the same configuration is returned as it is.

        Raises: Refused; Unanswered.
        """
        return _stream_info(await self._call(f"STREAM.CREATE.{config.name}", msgspec.to_builtins(config)))

    async def stream(self, name: str) -> StreamInfo:
        """Return the state of a stream.

        Raises: Refused: there is none; Unanswered.
        """
        return _stream_info(await self._call(f"STREAM.INFO.{name}", {}))

    async def streams(self, prefix: str) -> list[StreamInfo]:
        """Return all streams whose names begin with `prefix`, by name.

        Raises: Unanswered.
        """
        found: list[StreamInfo] = []
        offset = 0
        while True:
            page = await self._call("STREAM.LIST", {"offset": offset})
            streams = page.get("streams") or []
            found += [_stream_info(stream) for stream in streams if stream["config"]["name"].startswith(prefix)]
            offset += len(streams)
            if not streams or offset >= page["total"]:
                return sorted(found, key=lambda stream: stream.name)

    async def delete_stream(self, name: str) -> None:
        """Drop a stream with all that is in it; one that isn't there is no error.

        Raises: Refused; Unanswered.
        """
        try:
            await self._call(f"STREAM.DELETE.{name}", {})
        except Refused as error:
            if error.code != STREAM_NOT_FOUND:
                raise

    async def _call(self, method: str, question: Any) -> dict[str, Any]:
        return await self._retry(lambda session: session.call(method, question))

    async def _retry(self, ask: Callable[[_Session], Awaitable[T]]) -> T:
        """Ask a harmless question until it is answered or `RETRY_SECONDS` are over."""
        deadline = anyio.current_time() + RETRY_SECONDS
        while True:
            try:
                return await ask(await self._connected())
            except Unanswered:
                if anyio.current_time() > deadline:
                    raise
            await anyio.sleep(PAUSE_SECONDS)


class _Session:
    """One connection to one server: an inbox for all answers, and the futures that wait for them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._inbox = client.new_inbox()
        self.listeners: list[asyncio.Event] = []  #: set when the connection closes
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0

    @classmethod
    async def open(cls, url: str, broker: Broker) -> _Session:
        """Connect to the first server of `url` that answers.

        Raises: BrokerError: none does; says why.
        """
        failures = []
        for server in url.split(","):
            try:
                _check_url(server)
                return await cls._connect(server.strip(), broker)
            except (OSError, ValueError, TimeoutError, nats.errors.Error) as error:
                failures.append(_connect_failure(server, error))
        raise BrokerError("\n".join(failures))

    @classmethod
    async def _connect(cls, server: str, broker: Broker) -> _Session:
        if broker.credentials_file is not None:
            broker.credentials_file.open("rb").close()  # named in the error if it can't be read
        client = Client()
        session: _Session | None = None
        causes: list[Exception] = []

        async def note(cause: Exception) -> None:
            causes.append(cause)

        async def closed() -> None:
            if session is not None:
                session.fail()

        try:
            with anyio.fail_after(CONNECT_SECONDS):
                await client.connect(
                    server,
                    name="otel-control-gym",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # at connecting, too; with none it would try for two minutes
                    reconnect_time_wait=0,
                    error_cb=note,
                    closed_cb=closed,
                    tls=_tls(broker),
                    user_credentials=None if broker.credentials_file is None else str(broker.credentials_file),
                )
                session = cls(client)
                await client.subscribe(f"{session._inbox}.*", cb=session._deliver)
        except nats.errors.NoServersError as error:
            raise (causes[-1] if causes else error) from error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await client.close()
            raise
        return session

    @property
    def is_open(self) -> bool:
        return self.client.is_connected

    async def close(self) -> None:
        if not self.client.is_closed:
            await self.client.close()
        self.fail()

    def fail(self) -> None:
        """Tell everybody who waits that no answer will come."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(Unanswered("the connection to the NATS server closed"))
                waiting.answer.exception()  # one that nobody awaits any more is no complaint
        self._waiting.clear()
        for listener in self.listeners:
            listener.set()

    async def call(self, method: str, question: Any) -> dict[str, Any]:
        """Return the answer of JetStream's API.

        Raises: Refused, Unanswered.
        """
        (message,) = await self._ask(f"{API}.{method}", msgspec.json.encode(question), many=False)
        return _answer(message)

    async def collect(self, subject: str, question: bytes) -> list[Stored]:
        """Return the messages of a batched direct get."""
        found = await self._ask(subject, question, many=True)
        return [
            Stored(
                int(message.headers["Nats-Sequence"]),
                message.headers["Nats-Subject"],
                _own(message.headers),
                message.data,
            )
            for message in found
            if message.headers is not None
        ]

    async def _ask(self, subject: str, question: bytes, *, many: bool) -> list[Msg]:
        token, waiting = self._expect(many=many)
        try:
            await self.client.publish(subject, question, reply=f"{self._inbox}.{token}")
            with anyio.fail_after(ANSWER_SECONDS):
                return await waiting.answer
        except (nats.errors.Error, TimeoutError) as error:
            raise Unanswered(f"no answer on {subject}: {error}") from error
        finally:
            self._waiting.pop(token, None)

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[int | Refused | Unanswered]:
        """See `JetStream.publish_all`."""
        largest = max(messages, key=_size)
        if _size(largest) > self.client.max_payload:
            # The server would answer with the end of the connection, again at each attempt.
            return [Refused(0, f"it takes {self.client.max_payload} bytes in a message, not {_size(largest)}")] * len(
                messages
            )
        expected = [self._expect(many=False) for _ in messages]
        try:
            with anyio.move_on_after(ANSWER_SECONDS), contextlib.suppress(nats.errors.Error):
                for message, (token, _) in zip(messages, expected, strict=True):
                    await self.client.publish(
                        message.subject,
                        message.body,
                        reply=f"{self._inbox}.{token}",
                        headers=message.headers | {"Nats-Expected-Last-Sequence": str(message.expected_last)},
                    )
                await asyncio.wait([waiting.answer for _, waiting in expected])
            return [waiting.outcome() for _, waiting in expected]
        finally:
            for token, _ in expected:
                self._waiting.pop(token, None)

    def _expect(self, *, many: bool) -> tuple[str, _Waiting]:
        self._count += 1
        token = str(self._count)
        waiting = self._waiting[token] = _Waiting(many=many)
        return token, waiting

    async def _deliver(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject.rpartition(".")[2])
        if waiting is not None:
            waiting.deliver(message)


class _Waiting:
    """Messages that answer one question: one, or many up to an end mark."""

    def __init__(self, *, many: bool) -> None:
        self.answer: asyncio.Future[list[Msg]] = asyncio.get_running_loop().create_future()
        self._many = many
        self._messages: list[Msg] = []

    def deliver(self, message: Msg) -> None:
        if self.answer.done():
            return
        status = (message.headers or {}).get("Status")
        if status == "503":
            self.answer.set_exception(Unanswered("no server is responsible for the stream now"))
        elif self._many and status is None:
            self._messages.append(message)
        else:
            # With many: 204 is the end of a batch, 404 says that there is nothing from here on.
            self.answer.set_result(self._messages if self._many else [message])

    def outcome(self) -> int | Refused | Unanswered:
        """Return what became of a publish."""
        if not self.answer.done():
            return Unanswered("no answer in time")
        error = self.answer.exception()
        if error is not None:
            return error if isinstance(error, Unanswered) else Unanswered(str(error))
        try:
            return int(_answer(self.answer.result()[0])["seq"])
        except Refused as refusal:
            return refusal


def _size(message: Outgoing) -> int:
    """Return what the server counts, with some room for what the protocol adds."""
    return len(message.body) + sum(len(name) + len(value) + 4 for name, value in message.headers.items()) + 64


def _answer(message: Msg) -> dict[str, Any]:
    answer = msgspec.json.decode(message.data, type=dict[str, Any])
    if "error" in answer:
        raise Refused(answer["error"].get("err_code", 0), answer["error"].get("description", ""))
    return answer


def _own(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if not name.startswith("Nats-")}


def _headers(block: bytes) -> dict[str, str]:
    """Return the headers of a raw block, `NATS/1.0` and then a line each."""
    lines = block.decode().split("\r\n")[1:]
    return _own({name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)})


def _stream_info(answer: dict[str, Any]) -> StreamInfo:
    state, config = answer["state"], answer["config"]
    return StreamInfo(
        config["name"], state["messages"], state["bytes"], state["last_seq"], dict(config.get("metadata") or {})
    )


def _check_url(server: str) -> None:
    parts = urlsplit(server.strip())
    if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname or parts.port == 0:
        raise ValueError("that is no URL of a NATS server; one looks like nats://host:4222")


def _tls(broker: Broker) -> ssl.SSLContext | None:
    return None if broker.tls_ca_file is None else ssl.create_default_context(cafile=str(broker.tls_ca_file))


def _connect_failure(server: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        why = f"something is there but says nothing like a NATS server within {CONNECT_SECONDS:g} s; is it another program's port?"
    elif isinstance(error, ConnectionRefusedError):
        why = "nothing listens there"
    else:
        why = str(error) or type(error).__name__
    return f"the NATS server at {server} can't be used: {why}\n  start it, correct `--nats`, or leave `--nats` out for an embedded one"
