"""Two measurements of an edge's latency ➜ how much later its calls are answered, and whether that is what was asked for. Pure.

In: calls and their summed time, scrape interval by scrape interval. Out: a mean with its standard error, a difference with its interval, a
finding.

The mean is a ratio (time over calls), and calls within an interval resemble each other; so its error comes from how much the intervals
differ, weighted by their calls (the ratio estimator; Cochran, Sampling Techniques, 3rd edition, 6.4). The difference of two means has a
95 % interval by Welch's t. `TOLERANCE_MS` was chosen beforehand: a fifth of the probe's delay.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import stats

from otel_control_gym.stands.cluster.findings import Finding, failed, fine, unknown, warning

__all__ = ("PROBE_DELAY_MS", "TOLERANCE_MS", "Difference", "Latency", "difference", "judged", "latency")

PROBE_DELAY_MS = 50
TOLERANCE_MS = 10.0
_CONFIDENCE = 0.95
_FEWEST_INTERVALS = 3  #: with calls in them; with fewer nothing is known of how much they differ
_CHECK = "delay"

Floats = npt.NDArray[np.float64]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long the calls of an edge took in a window, as their caller saw it."""

    calls: int
    mean_ms: float
    error_ms: float  #: standard error of the mean; infinite: too few intervals had calls
    intervals: int  #: that had calls


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """How much longer calls took than at another time, give or take `half_width_ms` with 95 % confidence."""

    milliseconds: float
    half_width_ms: float

    def __str__(self) -> str:
        return f"{self.milliseconds:+.2f} ± {self.half_width_ms:.2f} ms"


def latency(calls: Floats, time_ms: Floats) -> Latency | None:
    """Return the mean over intervals; `calls` [K], and `time_ms` [K]: what they took together. None: there were no calls."""
    some = calls > 0
    calls, time_ms = calls[some], time_ms[some]
    count = len(calls)
    if not count:
        return None
    mean = time_ms.sum() / calls.sum()
    error = math.inf
    if count >= _FEWEST_INTERVALS:
        error = math.sqrt(float(np.square(time_ms - mean * calls).sum()) * count / (count - 1)) / float(calls.sum())
    return Latency(calls=round(float(calls.sum())), mean_ms=float(mean), error_ms=error, intervals=count)


def difference(found: Latency, reference: Latency) -> Difference:
    """Return how much longer calls took than in a reference."""
    squares = (found.error_ms**2, reference.error_ms**2)
    total, milliseconds = sum(squares), found.mean_ms - reference.mean_ms
    if not math.isfinite(total) or total == 0:
        return Difference(milliseconds=milliseconds, half_width_ms=math.sqrt(total))
    parts = sum(square**2 / (one.intervals - 1) for square, one in zip(squares, (found, reference), strict=True))
    quantile = float(stats.t.ppf((1 + _CONFIDENCE) / 2, total**2 / parts))
    return Difference(milliseconds=milliseconds, half_width_ms=quantile * math.sqrt(total))


def judged(edge: str, what: str, asked_ms: int, found: Difference) -> Finding:
    """Return whether an edge shows what was asked for; `what` names the moment (`under a delay of 50 ms`)."""
    said = f"{edge} {what}: {found}"
    off = found.milliseconds - asked_ms
    if found.half_width_ms > TOLERANCE_MS:
        return unknown(
            _CHECK,
            f"{said}: too unsteady to tell whether that is {asked_ms} ms",
            "more users, or an edge with more calls: --edge SOURCE->TARGET",
        )
    if abs(off) <= TOLERANCE_MS:
        return fine(_CHECK, said)
    if not asked_ms:
        return failed(
            _CHECK,
            f"{said}, where nothing should show",
            "is something else under way on the stand? try again; kubectl get podnetworkchaos shows the rules that are left",
        )
    if found.milliseconds <= TOLERANCE_MS:
        return failed(
            _CHECK,
            f"{said}: no delay, though Chaos Mesh says that it is there",
            "its rules don't meet the packets: iptables-legacy beside nftables, or addresses that are translated between pods; "
            "see the daemon's log on the target's node",
        )
    return warning(
        _CHECK,
        f"{said} in place of {asked_ms} ms",
        "calls that dial anew, or take several round trips, are late several times: faults on this edge are as much stronger or weaker",
    )
