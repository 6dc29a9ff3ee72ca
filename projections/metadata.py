"""A state ➜ `metadata.json` and `graph.json`.

In: a state and what only the caller knows (the run's id, the log's digests). Out: two JSON documents with fixed keys, the same for the
same log: wall times come from the log's `EnvironmentRecorded`, never from a clock here. What a stand can't tell is null or empty,
never absent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
import numpy as np

from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import RunEnded
from otel_control_gym.engine.settings import Distortion
from otel_control_gym.projections.documents import METADATA_KEYS, TRUTH_KEYS
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.samples import NEVER
from otel_control_gym.projections.schemas import CONTRACT_VERSION, TABLES
from otel_control_gym.projections.voids import find_void, missing_share

__all__ = ("Identity", "graph_document", "metadata_document")

LICENCE = "Apache-2.0"
_IMAGE = "image "  #: before the name of a service, in what a stand tells of itself


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a log doesn't say about itself."""

    run_id: str
    content_digest: str = ""
    archive_sha256: str = ""  #: of `event_log.zst`, empty without one


#: Which tables hold the spans of a run's log; the others are empty.
_TRACE_TABLES = {
    "raw": ["spans"],
    "aggregated": ["trace_summaries"],
    "both": ["spans", "trace_summaries"],
}


def metadata_document(state: RunState, identity: Identity) -> dict[str, Any]:
    """Return the metadata of a run whose tables have the state's granularity, which may be another than the run's own."""
    settings, environment = state.declaration.settings, state.environment
    truth = state.truth.declared
    stand = dict(environment.stand) if environment is not None else {}
    scenario: Mapping[str, Any] = truth.scenario if truth is not None else {}
    workload: Mapping[str, Any] = truth.workload if truth is not None else {}
    configuration = msgspec.to_builtins(settings) | {
        "scenario": dict(scenario),
        "workload": dict(workload),
        "twin": dict(truth.twin) if truth is not None else {},
        "seed": truth.seed if truth is not None else None,
    }
    distortion = settings.telemetry.distortion
    document: dict[str, Any] = {
        "contract_version": CONTRACT_VERSION,
        "run_id": identity.run_id,
        "content_digest": identity.content_digest,
        "seed": truth.seed if truth is not None else None,
        "run_start": rfc3339(state.origin),
        "run_end": rfc3339(state.ended.time if state.ended is not None else state.known_until),
        "stand": settings.stand,
        "service_config": settings.services.name,
        "workload_profile": workload.get("name", ""),
        "workload_schedule": _workload_schedule(workload),
        "granularity_config": msgspec.to_builtins(state.settings.granularity),
        "granularity_of_run": msgspec.to_builtins(settings.granularity),
        "effective_configuration": configuration,
        "hashes": {
            "event_log": identity.archive_sha256,
            "lock": state.environment.lock if state.environment is not None else "",
            "metric_map": _digest(settings.metrics),
            "reward_config": _digest(settings.reward),
            "twin_model": _first(stand, "twin_model", "twin_model_digest"),
        },
        "streams": _streams(state),
        "distortion": None if distortion == Distortion() else msgspec.to_builtins(distortion),
        "clean": state.clean,
        "ground_truth": _ground_truth(),
        "columns": {table.name: {column.name: column.rule for column in table.columns} for table in TABLES},
    }
    document |= _end(state)
    document |= _policy(state, scenario)
    document |= _schedules(state)
    document |= _surroundings(state, stand)
    document |= _family(state, scenario)
    assert tuple(sorted(document)) == METADATA_KEYS, "every key of the contract, and no other"
    return document


def graph_document(state: RunState) -> dict[str, Any]:
    """Return the declared graph; every node and edge is valid for the whole run."""
    start = rfc3339(state.origin)
    validity = {"valid_from": start, "valid_to": None}
    return {
        "nodes": [msgspec.to_builtins(node) | validity for node in state.graph.nodes],
        "edges": [msgspec.to_builtins(edge) | validity for edge in state.graph.edges],
    }


def _end(state: RunState) -> dict[str, Any]:
    """A run that was sick before anything was done to it is void, however it ended."""
    status: Literal["completed", "aborted"] = "completed" if isinstance(state.ended, RunEnded) else "aborted"
    reason = "the log has no end" if state.ended is None else state.ended.reason
    void = find_void(state)
    return {
        "status": status if void is None else "void",
        "done_reason": reason,
        "void_rule": None if void is None else void.rule_id,
        "void_reason": None if void is None else void.reason,
    }


def _policy(state: RunState, scenario: Mapping[str, Any]) -> dict[str, Any]:
    decisions = [life.requested for life in state.lives.all() if life.requested.decision_step is not None]
    actors = sorted({decision.actor for decision in decisions})
    scripted = str(scenario.get("policy", {}).get("name", "")) if actors in ([], ["scripted"]) else ""
    return {
        "policy_name": scripted or "+".join(actors),
        "policy_version": "+".join(
            sorted({decision.policy_version for decision in decisions if decision.policy_version})
        ),
        "policy_information": "+".join(sorted({decision.policy_information for decision in decisions})) or "public",
        "reveal_truth": state.settings.reveal_truth,
    }


def _schedules(state: RunState) -> dict[str, Any]:
    return {
        "action_schedule": [
            _scheduled(state, life) for life in state.lives.all() if life.requested.action_type != "noop"
        ],
        "intervention_schedule": [_scheduled(state, life) for life in state.truth.lives.all()],
    }


def _scheduled(state: RunState, life: Life) -> dict[str, Any]:
    asked = life.requested
    return {
        "action_id": asked.action_id,
        "at_seconds": (asked.time - state.origin) / SECOND,
        "type": asked.action_type,
        "target": asked.target,
        "parameters": asked.parameters,
        "duration_s": None if asked.duration_ns is None else asked.duration_ns / SECOND,
    }


def _workload_schedule(workload: Mapping[str, Any]) -> dict[str, Any]:
    """Return what load the script asks for, and when, in seconds of control time; what a policy asked for is in the action schedule."""
    names = ("arrivals", "users", "spawn_rate_per_s", "rate_per_s", "mix", "interpolation")
    schedule = {name: workload[name] for name in names if name in workload} | {
        "points": list(workload.get("curve", ()))
    }
    changes = list(workload.get("mix_changes", ()))
    return schedule | ({"mix_changes": changes} if changes else {})


def _surroundings(state: RunState, stand: Mapping[str, str]) -> dict[str, Any]:
    environment, services = state.environment, state.settings.services
    versions = dict(environment.versions) if environment is not None else {}
    return {
        "gym_api_version": versions.get("otel-control-gym", ""),
        "chart_versions": {"opentelemetry-demo": services.chart_version}
        | {name: stand[name] for name in sorted(stand) if "chart" in name},
        "git_shas": dict(sorted(environment.git_shas.items())) if environment is not None else {},
        "kubernetes_version": _first(stand, "kubernetes_version", "kubernetes"),
        "collector_config_hash": _first(stand, "collector_config_hash", "collector_config"),
        "image_digests": {name.removeprefix(_IMAGE): stand[name] for name in sorted(stand) if name.startswith(_IMAGE)},
        "cpu_family": environment.host.get("machine", "") if environment is not None else "",
        "versions": versions | {f"stand:{name}": stand[name] for name in sorted(stand) if not name.startswith(_IMAGE)},
        "host": dict(environment.host) if environment is not None else {},
        "wall_time": environment.wall_time if environment is not None else None,
    }


def _family(state: RunState, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """A run that nobody gave a place among others is the head of its own family: its script and its seed. Branches stay in it."""
    truth, identity = state.truth.declared, state.truth.identity
    seed = truth.seed if truth is not None else None
    own_family = hashlib.sha256(msgspec.json.encode([dict(scenario), seed], order="sorted")).hexdigest()[:16]
    branch = state.truth.branches[-1] if state.truth.branches else None
    return {
        "campaign_id": state.settings.campaign,
        "scenario_id": identity.scenario_id or scenario.get("name", ""),
        "stratum": identity.stratum,
        "family_id": identity.family_id or own_family,
        "parent_run_id": branch.parent_run_id if branch is not None else identity.parent_run_id,
        "branch_step": branch.decision_step if branch is not None else identity.branch_step,
        "randomness": branch.randomness if branch is not None else identity.randomness or "same",
        "pair_id": branch.pair_id if branch is not None and branch.pair_id else identity.pair_id,
        "retry_of": identity.retry_of,
        "split_ids": dict(identity.split_ids),
        "data_licence": identity.data_licence or LICENCE,
    }


def _streams(state: RunState) -> dict[str, Any]:
    """Return which telemetry came, how much of it, and which share of the time isn't known to be missing."""
    rows = {
        "metrics": state.samples.count,
        "spans": len(state.spans.all()),
        "logs": len(state.logs.all()),
        "kubernetes": sum(
            len(rows.all())
            for rows in (state.kubernetes_events, state.pods, state.rollouts, state.autoscalers, state.routes)
        ),
        "findings": len(state.findings.told()),
        "workload": len(state.workload.all()),
    }
    streams: dict[str, Any] = {
        source: {
            "present": rows[source] > 0 or (source == "findings" and state.findings.polled),
            "rows": rows[source],
            "coverage": 1.0 - missing_share(state, source, state.origin, state.known_until),
            "late": sum(each.count for each in state.lateness.left_out if each.source == source),
        }
        | state.delays.of_source(source)
        for source in rows
    }
    telemetry = state.settings.telemetry
    streams["spans"] |= {"tables": _TRACE_TABLES[telemetry.traces], "sampling_ratio": telemetry.span_sampling_ratio}
    streams["metrics"]["phase_s"] = _phases(state)
    log = {"public_sequence": state.sequence, "truth_sequence": state.truth.sequence} | state.delays.of_steps()
    return streams | {"log": log}


def _phases(state: RunState) -> dict[str, float]:
    """Return how far before the run's last edge the sample lies that stands there [s], by quantity; what has no sample is left out."""
    edge = (state.known_until - state.origin) // state.samples.interval
    held = int(state.samples.positions(np.array([edge]))[0])
    found: dict[str, float] = {}
    tables: tuple[Literal["node", "edge"], ...] = ("node", "edge")
    for table in tables:
        for quantity in state.series.quantities(table):
            read = [feed.metric for feed in state.series.feeds(table, quantity) if feed.metric.size]
            newest = max((int(state.samples.times[held, metric].max()) for metric in read), default=int(NEVER))
            if newest != NEVER:
                found[f"{table}.{quantity}"] = (state.samples.edge_time(edge) - newest) / SECOND
    return found


def _ground_truth() -> dict[str, Any]:
    """Return what is truth, weak or derived: columns by table; and where the word is on each row; and which keys of this document."""
    found: dict[str, Any] = {}
    for standing in ("truth", "weak", "derived"):
        tables = {
            table.name: [column.name for column in table.columns if column.standing == standing] for table in TABLES
        }
        found[standing] = {name: columns for name, columns in tables.items() if columns}
    by_row = [table.file for table in TABLES if any(column.name == "visibility" for column in table.columns)]
    return found | {
        "rows_by_visibility": sorted([*by_row, "k8s_events.jsonl.zst", "logs.jsonl.zst"]),
        "metadata": list(TRUTH_KEYS),
    }


def _digest(record: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(record, order="sorted")).hexdigest()


def _first(values: Mapping[str, str], *names: str) -> str:
    return next((values[name] for name in names if name in values), "")
