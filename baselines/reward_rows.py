"""States ➜ one row per decision: how the application is, and how what an action is aimed at is.

In: a `State`. Out: what both twins of the reward model read (the service that users call, the worst of all services, the load, what the
last step earned), and apart from it what only the second one reads: the action as the entry is told of it, what is asked of its targets,
and the targets' state, in which it acts. Pure. Downstream: `reward_model`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import ACTION_COLUMNS, OWN_COLUMNS
from otel_control_gym.baselines.rows import Rows, action_blocks
from otel_control_gym.baselines.states import EARNED, State

__all__ = ("OF_A_CORRECTION", "decision_action_names", "decision_actions", "decision_names", "decision_rows")

Float = npt.NDArray[np.float64]

_WORST = (
    "error_ratio: now",
    "error_ratio: change",
    "latency_mean_ms: change of the look back",
    "fullness: now",
    "cpu_throttled_ratio: now",
    "restarts: now",
)  #: largest over the services
_LEAST = ("ready_share: now",)
_TOTAL = ("replicas_desired: now", "cpu_limit_cores: now", "memory_limit_bytes: now", "cpu_usage_cores: now")
_TARGET = (
    "fullness: now",
    "ready_share: now",
    "replicas_ready: now",
    "error_ratio: now",
    "latency_mean_ms: change of the look back",
    "request_rate: now",
    "hops from the entry",
)  #: of what an action is aimed at

OF_A_CORRECTION: frozenset[str] = frozenset(
    [
        "entry error_ratio: now",
        "entry latency_mean_ms: now",
        "entry fullness: now",
        "entry offered: now",
        "largest error_ratio: now",
        "largest fullness: now",
        "least ready_share: now",
        *(f"last {name}" for name in EARNED),
    ]
)
"""Columns on which it may depend what an action earns."""


def decision_names(rows: Rows) -> tuple[str, ...]:
    """Return the names of the columns of `decision_rows`."""
    return (
        *(f"entry {name}" for name in rows.columns),
        *(f"largest {name}" for name in _WORST),
        *(f"least {name}" for name in _LEAST),
        *(f"mean {name}" for name in _TOTAL),
        *(f"last {name}" for name in EARNED),
    )


def decision_action_names() -> tuple[str, ...]:
    """Return the names of the columns of `decision_actions`."""
    return (
        *(f"entry {name}" for name in ACTION_COLUMNS),
        *(f"targets {name}" for name in OWN_COLUMNS),
        *(f"target {name}" for name in _TARGET),
    )


def decision_rows(state: State, rows: Rows) -> Float:
    """Return what both twins read, [D, P]; `rows` are the state's `node_rows`."""

    def of(names: tuple[str, ...]) -> Float:
        return rows.inputs[..., [rows.columns.index(name) for name in names]]

    return np.concatenate(
        [
            rows.inputs[:, state.system.entry],
            _largest(of(_WORST)),
            -_largest(-of(_LEAST)),
            np.nan_to_num(of(_TOTAL)).mean(axis=1),
            state.earned,
        ],
        axis=-1,
    )


def decision_actions(state: State, rows: Rows, horizon_s: int) -> Float:
    """Return what only the action-conditioned twin reads, [D, A]."""
    blocks = action_blocks(state, horizon_s)  # [D, N, A]
    own = blocks[..., : len(OWN_COLUMNS)]
    aimed = (own != 0).any(axis=-1)  # [D, N]
    described = rows.inputs[..., [rows.columns.index(name) for name in _TARGET]]
    return np.concatenate(
        [
            blocks[:, state.system.entry],
            own.sum(axis=1),
            _largest(np.where(aimed[..., np.newaxis], described, np.nan)),
        ],
        axis=-1,
    )


def _largest(values: Float) -> Float:
    """Return the largest known value over the services, [D, N, C] ➜ [D, C]."""
    known = np.where(np.isfinite(values), values, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(np.isfinite(known), known, np.nan)
