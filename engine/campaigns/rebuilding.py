"""A whole campaign ➜ the same campaign at other granularities: every run's log folded again, on all processors.

In: a campaign's directory and the widths of its new buckets. Out: for each width `granularity=<width>s/campaign=…/service_config=…/run_…/`
under a directory, with the campaign's plan, balance and splits beside the runs, so that whatever reads a campaign reads that one, too. A
log is read once for all widths.

A run appears in its place whole: it is folded in a draft directory and moved. So the same call goes on where another was cut off, and what
is there already (of the same log) isn't made again. A run that can't be rebuilt is told, the others are made.

Blocking. Upstream: `engine.rebuild` does one run. Downstream: `ocg campaign rebuild`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from otel_control_gym.engine.archive import ARCHIVE_NAME
from otel_control_gym.engine.campaigns.run_processes import in_processes
from otel_control_gym.engine.campaigns.running import run_directories
from otel_control_gym.engine.clock import wall_timer
from otel_control_gym.engine.errors import OtelControlGymError, UsageError, nearest
from otel_control_gym.engine.rebuild import rebuild_all, rebuilt_granularity
from otel_control_gym.engine.run_documents import read_metadata
from otel_control_gym.engine.runs import Run, open_run
from otel_control_gym.engine.settings import Granularity

__all__ = ("CampaignRebuild", "RunRebuild", "rebuild_campaign", "rebuilt_directory")

_DRAFTS = ".rebuilding_"  #: and the campaign: two may be rebuilt at once
_SHARED = ("plan.json", "balance.json", "splits")  #: what doesn't depend on the granularity


class RunRebuild(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one run."""

    path: str  #: of the run that was rebuilt
    made: int  #: datasets that were made now
    bytes_read: int  #: of its log; 0 where nothing was to be done
    error: str | None = None


class CampaignRebuild(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a campaign."""

    campaign: str
    paths: tuple[str, ...]  #: a directory per width, which `open_runs` takes
    runs: int
    rebuilt: int  #: runs of which something was made now
    kept: int  #: runs of which everything was there
    failed: dict[str, str]  #: run directory -> why
    processes: int
    wall_seconds: float
    log_bytes: int  #: of the logs that were folded


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    targets: dict[int, str]  #: width -> where the dataset belongs
    drafts: str


def rebuilt_directory(out: Path, bucket_seconds: int) -> Path:
    """Return where the campaigns of a width are, under a directory."""
    return out / f"granularity={bucket_seconds}s"


def rebuild_campaign(
    directory: Path,
    buckets: Sequence[int],
    *,
    out: Path,
    processes: int | None = None,
    progress: Callable[[RunRebuild], None] = lambda _: None,
) -> CampaignRebuild:
    """Rebuild all runs of the campaign in a directory, for each width of an observation bucket [s].

    Args:
        directory: the campaign's, `campaign=<name>`.
        buckets: widths; see `rebuild` for which ones a log can answer.
        out: where the `granularity=<width>s` directories are made.
        processes: how many at once (default: as many as there are processors).
        progress: is told of each run when it is done.

    Raises:
        UsageError: there are no runs, or no width, or one is named twice.
        ConfigurationError: the logs can't answer a width; nothing was made then.
        DatasetError: the first run's metadata can't be read, or a process was killed.
    """
    runs = run_directories(directory)
    if not runs:
        known = sorted(path.name.removeprefix("campaign=") for path in directory.parent.glob("campaign=*"))
        name = directory.name.removeprefix("campaign=")
        raise UsageError(f"there are no runs of a campaign {name!r} in {directory.parent}\n  {nearest(name, known)}")
    if not buckets or len(set(buckets)) != len(buckets):
        raise UsageError("name each width once, and at least one, e.g. --bucket 30s --bucket 1m")
    _check_widths(runs[0], buckets)
    began, drafts = wall_timer(), out / f"{_DRAFTS}{directory.name}"
    places = {bucket: rebuilt_directory(out, bucket) / directory.name for bucket in buckets}
    jobs = [
        _Job(
            run=str(run),
            targets={bucket: str(place / run.relative_to(directory)) for bucket, place in places.items()},
            drafts=str(drafts),
        )
        for run in runs
    ]
    count = min(processes or os.cpu_count() or 1, len(jobs))
    outcomes: list[RunRebuild] = []
    try:
        for outcome in in_processes(_rebuild_run, jobs, processes=count):
            outcomes.append(outcome)
            progress(outcome)
    finally:
        shutil.rmtree(drafts, ignore_errors=True)
    for place in places.values():
        _share(directory, place)
    return CampaignRebuild(
        campaign=directory.name.removeprefix("campaign="),
        paths=tuple(str(place.parent) for place in places.values()),
        runs=len(runs),
        rebuilt=sum(outcome.made > 0 for outcome in outcomes),
        kept=sum(outcome.made == 0 and outcome.error is None for outcome in outcomes),
        failed=dict(sorted((outcome.path, outcome.error) for outcome in outcomes if outcome.error is not None)),
        processes=count,
        wall_seconds=round(wall_timer() - began, 3),
        log_bytes=sum(outcome.bytes_read for outcome in outcomes),
    )


def _check_widths(run: Path, buckets: Sequence[int]) -> None:
    """Refuse what a run's log can't answer before a process is started: the runs of a campaign share their granularity."""
    granularity = msgspec.convert(read_metadata(run / "metadata.json")["granularity_of_run"], Granularity)
    for bucket in buckets:
        rebuilt_granularity(granularity, {"observation_bucket_seconds": bucket})


def _rebuild_run(job: _Job) -> RunRebuild:
    """Make what isn't there of a run's datasets; in a process of its own."""
    draft = Path(job.drafts) / Path(job.run).name
    try:
        run = open_run(job.run)
        missing = {bucket: Path(target) for bucket, target in job.targets.items() if not _stands(run, Path(target))}
        if missing:
            shutil.rmtree(draft, ignore_errors=True)
            made = rebuild_all(run, [{"observation_bucket_seconds": bucket} for bucket in missing], out=draft)
            for dataset, target in zip(made, missing.values(), strict=True):
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(parents=True, exist_ok=True)
                dataset.rename(target)
    except (OtelControlGymError, OSError) as error:
        return RunRebuild(path=job.run, made=0, bytes_read=0, error=str(error))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    size = (run.path / ARCHIVE_NAME).stat().st_size if missing else 0
    return RunRebuild(path=job.run, made=len(missing), bytes_read=size)


def _stands(run: Run, target: Path) -> bool:
    """Return whether a dataset of this run's log is in a place."""
    return (target / "metadata.json").is_file() and open_run(target).content_digest == run.content_digest


def _share(source: Path, target: Path) -> None:
    """Copy what belongs to the campaign as a whole."""
    target.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        elif (source / name).is_file():
            shutil.copyfile(source / name, target / name)
