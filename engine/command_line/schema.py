"""`ocg schema`: the JSON Schemas of a run's JSON files."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("schema",)


@command
def schema(
    options: Options,
    file: Annotated[
        str | None,
        typer.Argument(help="One of a run's JSON files, e.g. metadata.json. [default: list them]"),
    ] = None,
) -> None:
    """Print the JSON Schema (draft 2020-12) of a file of a run; of a file of lines, that of a line (--json: alone, or of all)."""
    from msgspec import json

    from otel_control_gym.projections.documents import DOCUMENTS, json_schema

    console = options.output.console
    if file is None:
        options.output.answer({name: json_schema(name) for name in DOCUMENTS})
        if not options.json:
            for name, document in DOCUMENTS.items():
                console.print(f"{name:<22}{document.holds}", markup=False)
        return
    found = json_schema(file)
    options.output.answer(found)
    if not options.json:
        console.print(json.format(json.encode(found), indent=2).decode(), markup=False)
