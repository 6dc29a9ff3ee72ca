"""JetStream as the log needs it: pipelined publishes, batched reads, streams; over a connection that outlives its server.

In: a broker. Out: what the server holds and what it acknowledged. A question that does no harm when it is asked twice is asked again
until it is answered; a publish isn't, because only the log can tell what a second one would mean. When the connection breaks, the
next question locates the broker anew, and an embedded one is thereby started anew if its owner died.

Upstream: `engine.nats_session` (one connection, one server). Downstream: `engine.log` gives the messages their meaning.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import anyio
import msgspec
from anyio.abc import TaskStatus

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.errors import BrokerError
from otel_control_gym.engine.nats_session import (
    API,
    Delivered,
    Outgoing,
    Refused,
    Session,
    Stored,
    Unanswered,
    own_headers,
    shown,
)

__all__ = ("STREAM_NOT_FOUND", "WRONG_LAST_SEQUENCE", "JetStream", "StreamConfig", "StreamInfo")

RETRY_SECONDS = 20.0  #: until a harmless request is given up; longer than a take-over of the embedded broker
PAUSE_SECONDS = 0.05  #: between attempts
BATCH_BYTES = 8 * 1024 * 1024  #: of one batched read; far below what the client buffers

WRONG_LAST_SEQUENCE = 10071
STREAM_NOT_FOUND = 10059
NO_MESSAGE = 10037
CONSUMER_NOT_FOUND = 10014
STORE_FAILED = 10049
STORE_ATTEMPTS = 5
ANSWER_SECONDS = 5.0  #: until an acknowledgement counts as unheard
_JETSTREAM_DISABLED = (10039, 10076)

T = TypeVar("T")


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
        self._session: Session | None = None
        self._connecting = anyio.Lock()  # tasks that find the connection closed make one new one between them

    async def __aenter__(self) -> JetStream:
        """Connect, and check that JetStream is there."""
        try:
            if self.broker.comes_back:
                await self._call("INFO", {})
            else:
                await (await self._connected()).call("INFO", {})
        except (Refused, Unanswered) as error:
            await self._close()
            if isinstance(error, Refused) and error.code not in _JETSTREAM_DISABLED:
                raise BrokerError(f"the NATS server at {shown(self.broker.url)} refuses to serve: {error}") from error
            raise BrokerError(
                f"the NATS server at {shown(self.broker.url)} has no JetStream for this account\n"
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

    async def _connected(self) -> Session:
        async with self._connecting:
            if self._session is not None and self._session.is_open:
                return self._session
            reconnecting = self._session is not None
            await self._close()
            deadline = anyio.current_time() + RETRY_SECONDS
            while True:
                url = await self.broker.locate()
                try:
                    self._session = await Session.open(url, self.broker)
                    return self._session
                except BrokerError:
                    # At the start a wrong URL must be told at once; later, and for an embedded server, it may be coming back.
                    if not (reconnecting or self.broker.comes_back) or anyio.current_time() > deadline:
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
        await (await self._connected()).publish(subject, body)

    async def store_first(self, subject: str, body: bytes) -> bool:
        """Store a message if its subject has none yet; return whether it is this one that stands there.

        Raises: Refused; Unanswered.
        """
        return await self.store_after(subject, body, last=0) is not None

    async def store_after(
        self, subject: str, body: bytes, *, last: int, headers: dict[str, str] | None = None
    ) -> int | None:
        """Store a message if `last` is the sequence of its subject's last one (0: it has none); return its own, or None.

        Raises: Refused; Unanswered.
        """
        fenced = {"Nats-Expected-Last-Subject-Sequence": str(last), **(headers or {})}
        try:
            return await self._retry(lambda session: session.store(subject, fenced, body))
        except Refused as refusal:
            if refusal.code != WRONG_LAST_SEQUENCE:
                raise
            return None

    async def store(self, subject: str, body: bytes) -> int:
        """Store a message and return its sequence; one whose answer was lost may be stored twice.

        Raises: Refused; Unanswered.
        """
        return await self._retry(lambda session: session.store(subject, {}, body))

    # --- queues ----------------------------------------------------------------------------------------------------------

    async def add_consumer(self, stream: str, name: str, *, subject: str, wait_seconds: float) -> None:
        """Make a durable pull consumer of a subject: what isn't acknowledged within `wait_seconds` is given out again.

        Raises: Refused; Unanswered.
        """
        settings = {
            "durable_name": name,
            "ack_policy": "explicit",
            "ack_wait": round(wait_seconds * 1e9),
            "filter_subject": subject,
            "max_deliver": -1,
            "max_ack_pending": -1,
        }
        await self._call(f"CONSUMER.CREATE.{stream}.{name}.{subject}", {"stream_name": stream, "config": settings})

    async def delete_consumer(self, stream: str, name: str) -> None:
        """Drop a consumer; one that isn't there is no error.

        Raises: Refused; Unanswered.
        """
        try:
            await self._call(f"CONSUMER.DELETE.{stream}.{name}", {})
        except Refused as error:
            if error.code not in (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND):
                raise

    async def consumers(self, stream: str) -> list[str]:
        """Return the names of a stream's consumers, sorted; none if there is no such stream.

        Raises: Unanswered.
        """
        try:
            answer = await self._call(f"CONSUMER.NAMES.{stream}", {"offset": 0})
        except Refused as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            return []
        return sorted(answer.get("consumers") or [])

    async def next_message(self, stream: str, consumer: str, seconds: float) -> Delivered | None:
        """Return the next message of a pull consumer, or None if none came in time.

        Raises: Unanswered.
        """
        return await (await self._connected()).next_message(stream, consumer, seconds)

    async def acknowledge(self, message: Delivered, word: bytes = b"+ACK") -> bool:
        """Say what became of a message (`+ACK`, `-NAK`, `+TERM`, `+WPI`: still at it); return whether the server heard it."""
        try:
            session = await self._connected()
            if word == b"+WPI":
                await session.publish(message.reply, word)
            else:
                await session.request(message.reply, word, ANSWER_SECONDS)
        except Unanswered:
            return False
        return True

    async def purge(self, stream: str, subject: str) -> None:
        """Drop all messages of a subject.

        Raises: Refused; Unanswered.
        """
        await self._call(f"STREAM.PURGE.{stream}", {"filter": subject})

    # --- reading -------------------------------------------------------------------------------------------------------

    async def stored(self, stream: str, sequence: int) -> Stored:
        """Return one message, by the word of the stream's leader.

        Raises: Refused: there is none; Unanswered.
        """
        return _stored(await self._call(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))

    async def last(self, stream: str, subject: str) -> Stored | None:
        """Return the last message of a subject, by the word of the stream's leader; None if there is none.

        Raises: Refused: there is no such stream; Unanswered.
        """
        try:
            return _stored(await self._call(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}))
        except Refused as error:
            if error.code != NO_MESSAGE:
                raise
            return None

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
        async with session.listening(subject) as wait:
            yield wait

    # --- requests and answers --------------------------------------------------------------------------------------------

    async def request(self, subject: str, body: bytes, seconds: float) -> bytes:
        """Return what somebody who serves a subject answers. Asked once: a second time might do it twice.

        Raises: Unanswered: nobody serves it, or no answer came in time.
        """
        return await (await self._connected()).request(subject, body, seconds)

    @asynccontextmanager
    async def serving(self, subject: str, handle: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[None]:
        """Answer requests on a subject, over whatever connection there is, until the context is left."""
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._serve, subject, handle)
            yield
            tasks.cancel_scope.cancel()

    async def _serve(
        self,
        subject: str,
        handle: Callable[[bytes], Awaitable[bytes]],
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        begun = False
        while True:
            try:
                session = await self._connected()
                async with session.serving(subject, handle) as wait_for_the_end:
                    if not begun:
                        begun = True
                        task_status.started()
                    await wait_for_the_end()
            except Unanswered:
                pass  # a take-over: serve over the next connection
            await anyio.sleep(PAUSE_SECONDS)

    # --- streams -------------------------------------------------------------------------------------------------------

    async def add_stream(self, config: StreamConfig) -> StreamInfo:
        """Make a stream; one that exists with the same configuration is returned as it is.

        After the last stream is dropped the server takes away the directories above it in the background (`server/stream.go`), and
        a stream that is made at that very moment finds no place. So this one refusal is asked about again.

        Raises: Refused; Unanswered.
        """
        for _ in range(STORE_ATTEMPTS - 1):
            try:
                return await self._made_stream(config)
            except Refused as error:
                if error.code != STORE_FAILED:
                    raise
            await anyio.sleep(PAUSE_SECONDS)
        return await self._made_stream(config)

    async def _made_stream(self, config: StreamConfig) -> StreamInfo:
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

    async def _retry(self, ask: Callable[[Session], Awaitable[T]]) -> T:
        """Ask a harmless question until it is answered or `RETRY_SECONDS` are over."""
        deadline = anyio.current_time() + RETRY_SECONDS
        while True:
            try:
                return await ask(await self._connected())
            except Unanswered:
                if anyio.current_time() > deadline:
                    raise
            await anyio.sleep(PAUSE_SECONDS)


def _stored(answer: dict[str, Any]) -> Stored:
    message = answer["message"]
    return Stored(
        message["seq"],
        message["subject"],
        _header_lines(base64.b64decode(message.get("hdrs", ""))),
        base64.b64decode(message.get("data", "")),
    )


def _header_lines(block: bytes) -> dict[str, str]:
    """Return the headers of a raw block, `NATS/1.0` and then a line each."""
    lines = block.decode().split("\r\n")[1:]
    return own_headers({name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)})


def _stream_info(answer: dict[str, Any]) -> StreamInfo:
    state, config = answer["state"], answer["config"]
    return StreamInfo(
        config["name"], state["messages"], state["bytes"], state["last_seq"], dict(config.get("metadata") or {})
    )
