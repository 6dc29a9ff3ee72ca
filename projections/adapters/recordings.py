"""A run as the adapters see it: its documents and tables, and columns of the feature tables as arrays over time.

In: what a run's directory holds, read by the caller. Out: `Recording`, its `Series`, its faults as `Incident`s.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ("MICROSECOND", "Incident", "Recording", "Series")

MICROSECOND = 1_000_000  #: in a second
EntityT = tuple[str, ...]


class Series(msgspec.Struct, frozen=True, eq=False):
    """One column of a feature table over time."""

    times: npt.NDArray[np.int64]  #: [T] start of each bucket, microseconds since the epoch
    entities: tuple[EntityT, ...]  #: [K] (service,), or (source, target, protocol)
    values: npt.NDArray[np.float64]  #: [T, K]; NaN where unknown


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that took effect; times in microseconds since the epoch. Ground truth."""

    action_id: str
    fault_type: str
    kind: str  #: service, dependency, workload, edge or group: what the target is in the graph
    target: str
    service: str  #: the target, or the called end of an edge; empty for a workload or group
    intensity: str | None
    injected: int  #: the stand accepted it
    end: int  #: it was seen to be over, else when the run ended
    end_censored: bool
    expected_symptoms: tuple[str, ...]


class Recording(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a run's directory holds."""

    metadata: Mapping[str, Any]
    graph: Mapping[str, Any]
    tables: Mapping[str, pa.Table]  #: by name, without `.parquet`

    @property
    def run_id(self) -> str:
        """The run's id."""
        return str(self.metadata["run_id"])

    @property
    def bucket_seconds(self) -> int:
        """Width of the feature tables' buckets."""
        return int(self.metadata["granularity_config"]["observation_bucket_seconds"])

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Nodes of the graph, sorted."""
        return tuple(sorted(node["id"] for node in self.graph["nodes"]))

    @property
    def start(self) -> int:
        """The run's start, microseconds since the epoch."""
        return _microseconds(self.metadata["run_start"])

    def nodes(self, column: str) -> Series:
        """Return a column of `node_features` over time."""
        return _series(self.tables["node_features"], ("service",), column)

    def edges(self, column: str) -> Series:
        """Return a column of `edge_features` over time."""
        return _series(self.tables["edge_features"], ("source", "target", "protocol"), column)

    def incidents(self) -> tuple[Incident, ...]:
        """Return the faults that took effect, in the order of their injection; one of strength zero is none."""
        actions = {row["action_id"]: row for row in _rows(self.tables["actions"])}
        found = []
        for label in _rows(self.tables["labels"]):
            action = actions[label["action_id"]]
            if not label["is_fault"] or not label["applied"] or label["intensity"] == "zero":
                continue
            end = label["actual_end"]
            found.append(
                Incident(
                    action_id=label["action_id"],
                    fault_type=label["fault_type"],
                    kind=label["root_cause_kind"],
                    target=label["target"],
                    service=action["target_service"] or "",
                    intensity=label["intensity"],
                    injected=_instant(action["applied"] or label["start"]),
                    end=_microseconds(self.metadata["run_end"]) if end is None else _instant(end),
                    end_censored=end is None,
                    expected_symptoms=tuple(label["expected_symptoms"]),
                )
            )
        return tuple(sorted(found, key=lambda incident: (incident.injected, incident.action_id)))

    def reactions(self) -> tuple[tuple[int, str, str], ...]:
        """Return (applied, action_id, `type target`) of the actions that changed something, in order; public knowledge."""
        return tuple(
            (_instant(row["applied"]), row["action_id"], f"{row['action_type']} {row['target']}".strip())
            for row in _rows(self.tables["actions"])
            if row["action_class"] == "action" and row["action_type"] != "noop" and row["applied"] is not None
        )


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _series(table: pa.Table, keys: tuple[str, ...], column: str) -> Series:
    """Return a column as [T, K]: a feature table has every entity in every bucket, sorted by time, then entity."""
    moments = table.column("time").cast(pa.int64()).to_numpy()
    times = np.unique(moments)
    parts = [table.column(key).to_pylist() for key in keys]
    count = len(moments) // max(1, len(times))
    values = table.column(column).to_numpy().astype(np.float64).reshape(len(times), count)
    return Series(times, tuple(zip(*(part[:count] for part in parts), strict=True)), values)


def _microseconds(text: str) -> int:
    return _instant(datetime.fromisoformat(text))


def _instant(moment: datetime) -> int:
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * MICROSECOND + since.microseconds
