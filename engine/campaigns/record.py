"""What happened in a campaign: events in a stream of its own, and their fold.

In: a broker's connection. Out: a `CampaignState`, the same for everybody who reads: who started what, what is done, what failed and why. A
run of the plan counts as done once: `Completed` is stored only if its key has none yet, so of two workers that both played it one is told
that it came second.

The stream `ocg-campaign_<name>` has a subject per kind and key. `engine.campaigns.queue` holds what is still to be played.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from otel_control_gym.engine.campaigns.plans import CampaignPlan, StandKind
from otel_control_gym.engine.envelope import RunName
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.jetstream import STREAM_NOT_FOUND, JetStream, StreamConfig
from otel_control_gym.engine.nats_session import Refused

__all__ = (
    "CampaignRecord",
    "CampaignState",
    "Cancelled",
    "Completed",
    "Declared",
    "Failed",
    "KeyState",
    "StandTroubled",
    "Started",
    "campaign_streams",
)

_PREFIX = "ocg-campaign_"


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    time: int  #: wall time [ns]


class Declared(_Event, frozen=True, kw_only=True, tag="campaign.declared.1"):
    """The plan, or a larger one later."""

    digest: str  #: of the plan
    keys: tuple[str, ...]
    strata: tuple[str, ...]  #: of each key
    stand: StandKind = "twin"  #: who may play it: workers of the embedded twin, or of clusters


class Started(_Event, frozen=True, kw_only=True, tag="campaign.started.1"):
    """A worker plays a run."""

    key: str
    run_id: str
    worker: str
    attempt: int


class Completed(_Event, frozen=True, kw_only=True, tag="campaign.completed.1"):
    """A run of the plan is there, with its dataset."""

    key: str
    run_id: str
    worker: str
    path: str  #: below the data directory of the worker
    status: str  #: completed or void
    wall_seconds: float
    episode_seconds: float
    size_bytes: int  #: of the run's directory


class Failed(_Event, frozen=True, kw_only=True, tag="campaign.failed.1"):
    """An attempt came to nothing; a final one isn't repeated (a dead letter)."""

    key: str
    run_id: str | None
    worker: str
    reason: str
    final: bool


class StandTroubled(_Event, frozen=True, kw_only=True, tag="campaign.stand_troubled.1"):
    """A worker can't play on its cluster now: somebody else drives it, or it isn't in its known state. No run is charged with that."""

    stand: str
    worker: str
    reason: str
    left_out: bool  #: its worker has given it up


class Cancelled(_Event, frozen=True, kw_only=True, tag="campaign.cancelled.1"):
    """Somebody called the campaign off; what is under way ends, nothing else begins. A declaration takes it up again."""


CampaignEvent: TypeAlias = Declared | Started | Completed | Failed | StandTroubled | Cancelled
_DECODER: msgspec.json.Decoder[CampaignEvent] = msgspec.json.Decoder(CampaignEvent)


class KeyState(msgspec.Struct, kw_only=True):
    """What became of one run of the plan."""

    stratum: str
    status: Literal["waiting", "running", "completed", "failed"] = "waiting"
    attempts: int = 0
    run_id: str | None = None  #: of the latest attempt
    earlier: list[str] = []  #: run ids of the attempts before
    completed: Completed | None = None
    reasons: list[str] = []  #: of the attempts that came to nothing
    failures: int = 0  #: of them since the run was last given up
    latest: Started | Completed | Failed | None = None


class CampaignState(msgspec.Struct, kw_only=True):
    """The fold of a campaign's events."""

    digest: str = ""
    stand: StandKind = "twin"
    cancelled: bool = False
    keys: dict[str, KeyState] = {}
    troubles: dict[str, StandTroubled] = {}  #: of the stands on which nothing can be played now, by their names
    began: int | None = None  #: wall time of the first start [ns]
    latest: int = 0  #: of the newest event [ns]

    def take(self, event: CampaignEvent) -> None:
        """Take the next event into the state."""
        self.latest = max(self.latest, event.time)
        match event:
            case Declared():
                self.digest, self.stand, self.cancelled = event.digest, event.stand, False
                self.troubles.clear()  # whoever declares brings workers
                for key, stratum in zip(event.keys, event.strata, strict=True):
                    found = self.keys.setdefault(key, KeyState(stratum=stratum))
                    if found.status == "failed":  # declared once more: tried once more
                        found.status, found.failures = "waiting", 0
            case Cancelled():
                self.cancelled = True
            case StandTroubled():
                self.troubles[event.stand] = event
            case Started() | Completed() | Failed():
                found = self.keys[event.key]
                if event != found.latest:  # one whose answer was lost is stored twice
                    found.latest = event
                    self._take_of_key(event, found)

    def _take_of_key(self, event: Started | Completed | Failed, found: KeyState) -> None:
        match event:
            case Started():
                for stand in [name for name, trouble in self.troubles.items() if trouble.worker == event.worker]:
                    del self.troubles[stand]
                self.began = event.time if self.began is None else self.began
                if found.run_id is not None:
                    found.earlier.append(found.run_id)
                found.attempts, found.run_id = found.attempts + 1, event.run_id
                if found.status != "completed":
                    found.status = "running"
            case Completed():
                found.status, found.completed = "completed", event
            case Failed():
                found.failures += 1
                found.reasons.append(event.reason)
                if event.run_id is None:  # it came to nothing before the run began
                    found.attempts += 1
                if found.status != "completed":
                    found.status = "failed" if event.final else "waiting"

    def count(self, status: str) -> int:
        """Return how many runs of the plan have a status."""
        return sum(found.status == status for found in self.keys.values())

    @property
    def retried(self) -> int:
        """How many attempts were made beyond the first of each run."""
        return sum(max(0, found.attempts - 1) for found in self.keys.values())

    @property
    def left_out(self) -> dict[str, str]:
        """The stands that were given up, and why."""
        return {name: trouble.reason for name, trouble in self.troubles.items() if trouble.left_out}

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be played."""
        return all(found.status in ("completed", "failed") for found in self.keys.values())


async def campaign_streams(jetstream: JetStream) -> list[str]:
    """Return the names of the campaigns that a broker knows.

    Raises: Unanswered.
    """
    return [info.name.removeprefix(_PREFIX) for info in await jetstream.streams(_PREFIX)]


class CampaignRecord:
    """The events of one campaign: read, followed, written."""

    def __init__(self, jetstream: JetStream, name: str) -> None:
        RunName(name, "any").checked()
        self.name = name
        self.state = CampaignState()
        self._jetstream = jetstream
        self._stream = f"{_PREFIX}{name}"
        self._read = 0  #: sequence of the last event in `state`

    @classmethod
    async def open(cls, jetstream: JetStream, name: str) -> CampaignRecord:
        """Return a campaign's record, read up to now.

        Raises: UsageError: the broker knows no such campaign. Unanswered.
        """
        record = cls(jetstream, name)
        try:
            await jetstream.stream(record._stream)
        except Refused as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            known = ", ".join(await campaign_streams(jetstream)) or "none"
            raise UsageError(f"no campaign {name!r} has been run here\n  known: {known}") from error
        await record.catch_up()
        return record

    async def declare(self, plan: CampaignPlan, now: int) -> None:
        """Make the stream if it isn't there, and declare the plan: its runs are to be played.

        Raises: UsageError: the campaign was declared with runs that aren't among these, or for another kind of stand. Refused; Unanswered.
        """
        await self._jetstream.add_stream(
            StreamConfig(
                name=self._stream,
                subjects=(f"{self._subject}.>",),
                num_replicas=self._jetstream.broker.replicas,
                deny_delete=True,
                deny_purge=False,
            )
        )
        await self.catch_up()
        keys = tuple(run.key for run in plan.runs)
        missing = [key for key in self.state.keys if key not in set(keys)]
        if missing:
            raise UsageError(
                f"campaign {self.name!r} was begun with a plan that had runs which this one hasn't, e.g. {missing[0]!r}\n"
                "  give the new one another name in its file, or use another --data-dir"
            )
        if self.state.keys and self.state.stand != plan.stand:
            raise UsageError(
                f"campaign {self.name!r} was begun on the {self.state.stand}, and this plan is for the {plan.stand}\n"
                "  give the new one another name in its file, or use another --data-dir"
            )
        strata = tuple(run.stratum for run in plan.runs)
        await self.write(Declared(time=now, digest=plan.digest, keys=keys, strata=strata, stand=plan.stand))

    @property
    def _subject(self) -> str:
        return f"ocg-campaign.{self.name}"

    async def write(self, event: Declared | Started | Failed | StandTroubled | Cancelled) -> None:
        """Append an event.

        Raises: Refused; Unanswered.
        """
        await self._jetstream.store(f"{self._subject}.{_word(event)}", msgspec.json.encode(event))

    async def complete(self, event: Completed) -> bool:
        """Append that a run is done; return False if it was done before, by another attempt.

        Raises: Refused; Unanswered.
        """
        subject = f"{self._subject}.completed.{event.key}"
        if await self._jetstream.store_first(subject, msgspec.json.encode(event)):
            return True
        await self.catch_up()
        standing = self.state.keys[event.key].completed
        return standing is not None and standing.run_id == event.run_id

    async def catch_up(self) -> list[CampaignEvent]:
        """Read what is new into the state, and return it.

        Raises: Unanswered.
        """
        news: list[CampaignEvent] = []
        while True:
            batch = await self._jetstream.batch(self._stream, self._read + 1, 500)
            if not batch:
                return news
            for stored in batch:
                event = _DECODER.decode(stored.body)
                self.state.take(event)
                news.append(event)
                self._read = stored.sequence

    async def forget(self) -> None:
        """Drop the record with all that is in it.

        Raises: Refused; Unanswered.
        """
        await self._jetstream.delete_stream(self._stream)


def _word(event: CampaignEvent) -> str:
    return str(event.__struct_config__.tag).split(".")[1]
