"""The gym API: `reset`, `observe`, `step` over a stand, with every consequence in the event log.

In: a run configuration and the rooms that `engine.assembly` puts together. Out: observations, rewards, and one run directory per
episode. The environment opens what lives long (broker, stand, collectors) in a host task of its own (`engine.host`), so that entering
and leaving may happen in different tasks; an operation runs in the caller's task and is cancelled when a resident fails.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypedDict

import anyio
import msgspec

from otel_control_gym.engine.archive import merged_messages
from otel_control_gym.engine.assembly import Rooms
from otel_control_gym.engine.branches import BranchPoint, PrefixReader, Randomness, branch_event
from otel_control_gym.engine.branching import Branch, live_again, play_out, take_turn
from otel_control_gym.engine.clock import SECOND, Pace, new_run_id, rfc3339
from otel_control_gym.engine.configuration import check_duration, check_window, resolve
from otel_control_gym.engine.episode import Decision, DoneReason, Episode
from otel_control_gym.engine.errors import LogError, OtelControlGymError, StandError, UsageError
from otel_control_gym.engine.events import Actor
from otel_control_gym.engine.host import Host, Resident
from otel_control_gym.engine.leases import leased
from otel_control_gym.engine.locks import forget_run, run_lock
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.observation import Observation, observe
from otel_control_gym.engine.plain_values import checked_seed
from otel_control_gym.engine.propensities import checked_propensity
from otel_control_gym.engine.protocols import ActionRecord, Endpoints
from otel_control_gym.engine.randomization import randomized
from otel_control_gym.engine.recovery import recover
from otel_control_gym.engine.runs import run_directory, store_run
from otel_control_gym.engine.settings import PlannedAction, RunConfig
from otel_control_gym.projections import step_reward

__all__ = ("Env", "Info")

_LOGGER = logging.getLogger(__name__)

CLOSING_SECONDS = 60.0  #: wall time that an aborted episode may take to leave the log and the stand in order


class _Act(msgspec.Struct):
    action: dict[str, Any]


class Info(TypedDict):
    """What `step` tells besides the observation."""

    action: ActionRecord | None  #: the record of this step's action; None from `reset`
    settled: list[ActionRecord]  #: records of earlier actions that settled in this step
    reward_components: dict[str, float]  #: raw component -> value, over the reward buckets that ended in this step
    terminated: bool  #: goal, emergency or a stand that can't go on: the value of the last state is what it is
    truncated: bool  #: the horizon: the value of the last state is unknown
    done_reason: DoneReason | None
    log_sequence: int  #: the observation is the fold of the public log up to here
    run_id: str


class Env:
    """A controlled DevOps system behind a gym API; made by `ocg.make`, used as an async context manager.

    One episode at a time: `reset` ends the one before. The dataset of an episode is in `run_dir` once it is closed (by the next `reset`
    or by leaving the context).
    """

    def __init__(
        self,
        config: RunConfig,
        rooms: Rooms,
        *,
        data_dir: Path,
        nats: str | None = None,
        pace: float = 0.0,
        actor: Actor = "model",
        policy_version: str = "",
        policy_information: Literal["public", "privileged"] = "public",
    ) -> None:
        self.config = config
        self.data_dir = data_dir
        self.run_id: str | None = None
        self._rooms = rooms
        self._nats = nats
        self._pace = pace
        self._actor: Actor = actor
        self._policy_version = policy_version
        self._policy_information: Literal["public", "privileged"] = policy_information
        self._host = Host()
        self._connection: LogConnection | None = None
        self._episode: Episode | None = None
        self._residents: list[Resident[Any]] = []
        self._beginning: str | None = None  # id of a run that has no streams yet, or not all of them
        self._interrupted = False  # a step didn't come to its end: the log may be ahead of what was folded

    # --- opening and closing ---------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Env:
        """Start the broker and the stand, and put crashed runs of earlier processes in order.

        Raises: StandError: another environment drives the stand.
        """
        await self._host.start()
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            broker = await self._host.enter(self._rooms.broker(self.data_dir, self._nats))
            self._connection = (await self._host.enter(LogConnection(broker.value))).value
            if (name := self._rooms.stand.lease_name) is not None:
                await self._host.enter(leased(broker.value, name))  # before anything is taken back on the stand
            await self._host.enter(self._rooms.stand.open())
            await self.put_in_order()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._host.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the episode in order; when leaving by an error or a cancellation, abort it and keep what it has."""
        try:
            if error is None:
                await self._finish_episode()
            else:
                with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                    await self._abort_episode("cancelled" if not isinstance(error, Exception) else repr(error))
        finally:
            with anyio.CancelScope(shield=True):
                await self._host.close()

    @property
    def run_dir(self) -> Path:
        """Directory of the current or last episode's dataset; it exists once the episode is closed.

        Raises: UsageError: there was no `reset` yet.
        """
        if self.run_id is None:
            raise UsageError("there is no run yet: call `reset` first")
        return run_directory(self.data_dir, self.config.public, self.run_id)

    @property
    def endpoints(self) -> Endpoints:
        """Where the stand's own interfaces are while the environment is open, e.g. for `kubectl --server`.

        Whoever looks there sees what is injected: a policy that does is privileged, not one that observes.

        Raises: StandError: the environment isn't open.
        """
        return self._rooms.stand.endpoints

    # --- the gym API -----------------------------------------------------------------------------------------------------

    async def reset(self, seed: int | None = None, config: str | Path | RunConfig | None = None) -> Observation:
        """Bring the stand to the configuration's known state, warm it up, and return the first observation.

        `seed` (default: the configuration's) decides every exogenous draw; `config` replaces the configuration from this episode on.

        Raises:
            StandError: the known state can't be reached.
            ConfigurationError: `config` can't be run.
            UsageError: `seed` isn't a whole number from 0 on; or there is no such configuration.
        """
        async with self._host.guard():
            await self._finish_episode()
            if config is not None:
                self.config = _revealing(resolve(config), self.config.public.reveal_truth)
            if seed is not None:
                self.config = msgspec.structs.replace(self.config, seed=checked_seed(seed))
            try:
                await self._begin_episode()
            except BaseException as error:
                with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                    await self._abort_episode(f"reset failed: {error!r}")
                raise
        return self._observation(None, None)

    async def observe(self, window: int | None = None, granularity: int | None = None) -> Observation:
        """Return the last `window` seconds in buckets of `granularity` seconds (defaults: the configuration's).

        A view of the log: the same events give the same numbers, now and when the run is rebuilt.

        Raises: ConfigurationError: the log can't answer that granularity, or the window is no multiple of it.
        """
        await anyio.lowlevel.checkpoint()
        return self._observation(window, granularity)

    async def step(
        self,
        action: msgspec.Struct | dict[str, Any],
        dt: int | None = None,
        *,
        propensity: float | None = None,
        alternatives: Sequence[dict[str, Any]] | None = None,
        actor: Actor | None = None,
    ) -> tuple[Observation, float, bool, Info]:
        """Act, let `dt` seconds pass (default: the control step), and return observation, reward, done and info.

        A step ends at the horizon at the latest, so that no episode earns more reward buckets than another of its length.
        `action` is an action or its JSON form. The reward is the sum of the reward buckets that end in the step. `propensity` is the
        probability with which the policy chose this action, `alternatives` those that it weighed: both are logged. After `done` call
        `reset`; nothing resets by itself. An action that fails on the stand is data: see `info["action"].status`.

        Raises:
            InvalidAction: unknown action or target, or a parameter out of bounds; nothing was logged or applied.
            UsageError: no episode is in progress, or it is done, or a probability isn't one.
        """
        reward, done, info = await self.advance(
            action, dt, propensity=propensity, alternatives=alternatives, actor=actor
        )
        return self._observation(None, None), reward, done, info

    async def advance(
        self,
        action: msgspec.Struct | dict[str, Any],
        dt: int | None = None,
        *,
        propensity: float | None = None,
        alternatives: Sequence[dict[str, Any]] | None = None,
        actor: Actor | None = None,
    ) -> tuple[float, bool, Info]:
        """Do what `step` does, and return all but the observation: for whoever doesn't look, a step takes an eighth less time.

        Raises: what `step` raises.
        """
        episode = self._require_episode()
        over = episode.outcome()
        if over is not None:
            raise UsageError(f"the episode is done ({over}): call `reset` to begin another")
        chance, weighed = checked_propensity(propensity, alternatives)
        decision = Decision(
            action=self._rooms.checked_action(action, self.config.public),
            actor=actor or self._actor,
            propensity=chance,
            alternatives=weighed,
            policy_version=self._policy_version,
            policy_information="privileged" if self.config.public.reveal_truth else self._policy_information,
        )
        duration = min(check_duration(dt, self.config.public) * SECOND, episode.remaining)
        since = episode.now
        self._interrupted = True
        record: ActionRecord | None = None
        settled: list[ActionRecord] = []
        async with self._host.guard():
            try:
                record, settled = await episode.decide_and_live(decision, duration)
            except StandError:
                episode.lose_stand()
        self._interrupted = False
        done_reason = episode.outcome()
        reward = step_reward(episode.state, since, episode.now)
        info = Info(
            action=record,
            settled=settled,
            reward_components=reward.components,
            terminated=done_reason not in (None, "horizon"),
            truncated=done_reason == "horizon",
            done_reason=done_reason,
            log_sequence=episode.log.public_sequence,
            run_id=self.run_id or "",
        )
        await episode.log.publish_view("step", _view(info, reward.value, episode))
        return reward.value, done_reason is not None, info

    async def put_in_order(self) -> None:
        """End the runs of this data directory whose processes died, and write their datasets; entering does so, too."""
        assert self._connection is not None
        await recover(self._connection, self.data_dir, self._rooms.write_dataset, self._rooms.settle)

    def decided_by(
        self, actor: Actor, policy_version: str, policy_information: Literal["public", "privileged"] = "public"
    ) -> None:
        """Say who decides from now on: what `ocg.make` was told, for an environment that lets one policy after the other play."""
        self._actor, self._policy_version, self._policy_information = actor, policy_version, policy_information

    @property
    def control_seconds(self) -> float:
        """How long control of the episode in progress has lasted.

        Raises: UsageError: none is.
        """
        return self._require_episode().control_seconds

    # --- branches --------------------------------------------------------------------------------------------------------

    async def resume(
        self,
        point: BranchPoint,
        *,
        randomness: Randomness = "same",
        number: int = 0,
        pair_id: str | None = None,
        interventions: Sequence[PlannedAction] | None = None,
    ) -> Observation:
        """Live another run's past again, in a run of this environment's own, and return the observation before the decision.

        The arguments are those of `ocg.open_branch`, which calls this.

        Raises:
            BranchError: the past came out differently, or an intervention lies in it.
            ConfigurationError: an intervention can't be.
        """
        async with self._host.guard():
            await self._finish_episode()
            self.config = point.config
            try:
                await self._begin_episode()
                episode = self._require_episode()
                await live_again(episode, self._rooms, point)
                event = branch_event(
                    point,
                    episode.now,
                    randomness=randomness,
                    number=number,
                    pair_id=pair_id,
                    interventions=None if interventions is None else tuple(interventions),
                )
                await take_turn(episode, self._rooms, point.config, event)
            except BaseException as error:
                with anyio.move_on_after(CLOSING_SECONDS, shield=True):
                    await self._abort_episode(f"branch failed: {error!r}")
                raise
        return self._observation(None, None)

    @asynccontextmanager
    async def branched(
        self,
        at: int | None = None,
        *,
        randomness: Randomness = "same",
        number: int = 0,
        pair_id: str | None = None,
        interventions: Sequence[PlannedAction] | None = None,
    ) -> AsyncIterator[Env]:
        """Yield a second environment that is where the episode in progress was before decision step `at` (default: where it is now).

        It has a stand and a run of its own; this one waits where it is. For the other arguments see `ocg.open_branch`.

        Raises: BranchError: the episode has no such step, or can't be rerun. UsageError: no episode is in progress.
        """
        point = await self.branch_point(at)
        async with Env(
            point.config,
            self._rooms.another(point.config),
            data_dir=self.data_dir,
            nats=self._nats,
            actor=self._actor,
            policy_version=self._policy_version,
            policy_information=self._policy_information,
        ) as other:
            await other.resume(
                point, randomness=randomness, number=number, pair_id=pair_id, interventions=interventions
            )
            yield other

    async def branch(
        self,
        *actions: msgspec.Struct | dict[str, Any],
        at: int | None = None,
        steps: int | None = None,
        randomness: Randomness = "same",
        number: int = 0,
        pair_id: str | None = None,
        interventions: Sequence[PlannedAction] | None = None,
    ) -> Branch:
        """Live this episode again up to a decision, do `actions` instead, and return what came of it: "what if".

        The actions are done one a step, and `noop` after them.

        Args:
            at: decision step at which the future forks (default: the present one).
            steps: control steps to go on for (default: to the horizon).
            randomness: `same`: the exogenous stays as it was; `fresh`: it is drawn anew; `number` tells fresh futures apart.
            pair_id: names the branches that are compared; recorded.
            interventions: what is planned from there on instead of what the script has left; `()`: nothing.

        Raises: as `branched`, and what `step` raises.
        """
        at = self._require_episode().decisions if at is None else at
        async with self.branched(
            at, randomness=randomness, number=number, pair_id=pair_id, interventions=interventions
        ) as other:
            return await play_out(other, actions, parent=self.run_id or "", step=at, steps=steps)

    async def branch_point(self, at: int | None = None) -> BranchPoint:
        """Return the point before decision step `at` of the episode in progress (default: where it is now).

        For who lives many futures of one moment: another environment's `resume` begins there, as often as it is called.

        Raises: BranchError: the episode has no such step, or can't be rerun. UsageError: no episode is in progress.
        """
        episode = self._require_episode()
        reader = PrefixReader(self.run_id or "", episode.decisions if at is None else at)
        async with aclosing(merged_messages(episode.log)) as messages:
            async for message, truth in messages:
                reader.take(message, truth=truth)
                if reader.complete:
                    break
        return reader.point()

    async def close_episode(self) -> None:
        """End the episode in progress and write its dataset; without one nothing happens. `reset` begins another."""
        async with self._host.guard():
            await self._finish_episode()

    async def discard_episode(self) -> None:
        """Leave the episode in progress as if it had never been: no end, no dataset, and its log is dropped.

        For who plays futures only to measure them (`ocg campaign certify`): what `observe` and `step` returned is all that stays.
        """
        async with self._host.guard():
            await self._drop_episode()

    # --- episodes --------------------------------------------------------------------------------------------------------

    def _require_episode(self) -> Episode:
        if self._episode is None:
            raise UsageError("no episode is in progress: call `reset` first")
        if self._interrupted:
            raise UsageError(
                "the last step was cancelled or failed before its end: call `reset` to begin another episode"
            )
        return self._episode

    def _observation(self, window: int | None, granularity: int | None) -> Observation:
        episode = self._require_episode()
        window_seconds, bucket_seconds = check_window(window, granularity, self.config.public.granularity)
        return observe(
            episode.state,
            end=episode.now,
            window_seconds=window_seconds,
            bucket_seconds=bucket_seconds,
            in_force=episode.in_force(truth=False),
            truth=episode.in_force(truth=True) if self.config.public.reveal_truth else None,
        )

    async def _begin_episode(self) -> None:
        assert self._connection is not None
        rooms, stand = self._rooms, self._rooms.stand
        config = randomized(self.config)
        plan = rooms.plan(config)  # refuses what can't be done before anything is written
        self.run_id = self._beginning = run_id = new_run_id()
        self._residents.append(await self._host.enter(run_lock(self.data_dir, run_id)))
        log = await self._connection.create(config.public.campaign, run_id)
        receiver = rooms.receiver()
        self._residents.append(await self._host.enter(receiver.open()))
        episode = Episode(
            config=config,
            log=log,
            stand=stand,
            pace=Pace(self._pace),
            plan=plan,
        )
        self._episode, self._beginning = episode, None
        await stand.reset(config, otlp_endpoint=receiver.endpoint)
        await episode.declare(rooms.environment(stand))
        collectors = rooms.collectors(stand.endpoints, config, stand.now, receiver)
        for collector in collectors:
            if collector is not receiver:
                self._residents.append(await self._host.enter(collector.open()))
        actuators = await self._host.enter(rooms.actuators(stand.endpoints, config, episode.append, run_id=run_id))
        self._residents.append(actuators)
        driver = await self._host.enter(rooms.workload_driver(stand.endpoints, config))
        self._residents.append(driver)
        self._residents.append(await self._host.enter(log.serving("act", self._act)))
        await episode.begin(collectors, actuators.value, driver.value)

    async def _act(self, question: bytes) -> bytes:
        """Answer a request to act from outside (`ocg act`): the action's record, or what is wrong with the request."""
        try:
            episode = self._episode
            if episode is None:
                raise UsageError("no episode is in progress")
            asked = msgspec.json.decode(question, type=_Act)
            action = self._rooms.checked_action(asked.action, self.config.public)
            record = await episode.act(action, truth=self._rooms.is_intervention(action))
        except (OtelControlGymError, msgspec.DecodeError) as error:
            return msgspec.json.encode({"error": {"type": type(error).__name__, "message": str(error)}})
        return msgspec.json.encode({"record": record, "time": episode.now})

    async def _finish_episode(self) -> None:
        """End the episode, if there is one; one whose last step didn't come to its end is aborted."""
        if self._interrupted:
            await self._abort_episode("a step was cancelled or failed before its end")
        elif self._episode is not None:
            if not self._episode.ended:
                await self._episode.end()
            await self._close_episode()

    async def _abort_episode(self, reason: str) -> None:
        if self._episode is None:
            await self._drop_beginning()
            return
        if self._episode.log.public_sequence == 0:
            # The stand didn't come to its known state: nothing was declared, so there is no run.
            await self._drop_episode()
            return
        if not self._episode.ended:
            try:
                await self._episode.abort(reason)
            except (OtelControlGymError, OSError) as error:
                # The stand or the broker is what failed. The lock file stays, and the next start writes the end.
                _LOGGER.warning("run %s has no end yet, the next start writes it: %s", self.run_id, error)
        await self._close_episode()

    async def _drop_beginning(self) -> None:
        """Leave what a run had that was stopped while its streams were made: nothing was written in them, so there is no run."""
        run_id, self._beginning = self._beginning, None
        if run_id is not None and self._connection is not None:
            try:
                await self._connection.delete(run_id)
                forget_run(self.data_dir, run_id)
            except LogError as error:
                _LOGGER.warning("run %s can't be dropped, the next start does it: %s", run_id, error)
        await self._close_episode()

    async def _drop_episode(self) -> None:
        episode = self._episode
        await self._close_episode()
        if episode is not None and self._connection is not None:
            await self._connection.delete(episode.log.run.run_id)
            forget_run(self.data_dir, episode.log.run.run_id)

    async def _close_episode(self) -> None:
        """Leave the episode's contexts; export its log and write its dataset if it has an end. The lock goes last."""
        episode, self._episode = self._episode, None
        self._interrupted = False
        residents, self._residents = self._residents, []
        for resident in reversed(residents[1:]):
            await self._host.leave(resident)
        if episode is not None and episode.ended:
            await store_run(episode.log, self.run_dir, self._rooms.write_dataset)
            forget_run(self.data_dir, episode.log.run.run_id)
        for lock in residents[:1]:
            await self._host.leave(lock)


def _revealing(config: RunConfig, reveal: bool) -> RunConfig:
    return msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, reveal_truth=reveal))


def _view(info: Info, reward: float, episode: Episode) -> bytes:
    """Return what `ocg.view.<run_id>.step` tells whoever watches: folded, never logged."""
    return msgspec.json.encode(
        {"time": rfc3339(episode.now), "decision_step": episode.decisions - 1, "reward": reward, **info}
    )
