"""A run's log up to a decision ➜ what it takes to live that far again and then take another turn.

In: the messages of a run, in the order of knowledge (from its archive, or from the broker while it goes on), and the decision step at
which the future forks. Out: a `BranchPoint`: the configuration, the decisions before, and the content digest that the rerun must have
when it gets there. `engine.env` reruns it; what differs from then on is caused by what was done differently.

What belongs to the prefix is everything up to the event that closed the step before: `ClockAdvanced`, or `PhaseEntered` of the control
phase. An intervention that is due at that very moment comes after it, in the branch as in its parent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from otel_control_gym.engine.codec import decode
from otel_control_gym.engine.envelope import ContentDigest, Message
from otel_control_gym.engine.errors import BranchError, UsageError
from otel_control_gym.engine.events import (
    ActionRequested,
    BranchTaken,
    ClockAdvanced,
    Event,
    PhaseEntered,
    RunDeclared,
    RunIdentified,
    TruthDeclared,
    type_tag,
)
from otel_control_gym.engine.randomness import derive_seed
from otel_control_gym.engine.settings import PlannedAction, RunConfig, RunIdentity, Scenario, TwinSettings, Workload

__all__ = ("BranchPoint", "PastDecision", "PrefixReader", "Randomness", "branch_event", "find_branch_point")

Randomness = Literal["same", "fresh"]

_READ = {
    type_tag(kind)
    for kind in (RunDeclared, TruthDeclared, RunIdentified, BranchTaken, PhaseEntered, ActionRequested, ClockAdvanced)
}


class PastDecision(msgspec.Struct, frozen=True, kw_only=True):
    """A decision as the log has it, and how long the stand lived on with it."""

    request: ActionRequested
    duration: int  #: [ns] of its step


class BranchPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A moment in a run at which a decision was due, and all that led to it."""

    run_id: str
    step: int
    config: RunConfig
    decisions: tuple[PastDecision, ...]  #: of the steps before
    branches: tuple[BranchTaken, ...]  #: earlier turns that the run itself took, in order
    digest: str  #: content digest of the run up to here


class PrefixReader:
    """Takes in a run's messages one by one until its step is reached."""

    def __init__(self, run_id: str, step: int) -> None:
        if step < 0:
            raise UsageError(f"decision step {step}: steps count from 0")
        self._run_id = run_id
        self._step = step
        self._digest = ContentDigest()
        self._declared: RunDeclared | None = None
        self._truth: TruthDeclared | None = None
        self._identity = RunIdentity()
        self._branches: list[BranchTaken] = []
        self._asked: list[ActionRequested] = []
        self._ends: list[int] = []
        self._since: list[int] = []
        self.complete = False

    def take(self, message: Message, *, truth: bool) -> None:
        """Take in the next message, in the order of knowledge; those after the branch point are ignored.

        Raises: BranchError: somebody acted beside the policy, which can't be rerun.
        """
        if self.complete:
            return
        self._digest.add(message, truth=truth)
        if message.tag in _READ:
            self._note(decode(message.tag, message.body))

    def _note(self, event: Event) -> None:
        match event:
            case RunDeclared():
                self._declared = event
            case TruthDeclared():
                self._truth = event
            case RunIdentified():
                self._identity = event.identity
            case BranchTaken():
                self._branches.append(event)
            case PhaseEntered(phase="control"):
                self.complete = self._step == 0
            case ClockAdvanced(decision_step=int(number)):
                self._ends.append(event.time)
                self._since.append(event.since)
                self.complete = number == self._step - 1
            case ActionRequested(decision_step=int()):
                self._asked.append(event)
            case ActionRequested(actor="human" | "external"):
                raise BranchError(
                    f"run {self._run_id} can't be branched at step {self._step}: before it, a {event.actor} hand did "
                    f"{event.action_type!r} beside the policy, at a moment that can't be met again\n"
                    f"  branch at an earlier step (so far it had {len(self._asked)})"
                )
            case _:
                pass

    def point(self) -> BranchPoint:
        """Return the branch point.

        Raises: BranchError: the run has no such step, or isn't one that can be rerun.
        """
        if not self.complete:
            raise BranchError(
                f"run {self._run_id} has no decision step {self._step}: it has had {len(self._ends)}\n"
                f"  use a step from 0 to {len(self._ends)}"
            )
        if self._declared is None or self._truth is None:
            raise BranchError(f"run {self._run_id} doesn't say what it was: its truth stream is missing")
        if self._declared.settings.stand != "twin":
            raise BranchError(
                f"run {self._run_id} was on a {self._declared.settings.stand}: only the twin can be at one moment twice"
            )
        truth = self._truth
        return BranchPoint(
            run_id=self._run_id,
            step=self._step,
            config=RunConfig(
                public=self._declared.settings,
                scenario=msgspec.convert(truth.scenario, Scenario),
                workload=msgspec.convert(truth.workload, Workload),
                twin=msgspec.convert(truth.twin, TwinSettings),
                seed=truth.seed,
                identity=msgspec.structs.replace(self._identity, retry_of=None),
            ),
            decisions=tuple(
                PastDecision(request=asked, duration=end - since)
                for asked, since, end in zip(self._asked, self._since, self._ends, strict=True)
            ),
            branches=tuple(self._branches),
            digest=self._digest.hexdigest(),
        )


def find_branch_point(messages: Iterable[tuple[Message, bool]], run_id: str, step: int) -> BranchPoint:
    """Return the branch point of a log at a decision step.

    Raises: BranchError: the run has no such step, or can't be rerun. What reading the messages raises.
    """
    reader = PrefixReader(run_id, step)
    for message, truth in messages:
        reader.take(message, truth=truth)
        if reader.complete:
            break
    return reader.point()


def branch_event(
    point: BranchPoint,
    now: int,
    *,
    randomness: Randomness,
    number: int,
    pair_id: str | None,
    interventions: tuple[PlannedAction, ...] | None,
) -> BranchTaken:
    """Return what a branch says of itself; `number` tells the fresh futures of one point apart."""
    seed = derive_seed(point.config.seed, f"branch/{point.step}/{number}") if randomness == "fresh" else None
    return BranchTaken(
        time=now,
        parent_run_id=point.run_id,
        parent_digest=point.digest,
        decision_step=point.step,
        randomness=randomness,
        seed=seed,
        pair_id=pair_id,
        interventions=None if interventions is None else tuple(map(msgspec.to_builtins, interventions)),
    )
