"""`ocg campaign contrast`: actions beside faults, alone, together and mistaken for each other."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("contrast",)


@command
def contrast(
    options: Options,
    campaign: Annotated[str, typer.Argument(help="Name of a campaign that was run here.")],
    branches: Annotated[int, typer.Option(metavar="B", help="Draws of chance for each arm.", min=1)] = 2,
    workers: Annotated[
        int | None, typer.Option(help="Processes that play futures. [default: as many as there are processors]", min=1)
    ] = None,
    only: Annotated[int | None, typer.Option(metavar="N", help="At most N runs of each stratum.", min=1)] = None,
) -> None:
    """Branch a campaign's runs with neither, action, fault and both; and with actions and faults that look alike."""
    from otel_control_gym.engine.campaigns.contrasts import play_contrasts
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    side = options.output.side
    found = run_interruptibly(
        lambda: play_contrasts(
            options.directory,
            campaign,
            branches=branches,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            only=only,
            on_played=lambda done, total: side.print(f"{done} of {total} arms", highlight=False, markup=False),
        )
    )
    options.output.answer({"campaign": campaign, "factorial": str(found[0]), "matched": str(found[1])})
    if not options.json:
        for path in found:
            options.output.console.print(str(path), markup=False, soft_wrap=True)
