"""Deciders: what is drawn is drawn as often as it says, and people are late, hesitate, repeat and err."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import otel_control_gym as ocg
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import PlannedAction
from otel_control_gym.policies import Choice, HumanLikePolicy, RandomPolicy, ScriptedPolicy, play

MENU = (
    {"type": "scale", "target": "frontend", "replicas": 2},
    {"type": "restart", "target": "cart"},
    {"type": "restart", "target": "checkout"},
)
NODES = ("frontend", "cart", "checkout")
FEATURES = ("error_ratio", "latency_mean_ms")


class _Seen:
    """What the policies look at of an observation."""

    def __init__(self, values: dict[str, tuple[float, float]]) -> None:
        self.node_names, self.node_features = NODES, FEATURES
        row = [values.get(name, (0.0, 20.0)) for name in NODES]
        self.nodes = np.array([row] * 4, float)


def seen(**values: tuple[float, float]) -> Observation:
    found: Any = _Seen(values)
    return found  # type: ignore[no-any-return]


def test_a_random_policy_draws_everything_equally_often_and_says_so() -> None:
    drawn: Counter[str] = Counter()
    for seed in range(800):
        choice = RandomPolicy(MENU, (60,), seed=seed).decide(seen(), 2, 60)
        assert choice.propensity == pytest.approx(0.25)
        assert choice.alternatives is not None
        assert sum(item["probability"] for item in choice.alternatives) == pytest.approx(1.0)
        drawn[str(choice.action)] += 1
    assert len(drawn) == 4
    assert all(abs(count - 200) < 4 * (800 * 0.25 * 0.75) ** 0.5 for count in drawn.values())


def test_at_other_moments_it_does_nothing_with_certainty() -> None:
    choice = RandomPolicy(MENU, (60,), seed=3).decide(seen(), 1, 30)
    assert choice.action == {"type": "noop"}
    assert choice.propensity == 1.0


def test_a_menu_that_makes_choices_too_seldom_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 19"):
        RandomPolicy(MENU * 7, (60,), seed=1)


def deeds(seed: int, *, moments: tuple[int, ...] = (120,), observation: Observation | None = None) -> list[Any]:
    policy = HumanLikePolicy(MENU, moments, entry="frontend", latency_ms=500.0, error_ratio=0.01, seed=seed)
    return [policy.decide(observation or seen(), step, 30 * step).action for step in range(20)]


def test_a_person_is_late_hesitates_repeats_and_errs() -> None:
    first: Counter[int] = Counter()
    repeated = 0
    for seed in range(400):
        done = [(step, deed) for step, deed in enumerate(deeds(seed)) if deed["type"] != "noop"]
        assert done, "what was to be done is done in the end"
        first[done[0][0] - 4] += 1
        repeated += len(done) == 2
        assert all(deed == done[0][1] for _, deed in done)
    assert set(first) == {0, 1, 2, 3, 4, 5}
    assert abs(repeated / 400 - 0.25) < 4 * (0.25 * 0.75 / 400) ** 0.5


def test_a_person_lets_a_healthy_system_be_and_takes_up_a_bad_one_where_it_stands_out() -> None:
    assert all(deed["type"] == "noop" for deed in deeds(1, moments=()))
    bad = seen(frontend=(0.2, 30.0), cart=(0.9, 30.0))
    chosen = Counter(
        deed["target"] for seed in range(200) for deed in deeds(seed, moments=(), observation=bad) if "target" in deed
    )
    assert chosen["cart"] > 4 * chosen["checkout"]
    assert chosen["checkout"], "now and then the wrong one"


def test_the_same_seed_decides_the_same() -> None:
    assert deeds(5) == deeds(5)
    assert any(deeds(5) != deeds(seed) for seed in range(6, 12))


async def test_a_drawn_action_is_logged_with_its_probability(tmp_path: Any) -> None:
    import json

    import msgspec
    import pyarrow.parquet as pq

    from otel_control_gym.engine.settings import PolicySettings
    from otel_control_gym.policies import play, policy_of

    config = ocg.resolve("small-core", seed=4, horizon_seconds=90)
    policy_settings = PolicySettings(name="random", menu=MENU[:2], decide_at_seconds=(30,))
    config = msgspec.structs.replace(config, scenario=msgspec.structs.replace(config.scenario, policy=policy_settings))
    policy = policy_of(config)
    async with ocg.make(config, data_dir=tmp_path, policy_version=policy.version) as env:
        await play(env, policy, await env.reset())
    rows = pq.read_table(env.run_dir / "actions.parquet").to_pylist()
    assert [row["propensity"] for row in rows] == pytest.approx([1.0, 1 / 3, 1.0])
    weighed = json.loads(rows[1]["alternatives"])
    assert [item["action"]["type"] for item in weighed] == ["noop", "scale", "restart"]
    assert {row["policy_version"] for row in rows} == {"random-1"}


async def test_one_that_is_blind_lives_the_episode_of_one_that_looks(tmp_path: Path) -> None:
    config = ocg.resolve("small-core", workload="steady", seed=5, horizon_seconds=60)
    script = (PlannedAction(at_seconds=30, action={"type": "restart", "target": "cart"}),)
    blind, looking = ScriptedPolicy(script), _Looking(ScriptedPolicy(script))
    async with ocg.make(config, data_dir=tmp_path) as env:
        played = [await play(env, policy, await env.reset()) for policy in (blind, looking)]
    assert looking.shown == 2
    assert [(run.steps, run.reward, run.done_reason) for run in played] == [(2, played[0].reward, "horizon")] * 2


class _Looking:
    """Counts what it is shown."""

    version = "looking"
    information: Literal["public", "privileged"] = "public"

    def __init__(self, inner: ScriptedPolicy) -> None:
        self._inner = inner
        self.shown = 0

    def decide(self, observation: Observation, step: int, seconds: int) -> Choice:
        self.shown += bool(observation.node_mask.any())
        return self._inner.decide(observation, step, seconds)
