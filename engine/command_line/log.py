"""`ocg log`: event logs as files: out of the broker, into it, looked at, checked, and had back after a damage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import NOT_SO, Options, command

if TYPE_CHECKING:
    from otel_control_gym.engine.archive import ArchiveSummary

__all__ = ("app", "export", "import_log", "list_logs", "show", "verify")

app = typer.Typer(help="Keep event logs as files: export, import, show, verify, list.", no_args_is_help=True)

_LOG = Annotated[str, typer.Argument(metavar="LOG", help="An exported file; or a run's directory, its id, or latest.")]


def export(
    options: Options,
    run: Annotated[str, typer.Argument(help="Directory of a run, its id or the beginning of it, or latest.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where it goes; mustn't exist. [default: run_<id>.event_log.zst]"),
    ] = None,
) -> None:
    """Write a run's log into one compressed file with checksums: what its directory has, else what the broker has (--nats: that one)."""
    import hashlib

    from otel_control_gym.engine.archive import survey_archive
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.errors import UsageError

    kept = None if options.nats is not None else _kept(run, options)
    run_id = run.removeprefix("run_") if kept is None else survey_archive(kept).run.run_id
    file = out or Path(f"run_{run_id}.event_log.zst")
    if file.exists():
        raise UsageError(f"{file} exists\n  name another file with --out")
    if kept is None:
        run_interruptibly(_export, run_id, file, options)
    else:
        _copy(kept, file)
    found = survey_archive(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    options.output.answer(_document(file, found) | {"sha256": digest})
    if not options.json:
        _tell(options, f"{file.stat().st_size:,} bytes", file, found)
        options.output.console.print(f"sha256  {digest}")


def _copy(kept: Path, file: Path) -> None:
    """Copy an archive that is whole; the copy appears at once.

    Raises: LogCorrupted: it isn't.
    """
    from otel_control_gym.engine.archive import content_digest

    content_digest(kept)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_bytes(kept.read_bytes())
    draft.replace(file)


async def _export(run_id: str, file: Path, options: Options) -> None:
    from otel_control_gym.engine.archive import export_archive
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.log import LogConnection

    async with configured_broker(options.directory, options.nats) as broker, LogConnection(broker) as connection:
        await export_archive(await connection.open_run(run_id), file)


def import_log(
    options: Options,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `ocg log export` wrote, or a run's event_log.zst.")
    ],
    recover: Annotated[
        bool, typer.Option("--recover", help="Of a damaged file, take what lies before the damage.")
    ] = False,
) -> None:
    """Put a log back into the broker, bit for bit; nothing of a damaged file, unless it is to be recovered."""
    from otel_control_gym.engine.archive import survey_archive
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    found = survey_archive(file)
    run_interruptibly(_import, file, recover, options)
    options.output.answer(_document(file, found))
    if not options.json:
        _tell(options, "recovered" if found.damage else "imported", file, found)


async def _import(file: Path, recover: bool, options: Options) -> None:
    from otel_control_gym.engine.archive import import_archive
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.log import LogConnection

    async with configured_broker(options.directory, options.nats) as broker, LogConnection(broker) as connection:
        await import_archive(file, connection, recover=recover)


def verify(options: Options, log: _LOG) -> int:
    """Check a log's file from end to end: checksums, digests, chains; exit code 1 if it was cut off or altered."""
    from otel_control_gym.engine.archive import survey_archive

    file = _file(log, options)
    found = survey_archive(file)
    options.output.answer(_document(file, found))
    if not options.json:
        _tell(options, "[red]damaged[/]" if found.damage else "[green]whole[/]", file, found)
    return NOT_SO if found.damage else 0


def show(
    options: Options,
    log: _LOG,
    truth: Annotated[bool, typer.Option("--truth", help="Also what no policy sees: interventions, seed.")] = False,
    recover: Annotated[
        bool, typer.Option("--recover", help="Of a damaged file, show what lies before the damage.")
    ] = False,
) -> None:
    """Print the events of a log, one line each, in the order in which they became known."""
    from otel_control_gym.engine.archive import read_archive
    from otel_control_gym.engine.command_line.tail import EventLines

    with EventLines(options) as lines:
        for entry in read_archive(_file(log, options), truth=truth, recover=recover):
            lines.write(entry)


def list_logs(options: Options) -> None:
    """List the logs that the broker holds, oldest first."""
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    found = run_interruptibly(_list, options)
    options.output.answer(found)
    for run in [] if options.json else found:
        options.output.console.print(
            f"{run.run_id}  {run.status:<10}  {run.public_messages + run.truth_messages:>6} messages  {run.bytes:>12,} bytes"
        )


async def _list(options: Options) -> list[Any]:
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.log import LogConnection

    async with configured_broker(options.directory, options.nats) as broker, LogConnection(broker) as connection:
        return list(await connection.runs())


def _file(reference: str, options: Options) -> Path:
    """Return the archive that a reference names: a file, or that of a run."""
    from otel_control_gym.engine.archive import ARCHIVE_NAME
    from otel_control_gym.engine.runs import find_run

    path = Path(reference)
    if path.is_file():
        return path
    if (path / ARCHIVE_NAME).is_file():
        return path / ARCHIVE_NAME
    return find_run(reference, options.directory).path / ARCHIVE_NAME


def _kept(reference: str, options: Options) -> Path | None:
    """Return the archive of a run that has a directory, else None."""
    from otel_control_gym.engine.errors import UsageError

    try:
        file = _file(reference, options)
    except UsageError:
        if reference == "latest" or Path(reference).exists():
            raise
        return None
    return file if file.is_file() else None


def _document(file: Path, found: ArchiveSummary) -> dict[str, Any]:
    from otel_control_gym.engine.clock import rfc3339

    return {
        "path": str(file),
        "run_id": found.run.run_id,
        "campaign": found.run.campaign,
        "whole": found.damage is None,
        "damage": found.damage,
        "messages": found.messages,
        "public_sequence": found.public_messages,
        "truth_sequence": found.truth_messages,
        "until": None if found.until is None else rfc3339(found.until),
        "content_digest": found.content_digest,
    }


def _tell(options: Options, verdict: str, file: Path, found: ArchiveSummary) -> None:
    document, console = _document(file, found), options.output.console
    console.print(f"{verdict}  ", end="")
    console.print(f"{file}", markup=False)
    if found.damage:
        console.print(found.damage, markup=False)
    before = " before the damage" if found.damage else ""
    console.print(
        f"run {found.run.run_id}: {found.messages} events{before}, {found.truth_messages} of them truth, until {document['until']}"
    )


app.command("export")(command(export))
app.command("import")(command(import_log))
app.command("list")(command(list_logs))
app.command("show")(command(show))
app.command("verify")(command(verify))
