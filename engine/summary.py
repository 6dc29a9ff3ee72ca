"""A run directory ➜ what happened, as one record: for the command line, notebooks and plots.

In: the tables of a run (`projections.dataset` writes them). Out: a `Summary` with the actions and interventions in order, and tracks
over time (reward, service level, the entry service, the services' CPU). Nothing is computed anew: every number is a cell of a table.
Times are seconds since control began, so warm-up is negative; `engine.plot` draws this record.
"""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from otel_control_gym.engine.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ("Happening", "ServiceTrack", "Summary", "Track", "summarise")

SLO_COMPONENT = "slo_satisfaction"
_UNITS = {
    "request_rate": "1/s",
    "error_ratio": "1",
    "latency_p95_ms": "ms",
    "cpu_usage_cores": "cores",
    "cpu_saturation": "1",
    "replicas_ready": "pods",
}


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One action or intervention, as the actions table tells it; times in seconds of control, null until they happened."""

    seconds: float
    action_class: str
    action_type: str
    target: str
    parameters: dict[str, Any]
    status: str
    applied_seconds: float | None
    effective_seconds: float | None
    reverted_seconds: float | None
    error: str | None

    def settings(self) -> str:
        """Return the parameters in a few words: a word for the strength in place of the numbers that it stands for."""
        hidden = ["type", "target", "duration_seconds", "persistence"]
        intensity = self.parameters.get("intensity")
        if intensity is not None:
            return str(intensity)
        known = {name: value for name, value in self.parameters.items() if name not in hidden and value is not None}
        return " ".join(f"{name}={value}" for name, value in known.items())


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """A column over time; `values` has null where nothing is known."""

    unit: str
    seconds: list[float]  #: start of each bucket
    values: list[float | None]

    def known(self) -> list[float]:
        """Return the values that are known."""
        return [value for value in self.values if value is not None]


class ServiceTrack(msgspec.Struct, frozen=True, kw_only=True):
    """What one service did, per bucket."""

    service: str
    request_rate: Track
    error_ratio: Track
    latency_p95_ms: Track
    cpu_usage_cores: Track
    cpu_saturation: Track
    replicas_ready: Track


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run was and what happened in it."""

    run_id: str
    path: str
    status: str
    void_rule: str | None  #: id of the rule by which it is void
    void_reason: str | None
    done_reason: str | None
    stand: str
    service_config: str
    workload: str
    policy: str
    seed: int | None
    content_digest: str | None
    control_seconds: float
    bucket_seconds: float
    reward_bucket_seconds: float
    entry: str
    availability_objective: float
    latency_objective_ms: float
    actions: list[Happening]  #: without `noop`
    decisions: int  #: control steps, `noop` included
    decided_seconds: list[float]  #: when each decision was made
    reward: Track
    slo: Track
    services: list[ServiceTrack]

    def service(self, name: str) -> ServiceTrack:
        """Return one service's track."""
        return next(track for track in self.services if track.service == name)

    @property
    def reward_total(self) -> float:
        """Sum of the rewards since control began."""
        return self.reward_between(0, self.control_seconds)

    def reward_between(self, start: float, end: float) -> float:
        """Return the sum of the rewards of the buckets that begin in [start, end), in seconds of control."""
        return math.fsum(
            value
            for at, value in zip(self.reward.seconds, self.reward.values, strict=True)
            if value is not None and start <= at < end
        )


def summarise(directory: Path) -> Summary:
    """Return what happened in the run that a directory holds.

    Raises: DatasetError: the directory isn't a run, or a table is missing.
    """
    metadata = _metadata(directory)
    actions = _table(directory, "actions").to_pylist()
    origin = _control_start(actions, metadata)
    rewards, nodes = _table(directory, "rewards"), _table(directory, "node_features")
    granularity = metadata["granularity_config"]
    reward = metadata["effective_configuration"]["reward"]
    objective = reward["objective"]
    decisions = [row for row in actions if row["decision_step"] is not None]
    return Summary(
        run_id=metadata["run_id"],
        path=str(directory),
        status=metadata["status"],
        void_rule=metadata["void_rule"],
        void_reason=metadata.get("void_reason"),  # version 1 has none
        done_reason=metadata["done_reason"],
        stand=metadata["stand"],
        service_config=metadata["service_config"],
        workload=metadata["workload_profile"],
        policy=metadata["policy_name"],
        seed=metadata["seed"],
        content_digest=metadata["content_digest"],
        control_seconds=len(decisions) * granularity["control_step_seconds"],
        bucket_seconds=granularity["observation_bucket_seconds"],
        reward_bucket_seconds=granularity["reward_bucket_seconds"],
        entry=objective["service"],
        availability_objective=objective["availability"],
        latency_objective_ms=objective["latency_ms"],
        actions=[_happening(row, origin) for row in actions if row["action_type"] != "noop"],
        decisions=len(decisions),
        decided_seconds=sorted((row["requested"] - origin).total_seconds() for row in decisions),
        reward=_track("1", _seconds(rewards, origin), rewards["value"].to_pylist()),
        slo=_component(rewards, SLO_COMPONENT, origin),
        services=_services(nodes, origin),
    )


def _metadata(directory: Path) -> dict[str, Any]:
    path = directory / "metadata.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} can't be read: {error}\n  `ocg rebuild` makes a run's tables anew from its log"
        ) from error
    return found


def _table(directory: Path, name: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = directory / f"{name}.parquet"
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(
            f"{path} can't be read: {error}\n  `ocg rebuild` makes a run's tables anew from its log"
        ) from error


def _control_start(actions: list[dict[str, Any]], metadata: dict[str, Any]) -> datetime:
    """Return when control began: after the warm-up (a cluster's first decision is later), or the run's start if nothing was decided."""
    start = datetime.fromisoformat(metadata["run_start"])
    decided = any(row["decision_step"] == 0 for row in actions)
    return start + timedelta(seconds=metadata["granularity_config"]["warmup_seconds"]) if decided else start


def _happening(row: dict[str, Any], origin: datetime) -> Happening:
    def since(moment: datetime | None) -> float | None:
        return None if moment is None else (moment - origin).total_seconds()

    return Happening(
        seconds=(row["requested"] - origin).total_seconds(),
        action_class=row["action_class"],
        action_type=row["action_type"],
        target=row["target"] or "",
        parameters=json.loads(row["parameters"]),
        status=row["status"] or "unsettled",
        applied_seconds=since(row["applied"]),
        effective_seconds=since(row["effective"]),
        reverted_seconds=since(row["reverted"]),
        error=row["error"],
    )


def _seconds(table: pa.Table, origin: datetime) -> list[float]:
    return [(moment - origin).total_seconds() for moment in table["time"].to_pylist()]


def _track(unit: str, seconds: list[float], values: list[float | None]) -> Track:
    return Track(unit=unit, seconds=seconds, values=values)


def _component(rewards: pa.Table, name: str, origin: datetime) -> Track:
    cells = [dict(components or ()).get(name) for components in rewards["components"].to_pylist()]
    return _track("1", _seconds(rewards, origin), cells)


def _services(nodes: pa.Table, origin: datetime) -> list[ServiceTrack]:
    columns = {field: nodes[field].to_pylist() for field in _UNITS}
    names, seconds = nodes["service"].to_pylist(), _seconds(nodes, origin)
    rows: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        rows.setdefault(name, []).append(number)
    return [
        ServiceTrack(
            service=name,
            **{
                field: _track(unit, [seconds[row] for row in rows[name]], [columns[field][row] for row in rows[name]])
                for field, unit in _UNITS.items()
            },
        )
        for name in sorted(rows)
    ]
