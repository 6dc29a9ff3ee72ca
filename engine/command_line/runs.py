"""`ocg runs`: what there is in the data directory."""

from __future__ import annotations

from rich.markup import escape

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("runs",)

STYLES = {"completed": "green", "aborted": "red"}


@command
def runs(options: Options) -> None:
    """List the runs in the data directory, oldest first."""
    from otel_control_gym.engine.locks import unfinished_runs
    from otel_control_gym.engine.runs import find_runs

    found: list[tuple[str, str, str | None]] = [
        (run.run_id, run.status, str(run.path)) for run in find_runs(options.directory)
    ]
    stored = {run_id for run_id, _, _ in found}
    unstored = {run_id: status for run_id, status in unfinished_runs(options.directory).items() if run_id not in stored}
    found += [(run_id, status, None) for run_id, status in unstored.items()]
    options.output.answer([{"run_id": run_id, "status": status, "path": path} for run_id, status, path in found])
    if options.json:
        return
    if not found:
        options.output.console.print(f"no runs in {options.directory}; `ocg run` makes one")
        return
    for run_id, status, path in found:
        shown = f"[{STYLES.get(status, 'yellow')}]{status:<10}[/]"
        options.output.console.print(f"{run_id}  {shown}  {escape(path or 'not stored yet')}")
    if "crashed" in unstored.values():
        options.output.console.print("the next `ocg run` puts crashed runs in order, and keeps what they have")
