"""A run's directory ➜ the little that a report on hundreds of runs keeps of each.

In: a directory, whole or not. Out: `RunFacts`, some kilobytes whatever the run's length: who it is, what came of its actions, how much of
its telemetry came, how large its files are, where it breaks the data contract. A run that can't be read is told as such, not raised: the
others are to be reported all the same.

Blocking. Upstream: `engine.run_checks`, the run's files. Downstream: `engine.campaigns.facts` adds them up.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from otel_control_gym.engine.run_checks import validate

__all__ = ("ActionCount", "FileSize", "RunFacts", "Trouble", "run_facts")

_SHOWN = 5  #: violations, and troubled actions, that are kept of one run
_SETTLED_WELL = "applied"
_ACTION_COLUMNS = ["action_class", "action_type", "target", "requested", "status", "error"]


class FileSize(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a run; `rows` is null where a file has none."""

    name: str
    size_bytes: int
    rows: int | None


class ActionCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many actions of a type ended in which way."""

    action_class: str
    action_type: str
    status: str
    count: int


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """An action or intervention that wasn't applied, or of which nobody could see that it was."""

    run_id: str
    seconds: float  #: of the run, when it was requested
    action_class: str
    action_type: str
    target: str
    status: str
    error: str | None


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a report keeps of a run; of one whose metadata can't be read, where it is and what is wrong."""

    path: str
    run_id: str
    status: str = "unreadable"  #: completed, aborted, void; or this
    key: str = ""  #: of the campaign's plan
    stratum: str | None = None
    family_id: str = ""
    retry_of: str | None = None
    is_branch: bool = False
    void_rule: str | None = None
    seconds: float = 0.0  #: of the episode, warm-up and cool-down included
    seed: int | None = None
    content_digest: str = ""
    licence: str = ""
    versions: dict[str, str] = {}
    coverage: dict[str, float] = {}  #: by telemetry stream
    arrived: dict[str, int] = {}  #: rows by telemetry stream
    files: tuple[FileSize, ...] = ()
    actions: tuple[ActionCount, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    violations: tuple[str, ...] = ()  #: the first of them
    violation_count: int = 0

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)


class _Stream(msgspec.Struct, frozen=True, kw_only=True):
    coverage: float | None = None
    rows: int | None = None


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `metadata.json` that is kept."""

    run_id: str
    status: str
    scenario_id: str
    stratum: str | None
    family_id: str
    retry_of: str | None
    parent_run_id: str | None
    void_rule: str | None
    run_start: datetime
    run_end: datetime
    seed: int | None
    content_digest: str
    contract_version: int
    data_licence: str
    versions: dict[str, str]
    git_shas: dict[str, str]
    streams: dict[str, _Stream]


def run_facts(directory: Path) -> RunFacts:
    """Return what is kept of the run in a directory; its files are checked against the data contract, its log isn't folded again."""
    violations = [f"{found.file}: {found.message}" for found in validate(directory, log=False)]
    known: dict[str, Any] = {
        "path": str(directory),
        "files": _files(directory),
        "violations": tuple(violations[:_SHOWN]),
        "violation_count": len(violations),
    }
    try:
        metadata = msgspec.json.decode((directory / "metadata.json").read_bytes(), type=_Metadata)
    except (OSError, msgspec.MsgspecError):  # a rule about the file says what is wrong with it
        return RunFacts(run_id=directory.name.removeprefix("run_"), **known)
    actions, troubles = _actions(directory, metadata)
    streams = metadata.streams
    return RunFacts(
        run_id=metadata.run_id,
        status=metadata.status,
        key=metadata.scenario_id,
        stratum=metadata.stratum,
        family_id=metadata.family_id,
        retry_of=metadata.retry_of,
        is_branch=metadata.parent_run_id is not None,
        void_rule=metadata.void_rule,
        seconds=(metadata.run_end - metadata.run_start).total_seconds(),
        seed=metadata.seed,
        content_digest=metadata.content_digest,
        licence=metadata.data_licence,
        versions={
            "data contract": str(metadata.contract_version),
            **{f"commit of {name}": sha for name, sha in sorted(metadata.git_shas.items())},
            **metadata.versions,
        },
        coverage={name: stream.coverage for name, stream in streams.items() if stream.coverage is not None},
        arrived={name: stream.rows for name, stream in streams.items() if stream.rows is not None},
        actions=actions,
        troubles=troubles,
        **known,
    )


def _files(directory: Path) -> tuple[FileSize, ...]:
    return tuple(
        FileSize(name=path.name, size_bytes=path.stat().st_size, rows=_rows(path))
        for path in sorted(directory.iterdir())
    )


def _rows(path: Path) -> int | None:
    if path.suffix != ".parquet":
        return None
    try:
        rows: int = pq.read_metadata(path).num_rows
    except (OSError, pa.ArrowException):
        return None
    return rows


def _actions(directory: Path, metadata: _Metadata) -> tuple[tuple[ActionCount, ...], tuple[Trouble, ...]]:
    """Return what came of everything but `noop`; nothing where the table can't be read."""
    try:
        rows = pq.read_table(directory / "actions.parquet", columns=_ACTION_COLUMNS).to_pylist()
    except (OSError, pa.ArrowException):
        return (), ()
    done = [row | {"status": row["status"] or "unsettled"} for row in rows if row["action_type"] != "noop"]
    counts = Counter((row["action_class"], row["action_type"], row["status"]) for row in done)
    return (
        tuple(
            ActionCount(action_class=group, action_type=kind, status=status, count=count)
            for (group, kind, status), count in sorted(counts.items())
        ),
        tuple(
            Trouble(
                run_id=metadata.run_id,
                seconds=(row["requested"] - metadata.run_start).total_seconds(),
                action_class=row["action_class"],
                action_type=row["action_type"],
                target=row["target"] or "",
                status=row["status"],
                error=row["error"],
            )
            for row in done
            if row["status"] != _SETTLED_WELL
        )[:_SHOWN],
    )
