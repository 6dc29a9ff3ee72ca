"""Readings of the workload and of Deployments ➜ rows of `control_inputs.parquet`.

In: a state and a range of buckets. Out: a row per bucket, target and name. *Exogenous* is what nobody here decides; *actuator* what an
action can set. A name whose source wasn't read in a bucket has no row there. What is set at a bucket's end belongs to the next one: a
row never shows the action that was decided on it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from otel_control_gym.projections.demand import demand
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.growth import Buckets
from otel_control_gym.projections.timelines import Timeline

__all__ = ("control_input_rows",)

Row = dict[str, Any]


def control_input_rows(state: RunState, buckets: Buckets) -> list[Row]:
    """Return the rows of the control inputs table, sorted by (time, target, name)."""
    rows = [*_workload(state, buckets), *_deployments(state, buckets)]
    return sorted(rows, key=lambda row: (row["time"], row["target"], row["name"]))


def _workload(state: RunState, buckets: Buckets) -> list[Row]:
    asked = demand(state, buckets)
    starts = state.origin + buckets.edges[:-1] * state.samples.interval
    rows = []
    for position, reading in enumerate(asked.readings):
        if reading is None:
            continue
        time = int(starts[position])
        for name, grown, kind in (
            ("offered_rate", asked.scheduled[position], "exogenous"),
            ("served_rate", asked.served[position], "outcome"),
        ):
            if not np.isnan(grown):
                rows.append(_row(time, "", name, grown / asked.seconds[position], "1/s", kind))
        rows.append(_row(time, "", "users_target", reading.users_target, "1", "actuator"))
        rows.append(_row(time, "", "users_active", reading.users_active, "1", "outcome"))
        rows += [_row(time, flow, "mix_share", reading.mix[flow], "1", "actuator") for flow in reading.mix]
    return rows


def _deployments(state: RunState, buckets: Buckets) -> list[Row]:
    service_of = {node.deployment: node.id for node in state.graph.nodes}
    named: dict[str, list[Any]] = {}
    for row in state.rollouts.all():
        if row.kind == "Deployment" and row.name in service_of:
            named.setdefault(row.name, []).append(row)
    edges = state.origin + buckets.edges * state.samples.interval
    rows: list[Row] = []
    for name in sorted(named):
        changes = Timeline[Any](lambda row: (row.name,))
        changes.extend(named[name])
        for start, end in pairwise(edges.tolist()):
            status = changes.last(end - 1)
            if status is None or status.change == "deleted":
                continue
            values = (
                ("replicas", status.replicas_desired, "1"),
                ("cpu_request", status.cpu_request_cores, "cores"),
                ("cpu_limit", status.cpu_limit_cores, "cores"),
                ("memory_request", status.memory_request_bytes, "bytes"),
                ("memory_limit", status.memory_limit_bytes, "bytes"),
            )
            rows += [
                _row(start, service_of[name], key, value, unit, "actuator")
                for key, value, unit in values
                if value is not None
            ]
    return rows


def _row(time: int, target: str, name: str, value: float, unit: str, kind: str) -> Row:
    return {
        "time": time,
        "target": target,
        "name": name,
        "value": float(value),
        "unit": unit,
        "class": kind,
        "visibility": "public",
    }
