"""Writes the pages of docs/reference that follow from the code; `make docs` runs it, a test compares (tests/repository).

In: the events, the settings, the tables' schemas, the catalogue of actions, the formats of exports. Out: Markdown. Field comments (`#:`)
are read from the sources, because Python forgets them; everything else is asked of the classes themselves.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Literal, NamedTuple, get_origin

import msgspec

from otel_control_gym.engine import events, settings
from otel_control_gym.engine.events import EVENT_TYPES, BulkEvent, Event, Row, type_tag
from otel_control_gym.engine.settings import RunConfig, Scenario

__all__ = ("REFERENCE", "pages")

REFERENCE = Path(__file__).parent / "reference"

_FAMILIES = {
    "run": "Run",
    "action": "Action",
    "telemetry": "Telemetry",
    "kubernetes": "Kubernetes",
    "truth": "Truth",
}
_FOLDERS = {
    "Scenario": "scenarios",
    "ServiceConfiguration": "services",
    "Workload": "workloads",
    "Granularity": "granularity",
    "RewardSettings": "rewards",
    "EpisodeSettings": "episodes",
    "TelemetrySettings": "telemetry",
    "MetricMap": "metrics",
}


_DRIVEN = ("Open", "Opened", "Reset", "Observed", "Observe", "Step", "Stepped", "Close", "Closed", "Refusal")
_ASKED = ("Begin", "Begun", "Decide", "Decided")


class Field(NamedTuple):
    """A field as its source spells it."""

    name: str
    type: str
    default: str
    comment: str


def pages() -> dict[str, str]:
    """Return the text of every generated page by file name."""
    dictionary = importlib.import_module("otel_control_gym.projections.dictionary").data_dictionary()
    return {
        "actions.md": importlib.import_module("otel_control_gym.actuators.descriptions").reference_page(),
        "branches.md": _branches(),
        "configuration.md": _configuration(),
        "data-dictionary.md": dictionary,
        "events.md": _events(),
        "remote-protocol.md": _remote_protocol(),
        "rules.md": _rules(),
        "exports.md": importlib.import_module("otel_control_gym.projections.adapters").reference_page(),
    }


# --- pages ------------------------------------------------------------------------------------------------------------------


def _events() -> str:
    lines = [
        "# Events",
        "",
        "Generated from `engine/events.py`. One message in JetStream is one event; its type is the tag, its version the last number.",
        "JSON bodies can be read with any NATS client; packed ones hold columns and are read by `engine.codec`. Times are nanoseconds",
        "since the epoch, UTC. Action events stand in the truth stream when they belong to an intervention.",
    ]
    for family, title in _FAMILIES.items():
        lines += ["", f"## {title}"]
        for kind in EVENT_TYPES:
            if type_tag(kind).partition(".")[0] == family:
                lines += _event(kind)
    lines += ["", "## Rows and parts"]
    for part in _parts():
        lines += ["", f"### {part.__name__}", "", _text(part), "", *_table(_fields(part))]
    return "\n".join(lines) + "\n"


def _rules() -> str:
    rules: dict[str, str] = importlib.import_module("otel_control_gym.engine.run_checks").all_rules()
    lines = [
        "# Rules of the data contract",
        "",
        "Generated from the rules themselves. `ocg validate` checks them, on a run, several, or a whole campaign; ids stay. A run that",
        "breaks none can be read by [the data dictionary](data-dictionary.md) alone. Each rule has a test that breaks it.",
        "",
        "| rule | what holds |",
        "|---|---|",
        *(f"| `{rule}` | {says} |" for rule, says in rules.items()),
    ]
    return "\n".join(lines) + "\n"


def _remote_protocol() -> str:
    messages = importlib.import_module("otel_control_gym.engine.remote_messages")
    lines = [
        "# The remote protocol",
        "",
        f"Generated from `engine/remote_messages.py`. Version {messages.VERSION}, JSON over NATS' request and reply.",
        "Every message has `version`; a request says what it is in `request`. An answer without what was asked for has `error`.",
        "Requests with unknown fields are refused, so that a slip of the pen is told; answers may get further fields within a version.",
        "[How to bring your own policy](../how-to/bring-your-own-policy.md) shows both conversations.",
    ]
    for title, names in (
        ("Driving an environment: `ocg env serve`", (*_DRIVEN, "Problem")),
        ("Being asked: `ocg evaluate --policy nats:SUBJECT`", _ASKED),
        ("Arrays as `base64`", ("PackedArray",)),
    ):
        lines += ["", f"## {title}"]
        for name in names:
            kind = getattr(messages, name)
            tag = kind.__struct_config__.tag
            heading = f"`{tag}`" if tag else name
            lines += ["", f"### {heading}", "", _text(kind), *(["", *_table(_fields(kind))] if _fields(kind) else [])]
    return "\n".join(lines) + "\n"


_BRANCHES: tuple[tuple[str, str, str], ...] = (
    ("counterfactual_tables", "COUNTERFACTUALS_FILE", "COUNTERFACTUALS_SCHEMA"),
    ("counterfactual_tables", "CELLS_FILE", "CELLS_SCHEMA"),
    ("effect_cells", "EFFECT_CELLS_FILE", "EFFECT_CELLS_SCHEMA"),
    ("contrast_tables", "FACTORIAL_FILE", "FACTORIAL_SCHEMA"),
    ("contrast_tables", "MATCHED_FILE", "MATCHED_SCHEMA"),
)
"""Module of `baselines`, and its names for a file and the file's columns."""


def _branches() -> str:
    lines = [
        "# Tables of branches",
        "",
        "Generated from the schemas. `ocg campaign counterfactual` and `ocg campaign contrast` write these Parquet files into a",
        "campaign's directory, beside its runs; unit and meaning of a column are in the file, too. All of it is truth. How they come",
        "about and what they are for: [what an action did](../how-to/what-an-action-did.md).",
    ]
    for module, file, schema in _BRANCHES:
        found = importlib.import_module(f"otel_control_gym.baselines.{module}")
        lines += ["", f"## {getattr(found, file)}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        for field in getattr(found, schema):
            unit, meaning = (field.metadata[key].decode() for key in (b"unit", b"description"))
            null = ", may be null" if field.nullable else ""
            kind = str(field.type).partition("<values=")[2].partition(",")[0] or str(field.type)
            lines.append(f"| `{field.name}` | {kind}{null} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"


def _event(kind: type[Event]) -> list[str]:
    body = "packed" if issubclass(kind, BulkEvent) else "JSON"
    fields = [*_fields(Event), *_fields(kind)]
    return ["", f"### `{type_tag(kind)}`", "", f"`{kind.__name__}`, {body}. {_text(kind)}", "", *_table(fields)]


def _parts() -> list[type[msgspec.Struct]]:
    found = [
        value for _, value in inspect.getmembers(events, inspect.isclass) if issubclass(value, Row) and value is not Row
    ]
    return sorted(found, key=lambda kind: inspect.getsourcelines(kind)[1])


def _configuration() -> str:
    lines = [
        "# Configuration",
        "",
        "Generated from `engine/settings.py`. Unknown keys are errors; a key with a default may be left out. Durations are whole seconds,",
        "memory is bytes, CPU is cores. `ocg config show [SCENARIO]` prints what a run will really use, in the shape of `RunConfig`.",
    ]
    for kind in _records():
        folder = f" (`configs/{_FOLDERS[kind.__name__]}/`)" if kind.__name__ in _FOLDERS else ""
        lines += ["", f"## {kind.__name__}{folder}", "", _text(kind), "", *_table(_fields(kind))]
    return "\n".join(lines) + "\n"


def _records() -> list[type[msgspec.Struct]]:
    """Return the settings' records: those of files first, each with the records it holds, the assembled ones last."""
    order: list[type[msgspec.Struct]] = []

    def visit(kind: type[msgspec.Struct]) -> None:
        if kind in order:
            return
        order.append(kind)
        for field in _fields(kind):
            names = [node.id for node in ast.walk(ast.parse(field.type)) if isinstance(node, ast.Name)]
            for inner in (getattr(settings, name, None) for name in names):
                if inspect.isclass(inner) and issubclass(inner, msgspec.Struct):
                    visit(inner)

    for name in _FOLDERS:
        visit(getattr(settings, name))
    visit(RunConfig)
    assert order[0] is Scenario
    return order


# --- sources ----------------------------------------------------------------------------------------------------------------


def _fields(kind: type) -> list[Field]:
    return list(_declared(kind))


def _declared(kind: type) -> Iterator[Field]:
    source = textwrap.dedent(inspect.getsource(kind))
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            comment = lines[(node.end_lineno or node.lineno) - 1].partition("#:")[2].strip()
            default = "" if node.value is None else ast.unparse(node.value)
            yield Field(node.target.id, _spelt_out(node.annotation, kind), default, comment)


def _spelt_out(annotation: ast.expr, kind: type) -> str:
    """Return a type as its source spells it, with the module's own aliases (`Phase`) put in place of their names."""
    module = inspect.getmodule(kind)
    names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    text = ast.unparse(annotation)
    for name in names:
        alias = getattr(module, name, None)
        if get_origin(alias) in (Literal, UnionType):
            spelt = str(alias).removeprefix("typing.").replace(f"{kind.__module__}.", "")
            text = re.sub(rf"\b{name}\b", spelt.replace("\\", "\\\\"), text)
    return text


def _text(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").replace("\n\n", "\n").replace("\n", " ")


def _table(fields: list[Field]) -> list[str]:
    if not fields:
        return []
    defaults = any(field.default for field in fields)
    head = "| field | type |" + (" default |" if defaults else "") + " |"
    rule = "|---|---|" + ("---|" if defaults else "") + "---|"
    rows = []
    for field in fields:
        cells = [f"`{field.name}`", f"`{_cell(field.type)}`"]
        if defaults:
            cells.append(f"`{_cell(field.default)}`" if field.default else "")
        rows.append("| " + " | ".join([*cells, _cell(field.comment)]) + " |")
    return [head, rule, *rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
