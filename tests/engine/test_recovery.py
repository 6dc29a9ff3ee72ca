"""Whatever a process left when it died, the next start puts in order, once, and nobody's living run is touched."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import nats
import pytest

from otel_control_gym.actuators.recovering import recovering
from otel_control_gym.engine.archive import read_archive
from otel_control_gym.engine.broker import Broker, open_broker
from otel_control_gym.engine.errors import LogError, StandError
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionFailed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionSettled,
    Event,
    PhaseEntered,
    Recorded,
    RunAborted,
    RunDeclared,
    RunEnded,
)
from otel_control_gym.engine.locks import listed_runs, run_lock
from otel_control_gym.engine.log import LogConnection, RunLog
from otel_control_gym.engine.recovery import REASON, Crashed, Recovered, recover
from otel_control_gym.engine.settings import (
    EpisodeSettings,
    Granularity,
    MetricMap,
    RewardSettings,
    RunSettings,
    ServiceConfiguration,
)

SETTINGS = RunSettings(
    services=ServiceConfiguration(name="tiny", demo_version="", chart_version="", services={}, edges=(), flows={}),
    granularity=Granularity(),
    metrics=MetricMap(name="none", node={}, edge={}),
    reward=RewardSettings(name="none"),
    episode=EpisodeSettings(name="none"),
    campaign="lost",
)
DECLARED = RunDeclared(time=5, contract_version=1, settings=SETTINGS)
PHASE = PhaseEntered(time=7, phase="control")
ABORTED = RunAborted(time=7, reason=REASON)


def write_dataset(entries: Iterable[Recorded], directory: Path, *, content_digest: str) -> None:
    """Stand in for the projections' writer: what came in, and the file that comes last."""
    (directory / "entries.txt").write_text("\n".join(type(entry.event).__name__ for entry in entries))
    (directory / "metadata.json").write_text("{}")


def directory_of(data_dir: Path, run_id: str) -> Path:
    return data_dir / "campaign=lost" / "service_config=tiny" / f"run_{run_id}"


async def crash(connection: LogConnection, data_dir: Path, run_id: str, *events: Event) -> RunLog:
    """Leave a run as a process leaves it that dies after `events`: its streams, and a lock that nobody holds."""
    async with run_lock(data_dir, run_id):
        log = await connection.create("lost", run_id)
        await log.append_all([(event, False) for event in events])
    return log


async def test_a_run_without_an_end_is_aborted_archived_and_folded(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    log = await crash(connection, tmp_path, run_id, DECLARED, PHASE)
    directory = directory_of(tmp_path, run_id)
    assert await recover(connection, tmp_path, write_dataset) == [
        Recovered(run_id=run_id, outcome="aborted", directory=directory)
    ]
    assert [entry.event async for entry in log.read()] == [DECLARED, PHASE, ABORTED]
    assert [entry.event for entry in read_archive(directory / "event_log.zst")] == [DECLARED, PHASE, ABORTED]
    assert (directory / "entries.txt").read_text() == "RunDeclared\nPhaseEntered\nRunAborted"


async def test_what_is_in_order_is_not_recovered_again(connection: LogConnection, run_id: str, tmp_path: Path) -> None:
    await crash(connection, tmp_path, run_id, DECLARED, PHASE)
    await recover(connection, tmp_path, write_dataset)
    assert await recover(connection, tmp_path, write_dataset) == []
    assert listed_runs(tmp_path) == []


async def test_a_run_that_ended_but_was_not_stored_is_stored(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    ended = RunEnded(time=8, reason="horizon")
    log = await crash(connection, tmp_path, run_id, DECLARED, ended)
    (recovered,) = await recover(connection, tmp_path, write_dataset)
    assert recovered.outcome == "stored"
    assert [entry.event async for entry in log.read()] == [DECLARED, ended]
    assert (directory_of(tmp_path, run_id) / "metadata.json").exists()


async def test_a_recovery_that_died_while_writing_the_dataset_is_repeated(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    def dies(entries: Iterable[Recorded], directory: Path, *, content_digest: str) -> None:
        raise KeyboardInterrupt

    log = await crash(connection, tmp_path, run_id, DECLARED, PHASE)
    with pytest.raises(KeyboardInterrupt):
        await recover(connection, tmp_path, dies)
    (recovered,) = await recover(connection, tmp_path, write_dataset)
    assert recovered.outcome == "stored"
    assert [entry.event async for entry in log.read()] == [DECLARED, PHASE, ABORTED]


async def test_a_stored_run_is_left_as_it_is(connection: LogConnection, run_id: str, tmp_path: Path) -> None:
    def must_not_be_called(entries: Iterable[Recorded], directory: Path, *, content_digest: str) -> None:
        raise AssertionError("the dataset was there")

    await crash(connection, tmp_path, run_id, DECLARED, RunEnded(time=8, reason="goal"))
    directory_of(tmp_path, run_id).mkdir(parents=True)
    (directory_of(tmp_path, run_id) / "metadata.json").write_text("{}")
    assert await recover(connection, tmp_path, must_not_be_called) == []
    assert listed_runs(tmp_path) == []


async def test_streams_without_an_event_are_dropped(connection: LogConnection, run_id: str, tmp_path: Path) -> None:
    await crash(connection, tmp_path, run_id)
    assert await recover(connection, tmp_path, write_dataset) == [Recovered(run_id=run_id, outcome="dropped")]
    assert run_id not in [run.run_id for run in await connection.runs()]


async def test_a_lock_without_streams_is_kept_because_they_may_be_on_another_broker(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    async with run_lock(tmp_path, run_id):
        pass
    assert await recover(connection, tmp_path, write_dataset) == []
    assert listed_runs(tmp_path) == [run_id]


async def test_a_run_in_progress_is_not_touched(connection: LogConnection, run_id: str, tmp_path: Path) -> None:
    async with run_lock(tmp_path, run_id):
        log = await connection.create("lost", run_id)
        await log.append(DECLARED)
        assert await recover(connection, tmp_path, write_dataset) == []
        assert await log.append(PHASE) == 2


async def test_a_run_of_another_data_directory_is_not_touched(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    log = await crash(connection, tmp_path / "theirs", run_id, DECLARED)
    assert await recover(connection, tmp_path / "ours", write_dataset) == []
    assert log.public_sequence == len([entry async for entry in log.read()])


async def test_recoveries_at_once_do_each_run_once(
    connection: LogConnection, new_run: Callable[[], str], tmp_path: Path
) -> None:
    logs = [await crash(connection, tmp_path, new_run(), DECLARED, PHASE) for _ in range(4)]
    done: list[Recovered] = []

    async def recover_all() -> None:
        done.extend(await recover(connection, tmp_path, write_dataset))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(recover_all)
    assert sorted(recovered.run_id for recovered in done) == [log.run.run_id for log in logs]
    for log in logs:
        assert [entry.event async for entry in log.read()] == [DECLARED, PHASE, ABORTED]


async def test_an_unreadable_run_is_kept_and_does_not_keep_others_from_recovery(
    connection: LogConnection,
    broker: Broker,
    new_run: Callable[[], str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    damaged = await crash(connection, tmp_path, new_run(), DECLARED)
    sound = await crash(connection, tmp_path, new_run(), DECLARED, PHASE)
    client = await nats.connect(broker.url)
    await client.jetstream().publish(damaged.run.subject("run.phase.1", truth=False), b"not ours")
    await client.close()
    with caplog.at_level(logging.WARNING):
        outcomes = {done.run_id: done.outcome for done in await recover(connection, tmp_path, write_dataset)}
    assert outcomes == {damaged.run.run_id: "unreadable", sound.run.run_id: "aborted"}
    assert f"run {damaged.run.run_id} can't be recovered" in caplog.text
    assert listed_runs(tmp_path) == [damaged.run.run_id]


async def test_a_lock_is_held_by_one(run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_control_gym.engine.locks.WAIT_SECONDS", 0.05)
    async with run_lock(tmp_path, run_id):
        with pytest.raises(LogError, match=f"run {run_id} is in progress in another process"):
            async with run_lock(tmp_path, run_id):
                pass
    async with run_lock(tmp_path, run_id):
        pass


_DYING = """
import sys, anyio, msgspec
from pathlib import Path
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.codec import decode
from otel_control_gym.engine.events import PhaseEntered
from otel_control_gym.engine.locks import run_lock
from otel_control_gym.engine.log import LogConnection

async def main(data_dir, declared):
    async with open_broker(Path(data_dir)) as broker, LogConnection(broker) as connection, run_lock(Path(data_dir), "LOST"):
        log = await connection.create("lost", "LOST")
        await log.append(decode("run.declared.1", declared.encode()))
        while True:
            print(await log.append(PhaseEntered(time=7, phase="control")), flush=True)

anyio.run(main, *sys.argv[1:])
"""


async def test_after_kill_9_the_next_start_finds_the_run_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _DYING, str(tmp_path), msgspec.json.encode(DECLARED).decode()]
    async with await anyio.open_process(arguments, stdin=subprocess.DEVNULL, stderr=None) as process:
        assert process.stdout is not None
        text = b""
        with anyio.fail_after(60):
            while text.count(b"\n") < 10:
                text += await process.stdout.receive()
        process.send_signal(signal.SIGKILL)
    acknowledged = int(text[: text.rindex(b"\n")].rpartition(b"\n")[2])
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        (recovered,) = await recover(connection, tmp_path, write_dataset)
    assert (recovered.run_id, recovered.outcome) == ("LOST", "aborted")
    entries = list(read_archive(directory_of(tmp_path, "LOST") / "event_log.zst"))
    assert entries[0].event == DECLARED
    assert entries[-1].event == ABORTED
    assert len(entries) > acknowledged


REQUESTED = ActionRequested(
    time=7,
    action_id="a1",
    actor="model",
    action_class="action",
    action_type="scale",
    target_kind="service",
    target="cart",
    parameters={"replicas": 3},
)
APPLIED = ActionApplied(time=7, action_id="a1", objects=())


def settle(crashed: Crashed) -> AbstractAsyncContextManager[Iterable[tuple[Event, bool]]]:
    return recovering(None, crashed.run_id, crashed.events, crashed.last)


async def test_an_action_in_flight_gets_the_end_that_is_true(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    passed = ActionPrechecked(time=7, action_id="a1", verdict="passed")
    log = await crash(connection, tmp_path, run_id, DECLARED, PHASE, REQUESTED, passed, APPLIED)
    await recover(connection, tmp_path, write_dataset, settle)
    *_, looked, settled, aborted = [entry.event async for entry in log.read()]
    assert isinstance(looked, ActionPostchecked)
    assert looked.verdict == "unverified"
    assert settled == ActionSettled(time=7, action_id="a1", status="unverified")
    assert isinstance(aborted, RunAborted)


async def test_a_recovery_that_died_among_the_ends_of_actions_is_repeated_without_doubling_any(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    log = await crash(connection, tmp_path, run_id, DECLARED, PHASE, REQUESTED)

    left: list[str] = []

    def half(missing: Iterable[tuple[Event, bool]]) -> Iterator[tuple[Event, bool]]:
        yield next(iter(missing))
        raise KeyboardInterrupt

    @asynccontextmanager
    async def dies(crashed: Crashed) -> AsyncIterator[Iterable[tuple[Event, bool]]]:
        async with settle(crashed) as missing:
            yield half(missing)
        left.append(crashed.run_id)

    with pytest.raises(KeyboardInterrupt):
        await recover(connection, tmp_path, write_dataset, dies)
    assert left == [], "what lies on the stand goes when the events are durable, not before"
    await recover(connection, tmp_path, write_dataset, settle)
    kinds = [type(entry.event) async for entry in log.read()]
    assert kinds == [RunDeclared, PhaseEntered, ActionRequested, ActionFailed, ActionSettled, RunAborted]


async def test_a_stand_that_can_not_be_cleaned_keeps_its_run_for_the_next_start_and_no_other_from_starting(
    connection: LogConnection, run_id: str, tmp_path: Path
) -> None:
    @asynccontextmanager
    async def unreachable(crashed: Crashed) -> AsyncIterator[Iterable[tuple[Event, bool]]]:
        if crashed.last:
            raise StandError("the stand can't be reached")
        yield ()

    log = await crash(connection, tmp_path, run_id, DECLARED, PHASE, REQUESTED)
    (recovered,) = await recover(connection, tmp_path, write_dataset, unreachable)
    assert (recovered.outcome, listed_runs(tmp_path)) == ("unreadable", [run_id])
    assert [entry.event async for entry in log.read()] == [DECLARED, PHASE, REQUESTED]
    (again,) = await recover(connection, tmp_path, write_dataset, settle)
    assert again.outcome == "aborted"
