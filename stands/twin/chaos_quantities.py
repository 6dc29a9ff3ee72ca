"""The numbers in a chaos object's spec, read as Chaos Mesh's programs read them.

In: the texts of a spec. Out: nanoseconds, milliseconds, bytes, seconds, shares; None where the text isn't such a number. Pure.
"""

from __future__ import annotations

import math
import re

from otel_control_gym.engine.clock import SECOND

__all__ = ("LATENCY", "go_duration", "memory_bytes", "milliseconds", "ramp_seconds", "share")

LATENCY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*")
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|K|M|G|T)(?:I?B)?")
_SIZES = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def go_duration(text: object) -> int | None:
    """Return a duration in Go's notation (`1h30m`, `90s`, `-5s`) in nanoseconds, or None if it isn't one."""
    if text == "0":
        return 0
    if not isinstance(text, str) or _DURATION.fullmatch(text) is None:
        return None
    total = sum(round(float(number) * _UNITS[unit]) for number, unit in _DURATION_PART.findall(text))
    return -total if text.startswith("-") else total


def memory_bytes(size: object) -> int | None:
    """Return a memory stressor's size in bytes, or None if it isn't one; `MB` and `MiB` are the same to Chaos Mesh, powers of 1024."""
    match = _SIZE.fullmatch(size.strip().upper()) if isinstance(size, str) else None
    return None if match is None else int(float(match[1]) * _SIZES[match[2]])


def ramp_seconds(options: object) -> float | None:
    """Return how long a memory stressor takes to grow, by its options (`["--time 90s"]`); None: they say something else."""
    if not options:
        return 0.0
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        return None
    words = " ".join(options).replace("=", " ").split()
    if not words:
        return 0.0
    length = go_duration(words[1]) if len(words) == 2 and words[0] in ("--time", "-time") else None
    return None if length is None or length < 0 else length / SECOND


def milliseconds(text: str) -> float:
    """Return a latency as the chaos daemon applies it [ms]: one with a fraction (`0.5s`) is dropped, a quirk of the real one."""
    match = LATENCY.fullmatch(text)
    if match is None or "." in match[1]:
        return 0.0
    return int(match[1]) * _UNITS[match[2]] / 10**6


def share(text: object) -> float | None:
    """Return a percentage (`"8"`, `"2.5"`) as a share, not bounded, or None if the text isn't a number."""
    try:
        number = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return None
    return number / 100 if math.isfinite(number) else None
