"""`ocg campaign counterfactual`: what else might have been done, and what it would have led to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command

if TYPE_CHECKING:
    from otel_control_gym.engine.campaigns.counterfactuals import DecisionPlayed

__all__ = ("counterfactual",)


@command
def counterfactual(
    options: Options,
    campaign: Annotated[str, typer.Argument(help="Name of a campaign that was run here.")],
    alternatives: Annotated[
        int, typer.Option(metavar="K", help="Alternatives at a decision; noop and what was done are among them.", min=2)
    ] = 6,
    branches: Annotated[int, typer.Option(metavar="B", help="Draws of chance for each alternative.", min=1)] = 3,
    workers: Annotated[
        int | None, typer.Option(help="Processes that play futures. [default: as many as there are processors]", min=1)
    ] = None,
    only: Annotated[int | None, typer.Option(metavar="N", help="At most N runs of each stratum.", min=1)] = None,
    horizon: Annotated[
        int, typer.Option(metavar="STEPS", help="Control steps that a future is lived after the decision.", min=1)
    ] = 10,
    stratum: Annotated[
        str,
        typer.Option(metavar="NAME,…", help="Of which runs; the decisions of one without a policy are those planned."),
    ] = "randomised",
) -> None:
    """Play what else might have been done at a campaign's decisions, in paired futures; what is there isn't played again."""
    from otel_control_gym.engine.campaigns.counterfactuals import play_counterfactuals
    from otel_control_gym.engine.command_line.interruption import run_interruptibly

    played: list[DecisionPlayed] = []

    def tell(found: DecisionPlayed, total: int) -> None:
        played.append(found)
        groups = ", ".join(f"{count} {group}" for group, count in found.groups.items())
        cells = f"; {found.action_type} left {groups} cells" if sum(found.groups.values()) else ""
        options.output.side.print(
            f"{len(played)} of {total}  run {found.run_id}, decision {found.decision_step}: "
            f"{found.alternatives} alternatives, {found.branches} branches{cells}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    path = run_interruptibly(
        lambda: play_counterfactuals(
            options.directory,
            campaign,
            strata=tuple(name.strip() for name in stratum.split(",")),
            alternatives=alternatives,
            branches=branches,
            horizon=horizon,
            workers=(os.cpu_count() or 1) if workers is None else workers,
            only=only,
            on_played=tell,
        )
    )
    options.output.answer({"campaign": campaign, "path": str(path), "played": played})
    if not options.json:
        options.output.console.print(f"{len(played)} decisions played: {path}", markup=False, soft_wrap=True)
