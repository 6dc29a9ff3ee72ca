"""Draws what each entry of the catalogue does on the twin, for docs/reference/actions.md.

In: the catalogue. Out: docs/images/actions/<type>.png: one feature over time, with the entry's example and with `noop` instead, from one
seed. Run by hand (`python docs/plot_actions.py [TYPE ...]`) when the twin's physics or an example changes: it takes a minute.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
import matplotlib.pyplot as plt
import msgspec
import numpy as np
import numpy.typing as npt

import otel_control_gym as ocg
from otel_control_gym.actuators import ENTRIES, Entry

__all__ = ("SHOWN", "draw", "main")

IMAGES = Path(__file__).parent / "images" / "actions"
BEFORE, AFTER = 60, 240  #: [s] of control time
BUCKET = 10

#: type -> entity (a service, or source and target of an edge) and the feature in which the effect is best seen
SHOWN: dict[str, tuple[Any, str]] = {
    "scale": ("frontend", "cpu_saturation"),
    "restart": ("cart", "cpu_usage_cores"),
    "delete_pod": (("load-generator", "frontend"), "error_ratio"),
    "enable_group": ("recommendation", "request_rate"),
    "disable_group": ("recommendation", "request_rate"),
    "rollout_config": ("checkout", "memory_usage_bytes"),
    "rollback_config": ("checkout", "memory_usage_bytes"),
    "set_resources": ("frontend", "cpu_throttled_ratio"),
    "set_autoscaler": ("frontend", "replicas_ready"),
    "shift_traffic": ("frontend", "cpu_saturation"),
    "set_workload": ("frontend", "request_rate"),
    "cpu_pressure": ("frontend", "latency_mean_ms"),
    "memory_pressure": ("cart", "memory_usage_bytes"),
    "network_delay": (("frontend", "cart"), "latency_mean_ms"),
    "packet_loss": (("frontend", "cart"), "latency_p99_ms"),
    "network_partition": (("cart", "valkey-cart"), "request_rate"),
    "pod_kill": (("load-generator", "frontend"), "error_ratio"),
    "restart_loop": (("load-generator", "frontend"), "error_ratio"),
    "dependency_outage": (("product-catalog", "postgresql"), "error_ratio"),
    "bad_config": (("checkout", "payment"), "error_ratio"),
    "feature_flag": ("payment", "error_ratio"),
}


async def series(entry: Entry, action: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Return the feature in buckets, from `BEFORE` s before an action to `AFTER` s after it."""
    entity, feature = SHOWN[entry.type]
    run = ocg.resolve(entry.configuration, workload="steady", seed=7)
    horizon = 60 * len(entry.preparation) + BEFORE + AFTER
    run = msgspec.structs.replace(run, public=msgspec.structs.replace(run.public, horizon_seconds=horizon))
    with tempfile.TemporaryDirectory() as directory:
        async with ocg.make(run, data_dir=directory) as env:
            await env.reset()
            for preparation in entry.preparation:
                await env.step(preparation, dt=60)
            await env.step(ocg.Noop(), dt=BEFORE)
            await env.step(action, dt=AFTER)
            seen = await env.observe(window=BEFORE + AFTER, granularity=BUCKET)
    if isinstance(entity, str):
        column = seen.nodes[:, seen.node_names.index(entity), seen.node_features.index(feature)]
    else:
        position = [(source, target) for source, target, _ in seen.edge_names].index(entity)
        column = seen.edges[:, position, seen.edge_features.index(feature)]
    return np.asarray(column, dtype=np.float64)


async def draw(entry: Entry) -> None:
    """Draw one entry."""
    acted, idle = await series(entry, entry.example), await series(entry, {"type": "noop"})
    times = np.arange(-BEFORE, AFTER, BUCKET)
    entity, feature = SHOWN[entry.type]
    figure, axes = plt.subplots(figsize=(6.4, 2.2), layout="constrained")
    axes.axvline(0, color="0.8", linewidth=1)
    axes.step(times, idle, where="post", color="0.6", label="noop")
    axes.step(times, acted, where="post", color="#0b6e99", label=entry.type)
    axes.set_xlabel("s after the action")
    axes.set_title(f"{entity if isinstance(entity, str) else '->'.join(entity)}: {feature}", fontsize=9, loc="left")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"{entry.type}.png", dpi=90, metadata={"Software": None})
    plt.close(figure)


async def _draw_all(names: list[str]) -> None:
    for entry in ENTRIES:
        if entry.type in SHOWN and (not names or entry.type in names):
            await draw(entry)


def main() -> None:
    """Draw the entries that are named, or all."""
    anyio.run(_draw_all, sys.argv[1:])


if __name__ == "__main__":
    main()
