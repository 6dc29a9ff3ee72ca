"""One connection to one NATS server: an inbox for all answers, futures that wait for them; the only module with the NATS client.

In: questions and messages. Out: answers, or one of two failures: `Refused` (the server said no, and why) and `Unanswered` (nobody
knows what the server did). Telling the two apart is what the log's durability rests on, so it is done here, once.

Why not the client's own JetStream layer: it leaves requests waiting for their time-out when a connection closes, reconnects to
addresses that an embedded server's successor doesn't have, and has no batched read. Here all requests share one inbox, and all of
them fail at once when the connection closes.

Upstream: `engine.broker`. Downstream: `engine.jetstream` makes a connection of sessions that outlives its server.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.errors import BrokerError

__all__ = ("API", "Delivered", "Outgoing", "Refused", "Session", "Stored", "Unanswered", "own_headers")

ANSWER_SECONDS = 5.0  #: until a request counts as unanswered
CONNECT_SECONDS = 3.0
API = "$JS.API"
_TIMED_OUT = "408"  #: a pull request expired
_ENDS = ("204", "404")  #: the end of a batch; nothing there from the asked sequence on


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


class Delivered(msgspec.Struct, frozen=True):
    """A message that a consumer was given, until it says what became of it."""

    subject: str
    body: bytes
    reply: str  #: where to say it


class Session:
    """An open connection; made by `open`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._listeners: list[asyncio.Event] = []  #: set when the connection closes
        self._waiting: dict[str, _Waiting] = {}
        self._count = 0

    @classmethod
    async def open(cls, url: str, broker: Broker) -> Session:
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
    async def _connect(cls, server: str, broker: Broker) -> Session:
        if broker.credentials_file is not None:
            broker.credentials_file.open("rb").close()  # named in the error if it can't be read
        client = Client()
        session: Session | None = None
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
        """False once the server or somebody here has closed the connection."""
        return self._client.is_connected

    async def close(self) -> None:
        """Close the connection; whoever waits for an answer is told."""
        if not self._client.is_closed:
            await self._client.close()
        self.fail()

    def fail(self) -> None:
        """Tell everybody who waits that no answer will come."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(Unanswered("the connection to the NATS server closed"))
                waiting.answer.exception()  # one that nobody awaits any more is no complaint
        self._waiting.clear()
        for listener in self._listeners:
            listener.set()

    async def call(self, method: str, question: Any) -> dict[str, Any]:
        """Return the answer of JetStream's API.

        Raises: Refused, Unanswered.
        """
        (message,) = await self._ask(f"{API}.{method}", msgspec.json.encode(question), many=False)
        return _answer(message)

    async def collect(self, subject: str, question: bytes) -> list[Stored]:
        """Return the messages of a batched direct get.

        Raises: Unanswered.
        """
        found = await self._ask(subject, question, many=True)
        return [
            Stored(
                int(message.headers["Nats-Sequence"]),
                message.headers["Nats-Subject"],
                own_headers(message.headers),
                message.data,
            )
            for message in found
            if message.headers is not None
        ]

    async def _ask(self, subject: str, question: bytes, *, many: bool) -> list[Msg]:
        token, waiting = self._expect(many=many)
        try:
            await self._client.publish(subject, question, reply=f"{self._inbox}.{token}")
            with anyio.fail_after(ANSWER_SECONDS):
                return await waiting.answer
        except (nats.errors.Error, OSError) as error:  # a TimeoutError is an OSError
            raise Unanswered(f"no answer on {subject}: {error}") from error
        finally:
            self._waiting.pop(token, None)

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[int | Refused | Unanswered]:
        """Publish all messages before awaiting any answer; return for each its sequence or what went wrong."""
        largest = max(messages, key=_size)
        if _size(largest) > self._client.max_payload:
            # The server would answer with the end of the connection, again at each attempt.
            refusal = Refused(0, f"it takes {self._client.max_payload} bytes in a message, not {_size(largest)}")
            return [refusal] * len(messages)
        expected = [self._expect(many=False) for _ in messages]
        try:
            with anyio.move_on_after(ANSWER_SECONDS), contextlib.suppress(nats.errors.Error, OSError):
                for message, (token, _) in zip(messages, expected, strict=True):
                    await self._client.publish(
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

    async def store(self, subject: str, headers: dict[str, str], body: bytes) -> int:
        """Publish one message for a stream and return its sequence.

        Raises: Refused, Unanswered.
        """
        token, waiting = self._expect(many=False)
        try:
            await self._client.publish(subject, body, reply=f"{self._inbox}.{token}", headers=headers)
            with anyio.fail_after(ANSWER_SECONDS):
                return int(_answer((await waiting.answer)[0])["seq"])
        except (nats.errors.Error, OSError) as error:
            raise Unanswered(f"no answer on {subject}: {error}") from error
        finally:
            self._waiting.pop(token, None)

    async def next_message(self, stream: str, consumer: str, seconds: float) -> Delivered | None:
        """Return the next message of a pull consumer; None if none came within `seconds`.

        It comes under the subject that it was stored under, so each question has a subscription of its own.

        Raises: Unanswered.
        """
        question = msgspec.json.encode({"batch": 1, "expires": round(seconds * 1e9)})
        token, waiting = self._expect(many=False)
        reply = f"{self._inbox}.pull.{token}"

        async def take(message: Msg) -> None:
            if not waiting.answer.done():  # whatever it is, a status included
                waiting.answer.set_result([message])

        try:
            subscription = await self._client.subscribe(reply, cb=take, max_msgs=1)
            try:
                await self._client.publish(f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}", question, reply=reply)
                with anyio.fail_after(seconds + ANSWER_SECONDS):
                    message = (await waiting.answer)[0]
            finally:
                with anyio.CancelScope(shield=True), contextlib.suppress(nats.errors.Error, OSError):
                    await subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise Unanswered(f"the queue {stream} doesn't answer: {error}") from error
        finally:
            self._waiting.pop(token, None)
        status = (message.headers or {}).get("Status")
        if status in (_TIMED_OUT, *_ENDS):
            return None
        if status is not None:
            raise Unanswered(f"the queue {stream}: {(message.headers or {}).get('Description', '')} ({status})")
        return Delivered(message.subject, message.data, message.reply)

    async def publish(self, subject: str, body: bytes) -> None:
        """Publish to whoever listens now; without a connection to nobody."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._client.publish(subject, body)

    @asynccontextmanager
    async def listening(self, subject: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """See `JetStream.listening`."""
        heard = asyncio.Event()

        async def hear(_message: Msg) -> None:
            heard.set()

        async def wait() -> None:
            await heard.wait()
            if not self.is_open:
                raise Unanswered("the connection closed")
            heard.clear()

        try:
            subscription = await self._client.subscribe(subject, cb=hear)
        except (nats.errors.Error, OSError) as error:
            raise Unanswered(str(error)) from error
        self._listeners.append(heard)
        try:
            yield wait
        finally:
            self._listeners.remove(heard)
            with anyio.CancelScope(shield=True), contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def request(self, subject: str, body: bytes, seconds: float) -> bytes:
        """Return what somebody who serves a subject answers.

        Raises: Unanswered: nobody serves it, or no answer came in time.
        """
        token, waiting = self._expect(many=False)
        try:
            await self._client.publish(subject, body, reply=f"{self._inbox}.{token}")
            with anyio.fail_after(seconds):
                return bytes((await waiting.answer)[0].data)
        except (nats.errors.Error, OSError) as error:
            raise Unanswered(f"no answer on {subject}: {error}") from error
        finally:
            self._waiting.pop(token, None)

    @asynccontextmanager
    async def serving(
        self, subject: str, handle: Callable[[bytes], Awaitable[bytes]]
    ) -> AsyncIterator[Callable[[], Awaitable[None]]]:
        """Answer requests on a subject, one after the other; yields a wait for the end of the connection.

        Raises: Unanswered: the connection broke. Refused: the server has no JetStream any more.
        """

        async def answer(message: Msg) -> None:
            reply = await handle(message.data)
            with contextlib.suppress(nats.errors.Error, OSError):
                await message.respond(reply)

        closed = asyncio.Event()

        async def wait() -> None:
            await closed.wait()

        try:
            subscription = await self._client.subscribe(subject, cb=answer)
        except (nats.errors.Error, OSError) as error:
            raise Unanswered(str(error)) from error
        # An answer means that the server knows of the subscription: over another connection, too, the first question finds somebody
        # there. The client's `flush` doesn't say so, because its ping overtakes what the client hasn't written yet.
        await self.call("INFO", {})
        self._listeners.append(closed)
        try:
            yield wait
        finally:
            self._listeners.remove(closed)
            with anyio.CancelScope(shield=True), contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

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
        """Take a message that came for the question."""
        if self.answer.done():
            return
        headers = message.headers or {}
        status = headers.get("Status")
        if status is None:
            self._messages.append(message)
        if (status is None and not self._many) or status in _ENDS:
            self.answer.set_result(self._messages)
        elif status is not None:
            # The client takes the header after a bare status for its description.
            described = headers.get("Description", "").strip()
            description = "nobody answers there now" if described.startswith("Nats-") else described or "no answer"
            self.answer.set_exception(Unanswered(f"{description} ({status})"))

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


def own_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers without those that NATS itself added."""
    return {name: value for name, value in headers.items() if not name.startswith("Nats-")}


def _size(message: Outgoing) -> int:
    """Return what the server counts, with some room for what the protocol adds."""
    return len(message.body) + sum(len(name) + len(value) + 4 for name, value in message.headers.items()) + 64


def _answer(message: Msg) -> dict[str, Any]:
    answer = msgspec.json.decode(message.data, type=dict[str, Any])
    if "error" in answer:
        raise Refused(answer["error"].get("err_code", 0), answer["error"].get("description", ""))
    return answer


def _check_url(server: str) -> None:
    parts = urlsplit(server.strip())
    if parts.scheme not in ("nats", "tls", "ws", "wss") or not parts.hostname or parts.port == 0:
        raise ValueError("that is no URL of a NATS server; one looks like nats://host:4222")


def shown(servers: str) -> str:
    """Return a URL, or several with commas, as it may be printed: without user and password."""
    return ",".join(re.sub(r"//[^/@]*@", "//", server.strip()) for server in servers.split(","))


def _tls(broker: Broker) -> ssl.SSLContext | None:
    return None if broker.tls_ca_file is None else ssl.create_default_context(cafile=str(broker.tls_ca_file))


def _connect_failure(server: str, error: Exception) -> str:
    if isinstance(error, TimeoutError):
        why = f"something is there but says nothing like a NATS server within {CONNECT_SECONDS:g} s; is it another program's port?"
    elif isinstance(error, ConnectionRefusedError):
        why = "nothing listens there"
    else:
        why = str(error) or type(error).__name__
    remedy = "start it, correct `--nats`, or leave `--nats` out for an embedded one"
    return f"the NATS server at {shown(server)} can't be used: {why}\n  {remedy}"
