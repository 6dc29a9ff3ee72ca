"""`ocg validate`: does a run's directory keep the data contract?"""

from __future__ import annotations

from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

__all__ = ("validate",)


@command
def validate(
    options: Options,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Directory of a run; an id or latest work too.")],
) -> int:
    """Check files, schemas, units, keys across tables and bucket alignment; exit code 1 if anything is wrong."""
    from pathlib import Path

    from otel_control_gym.engine.runs import open_run
    from otel_control_gym.projections import validate as violations_of

    path = Path(directory) if Path(directory).is_dir() else open_run(directory, options.directory).path
    violations = violations_of(path)
    options.output.answer(
        {
            "path": str(path),
            "valid": not violations,
            "violations": [
                {"rule": violation.rule_id, "file": violation.file, "message": violation.message}
                for violation in violations
            ],
        }
    )
    if not options.json:
        console = options.output.console
        for violation in violations:
            console.print(f"[red]{violation.rule_id}[/]  {violation.file}: ", end="")
            console.print(violation.message, markup=False)
        verdict = "[green]valid[/]" if not violations else f"[red]{len(violations)} violations[/]"
        console.print(f"{verdict}  {path}")
    return NOT_SO if violations else 0
