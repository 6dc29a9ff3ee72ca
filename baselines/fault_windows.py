"""Truth and public actions of a run ➜ what each bucket is, for scoring alone: no detector or ranker sees this.

In: a run opened with truth. Out: its faults (when, what, where, on whom it should show) and the kind of each bucket. A fault of strength
zero, and one that never took effect, is none. Kinds: *fault* (one is in force), *aftermath* (the last one ended less than two minutes
ago: what is still odd then is no false alarm), *benign* (within two minutes of an action that changed something, without a fault), *calm*
(all the rest), *warm-up*.
"""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.baselines.entity_series import EntitySeries
from otel_control_gym.engine.errors import UsageError
from otel_control_gym.engine.runs import Run

__all__ = ("SETTLING_SECONDS", "BucketKind", "Fault", "RunTruth", "bucket_kinds", "read_truth")

SETTLING_SECONDS = 120.0  #: how long what follows a fault's end, or an action, is put down to it


class BucketKind(IntEnum):
    """What a bucket is; of several the one that stands first."""

    WARM_UP = 0
    FAULT = 1
    AFTERMATH = 2
    BENIGN = 3
    CALM = 4


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that took effect; seconds after the run's start."""

    action_id: str
    fault_type: str
    kind: str  #: service, dependency, edge, group or workload: what it sits in
    target: str
    ends: tuple[str, ...]  #: the target; of an edge its source and its target; of neither service nor edge none
    named_service: str  #: `target_service` of actions.parquet: the target, of an edge its called end; empty without
    intensity: str | None
    onset: float  #: the stand accepted it
    end: float  #: it was seen to be over, else the run's end
    affected: tuple[str, ...]  #: services and edges on which it should show, the target first


class RunTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What really happened in a run."""

    run_id: str
    family_id: str
    stratum: str
    faults: tuple[Fault, ...]  #: by onset
    actions: tuple[tuple[float, str, str], ...]  #: when, type, target of each action that changed something; public


def read_truth(run: Run) -> RunTruth:
    """Return what really happened in a run.

    Raises: UsageError: it was opened without truth.
    """
    if not run.truth:
        raise UsageError(f"{run.path} was opened without truth, so it has no labels to score with\n  use truth=True")
    origin = datetime.fromisoformat(run.run_start)
    seconds = (datetime.fromisoformat(run.run_end) - origin).total_seconds()

    def since(moment: datetime) -> float:
        return (moment - origin).total_seconds()

    rows = run.table("actions").to_arrow().to_pylist()
    requests = {row["action_id"]: row for row in rows}
    faults = []
    for label in run.table("labels").to_arrow().to_pylist():
        if not label["is_fault"] or not label["applied"] or label["intensity"] == "zero":
            continue
        request = requests[label["action_id"]]
        faults.append(
            Fault(
                action_id=label["action_id"],
                fault_type=label["fault_type"],
                kind=label["root_cause_kind"],
                target=label["target"],
                ends=_ends(label),
                named_service=request["target_service"] or "",
                intensity=label["intensity"],
                onset=since(request["applied"] or label["start"]),
                end=seconds if label["actual_end"] is None else since(label["actual_end"]),
                affected=tuple(
                    dict.fromkeys([label["target"], *(text.partition(":")[0] for text in label["expected_symptoms"])])
                ),
            )
        )
    return RunTruth(
        run_id=run.run_id,
        family_id=run.family_id,
        stratum=run.metadata["stratum"] or "",
        faults=tuple(sorted(faults, key=lambda fault: (fault.onset, fault.action_id))),
        actions=tuple(
            sorted(
                (since(row["applied"]), row["action_type"], row["target"] or "")
                for row in rows
                if row["action_class"] == "action" and row["action_type"] != "noop" and row["applied"] is not None
            )
        ),
    )


def _ends(label: dict[str, Any]) -> tuple[str, ...]:
    if label["root_cause_kind"] in ("service", "dependency"):
        return (label["target"],)
    return tuple(label["target"].split("->")) if label["root_cause_kind"] == "edge" else ()


def bucket_kinds(truth: RunTruth, series: EntitySeries) -> npt.NDArray[np.int64]:
    """Return the `BucketKind` of each bucket [T]; a bucket that a fault touches at all is the fault's."""
    starts = series.starts
    ends = starts + series.bucket_seconds
    kinds = np.full(series.buckets, int(BucketKind.CALM))
    for moment, _, _ in truth.actions:
        kinds[(ends > moment) & (starts < moment + SETTLING_SECONDS)] = BucketKind.BENIGN
    for fault in truth.faults:
        kinds[(ends > fault.end) & (starts < fault.end + SETTLING_SECONDS)] = BucketKind.AFTERMATH
    for fault in truth.faults:
        kinds[(ends > fault.onset) & (starts < fault.end)] = BucketKind.FAULT
    kinds[: series.warmup_buckets] = BucketKind.WARM_UP
    return kinds
