"""What a leak test found: its record, as JSON and as Markdown beside the campaign's runs.

In: a report. Out: `leaks-TEST.json` and `leaks-TEST.md` in the campaign's directory. Upstream: `engine.campaigns.leaks`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ("Channel", "LeakReport", "Verdict", "markdown_of", "write_report")

Verdict = Literal["at chance", "leaks", "too few runs", "by nature"]
"""What is said of a channel; `too few runs`: nothing was found, and not enough seen to rule it out."""


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel tells, of one label."""

    channel: str
    label: str  #: zero_strength, fault_type, fault_target or stratum
    runs: int
    columns: int  #: that differ between runs
    found: float  #: AUC, or balanced accuracy
    chance: float
    bound: float  #: upper 95 % bound of the AUC, or the corrected p-value
    verdict: Verdict


class LeakReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a leak test."""

    campaign: str
    test: Literal["zero_strength", "before_onset"]
    runs: int
    families: int
    seconds: float | None  #: from the run's start that were looked at; null: whole runs
    channels: tuple[Channel, ...]
    identical_public_logs: int | None  #: pairs; null where runs have no pairs
    different_public_logs: tuple[str, ...]  #: the others, by the key of the run
    giveaways: dict[str, tuple[str, ...]]  #: word -> keys of the runs in which a public record holds it
    holds: bool  #: every judged channel is at chance, and nothing gives itself away


def write_report(report: LeakReport, directory: Path) -> tuple[Path, Path]:
    """Write a report as JSON and as Markdown, each at once or not at all; return the files."""
    name = f"leaks-{report.test.replace('_', '-')}"
    written = (directory / f"{name}.json", directory / f"{name}.md")
    contents = (msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n", markdown_of(report).encode())
    for path, content in zip(written, contents, strict=True):
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_bytes(content)
        draft.replace(path)
    return written


def markdown_of(report: LeakReport) -> str:
    """Return a report for people."""
    zero = report.test == "zero_strength"
    lines = [
        f"# Leaks in {report.campaign}: {'zero strength' if zero else 'before the onset'}",
        "",
        f"**{'No leak was found.' if report.holds else 'Not shown to be free of leaks.'}** "
        f"{report.runs} runs of {report.families} families.",
        "",
        "Can runs with an intervention of strength zero be told from their untouched siblings, by anything that is public? "
        "A channel is at chance if the upper 95 % bound of its AUC is at most 0.55."
        if zero
        else f"Can stratum, fault type and target be foretold from what was public in the first {report.seconds:g} s, before anything "
        "was done in any run? A channel is at chance if p, corrected over the channels of a label, is above 0.05.",
        "",
        f"| channel | label | runs | columns | {'AUC' if zero else 'balanced accuracy'} | chance | "
        f"{'upper bound' if zero else 'p'} | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {channel.channel} | {channel.label} | {channel.runs} | {channel.columns} | {channel.found:.3f} | "
            f"{channel.chance:.3f} | {channel.bound:.3f} | {channel.verdict} |"
            for channel in report.channels
        ),
        "",
        "By nature: files that also hold rows of the truth stream, and words in which a policy says who it is. Neither is what "
        "`ocg.open_run` gives a model without `truth=True` as input.",
    ]
    if report.identical_public_logs is not None:
        pairs = report.identical_public_logs + len(report.different_public_logs)
        lines += ["", f"Identical public logs, byte for byte: {report.identical_public_logs} of {pairs} pairs."]
        lines += [f"- differs: {key}" for key in report.different_public_logs]
    for word, keys in report.giveaways.items():
        lines += ["", f"`{word}` stands in public records of {len(keys)} runs, e.g. {keys[0]}."]
    return "\n".join(lines) + "\n"
