"""A campaign's run directories ➜ what models train on: states at decisions, and what came after them.

In: the directory of a campaign. Out: `CampaignWindows`: for every run its decisions as a `State`, the dynamics of the control steps that
follow, the rewards, and to which family and side of a split it belongs. Public rows alone are read: interventions are hidden. The stratum
(truth) and which decisions were drawn by chance are kept for grouping scores, and are in no state.

- The history ends with the last bucket that closes at or before the request.
- What follows begins with the first bucket that starts at or after the request. At horizon h the foretold value is the mean over the
  control step that ends h after the request; where the run is over before, it is NaN.

Blocking. Upstream: `engine.runs`. Downstream: `next_state`, `reward_model`, `forecasting`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.asked import Asked, asked_in
from otel_control_gym.baselines.channels import (
    EDGE_CHANNELS,
    EDGE_TARGETS,
    NODE_CHANNELS,
    NODE_TARGETS,
    columns_read,
    per_step,
)
from otel_control_gym.baselines.states import LOOK_BACK_STEPS, State, state_from_buckets
from otel_control_gym.baselines.systems import system_of
from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import DatasetError, UsageError, nearest
from otel_control_gym.engine.run_collections import open_runs
from otel_control_gym.engine.runs import Run

__all__ = (
    "HORIZON_STEPS",
    "CampaignWindows",
    "Decision",
    "RunWindows",
    "Side",
    "load_windows",
    "read_split",
    "run_windows",
)

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Side = Literal["train", "validation", "test"]

HORIZON_STEPS: tuple[int, ...] = (1, 3, 10)
"""Horizons of all models, in control steps."""
REWARD_COMPONENTS = ("slo_satisfaction", "recovery_time", "resource_cost", "unsafe_action")
"""Raw components that the heads of the reward model learn."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `actions.parquet`, for grouping scores: never for a model's input."""

    action_id: str
    action_type: str
    requested: int  #: ns
    randomised: bool  #: drawn by chance, with a known probability
    policy: str  #: name and version


class RunWindows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A run's D decisions; N services, E edges, K steps after the decision up to the longest horizon."""

    run_id: str
    family_id: str
    stratum: str
    is_branch: bool
    decisions: tuple[Decision, ...]  #: [D]
    state: State
    nodes: Float  #: [D, K, N, len(NODE_TARGETS)] dynamics of the control steps after the decision
    edges: Float  #: [D, K, E, len(EDGE_TARGETS)]
    rewards: Float  #: [D, K] reward of each of those steps
    components: Float  #: [D, K, len(REWARD_COMPONENTS)]
    breached: npt.NDArray[np.bool_]  #: [D] whether the SLO was breached in the last step before the decision
    recovery_steps: (
        Float  #: [D] steps to the first without a breach, it included; where the run ends before, to its end
    )
    recovered: npt.NDArray[np.bool_]  #: [D] whether that step came

    @property
    def configuration(self) -> str:
        """The application."""
        return self.state.system.name


class CampaignWindows(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A campaign's runs that weren't void, in the order of their ids."""

    campaign: str
    directory: Path
    bucket_seconds: int
    step_seconds: int
    runs: tuple[RunWindows, ...]
    content_digests: tuple[str, ...]  #: of the runs

    def where(self, condition: Callable[[RunWindows], bool]) -> list[RunWindows]:
        """Return the runs for which a condition holds."""
        return [run for run in self.runs if condition(run)]

    def of(self, families: Collection[str]) -> list[RunWindows]:
        """Return the runs of these families."""
        return self.where(lambda run: run.family_id in families)


class _Identity(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `metadata.json` by which scores are grouped."""

    stratum: str | None = None
    parent_run_id: str | None = None


class _Split(msgspec.Struct, frozen=True, kw_only=True):
    parts: dict[Side, tuple[str, ...]]
    digest: str


def load_windows(directory: Path, *, branches: bool = False) -> CampaignWindows:
    """Return the windows of all runs of a campaign that weren't void.

    Args:
        directory: `campaign=NAME`.
        branches: also the runs that branched off others (`parent_run_id`); they belong to their parents' families.

    Raises: UsageError: there is no such campaign, or no run in it, or runs differ in their granularity. DatasetError: a file can't be read.
    """
    if not directory.is_dir():
        name = directory.name.removeprefix("campaign=")
        known = sorted(path.name.removeprefix("campaign=") for path in directory.parent.glob("campaign=*"))
        raise UsageError(f"there is no campaign {name!r} in {directory.parent}\n  {nearest(name, known)}")
    found = list(open_runs(directory))
    loaded = [(run, run_windows(run)) for run in found]
    kept = [(run, windows) for run, windows in loaded if branches or not windows.is_branch]
    if not kept:
        raise UsageError(f"{directory} has no runs to learn from\n  `ocg campaign run` plays them")
    widths = {_granularity(run) for run, _ in kept}
    if len(widths) != 1:
        raise UsageError(
            f"{directory}: runs have buckets and steps of {sorted(widths)} s\n  `ocg campaign rebuild` makes them equal"
        )
    bucket, step = widths.pop()
    return CampaignWindows(
        campaign=directory.name.removeprefix("campaign="),
        directory=directory,
        bucket_seconds=bucket,
        step_seconds=step,
        runs=tuple(windows for _, windows in kept),
        content_digests=tuple(run.content_digest for run, _ in kept),
    )


def read_split(directory: Path, name: str) -> tuple[Mapping[str, Side], str]:
    """Return the side of each family in a split of a campaign, and the split's digest.

    Raises: UsageError: there is no such split. DatasetError: its file can't be read.
    """
    path = directory / "splits" / f"{name}.json"
    if not path.is_file():
        known = sorted(found.stem for found in path.parent.glob("*.json"))
        raise UsageError(f"there is no split {name!r} in {path.parent}\n  {nearest(name, known)}")
    try:
        split = msgspec.json.decode(path.read_bytes(), type=_Split)
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{path} can't be read: {error}\n  `ocg campaign run` writes it anew") from error
    return {family: side for side, families in split.parts.items() for family in families}, split.digest


def run_windows(run: Run) -> RunWindows:
    """Return the decisions of a run, what was known at each, and what followed.

    Raises: DatasetError: a file can't be read. UsageError: its control step is no multiple of its bucket.
    """
    identity = msgspec.json.decode((run.path / "metadata.json").read_bytes(), type=_Identity)
    bucket, step = _granularity(run)
    if step % bucket:
        raise UsageError(f"{run.path}: a control step of {step} s is no multiple of the bucket of {bucket} s")
    system = system_of(run.service_config, run.graph["nodes"], run.graph["edges"])
    table = run.table("actions").to_arrow().to_pylist()
    rows = [row for row in table if row["visibility"] == "public"]
    decided = sorted((row for row in rows if row["decision_step"] is not None), key=lambda row: row["decision_step"])
    asked = [asked_in(row) for row in decided]
    grid = _Grid(run, bucket)
    nodes, node_features = grid.features(
        "node_features", ("service",), [(name,) for name in system.nodes], NODE_CHANNELS
    )
    edges, edge_features = grid.features("edge_features", ("source", "target"), system.edges, EDGE_CHANNELS)
    offered, users = grid.load("offered_rate"), grid.load("users_target")
    width, steps = step // bucket, max(HORIZON_STEPS)
    times = np.array([one.requested for one in asked], np.int64)
    seen = (times - grid.origin) // (bucket * SECOND)
    following = -((grid.origin - times) // (bucket * SECOND))
    back, ahead = LOOK_BACK_STEPS * width, steps * width
    rewards = grid.rewards(times, steps, step)
    state = state_from_buckets(
        system,
        time=times,
        nodes=_cut(nodes, seen - back, back),
        node_features=node_features,
        edges=_cut(edges, seen - back, back),
        edge_features=edge_features,
        offered=_cut(offered, seen - back, back),
        users=_cut(users, seen - back, back),
        bucket_seconds=bucket,
        step_seconds=step,
        now=[None if one.action_type == "noop" else one for one in asked],
        past=[_recent(asked[:number], one.requested, step) for number, one in enumerate(asked)],
        earned=rewards.earned,
    )
    return RunWindows(
        run_id=run.run_id,
        family_id=run.family_id,
        stratum=identity.stratum or "",
        is_branch=identity.parent_run_id is not None,
        decisions=tuple(
            Decision(
                action_id=row["action_id"],
                action_type=row["action_type"],
                requested=one.requested,
                randomised=row["propensity"] is not None and row["propensity"] < 1.0,
                policy=row["policy_version"] or "",
            )
            for row, one in zip(decided, asked, strict=True)
        ),
        state=state,
        nodes=per_step(_cut(nodes, following, ahead), node_features, NODE_TARGETS, width=width),
        edges=per_step(_cut(edges, following, ahead), edge_features, EDGE_TARGETS, width=width),
        rewards=rewards.values,
        components=rewards.components,
        breached=rewards.breached,
        recovery_steps=rewards.recovery_steps,
        recovered=rewards.recovered,
    )


def _recent(earlier: Sequence[Asked], requested: int, step_seconds: int) -> tuple[Asked, ...]:
    since = requested - LOOK_BACK_STEPS * step_seconds * SECOND
    return tuple(asked for asked in earlier if asked.action_type != "noop" and since <= asked.requested < requested)


def _granularity(run: Run) -> tuple[int, int]:
    found = run.metadata["granularity_config"]
    return found["observation_bucket_seconds"], found["control_step_seconds"]


def _cut(cells: Float, starts: Int, length: int) -> Float:
    """Return `length` buckets from each start on, [D, length, ...]; those outside the run are unknown."""
    wanted = starts[:, np.newaxis] + np.arange(length)
    inside = (wanted >= 0) & (wanted < len(cells))
    cut = cells[np.clip(wanted, 0, max(0, len(cells) - 1))]
    return np.where(inside.reshape(*inside.shape, *[1] * (cells.ndim - 1)), cut, np.nan)


class _Rewards(NamedTuple):
    values: Float  #: [D, K]
    components: Float  #: [D, K, components]
    earned: Float  #: [D, len(EARNED)] in the step before
    breached: npt.NDArray[np.bool_]  #: [D]
    recovery_steps: Float  #: [D]
    recovered: npt.NDArray[np.bool_]  #: [D]


class _Grid:
    """A run's tables as arrays over its buckets."""

    def __init__(self, run: Run, bucket_seconds: int) -> None:
        self._run, self._bucket = run, bucket_seconds
        self.origin = _nanoseconds(datetime.fromisoformat(run.run_start))
        end = _nanoseconds(datetime.fromisoformat(run.run_end))
        self._count = max(0, (end - self.origin) // (bucket_seconds * SECOND))

    def features(
        self, table: str, keys: Sequence[str], entities: Iterable[tuple[str, ...]], channels: Sequence[str]
    ) -> tuple[Float, tuple[str, ...]]:
        """Return the cells that the channels need, [buckets, entities, features], and the features' names."""
        features = columns_read(channels)
        rows = self._run.table(table, columns=["time", *keys, *features]).to_arrow()
        position = {entity: number for number, entity in enumerate(entities)}
        named = zip(*(rows[key].to_pylist() for key in keys), strict=True)
        entity = np.array([position.get(key, -1) for key in named], np.int64)
        cells = np.full((self._count, len(position), len(features)), np.nan)
        bucket = self._buckets(rows["time"])
        inside = (entity >= 0) & (bucket >= 0) & (bucket < self._count)
        for number, feature in enumerate(features):
            values = rows[feature].to_numpy(zero_copy_only=False).astype(np.float64)
            cells[bucket[inside], entity[inside], number] = values[inside]
        return cells, features

    def load(self, name: str) -> Float:
        """Return a number of the workload's, [buckets]."""
        rows = self._run.table("control_inputs", columns=["time", "name", "value"]).to_arrow()
        chosen = np.array([one == name for one in rows["name"].to_pylist()], bool)
        bucket = self._buckets(rows["time"])
        inside = chosen & (bucket >= 0) & (bucket < self._count)
        cells = np.full(self._count, np.nan)
        cells[bucket[inside]] = rows["value"].to_numpy(zero_copy_only=False).astype(np.float64)[inside]
        return cells

    def rewards(self, times: Int, steps: int, step_seconds: int) -> _Rewards:
        """Return what the control steps after each decision earned, and how long a breach went on.

        Of a step, the buckets count that end in it; a step of which one has no value is NaN.
        """
        length = int(self._run.metadata["granularity_config"]["reward_bucket_seconds"]) * SECOND
        rows = self._run.table("rewards", columns=["time", "value", "components"]).to_arrow().to_pylist()
        ends = np.array([_nanoseconds(row["time"]) + length for row in rows], np.int64)
        earned = np.array([_numbers(row) for row in rows], np.float64).reshape(len(rows), 1 + len(REWARD_COMPONENTS))
        step = step_seconds * SECOND
        before = self._steps(times - step, 1, step, ends, earned)[:, 0]
        after = self._steps(times, steps, step, ends, earned)
        breach = 1 + REWARD_COMPONENTS.index("recovery_time")
        most = max(1, int((ends.max() - times.min()) // step)) if len(times) and len(ends) else 1
        calm = self._steps(times, most, step, ends, earned)[..., breach]  # NaN beyond the run
        ended = calm == 0
        recovered = ended.any(axis=1)
        first = np.where(recovered, ended.argmax(axis=1) + 1, np.isfinite(calm).sum(axis=1))
        return _Rewards(
            values=after[..., 0],
            components=after[..., 1:],
            earned=before[:, [0, breach, 1 + REWARD_COMPONENTS.index("resource_cost")]],
            breached=before[:, breach] > 0,
            recovery_steps=first.astype(np.float64),
            recovered=recovered,
        )

    @staticmethod
    def _steps(times: Int, count: int, step: int, ends: Int, earned: Float) -> Float:
        """Return the sums over the buckets that end in each of the steps after each moment, [D, count, values]."""
        place = -((times[:, np.newaxis] - ends) // step) - 1  # [D, buckets]: the step that a bucket ends in
        decision, bucket = np.nonzero((place >= 0) & (place < count))
        sums, buckets = np.zeros((len(times), count, earned.shape[1])), np.zeros((len(times), count, 1))
        np.add.at(sums, (decision, place[decision, bucket]), earned[bucket])
        np.add.at(buckets, (decision, place[decision, bucket]), 1.0)
        return np.where(buckets > 0, sums, np.nan)

    def _buckets(self, times: Any) -> Int:
        found: Int = (times.cast("int64").to_numpy() * 1000 - self.origin) // (self._bucket * SECOND)
        return found


def _numbers(row: Mapping[str, Any]) -> list[float]:
    components = dict(row["components"])
    value = row["value"]
    return [np.nan if value is None else value, *(components.get(name, np.nan) for name in REWARD_COMPONENTS)]


def _nanoseconds(moment: datetime) -> int:
    return int(moment.replace(microsecond=0).timestamp()) * SECOND + moment.microsecond * 1000
