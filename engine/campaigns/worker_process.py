"""The worker process that `run_campaign` starts; `ocg worker` is the same for a person.

It ends in order on SIGTERM, and when the process that started it is gone: nobody would know of its work any more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.campaigns.worker import Worker, worker_name
from otel_control_gym.engine.command_line.interruption import run_interruptibly
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.log import LogConnection

__all__ = ("main", "work")

_PARENT_SECONDS = 1.0  #: between looks whether the parent lives


async def work(
    campaign: str | None, data_dir: Path, nats: str | None, *, parent: int | None = None, until_idle: bool = False
) -> int:
    """Play runs from the queue; return how many. With `parent` only while that process is this one's parent."""
    played = 0
    async with (
        configured_broker(data_dir, nats) as broker,
        JetStream(broker) as jetstream,
        LogConnection(broker) as connection,
        anyio.create_task_group() as tasks,
    ):
        if parent is not None:
            tasks.start_soon(_leave_with, parent, tasks.cancel_scope)
        worker = Worker(jetstream, connection, data_dir=data_dir, nats=nats, name=worker_name())
        played = await worker.work(campaign, until_idle=until_idle)
        tasks.cancel_scope.cancel()
    return played


async def _leave_with(parent: int, scope: anyio.CancelScope) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - another process ends; there is no event to wait for
        await anyio.sleep(_PARENT_SECONDS)
    scope.cancel()


def main() -> None:
    """Work as the command line says: campaign, data directory, NATS URL or nothing, process id of the parent."""
    campaign, data_dir, nats, parent = sys.argv[1:5]
    try:
        run_interruptibly(lambda: work(campaign, Path(data_dir), nats or None, parent=int(parent)))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
