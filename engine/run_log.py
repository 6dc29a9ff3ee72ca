"""One run's log: two append-only streams, fenced, chained, read back in order.

In: events. Out: their sequence numbers once they are on the disk; and the same events again, for whoever folds them.

What makes it hard is not knowing. An answer can be lost after the message was stored; a retry is then refused, as if
another writer had been there. So a writer that isn't sure reads back: what stands at its sequence with its chain and its
bytes is its own, anything else is a `WriteConflict`, and what isn't there is sent again. An append that has begun is
carried through, cancelled or not (bounded by `SETTLE_SECONDS`): half an append would leave the writer not knowing where
its stream stands.

A batch is published in one go, each message fenced by the sequence before it, and awaited together: the server syncs
message by message, but the round trips overlap. Reading takes batches of direct gets: as fast as a consumer (measured:
30,000 small messages/s either way, the client's own cost), and no state on the server that a take-over could lose.

Upstream: `engine.codec`, `engine.envelope`, `engine.jetstream`; `engine.log` makes and finds runs. Downstream: the episode,
`engine.archive`, `engine.recovery`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn

import anyio
import anyio.to_thread

from otel_control_gym.engine.codec import Encoded, decode, row_count, split
from otel_control_gym.engine.envelope import ContentDigest, Message, RunName, genesis, seal, verify
from otel_control_gym.engine.errors import LogCorrupted, LogError, WriteConflict
from otel_control_gym.engine.events import Event, Recorded, RunAborted, RunEnded
from otel_control_gym.engine.jetstream import STREAM_NOT_FOUND, WRONG_LAST_SEQUENCE, JetStream
from otel_control_gym.engine.nats_session import Outgoing, Refused, Stored, Unanswered

__all__ = ("RunLog", "RunReader", "raise_unreadable", "recorded", "stream_name")

SETTLE_SECONDS = 30.0  #: for an append whose outcome is unclear; longer than a take-over of the embedded broker
PAUSE_SECONDS = 0.05
BATCH_MESSAGES = 500
IMPORT_MESSAGES = 200  #: published together
THREAD_ROWS = 20_000  #: an event with more rows is encoded in a worker thread (a few ms)
#: Pauses between looks for a message that was announced but isn't stored yet.
TAIL_SECONDS = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)

_STREAM = {False: "ocg", True: "ocg-truth"}


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


class RunReader:
    """Reads one run's streams; every message's digest and chain are checked."""

    def __init__(self, jetstream: JetStream, run: RunName) -> None:
        self._jetstream = jetstream
        self.run = run

    async def messages(self, *, truth: bool = False, start: int = 1) -> AsyncGenerator[Message, None]:
        """Yield the messages of a stream from `start` up to its end as it is now.

        Raises: LogCorrupted: one isn't what was written; says which. LogError: the stream can't be read.
        """
        stream = stream_name(self.run.run_id, truth=truth)
        try:
            last = (await self._jetstream.stream(stream)).last_sequence
            head = genesis(self.run, truth=truth) if start == 1 else None
            position = start
            while position <= last:
                batch = await self._jetstream.batch(stream, position, min(BATCH_MESSAGES, last - position + 1))
                if not batch or batch[0].sequence != position:
                    batch = [await self._by_leader(stream, position, last)]
                for stored in batch:
                    if stored.sequence != position:
                        raise LogCorrupted(f"{stream}: message {position} is missing, {stored.sequence} follows")
                    message = Message(stored.sequence, stored.subject, stored.headers, stored.body)
                    head = verify(message, head, where=stream)
                    yield message
                    position += 1
        except (Refused, Unanswered) as error:
            raise_unreadable(self.run.run_id, error)

    async def _by_leader(self, stream: str, sequence: int, last: int) -> Stored:
        """Return a message that a batched read didn't give: any replica answers that, and one may lag behind."""
        try:
            return await self._jetstream.stored(stream, sequence)
        except Refused as error:
            raise LogCorrupted(f"{stream}: message {sequence} of {last} is missing") from error

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

    async def ask(self, verb: str, body: bytes, seconds: float) -> bytes:
        """Ask the process that runs the run on `ocg.view.<run id>.<verb>`; no stream captures question or answer.

        Raises: LogError: it isn't in progress, or didn't answer in time.
        """
        try:
            return await self._jetstream.request(f"ocg.view.{self.run.run_id}.{verb}", body, seconds)
        except Unanswered as error:
            raise LogError(
                f"run {self.run.run_id}: no process that runs it has answered: {error}\n"
                "  only an episode in progress can be acted in: `ocg runs` says which are"
            ) from error

    def serving(self, verb: str, handle: Callable[[bytes], Awaitable[bytes]]) -> AbstractAsyncContextManager[None]:
        """Answer what is asked on `ocg.view.<run id>.<verb>` until the context is left."""
        return self._jetstream.serving(f"ocg.view.{self.run.run_id}.{verb}", handle)


class RunLog(RunReader):
    """The writer of one run. There is one at a time: the fence sees to it."""

    def __init__(self, jetstream: JetStream, run: RunName) -> None:
        super().__init__(jetstream, run)
        self._heads = {truth: genesis(run, truth=truth) for truth in (False, True)}
        self._content = ContentDigest()
        self._appending = anyio.Lock()  # protects the heads: a batch is sealed and settled before the next one
        self._unsettled: list[tuple[Message, bool]] = []  # what a cancelled append has perhaps written

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
            await self._settle_leftover()
            heads = dict(self._heads)
            for event, truth in events:
                for part in await _parts(event):
                    after = heads[False].sequence if truth else None
                    message = seal(part, self.run, heads[truth], after_sequence=after)
                    heads[truth] = message.head
                    sealed.append((message, truth))
                    written.append((part.event, truth))
            self._unsettled = sealed
            with anyio.CancelScope(shield=True):
                await self._settle_leftover()
        return written

    async def _settle_leftover(self) -> None:
        """Settle what was sealed last.

        anyio's shield holds off its own cancellations; a bare `Task.cancel()` (asyncio's Ctrl-C, `wait_for`) passes through it. The
        next append then finds here what may be stored or not, and settles that first instead of taking itself for a rival.
        """
        messages, self._unsettled = self._unsettled, []
        if messages:
            try:
                await self._settle(messages)
            except asyncio.CancelledError:
                self._unsettled = messages
                raise

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
            stream = stream_name(self.run.run_id, truth=truth)
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


def stream_name(run_id: str, *, truth: bool) -> str:
    """Return the name of one of a run's streams."""
    return f"{_STREAM[truth]}_{run_id}"


async def _parts(event: Event) -> list[Encoded]:
    if row_count(event) > THREAD_ROWS:
        return await anyio.to_thread.run_sync(split, event)
    return split(event)


def _outgoing(message: Message) -> Outgoing:
    return Outgoing(message.subject, message.headers, message.body, expected_last=message.sequence - 1)


def _same(message: Message, stored: Stored) -> bool:
    return stored.headers == message.headers and stored.subject == message.subject and stored.body == message.body


def raise_unreadable(run_id: str, error: Refused | Unanswered) -> NoReturn:
    """Say why a run can't be read.

    Raises: LogError: always.
    """
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
