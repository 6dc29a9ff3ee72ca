"""`ocg validate`: do runs keep the data contract?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.engine.run_checks import Report, RunReport
    from otel_control_gym.projections.rules import Violation

__all__ = ("validate",)


@command
def validate(
    options: Options,
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="Directories of runs, ids or latest; or a directory of many: a campaign, or a whole data directory.",
        ),
    ] = None,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules and their ids, and check nothing.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Don't fold the logs again: the numbers in the tables are taken on trust.")
    ] = False,
) -> int:
    """Check files, schemas, units, keys, decisions, labels and logs of runs; exit code 1 if any rule is broken."""
    from otel_control_gym.engine.run_checks import all_rules, check_runs

    if rules:
        return _list(options, all_rules())
    if not runs:
        raise UsageError("which run?\n  name a directory, an id or latest; `--rules` lists what is checked")
    reports = [
        check_runs(path, log=not quick, progress=lambda report: _tell(options, report))
        for path in [_directory(reference, options) for reference in runs]
    ]
    for report in reports:
        _tell_together(options, report)
    valid = all(report.valid for report in reports)
    options.output.answer(
        {
            "path": str(reports[0].path),
            "valid": valid,
            "violations": [entry for report in reports for entry in _entries(report)],
            "runs": [{"path": str(run.path), "valid": not run.violations} for report in reports for run in report.runs],
        }
    )
    return 0 if valid else NOT_SO


def _directory(reference: str, options: Options) -> Path:
    from otel_control_gym.engine.runs import find_run

    return Path(reference) if Path(reference).is_dir() else find_run(reference, options.directory).path


def _list(options: Options, rules: dict[str, str]) -> int:
    options.output.answer(rules)
    if not options.json:
        for rule_id, says in rules.items():
            options.output.console.print(f"[bold]{rule_id:<18}[/]", end="")
            options.output.console.print(says, markup=False)
    return 0


def _tell(options: Options, report: RunReport) -> None:
    if options.json:
        return
    _print(options, report.violations)
    verdict = "[green]valid[/]" if not report.violations else f"[red]{len(report.violations)} violations[/]"
    options.output.console.print(f"{verdict}  {report.path}")


def _tell_together(options: Options, report: Report) -> None:
    if options.json:
        return
    _print(options, report.together)
    if len(report.runs) > 1:
        broken = sum(bool(run.violations) for run in report.runs)
        options.output.console.print(
            f"{len(report.runs)} runs, {broken} with violations, {len(report.together)} of the runs together  {report.path}"
        )


def _print(options: Options, violations: list[Violation]) -> None:
    for violation in violations:
        options.output.console.print(f"[red]{violation.rule_id}[/]  {violation.file}: ", end="")
        options.output.console.print(violation.message, markup=False)


def _entries(report: Report) -> list[dict[str, Any]]:
    """Return violations as JSON: `file` is relative to `path`."""
    found = [(report.path, violation) for violation in report.together]
    found += [(run.path, violation) for run in report.runs for violation in run.violations]
    return [
        {
            "rule": violation.rule_id,
            "path": str(path),
            "file": violation.file,
            "message": violation.message,
        }
        for path, violation in found
    ]
