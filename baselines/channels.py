"""What of the feature tables models read and foretell, in which groups, and on which scale they see it.

*Dynamics* are what a system does: they are foretold and scored. *Echoes* of the actuator (replicas, limits) are what it was told: models
read them, up to the decision, and never foretell them. Rates, times and sizes are seen as logarithms, shifted by what is negligible, so
that "twice the replicas" is one number for a small service and a large one; ratios are seen as they are.

Pure. Downstream: `states` reads the channels, `rows` makes columns of them, `next_state` foretells their change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = (
    "EDGE_CHANNELS",
    "EDGE_TARGETS",
    "GROUPS",
    "NODE_CHANNELS",
    "NODE_TARGETS",
    "least",
    "per_step",
    "seen",
    "shown",
)

Float = npt.NDArray[np.float64]

NODE_TARGETS: tuple[str, ...] = (
    "request_rate",
    "error_ratio",
    "latency_mean_ms",
    "cpu_usage_cores",
    "memory_usage_bytes",
    "network_rx_bytes_per_s",
    "network_tx_bytes_per_s",
)
"""Dynamics of a service, in the order of all arrays of targets."""
EDGE_TARGETS: tuple[str, ...] = ("request_rate", "error_ratio", "latency_mean_ms")
"""Dynamics of an edge, likewise."""

NODE_CHANNELS: tuple[str, ...] = (
    *NODE_TARGETS,
    "replicas_ready",
    "replicas_desired",
    "cpu_limit_cores",
    "memory_limit_bytes",
    "cpu_throttled_ratio",
    "restarts",
)
"""What is read of a service; the dynamics come first."""
EDGE_CHANNELS: tuple[str, ...] = (*EDGE_TARGETS, "retry_rate")
"""What is read of an edge; the dynamics come first."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "traffic": ("request_rate",),
    "errors": ("error_ratio",),
    "latency": ("latency_mean_ms",),
    "cpu": ("cpu_usage_cores",),
    "memory": ("memory_usage_bytes",),
    "network": ("network_rx_bytes_per_s", "network_tx_bytes_per_s"),
}
"""Feature groups of the tables of scores."""

_NEGLIGIBLE: Mapping[str, float] = {
    "request_rate": 0.5,
    "latency_mean_ms": 2.0,
    "cpu_usage_cores": 0.005,
    "memory_usage_bytes": 4 * 2**20,
    "network_rx_bytes_per_s": 500.0,
    "network_tx_bytes_per_s": 500.0,
    "replicas_ready": 0.1,
    "replicas_desired": 0.1,
    "cpu_limit_cores": 0.005,
    "memory_limit_bytes": 4 * 2**20,
    "restarts": 1.0,
    "retry_rate": 0.1,
    "offered_rate": 0.5,
}
"""What is added before the logarithm is taken, in the feature's unit: about what a scrape can't resolve."""
_WEIGHTS: Mapping[str, str] = {"error_ratio": "request_count", "latency_mean_ms": "latency_count"}
"""What a feature's buckets are weighed with when a step's mean is taken: a mean over requests, not over buckets."""


def columns_read(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the table's columns that the step means of these channels need."""
    return tuple(dict.fromkeys([*channels, *(_WEIGHTS[name] for name in channels if name in _WEIGHTS)]))


def per_step(cells: Float, features: Sequence[str], channels: Sequence[str], *, width: int) -> Float:
    """Return the means over control steps: [..., steps, entities, channels] of buckets [..., steps * width, entities, features].

    Buckets of which nothing is known are left out of a mean; a step without any known bucket is NaN. Ratios and latencies are weighed with
    the requests behind them.
    """
    steps = cells.shape[-3] // width
    parts = cells.reshape(*cells.shape[:-3], steps, width, *cells.shape[-2:])
    found = np.empty((*parts.shape[:-3], parts.shape[-2], len(channels)))
    for position, name in enumerate(channels):
        values = parts[..., features.index(name)]
        weight = parts[..., features.index(_WEIGHTS[name])] if name in _WEIGHTS else np.ones_like(values)
        known = np.isfinite(values) & np.isfinite(weight) & (weight > 0)
        total = np.where(known, weight, 0.0).sum(axis=-2)
        with np.errstate(invalid="ignore"):
            found[..., position] = np.where(known, values * weight, 0.0).sum(axis=-2) / np.where(
                total > 0, total, np.nan
            )
    return found


def seen(values: Float, channels: Sequence[str]) -> Float:
    """Return values, [..., channels], on the scale on which models see them."""
    found = values.astype(np.float64, copy=True)
    for position, name in enumerate(channels):
        if name in _NEGLIGIBLE:
            found[..., position] = np.log(np.maximum(values[..., position], 0.0) + _NEGLIGIBLE[name])
    return found


def least(channels: Sequence[str]) -> Float:
    """Return, for each channel, the difference on the scale of `seen` below which nobody cares: 1 %, or a thousandth of a ratio."""
    return np.array([0.01 if name in _NEGLIGIBLE else 0.001 for name in channels])


def shown(values: Float, channels: Sequence[str]) -> Float:
    """Return what `seen` was made of, in the features' units; ratios within 0 and 1, all else at least 0."""
    found = values.astype(np.float64, copy=True)
    for position, name in enumerate(channels):
        if name in _NEGLIGIBLE:
            found[..., position] = np.maximum(np.exp(np.minimum(values[..., position], 60.0)) - _NEGLIGIBLE[name], 0.0)
        else:
            found[..., position] = np.clip(values[..., position], 0.0, 1.0)
    return found
