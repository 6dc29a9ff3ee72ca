"""Each entry of the catalogue takes effect on the twin, and the telemetry shows it in the direction that was to be expected.

Paired runs of one seed: the entry's example against `noop`, after the same preparation. What is compared are means over the minute
after the action, as a policy would observe them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import otel_control_gym as ocg
from otel_control_gym.actuators import ENTRIES, Entry
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import RunConfig

NODE = tuple[str, str, str]  # service, feature, direction
EDGE = tuple[tuple[str, str], str, str]

EXPECTED: dict[str, tuple[NODE | EDGE, ...]] = {
    "scale": (("frontend", "replicas_ready", "doubles"), ("frontend", "cpu_saturation", "falls")),
    "restart": (("cart", "pods", "added"),),
    "delete_pod": (("frontend", "pods", "added"), (("load-generator", "frontend"), "error_ratio", "appears")),
    "enable_group": (("recommendation", "replicas_ready", "appears"), ("recommendation", "request_rate", "appears")),
    "disable_group": (("recommendation", "replicas_ready", "vanishes"), ("frontend", "error_ratio", "appears")),
    "rollout_config": (("checkout", "pods", "added"),),
    "rollback_config": (("checkout", "pods", "added"),),
    "set_resources": (("frontend", "cpu_limit_cores", "falls"), ("frontend", "cpu_throttled_ratio", "appears")),
    "set_autoscaler": (("frontend", "replicas_ready", "rises"), ("frontend", "cpu_saturation", "falls")),
    "shift_traffic": (("frontend", "pods", "added"), ("frontend", "cpu_saturation", "falls")),
    "set_workload": (("frontend", "request_rate", "falls"), ("frontend", "cpu_usage_cores", "falls")),
    "cpu_pressure": (
        ("frontend", "cpu_usage_cores", "rises"),
        ("frontend", "cpu_throttled_ratio", "appears"),
        ("frontend", "latency_mean_ms", "doubles"),
    ),
    "memory_pressure": (("cart", "restarts", "appears"), ("frontend", "error_ratio", "appears")),
    "network_delay": (
        (("frontend", "cart"), "latency_mean_ms", "doubles"),
        ("frontend", "latency_mean_ms", "doubles"),
    ),
    "packet_loss": ((("frontend", "cart"), "latency_p99_ms", "doubles"), ("frontend", "latency_p99_ms", "doubles")),
    "network_partition": ((("cart", "valkey-cart"), "request_rate", "falls"), ("frontend", "request_rate", "falls")),
    "pod_kill": (("frontend", "pods", "added"), (("load-generator", "frontend"), "error_ratio", "appears")),
    "restart_loop": (("frontend", "restarts", "appears"), (("load-generator", "frontend"), "error_ratio", "appears")),
    "dependency_outage": (
        (("product-catalog", "postgresql"), "error_ratio", "appears"),
        ("frontend", "error_ratio", "appears"),
    ),
    "bad_config": ((("checkout", "payment"), "error_ratio", "appears"), ("frontend", "error_ratio", "appears")),
    "feature_flag": (("payment", "error_ratio", "appears"), ("frontend", "error_ratio", "appears")),
}


def config(name: str) -> RunConfig:
    run = ocg.resolve(name, workload="steady", seed=7)
    return msgspec.structs.replace(run, public=msgspec.structs.replace(run.public, horizon_seconds=300))


class Played(msgspec.Struct):
    """What was seen in the minute after the last action, and that action's record at the end of the run."""

    observation: Observation
    record: Any


async def play(name: str, actions: list[dict[str, Any]], data_dir: Path) -> Played:
    async with ocg.make(config(name), data_dir=data_dir) as env:
        await env.reset()
        for action in actions:
            *_, info = await env.step(action, dt=60)
        record = info["action"]
        assert record is not None
        observation = await env.observe(window=60, granularity=10)
        if record.settled is None:
            *_, info = await env.step(ocg.Noop(), dt=90)
            record = next((item for item in info["settled"] if item.action_id == record.action_id), record)
    return Played(observation, record)


@pytest.fixture(scope="module")
def idle() -> dict[tuple[Any, ...], Played]:
    """What is seen where nothing is done, by configuration and preparation; filled as it is needed."""
    return {}


def value(observation: Observation, entity: Any, feature: str) -> float:
    """Return the mean of a feature over the window; of `pods` how many were added."""
    if feature == "pods":
        added = [item for item in observation.events if item.source == "pods" and item.type == "created"]
        return float(sum(item.object.startswith(f"Pod/{entity}-") for item in added))
    if isinstance(entity, str):
        column = observation.nodes[:, observation.node_names.index(entity), observation.node_features.index(feature)]
    else:
        position = [(source, target) for source, target, _ in observation.edge_names].index(entity)
        column = observation.edges[:, position, observation.edge_features.index(feature)]
    return float(np.nanmean(column))


DIRECTIONS = {
    "rises": lambda before, after: after > 1.1 * before,
    "doubles": lambda before, after: after > 2 * before > 0,
    "falls": lambda before, after: after < 0.9 * before,
    "appears": lambda before, after: after > 0.005 + 2 * before,
    "vanishes": lambda before, after: after < 0.2 * before,
    "added": lambda before, after: after > before,
}


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.type != "noop"], ids=lambda entry: entry.type)
async def test_an_example_takes_effect_and_the_telemetry_shows_it(
    entry: Entry, idle: dict[tuple[Any, ...], Played], tmp_path: Path
) -> None:
    key = (entry.configuration, *(str(action) for action in entry.preparation))
    if key not in idle:
        idle[key] = await play(entry.configuration, [*entry.preparation, {"type": "noop"}], tmp_path / "idle")
    played = await play(entry.configuration, [*entry.preparation, entry.example], tmp_path / "acted")
    assert played.record.status == "applied", played.record.reason
    assert played.record.effective is not None
    assert not played.record.revert_failed
    for entity, feature, direction in EXPECTED[entry.type]:
        before, after = (value(item.observation, entity, feature) for item in (idle[key], played))
        assert DIRECTIONS[direction](before, after), f"{entity} {feature}: {before:g}, then {after:g}"


def test_every_entry_is_expected_to_show_something() -> None:
    assert {"noop", *EXPECTED} == {entry.type for entry in ENTRIES}
