"""States ➜ rows that models learn from: one for every (decision, service) and (decision, edge), with names for the columns.

In: a `State`. Out: `Rows`: what the passive model and its action-conditioned twin both read (own lags, neighbours over the graph, load,
place in the application), and apart from it what only the second one reads: the action. On the scale of `channels.seen`; unknown is NaN.

Pure: nothing is fitted here. Downstream: `regressors` encode identities and fill what is unknown.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import ACTION_COLUMNS, OWN_COLUMNS, action_columns
from otel_control_gym.baselines.channels import EDGE_CHANNELS, EDGE_TARGETS, NODE_CHANNELS, NODE_TARGETS, least, seen
from otel_control_gym.baselines.smoothing import smoothed
from otel_control_gym.baselines.states import State, before_of
from otel_control_gym.baselines.systems import System

__all__ = ("Rows", "action_blocks", "edge_actions", "edge_rows", "node_rows")

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_LAGS_OF_AN_END = ("now", "change", "change of 3 steps", "change of the look back")
_LAGS = (*_LAGS_OF_AN_END, "change of the smoothed")
_CHANGES = 3  #: steps of the short mean
_OF_AN_END = (
    *(f"{feature}: {lag}" for feature in ("request_rate", "error_ratio", "latency_mean_ms") for lag in _LAGS_OF_AN_END),
    "fullness: now",
    "ready_share: now",
    "replicas_ready: now",
    "replicas_ready: change",
    "called: worst error_ratio",
)  #: what an edge is told of the services at its ends
_SHARES = ("fullness", "ready_share", "memory_fullness")  #: of what was given to a service


class Rows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """D decisions of M entities."""

    entities: tuple[str, ...]  #: [M] services, or source->target
    columns: tuple[str, ...]  #: [P] of `inputs`
    inputs: Float  #: [D, M, P] what both twins read
    current: (
        Float  #: [D, M, targets] the last step's dynamics, on the scale of `seen`; what is foretold is their change
    )


def node_rows(state: State) -> Rows:
    """Return the rows of the services."""
    own = seen(state.nodes, NODE_CHANNELS)
    shares = _shares(state.nodes[:, -1])
    columns, inputs = _lagged(own, NODE_CHANNELS, len(NODE_TARGETS))
    columns += [f"{name}: now" for name in _SHARES]
    inputs = np.concatenate([inputs, shares, _neighbours(state, own, shares)], axis=-1)
    columns += [*_NEIGHBOURS, *_APPLICATION, *_PLACE]
    common = np.repeat(_application(state, own)[:, np.newaxis], len(state.system.nodes), axis=1)
    place = np.repeat(_places(state.system)[np.newaxis], len(state), axis=0)
    return Rows(
        entities=state.system.nodes,
        columns=tuple(columns),
        inputs=np.concatenate([inputs, common, place], axis=-1),
        current=own[:, -1, :, : len(NODE_TARGETS)],
    )


def edge_rows(state: State) -> Rows:
    """Return the rows of the edges: their own lags, those of both ends, and the application."""
    system, nodes = state.system, node_rows(state)
    own = seen(state.edges, EDGE_CHANNELS)
    columns, inputs = _lagged(own, EDGE_CHANNELS, len(EDGE_TARGETS))
    ends = [position for position, name in enumerate(nodes.columns) if name in _OF_AN_END]
    common = [position for position, name in enumerate(nodes.columns) if name in _APPLICATION]
    target, source = nodes.inputs[:, system.targets], nodes.inputs[:, system.sources]
    names = [nodes.columns[position] for position in ends]
    return Rows(
        entities=system.edge_ids,
        columns=(*columns, *(f"target {name}" for name in names), *(f"source {name}" for name in names), *_APPLICATION),
        inputs=np.concatenate([inputs, target[..., ends], source[..., ends], target[..., common]], axis=-1),
        current=own[:, -1, :, : len(EDGE_TARGETS)],
    )


def action_blocks(state: State, horizon_s: int) -> Float:
    """Return the columns that only the action-conditioned model reads, of the services: [D, N, len(ACTION_COLUMNS)]."""
    found = np.zeros((len(state), len(state.system.nodes), len(ACTION_COLUMNS)))
    for decision, (now, past) in enumerate(zip(state.now, state.past, strict=True)):
        if now is not None or past:
            found[decision] = action_columns(
                now,
                past,
                before_of(state, decision),
                state.system,
                time=int(state.time[decision]),
                step_seconds=state.step_seconds,
                horizon_s=horizon_s,
            )
    return found


def edge_actions(blocks: Float, system: System) -> Float:
    """Return the columns of the edges: all that is told the target, and what is asked of the source itself."""
    return np.concatenate([blocks[:, system.targets], blocks[:, system.sources][..., : len(OWN_COLUMNS)]], axis=-1)


def _lagged(own: Float, channels: tuple[str, ...], dynamics: int) -> tuple[list[str], Float]:
    """Return level and changes of each channel, [D, L, M, C] ➜ [D, M, P]; of an echo, level and last change alone."""
    now = own[:, -1]
    parts = {
        "now": now,
        "change": now - own[:, -2],
        "change of 3 steps": _mean(own[:, -_CHANGES:], axis=1) - now,
        "change of the look back": _mean(own, axis=1) - now,
        "change of the smoothed": smoothed(np.moveaxis(own, 1, 0), least(channels)) - now,
    }
    names = [f"{channel}: {lag}" for lag in _LAGS for channel in channels[: _width(lag, channels, dynamics)]]
    return names, np.concatenate([parts[lag][..., : _width(lag, channels, dynamics)] for lag in _LAGS], axis=-1)


def _width(lag: str, channels: tuple[str, ...], dynamics: int) -> int:
    return len(channels) if lag in ("now", "change") else dynamics


def _shares(nodes: Float) -> Float:
    """Return how full a service is, [D, N, C] in the features' units ➜ [D, N, len(_SHARES)]."""
    at = {name: nodes[..., position] for position, name in enumerate(NODE_CHANNELS)}
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.stack(
            [
                at["cpu_usage_cores"] / at["cpu_limit_cores"],
                at["replicas_ready"] / at["replicas_desired"],
                at["memory_usage_bytes"] / at["memory_limit_bytes"],
            ],
            axis=-1,
        )
    return np.where(np.isfinite(shares), np.clip(shares, 0.0, 3.0), np.nan)


_NEIGHBOURS = (
    "called: worst error_ratio",
    "called: largest change of latency",
    "called: largest fullness",
    "called: least ready_share",
    "called: mean change of request_rate",
    "callers: worst error_ratio",
    "callers: mean change of request_rate",
    "callers: mean change of request_rate over the look back",
    "callers: least ready_share",
    "calls out: worst error_ratio",
    "calls out: largest retry_rate",
)


def _neighbours(state: State, own: Float, shares: Float) -> Float:
    """Return what goes on around each service, [D, N, len(_NEIGHBOURS)]."""
    system = state.system
    calls = system.hops == 1.0  # [caller, called]
    at = {name: position for position, name in enumerate(NODE_CHANNELS)}
    now, change = own[:, -1], own[:, -1] - own[:, -2]
    errors, rate = now[..., at["error_ratio"]], change[..., at["request_rate"]]
    drift = (_mean(own, axis=1) - now)[..., at["request_rate"]]
    full, ready = (shares[..., _SHARES.index(name)] for name in ("fullness", "ready_share"))
    edges = seen(state.edges[:, -1], EDGE_CHANNELS)
    out = system.sources[np.newaxis] == np.arange(len(system.nodes))[:, np.newaxis]  # [N, E]
    return np.stack(
        [
            _most(errors, calls),
            _most(change[..., at["latency_mean_ms"]], calls),
            _most(full, calls),
            -_most(-ready, calls),
            _average(rate, calls),
            _most(errors, calls.T),
            _average(rate, calls.T),
            _average(drift, calls.T),
            -_most(-ready, calls.T),
            _most(edges[..., EDGE_CHANNELS.index("error_ratio")], out),
            _most(edges[..., EDGE_CHANNELS.index("retry_rate")], out),
        ],
        axis=-1,
    )


_APPLICATION = (
    "offered: now",
    "offered: change",
    "offered: change of 3 steps",
    "offered: change of the look back",
    "entry: error_ratio",
    "entry: change of latency over the look back",
    "application: least ready_share",
)


def _application(state: State, own: Float) -> Float:
    """Return what is the same for all of an application, [D, len(_APPLICATION)]."""
    load = seen(state.offered[..., np.newaxis], ("offered_rate",))[..., 0]
    now = load[:, -1]
    entry = own[:, :, state.system.entry]
    latency = entry[..., NODE_CHANNELS.index("latency_mean_ms")]
    ready = _shares(state.nodes[:, -1])[..., _SHARES.index("ready_share")]
    everyone = np.ones((1, ready.shape[1]), bool)
    return np.stack(
        [
            now,
            now - load[:, -2],
            _mean(load[:, -_CHANGES:], axis=1) - now,
            _mean(load, axis=1) - now,
            entry[:, -1, NODE_CHANNELS.index("error_ratio")],
            _mean(latency, axis=1) - latency[:, -1],
            -_most(-ready, everyone)[:, 0],
        ],
        axis=-1,
    )


_PLACE = ("hops from the entry", "number called", "number of callers", "is a dependency", "is a workload")


def _places(system: System) -> Float:
    """Return where each service stands in the graph, [N, len(_PLACE)]."""
    hops = system.hops[system.entry]
    return np.stack(
        [
            np.where(np.isfinite(hops), hops, np.nan),
            np.bincount(system.sources, minlength=len(system.nodes)).astype(np.float64),
            np.bincount(system.targets, minlength=len(system.nodes)).astype(np.float64),
            np.array([kind == "dependency" for kind in system.kinds], np.float64),
            np.array([kind == "workload" for kind in system.kinds], np.float64),
        ],
        axis=-1,
    )


def _mean(values: Float, *, axis: int) -> Float:
    """Return the mean of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    with np.errstate(invalid="ignore"):
        mean: Float = np.where(known, values, 0.0).sum(axis=axis) / np.where(count, count, np.nan)
    return mean


def _most(values: Float, of: Bool) -> Float:
    """Return the largest known value among others, [D, M] and [N, M] ➜ [D, N]; NaN where none is known."""
    among = np.where(of[np.newaxis] & np.isfinite(values)[:, np.newaxis], values[:, np.newaxis], -np.inf)
    largest = among.max(axis=-1, initial=-np.inf)
    return np.where(np.isfinite(largest), largest, np.nan)


def _average(values: Float, of: Bool) -> Float:
    """Return the mean of the known values among others, as `_most`."""
    return _mean(np.where(of[np.newaxis], values[:, np.newaxis], np.nan), axis=-1)
