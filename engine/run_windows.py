"""A run's tables ➜ its decision steps as numpy arrays: what was seen, what was done, what came of it.

In: a `Run`. Out: `Windows`, a sequence of `Window` records, one per decision (`noop` too), whose arrays all have the same shapes: what a
PyTorch `DataLoader` wants of a `Dataset`, without PyTorch. Axes are named by `Windows.axes`.

What is known when (the reason why this isn't left to every reader):
- The history ends with the last bucket that closes at or before the request; what a policy saw live, it sees here, bit for bit.
- The action is what was asked for: type, target, parameters, planned duration. Whether it was accepted, and when it took effect, is an
  outcome, and is not in it.
- What comes after begins with the first bucket that starts at or after the request. A bucket that the request lies within is in neither.
- Inputs of class `outcome` (what the stand did with what it was given) are left out; future inputs are in `next_observation` alone.
- Labels are truth: all masked unless the run was opened with `truth=True`.

The tables are folds of the whole log. On the twin, that is what was known at the time; on a cluster a sample may have come in after the
decision that stands in a bucket before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.projections import COMPONENTS
from otel_control_gym.projections.schemas import EDGE_NUMBERS, NODE_NUMBERS

if TYPE_CHECKING:
    from otel_control_gym.engine.runs import Run

__all__ = ("Axes", "Window", "WindowAction", "WindowLabel", "WindowObservation", "WindowReward", "Windows")

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

_MICROSECONDS = SECOND // 1_000_000  #: nanoseconds in one
NONE = -1  #: index of what isn't on an axis


class WindowObservation(NamedTuple):
    """T buckets before a decision, or after it. Unknown cells are NaN, and False in the mask."""

    time: Int  #: [T] start of each bucket, ns since the epoch
    nodes: Float  #: [T, N, F]
    node_mask: Bool  #: [T, N, F] known
    edges: Float  #: [T, E, G]
    edge_mask: Bool  #: [T, E, G] known
    inputs: Float  #: [T, I] exogenous and actuator inputs of `control_inputs.parquet`
    input_mask: Bool  #: [T, I] known


class WindowAction(NamedTuple):
    """What was asked for, as it was known at the request."""

    type: Int  #: [] index in `axes.action_types`
    node: Int  #: [] index in `axes.node_names` of the target, -1 if it is no service
    edge: Int  #: [] index in `axes.edge_names` of the target (its first protocol), -1 if it is no edge
    parameters: Float  #: [P] values of `axes.parameters`, NaN where the action has none
    parameter_mask: Bool  #: [P]


class WindowReward(NamedTuple):
    """Sum over the reward buckets that end after the request, up to the horizon's end."""

    value: Float  #: [] NaN unless all of them have a value
    mask: Bool  #: []
    components: Float  #: [K] raw components, `axes.reward_components`
    component_mask: Bool  #: [K]


class WindowLabel(NamedTuple):
    """Faults that were in force at any time of the horizon; those of strength zero don't count."""

    mask: Bool  #: [] False: not shown (the run was opened without `truth`), all else is False
    faults: Bool  #: [C] by kind, `axes.fault_types`
    nodes: Bool  #: [N] services that were aimed at
    edges: Bool  #: [E] edges that were aimed at


class Window(NamedTuple):
    """One decision step."""

    observation: WindowObservation
    action: WindowAction
    next_observation: WindowObservation
    reward: WindowReward
    label: WindowLabel


class Axes(msgspec.Struct, frozen=True, kw_only=True):
    """What the positions along the arrays' axes mean. The last four are the same for every run of a version of this package."""

    node_names: tuple[str, ...]  #: N, in the order of graph.json, as in observations
    node_features: tuple[str, ...]  #: F
    edge_names: tuple[tuple[str, str, str], ...]  #: E: source, target, protocol
    edge_features: tuple[str, ...]  #: G
    inputs: tuple[tuple[str, str], ...]  #: I: target, name
    action_types: tuple[str, ...]  #: the catalogue's
    parameters: tuple[str, ...]  #: P: duration_s, and every numeric parameter of the catalogue
    reward_components: tuple[str, ...]  #: K
    fault_types: tuple[str, ...]  #: C: the catalogue's interventions


class Windows(Sequence[Window]):
    """The decision steps of a run; `windows[i]` is `(observation, action, next_observation, reward, label)`.

    Each part is a named tuple of numpy arrays, with masks, so that `torch.utils.data.DataLoader(run.windows(), batch_size=32)` works as it
    is. `stacked()` returns all of them at once with a leading axis. Tables are read once, at the first access.
    """

    def __init__(
        self, run: Run, *, history: int | None = None, horizon: int | None = None, partial: bool = False
    ) -> None:
        granularity = run.metadata["granularity_config"]
        self.run = run
        self.bucket_seconds: int = granularity["observation_bucket_seconds"]
        self.history_seconds = self._checked("history", history or granularity["observation_window_seconds"])
        self.horizon_seconds = self._checked("horizon", horizon or granularity["control_step_seconds"])
        self._reward_seconds: int = granularity["reward_bucket_seconds"]
        self._partial = partial

    def _checked(self, name: str, seconds: int) -> int:
        if seconds <= 0 or seconds % self.bucket_seconds:
            raise UsageError(
                f"{name} = {seconds}: no multiple of the run's bucket of {self.bucket_seconds} s\n"
                f"  use {self.bucket_seconds} or a multiple of it; `ocg rebuild --bucket` makes another bucket"
            )
        return seconds

    def __len__(self) -> int:
        return len(self.decisions)

    def __getitem__(self, index: int) -> Window:  # type: ignore[override]  # no slices: a window is one step
        decision = self.decisions[index]
        requested = _nanoseconds(decision["requested"])
        position = requested - self._cells.origin
        width = self.bucket_seconds * SECOND
        history, horizon = self.history_seconds // self.bucket_seconds, self.horizon_seconds // self.bucket_seconds
        seen, following = position // width, -(-position // width)
        return Window(
            self._cells.window(seen - history, seen),
            self._action(decision),
            self._cells.window(following, following + horizon),
            self._reward(requested),
            self._label(requested),
        )

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))

    def stacked(self) -> Window:
        """Return all windows as one, whose arrays have a leading axis of `len(self)`.

        Raises: UsageError: there are none.
        """
        if not self:
            raise UsageError(f"{self.run.path}: no decision has {self.horizon_seconds} s of run after it")
        windows = list(self)
        return Window(*(_stack([window[part] for window in windows]) for part in range(len(Window._fields))))

    @cached_property
    def decisions(self) -> list[dict[str, Any]]:
        """Rows of `actions.parquet` behind the windows, by `decision_step`: for looking up, never for a model's input."""
        rows = [row for row in self.run.table("actions").to_arrow().to_pylist() if row["decision_step"] is not None]
        end = _nanoseconds(datetime.fromisoformat(self.run.run_end))
        horizon = self.horizon_seconds * SECOND
        whole = [row for row in rows if self._partial or _nanoseconds(row["requested"]) + horizon <= end]
        return sorted(whole, key=lambda row: row["decision_step"])

    @cached_property
    def axes(self) -> Axes:
        """Names along the arrays' axes."""
        from otel_control_gym.actuators import ENTRIES

        graph = self.run.graph
        numeric = {
            parameter.name
            for entry in ENTRIES
            for parameter in entry.parameters
            if parameter.name != "duration_seconds" and _is_numeric(parameter.schema)
        }
        return Axes(
            node_names=tuple(node["id"] for node in graph["nodes"]),
            node_features=NODE_NUMBERS,
            edge_names=tuple((edge["source"], edge["target"], edge["protocol"]) for edge in graph["edges"]),
            edge_features=EDGE_NUMBERS,
            inputs=self._inputs.names,
            action_types=tuple(entry.type for entry in ENTRIES),
            parameters=("duration_s", *sorted(numeric)),
            reward_components=tuple(COMPONENTS),
            fault_types=tuple(entry.type for entry in ENTRIES if entry.action_class == "intervention"),
        )

    # --- what is read once ------------------------------------------------------------------------------------------------

    @cached_property
    def _inputs(self) -> _Inputs:
        rows = self.run.table("control_inputs").to_arrow().to_pylist()
        rows = [row for row in rows if row["class"] != "outcome" and row["visibility"] == "public"]
        names = tuple(sorted({(row["target"] or "", row["name"]) for row in rows}))
        return _Inputs(names, rows)

    @cached_property
    def _cells(self) -> _Cells:
        return _Cells(self.run, self.bucket_seconds, self.axes, self._inputs)

    @cached_property
    def _rewards(self) -> list[tuple[int, float | None, dict[str, float]]]:
        """Rewards as (end of the bucket, value, components)."""
        length = self._reward_seconds * SECOND
        rows = self.run.table("rewards", columns=["time", "value", "components"]).to_arrow().to_pylist()
        return [(_nanoseconds(row["time"]) + length, row["value"], dict(row["components"])) for row in rows]

    @cached_property
    def _faults(self) -> list[dict[str, Any]]:
        rows = self.run.table("labels").to_arrow().to_pylist()
        return [row for row in rows if row["is_fault"] and row["applied"] is not False and row["intensity"] != "zero"]

    # --- parts of a window ------------------------------------------------------------------------------------------------

    def _action(self, decision: Mapping[str, Any]) -> WindowAction:
        axes = self.axes
        asked = msgspec.json.decode(decision["parameters"]) | {"duration_s": decision["duration_s"]}
        values = np.array([_number(asked.get(name)) for name in axes.parameters])
        return WindowAction(
            _index(axes.action_types, decision["action_type"]),
            _index(axes.node_names, decision["target"]),
            _index([f"{source}->{target}" for source, target, _ in axes.edge_names], decision["target"]),
            values,
            ~np.isnan(values),
        )

    def _reward(self, requested: int) -> WindowReward:
        until = requested + self.horizon_seconds * SECOND
        rows = [(value, components) for end, value, components in self._rewards if requested < end <= until]
        value = np.array(sum(_number(value) for value, _ in rows) if rows else np.nan)
        components = np.array(
            [
                sum(_number(components.get(name)) for _, components in rows) if rows else np.nan
                for name in self.axes.reward_components
            ]
        )
        return WindowReward(value, np.array(~np.isnan(value)), components, ~np.isnan(components))

    def _label(self, requested: int) -> WindowLabel:
        axes, until = self.axes, requested + self.horizon_seconds * SECOND
        inside = [row for row in self._faults if _in_force(row, requested, until)] if self.run.truth else []
        kinds, targets = {row["fault_type"] for row in inside}, {row["target"] for row in inside}
        return WindowLabel(
            np.array(self.run.truth),
            np.array([name in kinds for name in axes.fault_types], bool),
            np.array([name in targets for name in axes.node_names], bool),
            np.array([f"{source}->{target}" in targets for source, target, _ in axes.edge_names], bool),
        )


class _Inputs(NamedTuple):
    names: tuple[tuple[str, str], ...]  #: target, name
    rows: list[dict[str, Any]]


class _Cells:
    """The feature tables and the inputs of a whole run as arrays over its buckets, from which windows are cut."""

    def __init__(self, run: Run, bucket_seconds: int, axes: Axes, inputs: _Inputs) -> None:
        self.origin = _nanoseconds(datetime.fromisoformat(run.run_start))
        self._width = bucket_seconds * SECOND
        end = _nanoseconds(datetime.fromisoformat(run.run_end))
        self._count = max(0, (end - self.origin) // self._width)
        self._nodes = self._read(
            run, "node_features", ("service",), [(name,) for name in axes.node_names], NODE_NUMBERS
        )
        self._edges = self._read(run, "edge_features", ("source", "target", "protocol"), axes.edge_names, EDGE_NUMBERS)
        self._inputs = np.full((self._count, len(inputs.names)), np.nan)
        positions = {name: position for position, name in enumerate(inputs.names)}
        for row in inputs.rows:
            bucket = (_nanoseconds(row["time"]) - self.origin) // self._width
            if 0 <= bucket < self._count:
                self._inputs[bucket, positions[row["target"] or "", row["name"]]] = _number(row["value"])

    def _read(
        self, run: Run, name: str, keys: Sequence[str], entities: Sequence[tuple[str, ...]], features: Sequence[str]
    ) -> Float:
        """Return the cells of a table, [buckets, entities, features]; a row that isn't there is unknown."""
        table = run.table(name, columns=["time", *keys, *features]).to_arrow()
        positions = {entity: position for position, entity in enumerate(entities)}
        named = zip(*(table[key].to_pylist() for key in keys), strict=True)
        entity = np.array([positions.get(key, NONE) for key in named], np.int64)
        times = table["time"].cast("int64").to_numpy() * _MICROSECONDS
        bucket = (times - self.origin) // self._width
        inside = (entity != NONE) & (bucket >= 0) & (bucket < self._count)
        cells = np.full((self._count, len(entities), len(features)), np.nan)
        for position, feature in enumerate(features):
            values = table[feature].to_numpy(zero_copy_only=False).astype(np.float64)
            cells[bucket[inside], entity[inside], position] = values[inside]
        return cells

    def window(self, start: int, end: int) -> WindowObservation:
        """Return buckets [start, end); those outside the run are unknown."""
        nodes, edges, inputs = (_cut(cells, start, end) for cells in (self._nodes, self._edges, self._inputs))
        return WindowObservation(
            self.origin + np.arange(start, end, dtype=np.int64) * self._width,
            nodes,
            ~np.isnan(nodes),
            edges,
            ~np.isnan(edges),
            inputs,
            ~np.isnan(inputs),
        )


def _cut(cells: Float, start: int, end: int) -> Float:
    cut = np.full((end - start, *cells.shape[1:]), np.nan)
    first, last = max(0, start), min(len(cells), end)
    if first < last:
        cut[first - start : last - start] = cells[first:last]
    return cut


def _stack(parts: Sequence[Any]) -> Any:
    return type(parts[0])(*(np.stack(arrays) for arrays in zip(*parts, strict=True)))


def _in_force(label: Mapping[str, Any], start: int, end: int) -> bool:
    began = label["actual_start"] or label["start"]
    over = label["actual_end"] or label["end"]
    return _nanoseconds(began) < end and (over is None or _nanoseconds(over) > start)


def _index(names: Sequence[str], name: str) -> Int:
    return np.array(names.index(name) if name in names else NONE, np.int64)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan


def _is_numeric(schema: Mapping[str, Any]) -> bool:
    kinds = [schema.get("type"), *(option.get("type") for option in schema.get("anyOf", ()))]
    return any(kind in ("integer", "number") for kind in kinds)


def _nanoseconds(moment: datetime) -> int:
    """Return a moment, which has whole microseconds, in nanoseconds since the epoch."""
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * SECOND + moment.microsecond * 1000
