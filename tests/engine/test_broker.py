"""There is one server per data directory, it dies with its owner, and what it acknowledged survives every take-over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest

from otel_control_gym.engine import nats_server
from otel_control_gym.engine.broker import Broker, RemoteBroker, open_broker
from otel_control_gym.engine.campaigns.queue import WorkQueue
from otel_control_gym.engine.errors import BrokerError, LogCorrupted, LogError
from otel_control_gym.engine.events import Event, PhaseEntered, RunAborted, RunEnded
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.nats_server import Endpoint
from otel_control_gym.engine.nats_session import Unanswered


def phase(time: int) -> PhaseEntered:
    return PhaseEntered(time=time, phase="control")


def endpoint(data_dir: Path) -> Endpoint:
    return msgspec.json.decode((data_dir / "nats" / "endpoint.json").read_bytes(), type=Endpoint)


def owns(broker: Broker) -> bool:
    """Return whether this process runs the server now (a call, because it changes)."""
    return broker.owner


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def wait_for(condition: Callable[[], bool]) -> None:
    """Return when a condition holds that only the system can tell."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - there is no event for it
            await anyio.sleep(0.005)


async def test_the_server_is_gone_when_the_broker_is_closed(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as broker:
        assert broker.owner
        pid = endpoint(tmp_path).server_pid
        assert is_alive(pid)
    assert not is_alive(pid)


async def test_a_second_broker_of_a_directory_attaches_to_the_first(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as first, open_broker(tmp_path) as second:
        assert second.url == first.url
        assert (first.owner, second.owner) == (True, False)


async def test_brokers_that_open_at_once_agree_on_one_server(tmp_path: Path) -> None:
    urls = []
    all_open = anyio.Event()

    async def open_one() -> None:
        async with open_broker(tmp_path) as broker:
            urls.append((broker.url, broker.owner))
            if len(urls) == 5:
                all_open.set()
            await all_open.wait()

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(open_one)
    assert len({url for url, _ in urls}) == 1
    assert [owner for _, owner in urls].count(True) == 1


async def test_the_server_is_found_when_the_environment_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    async with open_broker(tmp_path) as broker:
        assert broker.owner


# --- take-over ------------------------------------------------------------------------------------------------------------

_OWNER = """
import sys, anyio
from pathlib import Path
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.events import PhaseEntered
from otel_control_gym.engine.log import LogConnection

async def main(data_dir):
    async with open_broker(Path(data_dir)) as broker, LogConnection(broker) as connection:
        assert broker.owner
        log = await connection.create("default", "THEIRS")
        time = 0
        while True:
            print(await log.append(PhaseEntered(time=time, phase="control")), flush=True)
            time += 1

anyio.run(main, sys.argv[1])
"""


@asynccontextmanager
async def owner_process(data_dir: Path) -> AsyncIterator[anyio.abc.Process]:
    """A process that owns the broker of a directory and writes into it for ever, printing what was acknowledged."""
    process = await anyio.open_process(
        [sys.executable, "-c", _OWNER, str(data_dir)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def acknowledged(process: anyio.abc.Process, at_least: int) -> int:
    """Return the last sequence that a process has printed, once it is `at_least` that."""
    assert process.stdout is not None
    text = b""
    with anyio.fail_after(30):
        while text.count(b"\n") < at_least:
            text += await process.stdout.receive()
    return int(text[: text.rindex(b"\n")].rpartition(b"\n")[2])


async def test_after_kill_9_of_the_owner_its_server_is_gone_and_another_process_takes_over_with_all_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    async with owner_process(tmp_path) as process:
        last = await acknowledged(process, 20)
        async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
            assert not owns(broker)
            ours = await connection.create("default", "OURS")
            await ours.append(phase(0))
            orphan = endpoint(tmp_path).server_pid
            process.send_signal(signal.SIGKILL)
            await wait_for(lambda: not is_alive(process.pid))
            await wait_for(lambda: not is_alive(orphan))
            assert await ours.append(phase(1)) == 2  # by the server that this process now runs
            assert owns(broker)
            assert endpoint(tmp_path).server_pid != orphan
            assert [entry.event async for entry in ours.read()] == [phase(0), phase(1)]
            theirs = await connection.resume("THEIRS")
            assert theirs.public_sequence >= last
            await theirs.append(RunAborted(time=last, reason="found dead"))
            times = [entry.event.time async for entry in theirs.read()]
            assert times[:-1] == list(range(theirs.public_sequence - 1))


async def test_an_attached_process_takes_over_when_the_owner_leaves_in_order(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as owner, open_broker(tmp_path) as attached, LogConnection(attached) as connection:
        log = await connection.create("default", "RUN")
        await log.append(phase(0))
        await owner.close()  # type: ignore[attr-defined]  # the embedded one
        await log.append_all([(phase(time), time % 2 == 0) for time in range(1, 9)])
        assert attached.owner
        assert [entry.event.time async for entry in log.read()] == [0, 1, 3, 5, 7]
        assert [entry.event.time async for entry in log.read(truth=True)] == [2, 4, 6, 8]


async def test_writing_goes_on_when_the_server_itself_is_killed(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        log = await connection.create("default", "RUN")
        for time in range(0, 30, 10):
            await log.append_all([(phase(time + step), False) for step in range(10)])
            os.kill(endpoint(tmp_path).server_pid, signal.SIGKILL)
        assert [entry.event.time async for entry in log.read()] == list(range(30))


async def test_a_server_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_ready = nats_server._wait_ready
    killed: list[int] = []

    async def killing(process: anyio.abc.Process, *others: Any) -> str:
        if not killed:
            process.kill()
            killed.append(process.pid)
        return await wait_ready(process, *others)

    monkeypatch.setattr(nats_server, "_wait_ready", killing)
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        log = await connection.create("default", "RUN")
        assert await log.append(phase(0)) == 1
    assert killed


async def test_who_waits_for_work_is_told_at_once_that_the_server_was_killed(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as broker, JetStream(broker) as jetstream:
        queue = WorkQueue(jetstream)
        await queue.open("any")
        told = anyio.Event()

        async def wait_for_work() -> None:
            with pytest.raises(Unanswered):
                await jetstream.next_message("ocg-work", "any", 3600.0)
            told.set()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(wait_for_work)
                await anyio.sleep(0.2)  # a moment for the question to be out
                os.kill(endpoint(tmp_path).server_pid, signal.SIGKILL)
                await told.wait()
        assert await queue.take("any") is None  # over a connection to the next server


async def test_a_tail_goes_on_over_a_take_over(tmp_path: Path) -> None:
    seen: list[Event] = []
    both_there = anyio.Event()

    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        log = await connection.create("default", "RUN")

        async def follow() -> None:
            async for entry in log.tail():
                seen.append(entry.event)
                if len(seen) == 2:
                    both_there.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                group.start_soon(follow)
                await log.append_all([(phase(0), False), (phase(1), False)])
                await both_there.wait()
                os.kill(endpoint(tmp_path).server_pid, signal.SIGKILL)
                await log.append(phase(2))
                await log.append(RunEnded(time=3, reason="closed"))
    assert seen == [phase(0), phase(1), phase(2), RunEnded(time=3, reason="closed")]


async def check_that_a_run_outlives_its_server(data_dir: Path) -> None:
    async with open_broker(data_dir) as broker, LogConnection(broker) as connection:
        log = await connection.create("default", "RUN")
        await log.append_all([(phase(1), False), (phase(2), True)])
        digest = log.content_digest()
    async with open_broker(data_dir) as broker, LogConnection(broker) as connection:
        assert (await connection.resume("RUN")).content_digest() == digest


async def test_runs_are_there_after_a_restart(tmp_path: Path) -> None:
    await check_that_a_run_outlives_its_server(tmp_path)


@pytest.mark.parametrize("truth", [False, True], ids=["public", "truth"])
async def test_a_stream_whose_making_was_cut_short_is_made_anew(tmp_path: Path, truth: bool) -> None:
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        await connection.create("default", "RUN")
    stream = "ocg-truth_RUN" if truth else "ocg_RUN"
    (checksum,) = (tmp_path / "nats" / "store").rglob(f"streams/{stream}/meta.sum")
    checksum.unlink()  # the server writes it last: so a kill leaves it
    await check_that_a_run_outlives_its_server(tmp_path)


async def test_a_run_can_be_made_while_the_server_tidies_up_after_the_last_one(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        for number in range(300):  # once in some 300 times the server takes away the directory that it then needs
            await connection.create("default", f"RUN{number}")
            await connection.delete(f"RUN{number}")
        assert await connection.runs() == []


# --- damage ---------------------------------------------------------------------------------------------------------------


def flip_byte(data_dir: Path, marker: bytes) -> None:
    """Change the first byte of a marker in the stored messages."""
    (file,) = (data_dir / "nats" / "store").rglob("streams/ocg_RUN/msgs/*.blk")
    content = bytearray(file.read_bytes())
    content[content.index(marker)] ^= 4
    file.write_bytes(content)


@pytest.mark.parametrize("marked", [0, 5, 9], ids=["first", "middle", "last"])
async def test_a_flipped_byte_on_the_disk_is_found(tmp_path: Path, marked: int) -> None:
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        log = await connection.create("default", "RUN")
        await log.append_all([(RunAborted(time=number, reason=f"marker-{number}"), False) for number in range(10)])
    flip_byte(tmp_path, f"marker-{marked}".encode())
    async with open_broker(tmp_path) as broker, LogConnection(broker) as connection:
        with pytest.raises(LogCorrupted, match=f"ocg_RUN: message {marked + 1} "):
            await connection.resume("RUN")
        assert [run.run_id for run in await connection.runs()] == ["RUN"]


# --- clear messages -------------------------------------------------------------------------------------------------------


async def refused_by(url: str) -> str:
    """Return what a user is told who wants to use the server at `url`."""
    with pytest.raises(BrokerError) as caught:
        async with LogConnection(RemoteBroker(url)):
            pass
    return str(caught.value)


@asynccontextmanager
async def stranger(greeting: bytes) -> AsyncIterator[str]:
    """A program on a port that isn't a NATS server; it says `greeting` and waits."""

    async def serve(client: anyio.abc.SocketStream) -> None:
        async with client:
            await client.send(greeting)
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield f"nats://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        group.cancel_scope.cancel()


async def test_a_url_where_nobody_listens_is_named() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()
    message = await refused_by(f"nats://127.0.0.1:{port}")
    assert message.startswith(f"the NATS server at nats://127.0.0.1:{port} can't be used: nothing listens there\n")


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b" "], ids=["another protocol", "silence"])
async def test_a_port_that_another_program_uses_is_named(greeting: bytes) -> None:
    async with stranger(greeting) as url:
        assert f"the NATS server at {url} can't be used" in await refused_by(url)


@pytest.mark.parametrize("url", ["not a url", "nats://", "nats://127.0.0.1:port"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    assert "can't be used" in await refused_by(url)


async def test_a_password_in_the_url_is_not_printed() -> None:
    with pytest.raises(BrokerError) as refusal:
        async with LogConnection(RemoteBroker("nats://user:secret@127.0.0.1:1")):
            pass
    assert "nats://127.0.0.1:1" in str(refusal.value)
    assert "secret" not in str(refusal.value)


async def test_a_missing_credentials_file_is_named(broker_url: str, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=r"missing\.creds"):
        async with LogConnection(RemoteBroker(broker_url, credentials_file=tmp_path / "missing.creds")):
            pass


async def test_a_server_without_jetstream_is_told_from_one_that_is_down(tmp_path: Path, own_broker: Broker) -> None:
    assert own_broker.url
    server = await anyio.Path(f"/proc/{endpoint(tmp_path).server_pid}/exe").readlink()
    ports = tmp_path / "ports"
    await anyio.Path(ports).mkdir()
    async with await anyio.open_process(
        [server, "--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", str(ports)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as plain:
        file = ports / f"nats-server_{plain.pid}.ports"
        await wait_for(lambda: file.exists() and file.read_bytes().endswith(b"}"))
        url = msgspec.json.decode(file.read_bytes())["nats"][0]
        try:
            assert f"the NATS server at {url} has no JetStream" in await refused_by(url)
        finally:
            plain.kill()


async def test_a_data_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "nats").write_text("not a directory")
    with pytest.raises(BrokerError, match=f"{tmp_path}/nats can't be used"):
        async with open_broker(tmp_path):
            pass


async def test_a_store_that_the_server_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "store").write_text("not a directory")
    with pytest.raises(BrokerError, match=r"the embedded broker ended with code 1: .*\n  its full output is in"):
        async with open_broker(tmp_path):
            pass


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


async def test_a_full_disk_is_named_and_what_was_acknowledged_stays(small_disk: Path) -> None:
    def fill() -> None:
        with (small_disk / "filling").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    async with open_broker(small_disk) as broker, LogConnection(broker) as connection:
        log = await connection.create("default", "RUN")
        await log.append(phase(1))
        fill()
        with pytest.raises(LogError, match=r"message 2 can't be stored: the disk of .* is full"):
            await log.append_all([(RunAborted(time=2, reason="x" * 500_000), False)])
    with pytest.raises(BrokerError, match=r"is full: 0\.0 MiB free"):
        async with open_broker(small_disk):
            pass
    (small_disk / "filling").unlink()
    async with open_broker(small_disk) as broker, LogConnection(broker) as connection:
        resumed = await connection.resume("RUN")
        assert [entry.event async for entry in resumed.read()] == [phase(1)]
        await resumed.append(phase(2))
