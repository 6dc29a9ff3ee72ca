"""One lock per run in progress: how the next process tells a run that is alive from one that crashed.

In: a data directory and a run id. Out: a lock that is held while the process lives, whatever ends it, because the kernel
holds it. The file stays when the lock is released: only recovery removes it, once the run's dataset is on the disk, so
that no way out of an episode leaves a run that nobody looks after. A run whose file isn't here belongs to another data
directory, perhaps of another machine on the same broker, and is none of our business.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio

from otel_control_gym.engine.errors import LogError

__all__ = ("claimed_run", "forget_run", "listed_runs", "locked_file", "run_lock", "unfinished_runs")

WAIT_SECONDS = 5.0
POLL_SECONDS = 0.02

_SUFFIX = ".lock"


@asynccontextmanager
async def run_lock(data_dir: Path, run_id: str) -> AsyncIterator[None]:
    """Hold the lock of a run.

    Raises: LogError: another process holds it, or the file can't be written.
    """
    file = _lock(data_dir, run_id)
    with anyio.move_on_after(WAIT_SECONDS):
        while (
            file is None
        ):  # recovery elsewhere may hold it for the moment that it needs to see that there is no such run
            await anyio.sleep(POLL_SECONDS)
            file = _lock(data_dir, run_id)
    if file is None:
        raise LogError(f"run {run_id} is in progress in another process")
    try:
        yield
    finally:
        os.close(file)


@asynccontextmanager
async def claimed_run(data_dir: Path, run_id: str) -> AsyncIterator[bool]:
    """Hold the lock of a run if it is free; yield whether it is held."""
    file = _lock(data_dir, run_id)
    try:
        yield file is not None
    finally:
        if file is not None:
            os.close(file)


def listed_runs(data_dir: Path) -> list[str]:
    """Return the ids of the runs that are in progress or weren't put in order yet, oldest first."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in (data_dir / "locks").glob(f"*{_SUFFIX}"))


def unfinished_runs(data_dir: Path) -> dict[str, Literal["running", "crashed"]]:
    """Return the runs that are in progress, or whose process ended before they were put in order; oldest first."""
    states: dict[str, Literal["running", "crashed"]] = {}
    for run_id in listed_runs(data_dir):
        held = _lock(data_dir, run_id)
        states[run_id] = "running" if held is None else "crashed"
        if held is not None:
            os.close(held)
    return states


def forget_run(data_dir: Path, run_id: str) -> None:
    """Remove the lock file of a run that is in order; its lock is held by the caller."""
    _path(data_dir, run_id).unlink(missing_ok=True)


def locked_file(path: Path) -> int | None:
    """Return an open file, made if it isn't there, that holds an exclusive lock; None when somebody else holds it.

    Closing the file, or the end of every process that inherited it, releases the lock.

    Raises: OSError: the file can't be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _lock(data_dir: Path, run_id: str) -> int | None:
    try:
        return locked_file(_path(data_dir, run_id))
    except OSError as error:
        raise LogError(f"the lock of run {run_id} can't be taken: {error}") from error


def _path(data_dir: Path, run_id: str) -> Path:
    return data_dir / "locks" / f"{run_id}{_SUFFIX}"
