"""A worker: takes runs from the queue, plays them, says what became of them.

In: a broker; a cluster, if runs are to be played on one. Out: run directories, and events in the campaign's record. Any number of workers
may work, on any machine that reaches the broker. A worker of a cluster takes the runs that are for clusters, any other those of the twin.

What a worker's death leaves, and who cleans up:

| it died                               | queue                  | record    | what follows                                        |
|---------------------------------------|------------------------|-----------|-----------------------------------------------------|
| before the run began                  | given out again        | –         | another worker plays it                             |
| in the run                            | given out again        | `started` | the next taker aborts the dead run, plays it anew    |
| after the dataset, before `completed` | given out again        | `started` | the next taker records the run that is there         |
| after `completed`, before the queue   | given out again        | completed | the next taker sees that it is done                  |

What the broker's death leaves: nothing that was acknowledged is lost, but it may forget who has what (a consumer's state is written later
than its messages). Then a run is given out again while somebody plays it, and counts as given out for the first time. So what matters is
taken from the record alone: whether somebody began it, and how often it failed.

So a key is completed once, by the run that the record names. A run that came second is dropped, here or at the campaign's end (`running`).

A cluster may be sick, and a run isn't to be given up for that: what goes wrong before a run has begun (the API server doesn't answer, the
known state can't be reached) is the stand's trouble, told in the record; the run goes back to the queue, for another stand or for later. A
stand that is lost in a run costs the run an attempt, too. After `TROUBLES` on end, with a pause after each, the worker gives its stand up.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.campaigns.queue import SILENCE_SECONDS, Job, Task, WorkQueue
from otel_control_gym.engine.campaigns.record import (
    CampaignRecord,
    Completed,
    Failed,
    StandTroubled,
    Started,
    campaign_streams,
)
from otel_control_gym.engine.clock import wall_now, wall_timer
from otel_control_gym.engine.cluster_assembly import stand_name
from otel_control_gym.engine.errors import (
    BrokerError,
    OtelControlGymError,
    StandError,
    StandLeftOut,
    StandTaken,
    UsageError,
)
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.nats_session import Unanswered
from otel_control_gym.engine.runs import open_run, run_directory

if TYPE_CHECKING:
    from otel_control_gym.engine.cluster_access import ClusterAccess, ResetLevel
    from otel_control_gym.engine.env import Env
    from otel_control_gym.engine.observation import Observation

__all__ = ("ATTEMPTS", "TROUBLES", "Worker", "worker_name")

ATTEMPTS = 3  #: after which a run that fails is given up
TROUBLES = 3  #: of a stand on end, after which it is left out
_SIGN_SECONDS = SILENCE_SECONDS / 4
_PAUSE_SECONDS = 0.5  #: when there was nothing to be taken
_TAKEN_SECONDS = 5.0  #: until a stand that somebody else drives is asked for again
_TROUBLE_SECONDS = 20.0  #: until a stand in trouble is tried again; another one may play its run meanwhile
_SILENCES = 10  #: of the broker on end, each as long as a question is repeated, before a worker gives up


def worker_name() -> str:
    """Return what this process is called in records."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Worker:
    """Plays runs into a data directory, one after the other."""

    def __init__(
        self,
        jetstream: JetStream,
        connection: LogConnection,
        *,
        data_dir: Path,
        nats: str | None,
        name: str,
        access: ClusterAccess | None = None,
        on_task: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`access` leads to the cluster on which it plays, each run after the reset that its campaign asks for; None: on the embedded twin.

        `on_task` is told the key of each run that begins.

        Raises: UsageError: the kubeconfig leads nowhere.
        """
        self._jetstream = jetstream
        self._connection = connection
        self._queue = WorkQueue(jetstream)
        self._data_dir, self._nats, self._name = data_dir, nats, name
        self._access, self._on_task = access, on_task
        self._stand = "" if access is None else stand_name(access)
        self._records: dict[str, CampaignRecord] = {}
        self._env: Env | None = None
        self._reset: ResetLevel | None = None  # of `_env`
        self._troubles = 0  # of the stand, on end
        self._waits = False  # for a stand that somebody else drives

    async def work(self, campaign: str | None, *, until_idle: bool) -> int:
        """Play what there is to play, of one campaign or of all; return how many runs were played.

        With `until_idle` it returns when a campaign has nothing left to be taken, otherwise never.

        Raises:
            UsageError: the campaign is for another kind of stand.
            StandLeftOut: the stand is given up.
            BrokerError: the broker doesn't answer any more.
        """
        played = silences = 0
        try:
            while True:
                worked = taken = False
                try:
                    for name in await self._ours(campaign):
                        task = await self._queue.take(name)
                        if task is not None:
                            worked = True
                            played += await self._attend(task)
                    silences = 0
                except StandTaken:
                    taken = True  # the run is back in the queue, for who drives the stand or for later
                    await anyio.sleep(_TAKEN_SECONDS)
                except StandLeftOut:
                    raise
                except StandError:
                    taken = True
                    await anyio.sleep(_TROUBLE_SECONDS)
                except Unanswered as error:
                    silences += 1
                    if silences > _SILENCES:
                        raise BrokerError(f"the broker doesn't answer any more: {error}") from error
                if until_idle and not (worked or taken or silences):
                    return played
                if not worked:
                    await anyio.sleep(_PAUSE_SECONDS)
        except BaseException as error:
            await self._leave(error)
            raise
        finally:
            await self._leave(None)

    async def _leave(self, error: BaseException | None) -> None:
        """Leave the environment; with an error, the run under way is aborted, and not closed as if it were over."""
        env, self._env = self._env, None
        if env is not None:
            with anyio.CancelScope(shield=True):
                await env.__aexit__(None if error is None else type(error), error, None)

    async def _ours(self, campaign: str | None) -> list[str]:
        """Return the campaigns from which this worker takes: the named one, or all that are for its kind of stand.

        Raises: UsageError: the named one is for another kind.
        """
        kind = "twin" if self._access is None else "cluster"
        if campaign is None:
            return [name for name in await self._queue.campaigns() if (await self._record(name)).state.stand == kind]
        if campaign not in self._records and campaign not in await campaign_streams(self._jetstream):
            return [campaign]  # nothing is known of it yet
        found = (await self._record(campaign)).state.stand
        if found != kind:
            raise UsageError(
                f"campaign {campaign!r} is for {'clusters' if found == 'cluster' else 'the embedded twin'}\n"
                + (
                    "  name one: --kubeconfig FILE, or --in-pod"
                    if found == "cluster"
                    else "  leave --kubeconfig or --in-pod out"
                )
            )
        return [campaign]

    async def _attend(self, task: Task) -> bool:
        """Play a task if it is still to be played; give signs of life meanwhile. Return whether it was played."""
        record = await self._record(task.job.campaign)
        await record.catch_up()
        known = record.state.keys.get(task.job.key)
        if record.state.cancelled or known is None or known.status in ("completed", "failed"):
            await self._queue.done(task)
            return False
        try:
            async with anyio.create_task_group() as signs:
                signs.start_soon(self._give_signs, task)
                await self._play(task, record)
                signs.cancel_scope.cancel()
        except BaseException as error:
            with anyio.move_on_after(5.0, shield=True):
                await self._queue.give_back(task)
            await self._leave(error)  # or the next reset would close this run as if it were over
            if isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
                raise error.exceptions[0] from None
            raise
        return True

    async def _give_signs(self, task: Task) -> None:
        while True:
            await anyio.sleep(_SIGN_SECONDS)
            await self._queue.keep(task)

    async def _play(self, task: Task, record: CampaignRecord) -> None:
        job, began = task.job, wall_timer()
        self._on_task(job.key)
        run_id: str | None = None
        try:
            env = await self._env_for(job)
            if record.state.keys[job.key].run_id is not None:
                await env.put_in_order()  # what the worker before left
                if await self._adopted(task, record):
                    return
            known = record.state.keys[job.key]
            identity = msgspec.structs.replace(job.config.identity, retry_of=known.run_id)
            observation = await env.reset(config=msgspec.structs.replace(job.config, identity=identity))
            run_id = env.run_id
            await record.write(
                Started(
                    time=wall_now(), key=job.key, run_id=run_id or "", worker=self._name, attempt=known.attempts + 1
                )
            )
            await self._play_episode(env, observation)
            await self._finish(task, record, env.run_dir, wall_timer() - began)
            self._troubles = 0
        except StandTaken as error:  # no fault of the run's
            if not self._waits:
                self._waits = True
                await self._tell_trouble(record, error, left_out=False)
            raise
        except (OtelControlGymError, OSError) as error:
            await self._leave(error)  # whatever state it is in
            if self._access is None or not isinstance(error, StandError):
                if not await self._failed(task, record, run_id, error):
                    await self._queue.give_back(task)
                return
            if run_id is not None:
                await self._failed(task, record, run_id, error)
            self._troubles += 1
            left_out = self._troubles >= TROUBLES
            await self._tell_trouble(record, error, left_out=left_out)
            if left_out:
                raise StandLeftOut(
                    f"stand {self._stand} is left out, {TROUBLES} times on end nothing could be played there: {error}"
                ) from error
            raise

    async def _failed(self, task: Task, record: CampaignRecord, run_id: str | None, error: Exception) -> bool:
        """Record an attempt that came to nothing; return whether it was the last one, after which the task is done."""
        key = task.job.key
        final = record.state.keys[key].failures + 1 >= ATTEMPTS
        reason = f"{type(error).__name__}: {error}"
        await record.write(
            Failed(time=wall_now(), key=key, run_id=run_id, worker=self._name, reason=reason, final=final)
        )
        if final:
            await self._queue.done(task)
        return final

    async def _tell_trouble(self, record: CampaignRecord, error: StandError, *, left_out: bool) -> None:
        trouble = StandTroubled(
            time=wall_now(),
            stand=self._stand,
            worker=self._name,
            reason=str(error),
            left_out=left_out,
        )
        await record.write(trouble)

    async def _adopted(self, task: Task, record: CampaignRecord) -> bool:
        """Record a run of an earlier attempt that has its dataset after all; return whether there was one."""
        known = record.state.keys[task.job.key]
        for run_id in (known.run_id, *reversed(known.earlier)):
            path = run_directory(self._data_dir, task.job.config.public, run_id or "none")
            if await anyio.Path(path / "metadata.json").exists() and open_run(path).status != "aborted":
                await self._finish(task, record, path, 0.0)
                return True
        return False

    async def _finish(self, task: Task, record: CampaignRecord, path: Path, wall_seconds: float) -> None:
        """Record a run, if its key has none yet, and let go of the task."""
        size = await anyio.to_thread.run_sync(lambda: sum(item.stat().st_size for item in path.iterdir()))
        run = open_run(path)
        first = await record.complete(
            Completed(
                time=wall_now(),
                key=task.job.key,
                run_id=run.run_id,
                worker=self._name,
                path=str(path.relative_to(self._data_dir)),
                status=run.status,
                wall_seconds=round(wall_seconds, 3),
                episode_seconds=float(task.job.config.public.horizon_seconds),
                size_bytes=size,
            )
        )
        if not first:
            await anyio.to_thread.run_sync(shutil.rmtree, path)
        await self._connection.delete(run.run_id)  # the archive lies beside the dataset
        await self._queue.done(task)

    async def _play_episode(self, env: Env, observation: Observation) -> None:
        from otel_control_gym.policies import play, policy_of

        policy = policy_of(env.config)
        env.decided_by("scripted", policy.version, policy.information)
        played = await play(env, policy, observation)
        if played.done_reason == "stand_lost":
            raise StandError("the stand was lost in the run")  # which is aborted, and played anew
        await env.close_episode()

    async def _env_for(self, job: Job) -> Env:
        from otel_control_gym.engine.assembly import make

        if self._env is not None and job.reset != self._reset:
            await self._leave(None)
        if self._env is None:
            access = self._access
            if access is not None and job.reset is not None:
                access = msgspec.structs.replace(access, reset=job.reset)
            env = make(job.config, data_dir=self._data_dir, nats=self._nats, actor="scripted", kubeconfig=access)
            await env.__aenter__()
            self._env, self._reset, self._waits = env, job.reset, False
        return self._env

    async def _record(self, campaign: str) -> CampaignRecord:
        if campaign not in self._records:
            self._records[campaign] = await CampaignRecord.open(self._jetstream, campaign)
        return self._records[campaign]
