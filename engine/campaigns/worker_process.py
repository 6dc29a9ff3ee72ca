"""The worker process that `run_campaign` starts; `ocg worker` is the same for a person.

One process plays on one stand: an embedded twin of its own, or a cluster. It ends in order on SIGTERM, and when the process that started it
is gone: nobody would know of its work any more.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import anyio

from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.campaigns.worker import Worker, worker_name
from otel_control_gym.engine.cluster_access import ClusterAccess, unpacked
from otel_control_gym.engine.command_line.interruption import run_interruptibly
from otel_control_gym.engine.errors import StandLeftOut, UsageError, cause_of
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.log import LogConnection

__all__ = ("GIVEN_UP", "main", "work")

GIVEN_UP = 3  #: exit code of a worker that can't play on its stand, which another one couldn't either
_PARENT_SECONDS = 1.0  #: between looks whether the parent lives


async def work(
    campaign: str | None,
    data_dir: Path,
    nats: str | None,
    *,
    access: ClusterAccess | None = None,
    parent: int | None = None,
    until_idle: bool = False,
) -> int:
    """Play runs from the queue, on a cluster or (`access` is None) the embedded twin; return how many.

    With `parent` only while that process is this one's parent.

    Raises: UsageError: the kubeconfig leads nowhere, or the campaign is for another kind of stand. StandLeftOut: the stand is given up.
    """
    played = 0
    async with (
        configured_broker(data_dir, nats) as broker,
        JetStream(broker) as jetstream,
        LogConnection(broker) as connection,
        anyio.create_task_group() as tasks,
    ):
        if parent is not None:
            tasks.start_soon(_leave_with, parent, tasks.cancel_scope)
        with _collections_between_runs() as collect:
            worker = Worker(
                jetstream,
                connection,
                data_dir=data_dir,
                nats=nats,
                name=worker_name(),
                access=access,
                on_task=collect,
            )
            played = await worker.work(campaign, until_idle=until_idle)
        tasks.cancel_scope.cancel()
    return played


@contextmanager
def _collections_between_runs() -> Iterator[Callable[[str], None]]:
    """Let garbage be collected before each run and not in it; yield what is to be told that a run begins.

    A run of an hour leaves some 50,000 objects in cycles, about 10 MB; to look for them all the time takes an eighth of the processor.
    """
    begun = count()

    def collect(_key: str) -> None:
        gc.collect()
        if next(begun) == 1:  # by now everything is imported and compiled: it needn't be looked through again
            gc.freeze()

    gc.disable()
    try:
        yield collect
    finally:
        gc.unfreeze()
        gc.enable()


async def _leave_with(parent: int, scope: anyio.CancelScope) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - another process ends; there is no event to wait for
        await anyio.sleep(_PARENT_SECONDS)
    scope.cancel()


def main() -> None:
    """Work as the command line says: campaign, data directory, NATS URL or nothing, process id of the parent, cluster or nothing."""
    campaign, data_dir, nats, parent, stand = sys.argv[1:6]
    access = unpacked(stand) if stand else None
    try:
        run_interruptibly(lambda: work(campaign, Path(data_dir), nats or None, access=access, parent=int(parent)))
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, UsageError):
            sys.stderr.write(f"error: {cause}\n")
        elif not isinstance(cause, StandLeftOut):  # of that the record tells
            raise
        sys.exit(GIVEN_UP)


if __name__ == "__main__":
    main()
