"""A recorded run as today's contract has it, and a campaign made of numbers in which only what an action does is to be learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from otel_control_gym.baselines.asked import Asked
from otel_control_gym.baselines.channels import EDGE_CHANNELS, EDGE_TARGETS, NODE_CHANNELS, NODE_TARGETS
from otel_control_gym.baselines.states import LOOK_BACK_STEPS, State
from otel_control_gym.baselines.systems import System, system_of
from otel_control_gym.baselines.windows import HORIZON_STEPS, REWARD_COMPONENTS, CampaignWindows, Decision, RunWindows
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.randomness import derive_seed, draw_bits, draw_uniform
from otel_control_gym.engine.rebuild import rebuild

KEPT = Path(__file__).parents[1] / "contract" / "version_1"
STEP = 30
LEVELS = {
    "request_rate": 20.0,
    "error_ratio": 0.01,
    "latency_mean_ms": 40.0,
    "cpu_usage_cores": 0.2,
    "memory_usage_bytes": 1e8,
    "network_rx_bytes_per_s": 1e4,
    "network_tx_bytes_per_s": 1e4,
    "replicas_ready": 2.0,
    "replicas_desired": 2.0,
    "cpu_limit_cores": 1.0,
    "memory_limit_bytes": 2e8,
    "cpu_throttled_ratio": 0.0,
    "restarts": 0.0,
    "retry_rate": 0.0,
}


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with a fault, and a scale-up at the same moment."""
    kept = next(KEPT.glob("campaign=*/service_config=*/run_*"))
    return rebuild(kept, out=tmp_path_factory.mktemp("data") / kept.relative_to(KEPT))


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> CampaignWindows:
    """Forty families of one run each, in which the second service is scaled by chance: memory follows the replicas, all else is noise."""
    runs = tuple(_run(number) for number in range(40))
    return CampaignWindows(
        campaign="numbers",
        directory=tmp_path_factory.mktemp("campaign=numbers"),
        bucket_seconds=10,
        step_seconds=STEP,
        runs=runs,
        content_digests=tuple(run.run_id for run in runs),
    )


def small_system() -> System:
    """Users call `front`, which calls `back`."""
    nodes = [
        {"id": "front", "kind": "service"},
        {"id": "back", "kind": "service", "optional_group": "extras"},
        {"id": "users", "kind": "workload"},
    ]
    edges = [{"source": "users", "target": "front"}, {"source": "front", "target": "back"}]
    return system_of("numbers", nodes, edges)


def steady_state(system: System, *, decisions: int = 1, now: Asked | None = None) -> State:
    """Return decisions at which everything has been at its usual level for the whole look back."""
    nodes = np.array([LEVELS[name] for name in NODE_CHANNELS])
    edges = np.array([LEVELS[name] for name in EDGE_CHANNELS])
    return State(
        system=system,
        step_seconds=STEP,
        time=np.arange(decisions, dtype=np.int64) * STEP * SECOND,
        nodes=np.broadcast_to(nodes, (decisions, LOOK_BACK_STEPS, len(system.nodes), len(nodes))).copy(),
        edges=np.broadcast_to(edges, (decisions, LOOK_BACK_STEPS, len(system.edges), len(edges))).copy(),
        offered=np.full((decisions, LOOK_BACK_STEPS), 20.0),
        users=np.full(decisions, 100.0),
        earned=np.tile([1.0, 0.0, 0.0], (decisions, 1)),
        now=(now,) * decisions,
        past=((),) * decisions,
    )


def scaling(replicas: int, *, requested: int = 0, duration_s: float | None = None, target: str = "back") -> Asked:
    """Return that a service is to be scaled."""
    return Asked(
        action_type="scale",
        target=target,
        parameters={"replicas": replicas},
        duration_s=duration_s,
        requested=requested,
    )


def _run(number: int) -> RunWindows:
    system, steps, decisions, acted = small_system(), max(HORIZON_STEPS), 6, 1
    seed = derive_seed(7, f"numbers/{number}")
    replicas = 1 + draw_bits(seed, 0) % 6
    asked = scaling(int(replicas), requested=acted * STEP * SECOND)
    state = steady_state(system, decisions=decisions)
    noise = 1.0 + 0.05 * (_uniform(seed, 1, decisions + LOOK_BACK_STEPS + steps, len(system.nodes)) - 0.5)
    ratio = np.ones(noise.shape)
    changed = acted + LOOK_BACK_STEPS
    ratio[changed:, 1] = replicas / LEVELS["replicas_ready"]
    memory = LEVELS["memory_usage_bytes"] * noise * ratio
    for decision in range(decisions):
        state.nodes[decision, :, :, NODE_CHANNELS.index("memory_usage_bytes")] = memory[
            decision : decision + LOOK_BACK_STEPS
        ]
        for name in ("replicas_ready", "replicas_desired"):
            level = LEVELS[name] * ratio[decision : decision + LOOK_BACK_STEPS]
            state.nodes[decision, :, :, NODE_CHANNELS.index(name)] = level
    nodes = np.broadcast_to(
        np.array([LEVELS[name] for name in NODE_TARGETS]), (decisions, steps, len(system.nodes), len(NODE_TARGETS))
    ).copy()
    for decision in range(decisions):
        after = memory[decision + LOOK_BACK_STEPS : decision + LOOK_BACK_STEPS + steps]
        nodes[decision, :, :, NODE_TARGETS.index("memory_usage_bytes")] = after
    edges = np.broadcast_to(
        np.array([LEVELS[name] for name in EDGE_TARGETS]), (decisions, steps, len(system.edges), len(EDGE_TARGETS))
    ).copy()
    rewards = np.full((decisions, steps), 1.0)
    rewards[acted:] -= 0.1 * replicas
    state.earned[acted + 1 :, 0] -= 0.1 * replicas
    now = tuple(asked if decision == acted else None for decision in range(decisions))
    past = tuple((asked,) if decision > acted else () for decision in range(decisions))
    return RunWindows(
        run_id=f"run-{number:02}",
        family_id=f"family-{number:02}",
        stratum="randomised",
        is_branch=False,
        decisions=tuple(
            Decision(
                action_id=f"action-{decision}",
                action_type="scale" if decision == acted else "noop",
                requested=decision * STEP * SECOND,
                randomised=decision == acted,
                policy="random-1",
            )
            for decision in range(decisions)
        ),
        state=State(**{name: getattr(state, name) for name in state.__struct_fields__} | {"now": now, "past": past}),
        nodes=nodes,
        edges=edges,
        rewards=rewards,
        components=np.zeros((decisions, steps, len(REWARD_COMPONENTS))),
        breached=np.zeros(decisions, bool),
        recovery_steps=np.zeros(decisions),
        recovered=np.ones(decisions, bool),
    )


def _uniform(seed: int, purpose: int, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    count = int(np.prod(shape))
    return np.array([draw_uniform(seed, purpose, index) for index in range(count)]).reshape(shape)
