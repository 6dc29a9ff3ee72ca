"""A fault of a campaign ➜ a question to a ranker of root causes, and the answer that is kept from it.

In: labelled runs. Out: `RootCauseCase`s: the public telemetry before an onset and the two minutes after it, what Coroot had told by then,
and the truth. The question is asked two minutes after the onset, whether the fault still lasts or not, so its length gives nothing away.
The onset is given (as published comparisons do it), or taken from a detector's alarm; then a fault that nobody noticed has no question, and
every method fails it.

The answer of a fault on a service or dependency is that. A fault on a call edge sits in the traffic or the configuration between two
services: either end answers it, which is twice as easy, and chance is reckoned so. `Fault.named_service`, the called end, is scored beside.

Left out, with the reason: faults on a group or the workload (no service to find), too little telemetry before, another fault at the time.

Upstream: `labelled_runs`. Downstream: `root_cause_methods` see the question, `root_causes` the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.entity_series import EntitySeries
from otel_control_gym.baselines.fault_windows import SETTLING_SECONDS, Fault
from otel_control_gym.baselines.labelled_runs import LabelledRun
from otel_control_gym.engine.events import Finding

__all__ = ("AFTER_SECONDS", "BEFORE_SECONDS", "LeftOut", "Question", "RootCauseCase", "cases_of")

Float = npt.NDArray[np.float64]

BEFORE_SECONDS = 300
AFTER_SECONDS = 120
_FEWEST_BUCKETS = 5  #: before an onset: fewer don't say what is usual


class Question(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What was publicly known when the question was asked."""

    services: tuple[str, ...]  #: S candidates
    edges: tuple[tuple[str, str], ...]  #: E
    entry: str  #: the service that users call
    before: Float  #: [B, S + E, F], services first
    after: Float  #: [A, S + E, F]
    findings: tuple[Finding, ...]  #: of Coroot, told after the onset, each as it was told last


class RootCauseCase(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A fault, and what a ranker is asked about it; `question` is None if nobody noticed the fault."""

    run_id: str
    family_id: str
    configuration: str
    fault: Fault
    question: Question | None
    services: tuple[str, ...]
    edges: tuple[tuple[str, str], ...]
    entry: str


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that makes no case."""

    run_id: str
    fault_type: str
    target: str
    reason: str


def cases_of(
    runs: Sequence[LabelledRun], noticed: Mapping[str, float | None] | None = None
) -> tuple[list[RootCauseCase], list[LeftOut]]:
    """Return the cases of runs, in order, and the faults that make none.

    Args:
        runs: with truth.
        noticed: when a detector's alarm began [s], by the fault's `action_id`; None: the onset is given.
    """
    cases, left_out = [], []
    for run in runs:
        for fault in run.truth.faults:
            reason = _hindrance(run, fault)
            if reason is not None:
                left_out.append(
                    LeftOut(run_id=run.series.run_id, fault_type=fault.fault_type, target=fault.target, reason=reason)
                )
                continue
            onset = fault.onset if noticed is None else noticed.get(fault.action_id)
            cases.append(
                RootCauseCase(
                    run_id=run.series.run_id,
                    family_id=run.series.family_id,
                    configuration=run.series.configuration,
                    fault=fault,
                    question=None if onset is None else _question(run.series, onset, run.told),
                    services=run.series.services,
                    edges=run.series.edges,
                    entry=_entry(run.series),
                )
            )
    return cases, left_out


def _hindrance(run: LabelledRun, fault: Fault) -> str | None:
    """Return why a fault makes no case."""
    if not all(end in run.series.services for end in fault.ends) or not fault.ends:
        return "its target is neither a service nor a call between services"
    others = [other for other in run.truth.faults if other is not fault]
    if any(
        other.onset < fault.onset + AFTER_SECONDS and other.end + SETTLING_SECONDS > fault.onset for other in others
    ):
        return "another fault was in force, or had just ended"
    if fault.onset // run.series.bucket_seconds < _FEWEST_BUCKETS:
        return "too little was seen before it"
    return None


def _question(series: EntitySeries, onset: float, told: Sequence[tuple[float, Finding]]) -> Question:
    width = series.bucket_seconds
    middle = int(onset // width)
    asked = (middle + AFTER_SECONDS // width) * width
    findings = {finding.key: finding for moment, finding in told if onset < moment <= asked}
    return Question(
        services=series.services,
        edges=series.edges,
        entry=_entry(series),
        before=series.values[max(0, middle - BEFORE_SECONDS // width) : middle],
        after=series.values[middle : middle + AFTER_SECONDS // width],
        findings=tuple(findings[key] for key in sorted(findings)),
    )


def _entry(series: EntitySeries) -> str:
    """Return the service that is called from outside the application, else one that nobody calls."""
    outside = [target for source, target in series.edges if source not in series.services]
    called = {target for _, target in series.edges}
    return next(iter([*outside, *(name for name in series.services if name not in called), *series.services]))
