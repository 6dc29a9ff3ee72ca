"""Runs on disk ➜ where they break the data contract: the rules about files, those that only the log can answer, those about several runs.

In: a run's directory, or one that holds runs. Out: a `Report`. The rules that look at files alone are `projections.validation`'s. Added
here: the archive is whole and this run's; **the tables are the fold of the log** (it is folded again, and compared); a family is never
split.

Blocking. Downstream: `ocg validate`, `ocg.validate`.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import msgspec

from otel_control_gym.engine.archive import ARCHIVE_NAME, archived_run, content_digest
from otel_control_gym.engine.assigned_tables import ASSIGNED_TABLES
from otel_control_gym.engine.errors import LogError, OtelControlGymError, UsageError
from otel_control_gym.engine.rebuild import rebuild
from otel_control_gym.engine.runs import open_run
from otel_control_gym.projections import schemas
from otel_control_gym.projections.rules import CheckedRun, Rule, Violation, checked_run
from otel_control_gym.projections.validation import RULES as FILE_RULES
from otel_control_gym.projections.validation import violations_of

__all__ = ("CAMPAIGN_RULES", "LOG_RULES", "CampaignRule", "Report", "RunReport", "all_rules", "check_runs", "validate")

Found = Iterator[tuple[str, str]]

ASSIGNED = (
    "branch_step",
    "family_id",
    "hashes",
    "pair_id",
    "parent_run_id",
    "randomness",
    "retry_of",
    "split_ids",
    "status",
    "stratum",
    "void_rule",
)
"""Keys of `metadata.json` that are given to a run after it, so that they needn't follow from its log."""


class RunReport(msgspec.Struct, frozen=True):
    """What is wrong with one run."""

    path: Path
    violations: list[Violation]


class Report(msgspec.Struct, frozen=True):
    """What is wrong with runs: with each, and with them together (`file` is then relative to the directory that was checked)."""

    path: Path
    runs: list[RunReport]
    together: list[Violation]

    @property
    def valid(self) -> bool:
        """Whether every rule holds."""
        return not self.together and not any(run.violations for run in self.runs)


# --- rules about a run's log ----------------------------------------------------------------------------------------------


def _archive(run: CheckedRun) -> Found:
    path = run.directory / ARCHIVE_NAME
    if path.is_file():
        try:
            content_digest(path)
        except LogError as error:
            yield ARCHIVE_NAME, str(error)


def _content(run: CheckedRun) -> Found:
    path = run.directory / ARCHIVE_NAME
    if _whole(path):
        found, run_id = content_digest(path), archived_run(path).run_id
        if found != run.metadata["content_digest"]:
            yield ARCHIVE_NAME, f"its content digest is {found}, metadata.json has {run.metadata['content_digest']}"
        if run_id != run.metadata["run_id"]:
            yield ARCHIVE_NAME, f"it is the log of run {run_id}, metadata.json is of {run.metadata['run_id']}"


def _fold(run: CheckedRun) -> Found:
    if not _whole(run.directory / ARCHIVE_NAME):
        return
    granularity, own = run.metadata["granularity_config"], run.metadata["effective_configuration"]["granularity"]
    with tempfile.TemporaryDirectory(prefix="ocg-validate-") as directory:
        try:
            again = rebuild(
                open_run(run.directory),
                granularity={name: value for name, value in granularity.items() if value != own[name]},
                clean=bool(run.metadata.get("clean")),
                out=Path(directory) / run.directory.name,
            )
        except OtelControlGymError as error:
            yield ARCHIVE_NAME, f"it can't be folded: {error}"
            return
        yield from _differences(run, checked_run(again))


def _differences(run: CheckedRun, again: CheckedRun) -> Found:
    for table in schemas.TABLES:
        one, other = run.tables.get(table.name), again.tables[table.name]
        if one is not None and table.name not in ASSIGNED_TABLES and not one.equals(other):
            columns = [name for name in other.schema.names if not one[name].equals(other[name])]
            yield table.file, f"not the fold of the log: {', '.join(columns)}"
    for name in schemas.JSON_FILES:
        one, other = (_given(name, checked.documents.get(name)) for checked in (run, again))
        if one is not None and one != other:
            yield name, "not the fold of the log" + _differing(one, other)


def _given(name: str, content: Any) -> Any:
    """Return what of a document follows from the log."""
    if name != "metadata.json" or content is None:
        return content
    return {key: value for key, value in content.items() if key not in ASSIGNED}


def _differing(one: Any, other: Any) -> str:
    if not isinstance(one, dict):
        return ""
    return ": " + ", ".join(sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key)))


def _whole(path: Path) -> bool:
    """Return whether an archive is there and whole: what isn't is told by other rules."""
    try:
        content_digest(path)
    except LogError:
        return False
    return True


LOG_RULES: tuple[Rule, ...] = (
    Rule(
        "archive",
        "event_log.zst is whole: checksums, digests and the chain of both streams hold",
        _archive,
        of_content=False,
    ),
    Rule("log-content", "the log is this run's, with the content digest that metadata.json states", _content),
    Rule("fold", "tables and JSON files are the fold of the log: folded again, it gives the same", _fold),
)


# --- rules about runs together --------------------------------------------------------------------------------------------


class Campaign(msgspec.Struct, frozen=True):
    """A directory of runs, as far as rules about several need it."""

    directory: Path
    runs: list[tuple[str, Path]]  #: id, directory
    splits: list[Path]


class CampaignRule(msgspec.Struct, frozen=True, eq=False):
    """A rule about the runs of a directory together."""

    id: str
    says: str
    check: Callable[[Campaign], Found]


def _once(campaign: Campaign) -> Found:
    counts = Counter(run_id for run_id, _ in campaign.runs)
    for run_id, path in campaign.runs:
        if counts[run_id] > 1:
            yield str(path.relative_to(campaign.directory)), f"run {run_id} is there {counts[run_id]} times"


def _splits(campaign: Campaign) -> Found:
    for path in campaign.splits:
        if _parts(path) is None:
            yield str(path.relative_to(campaign.directory)), 'not of the form {"parts": {"train": ["family id", …], …}}'


def _overlap(campaign: Campaign) -> Found:
    for path in campaign.splits:
        parts = _parts(path) or {}
        for (one, first), (other, second) in combinations(sorted(parts.items()), 2):
            both = sorted(set(first) & set(second))
            if both:
                message = f"{len(both)} families are in {one} and in {other}, e.g. {both[0]}"
                yield str(path.relative_to(campaign.directory)), message


class _SplitFile(msgspec.Struct):
    parts: dict[str, list[str]]


def _parts(path: Path) -> dict[str, list[str]] | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_SplitFile).parts
    except (OSError, msgspec.MsgspecError):
        return None


CAMPAIGN_RULES: tuple[CampaignRule, ...] = (
    CampaignRule("run-twice", "a run is in a directory once", _once),
    CampaignRule("split", "splits/*.json of a campaign can be read: parts, each a list of family ids", _splits),
    CampaignRule("split-overlap", "no family is in two parts of a split", _overlap),
)


# --- checking -------------------------------------------------------------------------------------------------------------


def all_rules() -> dict[str, str]:
    """Return every rule: id and what holds."""
    of_a_run = {rule.id: rule.says for rule in (*FILE_RULES, *LOG_RULES)}
    return of_a_run | {rule.id: rule.says for rule in CAMPAIGN_RULES}


def check_runs(path: Path, *, log: bool = True, progress: Callable[[RunReport], None] | None = None) -> Report:
    """Check a run's directory, or all runs of a directory that holds `campaign=…` folders (or is one).

    Args:
        path: the directory.
        log: also fold the logs again and compare; without, a run takes a tenth of the time and its numbers are taken on trust.
        progress: is told of each run when it is done.

    Raises: UsageError: there is no such directory, or it holds no run.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is no directory\n  give that of a run, or one with `campaign=…` folders")
    rules = (*FILE_RULES, *LOG_RULES) if log else FILE_RULES
    directories = _run_directories(path)
    reports = []
    for directory in directories or [path]:
        report = RunReport(directory, violations_of(checked_run(directory), rules))
        if progress is not None:
            progress(report)
        reports.append(report)
    together = _together(path, directories) if directories else []
    return Report(path, reports, together)


def validate(directory: Path | str, *, log: bool = True) -> list[Violation]:
    """Return where a run, or any run of a directory that holds some, breaks the data contract; empty: nowhere.

    `file` is relative to `directory`. Rules and their ids: `ocg validate --rules`, docs/reference/rules.md. With `log=False` the log
    isn't folded again to compare.

    Raises: UsageError: there is no such directory.
    """
    report = check_runs(Path(directory), log=log)
    return [
        *report.together,
        *(
            msgspec.structs.replace(violation, file=str((run.path / violation.file).relative_to(report.path)))
            for run in report.runs
            for violation in run.violations
        ),
    ]


def _run_directories(path: Path) -> list[Path]:
    """Return the runs' directories below a path, in order; none if it is a run's itself."""
    for pattern in ("run_*", "service_config=*/run_*", "campaign=*/service_config=*/run_*"):
        found = sorted(found for found in path.glob(pattern) if found.is_dir())
        if found:
            return found
    return []


def _together(path: Path, directories: Sequence[Path]) -> list[Violation]:
    splits = sorted([*path.glob("splits/*.json"), *path.glob("campaign=*/splits/*.json")])
    campaign = Campaign(path, [(_run_id(directory), directory) for directory in directories], splits)
    return [Violation(rule.id, file, message) for rule in CAMPAIGN_RULES for file, message in rule.check(campaign)]


class _Named(msgspec.Struct):
    run_id: str


def _run_id(directory: Path) -> str:
    """Return the id that a run's metadata states, else the one in its directory's name: rules about the run tell what is wrong."""
    try:
        return msgspec.json.decode((directory / "metadata.json").read_bytes(), type=_Named).run_id
    except (OSError, msgspec.MsgspecError):
        return directory.name.removeprefix("run_")
