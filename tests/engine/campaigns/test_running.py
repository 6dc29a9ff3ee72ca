"""A campaign is played once, whole, by however many take part, and ends with exactly the planned runs; what is killed: `test_kills`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import yaml

import otel_control_gym as ocg
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.campaigns.files import configurations, load_plan
from otel_control_gym.engine.campaigns.record import CampaignRecord, CampaignState, Completed, Declared, Failed, Started
from otel_control_gym.engine.campaigns.running import cancel, drop_second_runs, run_campaign
from otel_control_gym.engine.campaigns.worker import Worker
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.log import LogConnection
from otel_control_gym.stands.twin.stand import TwinStand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

SMALL: dict[str, Any] = {
    "name": "small",
    "configurations": ["small-core"],
    "workloads": ["steady"],
    "strata": {"baseline": 1, "single_fault": 1, "single_action": 1, "randomised": 1},
    "actions": ["scale", "restart", "delete_pod", "set_resources", "set_autoscaler"],
    "interventions": ["network_delay"],
    "length": {"short_seconds": 180, "long_seconds": [180, 180], "long_share": 0.0},
    "bounds": None,
}


def campaign(directory: Path, **changes: Any) -> Path:
    file = directory / "small.yaml"
    file.write_text(yaml.safe_dump(SMALL | changes))
    return file


def processes(*words: str) -> list[int]:
    """Return the processes with all of these words on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it ended while we looked
                continue
            if all(word in command for word in words) and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - other processes; there is no event to wait for
            await anyio.sleep(0.05)


def complete_runs(data_dir: Path) -> dict[str, str]:
    """Return the key of each completed run by run id, as its campaign's record has it; checks that they are the planned ones."""
    runs = {run.run_id: run for run in ocg.find_runs(data_dir) if run.status == "completed"}
    for run in runs.values():
        assert ocg.validate(run.path) == []
    return {run_id: run.service_config for run_id, run in runs.items()}


async def record_of(data_dir: Path, name: str = "small") -> CampaignState:
    async with open_broker(data_dir) as broker, JetStream(broker) as jetstream:
        return (await CampaignRecord.open(jetstream, name)).state


async def test_a_campaign_is_played_and_says_what_it_is(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    plan = load_plan(campaign(tmp_path))
    seen: list[int] = []
    async with open_broker(data_dir) as broker:
        result = await run_campaign(
            plan,
            broker,
            data_dir=data_dir,
            nats=None,
            workers=2,
            on_state=lambda state: seen.append(state.count("completed")),
        )
    assert (result.planned, result.completed, result.failed) == (6, 6, 0)
    assert result.strata == {"baseline": 1, "randomised": 1, "single_action": 2, "single_fault": 2}
    assert seen[0] == 0
    assert seen[-1] == 6
    assert len(complete_runs(data_dir)) == 6
    directory = data_dir / "campaign=small"
    assert json.loads((directory / "campaign.json").read_text())["completed"] == 6
    assert {path.name for path in (directory / "splits").iterdir()} >= {"iid.json", "heldout_target.json"}
    assert len(json.loads((directory / "plan.json").read_text())["runs"]) == 6
    assert not processes("worker_process", str(data_dir))
    state = await record_of(data_dir)
    assert {found.run_id for found in state.keys.values()} == set(complete_runs(data_dir))


async def test_what_is_done_is_not_done_again_and_an_extended_campaign_adds_to_it(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    file = campaign(tmp_path, strata={"baseline": 1})
    async with open_broker(data_dir) as broker:
        await run_campaign(load_plan(file), broker, data_dir=data_dir, nats=None, workers=1)
        first = complete_runs(data_dir)
        again = await run_campaign(load_plan(file), broker, data_dir=data_dir, nats=None, workers=1)
        assert (again.completed, complete_runs(data_dir)) == (1, first)
        file = campaign(tmp_path, strata={"baseline": 2})
        larger = await run_campaign(load_plan(file), broker, data_dir=data_dir, nats=None, workers=1)
        assert larger.completed == 2
        assert set(first) < set(complete_runs(data_dir))
        smaller = campaign(tmp_path, strata={"randomised": 1})
        with pytest.raises(ocg.UsageError, match="was begun with a plan that had runs which this one hasn't"):
            await run_campaign(load_plan(smaller), broker, data_dir=data_dir, nats=None, workers=1)


async def test_a_run_that_cannot_be_played_is_given_up_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand of this run can't reach its known state: its pods never get ready, because their process outgrows its limit."""
    data_dir = tmp_path / "data"
    plan = load_plan(campaign(tmp_path, strata={"baseline": 2}))

    def unplayable(config: Any) -> Any:
        services = dict(config.public.services.services)
        services["cart"] = msgspec.structs.replace(services["cart"], memory_limit_bytes=1_000_000)
        application = msgspec.structs.replace(config.public.services, services=services)
        return msgspec.structs.replace(config, public=msgspec.structs.replace(config.public, services=application))

    def broken(plan: Any, runs: Any) -> Any:
        for run, config in zip(runs, configurations(plan, runs), strict=True):
            yield unplayable(config) if run.key.endswith("1") else config

    monkeypatch.setattr("otel_control_gym.engine.campaigns.running.configurations", broken)
    async with open_broker(data_dir) as broker:
        result = await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=1)
    assert (result.completed, result.failed, result.retried) == (1, 1, 2)
    state = await record_of(data_dir)
    failed = state.keys["baseline-0001"]
    assert failed.status == "failed"
    assert len(failed.reasons) == 3
    assert len(complete_runs(data_dir)) == 1


async def test_a_campaign_that_is_called_off_stops_and_can_be_taken_up_again(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    plan = load_plan(campaign(tmp_path, strata={"baseline": 5}))
    async with open_broker(data_dir) as broker:

        async def call_off() -> None:
            await until(lambda: bool(list(data_dir.glob("campaign=small/*/run_*/metadata.json"))))
            await cancel(broker, "small")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call_off)
            result = await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=1)
        assert 1 <= result.completed < 5
        assert not processes("worker_process", str(data_dir))
        with pytest.raises(ocg.UsageError, match="no campaign 'other' has been run here"):
            await cancel(broker, "other")
        resumed = await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=2)
    assert (resumed.completed, resumed.failed) == (5, 0)
    assert len([run for run in ocg.find_runs(data_dir) if run.status == "completed"]) == 5


# --- who plays what, told by the record alone -----------------------------------------------------------------------------


METADATA: dict[str, Any] = {
    "status": "completed",
    "scenario_id": "baseline-0000",
    "parent_run_id": None,
    "done_reason": "horizon",
    "stand": "twin",
    "run_start": "2026-01-05T00:00:00.000000Z",
    "run_end": "2026-01-05T00:04:30.000000Z",
    "content_digest": "",
    "contract_version": 1,
    "family_id": "",
    "streams": {},
}


def started(run_id: str, attempt: int = 1) -> Started:
    return Started(time=attempt, key="baseline-0000", run_id=run_id, worker="one", attempt=attempt)


def failed(run_id: str | None, *, time: int = 1, final: bool = False) -> Failed:
    return Failed(time=time, key="baseline-0000", run_id=run_id, worker="one", reason="no", final=final)


def completed(run_id: str) -> Completed:
    return Completed(
        time=9,
        key="baseline-0000",
        run_id=run_id,
        worker="one",
        path="",
        status="completed",
        wall_seconds=1.0,
        episode_seconds=180.0,
        size_bytes=1,
    )


def state_of(*events: Any) -> CampaignState:
    state = CampaignState()
    for event in (Declared(time=0, digest="", keys=("baseline-0000",), strata=("baseline",)), *events):
        state.take(event)
    return state


def test_what_was_stored_twice_because_its_answer_was_lost_counts_once() -> None:
    once = state_of(started("a"), failed("a"), started("b", 2), completed("b"))
    twice = state_of(
        started("a"),
        started("a"),
        failed("a"),
        failed("a"),
        started("b", 2),
        started("b", 2),
        completed("b"),
        completed("b"),
    )
    assert twice == once
    assert (once.retried, once.keys["baseline-0000"].failures) == (1, 1)
    assert (once.keys["baseline-0000"].earlier, once.keys["baseline-0000"].run_id) == (["a"], "b")


def test_a_run_that_is_declared_anew_after_it_was_given_up_has_all_its_attempts_again() -> None:
    given_up = state_of(*(failed(None, time=time, final=time == 3) for time in (1, 2, 3)))
    assert (given_up.keys["baseline-0000"].status, given_up.keys["baseline-0000"].failures) == ("failed", 3)
    given_up.take(Declared(time=4, digest="", keys=("baseline-0000",), strata=("baseline",)))
    assert (given_up.keys["baseline-0000"].status, given_up.keys["baseline-0000"].failures) == ("waiting", 0)
    assert len(given_up.keys["baseline-0000"].reasons) == 3


def test_a_run_that_came_second_is_dropped_and_nothing_else_is(tmp_path: Path) -> None:
    """As workers leave it that are killed between the dataset of a run and the record's answer that it came second."""
    directory = tmp_path / "campaign=small"
    for run_id, changes in {
        "first": {},
        "second": {},
        "dead": {"status": "aborted"},
        "branch": {"parent_run_id": "first"},
        "mine": {"scenario_id": "fault"},  # played by hand into the campaign's directory
    }.items():
        run = directory / "service_config=small-core" / f"run_{run_id}"
        run.mkdir(parents=True)
        (run / "metadata.json").write_text(json.dumps(METADATA | {"run_id": run_id} | changes))
    begun = (started("dead"), started("first", 2))  # who began the second didn't come to say so
    assert drop_second_runs(directory, state_of(*begun)) == []  # which is the one isn't settled yet
    assert drop_second_runs(directory, state_of(*begun, completed("first"))) == ["second"]
    assert {path.name for path in directory.glob("*/*")} == {"run_first", "run_dead", "run_branch", "run_mine"}


class SharedStand(TwinStand):
    """A stand that outlives its process, as a cluster does: one environment at a time."""

    lease_name = "shared"


async def test_workers_of_one_stand_take_turns_and_no_run_is_given_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_control_gym.engine.assembly._stand", lambda _config, _access: SharedStand())
    monkeypatch.setattr("otel_control_gym.engine.campaigns.worker._TAKEN_SECONDS", 0.1)
    data_dir = tmp_path / "data"
    plan = load_plan(campaign(tmp_path, strata={"baseline": 2}))
    async with (
        open_broker(data_dir) as broker,
        JetStream(broker) as jetstream,
        LogConnection(broker) as connection,
        anyio.create_task_group() as tasks,
    ):
        for name in ("one", "two"):
            worker = Worker(jetstream, connection, data_dir=data_dir, nats=None, name=name)
            tasks.start_soon(partial(worker.work, "small", until_idle=False))
        result = await run_campaign(plan, broker, data_dir=data_dir, nats=None, workers=0)
        tasks.cancel_scope.cancel()
    assert (result.completed, result.failed, result.retried) == (2, 0, 0)
    state = await record_of(data_dir)
    assert [found.reasons for found in state.keys.values()] == [[], []]
    assert len(complete_runs(data_dir)) == 2
