"""The wrapper keeps Gymnasium's promises, and an action on its menu is one that the environment takes."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import otel_control_gym as ocg
from otel_control_gym.actuators import check_target, parse_action
from otel_control_gym.engine.settings import RunConfig
from otel_control_gym.engine.wrappers.action_menu import action_menu
from otel_control_gym.engine.wrappers.gymnasium import ENVIRONMENT_ID, TwinEnv
from otel_control_gym.engine.wrappers.vectorised import TwinVectorEnv

APPLICATIONS = ("small-core", "medium-store", "async-store", "review-store")
RESTART = np.array([2, 1, 0])


def short(horizon_seconds: int = 120) -> RunConfig:
    """Two users' worth of everything: what is slow about an episode is the load."""
    config = ocg.resolve("small-core", workload="steady", seed=7, horizon_seconds=horizon_seconds)
    return msgspec.structs.replace(config, workload=msgspec.structs.replace(config.workload, users=20))


@pytest.fixture
def env(tmp_path: Path) -> Iterator[TwinEnv]:
    env = TwinEnv(short(), data_dir=tmp_path)
    yield env
    env.close()


def test_gymnasiums_own_checks_pass(tmp_path: Path) -> None:
    made = gymnasium.make(ENVIRONMENT_ID, target=short(), data_dir=tmp_path)
    check_env(made.unwrapped)
    made.close()


@pytest.mark.skipif(
    find_spec("stable_baselines3") is None, reason="Stable-Baselines3 isn't installed: it needs torch, the gym doesn't"
)
def test_the_checks_of_stable_baselines_pass(env: TwinEnv) -> None:
    from stable_baselines3.common.env_checker import check_env as check  # type: ignore[import-not-found]

    check(env)


def test_an_observation_is_the_environments_own_with_zeros_and_masks(env: TwinEnv, tmp_path: Path) -> None:
    row, _ = env.reset(seed=3)
    with ocg.synchronous(ocg.make(short(), data_dir=tmp_path)) as plain:
        seen = plain.reset(seed=3)
    parts, known = (
        np.concatenate([part.ravel() for part in found])
        for found in (
            (seen.nodes, seen.edges, seen.offered_rate),
            (seen.node_mask, seen.edge_mask, np.isfinite(seen.offered_rate)),
        )
    )
    numbers, masks = np.split(row, 2)
    assert np.array_equal(numbers, np.nan_to_num(parts).astype(np.float32))
    assert np.array_equal(masks, known.astype(np.float32))
    assert masks.any()
    assert not masks.all()


def test_the_horizon_truncates_and_does_not_terminate(tmp_path: Path) -> None:
    env = TwinEnv(short(horizon_seconds=60), data_dir=tmp_path)
    env.reset(seed=1)
    ends = [env.step(np.zeros(3, dtype=np.int64))[2:4] for _ in range(2)]
    env.close()
    assert ends == [(False, False), (False, True)]
    assert ocg.open_run(env.run_dir).path == env.run_dir


def test_a_reset_without_a_seed_goes_on_from_the_last_one(env: TwinEnv) -> None:
    env.reset(seed=5)
    first, _ = env.reset()
    env.reset(seed=5)
    again, _ = env.reset()
    assert np.array_equal(first, again)


def test_a_choice_that_does_not_exist_does_nothing_and_says_so(env: TwinEnv) -> None:
    env.reset(seed=1)
    nowhere = np.array([env.menu.types.index("scale"), 0, 0])
    *_, info = env.step(nowhere)
    assert not info["action_exists"]
    *_, info = env.step(np.array([env.menu.types.index("restart"), env.menu.targets.index("cart"), 0]))
    assert info["action_exists"]
    assert info["action_status"] == "applied"


@pytest.mark.parametrize("application", APPLICATIONS)
def test_every_choice_of_the_menu_is_an_action_of_the_application(application: str) -> None:
    config = ocg.resolve(application)
    menu = action_menu(config)
    exists = menu.pairs()
    for kind, target in np.argwhere(np.ones_like(exists)):
        for strength in range(menu.sizes[2]):
            action = menu.action((kind, target, strength))
            assert (action is not None) == exists[kind, target]
            if action is not None:
                check_target(parse_action(action), config.public.services)
    assert exists.any(axis=0).all()
    assert exists.any(axis=1).all()


def test_a_menu_can_be_short() -> None:
    menu = action_menu(ocg.resolve("small-core"), types=["scale", "restart"])
    assert menu.types == ("noop", "scale", "restart")
    with pytest.raises(ocg.UsageError, match="did you mean 'scale'"):
        action_menu(ocg.resolve("small-core"), types=["scala"])


def test_an_action_mask_has_a_place_for_every_index(env: TwinEnv) -> None:
    masks = env.action_masks()
    assert masks.shape == (sum(env.menu.sizes),)
    split: Any = np.split(masks.astype(np.int8), np.cumsum(env.menu.sizes)[:-1])
    assert env.action_space.contains(env.action_space.sample(mask=tuple(split)))


@pytest.mark.slow
def test_several_twins_at_once_give_what_each_gives_alone(tmp_path: Path) -> None:
    seeds, steps = (11, 12), 2
    together = TwinVectorEnv(2, short(), data_dir=tmp_path / "together")
    rows = [together.reset(seed=[*seeds])[0].copy()]
    rewards = []
    for _ in range(steps):
        observed, earned, *_ = together.step(np.stack([RESTART, np.zeros(3, dtype=np.int64)]))
        rows.append(observed.copy())
        rewards.append(earned)
    together.close()
    for place, seed in enumerate(seeds):
        alone = TwinEnv(short(), data_dir=tmp_path / "alone")
        assert np.array_equal(alone.reset(seed=seed)[0], rows[0][place])
        for step in range(steps):
            row, reward, *_ = alone.step(RESTART if place == 0 else np.zeros(3, dtype=np.int64))
            assert np.array_equal(row, rows[step + 1][place])
            assert reward == rewards[step][place]
        alone.close()
