"""Runs ➜ the formats of neighbouring tools, as files.

In: runs (directories, ids, whole campaigns) and a format's name. Out: a directory that appears at once (temporary name, then renamed), and
a record of what is in it, which runs were left out and why, and what the format can't hold.

The adapters of `projections.adapters` are pure; here runs are opened, their logs folded again where a format wants other buckets than the
tables have, and files written. Blocking. Upstream: `engine.runs`. Downstream: the command line and notebooks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
from otel_control_gym.engine.errors import DatasetError, LogCorrupted, NotExportable, UsageError, nearest
from otel_control_gym.engine.rebuild import rebuild
from otel_control_gym.engine.runs import Run, open_run
from otel_control_gym.engine.settings import RunConfig

if TYPE_CHECKING:
    from otel_control_gym.projections.adapters import Recording
    from otel_control_gym.projections.adapters.minari import RecordedEpisode

__all__ = ("Exported", "Skipped", "export")

_TABLES = ("actions", "edge_features", "labels", "node_features")


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A run that isn't in an export."""

    run_id: str
    reason: str


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """What an export holds."""

    format: str
    path: Path
    files: tuple[str, ...]  #: below `path`, sorted
    runs: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[tuple[str, str], ...]  #: what the format can't hold, and why


def export(
    runs: str | Path | Run | Iterable[str | Path | Run],
    to: str,
    *,
    out: str | Path | None = None,
    bucket_seconds: int | None = None,
    data_dir: str | Path | None = None,
) -> Exported:
    """Write runs in the format `to` and say what was written.

    Args:
        runs: directories of runs, directories that hold runs (a campaign, a data directory), ids or `latest` (the last two need
            `data_dir`); or runs.
        to: `chronograph`, `rcaeval`, `causal-graph` or `minari`.
        out: directory to make (default: `exports/NAME` in `data_dir`, or in the working directory without one).
        bucket_seconds: width of the buckets, folded again from each run's log (default: the run's own; for `rcaeval`, where that is too
            wide, the scrape interval). Observations of `minari` have the buckets in which the policy saw them, always.

    Raises:
        UsageError: a run or format doesn't exist, or `out` isn't empty.
        NotExportable: none of the runs holds what the format needs; says what would be right.
        ConfigurationError: a log can't answer that bucket.
        DatasetError: a file can't be read or written.
    """
    from otel_control_gym.projections.adapters import FORMATS

    if to not in FORMATS:
        raise UsageError(f"there is no format {to!r}\n  {nearest(to, FORMATS)}")
    if to == "minari" and bucket_seconds is not None:
        raise UsageError("minari: observations have the buckets in which the policy saw them\n  leave the bucket out")
    home = Path(data_dir) if data_dir is not None else Path()
    target = Path(out) if out is not None else home / "exports" / to
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} isn't empty\n  name another directory with --out, or remove it")
    chosen, skipped = _sound(_found(runs, data_dir))
    try:
        with _draft(target) as draft:
            done = (
                _write_minari(chosen, draft, skipped)
                if to == "minari"
                else _write_each(chosen, to, draft, skipped, bucket_seconds)
            )
            files = tuple(sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*") if path.is_file()))
    except OSError as error:
        raise DatasetError(f"{target} can't be written: {error.strerror or error}") from error
    left_out = tuple((omission.what, omission.why) for omission in FORMATS[to].left_out)
    return Exported(format=to, path=target, files=files, runs=tuple(done), skipped=tuple(skipped), left_out=left_out)


# --- which runs -------------------------------------------------------------------------------------------------------------


def _found(runs: str | Path | Run | Iterable[str | Path | Run], data_dir: str | Path | None) -> list[Run]:
    """Return the runs that are meant, each once, oldest first."""
    named = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    found: dict[Path, Run] = {}
    for reference in named:
        if isinstance(reference, Run):
            several = [open_run(reference.path, truth=True)]
        elif Path(reference).is_dir() and not (Path(reference) / "metadata.json").is_file():
            several = [
                open_run(path.parent, truth=True) for path in sorted(Path(reference).glob("**/run_*/metadata.json"))
            ]
            if not several:
                raise UsageError(f"{reference}: no run is in it\n  name the directory of a run, or one that holds runs")
        else:
            several = [open_run(reference, data_dir, truth=True)]
        found |= {run.path.resolve(): run for run in several}
    if not named:
        raise UsageError("no run was named\n  give a run's directory or id, or a directory that holds runs")
    return sorted(found.values(), key=lambda run: run.run_id)


def _sound(runs: Sequence[Run]) -> tuple[list[Run], list[Skipped]]:
    """Return the runs that aren't void, and those that are."""
    void = [run for run in runs if run.status == "void"]
    reason = "it is void: the stand was sick, or no load was offered, before anything was injected"
    return (
        [run for run in runs if run not in void],
        [Skipped(run_id=run.run_id, reason=reason) for run in void],
    )


# --- formats ----------------------------------------------------------------------------------------------------------------


def _write_each(
    runs: Sequence[Run], to: str, directory: Path, skipped: list[Skipped], bucket_seconds: int | None
) -> list[str]:
    """Write a format in which every run has files of its own; return the ids of the runs in it."""
    from otel_control_gym.projections.adapters.causal_graph import causal_graph_files
    from otel_control_gym.projections.adapters.chronograph import chronograph_files
    from otel_control_gym.projections.adapters.rcaeval import WIDEST_BUCKET_SECONDS, rcaeval_files

    makers = {"causal-graph": causal_graph_files, "chronograph": chronograph_files, "rcaeval": rcaeval_files}
    widest = WIDEST_BUCKET_SECONDS if to == "rcaeval" else None
    done: list[str] = []
    refusals: list[NotExportable] = []
    for run in runs:
        try:
            files = makers[to](_recording(run, bucket_seconds, widest))
        except NotExportable as refusal:
            refusals.append(refusal)
            skipped.append(_refused(run, refusal))
            continue
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        done.append(run.run_id)
    if not done:
        raise _nothing(refusals, skipped)
    return done


def _write_minari(runs: Sequence[Run], directory: Path, skipped: list[Skipped]) -> list[str]:
    """Write one dataset per application; return the ids of the runs in them."""
    from otel_control_gym.actuators import action_schema
    from otel_control_gym.projections.adapters.action_encoding import encoding_of
    from otel_control_gym.projections.adapters.minari import write_minari

    episodes: dict[str, list[RecordedEpisode]] = {}
    targets: dict[str, dict[str, None]] = {}
    refusals: list[NotExportable] = []
    for run in runs:
        try:
            found = _episode(run)
        except NotExportable as refusal:
            refusals.append(refusal)
            skipped.append(_refused(run, refusal))
            continue
        episodes.setdefault(run.service_config, []).append(found[0])
        targets.setdefault(run.service_config, {}).update(dict.fromkeys(found[1]))
    if not episodes:
        raise _nothing(refusals, skipped)
    for name in sorted(episodes):
        write_minari(episodes[name], encoding_of(action_schema(), tuple(targets[name])), directory)
    return sorted(episode.run_id for group in episodes.values() for episode in group)


def _episode(run: Run) -> tuple[RecordedEpisode, tuple[str, ...]]:
    """Return a run as an episode, and what its actions can be aimed at.

    Raises: NotExportable: its log is missing, or no step of it was lived to its end.
    """
    from otel_control_gym.actuators import replayed
    from otel_control_gym.engine.clock import SECOND
    from otel_control_gym.projections.adapters.minari import RecordedEpisode
    from otel_control_gym.projections.trajectories import trajectory

    archive = _archive(run)
    seen = trajectory(read_archive(archive, truth=False))
    if seen is None:
        raise NotExportable(f"run {run.run_id}: no step of it was lived to its end, so there is no episode")
    metadata, config = run.metadata, _run_config(archive)
    asked = [life.requested for life in seen.lives]
    episode = RecordedEpisode(
        run_id=run.run_id,
        seed=config.seed,
        family_id=metadata["family_id"],
        scenario_id=metadata["scenario_id"],
        service_config=run.service_config,
        policy=metadata["policy_name"],
        stand=run.stand,
        run_config=msgspec.to_builtins(config),
        trajectory=seen,
        actions=tuple(
            replayed(
                request.action_type,
                request.target,
                request.parameters,
                None if request.duration_ns is None else request.duration_ns / SECOND,
            )
            for request in asked
        ),
    )
    return episode, _targets(run.graph)


def _targets(graph: dict[str, Any]) -> tuple[str, ...]:
    """Return services, edges and groups of an application, the names that an action can be aimed at."""
    services = sorted(node["id"] for node in graph["nodes"])
    edges = sorted({f"{edge['source']}->{edge['target']}" for edge in graph["edges"]})
    groups = sorted({node["optional_group"] for node in graph["nodes"] if node["optional_group"]})
    return (*services, *edges, *(group for group in groups if group not in services))


def _run_config(archive: Path) -> RunConfig:
    """Return the configuration that a run's log declares; the metadata don't keep the order of its services and flows.

    Raises: LogCorrupted: a declaration is missing.
    """
    from otel_control_gym.engine.events import RunDeclared, TruthDeclared

    public: RunDeclared | None = None
    for entry in read_archive(archive):
        if isinstance(entry.event, RunDeclared):
            public = entry.event
        elif isinstance(entry.event, TruthDeclared) and public is not None:
            truth = entry.event
            stated = {"scenario": truth.scenario, "workload": truth.workload, "twin": truth.twin, "seed": truth.seed}
            config: RunConfig = msgspec.convert(
                {"public": msgspec.to_builtins(public.settings), **stated}, type=RunConfig
            )
            return config
    raise LogCorrupted(f"{archive}: it declares no run, or not its script")


def _refused(run: Run, refusal: NotExportable) -> Skipped:
    """Return a refusal as the reason of a run that is left out, without its remedy and the run's name."""
    return Skipped(run_id=run.run_id, reason=str(refusal).splitlines()[0].removeprefix(f"run {run.run_id}: "))


def _nothing(refusals: Sequence[NotExportable], skipped: Sequence[Skipped]) -> NotExportable:
    """Return why nothing can be exported, in one message: the first refusal says what would be right."""
    if not refusals:
        return NotExportable(f"none of the runs can be exported: {skipped[0].run_id}: {skipped[0].reason}")
    others = len(skipped) - 1
    return NotExportable(f"{refusals[0]}" + (f"\n  nor can {others} more: `--json` names each" if others else ""))


# --- files ------------------------------------------------------------------------------------------------------------------


def _recording(run: Run, bucket_seconds: int | None, widest: int | None) -> Recording:
    """Return what a run's directory holds; its log is folded again where other buckets are asked for, or its own are too wide."""
    granularity = run.metadata["granularity_config"]
    own, scrape = int(granularity["observation_bucket_seconds"]), int(granularity["scrape_interval_seconds"])
    if bucket_seconds is None:
        bucket_seconds = scrape if widest is not None and own > widest >= scrape else own
    if bucket_seconds == own:
        return _read(run)
    _archive(run)
    with tempfile.TemporaryDirectory() as folder:
        return _read(open_run(rebuild(run, bucket_seconds=bucket_seconds, out=Path(folder) / "rebuilt"), truth=True))


def _read(run: Run) -> Recording:
    from otel_control_gym.projections.adapters import Recording

    tables = {name: run.table(name).to_arrow() for name in _TABLES}
    return Recording(metadata=run.metadata, graph=run.graph, tables=tables)


def _archive(run: Run) -> Path:
    archive = run.path / ARCHIVE_NAME
    if not archive.is_file():
        raise NotExportable(f"run {run.run_id} has no {ARCHIVE_NAME}: what was seen when can't be told without it")
    return archive


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Give a directory under a temporary name that becomes `target` if nothing is raised, and vanishes otherwise."""
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        if target.exists():
            target.rmdir()  # it is empty: that was checked
        draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
