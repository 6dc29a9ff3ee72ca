"""What is still to be played: one work-queue stream for all campaigns, a consumer for each.

In: runs, complete with their configuration, so that a worker on another machine needs no files. Out: the same, one at a time, to whoever
asks. A
run is gone from the queue when a worker says that it is done or can't be; one whose worker falls silent is given out again.
"""

from __future__ import annotations

import msgspec
import zstandard

from otel_control_gym.engine.cluster_access import ResetLevel
from otel_control_gym.engine.codec import BODY_LIMIT
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.jetstream import JetStream, StreamConfig
from otel_control_gym.engine.nats_session import Delivered
from otel_control_gym.engine.packing import decompress
from otel_control_gym.engine.settings import RunConfig

__all__ = ("SILENCE_SECONDS", "Job", "Task", "WorkQueue")

SILENCE_SECONDS = 15.0  #: without a sign of life after which a run is given to another worker
_STREAM = "ocg-work"
_POLL_SECONDS = 2.0
_LEVEL = 3  #: of zstd


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A run to be played."""

    campaign: str
    key: str
    config: RunConfig
    reset: ResetLevel | None = None  #: of a cluster before the run; None: the run is for the embedded twin


class Task(msgspec.Struct, frozen=True):
    """A job in a worker's hands."""

    job: Job
    delivered: Delivered


class WorkQueue:
    """The queue of a broker."""

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream

    async def open(self, campaign: str) -> None:
        """Make the stream and the campaign's consumer, where they aren't there.

        Raises: Refused; Unanswered.
        """
        await self._jetstream.add_stream(
            StreamConfig(
                name=_STREAM,
                subjects=("ocg-work.>",),
                num_replicas=self._jetstream.broker.replicas,
                retention="workqueue",
                deny_delete=False,
                deny_purge=False,
            )
        )
        await self._jetstream.add_consumer(
            _STREAM, campaign, subject=f"ocg-work.{campaign}.*", wait_seconds=SILENCE_SECONDS
        )

    async def put(self, job: Job) -> bool:
        """Put a job in; return False if it is there already.

        Raises: UsageError: its configuration is larger than a message may be. Refused; Unanswered.
        """
        body = zstandard.ZstdCompressor(level=_LEVEL).compress(msgspec.json.encode(job))
        if len(body) > BODY_LIMIT:
            raise UsageError(
                f"run {job.key}: its configuration is {len(body)} bytes packed, a message holds {BODY_LIMIT}"
            )
        return await self._jetstream.store_first(f"ocg-work.{job.campaign}.{job.key}", body)

    async def campaigns(self) -> list[str]:
        """Return the campaigns that have a consumer.

        Raises: Unanswered.
        """
        return await self._jetstream.consumers(_STREAM)

    async def take(self, campaign: str) -> Task | None:
        """Return a campaign's next job; None if there was none for a while.

        Raises: Unanswered.
        """
        delivered = await self._jetstream.next_message(_STREAM, campaign, _POLL_SECONDS)
        if delivered is None:
            return None
        return Task(msgspec.json.decode(decompress(delivered.body), type=Job), delivered)

    async def keep(self, task: Task) -> None:
        """Say that the job is still being worked on."""
        await self._jetstream.acknowledge(task.delivered, b"+WPI")

    async def done(self, task: Task) -> bool:
        """Say that the job is done, or can't be: it leaves the queue. Return whether that was heard."""
        return await self._jetstream.acknowledge(task.delivered)

    async def give_back(self, task: Task) -> bool:
        """Say that somebody else is to take it, now."""
        return await self._jetstream.acknowledge(task.delivered, b"-NAK")

    async def clear(self, campaign: str) -> None:
        """Drop what of a campaign nobody has taken yet.

        Raises: Refused; Unanswered.
        """
        await self._jetstream.purge(_STREAM, f"ocg-work.{campaign}.*")
