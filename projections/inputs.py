"""What the stand was told and what it got ➜ rows of `control_inputs.parquet`.

In: a state and a range of buckets. Out: a row per bucket, target and name. *Exogenous* is what nobody here decides; *actuator* what an
action can set; *outcome* what followed. A name whose source wasn't read in a bucket has no row there. What is set at a bucket's end
belongs to the next one: a row never shows the action that was decided on it.

Two versions of a service are two targets, `service` and `service/deployment`; how the traffic is split between them is told where there
is a split: by an HTTPRoute's weights, else by the pods of each that were asked for (whether callers' connections follow is another thing).
A feature flag is a fault's cause: its rows are truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np

from otel_control_gym.engine.events import AutoscalerStatus, RolloutStatus, RouteStatus
from otel_control_gym.projections.demand import demand
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.timelines import Timeline

__all__ = ("control_input_rows",)

Row = dict[str, Any]
Kind = Literal["exogenous", "actuator", "outcome"]
RowT = TypeVar("RowT", RolloutStatus, AutoscalerStatus, RouteStatus)
_Bounds = Sequence[tuple[int, int]]  #: start and end of each bucket [ns]


def control_input_rows(state: RunState, buckets: Buckets) -> list[Row]:
    """Return the rows of the control inputs table, sorted by (time, target, name)."""
    edges = state.origin + buckets.edges * state.samples.interval
    bounds = list(pairwise(edges.tolist()))
    watched = [pair for pair in bounds if not _missed(state, "kubernetes", *pair)]
    rows = [
        *_workload(state, buckets),
        *_deployments(state, watched),
        *_autoscalers(state, watched),
        *_splits(state, watched),
        *_flags(state, bounds),
    ]
    return sorted(rows, key=lambda row: (row["time"], row["target"], row["name"]))


def _missed(state: RunState, source: str, start: int, end: int) -> bool:
    return any(gap.source == source and gap.start < end and gap.end > start for gap in state.gaps)


# --- workload -------------------------------------------------------------------------------------------------------------


def _workload(state: RunState, buckets: Buckets) -> Iterator[Row]:
    asked = demand(state, buckets)
    starts = state.origin + buckets.edges[:-1] * state.samples.interval
    rates: tuple[tuple[str, Any, Kind], ...] = (
        ("offered_rate", asked.scheduled, "exogenous"),
        ("served_rate", asked.served, "outcome"),
        ("failed_rate", asked.failed, "outcome"),
    )
    for position, reading in enumerate(asked.readings):
        if reading is None:
            continue
        time = int(starts[position])
        for name, grown, kind in rates:
            if not np.isnan(grown[position]):
                yield _row(time, "", name, grown[position] / asked.seconds[position], "1/s", kind)
        yield _row(time, "", "users_target", reading.users_target, "1", "actuator")
        yield _row(time, "", "users_active", reading.users_active, "1", "outcome")
        if reading.rate_per_s is not None:
            yield _row(time, "", "rate_target", reading.rate_per_s, "1/s", "actuator")
        for flow, share in reading.mix.items():
            yield _row(time, flow, "mix_share", share, "1", "actuator")


# --- Kubernetes -----------------------------------------------------------------------------------------------------------


def _deployments(state: RunState, bounds: _Bounds) -> Iterator[Row]:
    service_of = _services(state)
    for name, changes in _by_name([row for row in state.rollouts.all() if row.kind == "Deployment"]).items():
        for start, end in bounds:
            status = _in_force(changes, end)
            if status is None:
                continue
            service = service_of.get(name) or service_of.get(status.service)
            if service is None:
                continue
            target = service if name in service_of else f"{service}/{name}"
            values: tuple[tuple[str, float | None, str], ...] = (
                ("replicas", status.replicas_desired, "1"),
                ("cpu_request", status.cpu_request_cores, "cores"),
                ("cpu_limit", status.cpu_limit_cores, "cores"),
                ("memory_request", status.memory_request_bytes, "bytes"),
                ("memory_limit", status.memory_limit_bytes, "bytes"),
                ("revision", float(status.revision) if status.revision.isdigit() else None, "1"),
            )
            for key, value, unit in values:
                if value is not None:
                    yield _row(start, target, key, value, unit, "actuator")


def _autoscalers(state: RunState, bounds: _Bounds) -> Iterator[Row]:
    service_of = _services(state)
    for changes in _by_name(state.autoscalers.all()).values():
        for start, end in bounds:
            status = _in_force(changes, end)
            if status is None or status.deployment not in service_of:
                continue
            target = service_of[status.deployment]
            yield _row(start, target, "autoscaler_min", status.replicas_min, "1", "actuator")
            yield _row(start, target, "autoscaler_max", status.replicas_max, "1", "actuator")
            if status.cpu_utilization_percent is not None:
                share = status.cpu_utilization_percent / 100
                yield _row(start, target, "autoscaler_cpu_target", share, "1", "actuator")
            yield _row(start, target, "autoscaler_wanted", status.replicas_wanted, "1", "outcome")


def _splits(state: RunState, bounds: _Bounds) -> Iterator[Row]:
    deployments = _by_name([row for row in state.rollouts.all() if row.kind == "Deployment"])
    routes = _by_name(state.routes.all())
    service_of = _services(state)
    for start, end in bounds:
        shares = _shares_of_pods(deployments, service_of, end)
        shares |= {
            service_of[route.parent]: route.weights
            for route in (_in_force(changes, end) for changes in routes.values())
            if route is not None and route.parent in service_of
        }
        for service, weights in shares.items():
            for name, share in weights.items():
                yield _row(start, f"{service}/{name}", "traffic_share", share, "1", "actuator")


def _shares_of_pods(
    deployments: Mapping[str, Timeline[RolloutStatus]], service_of: Mapping[str, str], end: int
) -> dict[str, Mapping[str, float]]:
    """Return what share of each service's pods each of its Deployments was asked for, where it has several."""
    asked: dict[str, dict[str, int]] = {}
    for name, changes in deployments.items():
        status = _in_force(changes, end)
        service = None if status is None else service_of.get(name) or service_of.get(status.service)
        if status is not None and service is not None:
            asked.setdefault(service, {})[name] = status.replicas_desired
    return {
        service: {name: count / sum(replicas.values()) for name, count in replicas.items()}
        for service, replicas in asked.items()
        if len(replicas) > 1 and sum(replicas.values()) > 0
    }


def _services(state: RunState) -> dict[str, str]:
    """Return the node of each Deployment that is declared; Services are named as their Deployments are."""
    return {node.deployment: node.id for node in state.graph.nodes if node.deployment}


def _by_name(rows: Sequence[RowT]) -> dict[str, Timeline[RowT]]:
    """Return the changes of each object of a kind, by name."""
    named: dict[str, list[RowT]] = {}
    for row in rows:
        named.setdefault(row.name, []).append(row)
    found = {}
    for name in sorted(named):
        found[name] = Timeline[RowT](lambda _: ())  # as they happened
        found[name].extend(named[name])
    return found


def _in_force(changes: Timeline[RowT], end: int) -> RowT | None:
    """Return an object as it was just before a moment, or None if it wasn't there."""
    status = changes.last(end - 1)
    return None if status is None or status.change == "deleted" else status


# --- flags ----------------------------------------------------------------------------------------------------------------


def _flags(state: RunState, bounds: _Bounds) -> Iterator[Row]:
    """Yield the values of the flags that the run sets at any time."""
    lives = [life for life in state.truth.lives.all() if life.requested.action_type == "feature_flag"]
    for name in sorted({str(life.requested.parameters.get("flag", "")) for life in lives}):
        flag = state.settings.services.flags.get(name)
        if flag is None:
            continue
        values = {variant: _number(value, position) for position, (variant, value) in enumerate(flag.variants.items())}
        for start, end in bounds:
            variants = [str(life.requested.parameters.get("variant")) for life in lives if _held(life, name, end)]
            value = values.get(variants[-1] if variants else flag.default, 0.0)
            yield _row(start, name, "flag", value, "1", "exogenous", visibility="truth")


def _held(life: Life, flag: str, end: int) -> bool:
    """Return whether a flag was set by an intervention just before a moment."""
    if life.applied is None or life.requested.parameters.get("flag") != flag:
        return False
    return life.applied.time < end and (life.reverted is None or life.reverted.time >= end)


def _number(value: bool | float | str, position: int) -> float:
    """Return a variant's value as a number; of a text, its position among the variants."""
    return float(position) if isinstance(value, str) else float(value)


def _row(time: int, target: str, name: str, value: float, unit: str, kind: Kind, *, visibility: str = "public") -> Row:
    return {
        "time": time,
        "target": target,
        "name": name,
        "value": float(value),
        "unit": unit,
        "class": kind,
        "visibility": visibility,
    }
