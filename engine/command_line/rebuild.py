"""`ocg rebuild`: a run's dataset once more, from its log; with `--bucket` and `--set` at other granularities, all in one pass."""

from __future__ import annotations

import json
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
        list[str] | None,
        typer.Option(
            metavar="WIDTH",
            help="Width of an observation bucket, e.g. 30s or 1m; given again, another dataset. [default: the run's own]",
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=WIDTH",
            help="Another time of the granularity, e.g. reward_bucket_seconds=60s; of all datasets.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where to write it; of several datasets, where to make their directories. "
            "[default: beside the run, named for the granularity]",
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="The telemetry as it was before distortion, of a run that keeps it.")
    ] = False,
    recover: Annotated[bool, typer.Option("--recover", help="Of a damaged log, what lies before the damage.")] = False,
) -> None:
    """Fold a run's log into its dataset again, at one granularity or several."""
    from otel_control_gym.engine import rebuild as rebuilding
    from otel_control_gym.engine.runs import open_run

    chosen = open_run(run, options.directory)
    shared = dict(parse_parameter(text) for text in parameter or ())
    wanted = [shared | {"observation_bucket_seconds": parse_bucket(width)} for width in bucket or ()]
    if len(wanted) > 1:
        directories = rebuilding.rebuild_all(chosen, wanted, clean=clean, recover=recover, out=out)
    else:
        granularity = wanted[0] if wanted else shared
        directories = [rebuilding.rebuild(chosen, granularity=granularity, clean=clean, recover=recover, out=out)]
    documents = [json.loads((path / "metadata.json").read_bytes()) for path in directories]
    datasets = [
        {"path": str(path), "granularity_config": document["granularity_config"]}
        for path, document in zip(directories, documents, strict=True)
    ]
    width = wanted[0]["observation_bucket_seconds"] if wanted else None
    options.output.answer(
        {
            "run_id": chosen.run_id,
            "bucket_seconds": width,
            "clean": clean,
            "path": str(directories[0]),
            "datasets": datasets,
        }
    )
    if not options.json:
        for directory in directories:
            options.output.console.print(f"rebuilt: {directory}", markup=False)


def parse_parameter(text: str) -> tuple[str, int]:
    """Return name and seconds of `reward_bucket_seconds=60s`.

    Raises: UsageError: it isn't of that form.
    """
    name, equals, width = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r}: no value\n  write NAME=WIDTH, e.g. reward_bucket_seconds=60s")
    return name.strip(), parse_bucket(width, option=f"--set {name.strip()}=")


def parse_bucket(text: str, *, option: str = "--bucket ") -> int:
    """Return the seconds of a width such as `30s`, `1m` or `30`.

    Raises: UsageError: it isn't one.
    """
    found = re.fullmatch(r"(\d+)\s*(s|m|min|h)?", text.strip())
    if found is None or int(found[1]) == 0:
        raise UsageError(f"{option}{text!r}: not a width in whole seconds\n  write e.g. 30s, 1m or 30")
    return int(found[1]) * {"m": 60, "min": 60, "h": 3600}.get(found[2], 1)
