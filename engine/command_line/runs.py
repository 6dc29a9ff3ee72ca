"""`ocg runs`: what there is in the data directory."""

from __future__ import annotations

from rich.table import Table

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("runs",)

STYLES = {"completed": "green", "aborted": "yellow", "running": "cyan"}


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
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "status", "directory"):
        table.add_column(column, no_wrap=True)
    for run in found:
        table.add_row(run.run_id, f"[{STYLES.get(run.status, 'red')}]{run.status}", str(run.path))
    options.output.console.print(table, crop=False)
