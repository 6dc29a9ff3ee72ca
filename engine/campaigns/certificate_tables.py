"""A campaign's certificates ➜ `certificates.json` and `certificates.md`, and the cells of both tables, which the report shows too.

In: the certificates with what they are of. Out: two files beside the runs. Blocking. Upstream: `certifying`, `certificate_summaries`.
Downstream: `facts` reads the file again, `report` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from otel_control_gym.engine.campaigns.certificate_summaries import (
    CLASSES,
    CertifiedEffect,
    KindSummary,
    in_order,
    summarise,
)

__all__ = ("LEGEND", "CertificateBook", "as_markdown", "certificate_cells", "kind_cells", "weakness", "write_tables")

LEGEND = (
    "Visible: users felt it. Masked: something else changed. None: nothing did. A configuration shows a kind where at least half of its "
    "certificates there are visible. First: what moved first, and where. Delay counts from when it was applied; spread is the largest "
    "number of edges from the target to what changed; size is the mean difference of what moved first. In brackets are intervals over "
    "branches; a pair, two runs of one seed, has none and is no test. Before after compares a run with its own past, its interval is over "
    "windows of time, and what else changed then is in it."
)


class CertificateBook(msgspec.Struct, frozen=True, kw_only=True):
    """Content of `certificates.json`."""

    certificates: tuple[CertifiedEffect, ...]
    kinds: tuple[KindSummary, ...]


def write_tables(
    directory: Path, found: Iterable[CertifiedEffect], meant_masked: Mapping[str, str]
) -> list[CertifiedEffect]:
    """Write both files, and return the certificates in their order; `meant_masked` is as in `summarise`."""
    effects = in_order(found)
    book = CertificateBook(certificates=tuple(effects), kinds=summarise(effects, meant_masked))
    encoded = msgspec.json.format(msgspec.json.encode(book), indent=1) + b"\n"
    page = f"# Effect certificates\n\n{as_markdown(book)}\n".encode()
    for name, content in (("certificates.json", encoded), ("certificates.md", page)):
        draft = directory / f".{name}"
        draft.write_bytes(content)
        draft.replace(directory / name)
    return effects


def as_markdown(book: CertificateBook) -> str:
    """Return what there is to say, without a heading: a line per kind and intensity, and a line per certificate."""
    weaknesses = [f"- {found}" for kind in book.kinds if (found := weakness(kind))]
    parts = [
        [LEGEND],
        weaknesses,
        _table([kind_cells(kind) for kind in book.kinds]),
        _table([certificate_cells(effect) for effect in book.certificates]),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not rows:
        return []
    return [
        f"| {' | '.join(rows[0])} |",
        f"|{'---|' * len(rows[0])}",
        *(f"| {' | '.join(row.values())} |" for row in rows),
    ]


def weakness(kind: KindSummary) -> str | None:
    """Return a sentence on a kind whose `visible` most configurations don't show, or needn't; null where there is nothing to say."""
    felt, there, count = kind.configurations_of("visible"), len(kind.configurations), sum(kind.counts.values())
    found = f"`visible` {kind.kind} is visible in {felt} of {there} configurations (certificates: {count})"
    if kind.is_weak:
        return f"{found}: either its strength or what it is aimed at is to be mended"
    if kind.intensity == "visible" and kind.meant_masked is not None:
        return f"{found}, and needn't be: {kind.meant_masked}"
    return None


def kind_cells(kind: KindSummary) -> dict[str, str]:
    """Return heading -> text of a summary's row."""
    there = len(kind.configurations)
    return {
        "class": kind.action_class,
        "kind": kind.kind,
        "intensity": kind.intensity or "–",
        **{name: str(kind.counts[name]) for name in CLASSES},
        "configurations that show it": f"{kind.configurations_of('visible')} of {there}",
        "median delay [s]": _number(kind.delay_s),
        "median spread [edges]": _number(kind.spread_hops),
    }


def certificate_cells(effect: CertifiedEffect) -> dict[str, str]:
    """Return heading -> text of a certificate's row."""
    found = effect.certificate
    return {
        "kind": effect.kind,
        "target": effect.target or "–",
        "intensity": effect.intensity or "–",
        "configuration": effect.configuration,
        "workload": effect.workload,
        "class": found.effect_class,
        "off target": "–" if found.off_target is None else "yes" if found.off_target else "no",
        "first": "–" if found.first_feature is None else f"{found.first_feature} of {found.first_entity}",
        "delay [s]": _interval(found.delay_s, found.delay_low_s, found.delay_high_s),
        "spread [edges]": "–" if found.spread_hops is None else str(found.spread_hops),
        "size": _interval(found.effect, found.effect_low, found.effect_high, found.unit, signed=True),
        "method": f"{found.n_branches} + {found.n_branches} branches"
        if found.n_branches
        else found.method.replace("_", " "),
    }


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _interval(
    value: float | None, low: float | None, high: float | None, unit: str | None = None, *, signed: bool = False
) -> str:
    if value is None:
        return "–"
    shown = f"{value:+.4g}" if signed else f"{value:.4g}"
    shown = shown if unit in (None, "1") else f"{shown} {unit}"
    return shown if low is None or high is None else f"{shown} ({low:.4g} to {high:.4g})"
