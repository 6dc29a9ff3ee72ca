"""`ocg report`: what a campaign says about acting, as pages with plots and as figures."""

from __future__ import annotations

from typing import Annotated

import typer

from otel_control_gym.engine.command_line.options import Options, command

__all__ = ("report",)


@command
def report(
    options: Options,
    campaign: Annotated[str, typer.Argument(help="Name of a campaign that was run here.")],
    split: Annotated[
        str | None,
        typer.Option(help="Take the scores of this split. [default: crossed, else iid]", show_default=False),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train", help="First train and evaluate the baselines that have no scores yet (minutes).")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="With --train: how many seeds for what is drawn.")] = 5,
) -> None:
    """Write what a campaign says about acting, HTML and Markdown, into its directory."""
    from otel_control_gym.baselines.report import SPLITS, prepare, write_answers
    from otel_control_gym.baselines.report_parts import ratio, said
    from otel_control_gym.engine.campaigns.running import campaign_directory

    directory = campaign_directory(options.directory, campaign)
    side = options.output.side
    if train:
        for name, why in prepare(directory, split=split or SPLITS[0], seeds=range(seeds)).items():
            side.print(f"{name}: {why}", markup=False, style="yellow", soft_wrap=True)
    written = write_answers(directory, splits=SPLITS if split is None else (split,))
    options.output.answer(written)
    if options.json:
        return
    console = options.output.console
    console.print(f"report: {written.html}", markup=False, soft_wrap=True)
    for group, found in written.action_conditioned_over_passive.items():
        console.print(f"  {group}: error with the action known / without: {said(ratio(found))}", markup=False)
    for key, commands in written.wanting.items():
        console.print(f"  {key.replace('_', ' ')} lacks something: {commands[0]} ...", markup=False, soft_wrap=True)
