"""`ocg rebuild`: a run's dataset once more, from its log; with `--bucket` at another granularity."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command
from otel_control_gym.engine.errors import UsageError

__all__ = ("parse_bucket", "rebuild")


@command
def rebuild(
    options: Options,
    run: Annotated[str, typer.Argument(help="Directory of a run, its id or the beginning of it, or latest.")],
    bucket: Annotated[
        str | None, typer.Option(help="Width of an observation bucket, e.g. 30s or 1m. [default: the run's own]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to write it. [default: beside the run, named for the bucket]"),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="The telemetry as it was before distortion, of a run that keeps it.")
    ] = False,
) -> None:
    """Fold a run's log into its dataset again."""
    from otel_control_gym.engine import runs

    chosen = runs.open_run(run, options.directory)
    width = None if bucket is None else parse_bucket(bucket)
    directory = runs.rebuild(chosen, bucket_seconds=width, clean=clean, out=out)
    options.output.answer({"run_id": chosen.run_id, "bucket_seconds": width, "clean": clean, "path": str(directory)})
    if not options.json:
        options.output.console.print(f"rebuilt: {directory}", markup=False)


def parse_bucket(text: str) -> int:
    """Return the seconds of a width such as `30s`, `1m` or `30`.

    Raises: UsageError: it isn't one.
    """
    found = re.fullmatch(r"(\d+)\s*(s|m|min|h)?", text.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"--bucket {text!r}: not a width in whole seconds\n  write e.g. 30s, 1m or 30")
    return int(found[1]) * {"m": 60, "min": 60, "h": 3600}.get(found[2], 1)
