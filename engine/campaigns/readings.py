"""An observation, or a run's tables ➜ the readings that effects are looked for in.

In: telemetry after a decision. Out: `Readings`, the same columns in the same order from either. Users' satisfaction comes with the rewards:
it is a column of the objective's service, known in the last bucket of each part that was judged as one.

Upstream: `engine.env`, `engine.runs`. Downstream: `effects`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.campaigns.effects import Column, Readings
from otel_control_gym.engine.observation import Observation
from otel_control_gym.engine.runs import Run

__all__ = ("SATISFACTION", "observed_readings", "recorded_readings")

SATISFACTION = "slo_satisfaction"  #: a component of the reward

Float = npt.NDArray[np.float64]


def observed_readings(
    observation: Observation, satisfaction: Sequence[float | None], *, features: Sequence[str], entry: str
) -> Readings:
    """Return the readings of an observation, whole.

    Args:
        observation: of the time since the decision, and of no more.
        satisfaction: `slo_satisfaction` of each of the equal parts of that time; null where it isn't known.
        features: which columns of both tables are wanted.
        entry: the objective's service.
    """
    nodes = [(name, observation.nodes[:, number]) for number, name in enumerate(observation.node_names)]
    edges = [
        (f"{source}->{target}", observation.edges[:, number])
        for number, (source, target, _) in enumerate(observation.edge_names)
    ]
    found: dict[Column, Float] = {}
    for names, entities in ((observation.node_features, nodes), (observation.edge_features, edges)):
        for entity, values in entities:
            for position, feature in enumerate(names):
                if feature in features:
                    found[Column(entity, feature)] = values[:, position]
    buckets = len(observation.time)
    seconds = int(observation.time[1] - observation.time[0]) // 1_000_000_000
    each = np.full(buckets, np.nan)
    width = buckets // len(satisfaction)
    each[width - 1 :: width] = [np.nan if value is None else value for value in satisfaction]
    found[Column(entry, SATISFACTION)] = each
    return _readings(found, seconds)


def recorded_readings(run: Run, *, start: datetime, seconds: int, features: Sequence[str], entry: str) -> Readings:
    """Return the readings of a finished run's tables in the `seconds` after `start`; blocking.

    Raises: DatasetError: a table can't be read.
    """
    bucket = int(run.metadata["granularity_config"]["observation_bucket_seconds"])
    reward = int(run.metadata["granularity_config"]["reward_bucket_seconds"])
    end = start + timedelta(seconds=seconds)
    found: dict[Column, Float] = {}
    for table, keys in (("node_features", ("service",)), ("edge_features", ("source", "target"))):
        rows = run.table(table, start=start, end=end).to_arrow()
        places = [np.array(rows.column(key).to_pylist()) for key in keys]
        position = _positions(rows.column("time").to_pylist(), start, bucket)
        entities = ["->".join(map(str, parts)) for parts in zip(*places, strict=True)]
        for feature in features:
            if feature in rows.schema.names:
                values = rows.column(feature).to_numpy(zero_copy_only=False).astype(float)
                for entity, where, value in zip(entities, position, values, strict=True):
                    column = found.setdefault(Column(entity, feature), np.full(seconds // bucket, np.nan))
                    column[where] = value
    satisfaction = np.full(seconds // bucket, np.nan)
    rewards = run.table("rewards", start=start, end=end).to_arrow()
    for where, components in zip(
        _positions(rewards.column("time").to_pylist(), start, bucket),
        rewards.column("components").to_pylist(),
        strict=True,
    ):
        satisfaction[where + reward // bucket - 1] = dict(components).get(SATISFACTION, np.nan)
    found[Column(entry, SATISFACTION)] = satisfaction
    return _readings(found, bucket)


def _positions(times: Sequence[datetime], start: datetime, bucket: int) -> list[int]:
    return [round((time - start).total_seconds()) // bucket for time in times]


def _readings(found: Mapping[Column, Float], bucket_seconds: int) -> Readings:
    columns = tuple(sorted(found))
    return Readings(columns, np.stack([found[column] for column in columns], axis=-1), bucket_seconds)
