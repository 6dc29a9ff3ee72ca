"""What is public of a run ➜ signs, by the channel through which they could give something away.

In: a `PublicView`. Out: per channel numbers by name: means and spreads of measured columns, and counts of words (an event's reason, a log
line without its numbers, a part of a name). Signs of one channel only have to be comparable between runs; whoever tests picks those that
tell. Pure.

Two channels tell by their nature, and are shown without being judged: `files_with_truth`, sizes of files whose rows aren't all public (a
model is given tables by `open_run`, never these files), and `policy`, in which whoever acts says who it is (a policy that knows the fault
is `privileged`: its words are no model's input).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from otel_control_gym.engine.campaigns.public_views import CROCKFORD, PublicView, begun_ms
from otel_control_gym.projections import schemas

__all__ = ("BY_NATURE", "CHANNELS", "GIVEAWAYS", "Signs", "giveaways_in", "signs_of")

Signs = dict[str, float]

BY_NATURE = ("files_with_truth", "policy")
"""Channels that are shown and not judged."""
GIVEAWAYS = (
    "chaos-mesh.org",
    "networkchaos",
    "podchaos",
    "stresschaos",
    "feature_flag",
    "feature flag",
    "normal-image",
)
"""Words by which the stand itself would give its faults and flags away; no public record may hold one."""

_KEYS = {
    "node_features": ("service",),
    "edge_features": ("source", "target"),
    "control_inputs": ("target", "name"),
    "rewards": ("reward_name",),
    "trace_summaries": ("service", "operation", "parent_service"),
}
_POLICY_COLUMNS = ("actor", "policy_version", "policy_information")
_POLICY_METADATA = ("policy_name", "policy_version", "policy_information")
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+")
_PARTS = re.compile(r"[-/_.:>]+")
_PUBLIC_FILES = frozenset(
    {
        "graph.json",
        "coroot_findings.json",
        *(
            table.file
            for table in schemas.TABLES
            if not any(column.name == "visibility" or column.standing == "truth" for column in table.columns)
        ),
    }
)


def signs_of(view: PublicView) -> dict[str, Signs]:
    """Return the signs of a run by channel."""
    return {name: dict(signs(view)) for name, signs in CHANNELS.items()}


def giveaways_in(view: PublicView) -> list[str]:
    """Return those of the `GIVEAWAYS` that a public record of the run holds."""
    texts = [
        msgspec.json.encode([view.logs, view.kubernetes_events, view.findings, view.graph]).decode(),
        *(
            str(text)
            for name in ("events", "spans", "error_summaries")
            for field in view.tables[name].schema
            if pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)
            for text in pc.unique(view.tables[name][field.name]).to_pylist()
        ),
    ]
    found = {word for text in texts for word in GIVEAWAYS if word in text.lower()}
    return sorted(found)


# --- channels -------------------------------------------------------------------------------------------------------------


def _features(view: PublicView) -> Signs:
    """Means, spreads and presence of what is measured, by service, edge and quantity."""
    signs: Signs = {}
    for name, keys in _KEYS.items():
        table = view.tables[name]
        numbers = [field.name for field in table.schema if pa.types.is_floating(field.type)]
        plain = table.select([*keys, *numbers])
        wanted = [(column, how) for column in numbers for how in ("mean", "stddev", "count")]
        for row in plain.group_by(list(keys)).aggregate(wanted).to_pylist():
            entity = "/".join(str(row[key]) for key in keys)
            for column, how in wanted:
                value = row[f"{column}_{how}"]
                if value is not None:
                    signs[f"{name}/{entity}/{column} {how}"] = float(value)
    return signs


def _events(view: PublicView) -> Signs:
    """Counts of what was seen to happen, by its kind."""
    words: list[str] = []
    for row in _columns(view, "events", "source", "type", "reason", "object"):
        words += [f"{row['source']} {row['type']} {row['reason']}", f"of {_stem(row['object'])} {row['type']}"]
    for record in view.kubernetes_events:
        words.append(f"kubernetes {record.get('component')} {record.get('reason')} {record.get('object_kind')}")
    words += [f"finding {finding.get('symptom_class')} {finding.get('severity')}" for finding in view.findings]
    words += [f"suspicion {row['service']}" for row in _columns(view, "weak_labels", "service")]
    words += [
        f"error {row['service']} {row['operation']}"
        for row in _columns(view, "error_summaries", "service", "operation")
    ]
    words += [
        f"action {row['action_type']} {row['status']}" for row in _columns(view, "actions", "action_type", "status")
    ]
    return _counted(words)


def _log_templates(view: PublicView) -> Signs:
    """Counts of log lines, numbers left out, and of the templates that the run's own table has."""
    words = [
        f"{record.get('service')} {record.get('severity')} {_VARYING.sub('*', str(record.get('body')))}"
        for record in view.logs
    ]
    words += [
        f"template {row['service']} {row['template']}" for row in _columns(view, "log_patterns", "service", "template")
    ]
    return _counted(words)


def _spans(view: PublicView) -> Signs:
    """Counts of spans and of what they carry; of attributes the names, and the values that don't vary."""
    words: list[str] = []
    for row in _columns(view, "spans", "service", "peer", "operation", "status", "attributes"):
        words.append(f"{row['service']} {row['peer']} {row['operation']} {row['status']}")
        attributes: dict[str, Any] = msgspec.json.decode(row["attributes"] or "{}")
        words += [f"{key}={_VARYING.sub('*', str(value))}" for key, value in attributes.items() if ".pod." not in key]
        words += attributes
    return _counted(words)


def _object_names(view: PublicView) -> Signs:
    """Parts of objects' names and of identifiers, how long they are and which letters they have."""
    names = {str(row["object"]) for row in _columns(view, "events", "object")}
    names |= {str(record.get("object_name")) for record in view.kubernetes_events}
    names |= {str(record.get("attributes", {}).get("k8s.pod.name")) for record in view.logs}
    names |= {str(row["action_id"]) for row in _columns(view, "actions", "action_id")}
    signs = _counted(f"part {part}" for name in sorted(names) for part in _PARTS.split(name))
    letters = Counter(letter for name in sorted(names) for letter in name)
    total = max(1, letters.total())
    signs |= {f"letter {letter}": count / total for letter, count in letters.items()}
    return signs | {"names": float(len(names)), "length": total / max(1, len(names))}


def _row_order(view: PublicView) -> Signs:
    """Where rows are out of their order, who comes first, and gaps in the log's numbers."""
    signs: Signs = {}
    for name, table in view.tables.items():
        keys = [column for column in view.order[name] if column != "run_id"]
        rows = [tuple(map(str, row.values())) for row in table.select(keys).to_pylist()]
        signs[f"{name} descents"] = float(sum(later < earlier for earlier, later in pairwise(rows)))
        signs |= {f"{name} {place} {row[1:]}": 1.0 for place, row in enumerate(rows[:5])}
    numbers = [number for number, _ in view.messages]
    steps = [later - earlier for earlier, later in pairwise(numbers)]
    signs |= {"log gaps": float(sum(step != 1 for step in steps)), "log length": float(len(numbers))}
    return signs | _counted(f"log {tag}" for _, tag in view.messages)


def _run_ids_and_times(view: PublicView) -> Signs:
    """When a run was played and for how long, and what its id is made of."""
    signs = {f"id {place} ": float(CROCKFORD.find(letter)) for place, letter in enumerate(view.run_id[10:])}
    signs["begun"] = float(begun_ms(view.run_id))
    signs |= {name: value for name, value in _flat(view.metadata, "") if _is_time(name)}
    if view.elapsed_seconds is not None:
        signs["elapsed"] = view.elapsed_seconds
    return signs


def _metadata(view: PublicView) -> Signs:
    """What `metadata.json` says without truth; identifiers and times are other channels' business."""
    left_out = (*_POLICY_METADATA, "run_id", "content_digest", "hashes", "columns")
    shown = {key: value for key, value in view.metadata.items() if key not in left_out}
    return {name: value for name, value in _flat(shown, "") if not _is_time(name)}


def _file_sizes(view: PublicView) -> Signs:
    """Sizes of the files that hold public rows only."""
    return {name: float(size) for name, size in view.sizes.items() if name in _PUBLIC_FILES}


def _files_with_truth(view: PublicView) -> Signs:
    return {name: float(size) for name, size in view.sizes.items() if name not in _PUBLIC_FILES}


def _policy(view: PublicView) -> Signs:
    words = [f"{key}={view.metadata.get(key)}" for key in _POLICY_METADATA]
    for row in _columns(view, "actions", *_POLICY_COLUMNS):
        words += [f"{key}={value}" for key, value in row.items()]
    return _counted(words)


CHANNELS: dict[str, Callable[[PublicView], Signs]] = {
    "features": _features,
    "events": _events,
    "log_templates": _log_templates,
    "spans": _spans,
    "object_names": _object_names,
    "row_order": _row_order,
    "run_ids_and_times": _run_ids_and_times,
    "metadata": _metadata,
    "file_sizes": _file_sizes,
    "files_with_truth": _files_with_truth,
    "policy": _policy,
}
"""Channel -> signs of a run."""


# --- helpers --------------------------------------------------------------------------------------------------------------


def _counted(words: Iterable[str]) -> Signs:
    return {word: float(count) for word, count in Counter(words).items()}


def _columns(view: PublicView, table: str, *names: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = view.tables[table].select(list(names)).to_pylist()
    return rows


def _stem(name: str) -> str:
    """Return an object's kind and the first word of its name: what it is of, without what is drawn for it."""
    kind, _, rest = str(name).partition("/")
    return f"{kind}/{rest.partition('-')[0]}"


def _flat(value: Any, path: str) -> Iterator[tuple[str, float]]:
    """Yield the leaves of a document: numbers by their path, everything else as a word that is there."""
    match value:
        case dict():
            for key, item in value.items():
                yield from _flat(item, f"{path}.{key}")
        case list():
            yield f"{path} length", float(len(value))
            for number, item in enumerate(value):
                yield from _flat(item, f"{path}[{number}]")
        case bool() | None | str():
            yield f"{path}={value}", 1.0
        case int() | float():
            yield path, float(value)


def _is_time(name: str) -> bool:
    return name.startswith((".wall_time", ".run_start", ".run_end"))
