"""A campaign's directory ➜ what its report says, as one record.

In: `plan.json`, `balance.json`, `splits/`, `certificates.json` if it was certified, and the run directories beside them. Out:
`CampaignFacts`. Runs are looked at one by one, in several processes, and nothing but `RunFacts` is kept of each.

Void and aborted runs are counted as they are on disk; how often a run was tried again is told by `campaign.json`, because an attempt can
end before anything is on disk. Where that file isn't, a retry is a run that says which one it repeats.

Blocking. Upstream: `engine.campaigns.running` writes the files. Downstream: `engine.campaigns.report`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from otel_control_gym.engine.campaigns.balance import Balance
from otel_control_gym.engine.campaigns.certificate_tables import CertificateBook
from otel_control_gym.engine.campaigns.plans import CampaignPlan, PlannedRun
from otel_control_gym.engine.campaigns.run_facts import RunFacts, Trouble, run_facts
from otel_control_gym.engine.campaigns.run_processes import in_processes
from otel_control_gym.engine.campaigns.running import CampaignResult, run_directories
from otel_control_gym.engine.campaigns.splits import Split
from otel_control_gym.engine.errors import DatasetError, UsageError, nearest

__all__ = (
    "COVERAGE_WANTED",
    "ActionFacts",
    "CampaignFacts",
    "FileFacts",
    "StratumFacts",
    "StreamFacts",
    "gather",
)

COVERAGE_WANTED = 0.95  #: of metrics, in a dataset to learn from
STATUSES = ("applied", "partial", "unverified", "failed", "rejected", "unsettled")
_RUNS_PER_PROCESS = 20  #: a process takes seconds to start

T = TypeVar("T")


class StratumFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the runs of a stratum."""

    stratum: str
    families: int  #: planned
    planned: int  #: runs, siblings included
    completed: int
    void: int
    aborted: int
    retries: int  #: attempts beyond the first of each run
    missing: int  #: planned runs of which there is none on disk that was completed or void
    seconds: float  #: of episodes

    def rate(self, count: int) -> float:
        """Return a count's share of the stratum's runs on disk; 0 without any."""
        return count / max(1, self.completed + self.void + self.aborted)


class StreamFacts(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a telemetry stream came, over all runs."""

    stream: str
    rows: int
    runs: int  #: that have a coverage of it
    coverage_mean: float
    coverage_min: float
    short: int  #: runs below `COVERAGE_WANTED`


class ActionFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What came of the actions, or interventions, of a type; `counts` by status."""

    action_class: str
    action_type: str
    counts: dict[str, int]


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the contract, over all runs; `rows` is null where it has none."""

    name: str
    size_bytes: int
    rows: int | None


class CampaignFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a report says of a campaign."""

    plan: CampaignPlan
    balance: Balance
    splits: tuple[Split, ...]
    result: CampaignResult | None  #: of the last `ocg campaign run`; null while it is under way
    certificates: CertificateBook | None  #: null where nothing was certified
    runs: int  #: on disk, of the plan
    branches: int  #: on disk, beside the plan
    families: int  #: with a completed run
    seeds: int  #: different ones
    data_digest: str  #: of the completed runs' keys and content digests, in the plan's order of keys
    licences: tuple[str, ...]
    versions: dict[str, tuple[str, ...]]  #: what, and which; several where runs differ
    strata: tuple[StratumFacts, ...]
    void_rules: dict[str, int]
    streams: tuple[StreamFacts, ...]
    actions: tuple[ActionFacts, ...]
    troubles: tuple[Trouble, ...]
    files: tuple[FileFacts, ...]
    invalid: tuple[RunFacts, ...]
    missing: tuple[str, ...]  #: keys of the plan
    examples: dict[str, RunFacts]  #: stratum -> a completed run of it

    @property
    def size_bytes(self) -> int:
        """Of all runs."""
        return sum(file.size_bytes for file in self.files)

    @property
    def seconds(self) -> float:
        """Of all episodes."""
        return sum(stratum.seconds for stratum in self.strata)


def gather(directory: Path) -> CampaignFacts:
    """Return what there is to report on the campaign in a directory.

    Raises: UsageError: there is no campaign. DatasetError: one of its files can't be read.
    """
    if not (directory / "plan.json").is_file():
        name = directory.name.removeprefix("campaign=")
        known = sorted(path.parent.name.removeprefix("campaign=") for path in directory.parent.glob("*/plan.json"))
        raise UsageError(f"there is no campaign {name!r} in {directory.parent}\n  {nearest(name, known)}")
    plan = _read(directory / "plan.json", CampaignPlan)
    paths = run_directories(directory)
    processes = min(os.cpu_count() or 1, 1 + len(paths) // _RUNS_PER_PROCESS)
    found = sorted(in_processes(run_facts, paths, processes=processes), key=lambda run: run.path)
    planned = {run.key: run for run in plan.runs}
    own = [run for run in found if not run.is_branch]
    done = [run for run in own if run.status == "completed" and run.key in planned]
    ended = {run.key for run in own if run.status in ("completed", "void")}
    certificates, result = directory / "certificates.json", directory / "campaign.json"
    played = _read(result, CampaignResult) if result.is_file() else None
    return CampaignFacts(
        plan=plan,
        balance=_read(directory / "balance.json", Balance),
        splits=tuple(_read(path, Split) for path in sorted(directory.glob("splits/*.json"))),
        result=played,
        certificates=_read(certificates, CertificateBook, by="certify") if certificates.is_file() else None,
        runs=len(own),
        branches=len(found) - len(own),
        families=len({run.family_id for run in done}),
        seeds=len({run.seed for run in done}),
        data_digest=_digest(done),
        licences=tuple(sorted({run.licence for run in found if run.licence})),
        versions=_versions(found),
        strata=_strata(plan, own, ended, played),
        void_rules=dict(sorted(Counter(run.void_rule for run in own if run.void_rule is not None).items())),
        streams=_streams(done),
        actions=_actions(own),
        troubles=tuple(trouble for run in own for trouble in run.troubles),
        files=_files(found),
        invalid=tuple(run for run in found if run.violation_count or run.status == "unreadable"),
        missing=tuple(sorted(key for key in planned if key not in ended)),
        examples=_examples(done, planned),
    )


def _read(path: Path, kind: type[T], *, by: str = "run") -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{path} can't be read: {error}\n  `ocg campaign {by}` writes it anew") from error


def _digest(runs: Iterable[RunFacts]) -> str:
    body = sorted((run.key, run.content_digest) for run in runs)
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()


def _versions(runs: Iterable[RunFacts]) -> dict[str, tuple[str, ...]]:
    found: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run.versions.items():
            found.setdefault(name, set()).add(version)
    return {name: tuple(sorted(versions)) for name, versions in sorted(found.items())}


def _strata(
    plan: CampaignPlan, runs: Sequence[RunFacts], ended: set[str], played: CampaignResult | None
) -> tuple[StratumFacts, ...]:
    planned: dict[str, list[PlannedRun]] = {}
    for run in plan.runs:
        planned.setdefault(run.stratum, []).append(run)
    status = Counter((run.stratum, run.status) for run in runs)
    retries = played.retries if played is not None else Counter(run.stratum for run in runs if run.retry_of is not None)
    return tuple(
        StratumFacts(
            stratum=stratum,
            families=len({run.family_id for run in mine}),
            planned=len(mine),
            completed=status[stratum, "completed"],
            void=status[stratum, "void"],
            aborted=status[stratum, "aborted"],
            retries=retries.get(stratum, 0),
            missing=sum(run.key not in ended for run in mine),
            seconds=sum(run.seconds for run in runs if run.stratum == stratum),
        )
        for stratum, mine in sorted(planned.items())
    )


def _streams(runs: Sequence[RunFacts]) -> tuple[StreamFacts, ...]:
    facts = []
    for name in sorted({name for run in runs for name in run.coverage}):
        shares = [run.coverage[name] for run in runs if name in run.coverage]
        facts.append(
            StreamFacts(
                stream=name,
                rows=sum(run.arrived.get(name, 0) for run in runs),
                runs=len(shares),
                coverage_mean=sum(shares) / len(shares),
                coverage_min=min(shares),
                short=sum(share < COVERAGE_WANTED for share in shares),
            )
        )
    return tuple(facts)


def _actions(runs: Iterable[RunFacts]) -> tuple[ActionFacts, ...]:
    counts: dict[tuple[str, str], Counter[str]] = {}
    for run in runs:
        for found in run.actions:
            counts.setdefault((found.action_class, found.action_type), Counter())[found.status] += found.count
    return tuple(
        ActionFacts(action_class=group, action_type=kind, counts={status: found[status] for status in STATUSES})
        for (group, kind), found in sorted(counts.items())
    )


def _files(runs: Iterable[RunFacts]) -> tuple[FileFacts, ...]:
    sizes: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    tables: set[str] = set()
    for run in runs:
        for file in run.files:
            sizes[file.name] += file.size_bytes
            if file.rows is not None:
                tables.add(file.name)
                rows[file.name] += file.rows
    return tuple(
        FileFacts(name=name, size_bytes=size, rows=rows[name] if name in tables else None)
        for name, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    )


def _examples(runs: Iterable[RunFacts], planned: dict[str, PlannedRun]) -> dict[str, RunFacts]:
    """Return a run per stratum: a main one that can be read, what it shows being as strong and as short as there is."""
    strength = {"severe": 0, "visible": 1, "mild": 2}

    def rank(run: RunFacts) -> tuple[int, float, str]:
        factors = planned[run.key].factors
        intensity = factors.fault_intensity or factors.action_intensity
        return strength.get(intensity or "", len(strength)), run.seconds, run.key

    found: dict[str, RunFacts] = {}
    for run in sorted(runs, key=rank):
        if planned[run.key].role == "main" and not run.violation_count:
            found.setdefault(planned[run.key].stratum, run)
    return dict(sorted(found.items()))
