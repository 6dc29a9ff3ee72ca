"""A log ➜ the files of a run's directory, at one granularity or several.

In: the entries of a log and directories, which may hold the log's archive already. Out: every file of the data contract in each of them.
The log is read once, and never held: while it is folded, rows are made of stretches in which nothing changes any more, and the samples
before them are let go. So memory follows the number of series and not the length of the run; that the bytes don't depend on the
stretches is a law with a test.

Blocking; callers put it into a worker thread. Upstream: `engine.archive` reads the log. Downstream: `projections.drafts`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.events import ClockAdvanced, Recorded
from otel_control_gym.engine.settings import Granularity
from otel_control_gym.projections.drafts import DatasetDraft
from otel_control_gym.projections.fold import initial, step

__all__ = ("Target", "write_dataset", "write_datasets")

STRETCH_EDGES = 240  #: scrape intervals; with 5,000 series some 20 MiB
_RUN_NAME = re.compile(r"run_([0-9A-Za-z]+)$")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that a dataset is written into, and at which granularity (null: the run's own)."""

    directory: Path
    granularity: Granularity | None = None


def write_dataset(
    entries: Iterable[Recorded],
    directory: Path,
    *,
    run_id: str | None = None,
    content_digest: str = "",
    granularity: Granularity | None = None,
    clean: bool = False,
) -> None:
    """Fold a log and write the dataset of its run into `directory`: `write_datasets` with one target."""
    target = Target(directory=directory, granularity=granularity)
    write_datasets(entries, [target], run_id=run_id, content_digest=content_digest, clean=clean)


def write_datasets(
    entries: Iterable[Recorded],
    targets: Sequence[Target],
    *,
    run_id: str | None = None,
    content_digest: str | Callable[[], str] = "",
    clean: bool = False,
    stretch_edges: int = STRETCH_EDGES,
) -> None:
    """Fold a log once and write the dataset of its run at several granularities; files of the same names are replaced, others stay.

    Args:
        entries: the log, public and truth, from its first event to its last (or to where it breaks off).
        targets: where the datasets are written; a directory is made if it doesn't exist.
        run_id: the run's id (default: what follows `run_` in a directory's name).
        content_digest: the log's; a function is asked when the entries were read.
        clean: fold the telemetry as it was before distortion, which the truth stream keeps, instead of the public one.
        stretch_edges: how many scrape intervals are folded before their rows are made; changes the memory and no byte of the result.

    Raises:
        ConfigurationError: a bucket is finer than the scrape interval, or no multiple of it.
        LogCorrupted: the log contradicts itself, or doesn't begin with `RunDeclared`.
        UsageError: the log keeps no clean telemetry.
        OSError: the files can't be written.
    """
    state = initial(clean=clean)
    with ExitStack() as drafts:
        writers = [
            drafts.enter_context(
                DatasetDraft(target.directory, run_id or _run_id(target.directory), target.granularity)
            )
            for target in targets
        ]
        grown_at = 0
        for entry in entries:
            step(state, entry)
            if (
                isinstance(entry.event, ClockAdvanced)
                and not entry.truth
                and state.samples.edges >= grown_at + stretch_edges
            ):
                grown_at = state.samples.edges
                for writer in writers:
                    writer.grow(state)
                state.samples.release(min(writer.next_edge(state) for writer in writers))
        if clean and not state.truth.holds_clean:
            raise UsageError(
                "the run keeps no clean telemetry\n"
                "  only one with telemetry.distortion.keep_clean = true does; without distortion its tables are clean anyway"
            )
        digest = content_digest if isinstance(content_digest, str) else content_digest()
        for writer in writers:
            writer.finish(state, digest)
        for writer in writers:
            writer.publish()


def _run_id(directory: Path) -> str:
    match = _RUN_NAME.search(directory.name)
    if match is None:
        raise UsageError(f"{directory} doesn't say which run it is for\n  give a run_id, or name it run_<run_id>")
    return match.group(1)
