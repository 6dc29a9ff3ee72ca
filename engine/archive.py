"""A run's log as one file, `event_log.zst`: written when the run ends, read without a broker, imported bit for bit.

In: the messages of both streams. Out: a file; and from the file, the same messages and events again, in one defined order.

The file is a row of checksummed zstd frames, each one MessagePack value: an opening (format, run), batches of messages of
about a MiB, and a closing with the heads of both streams and the content digest. A file without its closing was cut off; a
flipped bit shows in a frame's checksum, a forged frame in a message's digest or the chain. The order is that of knowledge: a
message of the truth stream follows the public message that was the last one when it was written. The same log gives the
same bytes, so an archive can be compared by its hash.

It appears at once (temporary name, synced, renamed): what has the right name is whole. Upstream: `engine.log`.
Downstream: `projections` fold `read_archive` into a dataset.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import zstandard

from otel_control_gym.engine.envelope import ContentDigest, Head, Message, RunName, genesis, verify
from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.events import Recorded
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.run_log import RunLog, RunReader, recorded

__all__ = (
    "ARCHIVE_NAME",
    "archived_run",
    "content_digest",
    "export_archive",
    "import_archive",
    "merged_messages",
    "read_archive",
    "read_messages",
)

ARCHIVE_NAME = "event_log.zst"
LEVEL = 3  #: of zstd; bulk bodies are compressed already, control events shrink to a tenth
FRAME_BYTES = 1 << 20  #: bodies in a frame, at least
_CHUNK_BYTES = 1 << 18
_FORMAT = "ocg-event-log"
_VERSION = 1


class _Opening(msgspec.Struct, frozen=True, array_like=True, tag="opening"):
    format: str
    version: int
    campaign: str
    run_id: str


class _Batch(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    messages: list[tuple[bool, Message]]


class _Closing(msgspec.Struct, frozen=True, array_like=True, tag="closing"):
    public: Head
    truth: Head
    content_digest: str


_Part = _Opening | _Batch | _Closing
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_DECODER: msgspec.msgpack.Decoder[_Part] = msgspec.msgpack.Decoder(_Part)


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


def read_archive(path: Path, *, truth: bool = True) -> Iterator[Recorded]:
    """Yield the events of an archive in order; without `truth` those of the public stream alone.

    Blocking; call it in a worker thread.

    Raises: LogCorrupted: the file was cut off or altered; says where. LogError: it can't be read, or is from a newer program.
    """
    for batch in _batches(path):
        for is_truth, message in batch:
            if truth or not is_truth:
                yield recorded(message, truth=is_truth)


def read_messages(path: Path) -> Iterator[tuple[Message, bool]]:
    """Yield (message, truth) of an archive in order, verified, without decoding what they carry; blocking.

    Raises: as `read_archive`.
    """
    for batch in _batches(path):
        for truth, message in batch:
            yield message, truth


def archived_run(path: Path) -> RunName:
    """Return the campaign and id of an archive's run.

    Raises: as `read_archive`.
    """
    opening = next(part for _, part in _parts(path))
    assert isinstance(opening, _Opening)
    return RunName(opening.campaign, opening.run_id)


def content_digest(path: Path) -> str:
    """Return the content digest of an archive, after checking all of it.

    Raises: as `read_archive`.
    """
    digest = ContentDigest()
    for batch in _batches(path):
        for truth, message in batch:
            digest.add(message, truth=truth)
    return digest.hexdigest()


async def import_archive(path: Path, connection: LogConnection) -> RunLog:
    """Put an archive's run back into a broker: the same log, bit for bit.

    The file is checked before anything is written; a run that couldn't be imported in full is dropped again.

    Raises: as `read_archive`; LogError: the broker has the run already.
    """
    run = await anyio.to_thread.run_sync(archived_run, path)
    digest = await anyio.to_thread.run_sync(content_digest, path)
    log = await connection.create(run.campaign, run.run_id)
    try:
        batches = _batches(path)
        while (batch := await anyio.to_thread.run_sync(next, batches, None)) is not None:
            await log.append_messages([(message, truth) for truth, message in batch])
        assert log.content_digest() == digest, "an imported log differs from its archive"
    except BaseException:
        with anyio.CancelScope(shield=True):
            await connection.delete(run.run_id)
        raise
    return log


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
        self._write(_Opening(_FORMAT, _VERSION, self._run.campaign, self._run.run_id))
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
            self._write(_Batch(self._batch))
            self._batch, self._bytes = [], 0

    def close(self) -> None:
        """Finish the file and give it its name."""
        self.flush()
        self._write(_Closing(self._heads[False], self._heads[True], self._digest.hexdigest()))
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

    def _write(self, part: _Part) -> None:
        assert self._file is not None
        frame = memoryview(self._compressor.compress(_ENCODER.encode(part)))
        while frame:
            frame = frame[os.write(self._file, frame) :]


def _batches(path: Path) -> Iterator[list[tuple[bool, Message]]]:
    """Yield the messages of an archive, verified, a frame at a time.

    Raises: LogCorrupted.
    """
    heads: dict[bool, Head] = {}
    digest = ContentDigest()
    closed_at: int | None = None
    offset = 0
    for offset, part in _parts(path):
        if closed_at is not None:
            raise LogCorrupted(f"{path}: something follows the end of the log, at byte {offset}")
        if isinstance(part, _Opening):
            run = RunName(part.campaign, part.run_id)
            heads = {truth: genesis(run, truth=truth) for truth in (False, True)}
        elif isinstance(part, _Batch):
            for truth, message in part.messages:
                heads[truth] = verify(message, heads[truth], where=f"{path} ({'truth' if truth else 'public'})")
                digest.add(message, truth=truth)
            yield part.messages
        else:
            if part != _Closing(heads[False], heads[True], digest.hexdigest()):
                raise LogCorrupted(f"{path}: the closing at byte {offset} doesn't fit the messages before it")
            closed_at = offset
    if closed_at is None:
        raise LogCorrupted(f"{path}: cut off: the log goes on after the part at byte {offset}")


def _parts(path: Path) -> Iterator[tuple[int, _Part]]:
    """Yield (byte offset, part) of each frame; the first is always the opening.

    Raises: LogCorrupted, LogError.
    """
    opened = False
    for offset, frame in _frames(path):
        try:
            part = _DECODER.decode(frame)
        except msgspec.MsgspecError as error:
            raise LogCorrupted(f"{path}: the frame at byte {offset} isn't part of an event log: {error}") from error
        if isinstance(part, _Opening) == opened:
            raise LogCorrupted(f"{path}: the opening of the log is {'there twice' if opened else 'missing'}")
        if isinstance(part, _Opening) and (part.format, part.version) != (_FORMAT, _VERSION):
            raise LogError(
                f"{path}: {part.format} version {part.version}: this program reads {_FORMAT} version {_VERSION}\n"
                "  upgrade otel-control-gym to read it"
            )
        opened = True
        yield offset, part
    if not opened:
        raise LogCorrupted(f"{path}: empty")


def _frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, content) of each zstd frame."""
    offset = 0
    rest = b""
    try:
        with path.open("rb") as file:
            while rest := rest or file.read(_CHUNK_BYTES):
                decompressor = zstandard.ZstdDecompressor().decompressobj()
                pieces, length = [], 0
                while not decompressor.eof:
                    if not rest and not (rest := file.read(_CHUNK_BYTES)):
                        raise LogCorrupted(f"{path}: cut off within the frame at byte {offset}")
                    pieces.append(decompressor.decompress(rest))
                    length += len(rest)
                    rest = b""
                rest = decompressor.unused_data
                yield offset, b"".join(pieces)
                offset += length - len(rest)
    except zstandard.ZstdError as error:
        raise LogCorrupted(f"{path}: the frame at byte {offset} was altered: {error}") from error
    except OSError as error:
        raise LogError(f"{path} can't be read: {error}") from error
