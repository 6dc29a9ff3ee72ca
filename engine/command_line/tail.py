"""`ocg tail`: a run's public events, one line each: those in its log, then new ones as they are written, until the run ends.

A finished run is read from its archive, one in progress from the broker that its process runs.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from otel_control_gym.engine.command_line.options import Options, command
from otel_control_gym.engine.errors import UsageError

if TYPE_CHECKING:
    from otel_control_gym.engine.events import Event, Recorded

__all__ = ("EventLines", "details", "follow", "in_progress", "tail")

LATEST = "latest"
DETAIL_CHARACTERS = 120


@command
def tail(
    options: Options,
    run: Annotated[str, typer.Argument(help="Directory of a run, its id or the beginning of it, or latest.")] = LATEST,
) -> None:
    """Follow a run's events from the first one on (--json: one list, written as it grows)."""
    from otel_control_gym.engine.archive import ARCHIVE_NAME, read_archive
    from otel_control_gym.engine.command_line.interruption import run_interruptibly
    from otel_control_gym.engine.runs import open_run

    run_id = in_progress(run, options.directory)
    with EventLines(options) as lines:
        if run_id is None and (options.nats is None or Path(run).is_dir()):
            for entry in read_archive(open_run(run, options.directory).path / ARCHIVE_NAME, truth=False):
                lines.write(entry)
        else:
            run_interruptibly(_follow, lines, run_id or run, options)


async def _follow(lines: EventLines, run_id: str, options: Options) -> None:
    async with aclosing(follow(run_id, options.directory, options.nats)) as entries:
        async for entry in entries:
            lines.write(entry)


async def follow(run_id: str, data_dir: Path, nats: str | None) -> AsyncGenerator[Recorded, None]:
    """Yield the public events that the broker holds of a run, and those to come until it ends; `latest` is the newest run.

    Raises: BrokerError, LogError: there is no such run, or its log can't be read.
    """
    from otel_control_gym.engine.assembly import configured_broker
    from otel_control_gym.engine.locks import claimed_run, listed_runs
    from otel_control_gym.engine.log import LogConnection

    async with configured_broker(data_dir, nats) as broker, LogConnection(broker) as connection:
        if run_id == LATEST:
            run_id = max((summary.run_id for summary in await connection.runs()), default=LATEST)
        crashed = False
        if run_id in listed_runs(data_dir):
            async with claimed_run(data_dir, run_id) as crashed:  # a lock that is free has no living process
                pass
        reader = await connection.open_run(run_id)
        async with aclosing(reader.read() if crashed else reader.tail()) as entries:
            async for entry in entries:
                yield entry


def in_progress(reference: str, data_dir: Path) -> str | None:
    """Return the id of the run in progress (or not yet put in order) that a reference names, if there is one."""
    from otel_control_gym.engine.locks import listed_runs

    found = listed_runs(data_dir)
    fitting = found[-1:] if reference == LATEST else [run_id for run_id in found if run_id.startswith(reference)]
    if len(fitting) > 1:
        raise UsageError(
            f"{reference!r} is the beginning of {len(fitting)} runs\n  give more of the id: {', '.join(fitting)}"
        )
    return fitting[0] if fitting else None


class EventLines:
    """Writes an event a line for a person, or the items of one JSON list."""

    def __init__(self, options: Options) -> None:
        self._output = options.output
        self._origin: int | None = None

    def __enter__(self) -> EventLines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._output.json and (self._origin is not None or error is None):
            sys.stdout.write("[]\n" if self._origin is None else "\n]\n")

    def write(self, entry: Recorded) -> None:
        """Write one event."""
        import msgspec

        from otel_control_gym.engine.clock import SECOND
        from otel_control_gym.engine.events import type_tag

        event, tag = entry.event, type_tag(entry.event)
        opening = "[" if self._origin is None else ","
        self._origin = event.time if self._origin is None else self._origin
        if self._output.json:
            document = {"sequence": entry.seq, "time_ns": event.time, "type": tag, "details": details(event)}
            sys.stdout.write(f"{opening}\n  {msgspec.json.encode(document).decode()}")
            sys.stdout.flush()
        else:
            line = f"{entry.seq:>5}  {(event.time - self._origin) / SECOND:>8.1f} s  {tag:<24} {_line(details(event))}"
            self._output.console.print(line, markup=False)


def details(event: Event) -> dict[str, Any]:
    """Return what a line tells of an event: its fields, or of a bulk event how many rows it has."""
    import msgspec

    from otel_control_gym.engine.codec import row_count
    from otel_control_gym.engine.events import BulkEvent, RunDeclared

    if isinstance(event, BulkEvent):
        return {"rows": row_count(event)}
    if isinstance(event, RunDeclared):
        public = event.settings
        return {"services": public.services.name, "stand": public.stand, "horizon_seconds": public.horizon_seconds}
    fields: dict[str, Any] = msgspec.to_builtins(event)
    return {
        key: value for key, value in fields.items() if key not in ("type", "time") and value not in (None, "", [], {})
    }


def _line(fields: dict[str, Any]) -> str:
    text = "  ".join(f"{key}={_short(value)}" for key, value in fields.items())
    return text if len(text) <= DETAIL_CHARACTERS else text[: DETAIL_CHARACTERS - 1] + "…"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return f"({len(value)})"
    if isinstance(value, dict):
        return ",".join(f"{key}:{inner}" for key, inner in value.items())
    return str(value)
