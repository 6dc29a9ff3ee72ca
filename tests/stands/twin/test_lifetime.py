"""A twin that was left is gone: a process may open hundreds of them, one after the other, as certificates and evaluations do."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import otel_control_gym as ocg
from otel_control_gym.engine.assembly import Rooms
from otel_control_gym.stands.twin.run import TwinRun
from otel_control_gym.stands.twin.stand import TwinStand


async def lived(data_dir: Path) -> weakref.ref[TwinRun]:
    """Play an episode on a twin of its own; return a reference that doesn't keep the world alive."""
    stand = TwinStand()
    async with ocg.Env(ocg.resolve("small-core", workload="steady", seed=1), Rooms(stand), data_dir=data_dir) as env:
        await env.reset()
        await env.step({"type": "noop"})
        await env.discard_episode()
        return weakref.ref(stand.run)


async def test_nothing_keeps_the_world_of_a_twin_that_was_left(tmp_path: Path) -> None:
    world = await lived(tmp_path)
    gc.collect()
    assert world() is None
