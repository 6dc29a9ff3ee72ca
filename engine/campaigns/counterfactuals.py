"""A campaign that was played ➜ paired branches of its decisions: what each alternative would have led to.

In: a data directory with the campaign's runs. Out: in the campaign's directory `counterfactuals.parquet` and
`counterfactual_cells.parquet` (branches that models are scored on) and `effect_cells.parquet` (which cells the logged action changed,
as other branches found it).

Each decision is branched for every alternative under `branches` draws of chance; alternatives of one draw are a pair, so that what
users would have done anyway cancels out. Beside them the logged action and `noop` are branched as often as a test needs
(`LEAST_BRANCHES`), under draws of their own: what classifies a cell never scores a prediction of it.

What is on disk at each moment: a decision's tables lie in `.counterfactuals/<decision>/` once they are whole (renamed last); when all
decisions are there, they are merged into the three files, and then dropped. So an interruption loses what was under way, and merging
twice gives the same. A decision that has what is asked for isn't played again.

Every branch lives its past again on a stand of its own, which can't be copied while it runs: the cost is that of the whole way, not of
the horizon. Upstream: `decision_points`, `branch_arms`. Downstream: `baselines`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_process
import anyio.to_thread
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.baselines.counterfactual_tables import (
    CELLS_FILE,
    CELLS_SCHEMA,
    COUNTERFACTUALS_FILE,
    COUNTERFACTUALS_SCHEMA,
    HORIZONS,
    CounterfactualBranch,
    branches_table,
    encoded,
    write_table,
)
from otel_control_gym.baselines.effect_cells import EFFECT_CELLS_FILE, EFFECT_CELLS_SCHEMA, EffectCell, write_cells
from otel_control_gym.engine.assembly import configured_broker
from otel_control_gym.engine.campaigns.branch_arms import FIRST_NUMBER, Arm, Future, check_branchable, play_futures
from otel_control_gym.engine.campaigns.decision_points import NOOP, DecisionPoint, decision_points
from otel_control_gym.engine.campaigns.effects import LEAST_BRANCHES, EffectSettings, Readings, compare_branches
from otel_control_gym.engine.campaigns.readings import SATISFACTION
from otel_control_gym.engine.campaigns.running import campaign_directory
from otel_control_gym.engine.configuration_files import load
from otel_control_gym.engine.errors import UsageError

__all__ = ("ALTERNATIVES", "BRANCHES", "DecisionPlayed", "play_counterfactuals")

ALTERNATIVES = 6  #: at a decision, noop and what was done among them
BRANCHES = 3  #: draws of chance of each
_PARTS = ".counterfactuals"
_DECISION = ("run_id", "decision_step")
_ORDER: dict[str, Sequence[str]] = {
    COUNTERFACTUALS_FILE: (*_DECISION, "number", "alternative_index"),
    CELLS_FILE: ("pair_id", "alternative_index", "kind", "entity", "feature", "horizon_s"),
    EFFECT_CELLS_FILE: EFFECT_CELLS_SCHEMA.names,
}


class DecisionPlayed(msgspec.Struct, frozen=True, kw_only=True):
    """A decision whose branches are there."""

    run_id: str
    stratum: str
    decision_step: int
    action_type: str  #: what the run did
    alternatives: int
    branches: int
    groups: dict[str, int]  #: changed, unchanged, undecided -> cells


async def play_counterfactuals(
    data_dir: Path,
    campaign: str,
    *,
    strata: Sequence[str] = ("randomised",),
    alternatives: int = ALTERNATIVES,
    branches: int = BRANCHES,
    horizon: int = HORIZONS[-1],
    workers: int = 1,
    only: int | None = None,
    on_played: Callable[[DecisionPlayed, int], None] = lambda _played, _total: None,
) -> Path:
    """Play the branches of a campaign's decisions that aren't there yet; return where `counterfactuals.parquet` is.

    Args:
        data_dir: holds the campaign.
        campaign: its name.
        strata: whose decisions.
        alternatives: at each of them, at least 2; fewer where the policy weighed fewer.
        branches: draws of chance for each alternative.
        horizon: control steps that a branch is lived, at most to the end of control.
        workers: processes that play.
        only: at most so many runs of each stratum.
        on_played: is told of each decision, and how many there are to be.

    Raises: UsageError: there is no such campaign or decision, or a number is out of bounds. BranchError: a run can't be branched.
    """
    if alternatives < 2 or branches < 1 or horizon < 1 or workers < 1 or (only is not None and only < 1):
        raise UsageError(
            f"alternatives = {alternatives}, branches = {branches}, horizon = {horizon}, workers = {workers}, only = {only}: "
            "each must be at least 1, alternatives at least 2"
        )
    if branches > FIRST_NUMBER:
        raise UsageError(f"branches = {branches}: at most {FIRST_NUMBER}, beyond are those that classify effects")
    settings, _ = await anyio.to_thread.run_sync(load, "effects", "default", EffectSettings)
    points = await anyio.to_thread.run_sync(
        lambda: decision_points(
            data_dir, campaign, strata=strata, alternatives=alternatives, horizon=horizon, only=only
        )
    )
    check_branchable(campaign, (point.run for point in points))
    directory = campaign_directory(data_dir, campaign)
    there = await anyio.to_thread.run_sync(_extents, directory)
    todo = [point for point in points if not _is_played(point, there, branches)]
    processes, under_way = anyio.CapacityLimiter(workers), anyio.CapacityLimiter(workers)
    with tempfile.TemporaryDirectory(prefix="ocg-counterfactual-") as scratch:

        async def play(point: DecisionPoint) -> None:
            async with under_way:  # a few decisions at a time, so that an interruption loses little
                futures = await _play(point, settings, branches, Path(scratch), processes)
                played = await anyio.to_thread.run_sync(_keep, point, futures, settings, directory)
            on_played(played, len(todo))

        if todo:
            async with configured_broker(Path(scratch), None), anyio.create_task_group() as tasks:
                for point in todo:
                    tasks.start_soon(play, point)
    await anyio.to_thread.run_sync(_merge, directory)
    return directory / COUNTERFACTUALS_FILE


# --- what is there already ------------------------------------------------------------------------------------------------


class _Extent(msgspec.Struct, frozen=True):
    """What of a decision is on disk."""

    alternatives: frozenset[str]
    branches: int
    horizon_s: int


def _extents(directory: Path) -> dict[tuple[str, int], _Extent]:
    found: dict[tuple[str, int], _Extent] = {}
    for folder in (directory, *_parts(directory)):
        path = folder / COUNTERFACTUALS_FILE
        if path.is_file():
            names = [*_DECISION, "alternative", "number", "horizon_s"]
            rows = (
                pq.read_table(path, columns=names)
                .group_by(list(_DECISION))
                .aggregate([("alternative", "distinct"), ("number", "count_distinct"), ("horizon_s", "min")])
            )
            for row in rows.to_pylist():
                found[row["run_id"], row["decision_step"]] = _Extent(
                    frozenset(row["alternative_distinct"]), row["number_count_distinct"], row["horizon_s_min"]
                )
    return found


def _is_played(point: DecisionPoint, there: dict[tuple[str, int], _Extent], branches: int) -> bool:
    extent = there.get((point.run.run_id, point.step))
    wanted = {_as_text(alternative.action) for alternative in point.alternatives}
    return (
        extent is not None
        and extent.branches >= branches
        and extent.horizon_s >= point.steps * point.step_seconds
        and wanted <= extent.alternatives
    )


# --- playing --------------------------------------------------------------------------------------------------------------


class _Futures(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    scored: tuple[list[Future], ...]  #: by alternative
    treated: list[Future]  #: those that classify; none where nothing was done
    control: list[Future]


async def _play(
    point: DecisionPoint, settings: EffectSettings, branches: int, scratch: Path, limiter: anyio.CapacityLimiter
) -> _Futures:
    """Play all arms of a decision, each in a process."""
    numbered = [(alternative.action, 0, branches) for alternative in point.alternatives]
    logged = point.logged.action
    if logged["type"] != "noop":
        numbered += [(action, FIRST_NUMBER, LEAST_BRANCHES) for action in (logged, NOOP)]
    found: dict[int, list[Future]] = {}

    async def play(position: int) -> None:
        action, first, count = numbered[position]
        arm = Arm(
            run=point.run.path,
            run_id=point.run.run_id,
            step=point.step,
            action=action,
            without_faults=False,
            branches=count,
            steps=point.steps,
            features=tuple(settings.features),
            scratch=scratch,
            first=first,
        )
        found[position] = await anyio.to_process.run_sync(play_futures, arm, cancellable=True, limiter=limiter)

    async with anyio.create_task_group() as tasks:
        for position in range(len(numbered)):
            tasks.start_soon(play, position)
    scored = tuple(found[position] for position in range(len(point.alternatives)))
    return _Futures(scored=scored, treated=found.get(len(scored), []), control=found.get(len(scored) + 1, []))


# --- writing --------------------------------------------------------------------------------------------------------------


def _keep(point: DecisionPoint, futures: _Futures, settings: EffectSettings, directory: Path) -> DecisionPlayed:
    """Write a decision's tables into a folder of its own, whole or not at all; blocking."""
    branches = [_branch(point, index, future) for index, arm in enumerate(futures.scored) for future in arm]
    cells = pa.concat_tables(_cells(point, index, future) for index, arm in enumerate(futures.scored) for future in arm)
    effects = list(_effect_cells(point, futures, settings))
    folder = directory / _PARTS / point.key
    draft = folder.with_name(f"draft-{point.key}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    write_table(branches_table(branches), draft / COUNTERFACTUALS_FILE)
    write_table(cells, draft / CELLS_FILE)
    write_cells(draft, effects)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    groups: dict[str, int] = {"changed": 0, "unchanged": 0, "undecided": 0}
    for cell in effects:
        groups[cell.group] += 1
    return DecisionPlayed(
        run_id=point.run.run_id,
        stratum=point.stratum,
        decision_step=point.step,
        action_type=str(point.logged.action["type"]),
        alternatives=len(point.alternatives),
        branches=len(branches),
        groups=groups,
    )


def _branch(point: DecisionPoint, index: int, future: Future) -> CounterfactualBranch:
    alternative = point.alternatives[index]
    sums = [sum(future.rewards[:steps]) if len(future.rewards) >= steps else None for steps in HORIZONS]
    target = alternative.action.get("target")
    return CounterfactualBranch(
        pair_id=_pair_id(point, future),
        run_id=point.run.run_id,
        family_id=point.run.family_id,
        stratum=point.stratum,
        service_config=point.run.service_config,
        decision_step=point.step,
        time_us=point.time_us,
        action_id=point.action_id,
        alternative_index=index,
        alternative=_as_text(alternative.action),
        action_type=str(alternative.action["type"]),
        target=None if target is None else str(target),
        is_logged=alternative.is_logged,
        probability=alternative.probability,
        number=future.number,
        step_s=point.step_seconds,
        horizon_s=point.steps * point.step_seconds,
        reward_1=sums[0],
        reward_3=sums[1],
        reward_10=sums[2],
        status=future.status,
        done_reason=future.done_reason,
    )


def _pair_id(point: DecisionPoint, future: Future) -> str:
    return f"{point.key}-{future.number}"


def _as_text(action: dict[str, Any]) -> str:
    return msgspec.json.encode(action, order="sorted").decode()


def _cells(point: DecisionPoint, index: int, future: Future) -> pa.Table:
    """Return the known cells of a branch, by column and horizon."""
    values = _step_means(future.readings, point)  # [W, C]
    at_step, at_column = np.nonzero(np.isfinite(values).T)[::-1]  # by column, then by time
    columns = future.readings.columns
    entities = np.array([column.entity for column in columns], dtype=object)[at_column]
    step_us = point.step_seconds * 1_000_000
    arrays: dict[str, Any] = {
        "pair_id": [_pair_id(point, future)] * len(at_step),
        "alternative_index": np.full(len(at_step), index),
        "kind": [_kind(str(entity)) for entity in entities],
        "entity": entities,
        "feature": np.array([column.feature for column in columns], dtype=object)[at_column],
        "time": pa.array(point.time_us + at_step * step_us, pa.int64()),
        "horizon_s": (at_step + 1) * point.step_seconds,
        "value": values[at_step, at_column],
    }
    return encoded(pa.table(arrays), CELLS_SCHEMA)


def _step_means(readings: Readings, point: DecisionPoint) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the means of the known buckets of each control step, [W, C]; NaN where none is known."""
    width = point.step_seconds // readings.bucket_seconds
    parts = readings.values.reshape(point.steps, width, len(readings.columns))
    known = np.isfinite(parts).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        means: np.ndarray[Any, np.dtype[np.float64]] = np.nansum(parts, axis=1) / known
    return means


def _kind(entity: str) -> Literal["node", "edge"]:
    return "edge" if "->" in entity else "node"


def _effect_cells(point: DecisionPoint, futures: _Futures, settings: EffectSettings) -> Iterable[EffectCell]:
    """Yield the cells that are known with and without the action; users' satisfaction is none of the feature tables'."""
    if not futures.treated:
        return
    effects = compare_branches(
        [future.readings for future in futures.treated],
        [future.readings for future in futures.control],
        settings,
        window_seconds=point.step_seconds,
    )
    for window, number in zip(*np.nonzero(np.isfinite(effects.mean)), strict=True):
        column = effects.columns[number]
        if column.feature != SATISFACTION:
            yield EffectCell(
                run_id=point.run.run_id,
                action_id=point.action_id,
                kind=_kind(column.entity),
                entity=column.entity,
                feature=column.feature,
                time_us=point.time_us + int(window) * point.step_seconds * 1_000_000,
                horizon_s=(int(window) + 1) * point.step_seconds,
                group="changed"
                if effects.changed[window, number]
                else "unchanged"
                if effects.unchanged[window, number]
                else "undecided",
                n_branches=len(futures.treated),
            )


# --- merging --------------------------------------------------------------------------------------------------------------


def _parts(directory: Path) -> list[Path]:
    return sorted(path for path in (directory / _PARTS).glob("*") if not path.name.startswith("draft-"))


def _merge(directory: Path) -> None:
    """Put the decisions' tables into the campaign's files, in place of what those had of the same decisions; blocking."""
    parts = _parts(directory)
    if not parts:
        return
    replayed = {
        row for part in parts for row in _keys(_plain(part / COUNTERFACTUALS_FILE, COUNTERFACTUALS_SCHEMA), _DECISION)
    }
    there = _plain(directory / COUNTERFACTUALS_FILE, COUNTERFACTUALS_SCHEMA)
    gone = there.filter(pa.array([key in replayed for key in _keys(there, _DECISION)], pa.bool_()))
    # The file that says what is there comes last: before it, nothing of the parts counts as merged.
    for file, schema, key in (
        (EFFECT_CELLS_FILE, EFFECT_CELLS_SCHEMA, ("run_id", "action_id")),
        (CELLS_FILE, CELLS_SCHEMA, ("pair_id",)),
        (COUNTERFACTUALS_FILE, COUNTERFACTUALS_SCHEMA, _DECISION),
    ):
        before, dropped = _plain(directory / file, schema), set(_keys(gone, key))
        kept = before.filter(pa.array([found not in dropped for found in _keys(before, key)], pa.bool_()))
        whole = pa.concat_tables([kept, *(_plain(part / file, schema) for part in parts)])
        write_table(encoded(whole.sort_by([(name, "ascending") for name in _ORDER[file]]), schema), directory / file)
    shutil.rmtree(directory / _PARTS)


def _plain(path: Path, schema: pa.Schema) -> pa.Table:
    """Return a file's table with texts instead of dictionaries, which tables of several files don't share; empty where there is no file."""
    table = pq.read_table(path, schema=schema) if path.is_file() else schema.empty_table()
    texts = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in schema]
    return table.cast(pa.schema(list(zip(schema.names, texts, strict=True))))


def _keys(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))
