"""What a crashed run left, put in order at the next start.

In: the lock files of a data directory. Out: every run in it that nobody works on any more ends with `RunEnded` or
`RunAborted`, and has its archive and its (perhaps partial) dataset.

What is on the disk at each moment at which a process may die, and what recovery then does:

| the process died                 | lock file | streams | run directory  | recovery                                   |
|----------------------------------|-----------|---------|----------------|--------------------------------------------|
| after taking the lock            | yes       | none    | –              | nothing: the run may be on another broker  |
| after making the streams         | yes       | empty   | –              | drops the streams                          |
| in the episode                   | yes       | no end  | –              | ends of actions, `RunAborted`, archive, dataset |
| after `RunEnded` or `RunAborted` | yes       | whole   | –              | archive, dataset                           |
| while writing the archive        | yes       | whole   | a draft        | archive, dataset                           |
| while writing the dataset        | yes       | whole   | archive, draft | archive, dataset                           |
| after the dataset                | yes       | whole   | all            | nothing                                    |
| in recovery itself               | yes       | any of these | any of these | the same again: each step can be repeated |

Actions that hadn't settled get the events that their lives lack, and what they may have left on a stand that still lives is taken
back: `settle` does both, it knows the actuators. What lay on the stand for that goes when the events are durable, so `settle` is left
only then; a run whose end is written already has nothing to add, but may still have something there.

Then the lock file is removed; not in the first row, and not for a run that can't be read: that one is left to a person.
Two processes that recover at once don't meet: each takes a run's lock first and leaves alone what it doesn't get. A run
whose process only seems dead isn't harmed, because it holds its lock.

Upstream: `engine.env` calls this before it opens the stand. Downstream: `engine.runs` stores the run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from pathlib import Path
from typing import Literal

import msgspec

from otel_control_gym.engine.errors import LogCorrupted, OtelControlGymError
from otel_control_gym.engine.events import BulkEvent, Event, RunAborted, RunDeclared, RunEnded
from otel_control_gym.engine.locks import claimed_run, forget_run, listed_runs
from otel_control_gym.engine.log import LogConnection, RunLog
from otel_control_gym.engine.runs import WriteDataset, run_directory, store_run

__all__ = ("REASON", "Crashed", "Recovered", "Settle", "recover")


class Crashed(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run whose process died."""

    run_id: str
    events: list[tuple[Event, bool]]  #: (event, truth), each stream in its order, without bulk telemetry
    last: int  #: its last moment [ns]


Settle = Callable[[Crashed], AbstractAsyncContextManager[Iterable[tuple[Event, bool]]]]
"""Takes back what a run has left, and yields the events that its actions lack; it is left when they are durable."""

REASON = "the process ended before it closed the run"

_LOGGER = logging.getLogger(__name__)


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What recovery did with a run."""

    run_id: str
    outcome: Literal["aborted", "stored", "dropped", "unreadable"]
    """Aborted: its end was written; stored: only its files were missing; dropped: it held nothing."""
    directory: Path | None = None


async def recover(
    connection: LogConnection, data_dir: Path, write_dataset: WriteDataset, settle: Settle | None = None
) -> list[Recovered]:
    """Put every crashed run of the data directory in order; return what was done, oldest run first.

    `write_dataset` is called in a worker thread with an archive's events and the run's directory. A run that can't be read, or whose stand
    can't be cleaned, is reported with a warning and kept for a person to look at; it doesn't keep others from starting.

    Raises: BrokerError: the broker went away.
    """
    listed = listed_runs(data_dir)
    if not listed:
        return []
    known = {summary.run_id: summary for summary in await connection.runs()}
    done = []
    for run_id in listed:
        if run_id not in known:
            continue
        async with claimed_run(data_dir, run_id) as claimed:
            if not claimed:
                continue
            try:
                recovered = await _recover_run(connection, data_dir, run_id, write_dataset, settle)
            except OtelControlGymError as error:
                _LOGGER.warning("run %s can't be recovered: %s", run_id, error)
                done.append(Recovered(run_id=run_id, outcome="unreadable"))
                continue
            forget_run(data_dir, run_id)
            if recovered is not None:
                done.append(recovered)
    return done


async def _recover_run(
    connection: LogConnection, data_dir: Path, run_id: str, write_dataset: WriteDataset, settle: Settle | None
) -> Recovered | None:
    """Recover one run, whose lock is held; None: there was nothing to do."""
    log = await connection.resume(run_id)
    if log.public_sequence == 0:
        await connection.delete(run_id)
        return Recovered(run_id=run_id, outcome="dropped")
    first, last = await _event_at(log, 1), await _event_at(log, log.public_sequence)
    if not isinstance(first, RunDeclared):
        raise LogCorrupted(f"run {run_id}: begins with {type(first).__name__} instead of RunDeclared")
    directory = run_directory(data_dir, first.settings, run_id)
    ended = isinstance(last, RunEnded | RunAborted)
    if ended and (directory / "metadata.json").exists():  # the dataset appears at once
        return None
    crashed = Crashed(run_id=run_id, events=await _events(log), last=last.time)
    async with nullcontext(()) if settle is None else settle(crashed) as missing:
        if not ended:
            for event, truth in missing:
                await log.append(event, truth=truth)
            await log.append(RunAborted(time=last.time, reason=REASON))
    await store_run(log, directory, write_dataset)
    return Recovered(run_id=run_id, outcome="stored" if ended else "aborted", directory=directory)


async def _events(log: RunLog) -> list[tuple[Event, bool]]:
    """Return the events of both streams but bulk telemetry, of which there may be too much."""
    found = []
    for truth in (False, True):
        async with aclosing(log.read(truth=truth)) as entries:
            found += [(entry.event, truth) async for entry in entries if not isinstance(entry.event, BulkEvent)]
    return found


async def _event_at(log: RunLog, sequence: int) -> Event:
    async with aclosing(log.read(start=sequence)) as entries:
        return (await anext(entries)).event
