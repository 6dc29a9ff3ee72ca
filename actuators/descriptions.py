"""The catalogue for people and programs: an entry as plain data, and the reference page made of all of them.

In: `ENTRIES`, the tables of words. Out: documents (`ocg actions --json`), Markdown (`docs/reference/actions.md`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, get_args

import msgspec

from otel_control_gym.actuators.catalogue import ENTRIES
from otel_control_gym.actuators.entries import Entry, Parameter
from otel_control_gym.actuators.intensities import duration_of, intensities
from otel_control_gym.actuators.parameters import DurationClass

__all__ = ("bounds_of", "describe", "reference_page", "type_of", "unit_of")


def describe(entry: Entry) -> dict[str, Any]:
    """Return all that is known about an action, as JSON has it; keys are stable."""
    return {
        "type": entry.type,
        "class": entry.action_class,
        "summary": entry.summary,
        "target_kind": entry.target_kind,
        "safe": entry.safe,
        "parameters": [
            {
                "name": parameter.name,
                "required": parameter.required,
                "type": type_of(parameter),
                "unit": unit_of(parameter),
                "bounds": bounds_of(parameter),
                "description": _rule(parameter).get("description", ""),
                "schema": parameter.schema,
            }
            for parameter in entry.parameters
        ],
        "intensities": _intensities(entry),
        "durations_seconds": _durations(entry),
        "persistence": ["workload", "pod"] if entry.persistent else [],
        "reads": list(entry.reads),
        "precheck": list(entry.precheck),
        "api_calls": list(entry.api_calls),
        "evidence": list(entry.evidence),
        "deadline_seconds": entry.deadline_seconds,
        "reverse": entry.reverse,
        "symptoms": list(entry.symptoms),
        "spreads": list(entry.spreads),
        "preparation": list(entry.preparation),
        "example": entry.example,
        "configuration": entry.configuration,
    }


def _intensities(entry: Entry) -> dict[str, Any]:
    if not entry.graded:
        return {}
    table: dict[str, Any] = msgspec.to_builtins(getattr(intensities(), entry.type))
    return table


def _durations(entry: Entry) -> dict[str, int]:
    if not entry.timed:
        return {}
    words: Sequence[DurationClass] = get_args(DurationClass)
    return {word: duration_of(entry.type, word) for word in words}


# --- parameters ---------------------------------------------------------------------------------------------------------------


def _rule(parameter: Parameter) -> dict[str, Any]:
    """Return the part of a parameter's schema that holds for what isn't null."""
    options: list[dict[str, Any]] = parameter.schema.get("anyOf", [parameter.schema])
    rule = next(option for option in options if option.get("type") != "null")
    return {**rule, **{key: parameter.schema[key] for key in ("description",) if key in parameter.schema}}


def type_of(parameter: Parameter) -> str:
    """Return a parameter's type in a word."""
    rule = _rule(parameter)
    if "enum" in rule:
        return "one of"
    words = {"integer": "whole number", "object": "mapping", "string": "text", "boolean": "yes or no"}
    return words.get(str(rule["type"]), str(rule["type"]))


def unit_of(parameter: Parameter) -> str:
    """Return a parameter's unit, or an empty text."""
    return str(_rule(parameter).get("unit", ""))


def bounds_of(parameter: Parameter) -> str:
    """Return what values a parameter takes, e.g. `0 … 20`."""
    rule = _rule(parameter)
    if "enum" in rule:
        return ", ".join(str(value) for value in rule["enum"])
    if "pattern" in rule:
        return str(rule["pattern"])
    low = rule.get("minimum", f"> {rule['exclusiveMinimum']}" if "exclusiveMinimum" in rule else None)
    high = rule.get("maximum")
    return "" if low is None and high is None else f"{low} … {high}"


# --- the page -----------------------------------------------------------------------------------------------------------------


def reference_page() -> str:
    """Return the Markdown page of all actions and interventions."""
    lines = [
        "# Actions and interventions",
        "",
        "Generated from `actuators/` and `configs/actions/`. `ocg actions` lists them, `ocg actions show NAME` tells about one,",
        "`ocg.action_schema()` is the JSON Schema of all. An action has one JSON form everywhere: in scenarios, for `ocg.parse_action`,",
        "in `step`, in `ocg act`.",
        "",
        "Every attempt is logged before anything else is done about it, then checked (*rejected* where a ground below holds), applied",
        "(*failed* where the stand says no), and looked at until all evidence is seen (*applied*), or the deadline is over (*partial* or",
        "*unverified*). The stand's yes to a write is no evidence. What is timed is taken back and looked at again.",
        "",
        "| type | target | safe | reverse | |",
        "|---|---|---|---|---|",
    ]
    for entry in ENTRIES:
        reverse = entry.reverse or "none"
        row = (
            f"[`{entry.type}`](#{entry.type})",
            entry.target_kind,
            "yes" if entry.safe else "no",
            reverse,
            entry.summary,
        )
        lines.append("| " + " | ".join(_cell(text) for text in row) + " |")
    for entry in ENTRIES:
        lines += ["", *_section(entry)]
    return "\n".join(lines) + "\n"


def _section(entry: Entry) -> Iterator[str]:
    yield f"## {entry.type}"
    yield ""
    yield f"{entry.action_class.capitalize()}. {entry.summary}"
    yield ""
    if entry.parameters:
        yield "| parameter | | values | unit | |"
        yield "|---|---|---|---|---|"
        for parameter in entry.parameters:
            need = "required" if parameter.required else ""
            bounds = bounds_of(parameter) or type_of(parameter)
            about = str(_rule(parameter).get("description", ""))
            row = (f"`{parameter.name}`", need, bounds, unit_of(parameter), about)
            yield "| " + " | ".join(_cell(text) for text in row) + " |"
        yield ""
    for word, numbers in _intensities(entry).items():
        yield f"- {word}: " + ", ".join(f"{name} {_plain(value)}" for name, value in numbers.items())
    durations = _durations(entry)
    if durations:
        yield "- durations: " + ", ".join(f"{word} {seconds} s" for word, seconds in durations.items())
    for title, items in (
        ("reads", entry.reads),
        ("rejected when", entry.precheck),
        ("API calls", entry.api_calls),
        ("evidence", entry.evidence),
        ("symptoms", entry.symptoms),
        ("callers show, too", entry.spreads),
    ):
        if items:
            code = "`" if title == "API calls" else ""
            yield f"- {title}: " + "; ".join(f"{code}{item}{code}" for item in items)
    if entry.deadline_seconds:
        yield f"- deadline of the evidence: {entry.deadline_seconds} s"
    yield f"- reverse: {entry.reverse or 'none'}"
    example = msgspec.json.encode(entry.example).decode()
    yield f"- example on `{entry.configuration}`: `{example}`"
    for preparation in entry.preparation:
        yield f"- after `{msgspec.json.encode(preparation).decode()}`"
    if entry.api_calls:
        yield ""
        yield f"![effect of {entry.type} on the twin](../images/actions/{entry.type}.png)"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
