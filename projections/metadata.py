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

from otel_control_gym.engine.clock import SECOND, rfc3339
from otel_control_gym.engine.events import RunEnded
from otel_control_gym.projections.documents import METADATA_KEYS
from otel_control_gym.projections.fold import RunState
from otel_control_gym.projections.lives import Life
from otel_control_gym.projections.schemas import CONTRACT_VERSION, TABLES

__all__ = ("Identity", "graph_document", "metadata_document")

LICENCE = "Apache-2.0"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a log doesn't say about itself."""

    run_id: str
    content_digest: str = ""
    archive_sha256: str = ""  #: of `event_log.zst`, empty without one


def metadata_document(state: RunState, identity: Identity, bucket_seconds: int) -> dict[str, Any]:
    """Return the metadata of a run whose feature tables have buckets of `bucket_seconds`."""
    settings, environment = state.settings, state.environment
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
    granularity = msgspec.structs.replace(settings.granularity, observation_bucket_seconds=bucket_seconds)
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
        "granularity_config": msgspec.to_builtins(granularity),
        "effective_configuration": configuration,
        "hashes": {
            "event_log": identity.archive_sha256,
            "lock": state.environment.lock if state.environment is not None else "",
            "metric_map": _digest(settings.metrics),
            "reward_config": _digest(settings.reward),
            "twin_model": _first(stand, "twin_model", "twin_model_digest"),
        },
        "streams": _streams(state),
        "ground_truth": _ground_truth(),
        "columns": {table.name: {column.name: column.rule for column in table.columns} for table in TABLES},
        "data_licence": LICENCE,
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
    status: Literal["completed", "aborted"] = "completed" if isinstance(state.ended, RunEnded) else "aborted"
    reason = "the log has no end" if state.ended is None else state.ended.reason
    return {"status": status, "done_reason": reason, "void_rule": None}


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
        "image_digests": {name: stand[name] for name in sorted(stand) if "image" in name},
        "cpu_family": environment.host.get("machine", "") if environment is not None else "",
        "versions": versions | {f"stand:{name}": stand[name] for name in sorted(stand)},
        "host": dict(environment.host) if environment is not None else {},
        "wall_time": environment.wall_time if environment is not None else None,
    }


def _family(state: RunState, scenario: Mapping[str, Any]) -> dict[str, Any]:
    """A run that isn't a branch, a pair's half or a retry is the head of its own family: its script and its seed."""
    truth = state.truth.declared
    seed = truth.seed if truth is not None else None
    return {
        "campaign_id": state.settings.campaign,
        "scenario_id": scenario.get("name", ""),
        "stratum": None,
        "family_id": hashlib.sha256(msgspec.json.encode([dict(scenario), seed], order="sorted")).hexdigest()[:16],
        "parent_run_id": None,
        "branch_step": None,
        "randomness": "same",
        "pair_id": None,
        "retry_of": None,
        "split_ids": [],
    }


def _streams(state: RunState) -> dict[str, Any]:
    """Which telemetry came, how much of it, and what is known to be missing."""
    rows = {
        "metrics": state.samples.count,
        "spans": len(state.spans.all()),
        "logs": len(state.logs.all()),
        "kubernetes": len(state.kubernetes_events.all()) + len(state.pods.all()) + len(state.rollouts.all()),
        "findings": len(state.findings.all()),
        "workload": len(state.workload.all()),
    }
    whole = max(1, state.known_until - state.origin)
    missing = {source: _length([(gap.start, gap.end) for gap in state.gaps if gap.source == source]) for source in rows}
    return {source: {"rows": rows[source], "coverage": max(0.0, 1.0 - missing[source] / whole)} for source in rows} | {
        "log": {"public_sequence": state.sequence, "truth_sequence": state.truth.sequence}
    }


def _length(intervals: list[tuple[int, int]]) -> int:
    """Return how long the union of intervals is."""
    total, reached = 0, -(1 << 62)
    for start, end in sorted(intervals):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _ground_truth() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for standing in ("truth", "weak", "derived"):
        tables = {
            table.name: [column.name for column in table.columns if column.standing == standing] for table in TABLES
        }
        found[standing] = {name: columns for name, columns in tables.items() if columns}
    return found


def _digest(record: msgspec.Struct) -> str:
    return hashlib.sha256(msgspec.json.encode(record, order="sorted")).hexdigest()


def _first(values: Mapping[str, str], *names: str) -> str:
    return next((values[name] for name in names if name in values), "")
