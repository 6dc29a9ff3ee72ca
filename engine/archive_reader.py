"""`event_log.zst` ➜ the messages and events of a run, every one verified; and of a damaged file, those before the damage.

In: a file that `engine.archive` wrote (its docstring has the format). Out: batches of messages, events, or a survey of what is sound.
What is yielded is what was written: by the frame's checksum, the message's digest and the chain. A damage is an error, unless
`recover` is asked for: then reading ends there, after what the damaged frame still holds whole (`engine.salvage`).

Blocking; callers put it into a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import zstandard

from otel_control_gym.engine.envelope import ContentDigest, Head, Message, RunName, genesis, verify
from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.events import Recorded
from otel_control_gym.engine.run_log import recorded
from otel_control_gym.engine.salvage import whole_items

__all__ = (
    "FORMAT",
    "VERSION",
    "ArchiveReader",
    "ArchiveSummary",
    "Batch",
    "Closing",
    "Opening",
    "archived_run",
    "content_digest",
    "read_archive",
    "read_messages",
    "survey_archive",
)

FORMAT = "ocg-event-log"
VERSION = 1
_CHUNK_BYTES = 1 << 18
_MORSEL_BYTES = 64  #: in which a damaged frame is read: what comes out of the same morsel as the damage is lost

Placed = tuple[bool, Message]  #: whether it is of the truth stream, and the message


class Opening(msgspec.Struct, frozen=True, array_like=True, tag="opening"):
    """First frame."""

    format: str
    version: int
    campaign: str
    run_id: str


class Batch(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Any frame in between."""

    messages: list[Placed]


class Closing(msgspec.Struct, frozen=True, array_like=True, tag="closing"):
    """Last frame: without it, the file was cut off."""

    public: Head
    truth: Head
    content_digest: str


_Part = Opening | Batch | Closing
_DECODER: msgspec.msgpack.Decoder[_Part] = msgspec.msgpack.Decoder(_Part)
_MESSAGE_DECODER: msgspec.msgpack.Decoder[Placed] = msgspec.msgpack.Decoder(Placed)


class ArchiveSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive holds that can be relied on: all of it, or what lies before the damage."""

    run: RunName
    public_messages: int
    truth_messages: int
    until: int | None  #: [ns] episode time of the last public event; None without one
    content_digest: str  #: of these messages
    damage: str | None  #: what is wrong, and where; None: the archive is whole

    @property
    def messages(self) -> int:
        """Messages of both streams."""
        return self.public_messages + self.truth_messages


def read_archive(path: Path, *, truth: bool = True, recover: bool = False) -> Iterator[Recorded]:
    """Yield the events of an archive in order; without `truth` those of the public stream alone.

    With `recover` it ends where the damage begins, if there is one (`survey_archive` says what and where).

    Raises: LogCorrupted: the file was cut off or altered; says where. LogError: it can't be read, or is from a newer program.
    """
    return ArchiveReader(path).events(truth=truth, recover=recover)


def read_messages(path: Path) -> Iterator[tuple[Message, bool]]:
    """Yield (message, truth) of an archive in order, verified, without decoding what they carry; blocking.

    Raises: as `read_archive`.
    """
    for batch in ArchiveReader(path).batches():
        for truth, message in batch:
            yield message, truth


def archived_run(path: Path) -> RunName:
    """Return the campaign and id of an archive's run.

    Raises: as `read_archive`.
    """
    return ArchiveReader(path).run()


def content_digest(path: Path) -> str:
    """Return the content digest of an archive, after checking all of it.

    Raises: as `read_archive`.
    """
    reader = ArchiveReader(path)
    for _ in reader.batches():
        pass
    return reader.digest.hexdigest()


def survey_archive(path: Path) -> ArchiveSummary:
    """Check all of an archive, and return what of it is sound.

    Raises: LogCorrupted: not even its opening is. LogError: it can't be read, or is from a newer program.
    """
    reader = ArchiveReader(path)
    run = reader.run()
    last: Message | None = None
    for batch in reader.batches(recover=True):
        for truth, message in batch:
            last = last if truth else message
    return ArchiveSummary(
        run=run,
        public_messages=reader.heads[False].sequence,
        truth_messages=reader.heads[True].sequence,
        until=None if last is None else recorded(last, truth=False).event.time,
        content_digest=reader.digest.hexdigest(),
        damage=reader.damage,
    )


def _decoded(items: Iterable[bytes]) -> Iterator[Placed]:
    """Yield messages of items, up to the first that is none."""
    for item in items:
        try:
            yield _MESSAGE_DECODER.decode(item)
        except msgspec.MsgspecError:
            return


class ArchiveReader:
    """Reads one archive; `heads`, `digest` and `damage` say how far it has come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0  #: of the frame that is being read
        self.heads: dict[bool, Head] = {}
        self.digest = ContentDigest()
        self.damage: str | None = None

    def run(self) -> RunName:
        """Return whose log it is.

        Raises: LogCorrupted, LogError: the opening can't be read.
        """
        opening = next(self._parts())
        assert isinstance(opening, Opening)
        return RunName(opening.campaign, opening.run_id)

    def batches(self, *, recover: bool = False) -> Iterator[list[Placed]]:
        """Yield the messages, verified, a frame at a time.

        Raises: LogCorrupted: a damage, unless `recover`. LogError: the file can't be read.
        """
        try:
            yield from self._batches()
        except LogCorrupted as error:
            if not recover:
                raise
            self.damage = str(error)
            yield from self._rest()

    def events(self, *, truth: bool = True, recover: bool = False) -> Iterator[Recorded]:
        """Yield the events; see `read_archive`."""
        for batch in self.batches(recover=recover):
            for is_truth, message in batch:
                if truth or not is_truth:
                    yield recorded(message, truth=is_truth)

    def _batches(self) -> Iterator[list[Placed]]:
        closed = False
        for part in self._parts():
            if closed:
                raise LogCorrupted(f"{self._path}: something follows the end of the log, at byte {self._offset}")
            if isinstance(part, Opening):
                run = RunName(part.campaign, part.run_id)
                self.heads = {truth: genesis(run, truth=truth) for truth in (False, True)}
            elif isinstance(part, Batch):
                sound, problem = self._sound(part.messages)
                yield sound
                if problem is not None:
                    raise problem
            else:
                if part != Closing(self.heads[False], self.heads[True], self.digest.hexdigest()):
                    raise LogCorrupted(
                        f"{self._path}: the closing at byte {self._offset} doesn't fit the messages before it"
                    )
                closed = True
        if not closed:
            raise LogCorrupted(f"{self._path}: cut off: the log goes on after the part at byte {self._offset}")

    def _sound(self, messages: Iterable[Placed]) -> tuple[list[Placed], LogCorrupted | None]:
        """Take messages; return those that are what was written, and what is wrong with the first that isn't."""
        sound: list[Placed] = []
        for truth, message in messages:
            where = f"{self._path} ({'truth' if truth else 'public'})"
            try:
                self.heads[truth] = verify(message, self.heads[truth], where=where)
            except LogCorrupted as error:
                return sound, error
            self.digest.add(message, truth=truth)
            sound.append((truth, message))
        return sound, None

    def _rest(self) -> Iterator[list[Placed]]:
        """Yield the messages that the damaged frame still holds whole; those that were read from it before aren't the next ones."""
        sound, _ = self._sound(_decoded(whole_items(self._remains(), path=(1,))))
        if sound:
            yield sound

    def _remains(self) -> bytes:
        """Return what can be decompressed of the frame that is being read."""
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        pieces = []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            while not decompressor.eof and (morsel := file.read(_MORSEL_BYTES)):
                try:
                    pieces.append(decompressor.decompress(morsel))
                except zstandard.ZstdError:
                    break
        return b"".join(pieces)

    def _parts(self) -> Iterator[_Part]:
        """Yield each frame's part; the first is always the opening.

        Raises: LogCorrupted, LogError.
        """
        opened = False
        for frame in self._frames():
            try:
                part = _DECODER.decode(frame)
            except msgspec.MsgspecError as error:
                raise LogCorrupted(
                    f"{self._path}: the frame at byte {self._offset} isn't part of an event log: {error}"
                ) from error
            if isinstance(part, Opening) == opened:
                raise LogCorrupted(f"{self._path}: the opening of the log is {'there twice' if opened else 'missing'}")
            if isinstance(part, Opening) and (part.format, part.version) != (FORMAT, VERSION):
                raise LogError(
                    f"{self._path}: {part.format} version {part.version}: this program reads {FORMAT} version {VERSION}\n"
                    "  upgrade otel-control-gym to read it"
                )
            opened = True
            yield part
        if not opened:
            raise LogCorrupted(f"{self._path}: empty")

    def _frames(self) -> Iterator[bytes]:
        """Yield the content of each zstd frame; `_offset` is then where it begins."""
        self._offset = 0
        rest = b""
        try:
            with self._path.open("rb") as file:
                while rest := rest or file.read(_CHUNK_BYTES):
                    decompressor = zstandard.ZstdDecompressor().decompressobj()
                    pieces, length = [], 0
                    while not decompressor.eof:
                        if not rest and not (rest := file.read(_CHUNK_BYTES)):
                            raise LogCorrupted(f"{self._path}: cut off within the frame at byte {self._offset}")
                        pieces.append(decompressor.decompress(rest))
                        length += len(rest)
                        rest = b""
                    rest = decompressor.unused_data
                    yield b"".join(pieces)
                    self._offset += length - len(rest)
        except zstandard.ZstdError as error:
            raise LogCorrupted(f"{self._path}: the frame at byte {self._offset} was altered: {error}") from error
        except OSError as error:
            raise LogError(f"{self._path} can't be read: {error}") from error
