"""What a crashed run's actions come to: from its log alone, which events are missing, and which changes may still be on the stand.

In: the action events of a log, of both streams, in order. Out: an `Aftermath` per attempt that hasn't settled. Pure. `janitor` takes the
changes back; the engine's recovery appends the events.

What a log can end with, and what is true then:

| the last event of the attempt | on the stand          | is taken back       | appended                                            |
|-------------------------------|-----------------------|---------------------|-----------------------------------------------------|
| requested                     | nothing               | –                   | failed (precheck), settled: failed                  |
| prechecked, rejected          | nothing               | –                   | settled: rejected                                   |
| prechecked, passed            | perhaps the change    | yes                 | failed (apply), reverted, settled: failed           |
| applied                       | the change            | if it was to end    | postchecked: unverified, reverted, settled: unverified |
| failed (apply)                | perhaps a part of it  | yes                 | reverted, settled: failed                           |
| postchecked                   | the change            | if it was to end    | reverted, settled: what the postcheck said          |
| reverted                      | nothing, if verified  | if it wasn't        | reverted (if it wasn't), settled: what the postcheck said |

An attempt that was to last (no duration) and was applied stays on the stand, as it does when a run ends in order, unless a janitor there
has taken it back before it settled: then `reverted` is appended, too. Otherwise `reverted` is appended only where somebody looked: a stand
that is gone can't be seen without the change.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Literal, TypeAlias

import msgspec

from otel_control_gym.engine.events import (
    ActionApplied,
    ActionFailed,
    ActionPostchecked,
    ActionPrechecked,
    ActionRequested,
    ActionReverted,
    ActionSettled,
    Event,
    InverseCall,
)

__all__ = ("Aftermath", "aftermath_of", "closing_events", "leftovers_of")

Status: TypeAlias = Literal["rejected", "failed", "applied", "partial", "unverified"]
_STATUSES: dict[str, Status] = {"effective": "applied", "partial": "partial", "unverified": "unverified"}
_DIED = "the process ended before anybody looked"


class Aftermath(msgspec.Struct, kw_only=True):
    """What a log knows of an attempt when it ends."""

    action_id: str
    truth: bool
    requested: ActionRequested
    prechecked: ActionPrechecked | None = None
    applied: ActionApplied | None = None
    failed_to_apply: bool = False
    failed: bool = False
    verdict: str | None = None  #: of the postcheck
    reverted: bool = False  #: verified
    settled: bool = False
    taken_back: bool = False  #: by a janitor on the stand's side, who noted it there

    @property
    def inverse(self) -> tuple[InverseCall, ...]:
        """Return the calls that take back what may be on the stand, or none if nothing is or it is to stay."""
        if self.prechecked is None or self.prechecked.verdict == "rejected" or self.reverted:
            return ()
        lasting = self.applied is not None and not self.failed_to_apply and self.requested.duration_ns is None
        return () if lasting else self.prechecked.inverse

    @property
    def status(self) -> Status:
        """Return the final status."""
        if self.prechecked is not None and self.prechecked.verdict == "rejected":
            return "rejected"
        if self.applied is None or self.failed_to_apply:
            return "failed"
        return _STATUSES.get(self.verdict or "", "unverified")


def aftermath_of(events: Iterable[tuple[Event, bool]]) -> list[Aftermath]:
    """Return the attempts that haven't settled, in the order of their requests; events come as (event, truth)."""
    return [attempt for attempt in _attempts(events) if not attempt.settled]


def leftovers_of(events: Iterable[tuple[Event, bool]], taken_back: Container[str] = ()) -> list[InverseCall]:
    """Return the calls that take back what a log doesn't show as taken back, newest change first; settled attempts included.

    `taken_back`: the actions of which a janitor has noted that it has done so.
    """
    left = [attempt for attempt in reversed(_attempts(events)) if attempt.action_id not in taken_back]
    return [call for attempt in left for call in attempt.inverse]


def _attempts(events: Iterable[tuple[Event, bool]]) -> list[Aftermath]:
    found: dict[str, Aftermath] = {}
    for event, truth in events:
        if isinstance(event, ActionRequested):
            found[event.action_id] = Aftermath(action_id=event.action_id, truth=truth, requested=event)
            continue
        attempt = found.get(getattr(event, "action_id", ""))
        if attempt is None:
            continue
        match event:
            case ActionPrechecked():
                attempt.prechecked = event
            case ActionApplied():
                attempt.applied = attempt.applied or event
            case ActionFailed():
                attempt.failed = True
                attempt.failed_to_apply |= event.stage == "apply"
            case ActionPostchecked():
                attempt.verdict = event.verdict
            case ActionReverted():
                attempt.reverted = event.verified
            case ActionSettled():
                attempt.settled = True
    return list(found.values())


def closing_events(
    attempt: Aftermath, now: int, *, cleaned: bool | None, evidence: dict[str, object] | None = None
) -> list[Event]:
    """Return the events that an attempt's life lacks.

    Args:
        attempt: the attempt.
        now: time of the events [ns].
        cleaned: whether the stand was seen without the change; null: nobody could look.
        evidence: what was seen.
    """
    events: list[Event] = []
    rejected = attempt.prechecked is not None and attempt.prechecked.verdict == "rejected"
    if attempt.applied is None and not attempt.failed and not rejected:
        stage: Literal["precheck", "apply"] = "precheck" if attempt.prechecked is None else "apply"
        error = "the process ended before it was answered"
        events.append(ActionFailed(time=now, action_id=attempt.action_id, stage=stage, error=error))
    if attempt.applied is not None and not attempt.failed_to_apply and attempt.verdict is None:
        looked = ActionPostchecked(
            time=now,
            action_id=attempt.action_id,
            verdict="unverified",
            effective_time=None,
            evidence={"missing": _DIED},
        )
        events.append(looked)
    if (attempt.inverse or attempt.taken_back) and cleaned is not None:
        events.append(
            ActionReverted(time=now, action_id=attempt.action_id, verified=cleaned, evidence=dict(evidence or {}))
        )
    events.append(ActionSettled(time=now, action_id=attempt.action_id, status=attempt.status))
    return events
