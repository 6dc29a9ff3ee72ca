"""Somebody else's policy that fails is told as its failure: which policy, at which step, what it raised or returned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.errors import PolicyError
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.policies import Choice, controller, opened_policy, play

CONFIG = ocg.resolve("small-core", workload="steady", seed=7, horizon_seconds=90)


class Mine:
    """A policy that decides what it is made with."""

    version, information = "mine-1", "public"

    def __init__(self, decide: Callable[[int], Any]) -> None:
        self._decide = decide

    def decide(self, observation: object, step: int, seconds: int) -> Any:
        return self._decide(step)


def fails_at_the_second_step(settings: object, menu: object, seed: int) -> Mine:
    missing: dict[str, Choice] = {}
    return Mine(lambda step: Choice(action={"type": "noop"}) if step == 0 else missing["entry"])


def decides_a_dictionary(settings: object, menu: object, seed: int) -> Mine:
    return Mine(lambda _: {"type": "noop"})


def waits(settings: object, menu: object, seed: int) -> Mine:
    async def decided(step: int) -> Choice:
        return Choice(action={"type": "restart", "target": "cart"} if step == 1 else {"type": "noop"})

    return Mine(decided)


def is_none(settings: object, menu: object, seed: int) -> None:
    return None


def cannot_be_made(settings: object) -> None:
    return None


def knows_all(settings: object, menu: object, seed: int) -> Mine:
    made = Mine(lambda _: Choice(action={"type": "noop"}))
    made.information = "everything"
    return made


def made_from(name: str, config: RunConfig = CONFIG) -> Any:
    return controller(f"{__name__}:{name}")(config.public, (), 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("is_none", "NoneType has no `version`, `information`, `decide`"),
        ("cannot_be_made", "can't be made: TypeError"),
        ("knows_all", "information = 'everything'"),
    ],
)
def test_what_is_no_policy_is_refused_when_it_is_made(name: str, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        made_from(name)


async def test_what_is_no_choice_is_told_with_its_step() -> None:
    with pytest.raises(PolicyError, match=r"decided \{'type': 'noop'\} at step 3\n.+Choice"):
        await made_from("decides_a_dictionary").decide(None, 3, 90)


async def test_its_failure_ends_the_episode_in_order_and_names_it(tmp_path: Path) -> None:
    name = f"{__name__}:fails_at_the_second_step"
    env = ocg.make(CONFIG, data_dir=tmp_path)
    with pytest.raises(PolicyError, match=r"fails_at_the_second_step' failed at step 1: KeyError: 'entry'"):
        async with env, opened_policy(name, CONFIG, data_dir=tmp_path) as policy:
            await play(env, policy, await env.reset())
    run = ocg.open_run(env.run_dir)
    assert run.status == "aborted"
    assert ocg.validate(run.path) == []


async def test_one_that_waits_is_waited_for(tmp_path: Path) -> None:
    short = msgspec.structs.replace(CONFIG, public=msgspec.structs.replace(CONFIG.public, horizon_seconds=60))
    async with (
        ocg.make(short, data_dir=tmp_path) as env,
        opened_policy(f"{__name__}:waits", short, data_dir=tmp_path) as policy,
    ):
        env.decided_by("external", policy.version, policy.information)
        await play(env, policy, await env.reset())
    (restart,) = [
        row for row in ocg.open_run(env.run_dir).table("actions").to_arrow().to_pylist() if row["action_type"] != "noop"
    ]
    assert (restart["action_type"], restart["actor"], restart["policy_version"]) == ("restart", "external", "mine-1")
