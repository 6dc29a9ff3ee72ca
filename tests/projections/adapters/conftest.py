"""Runs as the adapters see them, with series and faults that a test states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from otel_control_gym.projections import schemas
from otel_control_gym.projections.adapters import Recording
from otel_control_gym.projections.tables import arrow_schema

START = datetime(2026, 1, 5, tzinfo=UTC)
SERVICES = ("cart", "checkout", "frontend")
EDGES = (("checkout", "cart", "grpc"), ("frontend", "cart", "grpc"), ("frontend", "checkout", "grpc"))
Values = npt.NDArray[np.float64]


def _feature_table(
    schema: schemas.TableSchema,
    keys: Sequence[tuple[str, ...]],
    names: Sequence[str],
    columns: Mapping[str, Values],
    *,
    width: int,
) -> pa.Table:
    """Return a feature table of [T, K] columns; a column that isn't given is null, `coverage` is 1."""
    count = len(next(iter(columns.values())))
    times = [START + timedelta(seconds=width * bucket) for bucket in range(count)]
    content: dict[str, Any] = {"time": [time for time in times for _ in keys], "run_id": ["R1"] * (count * len(keys))}
    for place, name in enumerate(names):
        content[name] = [key[place] for key in keys] * count
    arrow = arrow_schema(schema)
    for column in schema.columns:
        if column.name in content:
            continue
        values = columns.get(column.name)
        if column.name == "coverage":
            content[column.name] = [1.0] * (count * len(keys))
        elif values is None:
            content[column.name] = [None] * (count * len(keys))
        else:
            content[column.name] = [None if np.isnan(value) else float(value) for value in values.ravel()]
    arrays = [
        pa.array(content[field.name], pa.string()).dictionary_encode().cast(field.type)
        if pa.types.is_dictionary(field.type)
        else pa.array(content[field.name], field.type)
        for field in arrow
    ]
    return pa.Table.from_arrays(arrays, schema=arrow)


def _fault(number: int, fault: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a fault's rows of `actions` and `labels`."""
    start = START + timedelta(seconds=fault["at"])
    end = None if fault.get("until") is None else START + timedelta(seconds=fault["until"])
    target, kind = fault["target"], fault.get("kind", "service")
    service = {"service": target, "edge": target.partition("->")[2]}.get(kind)
    action_id = f"fault-{number}"
    return (
        {
            "action_id": action_id,
            "action_type": fault.get("type", "cpu_pressure"),
            "action_class": "intervention",
            "target": target,
            "target_service": service,
            "applied": start,
        },
        {
            "action_id": action_id,
            "is_fault": True,
            "fault_type": fault.get("type", "cpu_pressure"),
            "target": target,
            "start": start,
            "actual_end": end,
            "intensity": fault.get("intensity", "severe"),
            "root_cause_kind": kind,
            "expected_symptoms": [f"{target}:cpu_usage_cores", f"{target}:latency"],
            "applied": fault.get("applied", True),
        },
    )


def _reaction(number: int, reaction: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    applied = START + timedelta(seconds=reaction["at"])
    action_id = f"action-{number}"
    return (
        {
            "action_id": action_id,
            "action_type": reaction["type"],
            "action_class": "action",
            "target": reaction["target"],
            "target_service": reaction["target"],
            "applied": applied,
        },
        {
            "action_id": action_id,
            "is_fault": False,
            "fault_type": None,
            "target": reaction["target"],
            "start": applied,
            "actual_end": None,
            "intensity": None,
            "root_cause_kind": "service",
            "expected_symptoms": [],
            "applied": True,
        },
    )


@pytest.fixture
def recording() -> Callable[..., Recording]:
    """Makes a run of three services from columns [T, 3] by service and edge, and faults {at, until, target, …} in seconds."""

    def make(
        nodes: Mapping[str, Values],
        *,
        edges: Mapping[str, Values] | None = None,
        faults: Sequence[Mapping[str, Any]] = (),
        reactions: Sequence[Mapping[str, Any]] = (),
        width: int = 5,
        services: Sequence[str] = SERVICES,
        topology: Sequence[tuple[str, str, str]] = EDGES,
    ) -> Recording:
        count = len(next(iter(nodes.values())))
        names = [(service,) for service in services]
        rows = [_fault(number, fault) for number, fault in enumerate(faults, 1)]
        rows += [_reaction(number, reaction) for number, reaction in enumerate(reactions, 1)]
        return Recording(
            metadata={
                "run_id": "R1",
                "family_id": "F1",
                "run_start": START.isoformat(),
                "run_end": (START + timedelta(seconds=width * count)).isoformat(),
                "granularity_config": {"observation_bucket_seconds": width},
            },
            graph={
                "nodes": [{"id": service, "kind": "service", "optional_group": None} for service in services],
                "edges": [
                    {"source": source, "target": target, "protocol": protocol} for source, target, protocol in topology
                ],
            },
            tables={
                "node_features": _feature_table(schemas.NODE_FEATURES, names, ("service",), nodes, width=width),
                "edge_features": _feature_table(
                    schemas.EDGE_FEATURES,
                    topology,
                    ("source", "target", "protocol"),
                    edges or {"request_count": np.ones((count, len(topology)))},
                    width=width,
                ),
                "actions": pa.Table.from_pylist([action for action, _ in rows]),
                "labels": pa.Table.from_pylist([label for _, label in rows]),
            },
        )

    return make
