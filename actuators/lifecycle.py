"""The life of an action: requested, prechecked, applied, postchecked, taken back, settled.

In: requests of the episode, and the moments that it grants. Out: events, and one record per attempt. `procedures` says what an action
does on the stand, `journal` what is logged; this module says when, and what follows from what was seen.

Why this is more than a call with a retry:
- **Write-ahead.** `ActionRequested` is durable before anything is even read; an attempt is registered before it is applied, so that a
  cancelled or crashed `apply` is taken back by `close` or by recovery.
- **Waiting is never done here.** Postchecks, retries, renewals and reverts are due moments: the episode lets the stand live until
  then. So nothing depends on the wall clock, and two runs with one seed log the same.
- **Each attempt settles exactly once**, whatever fails: `rejected` (precheck), `failed` (the API said no, or never answered),
  `applied` (all evidence seen), `partial` (some, by the deadline), `unverified` (none). The API's yes alone is never `applied`.
- **What is timed is taken back**, and looked at again: a revert that can't be verified marks the record `revert_failed`.
- **Evidence is watched to the end**: what an intervention has done may end before it is taken back, because its pods were replaced or
  somebody undid it. That is logged when it is seen, with the time at which it happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import anyio
import msgspec

from otel_control_gym.actuators.actions import Noop
from otel_control_gym.actuators.attempts import Attempt, Stage
from otel_control_gym.actuators.journal import FailedStage, Journal, Status
from otel_control_gym.actuators.moments import span_between
from otel_control_gym.actuators.procedure import Check, Procedure, Reversal, Watched
from otel_control_gym.actuators.resolution import Resolved, resolve
from otel_control_gym.actuators.safekeeping import Safekeeper
from otel_control_gym.actuators.transport import Busy, CallError, Refused, Unreachable
from otel_control_gym.actuators.watching import Watch
from otel_control_gym.actuators.writes import WriteBook
from otel_control_gym.engine.clock import SECOND, seconds
from otel_control_gym.engine.events import TouchedObject
from otel_control_gym.engine.protocols import ActionRecord, Append, Request
from otel_control_gym.engine.settings import RunSettings

__all__ = ("Lifecycle", "ProcedureFactory")

FIRST_LOOK = 1 * SECOND  #: from the write to the first postcheck
LOOK_EVERY = 5 * SECOND
BACK_OFF_SECONDS = (1.0, 2.0, 4.0)  #: pauses before the second, third and last try of a write
RETRY_AFTER_MOST_SECONDS = 30.0  #: a server that asks for more is taken to mean no
REVERT_DEADLINE = 60 * SECOND  #: from the revert to the last look at whether it worked
CLOSE_SECONDS = 40.0  #: wall time that taking everything back may take when the episode closes

_STAGES: tuple[Stage, ...] = ("revert", "verify", "apply", "postcheck", "sustain")  #: the order within one moment
_STATUSES: dict[str, Status] = {"all": "applied", "some": "partial", "none": "unverified"}  #: by what the last look saw
ProcedureFactory: TypeAlias = Callable[[Resolved, str], Procedure]


class Lifecycle:
    """Performs actions, and keeps those in force (`engine.protocols.Actuators`).

    Args:
        settings: application, and the default duration of interventions.
        append: writes an event and returns when it is durable.
        procedure_of: makes the procedure of an action as it was logged, under its id.
        seed: action ids derive from it.
        writes: what the procedures have written to Kubernetes objects since it was last asked.
        safekeeper: keeps the inverses on a stand that outlives the gym; None: the stand doesn't.
    """

    def __init__(
        self,
        settings: RunSettings,
        append: Append,
        procedure_of: ProcedureFactory,
        *,
        seed: int,
        writes: WriteBook,
        safekeeper: Safekeeper | None = None,
    ) -> None:
        self._settings = settings
        self._journal = Journal(append, seed=seed)
        self._watch = Watch(self._journal)
        self._procedure_of = procedure_of
        self._writes = writes
        self._safekeeper = safekeeper
        self._open: list[Attempt] = []  # requested and not settled, in order of request
        self._lasting: dict[tuple[bool, str], Attempt] = {}  # settled, in force until the same field is written again

    # --- engine.protocols.Actuators --------------------------------------------------------------------------------------

    async def perform(self, request: Request, now: int) -> ActionRecord:
        """Log the request, check, apply; postchecks follow as due moments. Never raises for what the stand does."""
        resolved = resolve(request.action, self._settings)
        record = await self._journal.request(request, resolved, now)
        if isinstance(request.action, Noop):
            await self._journal.settled(record, "applied", now)  # nothing to check and nothing to apply
            return record
        attempt = Attempt(request, resolved, record, self._procedure_of(resolved, record.action_id))
        conflict = self._conflict(attempt)
        self._open.append(attempt)
        if self._is_excluded(request, resolved):
            reason = (
                f"{resolved.entry.type} is outside the action space of this episode ({self._settings.episode.name})"
            )
            await self._reject(attempt, reason, {}, now)
        elif conflict is not None:
            reason = f"{conflict.entry.type} {conflict.record.action_id} on the same target is still in flight"
            await self._reject(attempt, reason, {}, now)
        elif await self._precheck(attempt, now):
            await self._stage(attempt, "apply", now)
        return record

    def _is_excluded(self, request: Request, resolved: Resolved) -> bool:
        """Return whether a policy asks for what the episode's rules keep from it; the script and people may do it."""
        excluded = resolved.entry.type in self._settings.episode.excluded_actions
        return excluded and not request.truth and request.actor != "human"

    def due(self) -> int | None:
        """Return the next moment at which a postcheck, retry or revert wants to run, or None."""
        moments = [moment for attempt in self._open if (moment := attempt.next_due()) is not None]
        return min(moments, default=None)

    async def run_due(self, now: int) -> list[ActionRecord]:
        """Do everything that is due at `now`, in order of (due time, action id); return the records that settled."""
        settled: list[ActionRecord] = []
        while True:
            ready = [
                (moment, attempt.record.action_id, _STAGES.index(stage), attempt)
                for attempt in self._open
                for stage, moment in attempt.due.items()
                if moment <= now
            ]
            if not ready:
                return settled
            _, _, number, attempt = min(ready, key=lambda item: item[:3])
            stage = _STAGES[number]
            del attempt.due[stage]
            await self._stage(attempt, stage, now)
            if attempt.settled:
                settled.append(attempt.record)

    def in_force(self, *, truth: bool) -> list[ActionRecord]:
        """Return what was applied and is still there: not taken back, nor overwritten by a later action on the same field, nor lapsed."""
        lasting = list({item.record.action_id: item for item in self._lasting.values() if item.truth == truth}.values())
        applied = [
            item
            for item in self._open
            if item.truth == truth
            and item.record.applied is not None
            and item.record.reverted is None
            and not item.lapsed
        ]
        records = sorted(
            (item.record for item in [*lasting, *applied]), key=lambda record: (record.requested, record.action_id)
        )
        return [msgspec.structs.replace(record) for record in records]

    async def close(self, now: int) -> list[ActionRecord]:
        """Take back every intervention and timed action, settle what else is open; return the records that settled.

        Whether a revert worked is looked at once, at once; what can't be verified then (a chaos object's controller needs time)
        stays due, for an episode that lives on through its cool-down. `settle` ends that. Shielded from cancellation, and
        bounded: what the wall time doesn't suffice for is logged as failed.
        """
        settled: list[ActionRecord] = []
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(CLOSE_SECONDS) as deadline:
                for attempt in list(self._open):
                    await self._close_attempt(attempt, now)
                    if attempt.settled:
                        settled.append(attempt.record)
            if deadline.cancelled_caught:
                for attempt in [item for item in self._open if item.touched and item.record.reverted is None]:
                    error = f"not reverted within {CLOSE_SECONDS:.0f} s of wall time"
                    await self._journal.failed(attempt.record, "revert", error, now)
                    attempt.record.revert_failed = True
                settled += await self.settle(now)
        return settled

    async def settle(self, now: int) -> list[ActionRecord]:
        """Settle what is still open with what was last seen; nothing more is tried. For the moment before a run ends."""
        settled: list[ActionRecord] = []
        for attempt in list(self._open):
            await self._last_word(attempt, now, look=False)
            if attempt.touched and attempt.duration is not None and attempt.record.reverted is None:
                unseen = Reversal(verified=False, evidence={"missing": "the run ended before"})
                await self._conclude_revert(attempt, unseen, now)
            await self._settle(attempt, attempt.verdict, now)
            settled.append(attempt.record)
        return settled

    def _conflict(self, attempt: Attempt) -> Attempt | None:
        """Return the open attempt of the same stream on a same field; across streams a rejection would give the truth away."""
        same = (
            other
            for other in self._open
            if other.truth == attempt.truth and any(field in other.fields for field in attempt.fields)
        )
        return next(same, None)

    # --- stages ----------------------------------------------------------------------------------------------------------

    async def _stage(self, attempt: Attempt, stage: Stage, now: int) -> None:
        match stage:
            case "apply":
                await self._apply(attempt, now)
            case "postcheck":
                await self._postcheck(attempt, now)
            case "sustain":
                await self._sustain(attempt, now)
            case "revert":
                await self._revert(attempt, now)
            case "verify":
                await self._verify(attempt, now)
        await self._note_writes(attempt, now)

    async def _note_writes(self, attempt: Attempt, now: int) -> None:
        objects = self._writes.take()
        if objects:
            await self._journal.written(attempt.record, objects, now)

    async def _precheck(self, attempt: Attempt, now: int) -> bool:
        """Return whether the attempt may be applied."""
        try:
            precheck = await attempt.procedure.precheck()
            rejection = precheck.rejection
            if not rejection and self._safekeeper is not None:
                rejection = await self._safekeeper.keep(attempt.record.action_id, attempt.procedure.inverse())
        except CallError as error:
            await self._journal.failed(attempt.record, "precheck", str(error), now)
            await self._settle(attempt, "failed", now)
            return False
        if rejection:
            await self._reject(attempt, rejection, precheck.evidence, now)
            return False
        await self._journal.passed(attempt.record, precheck.evidence, attempt.procedure.inverse(), now)
        return True

    async def _reject(self, attempt: Attempt, reason: str, evidence: dict[str, Any], now: int) -> None:
        await self._journal.rejected(attempt.record, reason, evidence, now)
        await self._settle(attempt, "rejected", now)

    async def _apply(self, attempt: Attempt, now: int) -> None:
        attempt.touched = True
        attempt.tries += 1
        try:
            objects = await attempt.procedure.apply(now)
        except CallError as error:
            attempt.doubtful |= isinstance(error, Unreachable) or (isinstance(error, Busy) and error.status >= 500)
            pause = self._pause(error, attempt.tries)
            if pause is not None:
                attempt.due["apply"] = now + seconds(pause)
                return
            await self._give_up(attempt, error, now)
            return
        attempt.tries = 0
        for field in attempt.fields:
            self._lasting.pop((attempt.truth, field), None)
        await self._journal.applied(attempt.record, objects, now)
        attempt.looked = now
        attempt.due["postcheck"] = now + FIRST_LOOK
        if attempt.duration is not None:
            attempt.due.setdefault("revert", now + attempt.duration)

    async def _give_up(self, attempt: Attempt, error: CallError, now: int) -> None:
        """Log that it couldn't be applied; if some of it was, or nobody knows, take it back as well as possible."""
        await self._journal.failed(attempt.record, "apply", str(error), now)
        attempt.verdict = "failed"
        attempt.checked = True
        attempt.tries = 0
        if (attempt.doubtful or attempt.procedure.begun) and attempt.entry.reverse:
            await self._revert(attempt, now)
        else:
            await self._settle(attempt, "failed", now)

    @staticmethod
    def _pause(error: CallError, tries: int) -> float | None:
        """Return how many seconds to wait before the next try of a write, or None to give up."""
        if isinstance(error, Refused) or tries > len(BACK_OFF_SECONDS):
            return None
        pause = BACK_OFF_SECONDS[tries - 1]
        if isinstance(error, Busy) and error.after_seconds is not None:
            pause = max(pause, error.after_seconds)
        elif isinstance(error, Busy) and error.status == 409:
            pause = 0.0
        return pause if pause <= RETRY_AFTER_MOST_SECONDS else None

    async def _postcheck(self, attempt: Attempt, now: int) -> None:
        assert attempt.record.applied is not None
        deadline = attempt.record.applied + attempt.entry.deadline_seconds * SECOND
        try:
            attempt.check = await attempt.procedure.postcheck()
        except CallError as error:
            if attempt.check is None:
                attempt.check = Check(seen="none", evidence={"missing": str(error)})
            seen = "none"
        else:
            seen = attempt.check.seen
        if seen != "all" and attempt.check.more and now < deadline:
            attempt.due["apply"] = now
            return
        if seen != "all" and now < deadline:
            attempt.looked = now
            attempt.due["postcheck"] = min(deadline, now - (now - attempt.record.applied) % LOOK_EVERY + LOOK_EVERY)
            return
        await self._conclude(attempt, now)
        if attempt.duration is None:
            await self._settle(attempt, attempt.verdict, now)
        elif isinstance(attempt.procedure, Watched):
            attempt.looked = now
            attempt.due["sustain"] = now + LOOK_EVERY

    async def _conclude(self, attempt: Attempt, now: int) -> None:
        """Log the last word on the effect, from the last look."""
        check = attempt.check or Check(seen="none", evidence={"missing": "nobody has looked yet"})
        attempt.verdict = _STATUSES[check.seen]
        attempt.checked = True
        attempt.due.pop("postcheck", None)
        since = span_between(attempt.looked, now, check.moment)
        await self._journal.postchecked(attempt.record, check, since, now)

    async def _sustain(self, attempt: Attempt, now: int) -> None:
        """See what became of the change, and bring it to the pods that took over, if it is to follow them."""
        objects: tuple[TouchedObject, ...] = ()
        try:
            standing = await self._watch.look(attempt, now)
            objects = await attempt.procedure.sustain(now)
            if objects:
                await self._watch.made_anew(attempt, standing, objects, now)
        except CallError as error:
            await self._journal.failed(attempt.record, "postcheck", str(error), now)
        attempt.due["sustain"] = now + (FIRST_LOOK if objects else LOOK_EVERY)

    async def _revert(self, attempt: Attempt, now: int) -> None:
        """Take the change back, then look; what can't be seen yet stays due."""
        await self._last_word(attempt, now)
        if attempt.due.pop("sustain", None) is not None:
            try:
                await self._watch.look(attempt, now)
            except CallError as error:
                await self._journal.failed(attempt.record, "postcheck", str(error), now)
        attempt.due.clear()
        attempt.tries += 1
        try:
            objects = await attempt.procedure.revert()
        except CallError as error:
            pause = self._pause(error, attempt.tries)
            if pause is not None:
                attempt.due["revert"] = now + seconds(pause)
                return
            await self._journal.failed(attempt.record, "revert", str(error), now)
            await self._conclude_revert(attempt, Reversal(verified=False, evidence={"missing": str(error)}), now)
            await self._settle(attempt, attempt.verdict, now)
            return
        attempt.reverted_objects = objects
        attempt.looked = now
        attempt.revert_end = now + REVERT_DEADLINE
        await self._verify(attempt, now)

    async def _verify(self, attempt: Attempt, now: int) -> None:
        try:
            reversal = await attempt.procedure.reverted(now)
        except CallError as error:
            reversal = Reversal(verified=False, evidence={"missing": str(error)})
        for forced in reversal.forced:
            await self._journal.forced(attempt.record, forced, now)
        if not reversal.verified and now < attempt.revert_end:
            first = now == attempt.revert_end - REVERT_DEADLINE
            attempt.looked = now
            attempt.due["verify"] = min(attempt.revert_end, now + (FIRST_LOOK if first else LOOK_EVERY))
            return
        await self._conclude_revert(attempt, reversal, now)
        await self._settle(attempt, attempt.verdict, now)

    async def _conclude_revert(self, attempt: Attempt, reversal: Reversal, now: int) -> None:
        await self._journal.reverted(
            attempt.record,
            attempt.reverted_objects,
            verified=reversal.verified,
            evidence=reversal.evidence,
            precision_ns=now - attempt.looked,
            now=now,
        )

    async def _last_word(self, attempt: Attempt, now: int, *, look: bool = True) -> None:
        """Log the verdict on the effect, if that isn't done yet."""
        if attempt.checked:
            return
        if attempt.record.applied is None:
            stage: FailedStage = "apply" if attempt.touched else "precheck"
            await self._journal.failed(attempt.record, stage, "interrupted before it was answered", now)
            attempt.verdict, attempt.checked = "failed", True
            return
        if look:
            try:
                attempt.check = await attempt.procedure.postcheck()
            except CallError as error:
                attempt.check = attempt.check or Check(seen="none", evidence={"missing": str(error)})
        await self._conclude(attempt, now)

    async def _close_attempt(self, attempt: Attempt, now: int) -> None:
        if "verify" in attempt.due:
            await self._stage(attempt, "verify", now)
        elif attempt.touched and (attempt.duration is not None or attempt.record.applied is None):
            await self._stage(attempt, "revert", now)
        else:
            await self._last_word(attempt, now)
            await self._settle(attempt, attempt.verdict, now)

    async def _settle(self, attempt: Attempt, status: Status, now: int) -> None:
        attempt.due.clear()
        self._open.remove(attempt)
        if attempt.duration is None and attempt.record.applied is not None and attempt.entry.reverse:
            for field in attempt.fields:
                self._lasting[attempt.truth, field] = attempt
        await self._note_writes(attempt, now)
        await self._journal.settled(attempt.record, status, now)
        if self._safekeeper is not None and not attempt.record.revert_failed:
            await self._safekeeper.forget(attempt.record.action_id)
