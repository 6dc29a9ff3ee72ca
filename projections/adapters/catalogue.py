"""The formats in the order in which they are shown, and the page that describes them."""

from __future__ import annotations

from otel_control_gym.projections.adapters.causal_graph import CAUSAL_GRAPH
from otel_control_gym.projections.adapters.chronograph import CHRONOGRAPH
from otel_control_gym.projections.adapters.formats import Format
from otel_control_gym.projections.adapters.minari import MINARI
from otel_control_gym.projections.adapters.rcaeval import RCAEVAL

__all__ = ("FORMATS", "reference_page")

FORMATS: dict[str, Format] = {known.name: known for known in (CHRONOGRAPH, RCAEVAL, CAUSAL_GRAPH, MINARI)}


def reference_page() -> str:
    """Return the description of all formats, Markdown."""
    lines = [
        "# Exports",
        "",
        "Generated from `projections/adapters/`. `ocg export RUNS --to NAME [--out DIR]` writes these formats; how is in",
        "[a page of its own](../how-to/export.md).",
    ]
    for known in FORMATS.values():
        lines += ["", f"## {known.name}", "", known.summary, "", f"Read by: {known.read_by}."]
        if known.extra is not None:
            lines += ["", f"Needs the extra `{known.extra}`: `pip install 'otel-control-gym[{known.extra}]'`."]
        lines += ["", "| file | holds | answer key |", "|---|---|---|"]
        lines += [f"| `{file.path}` | {file.holds} | {'yes' if file.truth else '–'} |" for file in known.files]
        lines += ["", "| field there | here | note |", "|---|---|---|"]
        lines += [f"| {field.theirs} | {field.ours} | {field.note or '–'} |" for field in known.fields]
        lines += ["", *(f"- {rule}" for rule in known.rules)]
        lines += ["", "What it can't hold:", "", "| left out | why |", "|---|---|"]
        lines += [f"| {omission.what} | {omission.why} |" for omission in known.left_out]
    return "\n".join(lines) + "\n"
