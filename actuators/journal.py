"""What the log and the record say of an attempt, stage by stage.

In: what `lifecycle` has seen or done, and when. Out: one event per stage, public or truth as the request was, and the same in the
attempt's record, which is what `info` shows. It decides nothing: when a stage comes, and whether it comes, is `lifecycle`'s.

A record is brought up to date before its event is durable, without a moment in between: who is cancelled while the log is being
written finds the record as it is told.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from otel_control_gym.actuators.catalogue import to_json
from otel_control_gym.actuators.moments import Span
from otel_control_gym.actuators.procedure import Check, Forced
from otel_control_gym.actuators.resolution import Resolved
from otel_control_gym.engine.events import (
    ActionApplied,
    ActionFailed,
    ActionForced,
    ActionLapsed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionResumed,
    ActionReverted,
    ActionSettled,
    Event,
    InverseCall,
    ObjectsWritten,
    TouchedObject,
    WrittenObject,
)
from otel_control_gym.engine.protocols import ActionRecord, Append, Request
from otel_control_gym.engine.randomness import derive_seed, draw_identifier

__all__ = ("FailedStage", "Journal", "Status")

Status: TypeAlias = Literal["rejected", "failed", "applied", "partial", "unverified"]
FailedStage: TypeAlias = Literal["precheck", "apply", "postcheck", "revert"]
_VERDICTS: dict[str, Literal["effective", "partial", "unverified"]] = {
    "all": "effective",
    "some": "partial",
    "none": "unverified",
}


class Journal:
    """Writes the life of attempts; every method returns once its event is durable. Times are episode nanoseconds.

    Args:
        append: writes an event and returns when it is durable.
        seed: action ids derive from it and a counter, one for public actions and one for interventions: the ids of a policy's
            actions don't tell whether anything else was done.
    """

    def __init__(self, append: Append, *, seed: int) -> None:
        self._append = append
        self._seeds = {
            truth: derive_seed(seed, f"actuators.{'truth' if truth else 'public'}") for truth in (False, True)
        }
        self._counts = {False: 0, True: 0}

    async def request(self, request: Request, resolved: Resolved, now: int) -> ActionRecord:
        """Log a request, before anything is done about it; return its record under a new id."""
        record = ActionRecord(
            action_id=self._new_id(request.truth), action=to_json(request.action), requested=now, truth=request.truth
        )
        event = ActionRequested(
            time=now,
            action_id=record.action_id,
            actor=request.actor,
            action_class=resolved.entry.action_class,
            action_type=resolved.entry.type,
            target_kind=resolved.entry.target_kind,
            target=resolved.target,
            parameters=resolved.parameters,
            duration_ns=resolved.duration_ns,
            decision_step=request.decision_step,
            decision_log_sequence=request.decision_log_sequence,
            propensity=request.propensity,
            alternatives=request.alternatives,
            policy_version=request.policy_version,
            policy_information=request.policy_information,
            root_cause_kind=resolved.root_cause_kind,
            expected_symptoms=resolved.expected_symptoms,
        )
        await self._write(record, event)
        return record

    def _new_id(self, truth: bool) -> str:
        self._counts[truth] += 1
        return draw_identifier(self._seeds[truth], self._counts[truth], length=12)

    async def _write(self, record: ActionRecord, event: Event) -> None:
        await self._append(event, truth=record.truth)

    async def passed(
        self, record: ActionRecord, evidence: dict[str, Any], inverse: tuple[InverseCall, ...], now: int
    ) -> None:
        """The precheck has nothing against it; the way back is durable before the change is made."""
        event = ActionPrechecked(
            time=now, action_id=record.action_id, verdict="passed", evidence=evidence, inverse=inverse
        )
        await self._write(record, event)

    async def rejected(self, record: ActionRecord, reason: str, evidence: dict[str, Any], now: int) -> None:
        """The precheck says no."""
        record.reason = reason
        event = ActionPrechecked(
            time=now, action_id=record.action_id, verdict="rejected", reason=reason, evidence=evidence
        )
        await self._write(record, event)

    async def applied(self, record: ActionRecord, objects: tuple[TouchedObject, ...], now: int) -> None:
        """The stand took the change; also when it was brought to new pods later: the record keeps the first time."""
        if record.applied is None:
            record.applied = now
        await self._write(record, ActionApplied(time=now, action_id=record.action_id, objects=objects))

    async def failed(self, record: ActionRecord, stage: FailedStage, error: str, now: int) -> None:
        """A stage got no good answer."""
        record.reason = error
        await self._write(record, ActionFailed(time=now, action_id=record.action_id, stage=stage, error=error))

    async def written(self, record: ActionRecord, objects: tuple[WrittenObject, ...], now: int) -> None:
        """What was written to Kubernetes objects; of every action in the truth stream, because of the versions."""
        event = ObjectsWritten(time=now, action_id=record.action_id, objects=objects)
        await self._append(event, truth=True)

    async def lapsed(
        self, record: ActionRecord, *, lost: tuple[str, ...], left: tuple[str, ...], end: Span, reason: str, now: int
    ) -> None:
        """It is no longer in force where it was."""
        event = ActionLapsed(
            time=now,
            action_id=record.action_id,
            lost=lost,
            left=left,
            end_time=end.moment,
            precision_ns=end.precision_ns,
            reason=reason,
        )
        await self._write(record, event)

    async def resumed(self, record: ActionRecord, *, places: tuple[str, ...], begin: Span, now: int) -> None:
        """It is in force again."""
        event = ActionResumed(
            time=now,
            action_id=record.action_id,
            places=places,
            resumed_time=begin.moment,
            precision_ns=begin.precision_ns,
        )
        await self._write(record, event)

    async def forced(self, record: ActionRecord, forced: Forced, now: int) -> None:
        """An object didn't go by itself."""
        event = ActionForced(
            time=now, action_id=record.action_id, step=forced.step, objects=forced.objects, error=forced.error
        )
        await self._write(record, event)

    async def postchecked(self, record: ActionRecord, check: Check, since: Span, now: int) -> None:
        """The last word on the effect; `since`: when it was there, if all of it was seen."""
        complete = check.seen == "all"
        if complete:
            record.effective = since.moment
        record.reason = str(check.evidence.get("missing", ""))
        event = ActionPostchecked(
            time=now,
            action_id=record.action_id,
            verdict=_VERDICTS[check.seen],
            effective_time=record.effective,
            evidence=check.evidence,
            precision_ns=since.precision_ns if complete else None,
        )
        await self._write(record, event)

    async def reverted(
        self,
        record: ActionRecord,
        objects: tuple[TouchedObject, ...],
        *,
        verified: bool,
        evidence: dict[str, Any],
        precision_ns: int,
        now: int,
    ) -> None:
        """The last word on taking it back; `precision_ns`: how much earlier it may have been gone."""
        record.reverted = now if verified else None
        record.revert_failed = not verified
        event = ActionReverted(
            time=now,
            action_id=record.action_id,
            objects=objects,
            verified=verified,
            evidence=evidence,
            precision_ns=precision_ns if verified else None,
        )
        await self._write(record, event)

    async def settled(self, record: ActionRecord, status: Status, now: int) -> None:
        """The status at the end."""
        record.status, record.settled = status, now
        await self._write(record, ActionSettled(time=now, action_id=record.action_id, status=status))
