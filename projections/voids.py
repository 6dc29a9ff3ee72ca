"""A state ➜ whether the stand was sick of itself before anything was done to it.

In: a state. Out: the first rule of `VOID_RULES` that the run breaks, with what was seen, or None. Only the time before the onset is looked
at: from the run's start to the first intervention, or the first action other than `noop`, whichever came first; where nothing was done,
to the end of control. What happens after the onset may be the fault's own effect, and a rule that looked at it would leave out
the severest cases.

A void run is kept, counted, and left out of datasets by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from otel_control_gym.engine.clock import SECOND
from otel_control_gym.engine.events import CollectorGap
from otel_control_gym.engine.settings import Distortion
from otel_control_gym.projections.fold import RunState

__all__ = ("VOID_RULES", "Void", "find_void", "missing_share", "onset")

LEAST_COVERAGE = 0.95  #: of the metrics stream: below it, features and graph have holes
LEAST_LOAD = 0.9  #: of the users that were asked for, at some moment; of the rate of open arrivals
_LOAD_WINDOW = 60 * SECOND  #: before the onset, in which load is judged
_OOM = "OOMKilled"


class Void(msgspec.Struct, frozen=True):
    """Why a run is void."""

    rule_id: str
    reason: str


def find_void(state: RunState) -> Void | None:
    """Return why a run is void, or None; of several reasons the first in the order of the rules."""
    end = onset(state)
    for rule_id, (_, judge) in _RULES.items():
        reason = judge(state, end)
        if reason:
            return Void(rule_id, reason)
    return None


def onset(state: RunState) -> int:
    """Return the moment [ns] before which nothing was done to the stand."""
    hidden = [life.requested.time for life in state.truth.lives.all()]
    public = [life.requested.time for life in state.lives.all() if life.requested.action_type != "noop"]
    cooldown = [phase.time for phase in state.phases if phase.phase == "cooldown"]
    return min([*hidden, *public, *cooldown, state.known_until])


def missing_share(state: RunState, source: str, start: int, end: int) -> float:
    """Return which share of [start, end) a source gave nothing for, by its gaps; one of some services' part counts for these alone."""
    gaps = sorted((gap for gap in state.gaps if gap.source == source), key=lambda gap: (gap.start, gap.end))
    if end <= start:
        return 0.0
    if not any(gap.services for gap in gaps):
        return _missed(gaps, start, end) / (end - start)
    services = [node.id for node in state.graph.nodes]
    missed = [
        _missed([gap for gap in gaps if not gap.services or name in gap.services], start, end) for name in services
    ]
    return sum(missed) / (len(services) * (end - start))


def _missed(gaps: Sequence[CollectorGap], start: int, end: int) -> int:
    """Return how long [ns] of [start, end) lies in gaps, which are in order and may overlap."""
    total, reached = 0, start
    for gap in gaps:
        first, last = max(gap.start, reached), min(gap.end, end)
        if last > first:
            total, reached = total + last - first, last
    return total


def _killed(state: RunState, end: int) -> str:
    restarts: dict[str, int] = {}
    for row in state.pods.all():
        if row.time >= end:
            break
        known = restarts.setdefault(row.uid, row.restart_count)
        fresh = row.restart_count > known or not row.running
        if row.reason == _OOM and fresh and row.change != "added":
            seconds = (row.time - state.origin) / SECOND
            return f"{row.pod} was OOM-killed {seconds:g} s after the start"
    return ""


def _unloaded(state: RunState, end: int) -> str:
    start = max(state.origin, end - _LOAD_WINDOW)
    rows = [row for row in state.workload.all() if start <= row.time <= end]
    told = [row for row in rows if row.users_target > 0]
    if told and all(row.users_active < LEAST_LOAD * row.users_target for row in told):
        best = max(told, key=lambda row: row.users_active / row.users_target)
        return f"of {best.users_target} users that were asked for at most {best.users_active} were there"
    if len(rows) > 1 and all(row.rate_per_s for row in rows):  # open arrivals
        asked = sum(row.rate_per_s or 0.0 for row in rows[1:]) / (len(rows) - 1)
        given = (rows[-1].scheduled - rows[0].scheduled) / ((rows[-1].time - rows[0].time) / SECOND)
        if given < LEAST_LOAD * asked:
            return f"of {asked:.4g} arrivals/s that were asked for {given:.4g} came"
    return ""


def _uncovered(state: RunState, end: int) -> str:
    """A run whose telemetry is degraded on purpose isn't sick for it."""
    if state.settings.telemetry.distortion != Distortion():
        return ""
    coverage = 1.0 - missing_share(state, "metrics", state.origin, end)
    return f"coverage of the metrics stream before the onset is {coverage:.3f}" if coverage < LEAST_COVERAGE else ""


_RULES: Mapping[str, tuple[str, Callable[[RunState, int], str]]] = {
    "oom-before-onset": ("a container was killed for its memory before the onset", _killed),
    "load-not-offered": (
        "in the minute before the onset there was never 0.9 of the load that was asked for",
        _unloaded,
    ),
    "coverage-before-onset": (
        "less than 0.95 of the time before the onset has metrics, though nothing was to be lost",
        _uncovered,
    ),
}
VOID_RULES: Mapping[str, str] = {rule_id: meaning for rule_id, (meaning, _) in _RULES.items()}
"""Id of each rule and what breaks it, in the order in which they are tried."""
