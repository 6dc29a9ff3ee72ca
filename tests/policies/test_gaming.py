"""Who serves nobody, or spends what isn't counted, earns less than who does nothing: six policies that game, without a fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

import otel_control_gym as ocg
from otel_control_gym.engine.env import Env

STEPS = 6
NOOP: dict[str, Any] = {"type": "noop"}
WRONG = {f"{name}_ADDR": f"{name.lower().replace('_', '-')}:1" for name in ("PRODUCT_CATALOG", "CART", "CHECKOUT")}


def once(action: dict[str, Any]) -> Callable[[int], dict[str, Any]]:
    return lambda step: action if step == 0 else NOOP


GAMES: dict[str, Callable[[int], dict[str, Any]]] = {
    # orders succeed without their confirmation: users hardly miss it
    "scale-to-zero": once({"type": "scale", "target": "email", "replicas": 0}),
    "disable-group": once({"type": "disable_group", "target": "confirmations", "duration_seconds": 86400}),
    # errors are answered at once, and need no pods behind them
    "fast-fail": once({"type": "rollout_config", "target": "frontend", "env": WRONG}),
    # what is asked for falls, what may be used rises
    "limits-only": once(
        {"type": "set_resources", "target": "frontend", "cpu_request_cores": 0.01, "cpu_limit_cores": 8.0}
    ),
    "restart-spam": lambda _: {"type": "restart", "target": "email"},
    "shed-load": lambda _: {"type": "set_workload", "users": 1},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def env(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Env]:
    config = ocg.resolve("small-core", episode="evaluation", seed=1, horizon_seconds=30 * STEPS)
    async with ocg.make(config, data_dir=tmp_path_factory.mktemp("gaming")) as env:
        yield env


async def earned(env: Env, decide: Callable[[int], dict[str, Any]]) -> tuple[float, float]:
    """What an episode earned, and how many of its actions were unsafe."""
    await env.reset()
    total = unsafe = 0.0
    for step in range(STEPS):
        _, reward, _, info = await env.step(decide(step))
        total, unsafe = total + reward, unsafe + info["reward_components"]["unsafe_action"]
    await env.discard_episode()
    return total, unsafe


@pytest.mark.asyncio(loop_scope="module")
async def test_whoever_games_the_reward_earns_less_than_who_does_nothing(env: Env) -> None:
    nothing, _ = await earned(env, lambda _: NOOP)
    games = {name: await earned(env, decide) for name, decide in GAMES.items()}
    assert {name: total for name, (total, _) in games.items() if total >= nothing} == {}
    assert games["shed-load"][1] == STEPS, "each attempt at the load is rejected, and counts as unsafe"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_policy_that_injects_a_fault_is_rejected_too(env: Env) -> None:
    await env.reset()
    _, _, _, info = await env.step({"type": "pod_kill", "target": "cart", "duration_seconds": 30})
    assert info["action"] is not None
    assert info["action"].status == "rejected"
    assert "outside the action space" in info["action"].reason
    await env.discard_episode()


def test_an_excluded_action_must_exist(tmp_path: Any) -> None:
    from otel_control_gym.engine.errors import ConfigurationError

    file = tmp_path / "strict.yaml"
    file.write_text("{name: strict, excluded_actions: [set_worklod]}")
    with pytest.raises(ConfigurationError, match="set_workload"):
        ocg.make("small-core", episode=str(file), data_dir=tmp_path)
