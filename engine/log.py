"""The broker's runs: make one, find one, follow another writer, list, drop.

In: a broker. Out: `RunLog` (the writer of a run) and `RunReader`. A run is two streams, `ocg_<run id>` and `ocg-truth_<run id>`, so that
runs don't break each other's pipelining and one can be dropped whole; its campaign stands in the streams' metadata.

Upstream: `engine.broker`. Downstream: `engine.run_log`, whose classes this module hands out.
"""

from __future__ import annotations

from types import TracebackType
from typing import Literal

import msgspec

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.envelope import RunName
from otel_control_gym.engine.errors import LogError
from otel_control_gym.engine.events import RunAborted, RunEnded, type_tag
from otel_control_gym.engine.jetstream import JetStream, StreamConfig, StreamInfo
from otel_control_gym.engine.nats_session import Refused, Unanswered
from otel_control_gym.engine.run_log import RunLog, RunReader, raise_unreadable, stream_name

__all__ = ("LogConnection", "RunLog", "RunReader", "RunStatus", "RunSummary")

_PREFIX = "ocg"

RunStatus = Literal["completed", "aborted", "unfinished", "unreadable"]
"""Unfinished: in progress, or its process died; unreadable: the broker has lost its last message."""


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the broker knows it."""

    run_id: str
    campaign: str
    status: RunStatus
    public_messages: int
    truth_messages: int
    bytes: int


class LogConnection:
    """A connection to the broker's logs; an async context manager. Several runs may be written and read over it."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._jetstream = JetStream(broker)

    async def __aenter__(self) -> LogConnection:
        """Connect.

        Raises: BrokerError: no server answers, or it has no JetStream.
        """
        await self._jetstream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self._jetstream.__aexit__(kind, error, trace)

    async def create(self, campaign: str, run_id: str) -> RunLog:
        """Make the streams of a new run and return its writer.

        Raises: LogError: the names can't stand in a subject, or the run exists.
        """
        run = RunName(campaign, run_id).checked()
        for truth in (True, False):  # a run is known by its public stream, so that comes last
            config = StreamConfig(
                name=stream_name(run_id, truth=truth),
                subjects=(f"{run.subject_root(truth=truth)}.>",),
                num_replicas=self._broker.replicas,
                metadata={"ocg-campaign": campaign, "ocg-run-id": run_id},
            )
            try:
                info = await self._jetstream.add_stream(config)
            except (Refused, Unanswered) as error:
                raise LogError(f"the streams of run {run_id} can't be made: {error}") from error
            if info.messages:
                raise LogError(f"run {run_id} exists already, with {info.messages} messages")
        return RunLog(self._jetstream, run)

    async def open_run(self, run_id: str) -> RunReader:
        """Return a reader of a run, finished or in progress.

        Raises: LogError: the broker has no such run.
        """
        try:
            info = await self._jetstream.stream(stream_name(run_id, truth=False))
        except (Refused, Unanswered) as error:
            raise_unreadable(run_id, error)
        return RunReader(self._jetstream, RunName(info.metadata.get("ocg-campaign", ""), run_id))

    async def resume(self, run_id: str) -> RunLog:
        """Return the next writer of a run: reads and verifies all of it. The writer before it, if alive, gets a conflict.

        Raises: LogError: no such run; LogCorrupted: it isn't what was written.
        """
        log = RunLog(self._jetstream, (await self.open_run(run_id)).run)
        await log.catch_up()
        return log

    async def runs(self) -> list[RunSummary]:
        """Return all runs that the broker holds, oldest first.

        Raises: LogError: the broker doesn't answer.
        """
        try:
            streams = {info.name: info for info in await self._jetstream.streams(_PREFIX)}
            return [
                await self._summary(info, streams.get(stream_name(info.metadata["ocg-run-id"], truth=True)))
                for name, info in streams.items()
                if name == stream_name(info.metadata.get("ocg-run-id", ""), truth=False)
            ]
        except (Refused, Unanswered) as error:
            raise LogError(f"the broker's runs can't be listed: {error}") from error

    async def _summary(self, public: StreamInfo, truth: StreamInfo | None) -> RunSummary:
        return RunSummary(
            run_id=public.metadata["ocg-run-id"],
            campaign=public.metadata["ocg-campaign"],
            status=await self._status(public),
            public_messages=public.messages,
            truth_messages=0 if truth is None else truth.messages,
            bytes=public.bytes + (0 if truth is None else truth.bytes),
        )

    async def _status(self, stream: StreamInfo) -> RunStatus:
        if stream.last_sequence == 0:
            return "unfinished"
        try:
            tag = (await self._jetstream.stored(stream.name, stream.last_sequence)).headers.get("ce-type")
        except Refused:
            return "unreadable"
        if tag == type_tag(RunEnded):
            return "completed"
        return "aborted" if tag == type_tag(RunAborted) else "unfinished"

    async def delete(self, run_id: str) -> None:
        """Drop a run's streams with all that is in them; a run that isn't there is no error.

        Raises: LogError: the broker refuses, or doesn't answer.
        """
        try:
            for truth in (False, True):
                await self._jetstream.delete_stream(stream_name(run_id, truth=truth))
        except (Refused, Unanswered) as error:
            raise LogError(f"run {run_id} can't be dropped: {error}") from error
