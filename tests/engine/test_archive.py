"""An archive is the log: bit for bit, in one order; and a file that isn't whole or was changed is refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
import pytest_asyncio
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_control_gym.engine.archive import (
    archived_run,
    content_digest,
    export_archive,
    import_archive,
    read_archive,
    survey_archive,
)
from otel_control_gym.engine.archive_reader import FORMAT, VERSION, Batch, Closing, Opening
from otel_control_gym.engine.codec import split
from otel_control_gym.engine.envelope import ContentDigest, Message, RunName, genesis, seal
from otel_control_gym.engine.errors import LogCorrupted, LogError
from otel_control_gym.engine.events import (
    ActionSettled,
    LogRow,
    LogsCollected,
    PhaseEntered,
    Recorded,
    RunAborted,
    RunEnded,
)
from otel_control_gym.engine.log import LogConnection, RunLog, RunReader


def phase(time: int) -> PhaseEntered:
    return PhaseEntered(time=time, phase="control")


def settled(number: int) -> ActionSettled:
    return ActionSettled(time=number, action_id=f"a{number}", status="applied")


class StoredRun(RunReader):
    """A run whose public messages are given, as a broker with other limits may hold them."""

    def __init__(self, run: RunName, public: list[Message]) -> None:
        self.run = run
        self._public = public

    async def messages(self, *, truth: bool = False, start: int = 1) -> AsyncGenerator[Message, None]:
        for message in [] if truth else self._public[start - 1 :]:
            yield message


def same_bytes(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def flip(path: Path, *, share: float, bit: int) -> None:
    """Flip a bit of the byte that lies `share` of the way into a file."""
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1 << bit
    path.write_bytes(content)


@pytest_asyncio.fixture
async def log(connection: LogConnection, run_id: str) -> RunLog:
    """A run with both streams, several frames long."""
    log = await connection.create("archives", run_id)
    await log.append(settled(0), truth=True)
    for step in range(4):
        lines = tuple(
            LogRow(time=row, service="cart", severity="INFO", body=hashlib.sha256(b"%d %d" % (step, row)).hexdigest())
            for row in range(16_000)
        )
        await log.append_all(
            [(phase(step), False), (settled(step), True), (LogsCollected(time=step, rows=lines), False)]
        )
    await log.append(RunEnded(time=9, reason="closed"))
    return log


@pytest_asyncio.fixture
async def archive(log: RunLog, tmp_path: Path) -> AsyncIterator[Path]:
    path = tmp_path / "run" / "event_log.zst"
    await export_archive(log, path)
    yield path


async def test_an_archive_holds_every_event_of_both_streams(log: RunLog, archive: Path) -> None:
    entries = list(read_archive(archive))
    assert [entry for entry in entries if not entry.truth] == [entry async for entry in log.read()]
    assert [entry for entry in entries if entry.truth] == [entry async for entry in log.read(truth=True)]


async def test_a_truth_event_follows_the_public_event_that_was_the_last_one(archive: Path) -> None:
    position = 0
    truths = 0
    for entry in read_archive(archive):
        if entry.truth:
            truths += 1
            assert entry.after_seq == position
        else:
            position += 1
            assert entry.seq == position
    assert (position, truths) == (9, 5)


async def test_without_truth_only_the_public_stream_is_read(archive: Path) -> None:
    assert not any(entry.truth for entry in read_archive(archive, truth=False))


async def test_the_archive_of_a_log_has_always_the_same_bytes(log: RunLog, archive: Path, tmp_path: Path) -> None:
    await export_archive(log, tmp_path / "again.zst")
    assert same_bytes(tmp_path / "again.zst", archive)


async def test_an_archive_knows_its_run_and_its_content(log: RunLog, archive: Path) -> None:
    assert archived_run(archive) == log.run
    assert content_digest(archive) == log.content_digest()


async def test_import_gives_the_same_log_bit_for_bit(
    connection: LogConnection, log: RunLog, archive: Path, tmp_path: Path
) -> None:
    messages = [message async for message in log.messages()]
    await connection.delete(log.run.run_id)
    imported = await import_archive(archive, connection)
    assert [message async for message in imported.messages()] == messages
    await export_archive(imported, tmp_path / "again.zst")
    assert same_bytes(tmp_path / "again.zst", archive)


async def test_an_imported_log_can_be_continued(connection: LogConnection, log: RunLog, archive: Path) -> None:
    await connection.delete(log.run.run_id)
    imported = await import_archive(archive, connection)
    assert await imported.append(phase(10)) == log.public_sequence + 1


async def test_a_run_that_is_there_is_not_imported_over(connection: LogConnection, log: RunLog, archive: Path) -> None:
    with pytest.raises(LogError, match="exists already"):
        await import_archive(archive, connection)
    assert (await connection.resume(log.run.run_id)).content_digest() == log.content_digest()


async def test_of_an_altered_archive_nothing_is_imported(connection: LogConnection, log: RunLog, archive: Path) -> None:
    await connection.delete(log.run.run_id)
    flip(archive, share=0.5, bit=0)
    with pytest.raises(LogCorrupted):
        await import_archive(archive, connection)
    assert log.run.run_id not in [run.run_id for run in await connection.runs()]


async def test_a_run_that_the_broker_does_not_take_in_full_is_dropped_again(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    run = RunName("archives", run_id)
    first = seal(split(phase(1))[0], run, genesis(run, truth=False))
    incompressible = hashlib.shake_256(b"").hexdigest(2**21)
    second = seal(split(RunAborted(time=2, reason=incompressible), limit=2**22)[0], run, first.head)
    source = StoredRun(run, [first, second])
    await export_archive(source, tmp_path / "event_log.zst")
    with pytest.raises(LogError, match="it takes 1048576 bytes in a message"):
        await import_archive(tmp_path / "event_log.zst", connection)
    assert run_id not in [summary.run_id for summary in await connection.runs()]


async def test_an_archive_of_an_empty_log_can_be_read(
    connection: LogConnection, new_run: Callable[[], str], tmp_path: Path
) -> None:
    log = await connection.create("archives", new_run())
    await export_archive(log, tmp_path / "empty.zst")
    assert list(read_archive(tmp_path / "empty.zst")) == []


# --- damage ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_an_archive_that_was_cut_off_anywhere_is_refused(small_archive: Path, share: float) -> None:
    content = small_archive.read_bytes()
    damaged = small_archive.with_name("cut.zst")
    damaged.write_bytes(content[: int(share * len(content))])
    with pytest.raises(LogCorrupted, match=r"cut\.zst: (cut off|empty)"):
        list(read_archive(damaged))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(small_archive: Path, share: float, bit: int) -> None:
    before = list(read_archive(small_archive))
    damaged = small_archive.with_name("flipped.zst")
    shutil.copyfile(small_archive, damaged)
    flip(damaged, share=share, bit=bit)
    try:
        after: list[Recorded] | None = list(read_archive(damaged))
    except LogCorrupted:
        after = None
    assert after in (None, before)  # there are bits that zstd has no use for


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.01, 1, exclude_max=True))
def test_of_an_archive_that_was_cut_off_all_whole_frames_are_recovered(several_frames: Path, share: float) -> None:
    content = several_frames.read_bytes()
    length = int(share * len(content))
    damaged = several_frames.with_name("cut.zst")
    damaged.write_bytes(content[:length])
    check_recovery(several_frames, damaged, sound_bytes=length)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.01, 1, exclude_max=True), bit=st.integers(0, 7))
def test_of_an_archive_with_a_flipped_bit_all_frames_before_it_are_recovered(
    several_frames: Path, share: float, bit: int
) -> None:
    damaged = several_frames.with_name("flipped.zst")
    shutil.copyfile(several_frames, damaged)
    flip(damaged, share=share, bit=bit)
    check_recovery(several_frames, damaged, sound_bytes=int(share * len(damaged.read_bytes())))


def check_recovery(whole: Path, damaged: Path, *, sound_bytes: int) -> None:
    """Check that what is recovered is a prefix of the log, holds every frame before the damage, and is what the survey says."""
    entries = list(read_archive(whole))
    lengths = [len(frame) for frame in frames(whole)]
    if sound_bytes < lengths[0]:
        with pytest.raises((LogCorrupted, LogError)):
            survey_archive(damaged)
        return
    recovered = list(read_archive(damaged, recover=True))
    assert recovered == entries[: len(recovered)]
    sound = [number for number in range(len(lengths)) if sum(lengths[: number + 1]) <= sound_bytes]
    assert len(recovered) >= sum(messages_of(frame) for frame in frames(whole)[: len(sound)])
    survey = survey_archive(damaged)
    assert survey.messages == len(recovered)
    assert (survey.damage is None) == is_read(damaged)
    public = [entry.event.time for entry in recovered if not entry.truth]
    assert survey.until == (public[-1] if public else None)


def messages_of(frame: bytes) -> int:
    """Return how many messages a frame holds."""
    kind, *fields = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompressobj().decompress(frame))
    return len(fields[0]) if kind == "batch" else 0


def is_read(path: Path) -> bool:
    """Return whether an archive is taken for whole: there are bits that zstd has no use for."""
    try:
        list(read_archive(path))
    except LogCorrupted:
        return False
    return True


@pytest_asyncio.fixture
async def several_frames(connection: LogConnection, run_id: str, tmp_path: Path) -> Path:
    """An archive of a dozen frames, as a short run has them."""
    log = await connection.create("archives", run_id)
    for step in range(12):
        lines = tuple(
            LogRow(time=row, service="cart", severity="INFO", body=hashlib.sha256(b"%d %d" % (step, row)).hexdigest())
            for row in range(800)
        )
        await log.append_all(
            [(phase(step), False), (settled(step), True), (LogsCollected(time=step, rows=lines), False)]
        )
    await log.append(RunEnded(time=99, reason="closed"))
    path = tmp_path / "event_log.zst"
    await export_archive(log, path)
    assert len(frames(path)) >= 12
    return path


async def test_messages_of_a_damaged_frame_that_are_whole_are_recovered(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    run = RunName("archives", run_id)
    head, messages = genesis(run, truth=False), []
    for number in range(1, 9):  # each longer than a block of zstd's, all in one frame
        reason = hashlib.shake_256(b"%d" % number).hexdigest(100_000)
        message = seal(split(RunAborted(time=number, reason=reason))[0], run, head)
        messages.append(message)
        head = message.head
    opening, _, closing = forged_archive(run, messages)
    whole = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(
        msgspec.msgpack.encode(["batch", [(False, message) for message in messages]])
    )
    path = tmp_path / "old.zst"
    path.write_bytes(opening + whole + closing)
    assert survey_archive(path).damage is None
    path.write_bytes((opening + whole)[: len(opening) + len(whole) * 3 // 4])
    assert 4 <= survey_archive(path).messages <= 6


async def test_a_forged_message_is_neither_read_nor_recovered_nor_is_what_follows_it(tmp_path: Path) -> None:
    run = RunName("archives", "RUN")
    head, messages = genesis(run, truth=False), []
    for number in range(4):
        messages.append(seal(split(phase(number))[0], run, head))
        head = messages[-1].head
    forged = msgspec.structs.replace(messages[2], body=messages[1].body)
    path = tmp_path / "forged.zst"
    path.write_bytes(b"".join(forged_archive(run, [*messages[:2], forged, messages[3]])))
    reading = read_archive(path)
    assert [next(reading).event, next(reading).event] == [phase(0), phase(1)]
    with pytest.raises(LogCorrupted, match="message 3 was altered"):
        next(reading)
    assert [entry.event for entry in read_archive(path, recover=True)] == [phase(0), phase(1)]


def keep_half(path: Path, target: Path) -> None:
    """Write the first half of a file into another."""
    content = path.read_bytes()
    target.write_bytes(content[: len(content) // 2])


def forged_archive(run: RunName, messages: list[Message]) -> list[bytes]:
    """Return the frames of an archive of public messages: opening, a batch, closing."""
    digest = ContentDigest()
    for message in messages:
        digest.add(message, truth=False)
    public, truth = messages[-1].head, genesis(run, truth=True)
    parts = [
        Opening(FORMAT, VERSION, run.campaign, run.run_id),
        Batch([(False, message) for message in messages]),
        Closing(public, truth, digest.hexdigest()),
    ]
    return [zstandard.compress(msgspec.msgpack.encode(part)) for part in parts]


async def test_a_recovered_log_is_imported_up_to_the_damage_and_can_be_kept(
    connection: LogConnection, several_frames: Path, tmp_path: Path
) -> None:
    run_id = archived_run(several_frames).run_id
    await connection.delete(run_id)
    damaged = tmp_path / "cut.zst"
    keep_half(several_frames, damaged)
    with pytest.raises(LogCorrupted, match="messages before it can be recovered"):
        await import_archive(damaged, connection)
    log = await import_archive(damaged, connection, recover=True)
    survey = survey_archive(damaged)
    assert (log.public_sequence, log.content_digest()) == (survey.public_messages, survey.content_digest)
    await export_archive(log, tmp_path / "kept.zst")
    assert list(read_archive(tmp_path / "kept.zst")) == list(read_archive(several_frames))[: survey.messages]


async def test_where_nothing_lies_before_the_damage_nothing_is_imported(
    connection: LogConnection, several_frames: Path, tmp_path: Path
) -> None:
    await connection.delete(archived_run(several_frames).run_id)
    damaged = tmp_path / "cut.zst"
    damaged.write_bytes(frames(several_frames)[0])
    with pytest.raises(LogCorrupted, match="nothing before it can be recovered"):
        await import_archive(damaged, connection, recover=True)
    assert archived_run(several_frames).run_id not in [run.run_id for run in await connection.runs()]


@pytest_asyncio.fixture
async def small_archive(connection: LogConnection, run_id: str, tmp_path: Path) -> Path:
    log = await connection.create("archives", run_id)
    await log.append_all([(phase(time), False) for time in range(5)] + [(settled(time), True) for time in range(3)])
    await export_archive(log, tmp_path / "event_log.zst")
    return tmp_path / "event_log.zst"


def frames(path: Path) -> list[bytes]:
    """Return the compressed frames of an archive."""
    rest, found = path.read_bytes(), []
    while rest:
        decompressor = zstandard.ZstdDecompressor().decompressobj()
        decompressor.decompress(rest)
        found.append(rest[: len(rest) - len(decompressor.unused_data)])
        rest = decompressor.unused_data
    return found


async def test_frames_that_are_missing_or_exchanged_are_found(archive: Path) -> None:
    opening, *batches, closing = frames(archive)
    assert len(batches) > 1
    forgeries = {
        "missing": [opening, *batches[1:], closing],
        "exchanged": [opening, *reversed(batches), closing],
        "repeated": [opening, batches[0], *batches, closing],
        "shortened": [opening, *batches[:-1], closing],
        "continued": [opening, *batches, closing, batches[0]],
        "headless": [*batches, closing],
        "cut": [opening, *batches],
        "twice": [opening, opening, *batches, closing],
    }
    for name, parts in forgeries.items():
        forged = archive.with_name(f"{name}.zst")
        forged.write_bytes(b"".join(parts))
        with pytest.raises(LogCorrupted, match=name):
            list(read_archive(forged))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "event_log.zst"
    path.write_bytes(b"PK\x03\x04 this is a zip file")
    with pytest.raises(LogCorrupted, match=r"event_log\.zst: the frame at byte 0 was altered"):
        list(read_archive(path))
    path.write_bytes(zstandard.compress(b"\x01"))
    with pytest.raises(LogCorrupted, match="isn't part of an event log"):
        list(read_archive(path))
    with pytest.raises(LogError, match=r"missing\.zst can't be read"):
        list(read_archive(tmp_path / "missing.zst"))


async def test_an_archive_of_a_newer_program_is_refused_with_the_remedy(archive: Path) -> None:
    opening, *rest = frames(archive)
    content = zstandard.decompress(opening)
    newer = zstandard.compress(content.replace(b"ocg-event-log\x01", b"ocg-event-log\x02"))
    await anyio.Path(archive).write_bytes(b"".join([newer, *rest]))
    with pytest.raises(LogError, match="this program reads ocg-event-log version 1\n  upgrade"):
        list(read_archive(archive))


async def test_an_export_that_fails_leaves_nothing(connection: LogConnection, run_id: str, tmp_path: Path) -> None:
    log = await connection.create("archives", run_id)
    await log.append(phase(1))
    await connection.delete(run_id)
    with pytest.raises(LogError):
        await export_archive(log, tmp_path / "run" / "event_log.zst")
    assert [path async for path in anyio.Path(tmp_path / "run").iterdir()] == []


async def test_a_place_that_can_not_be_written_is_named(connection: LogConnection, run_id: str, tmp_path: Path) -> None:
    log = await connection.create("archives", run_id)
    await anyio.Path(tmp_path / "file").touch()
    with pytest.raises(LogError, match=r"event_log\.zst can't be written"):
        await export_archive(log, tmp_path / "file" / "event_log.zst")


async def test_reading_works_in_a_worker_thread(archive: Path) -> None:
    assert len(await anyio.to_thread.run_sync(lambda: list(read_archive(archive)))) == 14
