"""A run's log as one file, `event_log.zst`: written when the run ends, read without a broker, imported bit for bit.

In: the messages of both streams. Out: a file; and from the file, the same messages and events again, in one defined order.

The file is a row of checksummed zstd frames, each one MessagePack value: an opening (format, run), batches of messages,
and a closing with the heads of both streams and the content digest. A file without its closing was cut off; a flipped bit
shows in a frame's checksum, a forged frame in a message's digest or the chain. The order is that of knowledge: a message of
the truth stream follows the public message that was the last one when it was written. The same log gives the same bytes, so
an archive can be compared by its hash.

What lies before a damage can be had back (`recover=True`): the frames before it, and what its own frame still holds whole,
each message checked as ever. So frames are small, about one for each step of an episode; that costs 5 % of the file
(measured: 400 kB in one frame, 419 kB in 23).

It appears at once (temporary name, synced, renamed): what has the right name is whole. Reading is `engine.archive_reader`'s;
its functions are offered here, too. Upstream: `engine.log`. Downstream: `projections` fold `read_archive` into a dataset.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import zstandard

from otel_control_gym.engine.archive_reader import (
    FORMAT,
    VERSION,
    ArchiveReader,
    ArchiveSummary,
    Batch,
    Closing,
    Opening,
    archived_run,
    content_digest,
    read_archive,
    read_messages,
    survey_archive,
)
from otel_control_gym.engine.envelope import ContentDigest, Message, RunName, genesis
from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.run_log import RunLog, RunReader

__all__ = (
    "ARCHIVE_NAME",
    "ArchiveSummary",
    "archived_run",
    "content_digest",
    "export_archive",
    "import_archive",
    "merged_messages",
    "read_archive",
    "read_messages",
    "recover_archive",
    "survey_archive",
)

ARCHIVE_NAME = "event_log.zst"
LEVEL = 3  #: of zstd; bulk bodies are compressed already, control events shrink to a tenth
FRAME_BYTES = 1 << 14  #: bodies in a frame, at least
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")


async def export_archive(reader: RunReader, path: Path) -> None:
    """Write everything that the run's streams hold now into `path`, which appears whole or not at all.

    Raises: LogCorrupted: a message isn't what was written. LogError: the file can't be written, or the log not read.
    """
    writer = _Writer(path, reader.run)
    try:
        await anyio.to_thread.run_sync(writer.__enter__)
        async with aclosing(merged_messages(reader)) as messages:
            async for message, truth in messages:
                if writer.take(message, truth=truth):
                    await anyio.to_thread.run_sync(writer.flush)
        await anyio.to_thread.run_sync(writer.close)
    except OSError as error:
        raise LogError(f"{path} can't be written: {error}") from error
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(writer.discard)


async def import_archive(path: Path, connection: LogConnection, *, recover: bool = False) -> RunLog:
    """Put an archive's run back into a broker: the same log, bit for bit; with `recover`, as far as the archive is sound.

    The file is checked before anything is written; a run that couldn't be imported in full is dropped again.

    Raises: as `read_archive`; LogError: the broker has the run already.
    """
    sound = await anyio.to_thread.run_sync(survey_archive, path)
    if sound.damage is not None and not recover:
        raise LogCorrupted(f"{sound.damage}\n  {sound.messages} messages before it can be recovered")
    if sound.damage is not None and sound.messages == 0:
        raise LogCorrupted(f"{sound.damage}\n  nothing before it can be recovered")
    run = sound.run
    log = await connection.create(run.campaign, run.run_id)
    try:
        batches = ArchiveReader(path).batches(recover=recover)
        while (batch := await anyio.to_thread.run_sync(next, batches, None)) is not None:
            await log.append_messages([(message, truth) for truth, message in batch])
        assert log.content_digest() == sound.content_digest, "an imported log differs from its archive"
    except BaseException:
        with anyio.CancelScope(shield=True):
            await connection.delete(run.run_id)
        raise
    return log


def recover_archive(path: Path, target: Path) -> None:
    """Write what of an archive is sound into `target`, as a whole archive; of one that is whole it is the same file again. Blocking.

    Raises: LogCorrupted: nothing of it is sound. LogError: `path` can't be read, `target` not written.
    """
    reader = ArchiveReader(path)
    writer = _Writer(target, reader.run())
    try:
        writer.__enter__()
        for batch in reader.batches(recover=True):
            for truth, message in batch:
                if writer.take(message, truth=truth):
                    writer.flush()
        writer.close()
    except OSError as error:
        raise LogError(f"{target} can't be written: {error}") from error
    finally:
        writer.discard()


async def merged_messages(reader: RunReader) -> AsyncGenerator[tuple[Message, bool], None]:
    """Yield (message, truth) of both streams in the order of knowledge.

    Raises: LogCorrupted, LogError: see `RunReader.messages`.
    """
    async with aclosing(reader.messages(truth=True)) as hidden, aclosing(reader.messages()) as public:
        waiting = await anext(hidden, None)
        async for message in public:
            while waiting is not None and waiting.after_sequence < message.sequence:
                yield waiting, True
                waiting = await anext(hidden, None)
            yield message, False
        while waiting is not None:
            yield waiting, True
            waiting = await anext(hidden, None)


class _Writer:
    """Writes an archive under a temporary name; all methods but `take` block."""

    def __init__(self, path: Path, run: RunName) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}")
        self._run = run
        self._file: int | None = None
        self._batch: list[tuple[bool, Message]] = []
        self._bytes = 0
        self._heads = {truth: genesis(run, truth=truth) for truth in (False, True)}
        self._digest = ContentDigest()
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)

    def __enter__(self) -> _Writer:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._write(Opening(FORMAT, VERSION, self._run.campaign, self._run.run_id))
        return self

    def take(self, message: Message, *, truth: bool) -> bool:
        """Keep a message for the next frame; return whether the frame is full."""
        self._batch.append((truth, message))
        self._bytes += len(message.body)
        self._heads[truth] = message.head
        self._digest.add(message, truth=truth)
        return self._bytes >= FRAME_BYTES

    def flush(self) -> None:
        if self._batch:
            self._write(Batch(self._batch))
            self._batch, self._bytes = [], 0

    def close(self) -> None:
        """Finish the file and give it its name."""
        self.flush()
        self._write(Closing(self._heads[False], self._heads[True], self._digest.hexdigest()))
        assert self._file is not None
        os.fsync(self._file)
        os.replace(self._draft, self._path)  # noqa: PTH105 - the pair of the calls around it
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def discard(self) -> None:
        """Close the file; remove what didn't get its name."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._draft.unlink(missing_ok=True)

    def _write(self, part: msgspec.Struct) -> None:
        assert self._file is not None
        frame = memoryview(self._compressor.compress(_ENCODER.encode(part)))
        while frame:
            frame = frame[os.write(self._file, frame) :]
