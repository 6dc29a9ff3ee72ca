"""A campaign's certificates ➜ `certificates.json` and `certificates.md`: which kind × target × intensity users feel, which not.

In: the certificates with what they are of. Out: two files beside the runs. Blocking. Upstream: `certifying`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from otel_control_gym.engine.campaigns.certificates import Certificate

__all__ = ("CertifiedEffect", "as_markdown", "write_tables")

_CLASSES = ("visible", "masked", "none")


class CertifiedEffect(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, and what it is of."""

    key: str  #: of the run in the campaign's plan
    run_id: str
    action_class: Literal["action", "intervention"]
    kind: str
    target: str
    intensity: str  #: empty: the kind has no words for its strength
    configuration: str
    workload: str
    certificate: Certificate


def write_tables(directory: Path, found: Iterable[CertifiedEffect]) -> list[CertifiedEffect]:
    """Write both files, and return the certificates in their order."""
    effects = sorted(
        found, key=lambda effect: (effect.action_class, effect.kind, effect.intensity, effect.configuration, effect.key)
    )
    encoded = msgspec.json.format(msgspec.json.encode({"certificates": effects}), indent=1) + b"\n"
    for name, content in (("certificates.json", encoded), ("certificates.md", as_markdown(effects).encode())):
        draft = directory / f".{name}"
        draft.write_bytes(content)
        draft.replace(directory / name)
    return effects


def as_markdown(effects: Sequence[CertifiedEffect]) -> str:
    """Return a page with the counts by kind and intensity, and a line per certificate."""
    counts: defaultdict[tuple[str, str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_CLASSES, 0))
    for effect in effects:
        counts[effect.action_class, effect.kind, effect.intensity][effect.certificate.effect_class] += 1
    lines = [
        "# Effect certificates",
        "",
        "Visible: users felt it. Masked: something else changed. None: nothing did. Delay counts from when it was",
        "applied; effect is the mean difference of what moved first. `pair` compares two runs of one seed and tests nothing,",
        "`before after` a run with its own past: what else changed then is in it.",
        "",
        "| class | kind | intensity | visible | masked | none |",
        "|---|---|---|---:|---:|---:|",
        *(
            f"| {action_class} | {kind} | {intensity or '–'} | {row['visible']} | {row['masked']} | {row['none']} |"
            for (action_class, kind, intensity), row in counts.items()
        ),
        "",
        "| kind | target | intensity | configuration | class | off target | first | delay [s] | spread | effect | method |",
        "|---|---|---|---|---|---|---|---:|---:|---:|---|",
        *(_line(effect) for effect in effects),
    ]
    return "\n".join(lines) + "\n"


def _line(effect: CertifiedEffect) -> str:
    found = effect.certificate
    first = "–" if found.first_feature is None else f"{found.first_feature} of {found.first_entity}"
    delay = _interval(found.delay_s, found.delay_low_s, found.delay_high_s, "")
    size = _interval(found.effect, found.effect_low, found.effect_high, found.unit or "")
    off = "–" if found.off_target is None else "yes" if found.off_target else "no"
    spread = "–" if found.spread_hops is None else str(found.spread_hops)
    method = f"{found.n_branches} + {found.n_branches} branches" if found.n_branches else found.method.replace("_", " ")
    cells = (
        effect.kind,
        effect.target or "–",
        effect.intensity or "–",
        effect.configuration,
        found.effect_class,
        off,
        first,
        delay,
        spread,
        size,
        method,
    )
    return f"| {' | '.join(cells)} |"


def _interval(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    if value is None:
        return "–"
    shown = f"{value:+.4g} {unit}".strip() if unit else f"{value:.4g}"
    return shown if low is None or high is None else f"{shown} ({low:.4g} to {high:.4g})"
