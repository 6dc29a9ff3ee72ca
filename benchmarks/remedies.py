"""The remedy matrix: which action helps against which fault, measured by runs of one seed that differ in nothing else.

For each seed a run without fault, a run with the fault and `noop`, and a run with the fault and each action a minute later. Faults follow
their workload into new pods and last to the end, so that neither time nor a restart cures by itself. Scored is the share of good
responses at the entry service over the last three minutes, as the reward has it (`slo_satisfaction`), and of what the fault took of it the
part that the action gave back:

- cures: nine tenths or more, and the fault's own symptom at its target is gone, too; masks: as much, but the symptom is still there
- mitigates: a quarter or more; worsens: it took another quarter or more; none: neither
- rejected: the precheck refused the action

Where a fault takes less than a fiftieth of the good responses, there is nothing to remedy: its row says so. `python benchmarks/remedies.py`
writes docs/remedy-matrix.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import anyio
import msgspec
import numpy as np

import otel_control_gym as ocg
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.settings import PlannedAction, RunConfig

__all__ = ("ACTIONS", "FAULTS", "judge", "main")

PAGE = Path(__file__).parents[1] / "docs" / "remedy-matrix.md"
FAULT_AT, ACTION_AT, SCORED, END = 30, 90, 180, 330  #: [s] of control time; SCORED: the length of the window at the end
HARM = 0.02  #: share of good responses that a fault must take
CURED, HELPED = 0.9, 0.25

#: fault -> (action, entity and feature of its own symptom)
FAULTS: dict[str, tuple[dict[str, Any], tuple[Any, str]]] = {
    "cpu_pressure on frontend": (
        {"type": "cpu_pressure", "target": "frontend", "intensity": "severe"},
        ("frontend", "cpu_throttled_ratio"),
    ),
    "memory_pressure on cart": (
        {"type": "memory_pressure", "target": "cart", "intensity": "severe"},
        ("cart", "memory_saturation"),
    ),
    "network_delay frontend->cart": (
        {"type": "network_delay", "target": "frontend->cart", "intensity": "severe"},
        (("frontend", "cart"), "latency_mean_ms"),
    ),
    "packet_loss frontend->product-catalog": (
        {"type": "packet_loss", "target": "frontend->product-catalog", "intensity": "severe"},
        (("frontend", "product-catalog"), "latency_p99_ms"),
    ),
    "network_partition checkout->payment": (
        {"type": "network_partition", "target": "checkout->payment", "intensity": "severe"},
        (("checkout", "payment"), "request_rate"),
    ),
    "pod_kill on frontend": (
        {"type": "pod_kill", "target": "frontend", "intensity": "severe", "persistence": "workload"},
        (("load-generator", "frontend"), "error_ratio"),
    ),
    "restart_loop on product-catalog": (
        {"type": "restart_loop", "target": "product-catalog", "intensity": "severe"},
        ("product-catalog", "restarts"),
    ),
    "dependency_outage of valkey-cart": (
        {"type": "dependency_outage", "target": "valkey-cart", "mechanism": "scale_to_zero"},
        (("cart", "valkey-cart"), "error_ratio"),
    ),
    "dependency_outage of postgresql (pod_failure)": (
        {"type": "dependency_outage", "target": "postgresql", "mechanism": "pod_failure"},
        (("product-catalog", "postgresql"), "error_ratio"),
    ),
    "bad_config checkout->payment": (
        {"type": "bad_config", "target": "checkout->payment", "mistake": "address"},
        (("checkout", "payment"), "error_ratio"),
    ),
    "feature_flag paymentFailure": (
        {"type": "feature_flag", "flag": "paymentFailure", "variant": "100%"},
        ("payment", "error_ratio"),
    ),
}

#: action -> its JSON form, with the service that the fault sits in for `{place}`
ACTIONS: dict[str, dict[str, Any]] = {
    "scale": {"type": "scale", "target": "{place}", "replicas": 4},
    "restart": {"type": "restart", "target": "{place}"},
    "delete_pod": {"type": "delete_pod", "target": "{place}", "count": 1},
    "rollout_config": {"type": "rollout_config", "target": "{place}", "env": {"OCG_HARMLESS": "1"}},
    "rollback_config": {"type": "rollback_config", "target": "{place}"},
    "set_resources": {
        "type": "set_resources",
        "target": "{place}",
        "cpu_limit_cores": 4.0,
        "memory_limit_bytes": 2**30,
    },
    "set_autoscaler": {"type": "set_autoscaler", "target": "{place}", "min_replicas": 3, "max_replicas": 6},
    "shift_traffic": {
        "type": "shift_traffic",
        "target": "{place}",
        "version": "2.2.0",
        "weight_percent": 50,
        "reconnect_callers": True,
    },
    "disable_group": {"type": "disable_group", "target": "recommendations"},
    "set_workload": {"type": "set_workload", "users": 60},
}


class Seen(msgspec.Struct, frozen=True):
    """What a run came to: share of good responses, the fault's symptom, what became of the action."""

    good: float
    symptom: float
    status: str = ""


def place_of(fault: dict[str, Any]) -> str:
    """Return the service on which one would act against a fault."""
    if fault["type"] == "feature_flag":
        return "payment"
    source, arrow, target = str(fault["target"]).partition("->")
    return source if fault["type"] == "bad_config" or not arrow else target


def config(seed: int, fault: dict[str, Any] | None) -> RunConfig:
    """Return small-core under its steady load, with a fault to the end or without one."""
    run = ocg.resolve("small-core", workload="steady", seed=seed)
    planned = () if fault is None else (PlannedAction(at_seconds=FAULT_AT, action={**fault, "duration_seconds": 600}),)
    episode = msgspec.structs.replace(run.public.episode, goal=None, emergency=None)
    return msgspec.structs.replace(
        run,
        public=msgspec.structs.replace(run.public, horizon_seconds=END, episode=episode),
        scenario=msgspec.structs.replace(run.scenario, interventions=planned),
    )


async def play(seed: int, fault: dict[str, Any] | None, action: dict[str, Any], symptom: tuple[Any, str]) -> Seen:
    """Return what a run came to."""
    with tempfile.TemporaryDirectory() as directory:
        async with ocg.make(config(seed, fault), data_dir=directory) as env:
            await env.reset()
            await env.step(ocg.Noop(), dt=ACTION_AT)
            _, _, _, info = await env.step(action, dt=END - ACTION_AT - SCORED)
            record = info["action"]
            assert record is not None
            _, _, _, info = await env.step(ocg.Noop(), dt=SCORED)
            observation = await env.observe(window=SCORED, granularity=10)
        buckets = SCORED / env.config.public.granularity.reward_bucket_seconds
    good = info["reward_components"]["slo_satisfaction"] / buckets  # the components are sums over the step's buckets
    return Seen(good, _value(observation, *symptom), record.status)


def _value(observation: Observation, entity: Any, feature: str) -> float:
    if isinstance(entity, str):
        column = observation.nodes[:, observation.node_names.index(entity), observation.node_features.index(feature)]
    else:
        position = [(source, target) for source, target, _ in observation.edge_names].index(entity)
        column = observation.edges[:, position, observation.edge_features.index(feature)]
    return float(np.nanmean(column)) if np.isfinite(column).any() else 0.0


def judge(healthy: Seen, faulty: Seen, acted: Seen) -> str:
    """Return what an action did against a fault."""
    if acted.status == "rejected":
        return "rejected"
    harm = healthy.good - faulty.good
    given_back = (acted.good - faulty.good) / harm
    if given_back >= CURED:
        deviation = faulty.symptom - healthy.symptom
        left = 0.0 if deviation == 0 else (acted.symptom - healthy.symptom) / deviation
        return "masks" if left > 0.5 else "cures"
    if given_back >= HELPED:
        return "mitigates"
    return "worsens" if given_back <= -HELPED else "none"


def _mean(seen: list[Seen]) -> Seen:
    return Seen(
        statistics.fmean(item.good for item in seen),
        statistics.fmean(item.symptom for item in seen),
        seen[0].status,
    )


async def measure(seeds: range, faults: list[str], actions: list[str]) -> list[str]:
    """Return the rows of the table."""
    rows = []
    for name in faults:
        fault, symptom = FAULTS[name]
        healthy = _mean([await play(seed, None, {"type": "noop"}, symptom) for seed in seeds])
        faulty = _mean([await play(seed, fault, {"type": "noop"}, symptom) for seed in seeds])
        harm = healthy.good - faulty.good
        cells = []
        for key in actions:
            if harm < HARM:
                cells.append("–")
                continue
            action = {k: v.format(place=place_of(fault)) if k == "target" else v for k, v in ACTIONS[key].items()}
            acted = _mean([await play(seed, fault, action, symptom) for seed in seeds])
            verdict = judge(healthy, faulty, acted)
            share = "" if verdict == "rejected" else f" ({(acted.good - faulty.good) / harm:+.0%})"
            cells.append(verdict + share)
        rows.append(f"| {name} | {harm:.1%} | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    return rows


def page(rows: list[str], actions: list[str], seeds: range) -> str:
    """Return the Markdown page."""
    head = [
        "# The remedy matrix",
        "",
        "Measured by `benchmarks/remedies.py`, on the twin: small-core under its steady load, "
        f"seeds {seeds[0]} to {seeds[-1]}, paired runs.",
        "Faults follow their workload into new pods and last to the end; the action comes a minute after the fault. *Takes*: by how",
        "much the fault lowers the share of good responses. In brackets: the part of that which the action gave back. The action is",
        "aimed at the service that the fault sits in (of an edge: the callee; of a bad configuration: the service that has it).",
        "",
        "*cures*: at least nine tenths came back and the fault's own symptom is gone; *masks*: as much came back, but the symptom is",
        "there; *mitigates*: at least a quarter; *worsens*: another quarter or more was lost; *none*: neither; *rejected*: the precheck",
        "refused; –: the fault takes less than 2 %, so that there is nothing to remedy.",
        "",
        "| fault | takes | " + " | ".join(actions) + " |",
        "|---|---|" + "---|" * len(actions),
    ]
    return "\n".join([*head, *rows]) + "\n"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="one fault, one action, one seed")
    parser.add_argument("--out", type=Path, default=PAGE)
    given = parser.parse_args()
    faults, actions = list(FAULTS), list(ACTIONS)
    seeds = range(1, 4)
    if given.small:
        faults, actions, seeds = faults[:1], actions[:1], range(1, 2)
    rows = anyio.run(measure, seeds, faults, actions)
    given.out.write_text(page(rows, actions, seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
