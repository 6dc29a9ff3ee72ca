"""A campaign on clusters: one worker on each, no run charged with a sick stand, a stand given up that stays sick.

A twin stands in the clusters' places, known by a name as they are; a campaign on served ones is in `tests/cluster/test_campaigns.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.files import load_plan
from otel_control_gym.engine.campaigns.plans import CampaignPlan
from otel_control_gym.engine.campaigns.record import CampaignRecord, CampaignState, Declared, StandTroubled, Started
from otel_control_gym.engine.campaigns.running import run_campaign
from otel_control_gym.engine.campaigns.worker import TROUBLES, Worker
from otel_control_gym.engine.cluster_access import ClusterAccess, packed, unpacked
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.twin.stand import TwinStand
from tests.kubeconfigs import written_kubeconfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


def tiny(runs: int) -> CampaignPlan:
    """Return the packaged plan for clusters with some runs of a minute."""
    plan = load_plan("cluster", only=1)
    first = plan.runs[0]
    scenario = msgspec.structs.replace(first.scenario, interventions=(), horizon_seconds=60)
    named = [
        msgspec.structs.replace(first, key=f"baseline-{number:04d}", stratum="baseline", scenario=scenario)
        for number in range(runs)
    ]
    return msgspec.structs.replace(plan, runs=tuple(named))


def kubeconfig(folder: Path, name: str) -> ClusterAccess:
    """Return a cluster that nobody is going to ask."""
    path = written_kubeconfig(folder / f"{name}.kubeconfig", f"https://{name}:6443", namespace="otel-demo")
    return ClusterAccess(kubeconfig=path)


class NamedStand(TwinStand):
    """A twin under a cluster's name, that can't be brought to its known state as often as it is sick."""

    def __init__(self, access: ClusterAccess, sick: dict[str, int], resets: list[tuple[str, str]]) -> None:
        super().__init__()
        assert access.kubeconfig is not None
        self._place, self._sick, self._resets, self._level = access.kubeconfig.stem, sick, resets, access.reset
        self.lease_name = self._place

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
        self._resets.append((self._place, self._level))
        if self._sick.get(self._place, 0):
            self._sick[self._place] -= 1
            raise ocg.StandError(f"{self._place}: cart isn't available")
        await super().reset(config, otlp_endpoint=otlp_endpoint)


class Clusters:
    """Stands in place of clusters: `sick` says how many resets of each fail, `resets` tells of all."""

    def __init__(self) -> None:
        self.sick: dict[str, int] = {}
        self.resets: list[tuple[str, str]] = []

    def stand(self, _config: RunConfig, access: ClusterAccess) -> NamedStand:
        return NamedStand(access, self.sick, self.resets)


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> Clusters:
    found = Clusters()
    monkeypatch.setattr("otel_control_gym.engine.assembly._stand", found.stand)
    monkeypatch.setattr("otel_control_gym.engine.campaigns.worker._TROUBLE_SECONDS", 0.1)
    return found


async def played(
    plan: CampaignPlan, data_dir: Path, places: list[ClusterAccess], until: Callable[[CampaignState], bool]
) -> tuple[CampaignState, list[Exception]]:
    """Let a worker play on each place until the record is as it is to be; return it, and what workers ended with."""
    ended: list[Exception] = []
    async with (
        open_broker(data_dir) as broker,
        JetStream(broker) as jetstream,
        LogConnection(broker) as connection,
        anyio.create_task_group() as tasks,
    ):

        async def work(place: ClusterAccess) -> None:
            name = place.kubeconfig.stem if place.kubeconfig is not None else ""
            worker = Worker(jetstream, connection, data_dir=data_dir, nats=None, name=name, access=place)
            try:
                await worker.work(plan.settings.name, until_idle=False)
            except ocg.StandError as error:
                ended.append(error)

        tasks.start_soon(partial(run_campaign, plan, broker, data_dir=data_dir, nats=None, workers=0))
        for place in places:
            tasks.start_soon(work, place)
        record = CampaignRecord(jetstream, plan.settings.name)
        with anyio.fail_after(100):
            while not until(record.state):
                await anyio.sleep(0.1)
                if plan.settings.name in await known(jetstream):
                    await record.catch_up()
        tasks.cancel_scope.cancel()
    return record.state, ended


async def known(jetstream: JetStream) -> list[str]:
    return [info.name.removeprefix("ocg-campaign_") for info in await jetstream.streams("ocg-campaign_")]


def over(state: CampaignState) -> bool:
    return bool(state.keys) and state.is_over


async def test_a_stand_that_stays_sick_is_given_up_and_the_other_one_plays_all_of_it(
    tmp_path: Path, clusters: Clusters
) -> None:
    clusters.sick["sick"] = 99
    places = [kubeconfig(tmp_path, "sick"), kubeconfig(tmp_path, "well")]
    data_dir = tmp_path / "data"
    state, ended = await played(tiny(3), data_dir, places, lambda state: over(state) and bool(state.left_out))
    assert state.count("completed") == 3
    assert [found.reasons for found in state.keys.values()] == [[], [], []]  # no run was charged with it
    assert state.left_out == {"sick:6443/otel-demo": "sick: cart isn't available"}
    assert [place for place, _ in clusters.resets].count("sick") == TROUBLES
    assert {level for _, level in clusters.resets} == {"data"}  # the plan's, whatever the command line's default
    (error,) = ended
    assert isinstance(error, ocg.StandLeftOut)
    assert "stand sick:6443/otel-demo is left out, 3 times on end nothing could be played there" in str(error)
    runs = ocg.find_runs(data_dir)
    assert [run.status for run in runs] == ["completed"] * 3  # and a stand out of reach has left none


async def test_a_stand_that_gets_well_again_goes_on(tmp_path: Path, clusters: Clusters) -> None:
    clusters.sick["one"] = TROUBLES - 1
    state, ended = await played(tiny(1), tmp_path / "data", [kubeconfig(tmp_path, "one")], over)
    assert (state.count("completed"), state.retried, state.troubles, ended) == (1, 0, {}, [])


def test_what_is_wrong_with_a_stand_is_told_until_a_run_begins_there_or_the_campaign_is_taken_up_again() -> None:
    def trouble(worker: str, *, left_out: bool) -> StandTroubled:
        return StandTroubled(time=1, stand=f"stand of {worker}", worker=worker, reason="no", left_out=left_out)

    declared = Declared(time=0, digest="", keys=("baseline-0000",), strata=("baseline",), stand="cluster")
    state = CampaignState()
    for event in (declared, trouble("one", left_out=False), trouble("two", left_out=True)):
        state.take(event)
    assert list(state.troubles) == ["stand of one", "stand of two"]
    assert state.left_out == {"stand of two": "no"}
    state.take(Started(time=2, key="baseline-0000", run_id="a", worker="one", attempt=1))
    assert list(state.troubles) == ["stand of two"]
    state.take(declared)
    assert state.troubles == {}


# --- who may play what ----------------------------------------------------------------------------------------------------


async def test_a_worker_takes_what_is_for_its_kind_of_stand_and_refuses_to_be_sent_elsewhere(
    tmp_path: Path, clusters: Clusters
) -> None:
    data_dir = tmp_path / "data"
    plan = tiny(1)
    async with (
        open_broker(data_dir) as broker,
        JetStream(broker) as jetstream,
        LogConnection(broker) as connection,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(partial(run_campaign, plan, broker, data_dir=data_dir, nats=None, workers=0))
        make = partial(Worker, jetstream, connection, data_dir=data_dir, nats=None, name="one")
        while "cluster" not in await known(jetstream):  # noqa: ASYNC110 - the record is made in another task
            await anyio.sleep(0.05)
        with pytest.raises(ocg.UsageError, match=r"campaign 'cluster' is for clusters\n  name one: --kubeconfig"):
            await make().work("cluster", until_idle=True)
        assert await make().work(None, until_idle=True) == 0  # there is nothing for a twin
        assert await make(access=kubeconfig(tmp_path, "a")).work(None, until_idle=True) == 1
        with anyio.fail_after(30):
            while not (data_dir / "campaign=cluster" / "campaign.json").exists():  # noqa: ASYNC110 - as above
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
    assert [place for place, _ in clusters.resets] == ["a"]


@pytest.mark.parametrize(
    ("campaign", "workers", "places", "sentence"),
    [
        ("cluster", 2, (), "campaign 'cluster' is for clusters: which?"),
        ("leaks", 0, ("a",), "campaign 'leaks' is for the embedded twin: its runs have siblings"),
        ("cluster", 0, ("a", "b", "a"), "stand a:6443/otel-demo is named twice"),
    ],
)
async def test_a_campaign_is_refused_on_stands_that_it_is_not_for(
    campaign: str, workers: int, places: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    stands = [kubeconfig(tmp_path, name) for name in places]
    data_dir = tmp_path / "data"
    plan = load_plan(campaign, only=1)
    async with open_broker(data_dir) as broker:
        with pytest.raises(ocg.UsageError, match=sentence):
            await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=workers, stands=stands)
    assert not (data_dir / f"campaign={campaign}").exists()


async def test_a_campaign_does_not_change_its_kind_of_stand(tmp_path: Path) -> None:
    async with open_broker(tmp_path) as broker, JetStream(broker) as jetstream:
        plan = tiny(1)
        twin = msgspec.structs.replace(plan, settings=msgspec.structs.replace(plan.settings, cluster=None))
        await CampaignRecord(jetstream, "cluster").declare(twin, 0)
        with pytest.raises(ocg.UsageError, match="was begun on the twin, and this plan is for the cluster"):
            await CampaignRecord(jetstream, "cluster").declare(plan, 1)


def test_a_worker_process_is_told_all_of_a_cluster(tmp_path: Path) -> None:
    access = ClusterAccess(kubeconfig=tmp_path / "k", context="x", reset="data", way="dns", receive="[::1]:4318")
    assert unpacked(packed(access)) == access
    in_pod = ClusterAccess(kubeconfig=None)
    assert unpacked(packed(in_pod)) == in_pod
