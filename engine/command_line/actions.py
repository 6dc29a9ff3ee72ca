"""`ocg actions`: the catalogue of actions and interventions, as a list, and one of them in full."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import Options, command, default_of_group

__all__ = ("app", "list_actions", "show")

app = typer.Typer(help="Look at the catalogue of actions and interventions.")


def list_actions(options: Options) -> None:
    """List all actions and interventions (`show NAME`: one of them in full)."""
    from otel_control_gym.actuators import ENTRIES
    from otel_control_gym.actuators.descriptions import describe

    options.output.answer([describe(entry) for entry in ENTRIES])
    if options.json:
        return
    from rich.table import Table

    for kind, title in (("action", "Actions"), ("intervention", "Interventions")):
        table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for column in ("type", "target", "safe", "about"):
            table.add_column(column, header_style="dim", no_wrap=column != "about")
        for entry in ENTRIES:
            if entry.action_class == kind:
                table.add_row(entry.type, entry.target_kind, "yes" if entry.safe else "no", entry.summary)
        options.output.console.print(table)
        options.output.console.print()


def show(options: Options, name: Annotated[str, typer.Argument(help="Type of an action or intervention.")]) -> None:
    """Tell all that is known about one action: parameters, bounds, checks, evidence, reverse."""
    from otel_control_gym.actuators import ENTRIES
    from otel_control_gym.actuators.descriptions import describe
    from otel_control_gym.engine.errors import UsageError, nearest

    found = next((entry for entry in ENTRIES if entry.type == name), None)
    if found is None:
        raise UsageError(f"{name!r}: there is no such action\n  {nearest(name, [entry.type for entry in ENTRIES])}")
    document = describe(found)
    options.output.answer(document)
    if not options.json:
        _tell(options, document)


def _tell(options: Options, document: dict[str, Any]) -> None:
    import msgspec
    from rich.table import Table

    console = options.output.console
    console.print(f"[bold]{document['type']}[/]  {document['class']} on {document['target_kind']}", highlight=False)
    console.print(document["summary"] + "\n")
    if document["parameters"]:
        table = Table(box=None, pad_edge=False)
        for column in ("parameter", "values", "unit", "about"):
            table.add_column(column, header_style="dim", no_wrap=column in ("parameter", "unit"))
        for rule in document["parameters"]:
            label = rule["name"] + (" *" if rule["required"] else "")
            table.add_row(label, rule["bounds"] or rule["type"], rule["unit"], rule["description"])
        console.print(table)
        console.print("[dim]* required[/]\n")
    for word, numbers in document["intensities"].items():
        console.print(f"  {word:<10} {', '.join(f'{key} {value}' for key, value in numbers.items())}", markup=False)
    for title, key in (
        ("Durations", "durations_seconds"),
        ("Reads", "reads"),
        ("Rejected when", "precheck"),
        ("API calls", "api_calls"),
        ("Evidence", "evidence"),
        ("Symptoms", "symptoms"),
    ):
        lines = document[key]
        if isinstance(lines, dict):
            lines = [f"{word}: {seconds} s" for word, seconds in lines.items()]
        if lines:
            console.print(f"\n[bold]{title}[/]")
            for line in lines:
                console.print(f"  {line}", markup=False)
    console.print(f"\n[bold]Reverse[/]  {document['reverse'] or 'none'}")
    example = msgspec.json.encode(document["example"]).decode()
    console.print(f"[bold]Example[/]  on {document['configuration']}:")
    console.print(f"  {example}", markup=False)


app.callback(invoke_without_command=True)(default_of_group(list_actions))
app.command("show")(command(show))
