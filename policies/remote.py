"""A policy in another process: it is asked over NATS what to do.

In: a subject on which it answers, and what is public of the run. Out: a `WaitingPolicy`. The messages are `Begin` and `Decide` of
`engine.remote_messages`; docs/how-to/bring-your-own-policy.md shows one in ten lines.

It never keeps an episode waiting: one that isn't there, is late or answers nonsense raises `PolicyError`, which ends the episode in order.
A question is asked once, because a policy may count them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.clock import new_run_id
from otel_control_gym.engine.errors import PolicyError, UsageError
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.nats_session import Unanswered
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.remote_messages import (
    VERSION,
    Begin,
    Begun,
    Decide,
    Decided,
    Refusal,
    observation_message,
)
from otel_control_gym.engine.settings import RunSettings
from otel_control_gym.policies.scripted import Choice

__all__ = ("ANSWER_SECONDS", "PREFIX", "RemotePolicy", "policy_subject", "remote_policy")

PREFIX = "nats:"  #: of a policy's name on the command line
ANSWER_SECONDS = 60.0  #: of wall time that a policy may think about one decision

AnswerT = TypeVar("AnswerT", Begun, Decided)


def policy_subject(name: str) -> str | None:
    """Return the subject in `nats:SUBJECT`, or None for another kind of name.

    Raises: UsageError: there is none, or it has wildcards or empty parts.
    """
    if not name.startswith(PREFIX):
        return None
    subject = name.removeprefix(PREFIX)
    if not all(subject.split(".")) or any(character in subject for character in "*> \t"):
        raise UsageError(f"policy {name!r}: a subject has parts between dots, without * and >, as nats:policies.mine")
    return subject


class RemotePolicy:
    """The policy of one episode; made by `remote_policy`."""

    def __init__(self, jetstream: JetStream, subject: str, episode: str, begun: Begun, seconds: float) -> None:
        self.version = begun.policy_version
        self.information: Literal["public", "privileged"] = begun.information
        self._jetstream = jetstream
        self._subject, self._episode, self._arrays, self._seconds = subject, episode, begun.arrays, seconds

    async def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        """Return what the other process decides.

        Raises: PolicyError: it doesn't answer in time, refuses, or answers what is no decision.
        """
        asked = Decide(
            version=VERSION,
            episode=self._episode,
            step=step,
            seconds=seconds,
            observation=observation_message(observation, self._arrays),
        )
        decided = await _ask(self._jetstream, self._subject, asked, Decided, self._seconds)
        return Choice(action=decided.action, propensity=decided.propensity, alternatives=decided.alternatives)


@asynccontextmanager
async def remote_policy(
    subject: str,
    settings: RunSettings,
    *,
    data_dir: Path,
    nats: str | None = None,
    menu: Sequence[Mapping[str, Any]] = (),
    seconds: float = ANSWER_SECONDS,
) -> AsyncIterator[RemotePolicy]:
    """Tell a policy that an episode begins, and yield it.

    Args:
        subject: where it answers.
        settings: of the run; what of it is public is told.
        data_dir: its embedded broker is where the policy is asked, unless `nats` is the URL of another.
        nats: URL of a NATS server.
        menu: actions that are suggested to it.
        seconds: of wall time that it may think about one decision.

    Raises: PolicyError: nobody answers there, or not in this protocol. BrokerError: there is no broker.
    """
    services = settings.services
    asked = Begin(
        version=VERSION,
        episode=new_run_id(),
        application=services.name,
        nodes=tuple(services.services),
        edges=tuple((edge.source, edge.target, edge.protocol) for edge in services.edges),
        control_step_seconds=settings.granularity.control_step_seconds,
        horizon_seconds=settings.horizon_seconds,
        menu=tuple(dict(action) for action in menu),
    )
    async with configured_broker(data_dir, nats) as broker, JetStream(broker) as jetstream:
        begun = await _ask(jetstream, subject, asked, Begun, seconds)
        yield RemotePolicy(jetstream, subject, asked.episode, begun, seconds)


async def _ask(
    jetstream: JetStream, subject: str, question: Begin | Decide, answer: type[AnswerT], seconds: float
) -> AnswerT:
    try:
        body = await jetstream.request(subject, msgspec.json.encode(question), seconds)
    except Unanswered as error:
        raise PolicyError(
            f"the policy on {subject!r} gives no answer: {error}\n"
            f"  start it first, on the NATS server {jetstream.broker.url}; it has {seconds:g} s for a decision"
        ) from error
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
        if "error" in found:
            problem = msgspec.convert(found, type=Refusal).error
            raise PolicyError(f"the policy on {subject!r} refuses: {problem.type}: {problem.message}")
        if found.get("version") != VERSION:
            raise PolicyError(
                f"the policy on {subject!r} answers with version = {found.get('version')!r}\n"
                f"  this is version {VERSION} of the protocol"
            )
        return msgspec.convert(found, type=answer)
    except msgspec.DecodeError as error:
        raise PolicyError(
            f"the policy on {subject!r} answers what is no {answer.__name__!r}: {error}\n"
            "  docs/reference/remote-protocol.md has the messages"
        ) from error
