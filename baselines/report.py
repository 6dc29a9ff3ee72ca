"""What a campaign says about acting ➜ one HTML page that holds everything, Markdown with pictures beside it, and figures for programs.

In: a campaign's directory: its runs, and what `ocg baseline evaluate` and `ocg campaign counterfactual|contrast|certify` left there.
Out: in the same directory `answers.html`, `answers.md` and `answers_pictures/`. Nothing is trained here; a section whose inputs aren't
there says which command makes them. The same files give the same bytes.

Blocking. Upstream: `report_sections`, `report_labels`. What the pages look like is in `templates/`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from otel_control_gym.baselines.branched_decisions import branched_decisions
from otel_control_gym.baselines.catalogue import (
    PREDICTIONS_FILE,
    evaluate_baseline,
    kept_evaluation,
    train_baseline,
)
from otel_control_gym.baselines.counterfactual_tables import COUNTERFACTUALS_FILE, read_branches
from otel_control_gym.baselines.evaluations import Cell, Evaluation, Task
from otel_control_gym.baselines.report_labels import labels_section, streams_section
from otel_control_gym.baselines.report_parts import Section
from otel_control_gym.baselines.report_sections import (
    cause_section,
    edges_section,
    effects_section,
    headline_section,
    root_cause_section,
)
from otel_control_gym.baselines.treatment_effects import AverageEffect, average_effects
from otel_control_gym.engine.errors import DatasetError, OtelControlGymError, UsageError
from otel_control_gym.engine.pages import rendered

__all__ = ("SPLITS", "AnswerFiles", "answers", "prepare", "write_answers")

SPLITS: tuple[str, ...] = ("crossed", "iid")
"""Which split's scores are taken where several are kept: every family scored first."""
_PICTURES = "answers_pictures"
_ASKED = ("next-state", "effect", "cause", "streams", "anomaly", "root-cause")  #: baselines that sections are made of
_FROM_BRANCHES = ("effect", "cause")


class AnswerFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a report is, and what it says, for programs."""

    campaign: str
    html: Path
    markdown: Path
    action_conditioned_over_passive: Mapping[
        str, Any
    ]  #: {changed: {ratio, low, high, …}, unchanged: {…}}; empty: not evaluated yet
    wanting: Mapping[str, tuple[str, ...]]  #: section -> commands that make what it lacks
    sections: Mapping[str, Mapping[str, Any]]  #: figures


def prepare(directory: Path, *, split: str = SPLITS[0], seeds: Sequence[int] = (0, 1, 2, 3, 4)) -> dict[str, str]:
    """Train and evaluate what the report asks for and has no scores yet; return why a baseline couldn't be, by name.

    Raises: UsageError: there is no such campaign.
    """
    _check(directory)
    task, failed = Task(directory=directory, split=split, seeds=tuple(seeds)), dict[str, str]()
    for name in _ASKED:
        if kept_evaluation(name, directory, [split]) is None:
            try:
                train_baseline(name, task)
                evaluate_baseline(name, task)
            except OtelControlGymError as error:  # no branches, too few families: the section says what to do
                failed[name] = str(error)
    return failed


def answers(directory: Path, *, splits: Sequence[str] = SPLITS) -> list[Section]:
    """Return the sections of a campaign's report.

    Raises: UsageError: there is no such campaign, or no run in it. DatasetError: a file can't be read.
    """
    _check(directory)
    campaign = directory.name.removeprefix("campaign=")
    found = {name: kept_evaluation(name, directory, splits) for name in _ASKED}
    commands = {name: _commands(name, campaign, splits[0]) for name in _ASKED}
    return [
        headline_section(
            found["next-state"],
            [f"ocg campaign counterfactual {campaign}", *commands["next-state"]],
        ),
        effects_section(
            _average_effects(directory),
            found["effect"],
            _certificates(directory),
            [*commands["effect"], f"ocg campaign certify {campaign}"],
        ),
        streams_section(found["streams"], commands["streams"]),
        labels_section(directory, _predictions(directory, found["next-state"]), commands["next-state"]),
        edges_section(found["next-state"], commands["next-state"]),
        cause_section(found["cause"], commands["cause"]),
        root_cause_section(found["root-cause"], found["anomaly"], [*commands["anomaly"], *commands["root-cause"]]),
    ]


def write_answers(directory: Path, *, splits: Sequence[str] = SPLITS) -> AnswerFiles:
    """Write the report of the campaign in a directory, and return where it is and what it says.

    Raises: UsageError: there is no such campaign, or no run in it. DatasetError: a file can't be read or written.
    """
    sections = answers(directory, splits=splits)
    campaign = directory.name.removeprefix("campaign=")
    html, markdown = directory / "answers.html", directory / "answers.md"
    try:
        _write_pictures(directory / _PICTURES, sections)
        for path in (html, markdown):
            draft = path.with_name(f".{path.name}")
            draft.write_text(_render(f"{path.name}.j2", campaign, sections), encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise DatasetError(f"{error.filename or directory} can't be written: {error.strerror or error}") from error
    figures = {section.key: section.figures for section in sections}
    return AnswerFiles(
        campaign=campaign,
        html=html,
        markdown=markdown,
        action_conditioned_over_passive=figures["action_conditioned_over_passive"],
        wanting={section.key: section.wanting for section in sections if section.wanting},
        sections=figures,
    )


# --- what is there --------------------------------------------------------------------------------------------------------


def _check(directory: Path) -> None:
    if not directory.is_dir():
        raise UsageError(
            f"there is no campaign {directory.name.removeprefix('campaign=')!r} in {directory.parent}\n"
            "  `ocg campaign run` plays one"
        )


def _commands(name: str, campaign: str, split: str) -> tuple[str, ...]:
    """Return the commands that make a baseline's scores, with what they need first."""
    first = {"effect": "counterfactual", "cause": "contrast"}
    made = f"--campaign {campaign} --split {split}"
    return (
        *((f"ocg campaign {first[name]} {campaign}",) if name in _FROM_BRANCHES else ()),
        f"ocg baseline train {name} {made}",
        f"ocg baseline evaluate {name} {made}",
    )


def _predictions(directory: Path, found: Evaluation | None) -> Path | None:
    """Return the predictions that were kept with an evaluation of `next-state`."""
    if found is None:
        return None
    path = directory / "baselines" / "next-state" / found.split / PREDICTIONS_FILE
    return path if path.is_file() else None


def _average_effects(directory: Path) -> list[AverageEffect]:
    """Return what branches show of actions, whether a model of it was trained or not."""
    if not (directory / COUNTERFACTUALS_FILE).is_file():
        return []
    return average_effects(branched_decisions(read_branches(directory)))


def _certificates(directory: Path) -> list[dict[str, Any]]:
    path = directory / "certificates.json"
    if not path.is_file():
        return []
    try:
        found: list[dict[str, Any]] = json.loads(path.read_bytes())["certificates"]
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path} can't be read: {error}\n  `ocg campaign certify` writes it anew") from error
    return found


# --- pages ----------------------------------------------------------------------------------------------------------------


def _write_pictures(folder: Path, sections: Sequence[Section]) -> None:
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for section in sections:
        for picture in section.pictures:
            (draft / f"{picture.name}.png").write_bytes(picture.png)
    shutil.rmtree(folder, ignore_errors=True)
    draft.replace(folder)


def _render(template: str, campaign: str, sections: Sequence[Section]) -> str:
    return rendered(
        __package__ or "",
        template,
        {"campaign": campaign, "sections": sections, "pictures": _PICTURES},
        filters={"cell": _cell, "markdown_cell": _markdown_cell},
    )


def _cell(value: Cell) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _markdown_cell(value: Cell) -> str:
    return " ".join(_cell(value).split()).replace("|", "\\|")
