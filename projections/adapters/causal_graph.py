"""A run ➜ a compact graph with the origin of each fault, what it reached, along which paths, with which delays.

In: a `Recording`. Out: one JSON document. Where a fault was comes from the labels; where it was felt first, and when, is derived from the
feature tables by the rule of `changes`, and marked so.

A path follows call edges in either direction (errors and latency travel to callers, load to callees) from the origin over entities that
changed, never from a later change to an earlier one; of several, the shortest. The delay of a hop is the difference of the two first
changes, at the origin counted from the injection, so a path's delays add up to the delay of its end.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_control_gym.projections.adapters.changes import (
    CONSECUTIVE,
    DEVIATIONS,
    FEWEST_BEFORE,
    FLOORS,
    SHARE,
    Change,
    first_change,
)
from otel_control_gym.projections.adapters.formats import Correspondence, FileKind, Format, Omission
from otel_control_gym.projections.adapters.recordings import MICROSECOND, Incident, Recording, Series

__all__ = ("CAUSAL_GRAPH", "causal_graph_files")

EDGE_FEATURES = ("request_rate", "error_ratio", "latency_mean_ms")

CAUSAL_GRAPH = Format(
    name="causal-graph",
    summary="A compact graph with the origin of each fault, the entities that it reached, paths and delays, to score graphs and paths.",
    read_by="whoever scores edges (precision, recall), paths (hit, hop distance) and delays; plain JSON",
    files=(
        FileKind(
            "run_<run_id>.json",
            "graph, faults, affected entities, hops, paths, and the rule that dated them",
            truth=True,
        ),
    ),
    fields=(
        Correspondence("`nodes`, `edges`", "`graph.json`", "ids, kinds, protocols"),
        Correspondence("`faults[].origin`", "`target`, `root_cause_kind` of `labels`", "ground truth"),
        Correspondence(
            "`faults[].affected[]`",
            "`node_features`, `edge_features`",
            "derived: first change, feature, before and after",
        ),
        Correspondence(
            "`faults[].hops[]`", "`graph.json` and the first changes", "derived: from, to, delay, along which call edge"
        ),
        Correspondence("`faults[].paths[]`", "the hops", "derived: one per affected node"),
        Correspondence(
            "`confounded_by`",
            "`actions`",
            "the first action that was applied before the change, after the fault: it may be its work",
        ),
    ),
    rules=(
        f"A series differs from its median before the fault when it is further away than {DEVIATIONS:g} robust standard deviations "
        f"(1.4826 × median absolute deviation), than {SHARE:.0%} of the median and than its feature's floor ("
        + ", ".join(f"`{name}` {floor:g}" for name, floor in FLOORS.items())
        + f"). It has changed when {CONSECUTIVE} known values in a row do, in one direction; the change begins with the first of them.",
        f"Before is every bucket up to the injection in which no other fault was in force, at least {FEWEST_BEFORE} with a value; else the "
        "series is listed as undecided. After is up to the end of the fault, or to the next one.",
        "A delay is known to the width of a bucket; `--bucket` gives finer ones where the log has them.",
        "This is a comparison of before and after, not of two worlds: it is marked `derived`, and effect certificates are better where "
        "a run has them.",
    ),
    left_out=(
        Omission("the series themselves", "a graph for scoring, not for training; `chronograph` has them"),
        Omission("actions as causes", "faults only; an action that may have caused a change is named beside it"),
        Omission("logs, spans, Kubernetes events, findings", "the rule looks at numbers alone"),
        Omission("what became normal again", "only the first change is dated"),
    ),
)


def causal_graph_files(recording: Recording) -> dict[str, bytes]:
    """Return the content of the run's file by its path below the export's directory; a run without faults has a graph alone."""
    incidents = recording.incidents()
    document = {
        "format": "causal-graph",
        "version": 1,
        "run_id": recording.run_id,
        "family_id": recording.metadata["family_id"],
        "run_start": recording.metadata["run_start"],
        "bucket_seconds": recording.bucket_seconds,
        "standing": {"origin": "truth", "affected": "derived", "hops": "derived", "paths": "derived"},
        "rule": {
            "deviations": DEVIATIONS,
            "share_of_median": SHARE,
            "consecutive": CONSECUTIVE,
            "fewest_before": FEWEST_BEFORE,
            "floors": FLOORS,
        },
        "nodes": sorted(
            ({"id": node["id"], "kind": node["kind"]} for node in recording.graph["nodes"]), key=lambda node: node["id"]
        ),
        "edges": sorted(
            (
                {"source": edge["source"], "target": edge["target"], "protocol": edge["protocol"]}
                for edge in recording.graph["edges"]
            ),
            key=lambda edge: (edge["source"], edge["target"], edge["protocol"]),
        ),
        "faults": [_fault(recording, incidents, position) for position in range(len(incidents))],
    }
    return {f"run_{recording.run_id}.json": bytes(msgspec.json.format(msgspec.json.encode(document), indent=2)) + b"\n"}


def _fault(recording: Recording, incidents: tuple[Incident, ...], position: int) -> dict[str, Any]:
    incident = incidents[position]
    start, split, end = _buckets(recording, incidents, position)
    nodes: dict[str, dict[str, Any]] = {}
    edges: dict[str, dict[str, Any]] = {}
    undecided: list[str] = []
    for feature, floor in FLOORS.items():
        sources = [(nodes, recording.nodes(feature))]
        if feature in EDGE_FEATURES:
            sources.append((edges, recording.edges(feature)))
        for found, series in sources:
            for column, entity in enumerate(series.entities):
                name = "->".join(entity[:2])
                verdict = first_change(series.values[:, column], start=start, split=split, end=end, floor=floor)
                if isinstance(verdict, Change):
                    _note(found, name, feature, verdict, _seconds(series, verdict.bucket, incident))
                elif verdict == "undecided":
                    undecided.append(f"{name}:{feature}")
    for entry in (*nodes.values(), *edges.values()):
        for change in entry["features"]:
            change["confounded_by"] = _reaction_before(recording, incident, change["delay_s"])
    origin = _origin(incident)
    hops = _hops(recording, origin, {name: entry["delay_s"] for name, entry in nodes.items()})
    return {
        "action_id": incident.action_id,
        "fault_type": incident.fault_type,
        "intensity": incident.intensity,
        "origin": {"kind": incident.kind, "id": incident.target, "nodes": list(origin)},
        "injected_s": (incident.injected - recording.start) / MICROSECOND,
        "end_s": (incident.end - recording.start) / MICROSECOND,
        "end_censored": incident.end_censored,
        "affected": {
            "nodes": [nodes[name] for name in sorted(nodes, key=lambda name: (nodes[name]["delay_s"], name))],
            "edges": [edges[name] for name in sorted(edges, key=lambda name: (edges[name]["delay_s"], name))],
        },
        "hops": hops,
        "paths": _paths(origin, hops),
        "unreached": sorted(set(nodes) - set(origin) - {hop["to"] for hop in hops}),
        "undecided": sorted(undecided),
    }


def _buckets(recording: Recording, incidents: tuple[Incident, ...], position: int) -> tuple[int, int, int]:
    """Return the first bucket of before, the first of after, and the first that is neither."""
    incident, width = incidents[position], recording.bucket_seconds * MICROSECOND
    split = (incident.injected - recording.start) // width
    start = max((-((recording.start - other.end) // width) for other in incidents[:position]), default=0)
    end = -((recording.start - incident.end) // width)
    if position + 1 < len(incidents):
        end = min(end, max(split + 1, (incidents[position + 1].injected - recording.start) // width))
    return min(start, split), split, min(end, len(recording.nodes("coverage").times))


def _seconds(series: Series, bucket: int, incident: Incident) -> float:
    """Return how long after the injection a bucket begins; one that holds the injection counts as at once."""
    return max(0.0, (int(series.times[bucket]) - incident.injected) / MICROSECOND)


def _note(found: dict[str, dict[str, Any]], name: str, feature: str, change: Change, delay: float) -> None:
    """Keep the earliest change of an entity; of several at once the first in the order of `FLOORS`, the others beside it."""
    entry = found.setdefault(name, {"id": name, "delay_s": delay, "features": []})
    if delay < entry["delay_s"]:
        entry["delay_s"] = delay
    entry["features"].append(
        {
            "feature": feature,
            "delay_s": delay,
            "direction": change.direction,
            "before": change.before,
            "after": change.after,
        }
    )
    entry["features"].sort(key=lambda item: item["delay_s"])


def _reaction_before(recording: Recording, incident: Incident, delay: float) -> str | None:
    changed = incident.injected + round(delay * MICROSECOND)
    return next(
        (action_id for moment, action_id, _ in recording.reactions() if incident.injected <= moment <= changed), None
    )


def _origin(incident: Incident) -> tuple[str, ...]:
    """Return the nodes from which the fault spreads; an edge's caller first, which is where it is felt."""
    if incident.kind == "edge":
        source, _, target = incident.target.partition("->")
        return source, target
    return (incident.service,) if incident.service else ()


def _hops(recording: Recording, origin: tuple[str, ...], changed: dict[str, float]) -> list[dict[str, Any]]:
    """Return one hop into every affected node that the origin reaches, nearest first."""
    neighbours: dict[str, list[tuple[str, str, str]]] = {}
    for edge in recording.graph["edges"]:
        source, target = edge["source"], edge["target"]
        neighbours.setdefault(target, []).append((source, f"{source}->{target}", "to the caller"))
        neighbours.setdefault(source, []).append((target, f"{source}->{target}", "to the callee"))
    reached = dict.fromkeys(origin, 0.0)  # there the fault was from its first moment
    hops: list[dict[str, Any]] = []
    frontier = list(origin)
    while frontier:
        following: list[str] = []
        for name in frontier:
            for other, along, direction in sorted(neighbours.get(name, [])):
                if other in reached or other not in changed or changed[other] < reached[name]:
                    continue
                reached[other] = changed[other]
                delay = changed[other] - reached[name]
                hops.append({"from": name, "to": other, "along": along, "direction": direction, "delay_s": delay})
                following.append(other)
        frontier = following
    return hops


def _paths(origin: tuple[str, ...], hops: list[dict[str, Any]]) -> list[dict[str, Any]]:
    into = {hop["to"]: hop for hop in hops}
    paths = []
    for hop in hops:
        way = [hop]
        while way[0]["from"] not in origin:
            way.insert(0, into[way[0]["from"]])
        delays = [step["delay_s"] for step in way]
        paths.append({"to": hop["to"], "nodes": [way[0]["from"], *(step["to"] for step in way)], "delays_s": delays})
    return paths
