"""A run ➜ one case per fault in the flat wide frame that the methods of RCAEval read.

In: a `Recording` whose buckets are 1 to 5 s wide. Out: the content of each case's files by path. RCAEval (Pham et al., arXiv 2412.17015,
PyPI `RCAEval`) finds its cases by `**/data.csv`, takes the answer from the name of the folder above (`<service>_<fault>/<case>/`), and
splits the frame at the moment in `inject_time.txt`; of a column's name it reads what stands before and after its only underscore.

Three of its habits decide what is written here. Its methods drop columns that are constant before the injection or after it, so these are
listed: an error counter that was 0 before can't be found by them. Those that learn a graph from correlations fail on a column that is a
linear function of others (what a callee receives, and what its only caller sends it); such columns are left out, and listed. And a method
that fails returns the columns in the order of the file as its ranking; that order is alphabetical, so that a reader can compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.errors import NotExportable
from otel_control_gym.projections.adapters.formats import Correspondence, FileKind, Format, Omission
from otel_control_gym.projections.adapters.recordings import MICROSECOND, Incident, Recording

__all__ = ("COLUMNS", "FEWEST_SAMPLES", "RCAEVAL", "WIDEST_BUCKET_SECONDS", "rcaeval_files")

FEWEST_SAMPLES = 60  #: before the injection: fewer say too little about what is normal
FEWEST_SAMPLES_AFTER = 10
WIDEST_BUCKET_SECONDS = 5
_FEWEST_KNOWN = 1 / 3  #: share of a column's cells that were read, below which it would be mostly invented
_DEPENDENT = 1e-6  #: share of a column's spread that others don't explain, below which it counts as theirs

COLUMNS: dict[str, str] = {
    "latency_mean_ms": "latency",
    "cpu_usage_cores": "cpu",
    "memory_usage_bytes": "mem",
    "error_rate": "error",
    "request_rate": "workload",
    "cpu_throttled_ratio": "throttled",
    "latency_p95_ms": "latency-95",
    "restarts": "restarts",
    "replicas_ready": "replicas",
}
"""Column of `node_features` ➜ metric of RCAEval; none may hold an underscore. Of linear dependents the earlier stays."""

_FAULTS: dict[str, str] = {
    "cpu_pressure": "cpu",
    "memory_pressure": "mem",
    "network_delay": "delay",
    "packet_loss": "loss",
}
"""Kinds of fault that RCAEval has a name for; others keep ours, without the underscores."""

_SYMPTOMS: dict[str, str] = {
    **COLUMNS,
    "latency": "latency",
    "errors": "error",
    "pods": "replicas",
    "replicas": "replicas",
    "cpu_saturation": "cpu",
    "memory_saturation": "mem",
}
"""Word of `expected_symptoms` ➜ metric."""

RCAEVAL = Format(
    name="rcaeval",
    summary="One case per fault: a flat wide frame before and after the injection, to rank root causes.",
    read_by="the methods and the evaluation of RCAEval (arXiv 2412.17015, PyPI `RCAEval`); give them `dataset=` (any name but "
    "`causalrca-sock-shop`): without it they don't drop what is constant, and many fail without a word of it in their answer",
    files=(
        FileKind("<service>_<fault>/<case>/data.csv", "`time` [s], then `<service>_<metric>`, alphabetical; no gaps"),
        FileKind(
            "<service>_<fault>/<case>/inject_time.txt",
            "first moment [s] that counts as after the injection; the methods are given it",
            truth=True,
        ),
        FileKind(
            "<service>_<fault>/<case>/columns.json",
            "which columns are constant, were filled, or are left out and why",
        ),
        FileKind("<service>_<fault>/<case>/ground_truth.json", "service, metrics, fault, exact times", truth=True),
    ),
    fields=(
        Correspondence("`time`", "`time`", "start of the bucket, whole seconds since the epoch"),
        *(Correspondence(f"`<service>_{theirs}`", f"`{ours}`") for ours, theirs in COLUMNS.items()),
        Correspondence("`inject_time.txt`", "`applied` of the intervention", "start of the bucket in which it lies"),
        Correspondence(
            "service in the folder's name",
            "`target_service`",
            "of an edge: the called end, beside it in `ground_truth.json`",
        ),
        Correspondence(
            "fault in the folder's name",
            "`fault_type`",
            "cpu, mem, delay, loss as RCAEval has them; the others are ours",
        ),
    ),
    rules=(
        f"Buckets are 1 to {WIDEST_BUCKET_SECONDS} s wide; where a run's are wider, its log is folded again at its scrape interval.",
        f"A case needs {FEWEST_SAMPLES} samples before the injection in which no other fault was in force, and {FEWEST_SAMPLES_AFTER} "
        "after it. It ends when its fault does, or when the next one begins.",
        "A missing reading takes the last one before it, at the beginning the first one after it: the methods can't read a gap. "
        f"`columns.json` counts these cells; a column of which less than {_FEWEST_KNOWN:.0%} was read is left out.",
        "A column that is a linear function of others (to 1e-6 of its own spread) is left out and listed in `columns.json`; of two that "
        f"metric stays which comes first in {', '.join(COLUMNS.values())}.",
        "The case is the run's id; a second fault of the same kind on the same service is `<run_id>-2`.",
        "Faults on a group or on the workload have no service to find and are left out.",
        "Times in data.csv are those of the stand; services are never renamed, so a name with an underscore is refused.",
    ),
    left_out=(
        Omission("network traffic", "it follows the requests, nearly linearly: graphs can't be learned from both"),
        Omission("edges and topology", "the frame has columns of services; methods learn their graph from it"),
        Omission("logs and traces", "RCAEval's multi-source cases want its own templates and operations; not written"),
        Omission("actions and rewards", "nobody acts there; `ground_truth.json` lists actions that fell into the case"),
        Omission("null and coverage", "its methods can't read a gap: it is filled, and counted in `columns.json`"),
        Omission("normal runs", "a case needs an injection"),
        Omission("faults that overlap", "one injection per case"),
    ),
)


def rcaeval_files(recording: Recording) -> dict[str, bytes]:
    """Return the content of each file by its path below the export's directory.

    Raises: NotExportable: the buckets are too wide, or no fault of the run makes a case; says what would be right.
    """
    if recording.bucket_seconds > WIDEST_BUCKET_SECONDS:
        raise NotExportable(
            f"run {recording.run_id}: its buckets of {recording.bucket_seconds} s are too wide for rcaeval\n"
            f"  it reads 1 to {WIDEST_BUCKET_SECONDS} s: scrape as often (scrape_interval_seconds), and run again"
        )
    incidents = recording.incidents()
    files: dict[str, bytes] = {}
    reasons: list[str] = []
    used: dict[str, int] = {}
    for position, incident in enumerate(incidents):
        reason, first, last = _span(recording, incidents, position)
        if reason is not None:
            reasons.append(f"{incident.fault_type} {incident.target}: {reason}")
            continue
        folder = f"{incident.service}_{_FAULTS.get(incident.fault_type, incident.fault_type.replace('_', ''))}"
        used[folder] = used.get(folder, 0) + 1
        case = recording.run_id if used[folder] == 1 else f"{recording.run_id}-{used[folder]}"
        for name, content in _case(recording, incident, first, last).items():
            files[f"{folder}/{case}/{name}"] = content
    if not files:
        why = "; ".join(reasons) or "no fault was injected, or none took effect"
        raise NotExportable(
            f"run {recording.run_id}: no case for rcaeval: {why}\n"
            "  it needs a run with an intervention after a calm stretch (see `ocg export --help`), e.g. `ocg run root-cause`"
        )
    return files


def _span(recording: Recording, incidents: tuple[Incident, ...], position: int) -> tuple[str | None, int, int]:
    """Return why a fault makes no case (None: it does), and the first bucket of its case and the first after it."""
    incident, width = incidents[position], recording.bucket_seconds * MICROSECOND

    def bucket(moment: int) -> int:
        return (moment - recording.start) // width

    injected = bucket(incident.injected)
    count = len(recording.nodes("coverage").times)
    first = max((bucket(other.end - 1) + 1 for other in incidents[:position]), default=0)
    last = min(count, bucket(incident.end - 1) + 1)
    if position + 1 < len(incidents):
        last = min(last, bucket(incidents[position + 1].injected))
    if not incident.service:
        return "its target is no service", 0, 0
    if "_" in incident.service:
        return "its service's name holds an underscore", 0, 0
    if injected - first < FEWEST_SAMPLES:
        calm = max(0, injected - first)
        missing = (FEWEST_SAMPLES - calm) * recording.bucket_seconds
        return (
            (
                f"{calm} samples of {recording.bucket_seconds} s without a fault before it, {FEWEST_SAMPLES} are needed: "
                f"inject it {missing} s later, or scrape more often"
            ),
            0,
            0,
        )
    if last - injected < FEWEST_SAMPLES_AFTER:
        return f"{max(0, last - injected)} samples after it, {FEWEST_SAMPLES_AFTER} are needed", 0, 0
    return None, first, last


def _case(recording: Recording, incident: Incident, first: int, last: int) -> dict[str, bytes]:
    injected = (incident.injected - recording.start) // (recording.bucket_seconds * MICROSECOND) - first
    times = recording.nodes("coverage").times[first:last] // MICROSECOND
    whole, filled, unknown = _columns(recording, first, last)
    columns = _independent(whole)
    reactions = [
        {"time_s": moment / MICROSECOND, "action_id": action_id, "action": action}
        for moment, action_id, action in recording.reactions()
        if times[0] <= moment // MICROSECOND <= times[-1]
    ]
    own = [f"{incident.service}_{metric}" for metric in _metrics(incident)]
    truth = {
        "service": incident.service,
        "metrics": [name for name in own if name in columns],
        "fault_type": incident.fault_type,
        "target": incident.target,
        "root_cause_kind": incident.kind,
        "intensity": incident.intensity,
        "injected_s": incident.injected / MICROSECOND,
        "end_s": incident.end / MICROSECOND,
        "end_censored": incident.end_censored,
        "run_id": recording.run_id,
        "action_id": incident.action_id,
        "family_id": recording.metadata["family_id"],
        "bucket_seconds": recording.bucket_seconds,
        "actions_in_the_case": reactions,
    }
    about = {
        "constant": [name for name, values in columns.items() if _constant(values)],
        "constant_before_or_after": [
            name
            for name, values in columns.items()
            if not _constant(values) and (_constant(values[:injected]) or _constant(values[injected:]))
        ],
        "filled_cells": {name: count for name, count in filled.items() if name in columns},
        "left_out_linear_in_others": [name for name in whole if name not in columns],
        "left_out_mostly_unknown": unknown,
    }
    return {
        "data.csv": _frame(times, columns),
        "inject_time.txt": f"{times[injected]}\n".encode(),
        "columns.json": _json(about),
        "ground_truth.json": _json(truth),
    }


def _metrics(incident: Incident) -> tuple[str, ...]:
    """Return the metrics in which the fault should show at its service, the one that RCAEval asks for first."""
    own = [text.partition(":") for text in incident.expected_symptoms]
    shown = [
        _SYMPTOMS[word]
        for entity, _, word in own
        if entity in (incident.service, incident.target) and word in _SYMPTOMS
    ]
    return tuple(dict.fromkeys(shown))


def _columns(
    recording: Recording, first: int, last: int
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, int], list[str]]:
    """Return columns without gaps by name, how many cells of each were filled, and names of those that are mostly unknown."""
    columns: dict[str, npt.NDArray[np.float64]] = {}
    filled: dict[str, int] = {}
    unknown: list[str] = []
    series = {ours: recording.nodes(ours) for ours in COLUMNS}
    services = {node["id"] for node in recording.graph["nodes"] if node["kind"] != "workload"}
    for position, (service,) in enumerate(series["request_rate"].entities):
        for ours, theirs in COLUMNS.items():
            if service not in services or "_" in service:
                continue
            name = f"{service}_{theirs}"
            values = series[ours].values[first:last, position]
            gaps = int(np.isnan(values).sum())
            if len(values) - gaps < _FEWEST_KNOWN * len(values):
                unknown.append(name)
                continue
            columns[name] = _without_gaps(values)
            if gaps:
                filled[name] = gaps
    return dict(sorted(columns.items())), dict(sorted(filled.items())), sorted(unknown)


def _independent(columns: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """Return the columns without those that are linear in the others; constant ones, which no method ranks, stay."""
    rank = list(COLUMNS.values())
    left: set[str] = set()
    basis = np.zeros((len(next(iter(columns.values()))), 0))
    for name in sorted(columns, key=lambda name: (rank.index(name.partition("_")[2]), name)):
        values = columns[name]
        if _constant(values):
            continue
        centred = (values - values.mean()) / values.std()
        rest = centred - basis @ (basis.T @ centred)
        rest -= basis @ (basis.T @ rest)  # once more, for what rounding left over
        length = float(np.linalg.norm(rest))
        if length < _DEPENDENT * float(np.linalg.norm(centred)):
            left.add(name)
        else:
            basis = np.column_stack([basis, rest / length])
    return {name: values for name, values in columns.items() if name not in left}


def _without_gaps(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = ~np.isnan(values)
    latest = np.maximum.accumulate(np.where(known, np.arange(len(values)), -1))
    return values[np.where(latest >= 0, latest, int(np.argmax(known)))]


def _constant(values: npt.NDArray[np.float64]) -> bool:
    return bool((values == values[0]).all())


def _frame(times: npt.NDArray[np.int64], columns: Mapping[str, npt.NDArray[np.float64]]) -> bytes:
    lines = [",".join(("time", *columns))]
    for position, moment in enumerate(times.tolist()):
        lines.append(",".join((str(moment), *(repr(float(values[position])) for values in columns.values()))))
    assert not any(math.isnan(float(values.sum())) for values in columns.values()), "no gaps are left"
    return ("\n".join(lines) + "\n").encode()


def _json(document: Any) -> bytes:
    return bytes(msgspec.json.format(msgspec.json.encode(document), indent=2)) + b"\n"
