"""A benchmark's result: named figures with units, each beside its floor, and a digest of the work that was done.

The digest makes a faster run that did less visible. Compare figures as ratios within one run: machines are noisy.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ("Measurement", "Result", "from_figures", "machine", "median_ms")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One figure. `floor` is what the same machine could do at best in the same run, `aim` what the project wants."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    floor_name: str = ""
    aim: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one run of the benchmarks measured."""

    machine: dict[str, str]
    measurements: tuple[Measurement, ...]

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(path)


def machine() -> dict[str, str]:
    """Return what the figures depend on."""
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "processors": str(os.cpu_count()),
        "python": platform.python_version(),
    }


def median_ms(seconds: list[float]) -> float:
    """Return the median of durations, in milliseconds."""
    return statistics.median(seconds) * 1000


def from_figures(about: str, figures: dict[str, float | str]) -> list[Measurement]:
    """Return measurements of figures that are named `what [unit]`; an entry `digest` goes with each of them."""
    detail = {"digest": figures["digest"]} if "digest" in figures else {}
    measurements = []
    for heading, value in figures.items():
        if isinstance(value, str):
            continue
        name, _, unit = heading.removesuffix("]").rpartition(" [")
        measurements.append(Measurement(name=f"{about}: {name}", value=value, unit=unit, detail=detail))
    return measurements
