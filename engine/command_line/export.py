"""`ocg export`: runs in the formats that neighbouring tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command
from otel_control_gym.engine.command_line.rebuild import parse_bucket

__all__ = ("export",)


@command
def export(
    options: Options,
    runs: Annotated[
        list[str],
        typer.Argument(help="Directories of runs or of whole campaigns; ids of runs, beginnings of them, or latest."),
    ],
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="chronograph, rcaeval, causal-graph or minari.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory to make. [default: exports/NAME in the data directory]"),
    ] = None,
    bucket: Annotated[
        str | None,
        typer.Option(help="Width of a bucket, e.g. 5s, folded again from each run's log. [default: each run's own]"),
    ] = None,
) -> None:
    """Write runs in another tool's format (docs/reference/exports.md says what of a run each can hold).

    rcaeval needs a fault after at least 60 calm samples of 1 to 5 s; a run's wider buckets are folded again from its log.
    """
    from otel_control_gym.engine import export as exports

    width = None if bucket is None else parse_bucket(bucket)
    done = exports.export(runs, to, out=out, bucket_seconds=width, data_dir=options.directory)
    options.output.answer(
        {
            "format": done.format,
            "path": str(done.path),
            "files": list(done.files),
            "runs": list(done.runs),
            "skipped": [{"run_id": skipped.run_id, "reason": skipped.reason} for skipped in done.skipped],
            "left_out": [{"what": what, "why": why} for what, why in done.left_out],
        }
    )
    if not options.json:
        console = options.output.console
        console.print(
            f"exported {len(done.runs)} run{'s' * (len(done.runs) != 1)} as {done.format}: {done.path}", markup=False
        )
        for file in done.files:
            console.print(f"  {file}", markup=False)
        for skipped in done.skipped:
            console.print(f"skipped {skipped.run_id}: {skipped.reason}", markup=False)
        console.print("Not in it, because the format can't hold it:")
        for what, why in done.left_out:
            console.print(f"  {what}: {why}", markup=False)
