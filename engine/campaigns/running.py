"""A campaign from its plan to its last run: what `ocg campaign run` does, for whoever writes Python.

In: a plan, a data directory, how many workers or which clusters. Out: the campaign's state when all is played, with the files that belong
to a campaign as a whole (`campaign.json`, `plan.json`, `balance.json`, `splits/`) beside its runs. What is done already isn't done again,
so the same call goes on with a campaign that was interrupted, and completes one that was extended.

Workers are processes of their own (`crew`). Nothing here depends on them: workers on other machines take from the same queue (`ocg
worker`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.campaigns.balance import balance_of
from otel_control_gym.engine.campaigns.crew import Crew, opened_crew
from otel_control_gym.engine.campaigns.files import configurations
from otel_control_gym.engine.campaigns.plans import CampaignPlan
from otel_control_gym.engine.campaigns.queue import Job, WorkQueue
from otel_control_gym.engine.campaigns.record import CampaignRecord, CampaignState, Cancelled
from otel_control_gym.engine.campaigns.splits import make_splits
from otel_control_gym.engine.clock import wall_now, wall_timer
from otel_control_gym.engine.cluster_access import ClusterAccess
from otel_control_gym.engine.cluster_assembly import stand_name
from otel_control_gym.engine.errors import BrokerError, ConfigurationError, StandError, UsageError
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.locks import unfinished_runs
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.nats_session import Refused, Unanswered
from otel_control_gym.engine.runs import open_run

__all__ = (
    "CampaignResult",
    "campaign_directory",
    "cancel",
    "check_balance",
    "drop_second_runs",
    "run_campaign",
    "run_directories",
    "write_plan",
)

LOOK_SECONDS = 0.5  #: between looks at the record


class CampaignResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a campaign."""

    campaign: str
    planned: int
    completed: int
    failed: int
    retried: int
    wall_seconds: float
    episode_seconds: float  #: of all completed runs together
    size_bytes: int
    strata: dict[str, int]  #: stratum -> completed runs, siblings included
    retries: dict[str, int] = {}  #: stratum -> attempts beyond the first of each run
    left_out: dict[str, str] = {}  #: clusters that were given up -> why


def campaign_directory(data_dir: Path, name: str) -> Path:
    """Return where a campaign's runs and files are."""
    return data_dir / f"campaign={name}"


def run_directories(directory: Path) -> list[Path]:
    """Return the run directories of a campaign's directory, in order."""
    return sorted(path for path in directory.glob("service_config=*/run_*") if path.is_dir())


def check_balance(plan: CampaignPlan) -> None:
    """Refuse a plan in which a model could cheat.

    Raises: ConfigurationError: a bound doesn't hold.
    """
    for bound in balance_of(plan).bounds:
        if not bound.holds:
            raise ConfigurationError(
                file=f"campaign {plan.settings.name!r}",
                key=f"bounds.{bound.name}",
                found=round(bound.found, 3),
                problem=f"the plan isn't balanced: at {'most' if bound.at_most else 'least'} {bound.asked:.3g} is asked for",
                remedy="change the numbers of the strata, or the bound where the campaign is for something else",
            )


def write_plan(plan: CampaignPlan, directory: Path) -> None:
    """Write what is known of a campaign before it is played: plan, balance, splits; blocking."""
    (directory / "splits").mkdir(parents=True, exist_ok=True)
    _write(directory / "plan.json", plan)
    _write(directory / "balance.json", balance_of(plan))
    for split in make_splits(plan.runs):
        _write(directory / "splits" / f"{split.name}.json", split)


def _write(path: Path, document: object) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
    draft.replace(path)


async def run_campaign(
    plan: CampaignPlan,
    broker: Broker,
    *,
    data_dir: Path,
    nats: str | None,
    workers: int,
    stands: Sequence[ClusterAccess] = (),
    on_state: Callable[[CampaignState], None] = lambda _: None,
) -> CampaignResult:
    """Play what of a plan isn't played yet, and return what became of it.

    Args:
        plan: from `load_plan`.
        broker: holds queue and record.
        data_dir: where runs are kept.
        nats: URL of the broker, if it isn't the embedded one of `data_dir`.
        workers: processes here, with an embedded twin each; 0: wait for workers elsewhere.
        stands: for a plan that is for clusters, in place of `workers`: where they are. One process plays on each.
        on_state: is called whenever something has happened; it must not block.

    Raises:
        ConfigurationError: the plan isn't balanced.
        UsageError: the campaign was begun with another plan, or these aren't the stands that it is for.
        BrokerError, LogError: the broker doesn't answer any more.
    """
    check_balance(plan)
    places = _places(plan, workers, stands)
    name, began = plan.settings.name, wall_timer()
    directory = campaign_directory(data_dir, name)
    await anyio.to_thread.run_sync(write_plan, plan, directory)
    async with _answered(), JetStream(broker) as jetstream:
        record, queue = CampaignRecord(jetstream, name), WorkQueue(jetstream)
        await record.declare(plan, wall_now())
        await record.catch_up()
        await queue.open(name)
        async with opened_crew(name, data_dir, nats, () if record.state.is_over else places) as crew:
            await _enqueue(plan, record.state, queue)
            await _watch(record, crew, on_state)
        await record.catch_up()  # what the workers wrote while they ended
    async with LogConnection(broker) as connection:
        await _put_in_order(plan, connection, data_dir, nats, stands)
        for run_id in await anyio.to_thread.run_sync(drop_second_runs, directory, record.state):
            await connection.delete(run_id)
    result = _result(plan, record.state, wall_timer() - began)
    await anyio.to_thread.run_sync(_write, directory / "campaign.json", result)
    return result


def _places(plan: CampaignPlan, workers: int, stands: Sequence[ClusterAccess]) -> tuple[ClusterAccess | None, ...]:
    """Return what each worker here plays on; None: an embedded twin.

    Raises: UsageError: the plan is for something else, a cluster is named twice, or a kubeconfig leads nowhere.
    """
    name = plan.settings.name
    if plan.stand == "twin" and stands:
        raise UsageError(
            f"campaign {name!r} is for the embedded twin: its runs have siblings, and are branched\n"
            "  leave --kubeconfig out; one for clusters has `cluster:` in its file, as the packaged `cluster` has"
        )
    if plan.stand == "cluster" and not stands and workers:
        raise UsageError(
            f"campaign {name!r} is for clusters: which?\n"
            "  --kubeconfig FILE, again for each; or --workers 0 where `ocg worker` plays on them elsewhere"
        )
    names = [stand_name(access) for access in stands]
    for number, found in enumerate(names):
        if found in names[:number]:
            raise UsageError(f"stand {found} is named twice\n  one worker plays on each: name another one, or it once")
    return tuple(stands) if stands else (None,) * workers


async def _enqueue(plan: CampaignPlan, state: CampaignState, queue: WorkQueue) -> None:
    waiting = [run for run in plan.runs if state.keys[run.key].status != "completed"]
    configs = configurations(plan, waiting)
    for run in waiting:
        config = await anyio.to_thread.run_sync(next, configs)
        reset = None if plan.settings.cluster is None else plan.settings.cluster.reset
        await queue.put(Job(campaign=plan.settings.name, key=run.key, config=config, reset=reset))


async def _watch(record: CampaignRecord, crew: Crew, on_state: Callable[[CampaignState], None]) -> None:
    """Return when the campaign is over, was called off, or has no stand left; see to it that there are workers until then."""
    on_state(record.state)
    while not (record.state.is_over or record.state.cancelled or crew.is_spent):
        await crew.replace_dead()
        await anyio.sleep(LOOK_SECONDS)
        if await record.catch_up():
            on_state(record.state)


async def _put_in_order(
    plan: CampaignPlan, connection: LogConnection, data_dir: Path, nats: str | None, stands: Sequence[ClusterAccess]
) -> None:
    """End the runs that killed workers left, where no other worker has done it since."""
    from otel_control_gym.engine.assembly import make

    for access in (None,) if plan.stand == "twin" else stands:
        crashed = {run_id for run_id, life in unfinished_runs(data_dir).items() if life == "crashed"}
        if not crashed or crashed.isdisjoint(run.run_id for run in await connection.runs()):
            return
        with contextlib.suppress(StandError):  # who drives the stand has put them in order; or it doesn't answer
            async with make(next(configurations(plan, plan.runs[:1])), data_dir=data_dir, nats=nats, kubeconfig=access):
                pass


def drop_second_runs(directory: Path, state: CampaignState) -> list[str]:
    """Remove the datasets of runs that came second and whose workers died before they could, and return their ids; blocking.

    A key may be played twice at once where the broker forgot who has it. What lies on the disk decides, and not what the record knows of
    attempts: a worker may be killed at any moment, also before it could say what it began. Aborted runs and branches stay.
    """
    kept = {key: found.completed.run_id for key, found in state.keys.items() if found.completed is not None}
    dropped = []
    for path in run_directories(directory):
        if not (path / "metadata.json").exists():  # still a draft
            continue
        run = open_run(path, truth=True)
        second = kept.get(run.metadata["scenario_id"], run.run_id) != run.run_id
        if second and run.status != "aborted" and run.metadata["parent_run_id"] is None:
            shutil.rmtree(run.path)
            dropped.append(run.run_id)
    return dropped


def _result(plan: CampaignPlan, state: CampaignState, wall_seconds: float) -> CampaignResult:
    done = [found.completed for found in state.keys.values() if found.completed is not None]
    strata: dict[str, int] = {}
    retries: dict[str, int] = {}
    for found in state.keys.values():
        if found.attempts > 1:
            retries[found.stratum] = retries.get(found.stratum, 0) + found.attempts - 1
        if found.status == "completed":
            strata[found.stratum] = strata.get(found.stratum, 0) + 1
    return CampaignResult(
        campaign=plan.settings.name,
        planned=len(plan.runs),
        completed=state.count("completed"),
        failed=state.count("failed"),
        retried=state.retried,
        wall_seconds=round(wall_seconds, 3),
        episode_seconds=sum(item.episode_seconds for item in done),
        size_bytes=sum(item.size_bytes for item in done),
        strata=dict(sorted(strata.items())),
        retries=dict(sorted(retries.items())),
        left_out=state.left_out,
    )


async def cancel(broker: Broker, name: str) -> CampaignState:
    """Call a campaign off: what is under way ends, nothing else begins. Return its state.

    Raises: UsageError: there is no such campaign.
    """
    async with _answered(), JetStream(broker) as jetstream:
        record = await CampaignRecord.open(jetstream, name)
        await record.write(Cancelled(time=wall_now()))
        await WorkQueue(jetstream).clear(name)
        await record.catch_up()
        return record.state


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Say in a sentence that the broker is gone for good, or refuses.

    Raises: BrokerError.
    """
    try:
        yield
    except (Refused, Unanswered) as error:
        raise BrokerError(
            f"the campaign's queue or record can't be reached: {error}\n"
            "  what is done is kept; the same command goes on where it was"
        ) from error
