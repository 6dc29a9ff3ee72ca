"""On a stand whose clock goes on while it is waited for what is late, steps keep their length, and how late all was is in the log."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.assembly import Rooms
from otel_control_gym.engine.broker import open_broker
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import (
    ActionRequested,
    ActionSettled,
    ClockAdvanced,
    Event,
    PhaseEntered,
    RunAborted,
    RunEnded,
)
from otel_control_gym.engine.jetstream import JetStream, StreamConfig, StreamInfo
from otel_control_gym.engine.protocols import Barrier
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.twin.stand import TwinStand

LATE = 3 * SECOND
STEP = 30 * SECOND


class RunningStand(TwinStand):
    """A twin on whose clock three seconds pass whenever somebody waits at a barrier, as on a cluster."""

    ahead = 0

    @property
    def clock(self) -> int:
        return self.now + self.ahead

    async def live(self, until: int) -> None:
        await super().live(until)
        self.ahead = 0

    async def advance(self, until: int) -> Barrier:
        barrier = await super().advance(until)
        self.ahead = LATE
        return msgspec.structs.replace(barrier, exact=False)


class StandOutOfReach(TwinStand):
    """A stand that can't be brought to its known state."""

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
        raise ocg.StandError(f"no load at {otlp_endpoint[:4]} for {config.public.services.name}")


async def _played(data_dir: Path) -> list[Event]:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=120)
    delay = {"type": "network_delay", "target": "frontend->cart", "intensity": "mild", "duration_seconds": 30}
    planned = msgspec.convert({"at_seconds": 30, "action": delay}, type=ocg.PlannedAction)
    scenario = msgspec.structs.replace(config.scenario, interventions=(planned,))
    config = msgspec.structs.replace(config, scenario=scenario)
    async with ocg.Env(config, Rooms(RunningStand()), data_dir=data_dir) as env:
        await env.reset()
        for number in range(4):
            await env.step(ocg.Scale("cart", replicas=2) if number == 2 else ocg.Noop())
    assert ocg.validate(env.run_dir) == []
    return [entry.event for entry in read_archive(env.run_dir / ARCHIVE_NAME)]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Return the log of an episode with a fault and an action on a stand whose clock runs."""
    return anyio.run(_played, tmp_path_factory.mktemp("running"))


def closings(events: list[Event]) -> list[ClockAdvanced]:
    return [event for event in events if isinstance(event, ClockAdvanced)]


def test_what_was_waited_for_is_never_part_of_a_step(events: list[Event]) -> None:
    steps = [event for event in closings(events) if event.decision_step is not None]
    assert [event.time - event.since for event in steps] == [STEP] * 4
    (control,) = (event.time for event in events if isinstance(event, PhaseEntered) and event.phase == "control")
    assert [event.since for event in steps] == [control + number * STEP for number in range(4)]


def test_every_step_says_how_long_was_waited_and_how_late_its_decision_was(events: list[Event]) -> None:
    assert {event.waited_ns for event in closings(events)} == {LATE}
    assert [event.drift_ns for event in closings(events)] == [
        0 if event.decision_step is None else LATE for event in closings(events)
    ]


def test_every_step_says_how_old_the_newest_of_each_source_was(events: list[Event]) -> None:
    last = closings(events)[-1]
    assert list(last.source_lags_ns) == ["findings", "kubernetes", "logs", "metrics", "spans", "workload"]
    assert last.lag_ns == max(last.source_lags_ns.values())
    assert last.source_lags_ns["metrics"] == 0  # this stand's scrapes lie on the grid
    assert 0 < last.source_lags_ns["spans"] < 10 * SECOND


def test_an_action_bears_the_time_of_its_request_not_of_the_grid(events: list[Event]) -> None:
    asked = [event for event in events if isinstance(event, ActionRequested)]
    since = {event.decision_step: event.since for event in closings(events)}
    for event in asked:
        if event.decision_step is not None:
            assert event.time == since[event.decision_step] + LATE
    (fault,) = (event for event in asked if event.action_class == "intervention")
    # The fault of that step was made first; if it showed in when the policy acted, the policy could tell.
    assert fault.time in [event.time for event in asked if event.decision_step == 1]


def test_nothing_happens_after_the_end(events: list[Event]) -> None:
    assert isinstance(events[-1], RunEnded)
    assert events[-1].time == max(event.time for event in events)
    settled = {event.action_id: event.status for event in events if isinstance(event, ActionSettled)}
    assert set(settled.values()) == {"applied"}


def kept(data_dir: Path) -> list[Path]:
    """Return the locks of runs, and their directories."""
    return [*data_dir.glob("locks/*"), *data_dir.glob("campaign=*")]


async def abort_after_a_step(env: ocg.Env) -> None:
    async with env:
        await env.reset()
        await env.step(ocg.Noop())
        raise ZeroDivisionError


async def test_a_stand_out_of_reach_leaves_no_run(tmp_path: Path) -> None:
    async with ocg.Env(ocg.resolve("small-core", seed=1), Rooms(StandOutOfReach()), data_dir=tmp_path) as env:
        for _ in range(2):
            with pytest.raises(ocg.StandError, match="no load at http for small-core"):
                await env.reset()
        assert not env.run_dir.exists()
    assert kept(tmp_path) == []
    async with ocg.Env(ocg.resolve("small-core", seed=1), Rooms(TwinStand()), data_dir=tmp_path):
        assert kept(tmp_path) == []  # nothing had to be recovered


async def test_a_run_that_is_cancelled_in_its_first_moment_was_never_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while its streams are made: one of the two is there, and nothing in it."""
    making, add = anyio.Event(), JetStream.add_stream

    async def add_one(jetstream: JetStream, config: StreamConfig) -> StreamInfo:
        found = await add(jetstream, config)
        if config.metadata:  # a run's, and not those of leases
            making.set()
            await anyio.sleep_forever()
        return found

    config = ocg.resolve("small-core", seed=1)
    async with ocg.Env(config, Rooms(TwinStand()), data_dir=tmp_path) as env, anyio.create_task_group() as tasks:
        with monkeypatch.context() as patched:
            patched.setattr(JetStream, "add_stream", add_one)
            tasks.start_soon(env.reset)
            await making.wait()
            tasks.cancel_scope.cancel()
    assert kept(tmp_path) == []
    async with open_broker(tmp_path) as broker, JetStream(broker) as jetstream:
        assert await jetstream.streams("") == []


async def test_a_run_that_is_aborted_in_the_middle_ends_when_the_clock_says(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=120)
    env = ocg.Env(config, Rooms(RunningStand()), data_dir=tmp_path)
    with pytest.raises(ZeroDivisionError):
        await abort_after_a_step(env)
    found = [entry.event for entry in read_archive(env.run_dir / ARCHIVE_NAME)]
    assert isinstance(found[-1], RunAborted)
    assert found[-1].time == closings(found)[-1].time + LATE
    assert ocg.validate(env.run_dir) == []
