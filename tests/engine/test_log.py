"""The log keeps what it acknowledged, in order, once; and says so when somebody else wrote or something changed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import nats
import numpy as np
import pytest

from otel_control_gym.engine.broker import Broker, RemoteBroker
from otel_control_gym.engine.codec import split
from otel_control_gym.engine.envelope import Head, RunName, genesis, seal
from otel_control_gym.engine.errors import LogCorrupted, LogError, WriteConflict
from otel_control_gym.engine.events import (
    ActionSettled,
    EnvironmentRecorded,
    Event,
    PhaseEntered,
    Recorded,
    RunAborted,
    RunEnded,
    SamplesCollected,
)
from otel_control_gym.engine.log import LogConnection, RunLog, RunReader


def phase(time: int) -> PhaseEntered:
    return PhaseEntered(time=time, phase="control")


def settled(number: int) -> ActionSettled:
    return ActionSettled(time=number, action_id=f"a{number}", status="applied")


async def public(reader: RunReader, start: int = 1) -> list[Event]:
    return [entry.event async for entry in reader.read(start=start)]


# --- order ----------------------------------------------------------------------------------------------------------------


async def test_events_come_back_in_order_with_their_sequences(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    assert [await log.append(phase(time)) for time in range(5)] == [1, 2, 3, 4, 5]
    assert log.public_sequence == 5
    assert [entry async for entry in log.read()] == [Recorded(seq=time + 1, event=phase(time)) for time in range(5)]


async def test_reading_can_begin_in_the_middle(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    await log.append_all([(phase(time), False) for time in range(1200)])  # more than one batch
    assert await public(log, start=700) == [phase(time) for time in range(699, 1200)]


async def test_truth_has_its_own_numbers_and_says_which_public_event_it_follows(
    connection: LogConnection, run_id: str
) -> None:
    log = await connection.create("default", run_id)
    await log.append_all(
        [(settled(0), True), (phase(1), False), (phase(2), False), (settled(3), True), (phase(4), False)]
    )
    assert await log.append(settled(5), truth=True) == 3
    hidden = [(entry.seq, entry.after_seq, entry.truth) async for entry in log.read(truth=True)]
    assert hidden == [(1, 0, True), (2, 2, True), (3, 3, True)]
    assert [entry.seq async for entry in log.read()] == [1, 2, 3]


async def test_a_large_event_is_written_in_parts_that_are_events_themselves(
    connection: LogConnection, run_id: str
) -> None:
    rows = 200_000
    event = SamplesCollected(
        time=1,
        series=np.arange(rows, dtype=np.int32),
        times=np.arange(rows, dtype=np.int64),
        values=np.frombuffer(hashlib.shake_256(b"values").digest(8 * rows), dtype=np.float64),  # can't be compressed
    )
    log = await connection.create("default", run_id)
    written = await log.append_all([(event, False)])
    assert len(written) > 1
    assert log.public_sequence == len(written)
    parts = await public(log)
    assert (
        b"".join(part.values.tobytes() for part in parts if isinstance(part, SamplesCollected))
        == event.values.tobytes()
    )


async def test_tasks_that_append_at_once_share_one_order(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    async with anyio.create_task_group() as group:
        for time in range(30):
            group.start_soon(log.append, phase(time))
    assert sorted(event.time for event in await public(log)) == list(range(30))


# --- the fence ------------------------------------------------------------------------------------------------------------


async def test_a_second_writer_makes_the_first_one_fail(connection: LogConnection, run_id: str) -> None:
    first = await connection.create("default", run_id)
    await first.append(phase(1))
    second = await connection.resume(run_id)
    assert await second.append(phase(2)) == 2
    with pytest.raises(WriteConflict, match=f"ocg_{run_id}: message 2 was written by somebody else"):
        await first.append(phase(3))
    assert await public(second) == [phase(1), phase(2)]


async def test_a_conflict_in_the_truth_stream_is_found_too(connection: LogConnection, run_id: str) -> None:
    first = await connection.create("default", run_id)
    second = await connection.resume(run_id)
    await second.append(settled(1), truth=True)
    with pytest.raises(WriteConflict, match="ocg-truth"):
        await first.append_all([(phase(1), False), (settled(2), True)])


async def test_a_resumed_writer_continues_numbers_chain_and_digest(connection: LogConnection, run_id: str) -> None:
    first = await connection.create("default", run_id)
    await first.append_all([(phase(1), False), (settled(1), True)])
    second = await connection.resume(run_id)
    assert (second.public_sequence, second.truth_sequence) == (1, 1)
    assert second.content_digest() == first.content_digest()
    await second.append(phase(2))
    assert await public(second) == [phase(1), phase(2)]


async def test_a_run_is_made_once(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    await log.append(phase(1))
    with pytest.raises(LogError, match=f"run {run_id} exists already, with 1 messages"):
        await connection.create("default", run_id)


# --- lost answers ---------------------------------------------------------------------------------------------------------


class Network:
    """A wire to the server that can lose what it answers: what goes to the server arrives, what comes back doesn't."""

    def __init__(self, target: str) -> None:
        self._port = int(target.rpartition(":")[2])
        self.port = 0
        self.lose_answer_to = b""  #: cut the connection when a request that contains this has been passed on
        self.lost = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, self._carry)
            yield f"nats://127.0.0.1:{port}"
            group.cancel_scope.cancel()
        await listener.aclose()

    async def _carry(self, client: anyio.abc.SocketStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self._port) as server,
            anyio.create_task_group() as group,
        ):
            muted = anyio.Event()

            async def forth() -> None:
                async for chunk in client:
                    if self.lose_answer_to and self.lose_answer_to in chunk:
                        self.lose_answer_to = b""
                        muted.set()
                    await server.send(chunk)
                group.cancel_scope.cancel()

            async def back() -> None:
                async for chunk in server:
                    if muted.is_set():
                        self.lost += 1
                        break
                    await client.send(chunk)
                group.cancel_scope.cancel()

            group.start_soon(forth)
            group.start_soon(back)


@pytest.mark.parametrize("count", [1, 40])
async def test_an_append_whose_answer_was_lost_is_found_and_not_written_twice(
    broker_url: str, run_id: str, count: int
) -> None:
    network = Network(broker_url)
    async with network.open() as url, LogConnection(RemoteBroker(url)) as connection:
        log = await connection.create("default", run_id)
        await log.append(phase(0))
        network.lose_answer_to = b'"time":1,'
        await log.append_all([(phase(time), False) for time in range(1, count + 1)])
        assert network.lost == 1
        await log.append(phase(count + 1))
        assert await public(log) == [phase(time) for time in range(count + 2)]


async def test_an_append_that_is_cancelled_is_carried_through(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    async with anyio.create_task_group() as group:
        group.start_soon(log.append_all, [(phase(time), False) for time in range(20)])
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    before = await public(log)
    assert before in ([], [phase(time) for time in range(20)])  # not begun, or all of it
    await log.append(RunAborted(time=99, reason="cancelled"))
    assert await public(log) == [*before, RunAborted(time=99, reason="cancelled")]


# --- the chain ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(6))
async def test_an_append_that_a_bare_task_lost_is_settled_by_the_next_one(
    connection: LogConnection, run_id: str, turns: int
) -> None:
    log = await connection.create("c", run_id)
    await log.append(phase(0))
    task = asyncio.ensure_future(log.append_all([(phase(1), False), (settled(1), True)]))
    for _ in range(turns):  # asyncio's own cancellation, at another point each time, passes through anyio's shields
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await log.append(phase(2))
    events = await public(log)
    assert events in ([phase(0), phase(2)], [phase(0), phase(1), phase(2)])
    assert log.public_sequence == len(events)
    assert (await connection.resume(run_id)).content_digest() == log.content_digest()


async def forge(
    broker: Broker, run_id: str, tamper: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]]
) -> None:
    """Publish a second message that is well-formed but for what `tamper` does to it."""
    run = RunName("default", run_id)
    first = seal(split(phase(1))[0], run, genesis(run, truth=False))
    second = seal(split(phase(2))[0], run, first.head)
    client = await nats.connect(broker.url)
    stream = client.jetstream()
    await stream.publish(first.subject, first.body, headers=first.headers)
    headers, body = tamper(dict(second.headers), second.body)
    await stream.publish(second.subject, body, headers=headers)
    await client.close()


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        (lambda headers, body: (headers, body.replace(b"control", b"contrrl")), "message 2 was altered"),
        (lambda headers, body: (headers | {"ce-time": "2026"}, body), "message 2 was altered"),
        (lambda headers, body: ({}, body), "message 2 was altered"),
    ],
    ids=["body", "header", "no headers"],
)
async def test_a_message_that_was_altered_is_found_with_its_number(
    connection: LogConnection,
    broker: Broker,
    run_id: str,
    tamper: Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes]],
    complaint: str,
) -> None:
    log = await connection.create("default", run_id)
    await forge(broker, run_id, tamper)
    for start in (1, 2):
        with pytest.raises(LogCorrupted, match=f"ocg_{run_id}: {complaint}"):
            await public(log, start=start)
    with pytest.raises(LogCorrupted, match=complaint):
        await connection.resume(run_id)


async def test_a_message_that_follows_another_one_breaks_the_chain(
    connection: LogConnection, broker: Broker, run_id: str
) -> None:
    log = await connection.create("default", run_id)
    await log.append(phase(1))
    elsewhere = seal(split(phase(2))[0], log.run, Head(1, "0" * 64))  # sound in itself
    client = await nats.connect(broker.url)
    await client.jetstream().publish(elsewhere.subject, elsewhere.body, headers=elsewhere.headers)
    await client.close()
    with pytest.raises(LogCorrupted, match="message 2 doesn't continue the chain"):
        await public(log)


async def test_a_message_of_another_run_breaks_the_chain(
    connection: LogConnection, broker: Broker, new_run: Callable[[], str]
) -> None:
    ours, theirs = new_run(), new_run()
    log = await connection.create("default", ours)
    run = RunName("default", theirs)
    message = seal(split(phase(1))[0], run, genesis(run, truth=False))
    client = await nats.connect(broker.url)
    await client.jetstream().publish(log.run.subject("run.phase.1", truth=False), message.body, headers=message.headers)
    await client.close()
    with pytest.raises(LogCorrupted, match="message 1 was altered"):
        await public(log)


# --- the content digest ---------------------------------------------------------------------------------------------------

EVENTS: list[tuple[Event, bool]] = [(phase(1), False), (settled(1), True), (phase(2), False), (settled(2), True)]


async def digest_of(connection: LogConnection, run_id: str, events: Sequence[tuple[Event, bool]]) -> str:
    log = await connection.create("default", run_id)
    await log.append_all(events)
    return log.content_digest()


async def test_runs_of_the_same_events_have_the_same_digest_however_their_streams_interleave(
    connection: LogConnection, new_run: Callable[[], str]
) -> None:
    expected = await digest_of(connection, new_run(), EVENTS)
    assert await digest_of(connection, new_run(), sorted(EVENTS, key=lambda pair: pair[1])) == expected


async def test_what_is_not_reproducible_does_not_enter_the_digest(
    connection: LogConnection, new_run: Callable[[], str]
) -> None:
    machine = EnvironmentRecorded(time=1, versions={"numpy": "2"}, host={}, wall_time="now", stand={})
    assert await digest_of(connection, new_run(), [(machine, False), *EVENTS]) == await digest_of(
        connection, new_run(), EVENTS
    )


@pytest.mark.parametrize(
    "other",
    [
        EVENTS[:-1],
        [(phase(2), False), (settled(1), True), (phase(1), False), (settled(2), True)],
        [(phase(1), True), (settled(1), False), (phase(2), True), (settled(2), False)],
    ],
    ids=["one less", "another order", "streams exchanged"],
)
async def test_runs_of_other_events_have_another_digest(
    connection: LogConnection, new_run: Callable[[], str], other: list[tuple[Event, bool]]
) -> None:
    assert await digest_of(connection, new_run(), EVENTS) != await digest_of(connection, new_run(), other)


_ELSEWHERE = """
import sys, anyio
from otel_control_gym.engine.broker import RemoteBroker
from otel_control_gym.engine.events import ActionPostchecked, KubernetesEvent, KubernetesEventsObserved
from otel_control_gym.engine.log import LogConnection

async def main(url, run_id):
    evidence = {name: {"ready": 1, "seen": [1.5, None]} for name in {"cart", "checkout", "payment", "email"}}
    row = KubernetesEvent(time=1, type="Normal", reason="Killing", message="m", object_kind="Pod", object_name="p",
                          object_uid="u", component="kubelet", count=1)
    async with LogConnection(RemoteBroker(url)) as connection:
        log = await connection.create("default", run_id)
        await log.append(ActionPostchecked(time=1, action_id="a", verdict="partial", effective_time=None, evidence=evidence))
        await log.append(KubernetesEventsObserved(time=2, rows=(row,) * 5), truth=True)
        print(log.content_digest())

anyio.run(main, *sys.argv[1:])
"""


async def test_other_processes_with_other_hash_seeds_write_the_same_digest(
    broker_url: str, new_run: Callable[[], str]
) -> None:
    digests = []
    for seed in ("0", "1", "4242"):
        process = await anyio.run_process(
            [sys.executable, "-c", _ELSEWHERE, broker_url, new_run()],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stderr=subprocess.PIPE,
        )
        digests.append(process.stdout)
    assert len(digests[0]) == 65
    assert len(set(digests)) == 1


# --- other readers --------------------------------------------------------------------------------------------------------


async def test_a_tail_sees_what_is_written_and_ends_with_the_run(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    await log.append(phase(0))
    reader = await connection.open_run(run_id)
    seen: list[Event] = []
    first_is_there = anyio.Event()

    async def follow() -> None:
        async for entry in reader.tail():
            assert entry.seq == len(seen) + 1
            seen.append(entry.event)
            first_is_there.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await first_is_there.wait()
            await log.append_all([(phase(1), False), (settled(1), True), (phase(2), False)])
            await log.append(RunEnded(time=3, reason="horizon"))
    assert seen == [phase(0), phase(1), phase(2), RunEnded(time=3, reason="horizon")]


async def test_views_are_heard_and_not_stored(connection: LogConnection, broker: Broker, run_id: str) -> None:
    log = await connection.create("default", run_id)
    client = await nats.connect(broker.url)
    views = await client.subscribe(f"ocg.view.{run_id}.>")
    await client.flush()
    await log.publish_view("nodes.cart", b"view")
    message = await views.next_msg(timeout=10)
    assert (message.subject, message.data) == (f"ocg.view.{run_id}.nodes.cart", b"view")
    await client.close()
    assert await public(log) == []


async def test_any_client_finds_a_cloud_event_in_binary_mode(
    connection: LogConnection, broker: Broker, run_id: str
) -> None:
    log = await connection.create("default", run_id)
    await log.append(PhaseEntered(time=1_767_571_230_000_000_000, phase="control"))
    client = await nats.connect(broker.url)
    message = await client.jetstream().get_msg(f"ocg_{run_id}", 1)
    await client.close()
    assert message.subject == f"ocg.default.{run_id}.run.phase"
    assert message.headers is not None
    assert {name: value for name, value in message.headers.items() if name.startswith(("ce-", "content"))} == {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "run.phase.1",
        "ce-source": f"/ocg/default/{run_id}",
        "ce-time": "2026-01-05T00:00:30.000000Z",
        "content-type": "application/json",
    }


async def test_messages_can_not_be_deleted(connection: LogConnection, broker: Broker, run_id: str) -> None:
    log = await connection.create("default", run_id)
    await log.append(phase(1))
    client = await nats.connect(broker.url)
    for attempt in (
        client.jetstream().delete_msg(f"ocg_{run_id}", 1),
        client.jetstream().purge_stream(f"ocg_{run_id}"),
    ):
        with pytest.raises(nats.js.errors.APIError):
            await attempt
    await client.close()
    assert await public(log) == [phase(1)]


# --- runs -----------------------------------------------------------------------------------------------------------------


async def test_runs_are_listed_with_their_status(connection: LogConnection, new_run: Callable[[], str]) -> None:
    ends: dict[str, Event | None] = {
        "unfinished": phase(1),
        "completed": RunEnded(time=2, reason="goal"),
        "aborted": RunAborted(time=2, reason="stop"),
    }
    made = {}
    for status, last in ends.items():
        log = await connection.create("listing", new_run())
        assert last is not None
        await log.append_all([(phase(0), False), (settled(0), True), (last, False)])
        made[log.run.run_id] = status
    listed = [run for run in await connection.runs() if run.campaign == "listing"]
    assert {run.run_id: run.status for run in listed} == made
    assert all((run.public_messages, run.truth_messages) == (2, 1) and run.bytes > 0 for run in listed)


async def test_a_dropped_run_is_gone_and_dropping_it_again_is_no_error(connection: LogConnection, run_id: str) -> None:
    await connection.create("default", run_id)
    await connection.delete(run_id)
    await connection.delete(run_id)
    assert run_id not in [run.run_id for run in await connection.runs()]
    with pytest.raises(LogError, match=f"the broker has no run '{run_id}'"):
        await connection.open_run(run_id)


async def test_a_writer_whose_run_was_dropped_is_told(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    await log.append(phase(1))
    await connection.delete(run_id)
    with pytest.raises(LogError, match="its streams are gone"):
        await log.append(phase(2))


@pytest.mark.parametrize("campaign", ["", "a.b", "a b", "*", "view", "x" * 65])
async def test_a_campaign_that_can_not_stand_in_a_subject_is_refused(
    connection: LogConnection, run_id: str, campaign: str
) -> None:
    with pytest.raises(LogError, match="campaign"):
        await connection.create(campaign, run_id)


async def test_a_log_that_lost_acknowledged_messages_is_not_continued(connection: LogConnection, run_id: str) -> None:
    log = await connection.create("default", run_id)
    await log.append_all([(phase(1), False), (phase(2), False)])
    await connection.delete(run_id)
    emptied = await connection.create("default", run_id)
    assert isinstance(emptied, RunLog)
    with pytest.raises(LogCorrupted, match="ends at message 0, but 2 were acknowledged"):
        await log.append(phase(3))
