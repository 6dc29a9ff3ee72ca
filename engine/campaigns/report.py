"""A campaign's facts ➜ its report: one HTML page that holds everything, and Markdown with pictures beside it.

In: a campaign's directory. Out: in the same directory `report.html`, `report.md` and `report_pictures/`, one picture per stratum. The same
runs give the same bytes: nothing in a report says when it was made.

Blocking; one run at a time is drawn. Upstream: `engine.campaigns.facts` gathers, `engine.plot` draws. What the pages look like is in
`templates/`.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from otel_control_gym.engine.campaigns.certificate_tables import (
    LEGEND,
    CertificateBook,
    as_markdown,
    certificate_cells,
    kind_cells,
    weakness,
)
from otel_control_gym.engine.campaigns.facts import COVERAGE_WANTED, STATUSES, CampaignFacts, gather
from otel_control_gym.engine.campaigns.plans import PlannedRun
from otel_control_gym.engine.campaigns.run_facts import RunFacts
from otel_control_gym.engine.errors import DatasetError
from otel_control_gym.engine.pages import rendered

__all__ = ("Example", "ReportFiles", "write_report")

_PICTURES = "report_pictures"
_SHOWN = 100  #: troubles, invalid runs and missing keys that are listed one by one


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """A run that shows what its stratum is, drawn; `picture` is relative to the report."""

    stratum: str
    run: RunFacts
    planned: PlannedRun
    service: str  #: whose features are drawn
    picture: str
    png: bytes

    @property
    def data_uri(self) -> str:
        """The picture as an address that needs no file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


class ReportFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a report is, and whether there is something wrong that it names."""

    html: Path
    markdown: Path
    runs: int
    invalid: int
    missing: int
    size_bytes: int


def write_report(directory: Path) -> ReportFiles:
    """Write the report of the campaign in a directory, as far as it is played, and return where it is.

    Raises: UsageError: there is no campaign. DatasetError: one of its files can't be read, or the report can't be written.
    """
    facts = gather(directory)
    try:
        examples = _draw(facts, directory)
        html, markdown = directory / "report.html", directory / "report.md"
        for path in (html, markdown):
            _write(path, _render(f"{path.name}.j2", facts, examples))
    except OSError as error:
        raise DatasetError(f"{error.filename or directory} can't be written: {error.strerror or error}") from error
    return ReportFiles(
        html=html,
        markdown=markdown,
        runs=facts.runs,
        invalid=len(facts.invalid),
        missing=len(facts.missing),
        size_bytes=facts.size_bytes,
    )


def _draw(facts: CampaignFacts, directory: Path) -> list[Example]:
    """Draw a run of each stratum."""
    from otel_control_gym.engine.plot import plot_example
    from otel_control_gym.engine.summary import summarise

    planned = {run.key: run for run in facts.plan.runs}
    examples = []
    for stratum, run in facts.examples.items():
        summary = summarise(Path(run.path))
        service = _affected(planned[run.key], [track.service for track in summary.services], summary.entry)
        file = directory / _PICTURES / f"{stratum}.png"
        plot_example(summary, service, file)
        examples.append(
            Example(
                stratum=stratum,
                run=run,
                planned=planned[run.key],
                service=service,
                picture=f"{_PICTURES}/{file.name}",
                png=file.read_bytes(),
            )
        )
    return examples


def _affected(run: PlannedRun, services: Sequence[str], entry: str) -> str:
    """Return the service that the fault is aimed at, else the action; of an edge the called end; the entry service without either."""
    target = run.factors.fault_target or run.factors.action_target or entry
    named = target.rpartition("->")[2]
    return named if named in services else entry


# --- pages ----------------------------------------------------------------------------------------------------------------


def _render(template: str, facts: CampaignFacts, examples: Sequence[Example]) -> str:
    filters: dict[str, Callable[..., str]] = {
        "size": _size,
        "share": _share,
        "hours": _hours,
        "count": _count,
        "cell": _cell,
        "words": _words,
    }
    book = facts.certificates or CertificateBook(certificates=(), kinds=())
    values = {
        "facts": facts,
        "settings": facts.plan.settings,
        "examples": examples,
        "statuses": STATUSES,
        "coverage_wanted": COVERAGE_WANTED,
        "certificates": [certificate_cells(effect) for effect in book.certificates],
        "certificates_page": as_markdown(book),
        "certificates_legend": LEGEND,
        "certified": [kind_cells(kind) for kind in book.kinds],
        "weaknesses": [(kind.is_weak, found) for kind in book.kinds if (found := weakness(kind))],
        "shown": _SHOWN,
        "zip": zip,
        "total_rows": sum(file.rows or 0 for file in facts.files),
    }
    return rendered(__package__ or "", template, values, filters=filters)


def _size(count: float) -> str:
    """Return bytes for a person: 1.5 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" and count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} GiB"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")  # a narrow space, as ISO 80000 has it


def _words(name: str) -> str:
    return name.replace("_", " ")


def _cell(text: object) -> str:
    """Return a text that is one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
