"""One run from its first event to its last: phases, due moments, the tick.

In: a configured stand, collectors, actuators and an open log. Out: events in the log, and a fold of the public ones that the
environment turns into observations. `engine.env` is next: it opens and closes what an episode needs and speaks to the caller.

Order is what makes this hard. At one moment t, while time stands still: due reverts and postchecks, the workload's changes, the scenario's
interventions, then the policy's action. Time moves only in `_live_until`, from one due moment to the next. Telemetry is drained up to the
barrier and published once per step, in the order Kubernetes, workload, metrics, spans, logs, findings; `ClockAdvanced` closes the step,
so that a reader who has seen it has seen everything before its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from otel_control_gym.engine.clock import SECOND, Pace
from otel_control_gym.engine.errors import StandError, UsageError
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionForced,
    ActionRequested,
    Actor,
    BranchTaken,
    ClockAdvanced,
    EnvironmentRecorded,
    Event,
    GraphObserved,
    ObjectsWritten,
    Phase,
    PhaseEntered,
    Recorded,
    RunAborted,
    RunDeclared,
    RunEnded,
    RunIdentified,
    TruthDeclared,
)
from otel_control_gym.engine.hands import Hands
from otel_control_gym.engine.log import RunLog
from otel_control_gym.engine.protocols import (
    ActionRecord,
    Actuators,
    Barrier,
    Collector,
    Request,
    Stand,
    WorkloadDriver,
)
from otel_control_gym.engine.settings import RunConfig, RunIdentity
from otel_control_gym.projections import CONTRACT_VERSION, RunState, initial, reached_emergency, reached_goal, step

__all__ = ("Decision", "DoneReason", "Episode", "Planned")

ABORT_SECONDS = 30  #: of a stand's time that an aborted run may wait until its reverts show

DoneReason = Literal["horizon", "goal", "emergency", "reset_required", "stand_lost"]


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """An intervention of the scenario, `offset` nanoseconds after control began."""

    offset: int
    action: msgspec.Struct


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy chose, and what it tells about the choice."""

    action: msgspec.Struct
    actor: Actor
    propensity: float | None = None
    alternatives: tuple[dict[str, Any], ...] | None = None
    policy_version: str = ""
    policy_information: Literal["public", "privileged"] = "public"


class Episode:
    """A run in progress. `begin`, then `decide_and_live` until there is an `outcome`, then `end` (or `abort` at any time)."""

    def __init__(
        self,
        *,
        config: RunConfig,
        log: RunLog,
        stand: Stand,
        pace: Pace,
        plan: Sequence[Planned],
    ) -> None:
        self.config = config
        self.log = log
        self.state: RunState = initial()
        self.decisions = 0
        self.ended = False
        self._done_reason: DoneReason | None = None
        self._stand = stand
        self._pace = pace
        self._plan = sorted(plan, key=lambda planned: planned.offset)
        self._collectors: tuple[Collector, ...] = ()
        self._actuators: Actuators | None = None
        self._driver: WorkloadDriver | None = None
        self._touched: dict[
            str, None
        ] = {}  # UIDs of objects that our own actions deleted, and of pods that they killed
        self._phase: Phase = "reset"
        self._barrier: Barrier | None = None  # the last one
        self._waited = self._drift = 0  # of the step in progress, as `ClockAdvanced` tells them
        self._control_start = 0
        self._hands = Hands(self._perform_for_a_human)

    # --- the log -------------------------------------------------------------------------------------------------------

    async def append(self, event: Event, *, truth: bool = False) -> int:
        """Make one event durable and fold it; this is the `Append` that actuators are given."""
        if isinstance(event, ActionApplied | ActionForced):
            self._touched |= {item.uid: None for item in event.objects if item.kind == "Pod"}
        elif isinstance(event, ObjectsWritten):
            self._touched |= {item.uid: None for item in event.objects if item.method == "DELETE" and item.uid}
        sequence = await self.log.append(event, truth=truth)
        if not truth:
            step(self.state, Recorded(seq=sequence, event=event))
        return sequence

    async def _append_all(self, events: Sequence[tuple[Event, bool]]) -> None:
        first = self.log.public_sequence + 1
        written = await self.log.append_all(events)
        for offset, event in enumerate(event for event, truth in written if not truth):
            step(self.state, Recorded(seq=first + offset, event=event))

    async def _enter(self, phase: Phase) -> None:
        self._phase = phase
        await self.append(PhaseEntered(time=self._stand.now, phase=phase))

    # --- life ----------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """Episode time [ns]."""
        return self._stand.now

    @property
    def control_seconds(self) -> float:
        """How long control has lasted."""
        return (self._stand.now - self._control_start) / SECOND

    def outcome(self) -> DoneReason | None:
        """Return why the episode is done, or None while it isn't."""
        return self._done_reason

    def lose_stand(self) -> None:
        """The stand can't be driven any more: the episode is done."""
        self._done_reason = "stand_lost"

    async def declare(self, environment: EnvironmentRecorded) -> None:
        """Write what is known before anything happens: the run, the machine, the script, the graph. The stand is at its start."""
        now = self._stand.now
        await self.append(RunDeclared(time=now, contract_version=CONTRACT_VERSION, settings=self.config.public))
        await self.append(msgspec.structs.replace(environment, time=now))
        await self.append(
            TruthDeclared(
                time=now,
                seed=self.config.seed,
                scenario=msgspec.to_builtins(self.config.scenario),
                workload=msgspec.to_builtins(self.config.workload),
                twin=msgspec.to_builtins(self.config.twin),
            ),
            truth=True,
        )
        if self.config.identity != RunIdentity():
            await self.append(RunIdentified(time=now, identity=self.config.identity), truth=True)
        nodes, edges = self._stand.graph()
        await self.append(GraphObserved(time=now, nodes=nodes, edges=edges))
        await self._enter("reset")

    async def begin(self, collectors: tuple[Collector, ...], actuators: Actuators, driver: WorkloadDriver) -> None:
        """Verify the known state and warm up; control begins at the moment this returns.

        Raises: StandError: a workload isn't fully available, or no load is offered.
        """
        self._collectors, self._actuators, self._driver = collectors, actuators, driver
        since = self._stand.now
        await self._live_until(since)
        await self._flush(since, decision_step=None)
        self._verify_availability()
        granularity = self.config.public.granularity
        await self._enter("warmup")
        end = since + granularity.warmup_seconds * SECOND
        while self._stand.now < end:
            await self._pass(min(end, self._stand.now + granularity.control_step_seconds * SECOND), decision_step=None)
        self._verify_workload()
        self._control_start = end
        driver.begin(end)
        await self._enter("control")

    def _verify_availability(self) -> None:
        for status in self.state.deployments():
            if status.replicas_available < status.replicas_desired:
                raise StandError(
                    f"after reset, Deployment {status.name!r} has {status.replicas_available} of {status.replicas_desired} replicas "
                    "available\n  `kubectl describe` on it says what keeps the stand from its known state"
                )

    def _verify_workload(self) -> None:
        reading = self.state.workload.last(self._stand.now)
        if reading is not None and reading.state not in ("running", "spawning"):
            raise StandError(
                f"after the warm-up, the load generator is {reading.state!r} instead of running\n"
                "  start its test (POST /swarm), or look at its log"
            )

    async def branch(self, event: BranchTaken, plan: Sequence[Planned] | None) -> None:
        """Leave the way of another run at this moment: other draws, other interventions (None: the script's), or just other decisions."""
        await self.append(event, truth=True)
        if event.seed is not None:
            self._stand.renew_randomness(event.seed)
        if plan is not None:
            self._plan = sorted(plan, key=lambda planned: planned.offset)

    async def decide_and_live(self, decision: Decision, duration: int) -> tuple[ActionRecord, list[ActionRecord]]:
        """Apply what is due and the decision at this moment, live for `duration` [ns], publish.

        Returns: the decision's record, and the records of earlier public actions that settled meanwhile.
        """
        async with self._hands.stepping():
            return await self._decide_and_live(decision, duration)

    async def _decide_and_live(self, decision: Decision, duration: int) -> tuple[ActionRecord, list[ActionRecord]]:
        assert self._actuators is not None
        # One moment for all that is done before time passes: how long a fault took to be made mustn't show in when a policy acted.
        moment = self._stand.clock
        self._drift = moment - self._stand.now
        await self._intervene(moment)
        decision_step, self.decisions = self.decisions, self.decisions + 1
        record = await self._actuators.perform(
            Request(
                action=decision.action,
                actor=decision.actor,
                decision_step=decision_step,
                decision_log_sequence=self.log.public_sequence,
                propensity=decision.propensity,
                alternatives=decision.alternatives,
                policy_version=decision.policy_version,
                policy_information=decision.policy_information,
            ),
            moment,
        )
        settled = [record] if record.settled is not None else []
        settled += await self._pass(self._stand.now + duration, decision_step=decision_step)
        self._done_reason = self._judge(settled)
        return record, [item for item in settled if not item.truth and item.action_id != record.action_id]

    async def act(self, action: msgspec.Struct, *, truth: bool) -> ActionRecord:
        """Let a human act, now or (while a step is under way) at the next moment at which the episode acts; return the record.

        Raises: UsageError: the episode isn't in its control phase, or is over.
        """
        if self._phase != "control" or self._done_reason is not None:
            state = f"over ({self._done_reason})" if self._done_reason is not None else f"in its {self._phase}"
            raise UsageError(f"the episode is {state}: act while it is under control")
        return await self._hands.act(action, truth=truth)

    async def _perform_for_a_human(self, action: msgspec.Struct, truth: bool) -> ActionRecord:
        assert self._actuators is not None
        request = Request(action=action, actor="human", truth=truth, decision_log_sequence=self.log.public_sequence)
        return await self._actuators.perform(request, self._stand.clock)

    def _judge(self, settled: Sequence[ActionRecord]) -> DoneReason | None:
        rules = self.config.public.episode
        now, start = self._stand.now, self._control_start
        if any(record.revert_failed for record in settled):
            return "reset_required"
        if not rules.runs_on:
            if rules.emergency is not None and reached_emergency(self.state, rules.emergency, start=start, now=now):
                return "emergency"
            if rules.goal is not None and reached_goal(self.state, rules.goal, start=start, now=now):
                return "goal"
        if self.remaining <= 0:
            return "horizon"
        return None

    @property
    def remaining(self) -> int:
        """How much control time is left before the horizon [ns]."""
        return self._control_start + self.config.public.horizon_seconds * SECOND - self._stand.now

    def in_force(self, *, truth: bool) -> tuple[ActionRecord, ...]:
        """Return the actions (or, with `truth`, the interventions) that were applied and not taken back."""
        return () if self._actuators is None else tuple(self._actuators.in_force(truth=truth))

    async def end(self) -> None:
        """Take back what is in force, cool down, close the log in order."""
        assert self._actuators is not None
        await self._actuators.close(self._stand.clock)
        await self._enter("cooldown")
        await self._pass(self._stand.now + self.config.public.granularity.cooldown_seconds * SECOND, decision_step=None)
        await self._actuators.settle(self._stand.clock)
        await self.append(RunEnded(time=self._stand.clock, reason=self._done_reason or "closed"))
        self.ended = True

    async def abort(self, reason: str) -> None:
        """Take back what is in force and mark the run as aborted; also called when the caller is being cancelled."""
        if self._actuators is not None:
            await self._actuators.close(self._stand.clock)
            await self._see_reverts()
            await self._actuators.settle(self._stand.clock)
        await self.append(RunAborted(time=self._stand.clock, reason=reason))
        self.ended = True

    async def _see_reverts(self) -> None:
        """On a stand that lives on, wait within bounds until it shows that what was in force is gone: no cool-down follows."""
        assert self._actuators is not None
        if self._stand.name != "cluster":
            return
        deadline = self._stand.clock + ABORT_SECONDS * SECOND
        while (due := self._actuators.due()) is not None and due <= deadline:
            await self._stand.live(due)
            await self._actuators.run_due(self._stand.clock)

    # --- the tick ------------------------------------------------------------------------------------------------------

    async def _pass(self, end: int, *, decision_step: int | None) -> list[ActionRecord]:
        since = self._stand.now
        settled = await self._live_until(end)
        await self._flush(since, decision_step=decision_step)
        return settled

    async def _live_until(self, end: int) -> list[ActionRecord]:
        settled: list[ActionRecord] = []
        while True:
            moment = min(end, self._next_due(end))
            await self._pace.wait_for(moment)
            if moment == end:
                self._barrier = barrier = await self._stand.advance(moment)
                for collector in self._collectors:
                    await collector.drain(barrier)
                self._waited = self._stand.clock - moment
                return settled + await self._run_due(self._stand.clock)
            await self._stand.live(moment)
            settled += await self._run_due(self._stand.clock)
            await self._intervene(self._stand.clock)
            await self._hands.serve()

    def _next_due(self, end: int) -> int:
        due = self._actuators.due() if self._actuators is not None else None
        moments = [end] if due is None else [end, due]
        if self._phase == "control" and self._plan:
            moments.append(self._control_start + self._plan[0].offset)
        change = self._driver.due() if self._driver is not None and self._phase == "control" else None
        if change is not None:
            moments.append(change)
        if self._pace.factor > 0 or self._stand.name == "cluster":  # somebody may want to act in between
            moments.append(self._stand.now + SECOND)
        return max(self._stand.now, min(moments))

    async def _run_due(self, now: int) -> list[ActionRecord]:
        settled: list[ActionRecord] = []
        while self._actuators is not None:
            due = self._actuators.due()
            if due is None or due > now:
                break
            settled += await self._actuators.run_due(now)
        return settled

    async def _intervene(self, now: int) -> None:
        """Change the load as its curve says, and begin the scenario's interventions that are due now."""
        assert self._actuators is not None
        if self._driver is not None and self._phase == "control":
            await self._driver.run_due(now)
        while self._phase == "control" and self._plan and self._control_start + self._plan[0].offset <= now:
            planned = self._plan.pop(0)
            await self._actuators.perform(Request(action=planned.action, actor="scripted", truth=True), now)

    async def _flush(self, since: int, *, decision_step: int | None) -> None:
        now = self._stand.now
        batch = [pair for collector in self._collectors for pair in collector.flush(now)]
        ours = self._deletions_of_ours([event for event, _ in batch])
        batch = [(event, truth) for event, truth in batch if getattr(event, "action_id", None) not in ours]
        closing = ClockAdvanced(time=now, since=since, decision_step=decision_step, lag_ns=0)
        if self._barrier is not None and not self._barrier.exact:
            closing = self._timed(closing)
        await self._append_all([*batch, (closing, False)])

    def _timed(self, closing: ClockAdvanced) -> ClockAdvanced:
        """Return what closes a step on a stand whose time doesn't stand still, with how late everything was."""
        told = {source: time for collector in self._collectors for source, time in collector.newest().items()}
        lags = {source: max(0, closing.time - told[source]) for source in sorted(told)}
        return msgspec.structs.replace(
            closing,
            lag_ns=max(lags.values(), default=0),
            source_lags_ns=lags,
            waited_ns=self._waited,
            drift_ns=0 if closing.decision_step is None else self._drift,
        )

    def _deletions_of_ours(self, events: Sequence[Event]) -> list[str]:
        """Return the actions which a collector took for somebody else's and which were this run's: deletions bear no name."""
        deletions = [
            event.action_id
            for event in events
            if isinstance(event, ActionRequested) and event.parameters.get("operation") == "deleted"
        ]
        return [
            event.action_id
            for event in events
            if isinstance(event, ActionApplied)
            and event.action_id in deletions
            and any(item.uid in self._touched for item in event.objects)
        ]
