"""When did a series first change after a moment? The rule by which effects are dated where no sibling run tells them.

In: a series over buckets, the buckets before the moment, those after it. Out: the first bucket of the change, or None; or that nobody can
say. The rule is a before/after comparison with robust thresholds, no proof of an effect: load drifts, and other actions change series,
too. A certificate, measured against a sibling run with the same noise, is better where there is one.

The rule: with m the median before and s the median absolute deviation from it times 1.4826 (the standard deviation of a normal
distribution with that deviation; Hampel's identifier), a value differs when it is further from m than `DEVIATIONS` · s, than `SHARE` · |m|
and than the feature's floor. A change begins with the first of `CONSECUTIVE` known values in a row that differ in the same direction.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = ("CONSECUTIVE", "DEVIATIONS", "FEWEST_BEFORE", "FLOORS", "SHARE", "Change", "first_change")

DEVIATIONS = 6.0
SHARE = 0.25
CONSECUTIVE = 2
FEWEST_BEFORE = 6  #: known values, to say what was normal

FLOORS: dict[str, float] = {
    "request_rate": 0.5,
    "error_ratio": 0.02,
    "latency_mean_ms": 5.0,
    "cpu_usage_cores": 0.02,
    "memory_usage_bytes": 8.0 * 2**20,
    "restarts": 0.5,
}
"""Features that are looked at, each with the smallest difference that matters, in its unit. Echoes of an actuator (replicas, limits) are
none of them."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Where a series changed, from what to what."""

    bucket: int  #: index into the series
    before: float  #: median before
    after: float  #: median of the values in the row that made it a change
    direction: Literal["up", "down"]


def first_change(
    values: npt.NDArray[np.float64], *, start: int, split: int, end: int, floor: float
) -> Change | Literal["unchanged", "undecided"]:
    """Return the first change in [split, end), judged by [start, split); `undecided` where too little is known before or after."""
    known_before = values[start:split][~np.isnan(values[start:split])]
    after = [index for index in range(split, end) if not np.isnan(values[index])]
    if len(known_before) < FEWEST_BEFORE or len(after) < CONSECUTIVE:
        return "undecided"
    median = float(np.median(known_before))
    spread = 1.4826 * float(np.median(np.abs(known_before - median)))
    threshold = max(DEVIATIONS * spread, SHARE * abs(median), floor)
    signs = [int(np.sign(values[index] - median)) * int(abs(values[index] - median) > threshold) for index in after]
    for place in range(len(after) - CONSECUTIVE + 1):
        row = signs[place : place + CONSECUTIVE]
        if row[0] != 0 and len(set(row)) == 1:
            reached = float(np.median(values[after[place : place + CONSECUTIVE]]))
            return Change(bucket=after[place], before=median, after=reached, direction="up" if row[0] > 0 else "down")
    return "unchanged"
