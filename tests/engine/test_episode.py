"""What an episode verifies before it begins, and leaves behind when it ends."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.assembly import Rooms
from otel_control_gym.engine.events import ActionRequested, ActionSettled
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.stands.twin.stand import TwinStand


class StandWithoutLoad(TwinStand):
    """A stand whose load generator was stopped by somebody."""

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
        await super().reset(config, otlp_endpoint=otlp_endpoint)
        async with aiohttp.ClientSession(self.endpoints.load_generator) as session:
            (await session.get("/stop")).release()
        await self.advance(self.now)


class StandInRollout(TwinStand):
    """A stand on which somebody has just asked for more pods than there are."""

    async def reset(self, config: RunConfig, *, otlp_endpoint: str) -> None:
        await super().reset(config, otlp_endpoint=otlp_endpoint)
        path = f"/apis/apps/v1/namespaces/{self.endpoints.namespace}/deployments/cart/scale"
        async with aiohttp.ClientSession(self.endpoints.kubernetes) as session:
            headers = {"Content-Type": "application/merge-patch+json"}
            (await session.patch(path, data='{"spec": {"replicas": 4}}', headers=headers)).release()


@pytest.mark.parametrize(("stand", "message"), [(StandWithoutLoad(), "load generator"), (StandInRollout(), "'cart'")])
async def test_a_stand_that_isn_t_in_its_known_state_is_no_start(
    stand: TwinStand, message: str, tmp_path: Path
) -> None:
    config = ocg.resolve("small-core", seed=1)
    async with ocg.Env(config, Rooms(stand), data_dir=tmp_path) as env:
        with pytest.raises(ocg.StandError, match=message):
            await env.reset()
    assert ocg.validate(env.run_dir) == []


async def test_every_attempt_is_settled_when_the_run_ends_even_without_a_cool_down(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1, horizon_seconds=300)
    times = msgspec.structs.replace(config.public.granularity, cooldown_seconds=0)
    delay = {"type": "network_delay", "target": "frontend->cart", "intensity": "mild", "duration_seconds": 200}
    planned = msgspec.convert({"at_seconds": 0, "action": delay}, type=ocg.PlannedAction)
    config = msgspec.structs.replace(
        config,
        public=msgspec.structs.replace(config.public, granularity=times),
        scenario=msgspec.structs.replace(config.scenario, interventions=(planned,)),
    )
    async with ocg.make(config, data_dir=tmp_path) as env:
        await env.reset()
        await env.step(ocg.Restart("frontend"), dt=30)
    events = [entry.event for entry in read_archive(env.run_dir / ARCHIVE_NAME)]
    requested = [event.action_id for event in events if isinstance(event, ActionRequested)]
    settled = [event.action_id for event in events if isinstance(event, ActionSettled)]
    assert len(requested) == 2
    assert sorted(settled) == sorted(requested)


async def test_a_run_that_ended_in_order_leaves_no_lock_to_recover(tmp_path: Path) -> None:
    async with ocg.make("small-core", data_dir=tmp_path) as env:
        await env.reset()
        assert len(list((tmp_path / "locks").glob("*.lock"))) == 1
    assert not list((tmp_path / "locks").glob("*.lock"))
