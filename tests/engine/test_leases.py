"""A stand is driven by one environment at a time; one whose holder died is free after a while, and a holder that lost it is told."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.assembly import Rooms
from otel_control_gym.engine.broker import Broker
from otel_control_gym.engine.jetstream import JetStream
from otel_control_gym.engine.leases import leased
from otel_control_gym.stands.twin.stand import TwinStand

SECONDS = 3.0  #: short, and yet longer than a busy machine keeps a renewal waiting (half of it)


class LastingStand(TwinStand):
    """A stand that others can reach, too."""

    lease_name = "kind-1"


async def hold(broker: Broker, name: str, *, seconds: float = SECONDS) -> None:
    """Take a stand, and give it back at once."""
    async with leased(broker, name, seconds=seconds):
        pass


async def test_a_stand_that_is_held_is_refused_with_its_holder_however_long_it_is_held(own_broker: Broker) -> None:
    async with leased(own_broker, "one", seconds=SECONDS):
        deadline = anyio.current_time() + 2 * SECONDS
        while anyio.current_time() < deadline:
            with pytest.raises(ocg.StandError, match=r"'one' is driven by .+-\d+-\d+ since 20\d\d-"):
                await hold(own_broker, "one")
        await hold(own_broker, "other")  # another stand is free


async def test_a_stand_that_is_given_back_is_free_at_once(own_broker: Broker) -> None:
    for _ in range(3):
        await hold(own_broker, "one", seconds=60)


async def test_a_stand_whose_holder_died_is_free_after_its_time(own_broker: Broker) -> None:
    async with JetStream(own_broker) as jetstream:
        await hold(own_broker, "one")
        last = await jetstream.last("KV_ocg-stands", "$KV.ocg-stands.one")
        assert last is not None
        entry = b'{"holder": "gone-1-1", "since": 0}'  # as a process leaves it that is killed
        assert await jetstream.store_after(last.subject, entry, last=last.sequence) is not None
    began = anyio.current_time()
    with pytest.raises(ocg.StandError, match="driven by gone-1-1 since 1970"):
        await hold(own_broker, "one")
    with anyio.fail_after(20 * SECONDS):
        while True:
            try:
                await hold(own_broker, "one")
                break
            except ocg.StandError:
                await anyio.sleep(0.02)
    assert anyio.current_time() - began > SECONDS / 2


async def hold_until_lost(broker: Broker, name: str) -> None:
    """Hold a stand that somebody else has written over."""
    async with leased(broker, name, seconds=SECONDS), JetStream(broker) as jetstream:
        await jetstream.store(f"$KV.ocg-stands.{name}", b'{"holder": "other-1-1", "since": 0}')
        await anyio.sleep_forever()


async def test_a_holder_that_lost_the_stand_is_stopped(own_broker: Broker) -> None:
    with anyio.fail_after(20 * SECONDS):
        with pytest.raises(ExceptionGroup) as raised:
            await hold_until_lost(own_broker, "one")
        assert raised.group_contains(ocg.StandError, match="the lease of stand 'one' was lost")
        with pytest.raises(ocg.StandError, match="driven by other-1-1"):  # who lost it doesn't give it back
            await hold(own_broker, "one")


async def test_two_environments_never_drive_one_stand(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", seed=1)
    async with ocg.Env(config, Rooms(LastingStand()), data_dir=tmp_path):
        with pytest.raises(ocg.StandError, match="'kind-1' is driven by"):
            await ocg.Env(config, Rooms(LastingStand()), data_dir=tmp_path).__aenter__()
        async with ocg.Env(config, Rooms(TwinStand()), data_dir=tmp_path):
            pass  # a twin of one's own needs no lease
    async with ocg.Env(config, Rooms(LastingStand()), data_dir=tmp_path):
        pass
