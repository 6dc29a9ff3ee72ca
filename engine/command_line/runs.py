"""`ocg runs`: what there is in the data directory."""

from __future__ import annotations

from rich.markup import escape

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("runs",)

STYLES = {"completed": "green", "aborted": "red"}


@command
def runs(options: Options) -> None:
    """List the runs in the data directory, oldest first."""
    from otel_control_gym.engine.runs import find_runs

    found = find_runs(options.directory)
    options.output.answer([{"run_id": run.run_id, "status": run.status, "path": str(run.path)} for run in found])
    if options.json:
        return
    if not found:
        options.output.console.print(f"no runs in {options.directory}; `ocg run` makes one")
        return
    for run in found:
        status = f"[{STYLES.get(run.status, 'yellow')}]{run.status:<10}[/]"
        options.output.console.print(f"{run.run_id}  {status}  {escape(str(run.path))}")
