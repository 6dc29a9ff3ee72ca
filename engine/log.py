"""The event log: two append-only streams per run, fenced, chained, read back in order.

In: events. Out: their sequence numbers once they are on the disk; and the same events again, for whoever folds them.

What makes it hard is not knowing. An answer can be lost after the message was stored; a retry is then refused, as if
another writer had been there. So a writer that isn't sure reads back: what stands at its sequence with its chain and its
bytes is its own, anything else is a `WriteConflict`, and what isn't there is sent again. An append that has begun is
carried through, cancelled or not (bounded by `SETTLE_SECONDS`): half an append would leave the writer not knowing where
its stream stands.

A batch is published in one go, each message fenced by the sequence before it, and awaited together: the server syncs
message by message, but the round trips overlap. Reading takes batches of direct gets: as fast as a consumer (measured:
30,000 small messages/s either way, the client's own cost), and no state on the server that a take-over could lose.

Upstream: `engine.codec`, `engine.envelope`, `engine.jetstream`. Downstream: `engine.archive`, `engine.recovery`, the episode.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Literal, NoReturn

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.codec import Encoded, decode, row_count, split
from otel_control_gym.engine.envelope import ContentDigest, Message, RunName, genesis, seal, verify
from otel_control_gym.engine.errors import LogCorrupted, LogError, WriteConflict
from otel_control_gym.engine.events import Event, Recorded, RunAborted, RunEnded, type_tag
from otel_control_gym.engine.jetstream import (
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    JetStream,
    Outgoing,
    Refused,
    Stored,
    StreamConfig,
    StreamInfo,
    Unanswered,
)

__all__ = ("LogConnection", "RunLog", "RunReader", "RunStatus", "RunSummary", "recorded")

SETTLE_SECONDS = 30.0  #: for an append whose outcome is unclear; longer than a take-over of the embedded broker
PAUSE_SECONDS = 0.05
BATCH_MESSAGES = 500
IMPORT_MESSAGES = 200  #: published together
THREAD_ROWS = 20_000  #: an event with more rows is encoded in a worker thread (a few ms)
TAIL_SECONDS = (
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
)  #: looks for a message that was announced but isn't stored yet

_STREAM = {False: "ocg", True: "ocg-truth"}


RunStatus = Literal["completed", "aborted", "unfinished", "unreadable"]
"""Unfinished: in progress, or its process died; unreadable: the broker has lost its last message."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the broker knows it."""

    run_id: str
    campaign: str
    status: RunStatus
    public_messages: int
    truth_messages: int
    bytes: int


def recorded(message: Message, *, truth: bool) -> Recorded:
    """Return the event that a message carries, with its place.

    Raises: LogCorrupted, LogError: see `engine.codec.decode`.
    """
    return Recorded(
        seq=message.sequence,
        event=decode(message.tag, message.body),
        truth=truth,
        after_seq=message.after_sequence,
    )


class LogConnection:
    """A connection to the broker's logs; an async context manager. Several runs may be written and read over it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._jetstream = JetStream(broker)

    async def __aenter__(self) -> LogConnection:
        """Connect.

        Raises: BrokerError: no server answers, or it has no JetStream.
        """
        await self._jetstream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._jetstream.__aexit__(kind, error, trace)

    async def create(self, campaign: str, run_id: str) -> RunLog:
        """Make the streams of a new run and return its writer.

        Raises: LogError: the names can't stand in a subject, or the run exists.
        """
        run = RunName(campaign, run_id).checked()
        for truth in (True, False):  # a run is known by its public stream, so that comes last
            config = StreamConfig(
                name=_stream(run_id, truth=truth),
                subjects=(f"{run.subject_root(truth=truth)}.>",),
                num_replicas=self._broker.replicas,
                metadata={"ocg-campaign": campaign, "ocg-run-id": run_id},
            )
            try:
                info = await self._jetstream.add_stream(config)
            except (Refused, Unanswered) as error:
                raise LogError(f"the streams of run {run_id} can't be made: {error}") from error
            if info.messages:
                raise LogError(f"run {run_id} exists already, with {info.messages} messages")
        return RunLog(self._jetstream, run)

    async def open_run(self, run_id: str) -> RunReader:
        """Return a reader of a run, finished or in progress.

        Raises: LogError: the broker has no such run.
        """
        try:
            info = await self._jetstream.stream(_stream(run_id, truth=False))
        except (Refused, Unanswered) as error:
            _raise_unreadable(run_id, error)
        return RunReader(self._jetstream, RunName(info.metadata.get("ocg-campaign", ""), run_id))

    async def resume(self, run_id: str) -> RunLog:
        """Return the next writer of a run: reads and verifies all of it. The writer before it, if alive, gets a conflict.

        Raises: LogError: no such run; LogCorrupted: it isn't what was written.
        """
        log = RunLog(self._jetstream, (await self.open_run(run_id)).run)
        await log.catch_up()
        return log

    async def runs(self) -> list[RunSummary]:
        """Return all runs that the broker holds, oldest first.

        Raises: LogError: the broker doesn't answer.
        """
        try:
            streams = {info.name: info for info in await self._jetstream.streams(_STREAM[False])}
            return [
                await self._summary(info, streams.get(_stream(info.metadata["ocg-run-id"], truth=True)))
                for name, info in streams.items()
                if name == _stream(info.metadata.get("ocg-run-id", ""), truth=False)
            ]
        except (Refused, Unanswered) as error:
            raise LogError(f"the broker's runs can't be listed: {error}") from error

    async def _summary(self, public: StreamInfo, truth: StreamInfo | None) -> RunSummary:
        return RunSummary(
            run_id=public.metadata["ocg-run-id"],
            campaign=public.metadata["ocg-campaign"],
            status=await self._status(public),
            public_messages=public.messages,
            truth_messages=0 if truth is None else truth.messages,
            bytes=public.bytes + (0 if truth is None else truth.bytes),
        )

    async def _status(self, stream: StreamInfo) -> RunStatus:
        if stream.last_sequence == 0:
            return "unfinished"
        try:
            tag = (await self._jetstream.stored(stream.name, stream.last_sequence)).headers.get("ce-type")
        except Refused:
            return "unreadable"
        if tag == type_tag(RunEnded):
            return "completed"
        return "aborted" if tag == type_tag(RunAborted) else "unfinished"

    async def delete(self, run_id: str) -> None:
        """Drop a run's streams with all that is in them; a run that isn't there is no error.

        Raises: LogError: the broker refuses, or doesn't answer.
        """
        try:
            for truth in (False, True):
                await self._jetstream.delete_stream(_stream(run_id, truth=truth))
        except (Refused, Unanswered) as error:
            raise LogError(f"run {run_id} can't be dropped: {error}") from error


class RunReader:
    """Reads one run's streams; every message's digest and chain are checked."""

    def __init__(self, jetstream: JetStream, run: RunName) -> None:
        self._jetstream = jetstream
        self.run = run

    async def messages(self, *, truth: bool = False, start: int = 1) -> AsyncGenerator[Message, None]:
        """Yield the messages of a stream from `start` up to its end as it is now.

        Raises: LogCorrupted: one isn't what was written; says which. LogError: the stream can't be read.
        """
        stream = _stream(self.run.run_id, truth=truth)
        try:
            last = (await self._jetstream.stream(stream)).last_sequence
            head = genesis(self.run, truth=truth) if start == 1 else None
            position = start
            while position <= last:
                batch = await self._jetstream.batch(stream, position, min(BATCH_MESSAGES, last - position + 1))
                if not batch:
                    raise LogCorrupted(f"{stream}: message {position} of {last} is missing")
                for stored in batch:
                    if stored.sequence != position:
                        raise LogCorrupted(f"{stream}: message {position} is missing, {stored.sequence} follows")
                    message = Message(stored.sequence, stored.subject, stored.headers, stored.body)
                    head = verify(message, head, where=stream)
                    yield message
                    position += 1
        except (Refused, Unanswered) as error:
            _raise_unreadable(self.run.run_id, error)

    async def read(self, *, truth: bool = False, start: int = 1) -> AsyncGenerator[Recorded, None]:
        """Yield the events of a stream from sequence `start` up to its end as it is now, in order.

        Raises: as `messages`, and LogError for an event type that this program doesn't know.
        """
        async for message in self.messages(truth=truth, start=start):
            yield recorded(message, truth=truth)

    async def tail(self, start: int = 1) -> AsyncGenerator[Recorded, None]:
        """Yield the public events from sequence `start` on as they are written; ends after the run's last event.

        Raises: as `read`.
        """
        position = start
        while True:
            try:
                async with self._jetstream.listening(f"{self.run.subject_root(truth=False)}.>") as wait:
                    while True:
                        async for entry in self._news(position):
                            position = entry.seq + 1
                            yield entry
                            if isinstance(entry.event, RunEnded | RunAborted):
                                return
                        await wait()
            except Unanswered:
                await anyio.sleep(PAUSE_SECONDS)  # a take-over: listen to the next server

    async def _news(self, start: int) -> AsyncGenerator[Recorded, None]:
        """Yield what is new; a message is announced when it is published, a moment before it is stored."""
        position = start
        for pause in TAIL_SECONDS:
            async for entry in self.read(start=position):
                position = entry.seq + 1
                yield entry
            if position > start:
                return
            await anyio.sleep(pause)

    async def publish_view(self, subject: str, body: bytes) -> None:
        """Publish a folded view for live watching on `ocg.view.<run id>.<subject>`; it isn't stored."""
        await self._jetstream.publish(f"ocg.view.{self.run.run_id}.{subject}", body)


class RunLog(RunReader):
    """The writer of one run. There is one at a time: the fence sees to it."""

    def __init__(self, jetstream: JetStream, run: RunName) -> None:
        super().__init__(jetstream, run)
        self._heads = {truth: genesis(run, truth=truth) for truth in (False, True)}
        self._content = ContentDigest()
        self._appending = anyio.Lock()  # protects the heads: a batch is sealed and settled before the next one

    @property
    def public_sequence(self) -> int:
        """Sequence of the last public event; 0 before the first."""
        return self._heads[False].sequence

    @property
    def truth_sequence(self) -> int:
        """Sequence of the last event of the truth stream; 0 before the first."""
        return self._heads[True].sequence

    def content_digest(self) -> str:
        """Return the digest of what was written so far: equal for runs that had the same events (see `engine.envelope`)."""
        return self._content.hexdigest()

    async def append(self, event: Event, *, truth: bool = False) -> int:
        """Write one event and return its sequence in its stream once it is durable (that of its last part if it was split).

        Raises: WriteConflict: another writer has appended to the stream. LogError: it can't be written.
        """
        await self.append_all([(event, truth)])
        return self._heads[truth].sequence

    async def append_all(self, events: Sequence[tuple[Event, bool]]) -> list[tuple[Event, bool]]:
        """Write (event, truth) pairs in one go; return them, durable, as they were written: large ones in parts.

        Raises: WriteConflict: another writer has appended to a stream. LogError: one can't be written; those before it may be.
        """
        written: list[tuple[Event, bool]] = []
        sealed: list[tuple[Message, bool]] = []
        async with self._appending:
            heads = dict(self._heads)
            for event, truth in events:
                for part in await _parts(event):
                    after = heads[False].sequence if truth else None
                    message = seal(part, self.run, heads[truth], after_sequence=after)
                    heads[truth] = message.head
                    sealed.append((message, truth))
                    written.append((part.event, truth))
            with anyio.CancelScope(shield=True):
                await self._settle(sealed)
        return written

    async def append_messages(self, messages: Sequence[tuple[Message, bool]]) -> None:
        """Write messages as they are (the import of an archive); they must continue the chains.

        Raises: LogCorrupted: they don't; WriteConflict, LogError: as `append_all`.
        """
        async with self._appending:
            heads = dict(self._heads)
            for message, truth in messages:
                heads[truth] = verify(message, heads[truth], where=f"import of run {self.run.run_id}")
            with anyio.CancelScope(shield=True):
                for first in range(0, len(messages), IMPORT_MESSAGES):
                    await self._settle(messages[first : first + IMPORT_MESSAGES])

    async def catch_up(self) -> None:
        """Take the streams' ends as one's own: what a writer does that follows another one."""
        for truth in (False, True):
            async for message in self.messages(truth=truth, start=self._heads[truth].sequence + 1):
                self._advance(message, truth=truth)

    def _advance(self, message: Message, *, truth: bool) -> None:
        self._heads[truth] = message.head
        self._content.add(message, truth=truth)

    async def _settle(self, messages: Sequence[tuple[Message, bool]]) -> None:
        """Publish until every message is known to be stored, or can't be."""
        outstanding = list(messages)
        deadline = anyio.current_time() + SETTLE_SECONDS
        while outstanding:
            outcomes = await self._jetstream.publish_all([_outgoing(message) for message, _ in outstanding])
            doubtful = [outcome for outcome in outcomes if not isinstance(outcome, int)]
            if not doubtful:
                for (message, _), outcome in zip(outstanding, outcomes, strict=True):
                    assert outcome == message.sequence, "the fence let a message through to another place"
                break
            for outcome in doubtful:
                if isinstance(outcome, Refused) and outcome.code != WRONG_LAST_SEQUENCE:
                    _raise_refused(self.run.run_id, outcome)
            try:
                outstanding = await self._not_stored(outstanding)
            except Unanswered as error:
                raise LogError(f"run {self.run.run_id}: the broker doesn't answer: {error}") from error
            if outstanding and (trouble := self._jetstream.broker.trouble()) is not None:
                raise LogError(
                    f"run {self.run.run_id}: message {outstanding[0][0].sequence} can't be stored: {trouble}"
                )
            if outstanding and anyio.current_time() > deadline:
                raise LogError(
                    f"run {self.run.run_id}: message {outstanding[0][0].sequence} couldn't be written within "
                    f"{SETTLE_SECONDS:g} s: {doubtful[0]}"
                )
            await anyio.sleep(PAUSE_SECONDS if outstanding else 0)
        for message, truth in messages:
            self._advance(message, truth=truth)

    async def _not_stored(self, messages: Sequence[tuple[Message, bool]]) -> list[tuple[Message, bool]]:
        """Read back: return the messages that their streams don't hold yet.

        Raises: WriteConflict: a stream holds something else in their place.
        """
        missing = []
        ends: dict[bool, int] = {}
        for message, truth in messages:
            stream = _stream(self.run.run_id, truth=truth)
            try:
                if truth not in ends:
                    ends[truth] = (await self._jetstream.stream(stream)).last_sequence
                    self._check_kept(stream, ends[truth], truth=truth)
                if message.sequence > ends[truth]:
                    missing.append((message, truth))
                elif not _same(message, await self._jetstream.stored(stream, message.sequence)):
                    raise WriteConflict(
                        f"{stream}: message {message.sequence} was written by somebody else\n"
                        "  another process writes to this run, or recovered it because it believed this one dead"
                    )
            except Refused as error:
                _raise_refused(self.run.run_id, error)
        return missing

    def _check_kept(self, stream: str, end: int, *, truth: bool) -> None:
        if end < self._heads[truth].sequence:
            raise LogCorrupted(
                f"{stream}: ends at message {end}, but {self._heads[truth].sequence} were acknowledged: the broker lost data"
            )


def _stream(run_id: str, *, truth: bool) -> str:
    return f"{_STREAM[truth]}_{run_id}"


async def _parts(event: Event) -> list[Encoded]:
    if row_count(event) > THREAD_ROWS:
        return await anyio.to_thread.run_sync(split, event)
    return split(event)


def _outgoing(message: Message) -> Outgoing:
    return Outgoing(message.subject, message.headers, message.body, expected_last=message.sequence - 1)


def _same(message: Message, stored: Stored) -> bool:
    return stored.headers == message.headers and stored.subject == message.subject and stored.body == message.body


def _raise_unreadable(run_id: str, error: Refused | Unanswered) -> NoReturn:
    if isinstance(error, Refused) and error.code == STREAM_NOT_FOUND:
        raise LogError(f"the broker has no run {run_id!r}\n  `ocg runs` lists those that there are") from error
    raise LogError(f"run {run_id} can't be read: {error}") from error


def _raise_refused(run_id: str, refusal: Refused) -> NoReturn:
    if refusal.code == STREAM_NOT_FOUND:
        raise LogError(f"run {run_id}: its streams are gone from the broker") from refusal
    raise LogError(
        f"run {run_id}: the broker refuses to store: {refusal}\n"
        "  is its disk full, its account's limit reached, or its `max_payload` below 1 MiB?"
    ) from refusal
