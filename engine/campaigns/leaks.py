"""A campaign's runs ➜ whether anything public gives away what only the truth stream may know.

In: a campaign's directory, with its `plan.json` and its runs. Out: a `LeakReport` of one of two tests (science.md section 8):

- zero strength: runs in which an intervention was made without any effect, against their untouched siblings. No channel may tell them
  apart: the upper 95 % bound of the AUC is at most 0.55. Beside it, exactly: how many pairs have the same public log, byte for byte.
- before the onset: fault type, fault target and stratum of ordinary runs, from what was public strictly before anything was done.
  All runs are seen from their start to the earliest onset of any: a span that ended at each run's own onset would tell how late that is,
  and with it the strata in which something is done late.

In both, no public record may hold a word by which the stand's own tools give themselves away (`leak_channels.GIVEAWAYS`).

Blocking; runs are read in processes of their own. Downstream: `ocg campaign leaks`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from otel_control_gym.engine.campaigns.leak_channels import BY_NATURE, CHANNELS, Signs, giveaways_in, signs_of
from otel_control_gym.engine.campaigns.leak_reports import Channel, LeakReport, Verdict
from otel_control_gym.engine.campaigns.leak_statistics import (
    Matrix,
    auc_of,
    foretold,
    matrix_of,
    permutations,
    scores_of,
)
from otel_control_gym.engine.campaigns.plans import CampaignPlan, PlannedRun
from otel_control_gym.engine.campaigns.public_views import Span, public_view
from otel_control_gym.engine.errors import DatasetError, UsageError
from otel_control_gym.engine.randomness import derive_seed
from otel_control_gym.engine.runs import Run, find_runs, open_run

__all__ = (
    "Seen",
    "before_onset_report",
    "judge_before_onset",
    "judge_zero_strength",
    "read_plan",
    "zero_strength_report",
)

AUC_BOUND = 0.55  #: that the upper bound of an AUC may reach
LEAST_P = 0.05  #: at or below it a label is foretold
PERMUTATIONS = 500
TOGETHER = "together"  #: all judged channels at once
_ROUNDING = 1e-9
_LEAST_FAMILIES = 2  #: of a label's level, so that one can be learnt from and one told


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the tests see it: what was planned, and what is public of it."""

    planned: PlannedRun
    signs: dict[str, Signs]
    giveaways: list[str]
    digest: str  #: of the public log


# --- the tests ------------------------------------------------------------------------------------------------------------


def zero_strength_report(directory: Path, workers: int = 1) -> LeakReport:
    """Return whether a campaign's zero-strength runs can be told from their untouched siblings.

    Raises: UsageError: there are no such runs. DatasetError: one can't be read.
    """
    plan = read_plan(directory)
    pairs = {run.family_id: run for run in plan.runs if run.stratum == "zero_strength"}
    runs = [(planned, run, None) for planned, run in _played(plan, directory) if planned.family_id in pairs]
    if not runs:
        raise UsageError(f"{directory} has no runs of strength zero\n  `ocg campaign run leaks` plays some")
    return judge_zero_strength(plan.settings.name, _seen(runs, workers))


def judge_zero_strength(campaign: str, seen: Sequence[Seen]) -> LeakReport:
    """Return the report on runs of strength zero and their siblings; families that lack one of the two are left out."""
    roles: dict[str, dict[str, Seen]] = {}
    for run in seen:
        roles.setdefault(run.planned.family_id, {})[run.planned.role] = run
    pairs = [pair for _, pair in sorted(roles.items()) if len(pair) == 2]
    if len(pairs) < 2:
        raise UsageError(f"campaign {campaign!r} has {len(pairs)} pairs of strength zero and untouched: 2 are needed")
    whole = [pair[role] for pair in pairs for role in ("main", "sibling")]
    kinds = np.array([run.planned.role == "main" for run in whole])
    families = [run.planned.family_id for run in whole]
    channels = []
    for name, table in _tables(whole).items():
        found = auc_of(scores_of(table, kinds, families), kinds, families)
        channels.append(
            Channel(
                channel=name,
                label="zero_strength",
                runs=len(whole),
                columns=table.shape[1],
                found=found.auc,
                chance=0.5,
                bound=found.upper,
                verdict=_verdict(name, told=found.lower > 0.5 + _ROUNDING, ruled_out=found.upper <= AUC_BOUND),
            )
        )
    different = [pair["main"].planned.key for pair in pairs if pair["main"].digest != pair["sibling"].digest]
    return _report(
        campaign, "zero_strength", whole, channels, identical=len(pairs) - len(different), different=different
    )


def before_onset_report(directory: Path, workers: int = 1) -> LeakReport:
    """Return whether what happens in a campaign's runs can be foretold from what was public before.

    Raises: UsageError: there are no runs in which anything is done. DatasetError: one can't be read.
    """
    plan = read_plan(directory)
    mains = [(planned, run) for planned, run in _played(plan, directory) if planned.role == "main"]
    onsets = [
        onset + float(run.metadata["granularity_config"]["warmup_seconds"])
        for planned, run in mains
        if (onset := _onset(planned)) is not None
    ]
    if not onsets:
        raise UsageError(f"{directory} has no runs in which anything is done: there is nothing to foretell")
    seconds = min(onsets)
    runs = [(planned, run, Span(0.0, seconds)) for planned, run in mains]
    return judge_before_onset(plan.settings.name, _seen(runs, workers), seed=plan.settings.seed, seconds=seconds)


def judge_before_onset(campaign: str, seen: Sequence[Seen], *, seed: int, seconds: float) -> LeakReport:
    """Return the report on runs whose first `seconds` were seen, before anything was done in any; permutations are drawn under `seed`."""
    labels: dict[str, dict[str, str | None]] = {
        "stratum": {run.planned.key: run.planned.stratum for run in seen},
        "fault_type": {run.planned.key: run.planned.factors.fault_type for run in seen},
        "fault_target": {run.planned.key: run.planned.factors.fault_target for run in seen},
    }
    channels: list[Channel] = []
    for label, levels in labels.items():
        counts: dict[str, int] = {}
        for level in levels.values():
            if level is not None:
                counts[level] = counts.get(level, 0) + 1
        usable = {level for level, count in counts.items() if count >= _LEAST_FAMILIES}
        told = [run for run in seen if levels[run.planned.key] in usable]
        if len(usable) >= 2:
            channels += _foretold(label, told, [str(levels[run.planned.key]) for run in told], seed)
    return _report(campaign, "before_onset", seen, channels, seconds=seconds)


def _foretold(label: str, runs: Sequence[Seen], levels: Sequence[str], seed: int) -> list[Channel]:
    tables = _tables(runs)
    families = [run.planned.family_id for run in runs]
    groups = [run.planned.factors.configuration for run in runs]
    orders = permutations(groups, PERMUTATIONS, derive_seed(seed, f"leaks/{label}"))
    judged = {name: table for name, table in tables.items() if name not in BY_NATURE}
    shown = {name: table for name, table in tables.items() if name in BY_NATURE}
    found = foretold(judged, levels, families, orders) | foretold(shown, levels, families, orders)
    return [
        Channel(
            channel=name,
            label=label,
            runs=len(runs),
            columns=tables[name].shape[1],
            found=told.accuracy,
            chance=told.chance,
            bound=told.p,
            verdict=_verdict(name, told=told.p <= LEAST_P, ruled_out=True),
        )
        for name, told in found.items()
    ]


def _verdict(channel: str, *, told: bool, ruled_out: bool) -> Verdict:
    if channel in BY_NATURE:
        return "by nature" if told else "at chance"
    if ruled_out and not told:
        return "at chance"
    return "leaks" if told else "too few runs"


def _tables(runs: Sequence[Seen]) -> dict[str, Matrix]:
    """Return the matrix of every channel that says anything, and of the judged ones together."""
    tables = {name: matrix_of([run.signs[name] for run in runs]) for name in CHANNELS}
    tables = {name: table for name, table in tables.items() if any(run.signs[name] for run in runs)}
    judged = [table for name, table in tables.items() if name not in BY_NATURE]
    return tables | {TOGETHER: np.hstack(judged)}


def _report(
    campaign: str,
    test: Literal["zero_strength", "before_onset"],
    runs: Sequence[Seen],
    channels: Sequence[Channel],
    *,
    seconds: float | None = None,
    identical: int | None = None,
    different: Sequence[str] = (),
) -> LeakReport:
    giveaways: dict[str, list[str]] = {}
    for run in runs:
        for word in run.giveaways:
            giveaways.setdefault(word, []).append(run.planned.key)
    fine = all(channel.verdict == "at chance" for channel in channels if channel.channel not in BY_NATURE)
    return LeakReport(
        campaign=campaign,
        test=test,
        runs=len(runs),
        families=len({run.planned.family_id for run in runs}),
        seconds=seconds,
        channels=tuple(channels),
        identical_public_logs=identical,
        different_public_logs=tuple(different),
        giveaways={word: tuple(keys) for word, keys in sorted(giveaways.items())},
        holds=fine and not giveaways,
    )


# --- runs -----------------------------------------------------------------------------------------------------------------


def read_plan(directory: Path) -> CampaignPlan:
    """Return the plan of a campaign that was played into a directory.

    Raises: UsageError: there is none. DatasetError: it can't be read.
    """
    file = directory / "plan.json"
    try:
        return msgspec.json.decode(file.read_bytes(), type=CampaignPlan)
    except FileNotFoundError:
        name = directory.name.removeprefix("campaign=")
        raise UsageError(f"no campaign {name!r} has been run here: {file} is missing") from None
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{file} can't be read: {error}") from error


def _played(plan: CampaignPlan, directory: Path) -> list[tuple[PlannedRun, Run]]:
    """Return the runs of a plan that are there, in the order in which they were played."""
    planned = {run.key: run for run in plan.runs}
    found = []
    for run in find_runs(directory.parent):
        if run.path.parent.parent == directory and run.status != "aborted":
            known = planned.get(str(open_run(run.path, truth=True).metadata["scenario_id"]))
            if known is not None:
                found.append((known, run))
    return found


def _onset(run: PlannedRun) -> float | None:
    """Return the moment of control [s] at which anything is first done in a run; None where nothing is."""
    policy = run.scenario.policy
    moments = [planned.at_seconds for planned in (*run.scenario.interventions, *policy.actions)]
    return min(map(float, (*moments, *policy.decide_at_seconds)), default=None)


def _seen(runs: Sequence[tuple[PlannedRun, Run, Span | None]], workers: int) -> list[Seen]:
    if workers == 1:
        return [_look(planned, run.path, span) for planned, run, span in runs]
    with ProcessPoolExecutor(workers) as pool:
        planned, paths, spans = zip(*((planned, run.path, span) for planned, run, span in runs), strict=True)
        return list(pool.map(_look, planned, paths, spans, chunksize=4))


def _look(planned: PlannedRun, path: Path, span: Span | None) -> Seen:
    view = public_view(path, span)
    return Seen(planned=planned, signs=signs_of(view), giveaways=giveaways_in(view), digest=view.digest)
