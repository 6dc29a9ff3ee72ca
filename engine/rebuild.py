"""A run's archived log ➜ its dataset once more, at one granularity or several.

In: a run and what is wanted of the ten times of its granularity. Out: directories with whole datasets, made in one pass over the log.
Samples are kept raw, so whatever only says how rows are cut can be chosen anew; what the run lived by can't, and is refused with the
reason.

What isn't named is as it was in the run; a time that consists of whole buckets, of which those of the run wouldn't fit, is the next
longer one that does. Blocking. Upstream: `engine.archive`; downstream: `ocg rebuild` and notebooks.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive, recover_archive
from otel_control_gym.engine.archive_reader import ArchiveReader
from otel_control_gym.engine.assigned_tables import carry_assigned
from otel_control_gym.engine.configuration_checks import check_rows
from otel_control_gym.engine.errors import ConfigurationError, DatasetError, LogCorrupted, UsageError, nearest
from otel_control_gym.engine.events import RunDeclared
from otel_control_gym.engine.plain_values import whole_number
from otel_control_gym.engine.runs import Run, open_run
from otel_control_gym.engine.settings import Granularity

__all__ = ("rebuild", "rebuild_all", "rebuilt_granularity")

_FILE = "rebuild"
_BUCKET = "observation_bucket_seconds"
_OF_WHOLE_BUCKETS = (
    "observation_window_seconds",
    "reward_bucket_seconds",
    "trace_aggregation_seconds",
    "log_pattern_window_seconds",
)
_FACTS: Mapping[str, str] = {
    "control_step_seconds": "that is how often the policy decided",
    "scrape_interval_seconds": "the log holds what was scraped then, and nothing in between",
    "action_duration_seconds": "that is how long actions without a duration lasted",
    "warmup_seconds": "that is how long it lived before control began",
    "cooldown_seconds": "that is how long it lived after control",
}


def rebuild(
    run: Run | str | Path,
    *,
    bucket_seconds: int | None = None,
    granularity: Mapping[str, int] | None = None,
    clean: bool = False,
    recover: bool = False,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> Path:
    """Fold a run's archived log again and return the new dataset's directory.

    The same log and granularity give the same bytes.

    Args:
        run: a run, or what `open_run` takes.
        bucket_seconds: short for `granularity={"observation_bucket_seconds": ...}`.
        granularity: those of the ten times that are chosen anew, by name.
        clean: fold the telemetry as it was before distortion, of a run that keeps it.
        recover: of a damaged log, fold what lies before the damage; the dataset gets that part of the log as its own.
        out: where to write it (default: beside the run, named for what was chosen); made if it doesn't exist.
        data_dir: where runs are kept, if `run` isn't a directory.

    Raises:
        ConfigurationError: the log can't answer one of the times, or they don't go together.
        UsageError: the run doesn't exist or keeps no clean telemetry, a name isn't one of the ten, or the target directory isn't empty.
        LogCorrupted: the archive was cut off or altered.
        DatasetError: the files can't be written.
    """
    source = run if isinstance(run, Run) else open_run(run, data_dir)
    wanted = dict(granularity or {}) | ({} if bucket_seconds is None else {_BUCKET: bucket_seconds})
    target = Path(out) if out is not None else _beside(source, wanted, clean=clean)
    _write(source, {target: wanted}, clean=clean, recover=recover)
    return target


def rebuild_all(
    run: Run | str | Path,
    granularities: Sequence[Mapping[str, int]],
    *,
    clean: bool = False,
    recover: bool = False,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> list[Path]:
    """Fold a run's archived log once and return a new dataset's directory for each granularity, the same bytes as if it were made alone.

    Args:
        run: a run, or what `open_run` takes.
        granularities: for each dataset those of the ten times that are chosen anew, by name.
        clean, recover: as for `rebuild`.
        out: the directory in which the datasets' directories are made (default: beside the run).
        data_dir: where runs are kept, if `run` isn't a directory.

    Raises: as `rebuild`; UsageError: two granularities are the same.
    """
    source = run if isinstance(run, Run) else open_run(run, data_dir)
    targets: dict[Path, Mapping[str, int]] = {}
    for wanted in granularities:
        target = _beside(source, wanted, clean=clean)
        target = target if out is None else Path(out) / target.name
        if target in targets:
            raise UsageError(f"{target.name}: asked for twice\n  name each granularity once")
        targets[target] = wanted
    _write(source, targets, clean=clean, recover=recover)
    return list(targets)


def rebuilt_granularity(run: Granularity, wanted: Mapping[str, int]) -> Granularity:
    """Return the granularity of a dataset that is rebuilt from a run with other times.

    Raises:
        ConfigurationError: a time is a fact of the run, or the times don't go together; names the values.
        UsageError: a name isn't one of the ten, or a value no whole number.
    """
    chosen: dict[str, int] = {}
    for name, value in wanted.items():
        if name not in Granularity.__struct_fields__:
            raise UsageError(f"{name}: no time of a granularity\n  {nearest(name, Granularity.__struct_fields__)}")
        chosen[name] = whole_number(value, name)
        if name in _FACTS and chosen[name] != getattr(run, name):
            raise ConfigurationError(
                file=_FILE,
                key=name,
                found=chosen[name],
                problem=f"the run has {name} = {getattr(run, name)}: {_FACTS[name]}",
                remedy=f"leave it out; a log can answer other values of {', '.join((_BUCKET, *_OF_WHOLE_BUCKETS))}",
            )
    bucket = chosen.get(_BUCKET, run.observation_bucket_seconds)
    if bucket > 0:
        for name in _OF_WHOLE_BUCKETS:
            chosen.setdefault(name, _whole_buckets(run, name, bucket))
    result = msgspec.structs.replace(run, **chosen)
    check_rows(result, _FILE)
    return result


def _whole_buckets(run: Granularity, name: str, bucket: int) -> int:
    """Return the run's own time, or the next longer one that consists of whole buckets (a reward's: and fits the control step)."""
    seconds: int = -(-getattr(run, name) // bucket) * bucket
    step = run.control_step_seconds
    while name == "reward_bucket_seconds" and step % seconds and seconds % step:
        seconds += bucket
    return seconds


def _beside(source: Run, wanted: Mapping[str, int], *, clean: bool) -> Path:
    """Return a directory beside the run, named for what was chosen."""
    others = [f"{name.removesuffix('_seconds')}_{wanted[name]}s" for name in sorted(wanted) if name != _BUCKET]
    label = "-".join([f"{wanted[_BUCKET]}s" if _BUCKET in wanted else "rebuilt", *others])
    label = f"clean_{label}" if clean else label
    return source.path.with_name(f"{re.sub('[^0-9A-Za-z_-]', '_', label)}_of_{source.path.name}")


def _write(source: Run, targets: Mapping[Path, Mapping[str, int]], *, clean: bool, recover: bool) -> None:
    from otel_control_gym.projections import Target, write_datasets

    for target in targets:
        if target.exists() and any(target.iterdir()):
            raise UsageError(f"{target} isn't empty\n  name another directory with --out, or remove it")
    archive = source.path / ARCHIVE_NAME
    if not archive.is_file():
        raise UsageError(f"{source.path} has no {ARCHIVE_NAME}: there is nothing to rebuild from")
    own = _declared(archive)
    chosen = {target: rebuilt_granularity(own, wanted) for target, wanted in targets.items()}
    try:
        for target in targets:
            target.mkdir(parents=True, exist_ok=True)
            (recover_archive if recover else shutil.copyfile)(archive, target / ARCHIVE_NAME)
        reader = ArchiveReader(next(iter(targets)) / ARCHIVE_NAME)
        write_datasets(
            reader.events(),
            [Target(directory=target, granularity=granularity) for target, granularity in chosen.items()],
            run_id=source.run_id,
            content_digest=reader.digest.hexdigest,
            clean=clean,
        )
        for target in targets:
            carry_assigned(source.path, target)
    except OSError as error:
        _remove(targets)
        raise DatasetError(f"{error.filename or source.path} can't be written: {error.strerror or error}") from error
    except BaseException:
        _remove(targets)
        raise


def _remove(targets: Mapping[Path, object]) -> None:
    for target in targets:  # they were empty before: nothing of the caller's is lost
        shutil.rmtree(target, ignore_errors=True)


def _declared(archive: Path) -> Granularity:
    for entry in read_archive(archive, truth=False):
        if isinstance(entry.event, RunDeclared):
            return entry.event.settings.granularity
        break
    raise LogCorrupted(f"{archive}: the log doesn't begin with RunDeclared")
